"""Checks documents against the calling machine's libvirt schemas, before anything is touched."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

from lxml import etree

from virtkit.errors import RequestError

#: Where libvirt installs its RelaxNG schemas.
FOLDER = Path("/usr/share/libvirt/schemas")


def check(kind: Literal["domain", "network"], xml: str, what: str, where: str = "") -> None:
    """Raises RequestError where ``xml`` isn't what libvirt's schema for ``kind`` allows.

    Without schemas on this machine libvirt's own check at define time has to do.
    """
    schema = _schema(kind)
    if schema is None or schema.validate(etree.fromstring(xml)):
        return
    errors = [f"line {each.line}: {each.message}" for each in schema.error_log]
    raise RequestError(
        f"{what}: libvirt's schema does not allow this XML",
        why="; ".join(errors[-3:]),
        cure="look at it with `virtkit render`; mend `devices`, `template` or the value named",
        where=where,
    )


@functools.cache
def _schema(kind: str) -> etree.RelaxNG | None:
    path = FOLDER / f"{kind}.rng"
    return etree.RelaxNG(etree.parse(str(path))) if path.is_file() else None
