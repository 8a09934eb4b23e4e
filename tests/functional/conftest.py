"""libvirt's own test driver, from a private node file: a libvirt without guests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from faultpoints import missing

from virtkit.drivers import QEMU
from virtkit.host import Host
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.xml import render, tree

NODE = """<node>
  <cpu><mhz>2000</mhz><model>any</model><active>6</active><nodes>1</nodes><sockets>1</sockets>
    <cores>3</cores><threads>2</threads></cpu>
  <memory>8388608</memory>
  {}
</node>
"""
POOL = "<pool type='dir'><name>default</name><target><path>/pool/</path></target></pool>"

#: The environment that `spec` is.
SPEC = "name: ending\nguests: {web: {type: qemu}}\n"

MakeHost = Callable[..., Host]


@pytest.fixture
def host_with(tmp_path: Path) -> MakeHost:
    """A host whose QEMU driver is the test driver with these objects; its LXC doesn't answer."""

    def make(*objects: str, pool: str = "default") -> Host:
        path = tmp_path / "node.xml"
        path.write_text(NODE.format("\n".join(objects)))
        uris = {"qemu": f"test://{path}", "lxc": f"test://{tmp_path}/none.xml"}
        return Host("local", pool, uris)

    return make


@pytest.fixture
def host(host_with: MakeHost) -> Host:
    """One with a pool and nothing else."""
    return host_with(POOL)


@pytest.fixture
def streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the test driver's volumes content."""
    (tmp_path / "volumes").mkdir()
    for name, function in missing(tmp_path / "volumes"):
        monkeypatch.setattr(libvirt.libvirtmod, name, function)


@pytest.fixture
def spec(host_with: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> Spec:
    """An environment with a guest that is off. This machine's libvirt is the test driver, where
    no guest ever answers."""
    host = host_with(POOL)
    (guest,) = samples.desired_of(SPEC).guests
    guest = samples.with_image(guest)
    body = render.domain_xml(guest)
    made = replace(record.of_guest(guest, "/ending.yaml", body).with_state("made"), finished=True)
    element = record_text.guest_element(made)
    host.domains.define(QEMU, tree.with_record(body, element), autostart=False)
    for volume in guest.volumes:
        host.storage.create(render.guest_volume_xml(volume))
    serve_qemu(host, monkeypatch)
    return read_text(SPEC, source="/ending.yaml", folder=Path("/"))


def serve_qemu(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has virtkit find a host's libvirt as this machine's for virtual machines, and no other."""
    libvirts = host.connections.get("qemu")

    def test_driver(uri: str) -> libvirt.virConnect:
        if not uri.startswith("qemu"):
            raise libvirt.libvirtError("nobody is there")
        return libvirts

    monkeypatch.setattr(libvirt, "open", test_driver)
