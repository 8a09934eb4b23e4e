"""Names of volumes that belong together, and what a sparse upload sends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit.host import rotations
from virtkit.host.storage import _records
from virtkit.host.streams import _Sparse

names = st.sets(
    st.sampled_from(["lab-web-console", "lab-web-1-console", "lab-web-root", "other"])
    | st.builds("lab-web-console.{}".format, st.sampled_from(["0", "1", "12", "x", "", "0.gz"]))
)


@given(names)
def test_rotations(volumes: set[str]) -> None:
    found = set(rotations(frozenset(volumes), "lab-web-console"))
    assert found <= volumes
    assert found == {
        each
        for each in volumes
        if each in [f"lab-web-console{end}" for end in ("", ".0", ".1", ".12")]
    }


def test_the_newest_record_is_last() -> None:
    mine = [f"virtkit-record-{number:06d}.json" for number in (1, 9, 10, 100)]
    assert _records(frozenset([*mine, "lab-web-root", "virtkit-abc.root"])) == mine


def test_a_record_is_told_by_its_whole_name() -> None:
    """The older ones are deleted, so nobody else's volume may count as one."""
    others = ["virtkit-record-", "virtkit-record-a.json", "virtkit-record-000001.json.bak"]
    others += ["virtkit-record-1.json", "virtkit-record--00001.json"]
    assert _records(frozenset(others)) == []
    late = ["virtkit-record-999999.json", "virtkit-record-1000000.json"]
    assert _records(frozenset(late)) == late


class Stream:
    """The far end: calls the callbacks in libvirt's order and writes a file."""

    def __init__(self) -> None:
        self.content = b""
        self.sent = 0

    def sparseSendAll(  # noqa: N802 - libvirt's name
        self,
        data: Callable[..., bytes],
        hole: Callable[..., tuple[bool, int]],
        skip: Callable[..., int],
        opaque: object,
    ) -> None:
        while True:
            is_data, length = hole(self, opaque)
            if not is_data and length == 0:
                return
            if not is_data:
                assert skip(self, length, opaque) == 0
                self.content += b"\0" * length
            while is_data and length > 0:
                piece = data(self, min(length, 65536), opaque)
                assert 0 < len(piece) <= length
                self.content += piece
                self.sent += len(piece)
                length -= len(piece)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(0, b"x")],
        [(0, b"x" * 5000)],
        [(1 << 20, b"end")],
        [(0, b"begin"), (1 << 20, b"middle" * 9999), (3 << 20, b"")],
        [(4096, b"a" * 4096)],
    ],
)
def test_holes_are_not_sent(pieces: list[tuple[int, bytes]], tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        for at, content in pieces:
            file.seek(at)
            file.write(content)
            file.truncate()
    size = path.stat().st_size
    told: list[int] = []
    stream = Stream()
    with path.open("rb", buffering=0) as file:
        _Sparse(os.dup(file.fileno()), size, told.append).send(stream)
    assert stream.content == path.read_bytes()
    blocks = path.stat().st_blocks * 512
    assert stream.sent <= max(blocks, 65536)
    assert told == sorted(told)
