"""`up` and `down` of a guest on a Xen host, interrupted at calls into libvirt, and then run again.

As every_call.py, over ssh: virtkit killed after each call that changes something, and before
the first; the connection to the host cut; its libvirtd killed. Without --everything only at the
first call of each function. The guest is a page of code that hears when it is asked to stop. Its
network is the host's bridge: libvirt's own, interrupted there, takes an emulated host ten seconds.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import libvirt
import pytest
from faultpoints import Ended, Fault, runner
from integration.fault_lab import (
    FaultLab,
    Reference,
    Tally,
    converges,
    killed,
    loop,
    not_kept,
    reported_errors,
)
from integration.lab import POOL, Lab, tiny_disk, until
from integration.xen import remote
from integration.xen_tiny import tiny_kernel
from xenhost.xenhost import XenHost

from virtkit.host import Remote

SPEC = """
images: {cut: {path: cut.raw}}
networks: {front: {mode: bridge, bridge: xenbr0, cidr: 10.0.2.0/24, gateway: 10.0.2.2}}
defaults: {image: cut, type: xen-pv, memory: 16MiB, ready: none, networks: [front]}
guests:
  a:
    kernel: {path: tiny.elf}
    disks: [{name: data, size: 2MiB, mount: /srv, keep: true}]
    autostart: true
"""
KEPT = ["cut-a-data"]
SENDS = {"virStreamSend", "virStreamSendHole"}

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@dataclass
class XenFaultLab(FaultLab):
    """A FaultLab whose host is another machine. ``way``: how the test itself gets there."""

    way: Remote = None  # type: ignore[assignment]  # it has no default, but others before it do
    opened: list[libvirt.virConnect] = field(default_factory=list)

    def up(self) -> None:
        self.run("up")

    def settle(self, fault: Fault) -> None:
        if (fault.name, fault.side) == ("virDomainShutdownFlags", "after"):
            until(lambda: not any(d.isActive() for d in self._domains(self.open())), 20, 0.2)

    def open(self) -> libvirt.virConnect:
        """One connection for all, as long as it holds."""
        with suppress(libvirt.libvirtError):
            for each in self.opened:
                each.getLibVersion()
                return each
        self.way.connect()
        self.opened[:] = [libvirt.open(self.way.uri("xen"))]
        return self.opened[0]

    def _read(self, name: str) -> str:
        return self.way.run(f"cat {POOL}/{name}").decode()

    @contextmanager
    def holding(self, *, but: Callable[[str], bool] = lambda _: False) -> Iterator[list[str]]:
        names = self._kept(but)
        before = self._files()
        yield names
        after = self._files()
        for name in names:
            assert after.get(name) == before[name], f"{name} was made again"

    def _files(self) -> dict[str, tuple[str, str]]:
        """Inode and birth of each file: only together are they one file's only."""
        look = f"cd {POOL} && find . -type f -exec stat -c '%n %i %w' {{}} +"
        lines = self.way.run(look).decode().splitlines()
        found = (each.removeprefix("./").split(" ", 2) for each in lines)
        return {name: (inode, birth) for name, inode, birth in found}


