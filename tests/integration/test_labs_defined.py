"""examples/labs, tests/cases/labs and docs/coming-from.md: libvirt defines each of their guests and
networks, checked against its schema. Xen's guests: tests/functional, as there is no Xen here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import labs
import pytest
import samples

from virtkit.host import schemas
from virtkit.plan.resolve import resolve
from virtkit.spec import Spec, read_text
from virtkit.state.desired import Decided
from virtkit.xml import render

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/coming-from.md").read_text()
LABS = [each for each in (*labs.EXAMPLES, *labs.OTHERS) if "type: xen" not in each.read_text()]
OURS: list[str] = re.findall(r"```yaml\n(name:.*?)```", PAGE, re.DOTALL)


def virsh(uri: str, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def define(spec: Spec, tmp_path: Path) -> None:
    """Has libvirt define all of a spec's objects, and forget them again."""
    desired = resolve(spec, samples.facts_of({}), Decided())
    assert desired.refused == {}
    path = tmp_path / "object.xml"
    networks = [(each.libvirt_name, render.network_xml(each)) for each in desired.networks]
    ours = [each for each in desired.guests if each.needs_libvirt <= schemas.version()]
    guests = [(each, render.domain_xml(samples.with_image(each))) for each in ours]
    assert guests
    for name, xml in networks:
        path.write_text(xml)
        virsh("qemu:///system", "net-define", "--validate", str(path))
        virsh("qemu:///system", "net-undefine", name)
    for guest, xml in guests:
        uri = f"{guest.driver.scheme}:///system"
        path.write_text(xml)
        virsh(uri, "define", "--validate", str(path))
        assert guest.domain in virsh(uri, "list", "--all", "--name").split()
        virsh(uri, "undefine", guest.domain, *(["--nvram"] if "nvram" in xml else []))


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_libvirt_defines_a_lab(path: Path, tmp_path: Path) -> None:
    define(labs.read(path, tmp_path), tmp_path)


@pytest.mark.parametrize("text", OURS, ids=lambda text: text.split()[1])
def test_libvirt_defines_what_the_page_shows(text: str, tmp_path: Path) -> None:
    define(read_text(text, source="lab.yaml", folder=tmp_path), tmp_path)
