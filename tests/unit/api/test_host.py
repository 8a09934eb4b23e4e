"""Machines to be prepared: by which words they are named, and how Ansible gets there."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from virtkit import api
from virtkit.api import host
from virtkit.api._hosts import host_named
from virtkit.apply import Event
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Remote


def test_this_machine_is_looked_at() -> None:
    machine = api.probe_machine("local")
    assert (machine.remote, Path(machine.python).name) == (None, "python3")
    assert os.geteuid() != 0 or not machine.needs_password
    hosts = host._inventory(machine)["all"]["hosts"]
    assert hosts["local"]["ansible_connection"] == "local"


@pytest.mark.parametrize("name", ["-oProxyCommand=id", "", "a b", "x;id"])
def test_a_word_that_names_none(name: str) -> None:
    with pytest.raises(RequestError, match="no address for ssh") as caught:
        api.probe_machine(name)
    assert "`local` is this machine" in caught.value.cure


def test_hosts_of_the_spec_are_named(tmp_path: Path) -> None:
    spec = tmp_path / "lab.yaml"
    spec.write_text("hosts: {rack: {address: ops@rack.test, ssh: {port: 7}}}\nguests: {}\n")
    read = api.read(spec)
    remote = host_named("rack", read).remote
    assert remote is not None
    assert (remote.address, remote.port) == ("ops@rack.test", 7)
    with pytest.raises(RequestError) as caught:
        api.probe_machine("no such", read)
    assert "a host of the spec: rack" in caught.value.cure


def test_one_that_is_not_reached() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody listens there
        remote = Remote("rack", "ops@127.0.0.1", server.getsockname()[1])
        with pytest.raises(VirtkitError) as caught:
            host._probe(remote)
    assert "Connection refused" in caught.value.why
    assert caught.value.exit_code == 1


def test_a_type_that_no_host_is_prepared_for() -> None:
    machine = host.PreparationTarget("local", None, "/usr/bin/python3", needs_password=False)
    with pytest.raises(RequestError) as caught:
        api.prepare_host(machine, ["kvm", "qemu"])
    assert (caught.value.why, "kvm, lxc, uml, xen" in caught.value.cure) == (
        "QEMU comes with kvm",
        True,
    )


def test_it_is_ended_from_another_thread() -> None:
    """Ansible waits for a machine that takes the connection and says nothing."""
    stop = threading.Event()
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if event.kind == "started":
            threading.Timer(2, stop.set).start()

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        remote = Remote("rack", "ops@127.0.0.1", server.getsockname()[1])
        machine = host.PreparationTarget("rack", remote, "/usr/bin/python3", needs_password=False)
        began = time.monotonic()
        done = api.prepare_host(machine, tell=tell, stop=stop)
    assert time.monotonic() - began < 30
    assert done.report.interrupted
    assert [(each.step, each.outcome) for each in done.report.results] == [("prepare", "skipped")]
    assert "interrupted" in [each.kind for each in events]


def test_ansible_gets_there_as_all_else_of_virtkits_does() -> None:
    remote = Remote("ops@rack", "ops@rack", 7, "/a key")
    machine = host.PreparationTarget("ops@rack", remote, "/opt/a python3", needs_password=True)
    variables = host._inventory(machine)["all"]["hosts"]["rack"]
    assert (variables["ansible_user"], variables["ansible_host"]) == ("ops", "rack")
    assert variables["ansible_python_interpreter"] == "/opt/a python3"
    program = Path(variables["ansible_ssh_executable"]).read_text()
    assert "-oPort=7" in program
