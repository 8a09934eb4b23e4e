"""A mirror that apt can use here works for a build, and no login of the caller's goes any further.

With real repositories on loopback, that demand a login and are signed by a key of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mirror as mirrors
import pytest
from mirror import IN_URL, MARKS, PASSWORD, PROGRAMS, PROXY_AUTH, SENT, USER, Mirror, open_folder

from virtkit.errors import VirtkitError
from virtkit.images import apt, build, build_errors, sandbox
from virtkit.progress import Progress

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)),
    reason=f"needs root, {', '.join(PROGRAMS)}",
)


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    with open_folder() as folder:
        mirrors.make(folder)
        yield folder


@pytest.fixture
def mirror(repository: Path) -> Iterator[Mirror]:
    with mirrors.served(repository) as state:
        yield state


@dataclass
class Caller:
    """A machine's apt: its sources, logins and settings, and what a test writes there."""

    folder: Path

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch(0o600)
        path.write_text(text)

    def update(self) -> None:
        """What the machine's own `apt-get update` has to do first."""
        line = ["apt-get", "update", "--error-on=any", "-q"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def place() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def caller(place: Path, monkeypatch: pytest.MonkeyPatch) -> Caller:
    own = place / "apt"
    for name in ("sources", "parts", "auth", "lists/partial", "cache/archives/partial"):
        (own / name).mkdir(parents=True)
    (place / "apt.conf").write_text(
        f'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "{own}/sources";\n'
        f'Dir::Etc::Parts "{own}/parts";\nDir::Etc::Main "/dev/null";\n'
        f'Dir::Etc::netrc "{own}/auth.conf";\nDir::Etc::netrcparts "{own}/auth";\n'
        f'Dir::State::Lists "{own}/lists";\nDir::Cache "{own}/cache";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(place / "apt.conf"))
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Caller(own)


@contextmanager
def watched(folder: Path) -> Iterator[set[str]]:
    """The command lines of all processes, and the environments of those that build in a folder,
    meanwhile."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for each in Path("/proc").glob("[0-9]*"):
                try:
                    line = (each / "cmdline").read_bytes().decode(errors="replace")
                    seen.add(line)
                    environment = (each / "environ").read_bytes().decode(errors="replace")
                    if f"TMPDIR={folder}" in environment:
                        seen.add(environment)
                except OSError:
                    continue

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def built(folder: Path, own: Sequence[apt.Source]) -> Path:
    """What build.build does with packages that need no dpkg: the tree, as an archive."""
    room = folder / "room"
    tree = room / "tree"
    tree.mkdir(parents=True)
    room.chmod(0o711)
    command = ["mmdebstrap", "--mode=root", "--variant=extract", "--format=tar", "--include=tiny"]
    command += [*apt.setup_hooks(room / "apt", own), "bookworm", "-"]
    command += [each.line for each in own]
    said: list[str] = []

    def failed(lines: Sequence[str]) -> VirtkitError:
        return build_errors.failure("nothing was built", lines, folder=room)

    archive = folder / "tree.tar"
    sandbox.run(
        command,
        root="subordinate",
        work=tree,
        failed=failed,
        progress=Progress(said.append),
        say=said.append,
        output=archive,
    )
    assert not [each for each in MARKS if each in "".join(said)]
    return archive


def checked(folder: Path, mirror: Mirror) -> dict[str, bytes]:
    """Builds, and looks for the password in all that others could read; gives the image's files."""
    mirror.takes = 0.5  # so that whoever looks sees what asks
    with watched(folder) as seen:
        archive = built(folder, apt.sources("bookworm"))
    assert any("mmdebstrap" in each for each in seen)
    assert any("apt/methods" in each for each in seen)
    assert any("LC_ALL=C.UTF-8" in each for each in seen)
    assert not [each for each in seen if any(mark in each for mark in MARKS)]
    with tarfile.open(archive) as tar:
        files = {
            each.name: (tar.extractfile(each) or pytest.fail(each.name)).read()
            for each in tar
            if each.isfile()
        }
    assert files["./usr/share/tiny/file"] == b"it was installed"
    assert not [name for name, text in files.items() if any(m.encode() in text for m in MARKS)]
    assert not [name for name, text in files.items() if str(folder).encode() in text]
    assert any("tiny_1_all.deb" in each and SENT in each for each in mirror.requests)
    return files


def test_a_login_in_a_source(mirror: Mirror, caller: Caller, place: Path) -> None:
    """As one line, with a keyring of its own; the image gets the plain mirror."""
    key = mirror.folder / "key.gpg"
    url = f"http://{IN_URL}@{mirror.host}/debian"
    lines = [f"deb [arch=amd64 signed-by={key}] {url} {suite} main" for suite in ("bookworm",)]
    caller.write("sources/a.list", "# mine\n" + "\n".join(lines))
    caller.update()
    assert build.mirrors("bookworm") == [f"deb http://{mirror.host}/debian/ bookworm main"]
    files = checked(place, mirror)
    plain = f"deb http://{mirror.host}/debian/ bookworm main\n"
    assert files["./etc/apt/sources.list"].decode() == plain


@pytest.mark.parametrize("file", ["auth.conf", "auth/mine.conf"])
def test_a_login_in_auth_conf(mirror: Mirror, caller: Caller, file: str, place: Path) -> None:
    """With deb822 sources, and a key that stands in them."""
    key = (mirror.folder / "key.asc").read_text().strip()
    armoured = "".join(f"\n {line or '.'}" for line in key.splitlines())
    caller.write(
        "sources/a.sources",
        "# the first\nTypes: deb\nURIs: http://127.0.0.1:1/other\nSuites: bookworm\nEnabled: no\n"
        f"Components: main\n\n\nTypes: deb\nURIs: http://{mirror.host}/debian\n"
        f"# comment\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By:{armoured}\n",
    )
    login = f"machine http://{mirror.host} login {USER} password {PASSWORD}\n"
    caller.write(file, login)
    caller.update()
    suites = ("bookworm", "bookworm-updates")
    lines = [f"deb http://{mirror.host}/debian/ {suite} main" for suite in suites]
    assert build.mirrors("bookworm") == lines
    files = checked(place, mirror)
    assert files["./etc/apt/sources.list"].decode().split() == " ".join(lines).split()


def test_a_source_that_apt_does_not_use_says_nothing(mirror: Mirror, caller: Caller) -> None:
    what = f"URIs: http://{mirror.host}/debian\nSuites: bookworm\nComponents: main\n"
    key = mirror.folder / "key.gpg"
    caller.write(
        "sources/a.sources",
        f"Types: deb\nEnabled: False\nSigned-By: /old.gpg\n{what}\n"
        f"Types: deb\nSigned-By: {key}\n{what}",
    )
    caller.write("auth.conf", f"machine http://{mirror.host} login {USER} password {PASSWORD}\n")
    caller.update()
    (source,) = apt.sources("bookworm")
    assert source.fields == (("Signed-By", str(key)),)


@pytest.mark.parametrize("where", ["conf", "environment", "auth"])
def test_a_login_for_a_proxy(
    mirror: Mirror, caller: Caller, where: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.header = PROXY_AUTH
    key = mirror.folder / "key.gpg"
    caller.write("sources/a.list", f"deb [signed-by={key}] http://m.example/debian bookworm main\n")
    proxy = f"http://{IN_URL}@{mirror.host}/"
    if where == "environment":
        monkeypatch.setenv("http_proxy", proxy)
    elif where == "conf":
        caller.write("parts/proxy", f'Acquire::http::Proxy "{proxy}";\n')
    else:
        caller.write("parts/proxy", f'Acquire {{ http {{ Proxy "http://{mirror.host}/"; }}; }};\n')
        machine = f"machine http://{mirror.host} login {USER} password {PASSWORD}\n"
        caller.write("auth/proxy.conf", machine)
    caller.update()
    checked(place, mirror)


def test_a_refused_login(mirror: Mirror, caller: Caller, place: Path) -> None:
    """The error says what was refused, and has no password."""
    key = mirror.folder / "key.gpg"
    url = f"http://{IN_URL}@{mirror.host}/debian"
    caller.write("sources/a.list", f"deb [signed-by={key}] {url} bookworm main\n")
    caller.update()
    mirror.refuses = True
    with pytest.raises(VirtkitError) as caught:
        built(place, apt.sources("bookworm"))
    text = str(caught.value.as_dict())
    assert "401" in caught.value.why
    assert mirror.host in caught.value.why
    assert "auth.conf" in caught.value.cure
    assert not [each for each in MARKS if each in text]


def test_what_apt_may_say_of_a_source() -> None:
    """apt leaves a password out of most of what it prints, and not of all."""
    lines = [
        f"E: Malformed entry 1 in http://{IN_URL}@m.example/debian (URI)",
        f"Err:1 https://{USER}:{PASSWORD}@m.example:8443/debian bookworm InRelease",
        f"W: http://{IN_URL}@m.example/a and http://token@m.example/b",
    ]
    error = build_errors.failure("not built", lines, folder=Path("/work"))
    text = str(error.as_dict())
    assert not [each for each in (*MARKS, "token", "us+er", "us%2Ber") if each in text]
    assert "https://m.example:8443/debian" in error.why


def test_what_a_build_gets_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setenv("http_proxy", f"http://{IN_URL}@p.example:3128")
    monkeypatch.setenv("https_proxy", "http://p.example:3128")
    monkeypatch.setenv("no_proxy", "localhost,.example")
    said: list[str] = []
    sandbox.run(
        ["env"],
        root="subordinate",
        work=tmp_path,
        failed=lambda lines: VirtkitError("\n".join(lines), cure="none"),
        progress=Progress(),
        say=said.append,
    )
    environment = dict(each.partition("=")[::2] for each in said)
    assert {*environment} - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("HOME", "LC_ALL", "PATH", "TMPDIR", "https_proxy", "no_proxy"),
    }
    assert environment["TMPDIR"] == str(tmp_path)


def test_the_files_of_a_build_are_the_builders_alone(place: Path, caller: Caller) -> None:
    caller.write("auth.conf", f"machine a login b password {PASSWORD}\n")
    (place / "room").mkdir()
    source = apt.Source("http://a:b@m/debian", "bookworm", "main", (("Signed-By", "/k.gpg"),))
    (option,) = apt.setup_hooks(place / "room/apt", [source])
    assert not [each for each in MARKS if each in option]
    files = list((place / "room/apt").iterdir())
    assert {each.name for each in files} == {"apt.conf", "auth.conf", "build.sources"}
    assert {oct(each.stat().st_mode & 0o777) for each in files} == {"0o600"}
    assert oct((place / "room/apt").stat().st_mode & 0o777) == "0o700"
    assert source.line == "deb http://m/debian bookworm main"
