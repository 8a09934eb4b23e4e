"""`up` and `down` interrupted at every call of theirs into libvirt, and then run again.

`toy` is libvirt's test driver, where a run costs little: killed before each call of all, those that
only read included. What a kill at a reading call leaves is compared with what is known to converge,
and only what differs is brought up again. `qemu` and `lxc` are real guests: killed after each call that
changes something, and before the first, which are all states of the host that a kill can leave
(see faultpoints.py, which also says how calls are numbered).

In each world: the next `up` ends as an undisturbed one, `plan` is empty after it, no volume that a
record called made is another one, and `down` leaves nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from faultpoints import Ended, Fault, changes, runner
from integration.lab import Lab, tiny_disk
from integration.stage import Interrupted, Stage, libvirtd, start_libvirtd

SPEC = """
name: cut
images: {cut: {path: cut.raw}}
networks: {front: {cidr: 10.94.9.0/24}}
defaults: {image: cut, type: TYPE, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 2MiB, mount: /srv, keep: true}], autostart: true}
"""
SPECS = {
    "toy": SPEC.replace("mount: /srv, ", "") + "  b: {after: [a]}\n",
    "qemu": SPEC,
    "lxc": SPEC.replace("images: {cut: {path: cut.raw}}\n", "")
    .replace("image: cut, ", "")
    .replace("32MiB", "128MiB"),
}
URIS = {"toy": "test+unix:///default", "qemu": "qemu:///system", "lxc": "lxc:///system"}
TYPES = tuple(SPECS)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@contextmanager
def staged(folder: Path, type: str) -> Iterator[Stage]:
    """An environment of guests of one type, and nothing of it there."""
    lab = Lab(folder, "cut").write(SPECS[type].replace("TYPE", type))
    settings, toy = {}, None
    if type != "lxc":  # whose image was built before, and lies in the caller's own cache
        (folder / "cut.raw").write_bytes(tiny_disk(os.urandom(64 * 1024)))
        settings["XDG_CACHE_HOME"] = str(folder / "cache")
    if type == "toy":
        toy = folder / "volumes"
        toy.mkdir()
    with runner(settings, toy=toy) as forks:
        stage = Stage(lab, URIS[type], forks, *([toy] if toy else []), image=type != "lxc")
        held = stage.open()  # else the test driver forgets it all
        try:
            yield stage
        finally:
            start_libvirtd() if not held.isAlive() else None
            Stage(**vars(stage) | {"image": True}).reset()
            del held


@pytest.fixture(scope="module", params=TYPES)
def type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stage(type: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp(type), type) as stage:
        yield stage


@pytest.fixture(scope="module")
def whole(stage: Stage) -> Any:
    """The state after an `up` that nobody interrupted."""
    stage.run("up")
    answer = stage.state()
    assert not stage.planned()
    stage.run("down", "--volumes")
    assert not stage.left()
    return answer


@contextmanager
def loop(tally: list[Interrupted], fault: str, verb: str, type: str) -> Iterator[Interrupted]:
    """A loop whose figures are shown."""
    began = time.monotonic()
    figures = Interrupted(fault, verb, type, 0)
    tally.append(figures)
    try:
        yield figures
    finally:
        figures.seconds = time.monotonic() - began


def kills(type: str) -> Iterator[Fault]:
    """Where virtkit is killed, on and on: the loop ends where a run gets to its end."""
    if type == "toy":
        yield from (Fault("kill", number) for number in range(1, 9999))
    else:
        yield Fault("kill", 1, changing=True)
        yield from (Fault("kill", number, "after", changing=True) for number in range(1, 9999))


def disturbed(figures: Interrupted, ended: Ended) -> bool:
    """Whether a run was interrupted, and not at its end before that."""
    if not ended.killed:
        assert ended.code == 0, str(ended)
        figures.calls = len(ended.calls)
        return False
    figures.points += 1
    return True


def test_up(stage: Stage, type: str, whole: Any, tally: list[Interrupted]) -> None:
    known: list[Any] = []
    with loop(tally, "killed", "up", type) as figures:
        for fault in kills(type):
            stage.reset()
            ended = stage.run("up", fault=fault)
            if not disturbed(figures, ended):
                break
            found = stage.state()
            if found not in known:
                converges(stage, whole, str(ended))
                known.append(found)
            figures.converged += 1


def converges(stage: Stage, whole: Any, what: str) -> None:
    """Brings the rest up, and takes all of it down."""
    with stage.holding():
        stage.run("up")
        assert stage.state() == whole, what
        assert not stage.planned(), what
    stage.run("down", "--volumes")
    assert not stage.left(), what


def test_down(stage: Stage, type: str, whole: Any, tally: list[Interrupted]) -> None:
    """The kept disk is the same one through it all."""
    stage.reset()
    stage.run("up")
    known = [stage.state()]
    with loop(tally, "killed", "down", type) as figures, stage.holding(but=not_kept) as kept:
        assert kept == ["cut-a-data"]
        for fault in kills(type):
            ended = stage.run("down", fault=fault)
            if not disturbed(figures, ended):
                break
            found = stage.state()
            if found not in known:
                stage.run("up")
                assert stage.state() == whole, str(ended)
                assert not stage.planned(), str(ended)
                assert stage.run("down", fault=fault).killed
                stage.run("down")
                assert stage.left() == kept, str(ended)
                known.append(found)
            figures.converged += 1
            if found != whole:
                stage.run("up")
    stage.run("down", "--volumes")
    assert not stage.left()


def not_kept(name: str) -> bool:
    return not name.endswith("-data")
