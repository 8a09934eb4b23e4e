"""What a guest says of itself: its agent is in the hands of whoever has the guest."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import libvirt_qemu
import pytest

from virtkit.drivers import QEMU
from virtkit.host import guest_exec
from virtkit.host.guest_exec import CommandResult, OutcomeUnknown, Unreachable

REPLIES: list[Any] = [
    *("", "{", "[]", "null", "1", '{"return": 1}', '{"return": null}', '{"return": []}', "{}"),
    *('{"return": {"pid": "x"}}', '{"return": {"pid": [1]}}', '{"return": {"exited": true}}'),
]
LATER: list[Any] = [
    *REPLIES,
    *(
        '{"return": {"exited": true, "out-data": "\\u00e9"}}',
        '{"return": {"exited": 1, "signal": []}}',
    ),
    '{"return": {"exited": true, "exitcode": "x"}}',
]


class Agents:
    """libvirt's connections, whose agents answer with these texts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *replies: str) -> None:
        left = list(replies)
        monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", lambda *_: left.pop(0))

    def get(self, _scheme: str) -> Any:
        return SimpleNamespace(lookupByName=lambda _name: None)


@pytest.mark.parametrize("answer", REPLIES)
def test_an_agent_that_begins_with_nonsense(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agents: Any = Agents(monkeypatch, answer)
    with pytest.raises(Unreachable) as caught:
        guest_exec.by_agent(agents, QEMU, "lab-web", ["true"], 1)
    assert not isinstance(caught.value, OutcomeUnknown), "nothing ran: another way may be tried"


@pytest.mark.parametrize("answer", [each for each in LATER if each != REPLIES[-1]])
def test_an_agent_that_goes_on_with_nonsense(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agents: Any = Agents(monkeypatch, '{"return": {"pid": 7}}', answer)
    with pytest.raises(OutcomeUnknown):
        guest_exec.by_agent(agents, QEMU, "lab-web", ["true"], 1)


def test_an_agent_in_its_right_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    end = {"exited": True, "exitcode": 3, "out-data": "aGk=", "err-data": ""}
    agents: Any = Agents(monkeypatch, '{"return": {"pid": 7}}', json.dumps({"return": end}))
    assert guest_exec.by_agent(agents, QEMU, "lab-web", ["true"], 1) == CommandResult(3, b"hi", b"")
