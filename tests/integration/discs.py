"""Discs for the drives of guests."""

from __future__ import annotations

import io

import pycdlib
from integration.lab import tiny_disk


def disc(text: str, *, boots: bool = False) -> bytes:
    """A disc with a file ``text``; one that boots has the tests' own system on it."""
    iso = pycdlib.PyCdlib()
    iso.new(rock_ridge="1.09")
    data = text.encode()
    iso.add_fp(io.BytesIO(data), len(data), "/TEXT.;1", rr_name="text")
    if boots:
        sector = tiny_disk()[:2048]
        iso.add_fp(io.BytesIO(sector), len(sector), "/BOOT.;1", rr_name="boot")
        iso.add_eltorito("/BOOT.;1", bootcatfile="/CATALOG.;1", rr_bootcatname="catalog")
    answer = io.BytesIO()
    iso.write_fp(answer)
    iso.close()
    return answer.getvalue()
