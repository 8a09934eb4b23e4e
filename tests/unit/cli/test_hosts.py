"""The verbs about hosts: what they take, and how hosts are shown."""

from __future__ import annotations

import re

import pytest

from virtkit import api
from virtkit.api.doctor import Check
from virtkit.cli import host, output_hosts
from virtkit.cli.arguments import SpecOptions
from virtkit.errors import RequestError, VirtkitError
from virtkit.facts import Room

GIB = 1024**3
ROOM = Room(memory=16 * GIB, free=5 * GIB, cpus=8, used=3, guests=2)
UP = api.HostStatus(
    "rack1",
    "ops@rack1",
    {"zone": "a", "rack": "2"},
    libvirt="9.0.0",
    types=("qemu", "lxc"),
    room=ROOM,
    load=0.4,
    guests=2,
    domains=5,
)
DOWN = api.HostStatus("rack2", "rack2", error=VirtkitError("it is gone", why="no", cure="mend it"))


def shown(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """The cells of each line."""
    lines = capsys.readouterr().out.splitlines()
    return [re.split(r"  +", line.rstrip()) for line in lines]


def test_the_table_of_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    output_hosts.table([UP, DOWN])
    columns, up, down, why, cure = shown(capsys)
    assert columns[-2:] == ["types", "labels"]
    assert up[:5] == ["rack1", "ops@rack1", "9.0.0", "3 of 8", "5.0 of 16.0 GiB"]
    assert up[5:] == ["0.40", "2 of 5", "qemu, lxc", "zone=a, rack=2"]
    assert down == ["rack2", "rack2", "no answer", *["-"] * 6]
    assert (why, cure) == (["rack2: no"], ["", "cure: mend it"])


def test_types_are_left_out_where_nobody_asked(capsys: pytest.CaptureFixture[str]) -> None:
    output_hosts.table([DOWN])
    assert "types" not in shown(capsys)[0]
    assert "types" not in DOWN.as_dict()
    assert DOWN.as_dict()["error"]["cure"] == "mend it"
    assert UP.as_dict()["memory"] == {"all": 16 * GIB, "free": 5 * GIB}


def test_checks_stand_below_their_host(capsys: pytest.CaptureFixture[str]) -> None:
    bad = Check("libvirt", False, "no answer", "start it", needed=True)
    hosts = [api.HostChecks("local", "", ()), api.HostChecks("rack1", "ops@rack1", (bad,))]
    output_hosts.checks(hosts)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["local:", "rack1 (ops@rack1):", "missing libvirt: no answer"]
    assert [each.usable for each in hosts] == [True, False]


@pytest.mark.parametrize("words", [[], ["one", "two"]])
def test_trust_is_for_one_host(words: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        host.host_trust(positionals=words, options=SpecOptions())
    assert caught.value.cure == "virtkit host trust [SPEC] HOST"


@pytest.mark.parametrize("name", ["-oProxyCommand=id", "a b"])
def test_a_word_that_names_no_host(name: str) -> None:
    for verb in (host.host_trust, host.host_check):
        with pytest.raises(RequestError, match="no address for ssh"):
            verb(positionals=[name], options=SpecOptions())
