"""What every verb's line has: SPEC first or by -f, then guests; and words of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from virtkit.errors import RequestError

#: The spec that is taken where none is named.
DEFAULT = "virtkit.yaml"
#: What other tools call our verbs.
ALIASES = {
    "apply": "up",
    "create": "up",
    "deploy": "up",
    "run": "up",
    "launch": "up",
    "destroy": "down",
    "delete": "down",
    "rm": "down",
    "remove": "down",
    "undefine": "down",
    "halt": "stop",
    "shutdown": "stop",
    "poweroff": "stop",
    "ps": "status",
    "list": "status",
    "ls": "status",
    "info": "status",
    "reboot": "restart",
    "reload": "restart",
    "reset": "restart",
    "suspend": "pause",
    "freeze": "pause",
    "unpause": "resume",
    "thaw": "resume",
    "shell": "ssh",
    "connect": "ssh",
    "attach": "console",
    "scp": "cp",
    "copy": "cp",
    "push": "cp",
    "pull": "cp",
    "diff": "plan",
    "preview": "plan",
    "check": "validate",
    "lint": "validate",
    "images": "image",
    "new": "init",
    "hosts": "inventory",
    "log": "logs",
    "sshconfig": "ssh-config",
}


def is_spec(word: str) -> bool:
    """Whether a word names a spec rather than a guest."""
    return word == "-" or word.endswith((".yaml", ".yml"))


def split(words: Sequence[str], file: str | None) -> tuple[str, list[str]]:
    """The spec's path, and the words after it.

    Raises:
        RequestError: no spec is named and there is none in this folder.
    """
    if file is not None:
        return file, list(words)
    if words and is_spec(words[0]):
        return words[0], list(words[1:])
    if not Path(DEFAULT).exists():
        raise RequestError(
            f"no spec is named, and there is no {DEFAULT} here",
            cure="name one that ends in .yaml, or write one with `virtkit init`",
        )
    return DEFAULT, list(words)


def one_guest(words: Sequence[str], usage: str) -> tuple[str, list[str]]:
    """The guest and the words after it, a separating ``--`` left out."""
    if not words or words[0] == "--":
        raise RequestError("no guest is named", cure=usage)
    rest = list(words[1:])
    return words[0], rest[1:] if rest[:1] == ["--"] else rest
