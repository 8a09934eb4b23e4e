"""`up` that is killed, at many points, and then run again: it ends where it would have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from integration.lab import POOL, Lab, domains, laboratory, networks, tiny_disk, virsh
from lxml import etree

#: Where up is killed: a function of libvirt's, at which call of it, and on which side of it.
POINTS = (
    ("virStoragePool", "createXML", 1, "after"),  # the first record of the pool is empty
    ("virStorageVol", "upload", 2, "after"),  # the image's volume is
    ("virStream", "finish", 2, "before"),  # the image is there, and no record says so
    ("virConnect", "networkDefineXMLFlags", 1, "after"),
    ("virNetwork", "create", 1, "after"),
    ("virConnect", "defineXMLFlags", 1, "after"),
    ("virDomain", "setMetadata", 1, "after"),  # the host key is known, the seed isn't made
    ("virDomain", "setMetadata", 3, "before"),  # volumes are made, and no record says so
    ("virDomain", "create", 1, "before"),
    ("virDomain", "create", 2, "after"),
)
SPEC = """
name: cut
images: {cut: {path: cut.raw}}
networks: {front: {cidr: 10.94.9.0/24}}
defaults: {image: cut, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 2MiB, mount: /srv, keep: true}]}
  b: {after: [a], autostart: true}
"""
#: virtkit, in a process that kills itself at the n-th call of one of libvirt's functions.
KILLER = """
import os, signal, sys, threading
import libvirt
kind, name, count, when = sys.argv[1:5]
sys.argv[:] = ["virtkit", *sys.argv[5:]]
held = getattr(getattr(libvirt, kind), name)
lock = threading.Lock()
calls = 0
def counted(*arguments, **options):
    global calls
    with lock:
        calls += 1
        last = calls == int(count)
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = held(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer
setattr(getattr(libvirt, kind), name, counted)
from virtkit.cli import main
main()
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("cut")
    (folder / "cut.raw").write_bytes(tiny_disk(os.urandom(1024 * 1024)))
    with laboratory(folder, "cut", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


@pytest.fixture(autouse=True)
def nothing(lab: Lab) -> Iterator[None]:
    """Each test ends with nothing there, the image included."""
    yield
    lab.write(SPEC).virtkit("down", "--volumes")
    forget_image(lab)


def forget_image(lab: Lab) -> None:
    line = [lab.line("status")[0], "image", "rm", "cut"]
    subprocess.run(line, check=False, capture_output=True, env=os.environ | lab.settings)


def records() -> dict[str, Any]:
    """What the guests' records say, but for what is new in each life."""
    answer = {}
    for name in ("cut-a", "cut-b"):
        root = etree.fromstring(virsh("dumpxml", "--inactive", name))
        (element,) = root.iterfind("./metadata/{urn:virtkit:1}guest")
        answer[name] = json.loads(element.text or "") | {"host_key": ""}
    return answer


def state() -> Any:
    """All that up made, in a form that two runs share."""
    autostart = virsh("list", "--all", "--autostart", "--name").split()
    pool = sorted(path.name for path in POOL.iterdir() if "record" not in path.name)
    assert len(list(POOL.glob("virtkit-record-*"))) == 1
    return domains(), networks(), pool, autostart, records()


@pytest.fixture(scope="module")
def whole(lab: Lab) -> Any:
    """The state after an `up` that nobody interrupted."""
    assert lab.json("up")["ok"]
    answer = state()
    lab.virtkit("down", "--volumes")
    forget_image(lab)
    return answer


def killed(lab: Lab, kind: str, name: str, count: int, when: str) -> bool:
    """Whether `up` got as far as being killed there."""
    line = [sys.executable, "-c", KILLER, kind, name, str(count), when, "up", lab.spec]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), (done.stdout, done.stderr)
    return done.returncode != 0


@pytest.mark.parametrize(("kind", "name", "count", "when"), POINTS)
def test_up_goes_on_after_a_kill(
    lab: Lab, whole: Any, kind: str, name: str, count: int, when: str
) -> None:
    assert killed(lab, kind, name, count, when)
    if kind == "virNetwork":  # and down may come first
        lab.virtkit("down", "--volumes")
        assert not lab.left()
    again = lab.json("up")
    assert again["ok"]
    assert state() == whole
    lab.virtkit("plan", "--exit-code")
    lab.virtkit("down", "--volumes")
    assert not lab.left()


def test_a_disk_that_was_never_made_is_not_kept(lab: Lab) -> None:
    """It holds nobody's data yet, and no later run may take it for that."""
    assert killed(lab, "virDomain", "setMetadata", 3, "before")
    assert lab.json("down")["ok"]
    assert not lab.left()


def test_down_goes_on_after_a_kill(lab: Lab) -> None:
    lab.virtkit("up")
    for kind, name in (("virStorageVol", "delete"), ("virDomain", "undefineFlags")):
        line = [sys.executable, "-c", KILLER, kind, name, "1", "after", "down", lab.spec]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == -signal.SIGKILL, (done.stdout, done.stderr)
    assert lab.json("down")["ok"]
    assert lab.volumes() == {"a-data"}
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()
