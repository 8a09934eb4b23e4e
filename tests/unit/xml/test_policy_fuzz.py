"""Whatever XML passes the policy names nothing of the host: told by an oracle of its own."""

from __future__ import annotations

import json
from dataclasses import replace

import hostile_xml
import samples
from hypothesis import HealthCheck, given, settings

from virtkit.errors import RequestError
from virtkit.state.desired import Guest
from virtkit.xml import render

GUEST = samples.guest_of(json.dumps({"name": "lab", "guests": {"web": {"type": "qemu"}}}))
OWN = {each.key for each in GUEST.volumes}
READ = {GUEST.files.root, GUEST.files.kernel, GUEST.files.initrd}
FRAME = (
    f"<domain type='qemu'><name>{GUEST.domain}</name><uuid>{GUEST.uuid}</uuid>"
    "<memory>65536</memory>{}</domain>"
)


def placed(xml: str) -> str:
    """With the guest's own files where the generator left room for them."""
    (root,) = (each.key for each in GUEST.volumes if each.role == "root")
    return xml.replace(hostile_xml.OWN, root).replace(hostile_xml.IMAGE, GUEST.files.root)


def with_devices(*xml: str) -> Guest:
    return replace(GUEST, spec=GUEST.spec.model_copy(update={"devices": xml}))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile_xml.devices)
def test_devices_that_pass_reach_nothing(xml: str) -> None:
    try:
        document = render.domain_xml(with_devices(placed(xml)))
    except RequestError:
        return
    assert hostile_xml.faults(document, OWN, READ) == [], xml


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(hostile_xml.beside, hostile_xml.devices)
def test_a_template_that_passes_reaches_nothing(beside: str, devices: str) -> None:
    own = FRAME.format(placed(f"{beside}<devices>{devices}</devices>"))
    try:
        document = render.domain_xml(GUEST, own)
    except RequestError:
        return
    assert hostile_xml.faults(document, OWN, READ) == [], own


def test_the_oracle_lets_pass_what_virtkit_renders_itself() -> None:
    assert hostile_xml.faults(render.domain_xml(GUEST), OWN, READ) == []
    assert hostile_xml.faults(render.domain_xml(GUEST), OWN - {GUEST.volumes[0].key}, READ) != []
