"""`up` and `down` interrupted at every call of theirs into libvirt, and then run again.

`toy` is libvirt's test driver, where a run costs little: killed before each call of all, those
that only read included. What a kill at a reading call leaves is compared with what is known to
converge, and only what differs is brought up again. `qemu` and `lxc` are real guests: killed after
each call that changes something, and before the first, which are all states of the host that a
kill can leave (see faultpoints.py).

A file for each type has these tests. It says TYPE; UP and DOWN, at which of their calls virtkit is
killed; UNDEFINED, where that is not UP; DAEMON, what happens to libvirtd; and of each whether CI
leaves it out.

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
from integration.fault_lab import (
    FaultLab,
    Reference,
    Tally,
    converges,
    killed,
    libvirtd,
    loop,
    not_kept,
    reported_errors,
    start_libvirtd,
)
from integration.lab import Lab, tiny_disk

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
def opened_fault_lab(folder: Path, type: str) -> Iterator[FaultLab]:
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
        fault_lab = FaultLab(lab, URIS[type], forks, *([toy] if toy else []), image=type != "lxc")
        held = fault_lab.open()  # else the test driver forgets it all
        try:
            yield fault_lab
        finally:
            start_libvirtd() if not held.isAlive() else None
            FaultLab(**vars(fault_lab) | {"image": True}).reset()
            del held


@pytest.fixture(scope="module")
def type(request: pytest.FixtureRequest) -> str:
    return str(request.module.TYPE)


@pytest.fixture(scope="module")
def fault_lab(type: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with opened_fault_lab(tmp_path_factory.mktemp(type), type) as fault_lab:
        yield fault_lab


@pytest.fixture(scope="module")
def reference(fault_lab: FaultLab, type: str) -> Reference:
    fault_lab.up()  # what is made once only, as keys for ssh, is not of every run
    fault_lab.run("down", "--volumes")
    fault_lab.reset()
    count = Fault(changing=type != "toy")
    up = fault_lab.run("up", fault=count)
    assert up.code == 0, str(up)
    fault_lab.up()
    state = fault_lab.state()
    assert not fault_lab.planned()
    down = fault_lab.run("down", fault=count)
    assert down.code == 0, str(down)
    fault_lab.run("down", "--volumes")
    assert not fault_lab.left()
    # a guest is forced off only where it did not hear in time
    heard = tuple(each for each in down.calls if type == "toy" or each != "virDomainDestroy")
    return Reference(state, up.calls, heard)


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


def test_up(fault_lab: FaultLab, type: str, reference: Reference, tally: Tally, part: str) -> None:
    known: list[Any] = []
    with loop(tally, "killed", "up", type, reference.up) as figures:
        for fault in points(type, reference.up):
            if not PARTS[part](fault):
                continue
            fault_lab.reset()
            ended = killed(fault_lab, "up", fault)
            figures.points += 1
            found = fault_lab.state()
            if found not in known:
                converges(fault_lab, reference, str(ended))
                known += [found] if type == "toy" else []
            figures.converged += 1


def test_undefined(
    fault_lab: FaultLab, type: str, reference: Reference, tally: Tally, part: str
) -> None:
    """Somebody undefines what the killed run left, and its volumes are still the guest's."""
    known: list[Any] = []
    with loop(tally, "killed, undefined", "up", type, reference.up) as figures:
        for fault in points(type, reference.up):
            if not PARTS[part](fault) or not changes(fault.name):
                continue
            fault_lab.reset()
            ended = killed(fault_lab, "up", fault)
            fault_lab.undefine()
            figures.points += 1
            found = fault_lab.state()
            if found not in known:
                fault_lab.run("up")
                assert fault_lab.state() == reference.state, str(ended)
                assert not fault_lab.planned(), str(ended)
                fault_lab.run("down", "--volumes")
                assert not fault_lab.left(), str(ended)
                known += [found] if type == "toy" else []
            figures.converged += 1


def test_down(
    fault_lab: FaultLab, type: str, reference: Reference, tally: Tally, part: str
) -> None:
    """The kept disk is the same one through it all."""
    fault_lab.reset()
    fault_lab.up()
    known: list[Any] = [reference.state] if type == "toy" else []
    with (
        loop(tally, "killed", "down", type, reference.down) as figures,
        fault_lab.holding(but=not_kept) as kept,
    ):
        assert kept == ["cut-a-data"]
        for fault in points(type, reference.down):
            if not PARTS[part](fault):
                continue
            ended = killed(fault_lab, "down", fault)
            fault_lab.settle(fault)
            figures.points += 1
            found = fault_lab.state()
            if found not in known:
                fault_lab.up()
                assert fault_lab.state() == reference.state, str(ended)
                assert not fault_lab.planned(), str(ended)
                killed(fault_lab, "down", fault)
                fault_lab.run("down")
                assert fault_lab.left() == kept, str(ended)
                known += [found] if type == "toy" else []
            figures.converged += 1
            if fault_lab.state() != reference.state:
                fault_lab.up()
    fault_lab.run("down", "--volumes")
    assert not fault_lab.left()


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
        if metafunc.function is test_undefined:
            late = getattr(module, "UNDEFINED", late)
        metafunc.parametrize("part", parameters(late), scope="module")
    if "do" in metafunc.fixturenames:
        metafunc.parametrize("do", parameters(metafunc.module.DAEMON), scope="module")
        everything = bool(metafunc.config.getoption("--everything"))
        metafunc.parametrize("everything", [everything], ids=[""])


def struck(fault_lab: FaultLab, verb: str, fault: Fault, do: Do) -> Ended:
    """A run during which that happens to libvirtd, which runs again afterwards."""
    ended = fault_lab.run(verb, "--json", fault=replace(fault, do=do, pid=libvirtd()))
    if do == "end":
        start_libvirtd()
    assert len(ended.calls) >= fault.number, f"{fault} was not reached: {ended}"
    errors = reported_errors(ended)
    if do != "end":  # at the last call of all, an end is not noticed
        assert bool(errors) == (do == "freeze"), str(ended)
    return ended


WORDS = {"end": "libvirtd killed", "freeze": "libvirtd frozen", "pause": "libvirtd paused"}


def test_libvirtd(
    fault_lab: FaultLab, type: str, reference: Reference, tally: Tally, do: Do, everything: bool
) -> None:
    """It is killed; stands still until virtkit has given up; or for a second, which is no harm."""
    with loop(tally, WORDS[do], "up", type, reference.up) as figures:
        for fault in daemon_points(type, reference.up, everything):
            fault_lab.reset()
            ended = struck(fault_lab, "up", fault, do)
            figures.points += 1
            converges(fault_lab, reference, str(ended))
            figures.converged += 1


@pytest.mark.long  # what a `down` leaves is what kills of virtkit leave
def test_libvirtd_on_the_way_down(
    fault_lab: FaultLab, type: str, reference: Reference, tally: Tally, do: Do, everything: bool
) -> None:
    """The next `down` leaves the kept disk and nothing else."""
    with loop(tally, WORDS[do], "down", type, reference.down) as figures:
        for fault in daemon_points(type, reference.down, everything):
            fault_lab.reset()
            fault_lab.up()
            with fault_lab.holding(but=not_kept) as kept:
                ended = struck(fault_lab, "down", fault, do)
                figures.points += 1
                fault_lab.run("down")
                assert fault_lab.left() == kept == ["cut-a-data"], str(ended)
            fault_lab.run("down", "--volumes")
            assert not fault_lab.left(), str(ended)
            figures.converged += 1
