"""How a long run goes: what its caller says of it, whatever the run does."""

from __future__ import annotations

import threading

from virtkit._dataclass import dataclass
from virtkit.api._defaults import LOCK_TIMEOUT
from virtkit.api._hosts import Say, Tell, quiet


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run goes, and whom it tells.

    Attributes:
        vault: the file with the password of Ansible's vaults; empty where Ansible's own settings
            name it.
        parallel: steps at a time; left out, what suits each host.
        lock_timeout: seconds to wait for another run on the environment.
        tell: gets an ``Event`` whenever a step begins, progresses or ends.
        say: gets lines for people, such as which run is waited for.
        stop: set from any thread, it ends the run as ctrl-c does. virtkit never sets it.
    """

    vault: str = ""
    parallel: int | None = None
    lock_timeout: float = LOCK_TIMEOUT
    tell: Tell = quiet
    say: Say = quiet
    stop: threading.Event | None = None


#: What a run does where its caller says nothing.
DEFAULT = RunOptions()
