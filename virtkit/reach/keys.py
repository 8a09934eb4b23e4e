"""Who may log in to a guest, and the keys that virtkit makes. Private halves stay here, 0600."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import platformdirs

from virtkit.errors import RequestError
from virtkit.resources import Guest

#: The caller's own keys that ssh itself looks for, best first.
_OWN = ("id_ed25519", "id_ecdsa", "id_rsa")


def folder(environment: str) -> Path:
    """Where the caller keeps what belongs to an environment: a made key, known hosts (0700)."""
    path = platformdirs.user_data_path("virtkit") / environment
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def folders() -> list[Path]:
    """The folders of all environments that there are any of."""
    base = platformdirs.user_data_path("virtkit")
    return sorted(each for each in base.iterdir() if each.is_dir()) if base.is_dir() else []


def known(environment: str) -> bool:
    """Whether the caller keeps anything of an environment."""
    return (platformdirs.user_data_path("virtkit") / environment).is_dir()


def forget(environment: str) -> None:
    """Removes that folder, when the environment is gone."""
    path = platformdirs.user_data_path("virtkit") / environment
    for name in ("id_ed25519", "id_ed25519.pub", "id_ed25519.new", ".lock"):
        (path / name).unlink(missing_ok=True)
    for each in path.glob("known_hosts*"):
        each.unlink(missing_ok=True)
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()


def key_files(environment: str, asked: Sequence[str] | None, base: Path) -> list[Path]:
    """The public keys that a guest lets in: those asked for, the caller's own, or a made one.

    Args:
        asked: the spec's ``ssh_keys``, relative to ``base``.

    Raises:
        RequestError: a file that was asked for is not there or holds no public key.
    """
    if asked is not None:
        paths = [base / _home(each) for each in asked]
        for path in paths:
            _public_keys(path)
        return paths
    own = [Path.home() / ".ssh" / f"{name}.pub" for name in _OWN]
    return [path for path in own if path.is_file()] or [_made_key(environment)]


def _home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # a user that there is not
        return Path(path)


def authorized_keys(guest: Guest) -> list[str]:
    """The lines for the guest's authorized_keys."""
    files = key_files(guest.environment, guest.spec.ssh_keys, Path(guest.source_folder))
    return [line for path in files for line in _public_keys(path)]


def _public_keys(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise RequestError(
            f"the ssh key {path} can't be read", why=str(error), cure="correct `ssh_keys:`"
        ) from error
    keys = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not keys or any("PRIVATE" in key or " " not in key for key in keys):
        raise RequestError(
            f"{path} holds no public ssh key", cure="name the file that ends in .pub"
        )
    return keys


def _made_key(environment: str) -> Path:
    """The public half of the environment's own key; made where there is none."""
    public = folder(environment) / "id_ed25519.pub"
    if not public.is_file():
        import filelock

        with filelock.FileLock(public.with_name(".lock")):
            if not public.is_file():
                private_text, public_text = new_host_key()
                private = public.with_suffix("")
                private.touch(mode=0o600)
                private.write_text(private_text)
                # whole or not at all: another guest's step, or the next run, takes what is there
                new = public.with_suffix(".new")
                new.write_text(f"{public_text} virtkit {environment}\n")
                new.replace(public)
    return public


def new_host_key() -> tuple[str, str]:
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
