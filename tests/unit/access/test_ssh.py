"""What is said while ssh doesn't answer yet: our words, and no library's. And which of the caller's
keys a guest is offered. Real connections."""

from __future__ import annotations

import base64
import hashlib
import struct
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ssh_guest import LOGIN, SERVER, guest, pair, running_guest

from virtkit.access import Login, has_other_host_key, lets_in, ssh
from virtkit.host import OutcomeUnknown, Unreachable


def said(proxy: str) -> str:
    with pytest.raises(Unreachable) as caught:
        lets_in(replace(LOGIN, proxy=proxy), "ssh-ed25519 AAAA")
    return str(caught.value)


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("true", "hung up"),
        ("sh -c 'echo HTTP/1.1 400; sleep 3'", "does not speak ssh yet"),
        ("sh -c 'printf SSH-1.5-old\\\\r\\\\n; sleep 3'", "no host key of the kind"),
        ("sh -c 'printf SSH-2.0-x\\\\r\\\\n; sleep 1'", "10.20.0.10: "),
        ("sh -c 'echo SSH-2.0-x; head -c 100 /dev/urandom; sleep 3'", "10.20.0.10: "),
    ],
)
def test_what_does_not_answer_as_ssh_does(proxy: str, words: str) -> None:
    text = said(proxy)
    assert text.startswith("ssh at 10.20.0.10: ")
    assert words in text
    assert not any(each in text for each in ("banner", "Errno", "Negotiation", "session", "packet"))
    assert has_other_host_key(replace(LOGIN, proxy=proxy), "ssh-ed25519 AAAA") is False


def test_what_says_nothing() -> None:
    text = said("sleep 60")
    assert "did not answer in time" in text or "does not speak ssh yet" in text


# --- a guest that lets one key in -------------------------------------------------------------


def security_key(folder: Path) -> tuple[Path, str]:
    """What stands for a key in a token: openssh-key-v1 (PROTOCOL.key) around a handle."""

    def field(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    kind = b"sk-ssh-ed25519@openssh.com"
    public = field(kind) + field(b"p" * 32) + field(b"ssh:")
    private = struct.pack(">II", 7, 7) + public + b"\1" + field(b"h" * 32) + field(b"") + field(b"")
    private += bytes(range(1, 1 + -len(private) % 8))
    data = b"openssh-key-v1\0" + field(b"none") * 2 + field(b"") + struct.pack(">I", 1)
    text = base64.encodebytes(data + field(public) + field(private)).decode()
    path = folder / "id_ed25519_sk"
    path.write_text(
        f"-----BEGIN OPENSSH PRIVATE KEY-----\n{text}-----END OPENSSH PRIVATE KEY-----\n"
    )
    path.chmod(0o600)
    return path, f"{kind.decode()} {base64.b64encode(public).decode()}"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_key_of_the_guests_is_let_in(kind: str, tmp_path: Path) -> None:
    path, line = pair(tmp_path, "mine", "-t", kind)
    assert lets_in(*guest(tmp_path, line, path))


def test_another_host_key_is_an_error_of_its_own(tmp_path: Path) -> None:
    path, line = pair(tmp_path, "mine", "-t", "ed25519")
    login, host_key = guest(tmp_path, line, path)
    assert has_other_host_key(login, host_key) is False
    assert has_other_host_key(login, "ssh-ed25519 AAAA") is True
    for ask in (lets_in, ssh.has_host_key):
        with pytest.raises(ssh.OtherHostKey):
            ask(login, "ssh-ed25519 AAAA")


def test_a_key_that_the_guest_has_not_is_not(tmp_path: Path) -> None:
    path, line = pair(tmp_path, "mine", "-t", "ed25519")
    _, theirs = pair(tmp_path, "theirs", "-t", "ed25519")
    login, host_key = guest(tmp_path, theirs, path)
    assert lets_in(replace(login, keys=(line,)), host_key) is False


def test_a_certificate_beside_a_key_does_not_take_its_place(tmp_path: Path) -> None:
    authority, _ = pair(tmp_path, "authority", "-t", "ed25519")
    path, line = pair(tmp_path, "mine", "-t", "ed25519")
    words = ["-s", authority, "-I", "me", "-n", "me", path.with_suffix(".pub")]
    subprocess.run(["ssh-keygen", "-q", *words], check=True)
    assert (tmp_path / "mine-cert.pub").is_file()
    assert lets_in(*guest(tmp_path, line, path))


def test_a_key_that_only_ssh_can_use_is_no_failure(tmp_path: Path) -> None:
    """The right host key has to do: whoever has that one read the seed."""
    path, line = security_key(tmp_path)
    done = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True)
    assert done.stdout.split()[:2] == line.split(), done.stderr
    assert lets_in(*guest(tmp_path, line, path))


