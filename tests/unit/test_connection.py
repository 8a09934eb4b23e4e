"""What is said while ssh doesn't answer yet: our words, and no library's. Real connections."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from virtkit.host import Unreachable
from virtkit.reach import Login, is_another, lets_in

PYTHON = sys.executable
LOGIN = Login("web", "lab-web", "10.20.0.10", "virtkit", (), Path("/nowhere/known_hosts"))


def said(proxy: str) -> str:
    with pytest.raises(Unreachable) as found:
        lets_in(replace(LOGIN, proxy=proxy), "ssh-ed25519 AAAA")
    return str(found.value)


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
    told = said(proxy)
    assert told.startswith("ssh at 10.20.0.10: ")
    assert words in told
    assert not any(each in told for each in ("banner", "Errno", "Negotiation", "session", "packet"))
    assert is_another(replace(LOGIN, proxy=proxy), "ssh-ed25519 AAAA") is False


def test_what_says_nothing() -> None:
    told = said("sleep 60")
    assert "did not answer in time" in told or "does not speak ssh yet" in told
