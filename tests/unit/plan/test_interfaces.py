"""Where what a spec says of networks is."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.plan.interfaces import served_folder


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        (None, ""),
        ("./pxe", "/labs/one/pxe"),
        ("../pxe", "/labs/pxe"),
        ("/srv/pxe", "/srv/pxe"),
        ("~/pxe", str(Path.home() / "pxe")),
    ],
)
def test_a_folder_that_a_network_serves(path: str | None, folder: str) -> None:
    assert served_folder(path, "/labs/one") == folder
