"""Secrets stay where they belong: real guests with a marker in their cloud_init, a VNC display and
keys; then everything is searched that another user of the machine could look at.
"""

from __future__ import annotations

import os
import pty
import re
import select
import socket
import stat
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from integration.lab import POOL, URIS, Lab, Ran, domains, laboratory, networks, run, until, virsh
from lxml import etree

MARKER = f"marker-{uuid.uuid4().hex}"
SPEC = """
name: secrets
networks: {front: {cidr: 10.94.20.0/24}}
defaults: {memory: 256MiB, networks: [front], ready: {kind: ssh, timeout: 9m}}
guests:
  vm:
    type: qemu
    graphics: vnc
    ready: none
    cloud_init: &secret
      write_files: [{path: /etc/token, content: "MARKER\\n", permissions: "0600"}]
      chpasswd: {expire: false, users: [{name: virtkit, password: MARKER-word, type: text}]}
  box: {type: lxc, cloud_init: *secret}
  light: {type: lxc}
""".replace("MARKER", MARKER)

#: Folders of which other users may see something.
FOLDERS = ("/var/lib/libvirt", "/etc/libvirt", "/run", "/tmp", "/var/log/libvirt", "/var/cache")


class Watch:
    """Looks at processes and temporary files all the time, as any user could."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self.lines: set[bytes] = set()
        self.seen: set[str] = set()
        self.opened: set[str] = set()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._argv, self._files)]

    def __enter__(self) -> Watch:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._end.set()
        for each in self._threads:
            each.join()

    def _argv(self) -> None:
        while not self._end.wait(0.01):
            for process in os.scandir("/proc"):
                if process.name.isdecimal():
                    with suppress(OSError):
                        self.lines.add(Path(process, "cmdline").read_bytes())

    def _files(self) -> None:
        while not self._end.wait(0.05):
            for path in self._temporary.iterdir():
                with suppress(OSError):
                    self.seen.add(path.name)
                    if path.stat().st_mode & 0o077:
                        self.opened.add(f"{path} {path.stat().st_mode:o}")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Watch, Ran]]:
    folder, temporary = tmp_path_factory.mktemp("secrets"), tmp_path_factory.mktemp("temporary")
    with (
        laboratory(folder, "secrets", SPEC, TMPDIR=str(temporary)) as lab,
        Watch(temporary) as watch,
    ):
        lab.program = True  # whose arguments anybody sees
        ran = lab.virtkit("up", "--debug", code=None)
        assert ran.code == 0, str(ran)
        for verb in ("status", "plan", "inventory", "ssh-config", "logs", "doctor"):
            done = lab.virtkit(verb, "--debug", code=None)
            ran.out += done.out
            ran.err += done.err
        watch.end()
        lab.virtkit("pause", "vm")  # its boot is the contract's, with what its console shows
        yield lab, watch, ran


@pytest.fixture(scope="module")
def lab(watched: tuple[Lab, Watch, Ran]) -> Lab:
    return watched[0]


@pytest.fixture(scope="module")
def secrets(lab: Lab) -> dict[str, bytes]:
    """Every secret that there is, by what it is."""
    found = {"cloud_init": MARKER.encode(), "vnc": password().encode()}
    for name in ("vm", "box", "light"):
        seed = (POOL / f"secrets-{name}-seed").read_bytes()
        assert (MARKER.encode() in seed) is (name != "light"), "the search finds what is there"
        found[f"host key of {name}"] = _body(seed)
    private = Path.home() / ".local/share/virtkit/secrets/id_ed25519"
    found["login key"] = _body(private.read_bytes())
    assert len(set(found.values())) == len(found)
    return found


def _body(text: bytes) -> bytes:
    """What of a private key tells it from every other: its last line of base64."""
    keys = re.findall(rb"BEGIN OPENSSH PRIVATE KEY-----(.*?)-----END", text, re.DOTALL)
    lines = [each for each in re.split(rb"[^A-Za-z0-9+/=]+", keys[0]) if len(each) > 30]
    return lines[-1][:30]


def password() -> str:
    xml = virsh("dumpxml", "secrets-vm", "--security-info")
    graphics = etree.fromstring(xml).find("./devices/graphics")
    assert graphics is not None
    found = graphics.get("passwd")
    assert found is not None
    assert len(found) == 8
    return found


def where(secrets: dict[str, bytes], place: str, text: bytes) -> list[str]:
    return [f"{name} in {place}" for name, secret in secrets.items() if secret in text]


def test_libvirt_tells_none(lab: Lab, secrets: dict[str, bytes]) -> None:
    """All that a connection which may only read can get."""
    documents = {}
    for name, uri in domains().items():
        for more in ((), ("--inactive",)):
            documents[f"{name} {more}"] = read_only(uri, "dumpxml", name, *more)
        record = read_only(uri, "metadata", name, "urn:virtkit:1", "--config")
        assert '"cloud_init"' in record
        documents[f"the record of {name}"] = record
    for name in networks():
        documents[name] = read_only(URIS[0], "net-dumpxml", name)
    documents["pool"] = read_only(URIS[0], "pool-dumpxml", "default")
    for line in read_only(URIS[0], "vol-list", "default").splitlines():
        name = line.split()[0]
        documents[name] = read_only(URIS[0], "vol-dumpxml", name, "--pool", "default")
    assert len(documents) > 15
    assert [w for n, text in documents.items() for w in where(secrets, n, text.encode())] == []


def read_only(uri: str, *words: str) -> str:
    return run("virsh", "-q", "-r", "-c", uri, *words).strip()


def test_read_only_callers_get_no_secrets(lab: Lab) -> None:
    line = ["virsh", "-q", "-r", "-c", URIS[0], "dumpxml", "secrets-vm", "--security-info"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "read only" in done.stderr or "forbidden" in done.stderr


def test_process_lists_tell_none(
    watched: tuple[Lab, Watch, Ran], secrets: dict[str, bytes]
) -> None:
    _, watch, _ = watched
    lines = set(watch.lines)
    for program in (b"qemu-system", b"mke2fs", b"libvirt_lxc", b"up\0"):
        assert any(program in each for each in lines), f"{program!r} was never seen"
    assert [w for each in lines for w in where(secrets, repr(each), each)] == []


def test_virtkit_prints_none(watched: tuple[Lab, Watch, Ran], secrets: dict[str, bytes]) -> None:
    _, _, ran = watched
    assert "secrets: up" in ran.out
    assert where(secrets, "output", (ran.out + ran.err).encode()) == []


def test_files_that_others_can_read_hold_none(lab: Lab, secrets: dict[str, bytes]) -> None:
    found, looked = [], 0
    folders = [*FOLDERS, str(Path.home()), os.environ["XDG_CACHE_HOME"], str(lab.folder.parent)]
    for path in {each for folder in folders for each in public(Path(folder))}:
        if path == lab.spec or path.name.endswith(".img") or path.match("virtkit-*.root"):
            continue  # the spec is its writer's; images were there before
        with suppress(OSError):
            looked += 1
            found += where(secrets, str(path), path.read_bytes())
    assert looked > 5
    assert found == []


def public(folder: Path) -> Iterator[Path]:
    """The files below a folder that everybody can read, on a path that everybody can go."""
    mode = folder.stat().st_mode
    if not all(each.stat().st_mode & 0o001 for each in (folder, *folder.parents)):
        return
    for path in folder.iterdir() if mode & 0o004 else _guessed(folder):
        with suppress(OSError):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                yield from public(path)
            elif stat.S_ISREG(mode) and mode & 0o004:
                yield path


def _guessed(folder: Path) -> Iterator[Path]:
    """A folder that can be gone through but not listed: names can be guessed."""
    return folder.iterdir()


def test_logs_hold_none(lab: Lab, secrets: dict[str, bytes]) -> None:
    """Also those that only root can read: logs are sent around."""
    logs = [each for each in Path("/var/log/libvirt").rglob("*") if each.is_file()]
    assert any(each.name == "secrets-vm.log" for each in logs)
    assert [w for each in logs for w in where(secrets, str(each), each.read_bytes())] == []


def test_modes(watched: tuple[Lab, Watch, Ran]) -> None:
    data = Path.home() / ".local/share/virtkit/secrets"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "id_ed25519").stat().st_mode) == 0o600
    for name in ("vm", "box", "light"):
        assert (POOL / f"secrets-{name}-seed").stat().st_mode & 0o077 == 0
        assert (POOL / f"secrets-{name}-root").stat().st_mode & 0o077 == 0
    assert (POOL / "secrets-vm-console").stat().st_mode & 0o077 == 0
    for path in POOL.glob("virtkit-record-*"):
        assert path.stat().st_mode & 0o077 == 0
    for path in Path("/etc/libvirt").rglob("secrets-*.xml"):
        assert path.stat().st_mode & 0o077 == 0 or "passwd" not in path.read_text()
    assert watched[1].seen
    assert watched[1].opened == set(), "temporary files are the caller's own"


# --- the display ------------------------------------------------------------------------------


def display() -> tuple[str, int]:
    graphics = etree.fromstring(virsh("dumpxml", "secrets-vm")).find("./devices/graphics")
    assert graphics is not None
    assert [each.get("address") for each in graphics.iter("listen")] == ["127.0.0.1"]
    return graphics.get("listen", ""), int(graphics.get("port", "-1"))


def test_vnc_listens_on_loopback_and_asks_for_its_password(lab: Lab) -> None:
    address, port = display()
    assert address == "127.0.0.1"
    others = [each["local"] for each in json_addresses() if each["local"] != "127.0.0.1"]
    assert "10.94.20.1" in others
    for each in others:
        with socket.socket(socket.AF_INET6 if ":" in each else socket.AF_INET) as caller:
            caller.settimeout(3)
            assert caller.connect_ex((each, port)) != 0, f"the display answers at {each}"
    with socket.create_connection((address, port), timeout=5) as caller:
        assert caller.recv(12) == b"RFB 003.008\n"
        caller.sendall(b"RFB 003.008\n")
        count = caller.recv(1)[0]
        assert caller.recv(count) == bytes([2]), "VNC authentication, and nothing else"


def json_addresses() -> list[dict[str, str]]:
    import json

    links = json.loads(run("ip", "-json", "address"))
    return [each for link in links for each in link["addr_info"] if each["scope"] == "global"]


def test_only_a_terminal_is_told_the_password(lab: Lab) -> None:
    lab.virtkit("resume", "vm")
    found = password()
    assert found not in lab.virtkit("console", "--vnc", "vm").out
    assert lab.json("console", "--vnc", "vm")["password"] is None
    pid, terminal = pty.fork()
    if pid == 0:
        line = lab.line("console", "--vnc", "vm")
        os.execvp(line[0], line)
    told = b""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                told += os.read(terminal, 4096)
            except OSError:
                break
    os.waitpid(pid, 0)
    assert f"password: {found}".encode() in told


# --- whoever answers in a guest's place ---------------------------------------------------------

NEW_KEY = """
rm -f /etc/ssh/ssh_host_*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
systemctl restart ssh
"""


def test_another_host_key_is_refused(lab: Lab) -> None:
    assert lab.virtkit("ssh", "light", "--", "echo", "it is me").out == "it is me\n"
    lab.write(SPEC.replace("light: {type: lxc}", "light: {type: lxc, ready: {timeout: 5s}}"))
    assert lab.json("up", "light")["ok"]
    lab.sh("light", NEW_KEY)
    known = Path.home() / ".local/share/virtkit/secrets/known_hosts"
    before = known.read_text()
    try:
        for verb, words in (
            ("ssh", ("light", "--", "echo", "hello")),
            ("cp", ("light:/etc/hosts", ".")),
        ):
            ran = lab.virtkit(verb, *words, code=None)
            assert ran.code not in (0, 1), str(ran)
            assert "hello" not in ran.out
            assert "Host key verification failed" in ran.err
        refused = lab.virtkit("ssh", "light", "--", "echo", "hello", code=255)
        assert "is not guest light" in refused.err
        assert "cure: if nobody changed it on purpose" in refused.err
        waited = lab.virtkit("start", "light", "--json", code=1)
        (error,) = [each["error"] for each in waited.data["steps"] if each["error"]]
        assert "a different host key" in error["why"]
        assert "something else answers" in error["cure"]
        assert known.read_text() == before, "nothing is trusted because it was seen"
    finally:
        lab.write(SPEC)
    assert lab.json("up", "light")["ok"]
    lab.virtkit("restart", "--timeout", "30", "light")
    assert until(lambda: lab.virtkit("ssh", "light", "--", "true", code=None).code == 0, 60)


def test_nothing_is_left(lab: Lab) -> None:
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()
