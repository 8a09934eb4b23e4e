"""Disks as a guest sees them."""

from __future__ import annotations

import pytest

from virtkit.spec.model import Disk
from virtkit.state.volumes import DiskTarget, Volume


@pytest.mark.parametrize(
    ("target", "number"), [("vda", 0), ("vdb", 1), ("sdz", 25), ("vdaa", 26), ("vdba", 52)]
)
def test_the_place_of_a_target(target: str, number: int) -> None:
    volume = Volume("disk", "lab-web-data", "/pool/lab-web-data", 1, "raw", "blank")
    disk = DiskTarget(
        name="data",
        target=target,
        volume=volume,
        readonly=False,
        bus="virtio",
        options=Disk.model_construct(name="data"),
    )
    assert disk.number == number
