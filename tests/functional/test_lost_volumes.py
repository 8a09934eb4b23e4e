"""What doctor tells to do for a volume that is gone: as it is obeyed, no other volume is touched.

Against libvirt's test driver.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from functional.conftest import POOL, serve_qemu

from virtkit import api
from virtkit.api.doctor import _volumes as volume_checks
from virtkit.apply import Context, StepOptions
from virtkit.apply.guest.steps import GuestSteps
from virtkit.cli import commands
from virtkit.drivers import QEMU
from virtkit.host import Host
from virtkit.plan import Change
from virtkit.state import record, record_text
from virtkit.xml import render, tree

pytestmark = pytest.mark.usefixtures("streams")

SPEC = """name: lost
guests:
  web:
    type: qemu
    networks: []
    ready: none
    ssh_keys: []
    kernel: {path: vmlinuz, initrd: initrd}
    disks: [{name: data, size: 1GiB}, {name: more, size: 1GiB}]
"""
NAMES = [f"lost-web-{each}" for each in ("root", "data", "more", "seed", "kernel", "initrd")]
ROLES = ["root", "data", "seed", "kernel", "initrd"]
#: What costs data says so, and wants consent.
CONSENT = {"root", "data"}
#: A kernel's first bytes, and an initrd's.
FILES = {"vmlinuz": bytes(0x202) + b"HdrS" + bytes(100), "initrd": b"070701" + bytes(100)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "lost.yaml").write_text(SPEC)
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path / "lost.yaml"


@pytest.fixture
def host(
    host_with: Callable[..., Host], path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Host:
    """One whose guest is made and off; each of its volumes has its name in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    host = host_with(POOL)
    guest = samples.with_image(samples.guest_of(SPEC))
    guest = replace(guest, folder="/pool", source_folder=str(path.parent))
    body = render.domain_xml(guest)
    made = replace(record.of_guest(guest, str(path), body).with_state("made"), finished=True)
    host.domains.define(
        QEMU, tree.with_record(body, record_text.guest_element(made)), autostart=False
    )
    for volume in guest.volumes:
        host.storage.create(render.guest_volume_xml(volume))
        host.storage.write(volume.name, volume.name.encode())
    images = samples.images_of([guest])
    for image in images.values():
        for key in filter(None, (image.files.root, image.files.kernel, image.files.initrd)):
            host.storage.create(render.volume_xml(Path(key).name, 2 * samples.GIB, "raw"))
    host.storage.write_record(record.PoolRecord(images))
    serve_qemu(host, monkeypatch)
    obey(f"virtkit up {path}")  # it has nothing left to change, and runs
    mark(host, *NAMES)
    return host


def mark(host: Host, *names: str) -> None:
    """Writes its name into each volume."""
    for name in names:
        host.storage.write(name, name.encode())


def marked(host: Host) -> set[str]:
    """The guest's volumes that are as they were marked."""
    return {each for each in NAMES if host.storage.read(each).startswith(each.encode())}


def run_of(host: Host) -> int:
    """libvirt's id of the running guest, another one after each start."""
    return int(host.connections.get("qemu").lookupByName("lost-web").ID())


def obey(cure: str) -> None:
    """Carries out the last command of a cure."""
    command = re.findall(r"virtkit (up \S+[^;]*?)(?= recreates| makes|$)", cure)[-1]
    with suppress(SystemExit):
        commands.run(shlex.split(command))


def checks(host: Host, path: Path) -> dict[str, str]:
    """The cures of what is wrong, by what is."""
    found = volume_checks(host, host.observe(), api.read(path))
    return {each.what: each.cure for each in found if each.ok is False}


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("lost", ROLES)
def test_a_lost_volume_comes_back_and_the_disks_stay(
    lost: str, state: str, host: Host, path: Path
) -> None:
    if state == "stopped":
        host.connections.get("qemu").lookupByName("lost-web").destroy()
    run = run_of(host)
    name = f"lost-web-{lost}"
    host.storage.delete(f"/pool/{name}")
    ((what, cure),) = checks(host, path).items()
    assert what == f"its volume {name} is gone"
    assert ("--yes" in cure) == (lost in CONSENT)
    assert ("copy out" in cure) == (lost in CONSENT and state == "running")
    assert "down" not in cure
    obey(cure)
    assert host.observe().guests["lost-web"].state == "running"
    assert (run_of(host) == run) == (state == "running" and lost not in CONSENT), "it is restarted"
    assert checks(host, path) == {}
    assert api.plan(api.read(path)).changes == ()
    assert api.plan(api.read(path)).pending == ()
    assert name in host.storage.names()
    untouched = {f"lost-web-{each}" for each in ("root", "data", "more")} - {name}
    assert untouched <= marked(host)


def test_a_kept_disk_that_the_next_guest_would_take(host: Host, path: Path) -> None:
    path.write_text(SPEC.replace("1GiB}", "1GiB, keep: true}"))
    obey(f"virtkit up {path}")
    remove_all_but_kept(host)
    mark(host, "lost-web-more")
    host.storage.delete("/pool/lost-web-data")
    ((what, cure),) = checks(host, path).items()
    assert what == "it was kept for guest web and is gone"
    obey(cure)
    assert "lost-web-data" in host.storage.names()
    assert "lost-web-more" in marked(host)
    assert checks(host, path) == {}


def test_a_guest_that_can_not_start_without_a_disk(host: Host, path: Path) -> None:
    """What starts it does not know which one is gone; doctor does."""
    (guest,) = samples.desired_of(SPEC).guests
    change = Change("guest/web", "local", "start", desired=guest)
    context = Context(host, StepOptions(spec=str(path), folder=path.parent))
    cure = GuestSteps(context, change)._image_cure()
    assert f"own is gone: virtkit doctor {path} says" in cure


def remove_all_but_kept(host: Host) -> None:
    """As `down` does, which the test driver can't: it does not know our flags of undefine."""
    domain = host.connections.get("qemu").lookupByName("lost-web")
    domain.destroy()
    domain.undefine()
    before = host.storage.record()
    host.storage.write_record(replace(before, guests={}))
    for name in {*NAMES, "lost-web-console"} - {*before.kept}:
        host.storage.delete(f"/pool/{name}")
