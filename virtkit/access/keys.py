"""Whose keys open a guest: who may log in, what is offered, and the keys that virtkit makes.

A guest's record says which keys it was given, and only these are offered to it: from files first,
then from the agent. Private halves stay with the caller, 0600.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from virtkit.errors import RequestError
from virtkit.state import public_keys
from virtkit.system import commands, temporary

if TYPE_CHECKING:
    from virtkit.state.desired import Guest

#: The caller's own keys that ssh itself looks for, best first.
_DEFAULT_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
#: Seconds that an agent has to say which keys it holds.
_AGENT_TIMEOUT = 3.0


def _data_folder() -> Path:
    """The caller's own folder for what virtkit keeps."""
    import platformdirs  # most commands do without it

    return platformdirs.user_data_path("virtkit")


def folder(environment: str) -> Path:
    """Where the caller keeps what belongs to an environment: a made key, known hosts (0700)."""
    path = _data_folder() / environment
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def playbook_log(environment: str, guest: str) -> Path:
    """The file that keeps what Ansible printed when it last ran a guest's playbooks."""
    return folder(environment) / f"played-{guest}.log"


def environment_folders() -> list[Path]:
    """The folders of all environments of which the caller keeps anything."""
    base = _data_folder()
    return sorted(each for each in base.iterdir() if each.is_dir()) if base.is_dir() else []


def has_folder(environment: str) -> bool:
    """Whether the caller keeps anything of an environment."""
    return (_data_folder() / environment).is_dir()


def remove_folder(environment: str) -> None:
    """Removes what the caller keeps of an environment that is gone; other files there stay."""
    path = _data_folder() / environment
    for name in ("id_ed25519", "id_ed25519.pub", "id_ed25519.new", ".lock"):
        (path / name).unlink(missing_ok=True)
    for each in (*path.glob("known_hosts*"), *path.glob("offered-*"), *path.glob("played-*")):
        each.unlink(missing_ok=True)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def key_files(environment: str, ssh_keys: Sequence[str] | None, spec_folder: Path) -> list[Path]:
    """The public keys that a guest lets in: those asked for, the caller's own, or a made one.

    Args:
        ssh_keys: the spec's, relative to ``spec_folder``.

    Raises:
        RequestError: a file that was asked for is not there or holds no public key.
    """
    if ssh_keys is not None:
        paths = [spec_folder / _expanded(each) for each in ssh_keys]
        for path in paths:
            _public_keys(path)
        return paths
    return _default_keys() or [_made_key(environment)]


def own_keys(environment: str) -> list[str]:
    """The lines of the keys that a guest without ``ssh_keys`` lets in; none is made."""
    return [line for path in _default_keys() or [_made_path(environment)] for line in _lines(path)]


def _default_paths() -> list[Path]:
    """Where the caller's own public keys are looked for."""
    return [Path.home() / ".ssh" / f"{name}.pub" for name in _DEFAULT_NAMES]


def _default_keys() -> list[Path]:
    """Those of them that hold public keys. Nobody named the others: no error."""
    return [path for path in _default_paths() if _are_public(_lines(path))]


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a user that there is not
        return Path(path)


def authorized_keys(guest: Guest) -> list[str]:
    """The lines for a new guest's authorized_keys."""
    files = key_files(guest.environment, guest.spec.ssh_keys, Path(guest.source_folder))
    return [line for path in files for line in _public_keys(path)]


def _public_keys(path: Path) -> list[str]:
    """The lines of a file that holds public keys and nothing else but comments.

    Raises:
        RequestError: it can't be read, or holds something else.
    """
    try:
        lines = _read(path)
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the ssh key {path} can't be read", why=str(error), cure="correct `ssh_keys:`"
        ) from error
    if not _are_public(lines):
        raise RequestError(
            f"{path} holds no public ssh key", cure="name the file that ends in .pub"
        )
    return lines


def _are_public(lines: Sequence[str]) -> bool:
    """Whether lines are public keys, and nothing else."""
    return bool(lines) and all(map(public_keys.parse, lines))