@pytest.fixture(scope="module")
def fault_lab(xen: XenHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[XenFaultLab]:
    folder = tmp_path_factory.mktemp("xencut")
    lab = Lab(folder, "cut").write(xen.spec + SPEC)
    (folder / "cut.raw").write_bytes(tiny_disk(os.urandom(64 * 1024)))
    (folder / "tiny.elf").write_bytes(tiny_kernel())
    with runner({"XDG_CACHE_HOME": str(folder / "cache")}) as forks:
        yield XenFaultLab(lab, "xen:///system", forks, way=remote(xen))


@pytest.fixture(scope="module")
def reference(fault_lab: XenFaultLab) -> Reference:
    fault_lab.reset()
    fault_lab.up()
    fault_lab.run("down", "--volumes")
    fault_lab.reset()
    up = fault_lab.run("up", fault=Fault(changing=True))
    assert up.code == 0, str(up)
    assert not fault_lab.planned()
    state = fault_lab.state()
    down = fault_lab.run("down", fault=Fault(changing=True))
    assert down.code == 0, str(down)
    assert "virDomainDestroy" not in down.calls  # it heard
    fault_lab.run("down", "--volumes")
    assert not fault_lab.left()
    return Reference(state, up.calls, down.calls)


@pytest.fixture(scope="module")
def everything(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--everything"))


def points(calls: Sequence[str], everything: bool) -> Iterator[Fault]:
    """Where virtkit is killed: at the k-th call of a function, for all calls of a whole run."""
    yield Fault("kill", 1, name=calls[0], changing=True)
    count: Counter[str] = Counter()
    for index, name in enumerate(calls):
        count[name] += 1
        around = calls[max(index - 1, 0) : index + 2]
        if all(each in SENDS for each in around) or (count[name] > 1 and not everything):
            continue
        yield Fault("kill", count[name], "after", changing=True, name=name)


def test_up(fault_lab: XenFaultLab, reference: Reference, tally: Tally, everything: bool) -> None:
    with loop(tally, "killed", "up", "xen-pv", reference.up) as figures:
        for fault in points(reference.up, everything):
            fault_lab.reset()
            ended = killed(fault_lab, "up", fault)
            figures.points += 1
            converges(fault_lab, reference, str(ended))
            figures.converged += 1


def test_down(fault_lab: XenFaultLab, reference: Reference, tally: Tally, everything: bool) -> None:
    """The kept disk is the same one through it all."""
    fault_lab.reset()
    fault_lab.up()
    with (
        loop(tally, "killed", "down", "xen-pv", reference.down) as figures,
        fault_lab.holding(but=not_kept) as kept,
    ):
        assert kept == KEPT
        for fault in points(reference.down, everything):
            ended = killed(fault_lab, "down", fault)
            fault_lab.settle(fault)
            figures.points += 1
            fault_lab.up()
            assert fault_lab.state() == reference.state, str(ended)
            assert not fault_lab.planned(), str(ended)
            killed(fault_lab, "down", fault)
            fault_lab.run("down")
            assert fault_lab.left() == kept, str(ended)
            figures.converged += 1
            fault_lab.up()
    fault_lab.run("down", "--volumes")
    assert not fault_lab.left()


# --- the way there, and libvirtd ------------------------------------------------------------


def cut(way: Remote) -> str:
    """Ends the process that has the connection, for virtkit and for this test."""
    check = shlex.join([str(way.ssh_program()), "-O", "check", way.address])
    return f"kill -9 $({check} 2>&1 | tr -dc 0-9)"


def end_libvirtd(way: Remote) -> str:
    return shlex.join(way.command_line("kill -9 $(pidof libvirtd)"))


#: What happens, and what somebody has to do on the host before virtkit can go on.
FAULTS: dict[str, tuple[Callable[[Remote], str], str]] = {
    "connection cut": (cut, "true"),
    "libvirtd killed": (end_libvirtd, "libvirtd -d -l"),
}


def struck(fault_lab: XenFaultLab, verb: str, calls: Sequence[str], fault: str) -> Ended:
    """A run to which that happened in the middle."""
    does, mended = FAULTS[fault]
    number = len(calls) // 2
    at = Fault("command", number, "after", changing=True, command=does(fault_lab.way))
    ended = fault_lab.run(verb, "--json", fault=at)
    fault_lab.way.run(mended)
    assert reported_errors(ended), str(ended)
    return ended


@pytest.mark.parametrize("fault", FAULTS)
def test_the_host_goes_away(
    fault_lab: XenFaultLab, reference: Reference, tally: Tally, fault: str
) -> None:
    with loop(tally, fault, "up", "xen-pv", reference.up) as figures:
        fault_lab.reset()
        ended = struck(fault_lab, "up", reference.up, fault)
        figures.points += 1
        converges(fault_lab, reference, str(ended))
        figures.converged += 1
    with loop(tally, fault, "down", "xen-pv", reference.down) as figures:
        fault_lab.up()
        with fault_lab.holding(but=not_kept) as kept:
            ended = struck(fault_lab, "down", reference.down, fault)
            figures.points += 1
            fault_lab.run("down")
            assert fault_lab.left() == kept == KEPT, str(ended)
        fault_lab.run("down", "--volumes")
        assert not fault_lab.left()
        figures.converged += 1
