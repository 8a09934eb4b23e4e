"""libvirt's own test driver, from a private node file: a libvirt without guests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
from faultpoints import missing

from virtkit.host import Host

NODE = """<node>
  <cpu><mhz>2000</mhz><model>any</model><active>6</active><nodes>1</nodes><sockets>1</sockets>
    <cores>3</cores><threads>2</threads></cpu>
  <memory>8388608</memory>
  {}
</node>
"""
POOL = "<pool type='dir'><name>default</name><target><path>/pool/</path></target></pool>"

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
