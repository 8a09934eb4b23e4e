"""`up` that is interrupted by its user, or by another `up`; killed: see every_call.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faultpoints import Fault, runner
from integration.lab import URIS, Lab, laboratory, tiny_disk, virsh

SPEC = """
name: halt
images: {halt: {path: halt.raw}}
networks: {front: {cidr: 10.94.9.0/24}}
defaults: {image: halt, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 2MiB, mount: /srv, keep: true}]}
  b: {after: [a], autostart: true}
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("halt")
    (folder / "halt.raw").write_bytes(tiny_disk(os.urandom(1024 * 1024)))
    with laboratory(folder, "halt", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


@pytest.fixture(autouse=True)
def nothing(lab: Lab) -> Iterator[None]:
    """Each test ends with nothing there, the image included."""
    yield
    lab.write(SPEC).virtkit("down", "--volumes")
    forget_image(lab)


def forget_image(lab: Lab) -> None:
    line = [lab.line("status")[0], "image", "rm", "halt"]
    subprocess.run(line, check=False, capture_output=True, env=os.environ | lab.settings)


def test_a_disk_that_was_never_made_is_not_kept(lab: Lab) -> None:
    """It holds nobody's data yet, and no later run may take it for that."""
    fault = Fault("kill", 2, name="virDomainSetMetadata")  # the first says the host key
    with runner(lab.settings) as forks:
        assert forks.run("up", lab.spec, "--parallel", "1", fault=fault).killed
    assert lab.json("down")["ok"]
    assert not lab.left()


def test_down_goes_on_after_a_kill(lab: Lab) -> None:
    lab.virtkit("up")
    with runner(lab.settings) as forks:
        for name in ("virStorageVolDelete", "virDomainUndefineFlags"):
            fault = Fault("kill", 1, name=name, side="after")
            assert forks.run("down", lab.spec, "--parallel", "1", fault=fault).killed
    assert lab.json("down")["ok"]
    assert lab.volumes() == {"a-data"}
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()


def test_down_takes_both_domains_of_a_change_of_type_that_was_killed(tmp_path: Path) -> None:
    """The new one stands, the old one still does, and its libvirt has several types of ours."""
    text = "defaults: {memory: 128MiB, ready: none}\nguests: {a: {type: TYPE}}\n"
    with laboratory(tmp_path, "types", text.replace("TYPE", "lxc")) as lab:
        lab.virtkit("up")
        lab.write(text.replace("TYPE", "qemu"))
        with runner(lab.settings) as forks:
            fault = Fault("kill", 1, name="virDomainUndefine")
            assert forks.run("up", lab.spec, "--yes", fault=fault).killed
        assert all("types-a" in virsh("list", "--all", "--name", uri=uri) for uri in URIS)
        assert lab.json("down")["ok"]
        assert not lab.left()
