"""Sizes and durations: what is written is what is meant, and comes back the same."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit.spec.problem import Problem
from virtkit.spec.sizes import (
    GIB,
    KIB,
    MAX_DURATION,
    MAX_SIZE,
    MIB,
    TIB,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * MIB),
        ("2GiB", 2 * GIB),
        ("8G", 8 * GIB),
        ("1.5GiB", 3 * GIB // 2),
        ("4K", 4 * KIB),
        ("1 TiB", TIB),
        ("0.5M", 512 * KIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "value",
    [
        *[512, 1.5, 0, "512", "1GB", "1gib", "GiB", "", " 1GiB", "1GiB\n", "1e3M", "-1G", "0G"],
        *[None, True, [], {}, "1B", "0.3K", "1025TiB", "9" * 5000 + "G"],
        "\u0661G",  # a digit of another script, which int() would take
    ],
)
def test_no_sizes(value: object) -> None:
    with pytest.raises(Problem) as caught:
        parse_size(value)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("500ms", 0.5), ("1.5m", 90.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value", [90, 0, 1.5, "90", "5 minutes", "0s", "-5s", "1d", "", None, True, [], "169h", "1m30s"]
)
def test_no_durations(value: object) -> None:
    with pytest.raises(Problem) as caught:
        parse_duration(value)
    assert caught.value.cure


@given(st.integers(1, MAX_SIZE // KIB))
def test_sizes_come_back(kib: int) -> None:
    assert parse_size(format_size(kib * KIB)) == kib * KIB
    assert format_size(kib * KIB + 1) == f"{kib * KIB + 1} bytes"


@given(st.integers(1, MAX_DURATION * 1000))
def test_durations_come_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none())
def test_anything_else_is_wrong_and_nothing_worse(value: object) -> None:
    for parse in (parse_size, parse_duration):
        with contextlib.suppress(Problem):
            assert parse(value) > 0


def test_cures_can_be_followed() -> None:
    for value, cure in [("1GB", "use 1GiB"), ("1.3MiB", "use 1331KiB"), (512, "use 512MiB")]:
        with pytest.raises(Problem) as caught:
            parse_size(value)
        assert caught.value.cure.startswith(cure)
