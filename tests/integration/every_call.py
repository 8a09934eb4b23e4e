"""`up` and `down` interrupted at every call of theirs into libvirt, and then run again.

`toy` is libvirt's test driver, where a run costs little: killed before each call of all, those
that only read included. What a kill at a reading call leaves is compared with what is known to
converge, and only what differs is brought up again. `qemu` and `lxc` are real guests: killed after
each call that changes something, and before the first, which are all states of the host that a
kill can leave (see faultpoints.py).

A file for each type has these tests. It says TYPE; UP and DOWN, at which of their calls virtkit is
killed; DAEMON, what happens to libvirtd; and of each whether CI leaves it out.

In each world: the next `up` ends as an undisturbed one, `plan` is empty after it, no volume that a
record called made is another one, and `down` leaves nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from faultpoints import Do, Ended, Fault, changes, runner
from integration.lab import Lab, tiny_disk
from integration.stage import (
    Stage,
    Tally,
    Whole,
    converges,
    killed,
    libvirtd,
    loop,
    not_kept,
    start_libvirtd,
    told,
)

SPEC = """
name: cut
images: {cut: {path: cut.raw}}
networks: {front: {cidr: 10.94.9.0/24}}
defaults: {image: cut, type: TYPE, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 2MiB, mount: /srv, keep: true}], autostart: true}
"""
SPECS = {
    "toy": SPEC.replace("mount: /srv, ", ""),
    "qemu": SPEC,
    "lxc": SPEC.replace("images: {cut: {path: cut.raw}}\n", "")
    .replace("image: cut, ", "")
    .replace("32MiB", "128MiB"),
}
#: The pieces of an upload.
SENDS = {"virStreamSend", "virStreamSendHole"}
URIS = {"toy": "test+unix:///default", "qemu": "qemu:///system", "lxc": "lxc:///system"}
#: The calls of a run: all, the first of each function, those that change something.
PARTS: dict[str, Callable[[Fault], bool]] = {
    "all": lambda _: True,
    "first": lambda fault: fault.number == 1,
    "rest": lambda fault: fault.number > 1,
    "changing": lambda fault: changes(fault.name),
    "reading": lambda fault: not changes(fault.name),
}
#: Of every test here.
MARKS = [pytest.mark.slow, pytest.mark.timeout(1200)]


@contextmanager
def staged(folder: Path, type: str) -> Iterator[Stage]:
    """An environment of guests of one type, and nothing of it there."""
    lab = Lab(folder, "cut").write(SPECS[type].replace("TYPE", type))
    settings, toy = {}, None
    if type != "lxc":  # whose image was built before, and lies in the caller's own cache
        for name in ("cut.raw", "other.raw"):
            (folder / name).write_bytes(tiny_disk(os.urandom(64 * 1024)))
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


@pytest.fixture(scope="module")
def type(request: pytest.FixtureRequest) -> str:
    return str(request.module.TYPE)


@pytest.fixture(scope="module")
def stage(type: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp(type), type) as stage:
        yield stage


@pytest.fixture(scope="module")
def whole(stage: Stage, type: str) -> Whole:
    stage.up()  # what is made once only, as keys for ssh, is not of every run
    stage.run("down", "--volumes")
    stage.reset()
    count = Fault(changing=type != "toy")
    up = stage.run("up", fault=count)
    assert up.code == 0, str(up)
    stage.up()
    state = stage.state()
    assert not stage.planned()
    down = stage.run("down", fault=count)
    assert down.code == 0, str(down)
    stage.run("down", "--volumes")
    assert not stage.left()
    # a guest is forced off only where it did not hear in time
    heard = tuple(each for each in down.calls if type == "toy" or each != "virDomainDestroy")
    return Whole(state, up.calls, heard)


def points(type: str, calls: Sequence[str]) -> Iterator[Fault]:
    """Where virtkit is killed: at the k-th call of a function, for all calls of a whole run.

    By name, since steps that run at the same time take turns as they like.
    """
    toy = type == "toy"
    if not toy:
        yield Fault("kill", 1, name=calls[0], changing=True)
    count: Counter[str] = Counter()
    for index, name in enumerate(calls):
        count[name] += 1
        around = calls[max(index - 1, 0) : index + 2]
        if type == "lxc" and all(each in SENDS for each in around):
            continue  # of a long upload the first and the last pieces; the rest is for qemu
        side: Literal["before", "after"] = "before" if toy else "after"
        yield Fault("kill", count[name], side, changing=not toy, name=name)


def test_up(stage: Stage, type: str, whole: Whole, tally: Tally, part: str) -> None:
    known: list[Any] = []
    with loop(tally, "killed", "up", type, whole.up) as figures:
        for fault in points(type, whole.up):
            if not PARTS[part](fault):
                continue
            stage.reset()
            ended = killed(stage, "up", fault)
            figures.points += 1
            found = stage.state()
            if found not in known:
                converges(stage, whole, str(ended))
                known += [found] if type == "toy" else []
            figures.converged += 1


def test_undefined(stage: Stage, type: str, whole: Whole, tally: Tally, part: str) -> None:
    """Somebody undefines what the killed run left, and its volumes are still the guest's."""
    known: list[Any] = []
    with loop(tally, "killed, undefined", "up", type, whole.up) as figures:
        for fault in points(type, whole.up):
            if not PARTS[part](fault) or not changes(fault.name):
                continue
            stage.reset()
            ended = killed(stage, "up", fault)
            stage.undefine()
            figures.points += 1
            found = stage.state()
            if found not in known:
                stage.run("up")
                assert stage.state() == whole.state, str(ended)
                assert not stage.planned(), str(ended)
                stage.run("down", "--volumes")
                assert not stage.left(), str(ended)
                known += [found] if type == "toy" else []
            figures.converged += 1


