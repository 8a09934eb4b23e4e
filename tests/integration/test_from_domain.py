"""`virtkit init --from-domain` over libvirt's QEMU and LXC drivers: domains as other tools make
them, with all that libvirt adds; and one of virtkit's own, described as its spec has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import samples
from lxml import etree

from virtkit import api
from virtkit.plan.resolve import resolve
from virtkit.spec import load, read_text
from virtkit.state.desired import Decided
from virtkit.xml import render

DOMAINS = sorted((Path(__file__).parents[1] / "domains").glob("*.xml"))
#: What this machine's libvirt has no driver or emulator for.
ELSEWHERE = ("aarch64", "xen-hvm", "xen-pv", "xen-pvh")
#: What libvirt adds to any domain: none of it is worth a word.
ADDED = ("<controller", "<address", "<alias", "<memballoon model='virtio'", "<audio", "isa-serial")
SPEC = """name: own
networks: {lan: {mode: bridge, bridge: br0}}
guests:
  web:
    type: qemu
    description: the shop's front
    cpus: 2
    memory: 512MiB
    max: {cpus: 4, memory: 1GiB}
    cpu: {model: Westmere, features: {aes: disable}, topology: {sockets: 1, cores: 2, threads: 2}}
    disk: {cache: none, io: native}
    networks: [{name: lan, mac: "52:54:00:00:00:42", model: e1000e}]
    image: mine
    graphics: {kind: spice, video: qxl, tablet: true}
    sound: true
    autostart: true
images: {mine: {path: disk.qcow2}}
"""


def virsh(uri: str, *words: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    "path", [e for e in DOMAINS if e.stem not in ELSEWHERE], ids=lambda path: path.stem
)
def test_a_domain_of_another_tool_has_a_spec(path: Path, tmp_path: Path) -> None:
    root = etree.parse(path).getroot()
    if root.get("type") == "kvm":
        root.set("type", "qemu")  # defined where KVM is not, too
    for element in root.iterfind("devices/emulator"):
        root.find("devices").remove(element)
    uri = "lxc:///system" if root.get("type") == "lxc" else "qemu:///system"
    xml = tmp_path / "domain.xml"
    xml.write_bytes(etree.tostring(root))
    name = root.findtext("name") or ""
    virsh(uri, "define", "--validate", str(xml))
    try:
        before = virsh(uri, "dumpxml", "--inactive", name)
        text = api.describe_domain(name)
        assert virsh(uri, "dumpxml", "--inactive", name) == before
    finally:
        virsh(uri, "undefine", name, *(["--nvram"] if "qemu" in uri else []))
    written = tmp_path / "virtkit.yaml"
    written.write_text(text)
    spec = load(written)
    spec.check_references()
    (guest,) = spec.guests.values()
    assert guest.type == ("lxc" if "lxc" in uri else "qemu")
    given = {str(each.get("address")) for each in root.iterfind("devices/interface/mac")}
    assert {each.mac for each in guest.networks or ()} <= given
    if path.stem == "virt-install":
        untold = text.partition("not said:")[2]
        assert [each for each in ADDED if each in untold] == []


def test_a_guest_of_virtkits_own_describes_itself_as_its_spec_does(tmp_path: Path) -> None:
    wanted = read_text(SPEC, source="own.yaml", folder=tmp_path)
    (guest,) = resolve(wanted, samples.facts_of({}), Decided()).guests
    xml = tmp_path / "domain.xml"
    xml.write_text(render.domain_xml(samples.with_image(guest)))
    virsh("qemu:///system", "define", "--validate", str(xml))
    try:
        virsh("qemu:///system", "autostart", "own-web")
        text = api.describe_domain("own-web", "qemu:///system")
    finally:
        virsh("qemu:///system", "undefine", "own-web")
    (seen,) = read_text(text, source="virtkit.yaml", folder=tmp_path).guests.values()
    asked = wanted.guests["web"].requested
    for key in ("type", "description", "cpus", "memory", "max", "cpu", "graphics", "sound"):
        assert seen.requested[key] == asked[key], key
    assert seen.autostart
    assert seen.networks is not None
    assert seen.networks[0].mac == "52:54:00:00:00:42"
    assert seen.networks[0].model == "e1000e"
    assert (seen.disk.cache, seen.disk.io) == ("none", "native")
