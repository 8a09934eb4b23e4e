"""Keys that let callers in, and host keys that are known before the first connection."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit import access
from virtkit.access.keys import agent_blobs
from virtkit.errors import RequestError
from virtkit.host import Host
from virtkit.state import public_keys, record

PUBLIC = f"{samples.PUBLIC} me@example.org\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def test_a_key_is_made_once_for_the_caller_only(home: Path) -> None:
    (public,) = access.key_files("lab", None, home)
    private = public.with_suffix("")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert access.key_files("lab", None, home) == [public]
    assert access.key_files("other", None, home) != [public]
    if shutil.which("ssh-keygen"):
        printed = subprocess.run(
            ["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True
        )
        assert public.read_text().startswith(printed.stdout.strip())


def test_who_comes_while_it_is_made_gets_it_whole() -> None:
    """Each guest's volumes are a step in a thread of its own."""
    for number in range(20):
        guest = samples.guest_of(f"name: lab{number}\nguests: {{web: {{}}}}\n")
        with ThreadPoolExecutor(8) as pool:
            keys = list(pool.map(access.authorized_keys, [guest] * 8))
        assert len({*map(tuple, keys)}) == 1


def test_forgotten_with_the_environment(home: Path) -> None:
    (public,) = access.key_files("lab", None, home)
    (theirs,) = access.key_files("other", None, home)
    access.remove_folder("lab")
    assert not public.parent.exists()
    assert theirs.exists()
    access.remove_folder("lab")


def test_what_others_put_there_stays(home: Path) -> None:
    (public,) = access.key_files("lab", None, home)
    note = public.with_name("notes.txt")
    note.write_text("mine")
    access.remove_folder("lab")
    assert note.read_text() == "mine"