def _read(path: Path) -> list[str]:
    """The lines of a file that are neither empty nor comments."""
    lines = map(str.strip, path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _lines(path: Path) -> list[str]:
    """The same lines, or none where the file can't be read."""
    try:
        return _read(path)
    except (OSError, ValueError):
        return []


# --- what is offered --------------------------------------------------------------------------


def identity_files(
    environment: str, keys: Sequence[str] | None, ssh_keys: Sequence[str] | None, spec_folder: Path
) -> tuple[Path, ...]:
    """What ssh is to take for its ``IdentityFile``, best first.

    A private key of the caller's where it is in a file; where only the agent holds it, a file with
    its public half.

    Args:
        keys: what the guest was given, as its record says; None where an older
            version made it.
        ssh_keys: the spec's, relative to ``spec_folder``.
    """
    public_files = _public_files(environment, ssh_keys, spec_folder)
    guest_keys = keys if keys is not None else _guessed(environment, ssh_keys, spec_folder)
    private: list[Path] = []
    elsewhere: list[tuple[str, str]] = []
    for line in guest_keys:
        for blob in public_keys.blobs([line]):
            if blob in public_files and _has_private(public_files[blob]):
                private.append(public_files[blob].with_suffix(""))
            else:
                elsewhere.append((blob, line))
    in_agent = agent_blobs() if elsewhere else frozenset()
    return (
        *private,
        *(
            public_files.get(blob) or _public_file(environment, line)
            for blob, line in elsewhere
            if blob in in_agent
        ),
    )


def _public_files(
    environment: str, ssh_keys: Sequence[str] | None, spec_folder: Path
) -> dict[str, Path]:
    """The files that end in .pub, by the key in them. Of several with one key, that with a private
    half beside it: a spec's folder often has a copy of the public half only."""
    named = [spec_folder / _expanded(each) for each in ssh_keys or () if each.endswith(".pub")]
    candidates = [*named, *_files_in_ssh_folder(), _made_path(environment)]
    files: dict[str, Path] = {}
    for path in sorted(candidates, key=lambda each: not _has_private(each)):
        for blob in public_keys.blobs(_lines(path)):
            files.setdefault(blob, path)
    return files


def _has_private(public: Path) -> bool:
    """Whether the private half is beside a public key, and can be read."""
    private = public.with_suffix("")
    return os.access(private, os.R_OK) and private.is_file()


def _files_in_ssh_folder() -> list[Path]:
    """The caller's public keys; those that ssh itself looks for come first."""
    usual = [f"{name}.pub" for name in _DEFAULT_NAMES]
    try:
        files = [each for each in (Path.home() / ".ssh").iterdir() if each.suffix == ".pub"]
    except OSError:
        return []
    return sorted(files, key=lambda e: (e.name not in usual, e.name))


def _guessed(environment: str, ssh_keys: Sequence[str] | None, spec_folder: Path) -> list[str]:
    """The keys that a guest may have been given where its record does not say: those that the spec
    names, else the caller's own and the one that virtkit made."""
    usual = [*_default_paths(), _made_path(environment)]
    files = usual if ssh_keys is None else [spec_folder / _expanded(each) for each in ssh_keys]
    return [line for path in files for line in _lines(path)]


@functools.cache
def agent_blobs() -> frozenset[str]:
    """The keys that the caller's agent holds, in base64; none where it doesn't answer within
    seconds. It is asked once."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return frozenset()
    try:
        answer = subprocess.run(
            commands.command_line("ssh-add", "-L"),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=commands.environment(),
            timeout=_AGENT_TIMEOUT,
            check=False,
        )
    except (RequestError, OSError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(public_keys.blobs(answer.stdout.splitlines()))


def _public_file(environment: str, line: str) -> Path:
    """A file with a public key that is in no other file here: ssh asks for one, to find the key in
    the agent."""
    key = public_keys.parse(line)
    assert key is not None
    name = key.fingerprint.removeprefix("SHA256:").replace("/", "_").replace("+", "-")
    path = folder(environment) / f"offered-{name[:16]}.pub"
    if not path.is_file():
        temporary.write(path, f"{key}\n")
    return path


# --- keys that virtkit makes ------------------------------------------------------------------


def _made_path(environment: str) -> Path:
    """Where the public half of the environment's own key is, if one was made."""
    return _data_folder() / environment / "id_ed25519.pub"


def _made_key(environment: str) -> Path:
    """The public half of the environment's own key, which is made where there is none."""
    public = folder(environment) / _made_path(environment).name
    if not public.is_file():
        import filelock

        with filelock.FileLock(public.with_name(".lock")):
            if not public.is_file():
                private_text, public_text = new_key_pair()
                private = public.with_suffix("")
                private.touch(mode=0o600)
                private.write_text(private_text)
                # whole or not at all: another guest's step, or the next run, takes what is there
                new = public.with_suffix(".new")
                new.write_text(f"{public_text} virtkit {environment}\n")
                new.replace(public)
    return public


def new_key_pair() -> tuple[str, str]:
    """A new ed25519 key pair in OpenSSH's formats: the private half, the public half."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), public.decode()