def test_a_command_without_an_end_is_told(tmp_path: Path) -> None:
    path, line = pair(tmp_path, "mine", "-t", "ed25519")
    login, host_key = guest(tmp_path, line, path)
    with pytest.raises(OutcomeUnknown) as caught:
        ssh.run(login, host_key, ["sleep", "60"], 0.5)
    assert str(caught.value) == "the command did not finish within 0.5 s"


@pytest.mark.parametrize(
    "command",
    ["while :; do echo on; sleep 0.1; done", "exec >&- 2>&-; sleep 8", "yes", "yes >&2"],
)
def test_a_commands_time_ends_whatever_it_prints(command: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(OutcomeUnknown, match="did not finish within 2 s"):
        ssh.run(*running_guest(tmp_path), ["sh", "-c", command], 2)
    assert time.monotonic() - began < 7


def test_a_command_prints_much_on_both_streams(tmp_path: Path) -> None:
    line = "head -c 5000000 /dev/zero >&2; echo done; exit 3"
    ran = ssh.run(*running_guest(tmp_path), ["sh", "-c", line], 20)
    assert (ran.code, ran.out, len(ran.err)) == (3, b"done\n", 5_000_000)


def test_a_command_reads_its_input_to_the_end(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    ran = ssh.run(*running_guest(tmp_path), ["sh", "-c", "sha256sum; exit 3"], 20, data)
    assert (ran.code, ran.out.split()[0].decode()) == (3, hashlib.sha256(data).hexdigest())


def test_a_command_that_does_not_read_its_input_ends_as_any(tmp_path: Path) -> None:
    ran = ssh.run(*running_guest(tmp_path), ["sh", "-c", "echo done; exit 3"], 20, b"x" * 5_000_000)
    assert (ran.code, ran.out) == (3, b"done\n")


def test_a_connection_that_breaks_under_a_command(tmp_path: Path) -> None:
    with pytest.raises(OutcomeUnknown, match="connection broke"):
        ssh.run(*running_guest(tmp_path), ["sh", "-c", "kill -9 $SERVER; sleep 1"], 20)
    assert (tmp_path / "commands").read_text().count("kill") == 1


def test_a_command_that_is_refused_has_not_begun(tmp_path: Path) -> None:
    path, line = pair(tmp_path, "mine", "-t", "ed25519")
    server = SERVER.replace(
        "(self, channel, command):\n        return True", "(*_):\n        return"
    )
    with pytest.raises(Unreachable) as caught:
        ssh.run(*guest(tmp_path, line, path, server=server), ["true"], 20)
    assert not isinstance(caught.value, OutcomeUnknown)


def test_a_way_that_ends_is_no_work(tmp_path: Path) -> None:
    """Where nobody listens yet, ssh through the host ends at once, again and again."""
    hosts = tmp_path / "hosts"
    login = Login("web", "lab-web", "rack1", "me", (), hosts, "sh -c 'exit 1'")
    began, worked = time.monotonic(), time.process_time()
    with pytest.raises(Unreachable, match="ssh at rack1"):
        lets_in(login, "ssh-ed25519 AAAA")
    assert time.monotonic() - began < 5
    assert time.process_time() - worked < 2
