"""Names of volumes that belong together, and what a sparse upload sends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit.host import rotations
from virtkit.host.storage import _records
from virtkit.host.streams import data_length, send_sparse

names = st.sets(
    st.sampled_from(["lab-web-console", "lab-web-1-console", "lab-web-root", "other"])
    | st.builds("lab-web-console.{}".format, st.sampled_from(["0", "1", "12", "x", "", "0.gz"]))
)


@given(names)
def test_rotations(volumes: set[str]) -> None:
    rotated = set(rotations(frozenset(volumes), "lab-web-console"))
    assert rotated <= volumes
    assert rotated == {
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
    """The far end: writes a file, as libvirt does."""

    def __init__(self) -> None:
        self.content = b""
        self.sent = 0

    def sendHole(self, length: int) -> int:  # noqa: N802 - libvirt's name
        assert length > 0
        self.content += b"\0" * length
        return 0

    def send(self, piece: bytes) -> int:
        assert piece
        self.content += piece
        self.sent += len(piece)
        return len(piece)


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
    reported: list[tuple[int, int]] = []
    stream: Any = Stream()
    data = data_length(path)
    with path.open("rb", buffering=0) as file:
        send_sparse(stream, file.fileno(), size, lambda *amounts: reported.append(amounts))
    assert stream.content == path.read_bytes()
    assert stream.sent == data_length(path, exact=True) <= data <= path.stat().st_blocks * 512
    assert reported == sorted(reported)
    assert reported[-1] == (data, data)


def test_zeros_are_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    mib = 1024 * 1024
    path.write_bytes(b"\0" * 3 * mib + b"x" * mib + b"\0" * mib)
    stream: Any = Stream()
    with path.open("rb", buffering=0) as file:
        send_sparse(stream, file.fileno(), 5 * mib, lambda *_: None)
    assert stream.content == path.read_bytes()
    assert stream.sent == mib
    assert data_length(path) == 5 * mib
    assert data_length(path, exact=True) == mib


def test_a_file_that_is_cut_off_meanwhile(tmp_path: Path) -> None:
    """What is named by its content must have it."""
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 3 * 1024 * 1024)
    with path.open("rb", buffering=0) as file, pytest.raises(OSError, match="cut off"):
        send_sparse(Stream(), file.fileno(), 3 * 1024 * 1024, lambda *_: os.truncate(path, 1))  # type: ignore[arg-type]
