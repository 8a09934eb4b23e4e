"""The pool's record after a run that was killed while it wrote one. Against libvirt's test driver,
whose volumes get content from tests/faultpoints.py.
"""

from __future__ import annotations

import pytest

from virtkit.host import Host
from virtkit.state import record_text
from virtkit.state.record import KeptDisk, PoolRecord
from virtkit.xml import render

pytestmark = pytest.mark.usefixtures("streams")


def record_of(disk: str) -> PoolRecord:
    name = f"lab-web-{disk}"
    return PoolRecord({}, {name: KeptDisk("lab", "web", name, f"/pool/{name}")})


def put(host: Host, number: int, content: bytes) -> None:
    """A record as a run leaves it that is killed after ``content`` of it."""
    name = f"virtkit-record-{number:06d}.json"
    host.storage.create(render.volume_xml(name, 4096, "raw"))
    if content:
        host.storage.write(name, content)


def test_records_are_numbered_and_one_is_left(host: Host) -> None:
    assert host.storage.record() == PoolRecord()
    for number, disk in enumerate("abc", start=1):
        host.storage.write_record(record_of(disk))
        assert host.storage.record() == record_of(disk)
        assert host.storage.names() == {f"virtkit-record-{number:06d}.json"}


COMPLETE = record_text.pool_text(record_of("new")).encode()


@pytest.mark.parametrize("part", [b"", COMPLETE[:30], COMPLETE[:-1], b"\0" * 4096])
def test_the_next_write_removes_half_written_ones(host: Host, part: bytes) -> None:
    host.storage.write_record(record_of("old"))
    for number in (2, 3, 12):
        put(host, number, part)
    assert host.storage.record() == record_of("old"), "the newest that can be read"
    assert len(host.storage.names()) == 4, "reading removes nothing"
    host.storage.write_record(record_of("next"))
    assert host.storage.names() == {"virtkit-record-000013.json"}, "a number is never had twice"
    assert host.storage.record() == record_of("next")


def test_killed_before_the_older_ones_went(host: Host) -> None:
    host.storage.write_record(record_of("old"))
    put(host, 2, COMPLETE)
    assert host.storage.record() == record_of("new")
    host.storage.write_record(record_of("next"))
    assert host.storage.names() == {"virtkit-record-000003.json"}


def test_a_strangers_volume_that_is_named_alike_stays(host: Host) -> None:
    names = {"virtkit-record-1.json", "virtkit-record-000001.json.bak"}
    for name in names:
        host.storage.create(render.volume_xml(name, 10, "raw"))
    host.storage.write_record(record_of("old"))
    host.storage.write_record(record_of("new"))
    assert host.storage.names() == {*names, "virtkit-record-000002.json"}
