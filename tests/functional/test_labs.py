"""examples/labs, tests/cases/labs and docs/coming-from.md: libvirt's test driver defines each of
their guests and networks, checked against libvirt's schema. tests/integration/test_labs_defined.py
asks QEMU's and LXC's drivers."""

from __future__ import annotations

import re
from pathlib import Path

import labs
import libvirt
import pytest
import samples

from virtkit.host import Host
from virtkit.plan.resolve import resolve
from virtkit.spec import Spec, read_text
from virtkit.state.desired import Decided
from virtkit.xml import render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from.md").read_text()
OURS: list[str] = re.findall(r"```yaml\n(name:.*?)```", PAGE, re.DOTALL)


def define(spec: Spec, host: Host) -> None:
    """Has libvirt define all of a spec's objects."""
    connection = host.connections.get("qemu")
    desired = resolve(spec, labs.HOST, Decided())
    assert desired.refused == {}
    for network in desired.networks:
        xml = render.network_xml(network)
        connection.networkDefineXMLFlags(xml, libvirt.VIR_NETWORK_DEFINE_VALIDATE)
    guests = [e for e in desired.guests if e.needs_libvirt <= connection.getLibVersion()]
    for guest in map(samples.with_image, guests):
        connection.defineXMLFlags(render.domain_xml(guest), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    names = {each.name() for each in connection.listAllDomains()}
    assert names == {each.domain for each in guests} != set()


@pytest.mark.parametrize("path", [*labs.EXAMPLES, *labs.OTHERS], ids=lambda path: path.stem)
def test_libvirt_defines_a_lab(path: Path, host: Host, tmp_path: Path) -> None:
    define(labs.read(path, tmp_path), host)


@pytest.mark.parametrize("text", OURS, ids=lambda text: text.split()[1])
def test_libvirt_defines_what_the_page_shows(text: str, host: Host, tmp_path: Path) -> None:
    define(read_text(text, source="lab.yaml", folder=tmp_path), host)
