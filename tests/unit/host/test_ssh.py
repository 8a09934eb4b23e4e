"""How a host is reached by ssh: options, URIs, and what cures a host that is not."""

from __future__ import annotations

import shlex
import socket
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from virtkit.errors import VirtkitError
from virtkit.host import Remote


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    """A host on a port of this machine where nothing listens."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    return Remote("rack1", "root@127.0.0.1", port, "/keys/ops", "/keys/known hosts")


def test_ssh_asks_nobody_and_checks_keys(remote: Remote) -> None:
    text = remote.ssh_program().read_text()
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentityFile=/keys/ops"):
        assert f"-o{option}" in text
    assert stat.S_IMODE(remote.ssh_program().parent.stat().st_mode) == 0o700
    plain = Remote("rack1", "rack1").ssh_program().read_text()
    assert "KnownHosts" not in plain, "ssh's own settings count"


def test_several_first_runs_at_once(remote: Remote) -> None:
    def read(remote: Remote) -> tuple[str, int]:
        program = remote.ssh_program()
        return program.read_text(), stat.S_IMODE(program.stat().st_mode)

    with ThreadPoolExecutor(16) as pool:
        for port in range(1, 50):
            ((text, mode),) = {*pool.map(read, [replace(remote, port=port)] * 16)}
            assert (f"-oPort={port} " in text, text[-5:], mode) == (True, '"$@"\n', 0o700)


@pytest.mark.parametrize("name", ["plain", "a b", "100%d", "it's", 'a "b"', "#1"])
def test_ssh_takes_paths_as_they_are(remote: Remote, name: str) -> None:
    odd = replace(remote, key=f"/keys/{name}", known_hosts=f"/hosts/{name}")
    for line in ([odd.ssh_program()], _in_proxy(odd.proxy_command(lasting=True))):
        options = _run(*line, "-G", "rack1").replace("%%", "%").splitlines()
        assert f"identityfile /keys/{name}" in options
        assert f"userknownhostsfile /hosts/{name}" in options
        assert f"port {remote.port}" in options


def _run(*line: str | Path) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def _in_proxy(proxy: str) -> list[str]:
    """The command that ssh runs for a ProxyCommand, without where it goes."""
    shown = _run("ssh", "-F", "/dev/null", "-G", f"-oProxyCommand={proxy}", "guest")
    (command,) = (e for e in shown.splitlines() if e.startswith("proxycommand "))
    *line, way, to, address = shlex.split(command.removeprefix("proxycommand "))
    assert (way, to, address) == ("-W", "[%h]:%p", "root@127.0.0.1")
    return [each.replace("%%", "%") for each in line]


def test_a_lasting_way_through_a_host_needs_nothing_that_a_reboot_takes(remote: Remote) -> None:
    assert _in_proxy(remote.proxy_command()) == [str(remote.ssh_program())]
    lasting = _in_proxy(remote.proxy_command(lasting=True))
    assert lasting[0] == "ssh"
    assert not any(str(remote.ssh_program().parent) in each for each in lasting)


def test_a_host_has_a_uri_for_people_and_one_for_libvirt(remote: Remote) -> None:
    assert remote.display_uri("xen") == f"xen+ssh://root@127.0.0.1:{remote.port}/system"
    assert remote.uri("xen").startswith("xen+unix:///system?socket=/")
    assert Remote("rack1", "rack1").display_uri("xen") == "xen+ssh://rack1/system"


def test_a_host_that_nobody_reaches_is_told(remote: Remote) -> None:
    with pytest.raises(VirtkitError, match="host rack1 can't be reached") as caught:
        remote.connect()
    assert "refused" in caught.value.why
    assert f"ssh -p {remote.port} -i /keys/ops root@127.0.0.1" in caught.value.cure


def test_a_folder_that_is_open_to_others_is_refused(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "virtkit").mkdir()
    (tmp_path / "virtkit").chmod(0o755)
    with pytest.raises(VirtkitError, match="open to others"):
        remote.ssh_program()


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        (b"Host key verification failed.", "virtkit host trust root@"),
        (b"Permission denied", "ssh-add"),
    ],
)
def test_what_ssh_says_has_its_cure(remote: Remote, said: bytes, cure: str) -> None:
    assert cure in remote.unreachable(said).cure


def test_by_hand_one_gets_there_by_the_same_key() -> None:
    host = Remote("rack", "ops@rack", 2222, "/home/me/my keys/ops")
    line = "ssh -p 2222 -i '/home/me/my keys/ops' ops@rack"
    assert line in host.unreachable(b"Connection refused").cure
    assert Remote("rack", "ops@rack").ssh_command == "ssh ops@rack"
