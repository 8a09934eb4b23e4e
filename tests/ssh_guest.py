"""Real ssh servers for tests, that stand for a guest's or a host's: a process for each connection,
on its standard input."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from virtkit.access import Login, new_key_pair
from virtkit.host import Remote

PYTHON = sys.executable
LOGIN = Login("web", "lab-web", "10.20.0.10", "virtkit", (), Path("/nowhere/known_hosts"))

#: An ssh server on its standard input. It lets in one key, and never answers a command.
SERVER = """
import socket, sys, threading
import paramiko

class Guest(paramiko.ServerInterface):
    def get_allowed_auths(self, username):
        return "publickey"
    def check_auth_publickey(self, username, key):
        known = key.get_base64() == sys.argv[2] and not key.public_blob
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED
    def check_channel_request(self, kind, number):
        return paramiko.OPEN_SUCCEEDED
    def check_channel_exec_request(self, channel, command):
        return True  # and nothing more

transport = paramiko.Transport(socket.socket(fileno=0))
transport.add_server_key(paramiko.Ed25519Key.from_private_key_file(sys.argv[1]))
transport.start_server(server=Guest())
threading.Event().wait(30)
"""


#: The same, and it runs commands. Each is added to the file "commands" beside it.
RUNNING_SERVER = SERVER.replace(
    "import socket, ", "import os, pathlib, socket, subprocess, "
).replace(
    """        return True  # and nothing more
""",
    """        with pathlib.Path(__file__).with_name("commands").open("a") as file:
            file.write(command.decode() + "\\n")
        threading.Thread(target=run, args=[channel, command], daemon=True).start()
        return True

def run(channel, command):
    pipe = subprocess.PIPE
    environment = {**os.environ, "SERVER": str(os.getpid())}
    program = subprocess.Popen(
        ["sh", "-c", os.environ.get("GREETING", "") + command.decode()],
        stdin=pipe, stdout=pipe, stderr=pipe, env=environment,
    )
    threading.Thread(target=feed, args=[channel, program.stdin], daemon=True).start()
    def copy(source, send):
        while data := os.read(source.fileno(), 32768):
            send(data)
    streams = [(program.stdout, channel.sendall), (program.stderr, channel.sendall_stderr)]
    copying = [threading.Thread(target=copy, args=each, daemon=True) for each in streams]
    for each in copying:
        each.start()
    for each in copying:
        each.join()
    channel.shutdown_write()
    channel.send_exit_status(program.wait())
    channel.close()

def feed(channel, stdin):
    try:
        while data := channel.recv(32768):
            stdin.write(data)
            stdin.flush()
        stdin.close()
    except OSError:
        pass  # the program has ended
""",
)


def guest(folder: Path, line: str, *identities: Path, server: str = SERVER) -> tuple[Login, str]:
    """How to log in to such a server, and its host key."""
    private, public = new_key_pair()
    (folder / "host").write_text(private)
    (folder / "server.py").write_text(server)
    words = [PYTHON, folder / "server.py", folder / "host", line.split()[1]]
    login = replace(LOGIN, proxy=shlex.join(map(str, words)), identities=identities, keys=(line,))
    return login, public


def pair(folder: Path, name: str, *words: str) -> tuple[Path, str]:
    """A new key's private half and its public line."""
    path = folder / name
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *words], check=True)
    return path, path.with_suffix(".pub").read_text().strip()


def running_guest(folder: Path) -> tuple[Login, str]:
    """A guest that runs commands, as root."""
    path, line = pair(folder, "mine", "-t", "ed25519")
    login, host_key = guest(folder, line, path, server=RUNNING_SERVER)
    return replace(login, user="root"), host_key


@contextmanager
def host(folder: Path, greeting: str = "") -> Generator[Remote]:
    """A host that ssh reaches, and that runs commands. Its shell says ``greeting`` first."""
    path, line = pair(folder, "ops", "-t", "ed25519")
    login, host_key = guest(folder, line, path, server=RUNNING_SERVER)
    words = shlex.split(login.proxy)
    said = f"printf %s {shlex.quote(greeting)}; " if greeting else ""
    servers = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # closed
                while True:
                    with listener.accept()[0] as connection:
                        environment = {**os.environ, "GREETING": said}
                        servers.append(subprocess.Popen(words, stdin=connection, env=environment))

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        (folder / "hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
        remote = Remote("rack1", "ops@127.0.0.1", port, str(path), str(folder / "hosts"))
        try:
            yield remote
        finally:
            remote.disconnect()
            listener.shutdown(socket.SHUT_RDWR)
            for each in servers:
                each.kill()
                each.wait()