def test_down(stage: Stage, type: str, whole: Whole, tally: Tally, part: str) -> None:
    """The kept disk is the same one through it all."""
    stage.reset()
    stage.up()
    known: list[Any] = [whole.state] if type == "toy" else []
    with (
        loop(tally, "killed", "down", type, whole.down) as figures,
        stage.holding(but=not_kept) as kept,
    ):
        assert kept == ["cut-a-data"]
        for fault in points(type, whole.down):
            if not PARTS[part](fault):
                continue
            ended = killed(stage, "down", fault)
            stage.settle(fault)
            figures.points += 1
            found = stage.state()
            if found not in known:
                stage.up()
                assert stage.state() == whole.state, str(ended)
                assert not stage.planned(), str(ended)
                killed(stage, "down", fault)
                stage.run("down")
                assert stage.left() == kept, str(ended)
                known += [found] if type == "toy" else []
            figures.converged += 1
            if stage.state() != whole.state:
                stage.up()
    stage.run("down", "--volumes")
    assert not stage.left()


# --- libvirtd -------------------------------------------------------------------------------


def daemon_points(type: str, calls: Sequence[str], everything: bool) -> Iterator[Fault]:
    """The calls at which something happens to libvirtd: without --everything, the first of each
    function that changes something; each takes seconds."""
    for fault in points(type, calls):
        if changes(fault.name) and (everything or fault.number == 1):
            yield fault


def parameters(late: Mapping[str, bool]) -> list[Any]:
    return [pytest.param(k, marks=[pytest.mark.long] if v else []) for k, v in late.items()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        module = metafunc.module
        late = module.DOWN if metafunc.function is test_down else module.UP
        metafunc.parametrize("part", parameters(late), scope="module")
    if "do" in metafunc.fixturenames:
        metafunc.parametrize("do", parameters(metafunc.module.DAEMON), scope="module")
        everything = bool(metafunc.config.getoption("--everything"))
        metafunc.parametrize("everything", [everything], ids=[""])


def struck(stage: Stage, verb: str, fault: Fault, do: Do) -> Ended:
    """A run during which that happens to libvirtd, which runs again afterwards."""
    ended = stage.run(verb, "--json", fault=replace(fault, do=do, pid=libvirtd()))
    if do == "end":
        start_libvirtd()
    assert len(ended.calls) >= fault.number, f"{fault} was not reached: {ended}"
    errors = told(ended)
    if do != "end":  # at the last call of all, an end is not noticed
        assert bool(errors) == (do == "freeze"), str(ended)
    return ended


WORDS = {"end": "libvirtd killed", "freeze": "libvirtd frozen", "pause": "libvirtd paused"}


def test_libvirtd(
    stage: Stage, type: str, whole: Whole, tally: Tally, do: Do, everything: bool
) -> None:
    """It is killed; stands still until virtkit has given up; or for a second, which is no harm."""
    with loop(tally, WORDS[do], "up", type, whole.up) as figures:
        for fault in daemon_points(type, whole.up, everything):
            stage.reset()
            ended = struck(stage, "up", fault, do)
            figures.points += 1
            converges(stage, whole, str(ended))
            figures.converged += 1


@pytest.mark.long  # what a `down` leaves is what kills of virtkit leave
def test_libvirtd_on_the_way_down(
    stage: Stage, type: str, whole: Whole, tally: Tally, do: Do, everything: bool
) -> None:
    """The next `down` leaves the kept disk and nothing else."""
    with loop(tally, WORDS[do], "down", type, whole.down) as figures:
        for fault in daemon_points(type, whole.down, everything):
            stage.reset()
            stage.up()
            with stage.holding(but=not_kept) as kept:
                ended = struck(stage, "down", fault, do)
                figures.points += 1
                stage.run("down")
                assert stage.left() == kept == ["cut-a-data"], str(ended)
            stage.run("down", "--volumes")
            assert not stage.left(), str(ended)
            figures.converged += 1
