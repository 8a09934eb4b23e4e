"""Ways into guests: what is said where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import samples

from virtkit.api.access import _no_address
from virtkit.spec import read_text
from virtkit.state import record


@pytest.mark.parametrize(
    ("networks", "cure"), [("[]", "give it a network. "), ("[default]", "if it is still booting, ")]
)
def test_a_guest_without_an_address(networks: str, cure: str) -> None:
    """One with a network needs no other one: it has no lease yet."""
    text = f"name: lab\nguests: {{web: {{networks: {networks}}}}}\n"
    spec, guest = read_text(text, source="lab.yaml", folder=Path("/")), samples.guest_of(text)
    made = record.of_guest(guest, "/lab.yaml")
    error = _no_address(spec, made, "local", ["no lease", "no agent"])
    assert error.cure.startswith(cure)
    assert "`virtkit console lab.yaml web`" in error.cure
    assert (error.why, error.where) == ("no lease, no agent", "local guest/web")
