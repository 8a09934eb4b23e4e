"""Runs ansible-runner in a separate process, and prints Ansible's events as lines of JSON.

ansible-runner forks, and a fork of a process with several threads, as virtkit is one, may wait for
ever for a lock that another thread had. A separate program: it must never import virtkit.

usage: python runner_process.py    (what to run is a line of JSON on standard input)
"""

from __future__ import annotations

import json
import sys
from typing import Any

import ansible_runner


def main() -> None:
    """Answers with events; the last line is the exit code, or what ansible-runner failed of."""
    arguments = json.loads(sys.stdin.readline())
    try:
        done = ansible_runner.run(
            **arguments,
            fact_cache_type="none",  # the caller's own settings say where facts are kept
            event_handler=_tell,
            quiet=True,
        )
    except ansible_runner.exceptions.AnsibleRunnerException as error:
        _print({"failed": str(error)})
    else:
        _print({"code": done.rc})


def _tell(event: dict[str, Any]) -> bool:
    """Prints an event; answers that no file of it is to be written."""
    keys = ("event", "event_data", "stdout")
    _print({key: event.get(key) for key in keys})
    return False


def _print(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
