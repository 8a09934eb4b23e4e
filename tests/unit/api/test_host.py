"""Machines to be prepared: by which words they are named, and how Ansible gets there."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
import ssh_guest

from virtkit import api
from virtkit.api import host
from virtkit.api._hosts import host_named
from virtkit.apply import Event
from virtkit.cli import host as cli_host
from virtkit.errors import RequestError, VirtkitError
from virtkit.host import Remote, questions
from virtkit.host.ssh import root_prefix


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


@pytest.fixture
def short_folder() -> Generator[None]:
    """ssh's sockets have short paths."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", folder)
        yield


@pytest.mark.usefixtures("short_folder")
def test_one_that_is_reached(tmp_path: Path) -> None:
    with ssh_guest.host(tmp_path) as remote:
        python, privilege = host._probe(remote)
        assert Path(python).name == "python3"
        assert privilege == ("root" if os.geteuid() == 0 else privilege)
        assert questions.folder_missing(remote, str(tmp_path)) is False
        assert questions.folder_missing(remote, f"{tmp_path}/none") is True
        assert (root_prefix(remote) == ()) == (os.geteuid() == 0)


@pytest.mark.usefixtures("short_folder")
@pytest.mark.parametrize("greeting", ["Welcome,\nroot\n", "\n", "Hi, ", "root sudo\n"])
def test_a_greeting_is_no_answer(greeting: str, tmp_path: Path) -> None:
    with ssh_guest.host(tmp_path, greeting) as remote:
        for ask in (host._probe, lambda it: questions.folder_missing(it, str(tmp_path))):
            with pytest.raises(VirtkitError, match="host rack1 printed more than the answer") as e:
                ask(remote)
            assert e.value.why.startswith(greeting)
            assert e.value.cure.endswith("ops@127.0.0.1 true")


def test_the_cure_names_the_spec_that_the_host_is_of(tmp_path: Path) -> None:
    """Without the spec its name would be taken for an address, and without the types the host would
    be prepared for others."""
    spec = tmp_path / "lab.yaml"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))  # nobody listens there
        port = server.getsockname()[1]
        spec.write_text(f"hosts: {{rack: {{address: ops@127.0.0.1, ssh: {{port: {port}}}}}}}\n")
        machine = host._target(host_named("rack", api.read(spec)), "/usr/bin/python3", "password")
        done = api.prepare_host(machine, ["lxc", "kvm"])
    command = f"virtkit host prepare {spec} rack"
    (result,) = done.report.results
    assert result.error is not None
    assert result.error.cure.endswith(f"then go on: {command} --types lxc,kvm")
    with pytest.raises(RequestError, match="sudo asks for a password on rack") as caught:
        cli_host._password(machine, [])
    assert f"({command})" in caught.value.cure


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
