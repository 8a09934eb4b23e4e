"""The text that libvirt shows of a guest, which changes while that runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from integration.edits import Edits, document, editing, lives, why
from integration.lab import tiny_disk, virsh

from virtkit.drivers import DRIVERS

SPEC: dict[str, Any] = {
    "name": "described",
    "images": {"tiny": {"path": "tiny.raw"}},
    "defaults": {"networks": [], "ready": "none"},
    "guests": {
        "qemu": {"type": "qemu", "image": "tiny", "memory": "32MiB"},
        "lxc": {"type": "lxc", "memory": "96MiB"},
    },
}


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("described")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with editing(folder, SPEC) as edits:
        yield edits


@pytest.mark.parametrize("guest", ["qemu", "lxc"])
def test_a_description_changes_while_the_guest_runs(edits: Edits, guest: str) -> None:
    domain, uri = f"described-{guest}", f"{DRIVERS[guest].scheme}:///system"
    before = lives(domain)
    for text in ("The shop's <front> & back", "The shop", None):
        edits.guest(guest, description=text)
        assert why(edits.plan()[f"guest/{guest}"]) == {"description": ("spec", "live")}
        edits.up()  # and the next plan is empty
        assert edits.pending() == {}
        for flag in ("--live", "--config"):
            shown = virsh("desc", domain, flag, uri=uri).strip()
            assert shown == (text or "")
    assert lives(domain) == before, "it is the same run"

    virsh("desc", domain, "--live", "--config", "Somebody's words", uri=uri)
    assert edits.plan() == {}, "of what the spec doesn't say, others may say what they like"
    edits.guest(guest, description="The shop")
    edits.up()
    virsh("desc", domain, "--live", "--config", "Somebody's words", uri=uri)
    assert why(edits.plan()[f"guest/{guest}"]) == {"description": ("drift", "live")}
    edits.up()
    for flags in ((), ("--inactive",)):
        assert document(domain, *flags).findtext("description") == "The shop"
