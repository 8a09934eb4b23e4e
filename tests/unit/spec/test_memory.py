"""Sets of numbers as libvirt writes them, and records of what a processor has not."""

from __future__ import annotations

import pytest
import samples

from virtkit.plan.resolve import resolve
from virtkit.spec.model import number_ranges
from virtkit.state.desired import Decided


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((0, 1), "0-1"), ((5, 0, 2, 1), "0-2,5"), ((1, 1, 3), "1,3")],
)
def test_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert number_ranges(numbers) == text


def test_a_record_has_nothing_of_keys_that_say_nothing() -> None:
    spec = samples.spec_of(
        "name: lab\ndefaults: {type: qemu, networks: []}\n"
        "guests: {a: {cpu: {}}, b: {cpu: {model: maximum}}}\n"
    )
    plain, named = (each.requested for each in resolve(spec, samples.facts_of(), Decided()).guests)
    assert {"cpu", "hugepages"}.isdisjoint(plain)
    assert named["cpu"] == {"model": "maximum", "features": {}, "topology": None, "pin": []}
