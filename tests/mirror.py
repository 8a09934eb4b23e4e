"""A Debian repository on loopback that demands a login, and is signed by a key of its own."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAMS = ("apt-get", "gpg", "dpkg-deb", "mmdebstrap", "unshare")
#: What must be found nowhere: as it is typed, as an URL has it, as a server gets it.
USER, PASSWORD = "us+er", "s3cr:t@%pass"
IN_URL = "us%2Ber:s3cr%3at%40%25pass"
SENT = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
MARKS = (PASSWORD, "s3cr:t", "s3cr%3", SENT)
PROXY_AUTH = "Proxy-Authorization"


@dataclass
class Mirror:
    """A repository on loopback. ``header`` is where it wants the login; ``refuses`` it, whatever it
    is, and ``takes`` seconds for each answer."""

    folder: Path
    port: int = 0
    header: str = "Authorization"
    refuses: bool = False
    takes: float = 0.0
    requests: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that apt's own user passes through, as it does not through pytest's."""
    with tempfile.TemporaryDirectory(prefix="virtkit-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def make(folder: Path) -> None:
    """Makes two suites with one package in a folder, and the key that signed them."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\n"
    control += "Description: a file\n"
    (tree / "DEBIAN/control").write_text(control)
    (tree / "usr/share/tiny").mkdir(parents=True)
    (tree / "usr/share/tiny/file").write_text("it was installed")
    deb = folder / "tiny_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", tree, deb], check=True, capture_output=True)
    content = deb.read_bytes()
    packages = f"{control}Filename: {deb.name}\nSize: {len(content)}\n"
    packages += f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    done = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True)
    index = f"main/binary-{done.stdout.strip()}/Packages"
    for suite in ("bookworm", "bookworm-updates"):
        place = folder / "dists" / suite / index
        place.parent.mkdir(parents=True)
        place.write_text(packages)
        digest = hashlib.sha256(packages.encode()).hexdigest()
        release = f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nComponents: main\n"
        release += f"Architectures: {done.stdout.strip()} all\nDate: {formatdate(usegmt=True)}\n"
        release += f"SHA256:\n {digest} {len(packages)} {index}\n"
        _sign(folder, release, folder / "dists" / suite / "InRelease")


def _sign(folder: Path, text: str, into: Path) -> None:
    home = folder / "gnupg"
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", ""]
    if not home.exists():
        home.mkdir(mode=0o700)
        subprocess.run([*gpg, "--quick-gen-key", "m@example.org"], check=True, capture_output=True)
        for name, words in (("key.gpg", ()), ("key.asc", ("--armor",))):
            done = subprocess.run([*gpg, *words, "--export"], check=True, capture_output=True)
            (folder / name).write_bytes(done.stdout)
    done = subprocess.run([*gpg, "--clearsign"], input=text.encode(), capture_output=True)
    into.write_bytes(done.stdout)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)


@contextmanager
def served(repository: Path) -> Iterator[Mirror]:
    """The repository on loopback."""
    state = Mirror(repository)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers[state.header]
            time.sleep(state.takes)
            state.requests.append(f"{self.path} {given}")
            path = repository / self.path.rpartition("/debian/")[2]
            proxied = self.path.startswith("http://")
            if given != f"Basic {SENT}" or state.refuses:
                self._answer(401 if state.header == "Authorization" else 407)
            elif proxied != (state.header == PROXY_AUTH) or not path.is_file():
                self._answer(404)
            else:
                self._answer(200, path.read_bytes())

        def _answer(self, code: int, content: bytes = b"") -> None:
            self.send_response(code)
            if code == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="m"')
            if code == 407:
                self.send_header("Proxy-Authenticate", 'Basic realm="m"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()
