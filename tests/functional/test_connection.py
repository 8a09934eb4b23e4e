"""A connection to a daemon that says nothing; tests/integration has one that ends or freezes."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from pathlib import Path

import libvirt
import pytest

from virtkit.drivers import XEN_PV
from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import HostFacts, Pool
from virtkit.host import Host, connection, observe
from virtkit.host.machine import inspection, preparation


def test_a_daemon_that_takes_connections_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "OPEN_TIMEOUT", 0.5)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        host = Host("local", "default", {"qemu": f"qemu+unix:///system?socket={path}"})
        for _ in range(3):
            with pytest.raises(VirtkitError, match="open qemu") as caught:
                host.connections.get("qemu")
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()  # it is asked, and waited for, once in a run
    assert "did not answer for" in caught.value.why
    assert "libvirt's daemon runs" in caught.value.cure
    assert caught.value.exit_code == 2, "nothing was touched"


def refusing(path: Path) -> dict[str, str | int]:
    """What somebody gets who may not write to the daemon's socket; asked three times."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            host = Host("local", "default", {"qemu": f"qemu+unix:///system?socket={path}"})
            errors = []
            for _ in range(3):
                try:
                    host.connections.get("qemu")
                except VirtkitError as error:
                    errors.append(error)
            assert errors[1].__cause__ is errors[0].__cause__, "it is asked once"
            os.write(writer, json.dumps(errors[0].as_dict()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as answer:
        return json.loads(answer.read())


def test_a_socket_that_does_not_let_the_caller_in() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as closed:
        Path(folder).chmod(0o755)
        path = Path(folder, "sock")
        closed.bind(str(path))
        closed.listen()
        path.chmod(0o000)
        error = refusing(path)
    assert "Permission denied" in str(error["why"])
    assert "usermod -aG libvirt" in str(error["cure"])
    assert "namei" not in str(error["cure"])
    assert error["code"] == 2


def test_nothing_listens(tmp_path: Path) -> None:
    host = Host("local", "default", {"qemu": f"qemu+unix:///system?socket={tmp_path}/none"})
    with pytest.raises(RequestError, match="open qemu") as caught:
        host.connections.get("qemu")
    assert preparation.restart_command("qemu") in caught.value.cure


@pytest.mark.skipif(inspection.xen(), reason="Xen runs here")
def test_no_xen_runs_here() -> None:
    connections = Host().connections
    xen = observe.driver_facts(connections, "xen")
    with pytest.raises(VirtkitError) as caught:
        connections.get("xen")
    assert caught.value.why == "Xen does not run on this machine"
    assert caught.value.cure.endswith("then reboot"), "a driver of libvirt's is not what lacks"
    (reason,) = XEN_PV.check(HostFacts("local", Pool("a", "/a"), {"xen": xen}))
    assert reason.cure == caught.value.cure


def test_a_uri_that_was_given_leads_elsewhere() -> None:
    """Neither this machine's groups nor its daemon are what is to be mended."""
    uri = "qemu+tcp://127.0.0.1:1/system"
    with pytest.raises(RequestError, match="open qemu") as caught:
        Host("rack", "default", {"qemu": uri}).connections.get("qemu")
    assert f"virsh -c {uri} uri" in caught.value.cure
    assert "systemctl" not in caught.value.cure


def test_connections_are_closed_in_the_end() -> None:
    host = Host("local", "default", {"qemu": "test:///default"})
    opened = host.connections.get("qemu")
    assert opened.isAlive()
    connection.close_all()
    with pytest.raises(libvirt.libvirtError):
        opened.isAlive()


def test_what_a_thread_leaves_the_next_one_has() -> None:
    """Opening one costs a way to the host."""
    connections = Host("local", "default", {"qemu": "test:///default"}).connections
    opened = connections.get("qemu")
    opened_later: list[libvirt.virConnect] = []

    def other() -> None:
        opened_later.append(connections.get("qemu"))
        connections.release()

    def run() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    run()
    assert opened_later[0] is not opened, "one that is in use is nobody else's"
    connections.release()
    run()
    run()
    assert opened_later[1] is opened_later[2]
    assert opened_later[1] in (opened, opened_later[0])
