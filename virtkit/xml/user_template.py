"""A spec's own template, rendered in a separate process that is bounded in time and memory.

Jinja's sandbox keeps a template away from the host, but not from loops without end. Guests that
have no template never come here.
"""

from __future__ import annotations

import json
import pickle
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from virtkit.drivers import Blocker
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.state.desired import Guest
from virtkit.system import commands
from virtkit.xml import render

#: Seconds of processor time, and of any time, that a template may take.
_CPU_SECONDS, _TIMEOUT = 5, 60.0
#: Bytes of memory for the whole process, most of it Python's own.
_MAX_MEMORY = 512 * 1024**2
#: What a spec says of a guest and no record may show.
_SECRET = ("cloud_init", "core_cloud_init", "vars")
#: Bytes of a template, and of the XML that it makes: libvirt takes no longer text.
_MAX_BYTES = 4 * 1024**2


def rendered(guest: Guest) -> str:
    """What the guest's ``template:`` makes of it; empty where it has none.

    Raises:
        RequestError: it can't be read, it is broken, or it takes too long or too much memory.
    """
    if not guest.spec.template:
        return ""
    where = guest.where("template")
    request = pickle.dumps((_plain(guest), _text(guest, where)))
    try:
        process = subprocess.run(
            commands.die_with_parent([sys.executable, "-P", "-m", "virtkit.xml.user_template"]),
            input=request,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=commands.environment(),
        )
    except subprocess.TimeoutExpired as error:
        raise _too_much(guest, where) from error
    if process.returncode != 0:
        raise _too_much(guest, where)
    answer = json.loads(process.stdout)
    if "error" in answer:
        raise RequestError(**answer["error"], where=where)
    return str(answer["xml"])


def _text(guest: Guest, where: str) -> str:
    path = Path(guest.source_folder, Path(guest.spec.template or "").expanduser())
    try:
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(_MAX_BYTES + 1)
            if len(text) <= _MAX_BYTES:
                return text.decode()
            why = f"it has more than {_MAX_BYTES // 1024**2} MiB"
        else:
            why = "there is no such file"
    except (OSError, UnicodeDecodeError) as error:
        why = str(error)
    raise RequestError(
        f"guest {guest.name}: the template {path} can't be read",
        why=why,
        cure="correct the path in the spec; a template is text in UTF-8 of at most "
        f"{_MAX_BYTES // 1024**2} MiB",
        where=where,
    )


def _too_much(guest: Guest, where: str) -> RequestError:
    return RequestError(
        f"the template of guest {guest.name} does not finish",
        why=f"it may take {_CPU_SECONDS} s and {_MAX_MEMORY // 1024**2} MiB",
        cure=f"fix {guest.spec.template}: a loop or a repeated text is too long",
        where=where,
    )


def _plain(guest: Guest) -> Guest:
    """The guest as data that may stand in libvirt: no code of its driver's, and of what may hold
    a secret only that there is some."""
    hidden = {key: {"hidden": True} if getattr(guest.spec, key) else {} for key in _SECRET}
    nothing = {"written_cloud_init": None, "password": None, "password_text": None, "files": ()}
    contents: dict[str, object] = {"file_contents": {}, "ignition_bytes": b""}
    spec = guest.spec.model_copy(update={**hidden, **nothing, **contents})
    return replace(guest, spec=spec, driver=replace(guest.driver, check=_no_check))


def _no_check(_facts: HostFacts) -> list[Blocker]:
    return []


def _main() -> None:
    """In that process: the request from standard input, the answer to standard output."""
    guest, text = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from rendered() above
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    answer: dict[str, object]
    try:
        xml = render.from_user_template(guest, text)
        answer = {"xml": xml} if len(xml) <= _MAX_BYTES else _error_answer(_too_much(guest, ""))
    except MemoryError:
        answer = _error_answer(_too_much(guest, ""))
    except RequestError as error:
        answer = _error_answer(error)
    sys.stdout.write(json.dumps(answer))


def _error_answer(error: RequestError) -> dict[str, object]:
    return {"error": {"what": error.what, "why": error.why, "cure": error.cure}}


if __name__ == "__main__":
    _main()
