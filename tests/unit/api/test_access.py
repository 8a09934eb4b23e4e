"""Ways into guests: what is said where there is none."""

from __future__ import annotations

import pytest
import samples

from virtkit.api.access import _no_address
from virtkit.state import record


@pytest.mark.parametrize(
    ("networks", "cure"), [("[]", "give it a network; "), ("[default]", "if it is still booting, ")]
)
def test_a_guest_without_an_address(networks: str, cure: str) -> None:
    """One with a network needs no other one: it has no lease yet."""
    guest = samples.guest_of(f"name: lab\nguests: {{web: {{networks: {networks}}}}}\n")
    error = _no_address(record.of_guest(guest, "/lab.yaml"), "local", ["no lease", "no agent"])
    assert error.cure.startswith(cure)
    assert (error.why, error.where) == ("no lease, no agent", "local guest/web")