def test_the_callers_own_come_first(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519.pub").write_text(PUBLIC)
    assert access.key_files("lab", None, home) == [home / ".ssh" / "id_ed25519.pub"]
    assert not (home / "data").exists()


@pytest.mark.parametrize("content", ["", "no key\n", f"{PUBLIC}no key\n"])
def test_an_own_file_that_holds_no_key_is_passed_over(content: str, home: Path) -> None:
    """Nobody named it, so nothing is to be corrected in a spec."""
    (home / ".ssh").mkdir()
    (home / ".ssh" / "id_ed25519.pub").write_text(content)
    guest = samples.guest_of("name: lab\nguests: {web: {}}\n")
    (line,) = access.authorized_keys(guest)
    assert line.endswith(" virtkit lab")


def test_those_asked_for(home: Path) -> None:
    (home / "a.pub").write_text(f"# a comment\n\n{PUBLIC}")
    (home / "b.pub").write_text(PUBLIC)
    files = access.key_files("lab", ["a.pub", "~/b.pub"], home)
    assert files == [home / "a.pub", home / "b.pub"]
    guest = samples.guest_of('name: lab\nguests: {web: {ssh_keys: [a.pub, "~/b.pub"]}}\n')
    lines = access.authorized_keys(replace(guest, source_folder=str(home)))
    assert lines == [PUBLIC.strip()] * 2
    assert access.key_files("lab", [], home) == []


@pytest.mark.parametrize(
    "content",
    [None, b"", b"# only a comment\n", b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", b"\xff\xfe"],
)
def test_what_is_no_public_key(content: bytes | None, home: Path) -> None:
    if content is not None:
        (home / "key").write_bytes(content)
    with pytest.raises(RequestError) as caught:
        access.key_files("lab", ["key"], home)
    assert str(home / "key") in caught.value.what
    assert "PRIVATE" not in caught.value.what + caught.value.why


def test_new_keys_differ() -> None:
    (private, public), (other, _) = access.new_key_pair(), access.new_key_pair()
    assert private != other
    assert private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert public.startswith("ssh-ed25519 ")


def test_known_hosts(home: Path) -> None:
    guests = samples.desired_of("name: lab\nguests: {web: {}, db: {}, new: {}}\n").guests
    records = [
        replace(record.of_guest(each, ""), host_key="ssh-ed25519 AAAA" if index else "")
        for index, each in enumerate(guests)
    ]
    path = access.write_known_hosts("lab", records)
    assert path.read_text() == "lab-db ssh-ed25519 AAAA\nlab-new ssh-ed25519 AAAA\n"
    before = path.stat().st_mtime_ns
    assert access.write_known_hosts("lab", records[::-1]) == path
    assert path.stat().st_mtime_ns == before, "the same is not written again"
    assert [each.name for each in path.parent.iterdir()] == ["known_hosts"]


def test_known_hosts_of_several_hosts(home: Path) -> None:
    assert access.hosts_with_guests("lab") == set()
    (guest,) = samples.desired_of("name: lab\nguests: {web: {}}\n").guests
    made = replace(record.of_guest(guest, ""), host_key="ssh-ed25519 AAAA")
    paths = {access.write_known_hosts("lab", [made], host) for host in ("local", "rack-1")}
    access.write_known_hosts("lab", [], "rack2")
    assert len(paths) == 2
    assert access.hosts_with_guests("lab") == {"local", "rack-1"}
    access.remove_folder("lab")
    assert not access.has_folder("lab")


def test_login(home: Path) -> None:
    guest = samples.guest_of("name: lab\nguests: {web: {user: admin}}\n")
    access.authorized_keys(guest)
    login = access.login(Host(), record.of_guest(guest, ""), "10.0.0.5", home)
    assert (login.alias, login.user, login.address) == ("lab-web", "admin", "10.0.0.5")
    assert [each.name for each in login.identities] == ["id_ed25519"]
    line = access.as_root("admin", ["printf", "%s|", "a b", "$(id)"])
    assert line[:3] == ["sudo", "-n", "--"]
    done = subprocess.run(line[3:], capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$(id)|", "its words stay as they are"
    codes = {"true": 0, "exit 7": 7, "kill -9 $$": 137, "kill -INT $$": 130}
    for script, code in codes.items():
        line = access.as_root("root", ["sh", "-c", script])
        assert subprocess.run(line, check=False, capture_output=True).returncode == code
    line = access.as_root("root", ["no-such-program"])
    assert subprocess.run(line, check=False, capture_output=True).returncode == 127


# --- what is offered --------------------------------------------------------------------------


def made(folder: Path, name: str, *, passphrase: str = "") -> str:
    """A new key pair in a folder; its public line."""
    folder.mkdir(exist_ok=True)
    line = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name]
    subprocess.run([*line, "-f", folder / name], check=True)
    return (folder / f"{name}.pub").read_text().strip()


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """A real agent; what adds a key to it."""
    socket = home / "agent"
    program = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    while not socket.exists():
        time.sleep(0.01)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    agent_blobs.cache_clear()

    def add(path: Path) -> None:
        subprocess.run(["ssh-add", "-q", path], check=True)
        agent_blobs.cache_clear()

    yield add
    program.terminate()
    program.wait()
    agent_blobs.cache_clear()


def test_who_makes_a_key_later_still_gets_in(home: Path) -> None:
    guest = samples.guest_of("name: lab\nguests: {web: {}}\n")
    keys = public_keys.canonical(access.authorized_keys(guest))  # nobody has one: it is made
    made(home / ".ssh", "id_ed25519")
    (offered,) = access.identity_files("lab", keys, None, home)
    assert offered == home / "data/virtkit/lab/id_ed25519"


def test_a_guest_of_before_is_offered_both(home: Path) -> None:
    """Its record does not say which key it was given."""
    access.key_files("lab", None, home)
    made(home / ".ssh", "id_ed25519")
    names = [each.parent.name for each in access.identity_files("lab", None, None, home)]
    assert names == [".ssh", "lab"]
    made(home, "asked")
    assert access.identity_files("lab", None, ["asked.pub"], home) == (home / "asked",)


def test_only_what_the_guest_was_given_is_offered(home: Path) -> None:
    lines = [made(home / ".ssh", name) for name in ("id_ed25519", "id_rsa", "work", "lab")]
    keys = public_keys.canonical([lines[2], lines[1]])
    files = access.identity_files("lab", keys, None, home)
    assert files == (home / ".ssh/work", home / ".ssh/id_rsa")
    login = access.login(
        Host(),
        replace(record.of_guest(samples.guest_of("name: lab\nguests: {web: {}}\n"), ""), keys=keys),
        "10.0.0.5",
        home,
    )
    printed = subprocess.run(
        ["ssh", "-G", *access.ssh_command(login, [])[1:]],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "identitiesonly yes" in printed
    assert [e.split()[1] for e in printed if e.startswith("identityfile ")] == [*map(str, files)]
    assert "preferredauthentications publickey" in printed


def test_while_keys_change_the_former_ones_files_are_known(home: Path) -> None:
    """Where only ssh leads into a guest, the old key lets virtkit in to bring the new one."""
    lines = [made(home / "keys", name) for name in ("old", "new")]
    guest = samples.guest_of("name: lab\nguests: {web: {ssh_keys: [keys/new.pub]}}\n")
    both = replace(record.of_guest(guest, ""), keys=public_keys.canonical(lines))
    changing = replace(both, former_ssh_keys=("keys/old.pub",))
    assert access.login(Host(), both, "10.0.0.5", home).identities == (home / "keys/new",)
    assert access.login(Host(), changing, "10.0.0.5", home).identities == (
        *(home / "keys/old", home / "keys/new"),
    )
    requested = {**both.requested, "ssh_keys": None}
    mine = public_keys.canonical([*lines, made(home / ".ssh", "id_rsa")])
    own = replace(changing, requested=requested, keys=mine)
    assert home / "keys/old" in access.login(Host(), own, "10.0.0.5", home).identities
    assert home / ".ssh/id_rsa" in access.login(Host(), own, "10.0.0.5", home).identities


@pytest.mark.parametrize("beside", [None, "folder"])
def test_a_copy_of_a_public_key_hides_no_private_one(beside: str | None, home: Path) -> None:
    line = made(home / ".ssh", "work")
    (home / "keys").mkdir()
    (home / "keys/alice.pub").write_text(f"# Alice's\n{line}\n")
    if beside:
        (home / "keys/alice").mkdir()
    files = access.identity_files("lab", public_keys.canonical([line]), ["keys/alice.pub"], home)
    assert files == (home / ".ssh/work",)


def test_a_key_in_a_comment_is_not_the_file_s(home: Path) -> None:
    old, new = made(home / ".ssh", "id_rsa"), made(home / ".ssh", "id_ed25519")
    (home / ".ssh/id_ed25519.pub").write_text(f"{new}\n# {old}\n")
    files = access.identity_files("lab", public_keys.canonical([old]), None, home)
    assert files == (home / ".ssh/id_rsa",)


def test_others_keys_are_not_here(home: Path) -> None:
    made(home / ".ssh", "id_ed25519")
    assert access.identity_files("lab", (f"{samples.PUBLIC} bob@home",), None, home) == ()
    assert access.identity_files("lab", (), None, home) == ()


def test_a_key_that_only_the_agent_has(home: Path, agent: Callable[[Path], None]) -> None:
    line = made(home / "stick", "mine")
    for number in range(7):
        made(home / "stick", f"other{number}")
        agent(home / "stick" / f"other{number}")
    agent(home / "stick" / "mine")
    (offered,) = access.identity_files("lab", public_keys.canonical([line]), None, home)
    assert offered.read_text().strip() == line
    assert offered.parent == home / "data/virtkit/lab"
    offered.with_suffix(".4711").touch()  # a run was killed as it wrote it
    access.remove_folder("lab")
    assert not offered.parent.exists()


def test_a_silent_agent_costs_no_key_in_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / "agent"))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
        agent_blobs.cache_clear()
        line = made(home / ".ssh", "id_ed25519")
        began = time.monotonic()
        keys = public_keys.canonical([line, samples.PUBLIC])
        assert access.identity_files("lab", keys, None, home) == (home / ".ssh/id_ed25519",)
        assert time.monotonic() - began < 5
        assert access.identity_files("lab", keys, None, home) == (home / ".ssh/id_ed25519",)
        assert time.monotonic() - began < 5.5, "it is asked once"
    agent_blobs.cache_clear()
