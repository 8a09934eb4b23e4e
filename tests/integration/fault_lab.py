"""One environment on one driver that is interrupted again and again: what stands there, what was
made, and how everything is put back to nothing. Reads libvirt directly, never through virtkit.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from faultpoints import Ended, Fault, Runner
from integration.lab import POOL, Lab, printed, until
from lxml import etree

libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints each error on stderr

PID = Path("/run/libvirt/libvirtd.pid")
RECORD = "{urn:virtkit:1}"
#: What a record says that is new in each life of a guest, or of its process.
LIVES = ("host_key", "instance", "keys", "staged_in")
#: What is new each time that libvirt looks.
FRESH = ("timestamps", "allocation", "physical")


@dataclass
class Interrupted:
    """What a loop over the calls of runs saw: a line of docs/reliability.md.

    Attributes:
        fault: what happened at each call.
        calls: that a run makes, or those of them that change something.
        left: what was there after `down` that should not be.
    """

    fault: str
    verb: str
    type: str
    calls: int
    points: int = 0
    converged: int = 0
    left: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.fault} at {self.points} calls of {self.verb} ({self.type}, {self.calls} "
            f"in all): converged {self.converged}, left over {self.left}; {self.seconds:.0f} s"
        )


@dataclass
class Histories:
    """What the state machine did.

    Attributes:
        histories: sequences of edits and runs, each from nothing to nothing.
        runs: of virtkit; ``killed`` of them were, and ``converged`` were an `up` that was compared.
    """

    histories: int = 0
    runs: int = 0
    killed: int = 0
    converged: int = 0

    def __str__(self) -> str:
        return (
            f"{self.histories} random histories, {self.runs} runs, {self.killed} of them killed: "
            f"converged {self.converged}, left over 0"
        )


Tally = list[Interrupted | Histories]
TALLY = pytest.StashKey[Tally]()


@contextmanager
def loop(
    tally: Tally, fault: str, verb: str, type: str, calls: Sequence[str]
) -> Iterator[Interrupted]:
    """A loop whose figures are shown."""
    began = time.monotonic()
    figures = Interrupted(fault, verb, type, len(calls))
    tally.append(figures)
    try:
        yield figures
    finally:
        figures.seconds = time.monotonic() - began


@dataclass
class FaultLab:
    """An environment whose runs end at one of their calls into libvirt.

    Attributes:
        uri: the driver that has its guests.
        store: the folder that has the content of volumes.
        image: made anew each time, pool and all; else it stays in the pool.
    """

    lab: Lab
    uri: str
    runner: Runner
    store: Path = POOL
    image: bool = True

    def run(self, verb: str, *words: str, fault: Fault | None = None) -> Ended:
        """virtkit, step by step; without a fault it must do what it is asked."""
        alone = ("--parallel", "1") if verb in ("up", "down") else ()
        line = [verb, self.lab.spec, *alone, *words]
        if fault is not None:
            return self.runner.run(*line, fault=fault)
        ended = self.runner.run(*line)
        assert ended.code == 0, str(ended)
        return ended

    def up(self) -> None:
        """`up`, until the guest hears when it is asked to stop."""
        self.run("up")
        if self.uri.startswith("qemu"):
            domain = f"{self.lab.name}-a"
            assert until(lambda: "tiny: up" in printed(domain), 30, 0.05), printed(domain)
        if self.uri.startswith("lxc"):
            asked = ("exec", self.lab.spec, "a", "--", "systemctl", "is-system-running")
            up = ("running\n", "degraded\n")
            assert until(lambda: self.runner.run(*asked).out in up, 60, 0.2)

    def settle(self, fault: Fault) -> None:
        """Waits until a guest that a killed run had asked to stop has, if it heard that at all."""
        if (fault.name, fault.side) == ("virDomainShutdownFlags", "after"):
            until(lambda: not any(d.isActive() for d in self._domains(self.open())), 5, 0.1)

    def planned(self) -> Any:
        """The changes that `plan` still has, which are none after `up`."""
        return self.runner.run("plan", self.lab.spec, "--json").data["changes"]

    def open(self) -> libvirt.virConnect:
        return libvirt.open(self.uri)

    # --- what stands there ------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that is the environment's, in a form that two runs share."""
        opened = self.open()
        pool = _pool(opened)
        return {
            "domains": {each.name(): _domain(each) for each in self._domains(opened)},
            "networks": {each.name(): _network(each) for each in self._networks(opened)},
            "pool": pool and (bool(pool.isActive()), bool(pool.autostart())),
            "volumes": {each.name(): self._volume(each) for each in self._volumes(opened)},
            "record": self._record(opened),
        }

    def left(self) -> list[str]:
        """What is there in the environment's name, and no image is."""
        now = self.state()
        prefix = f"{self.lab.name}-"
        found = [*now["domains"], *now["networks"], *(v for v in now["volumes"] if prefix in v)]
        data = Path.home() / ".local/share/virtkit" / self.lab.name
        return sorted([*found, *([str(data)] if data.exists() else [])])

    def _domains(self, opened: libvirt.virConnect) -> Iterator[libvirt.virDomain]:
        return (d for d in opened.listAllDomains() if d.name().startswith(f"{self.lab.name}-"))

    def _networks(self, opened: libvirt.virConnect) -> Iterator[libvirt.virNetwork]:
        return (n for n in opened.listAllNetworks() if n.name().startswith(f"{self.lab.name}-"))

    def _volumes(self, opened: libvirt.virConnect) -> Iterator[libvirt.virStorageVol]:
        """The environment's, and the images."""
        pool = _pool(opened)
        if pool is None or not pool.isActive():
            return
        pool.refresh(0)
        for each in pool.listAllVolumes():
            ours = each.name().startswith((f"{self.lab.name}-", "virtkit-"))
            if ours and "virtkit-record-" not in each.name():
                yield each

    def _volume(self, volume: libvirt.virStorageVol) -> tuple[str, int]:
        if volume.name().endswith("-console"):
            return "", 0  # a guest that runs adds to it
        root = etree.fromstring(volume.XMLDesc(0))
        etree.strip_elements(root, *FRESH)
        content = self.store / volume.name()  # none, where the call that makes it was cut off
        return _text(root), content.stat().st_size if content.exists() else 0

    def _record(self, opened: libvirt.virConnect) -> Any:
        """The pool's record: the newest that can be read."""
        pool = _pool(opened)
        if pool is None or not pool.isActive():
            return None
        names = sorted(each for each in pool.listVolumes() if "virtkit-record-" in each)
        for name in reversed(names):
            with suppress(ValueError, FileNotFoundError):
                found = json.loads(self._read(name))
                mine = f"{self.lab.name}-"
                found["guests"] = {
                    domain: each | {key: bool(each[key]) for key in LIVES if key in each}
                    for domain, each in found["guests"].items()
                    if domain.startswith(mine)
                }
                return found
        return None

    def undefine(self) -> None:
        """As somebody does who wants to begin anew, and leaves the volumes."""
        for domain in self._domains(self.open()):
            if domain.isActive():
                domain.destroy()
            domain.undefine()

    def _read(self, name: str) -> str:
        """A volume's content."""
        return (self.store / name).read_text()

    # --- what was made ----------------------------------------------------------------------

    @contextmanager
    def holding(self, *, but: Callable[[str], bool] = lambda _: False) -> Iterator[list[str]]:
        """Holds each volume that a record says is made; at the end it must be the same still.

        A file that is held keeps its inode, so another one of the same name has another. Yields
        their names. ``but`` tells of those that may go.
        """
        names = self._kept(but)
        held = {name: os.open(self.store / name, os.O_RDONLY) for name in names}
        try:
            yield names
            for name, descriptor in held.items():
                now = (self.store / name).stat()
                assert os.path.samestat(now, os.fstat(descriptor)), f"{name} was made again"
        finally:
            for descriptor in held.values():
                os.close(descriptor)

    def _kept(self, but: Callable[[str], bool]) -> list[str]:
        return sorted({each for each in self._made() if not but(each)})

    def _made(self) -> Iterator[str]:
        now = self.state()
        for domain in now["domains"].values():
            for each in domain["record"]["volumes"]:
                if each["state"] == "made" and each["role"] != "console":
                    yield each["name"]
        record = now["record"] or {"images": {}, "kept": {}}
        yield from record["kept"]
        for image in record["images"].values():
            if image["made"]:
                files = image["files"]
                yield from (
                    Path(files[key]).name for key in ("root", "kernel", "initrd") if files[key]
                )

    # --- back to nothing ----------------------------------------------------------------------

    def reset(self) -> None:
        """As if nobody had ever run virtkit; only an image that is to stay does."""
        opened = self.open()
        for domain in self._domains(opened):
            if domain.isActive():
                domain.destroy()
            domain.undefine()
        for network in self._networks(opened):
            if network.isActive():
                network.destroy()
            network.undefine()
        for volume in self._volumes(opened):
            if self.image or volume.name().startswith(f"{self.lab.name}-"):
                self._delete(volume)
        pool = _pool(opened)
        if pool is not None and self.image:
            if pool.isActive():
                for each in pool.listAllVolumes():
                    self._delete(each)
                pool.destroy()
            pool.undefine()

    def _delete(self, volume: libvirt.virStorageVol) -> None:
        name = volume.name()
        volume.delete(0)
        (self.store / name).unlink(missing_ok=True)


# --- runs -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """Runs that nobody interrupted: the state that `up` ends in, and the calls of both."""

    state: Any
    up: tuple[str, ...]
    down: tuple[str, ...]


def killed(fault_lab: FaultLab, verb: str, fault: Fault) -> Ended:
    """A run that was killed there."""
    ended = fault_lab.run(verb, fault=fault)
    assert ended.killed, f"{fault} was not reached: {ended}"
    return ended


def converges(fault_lab: FaultLab, reference: Reference, what: str) -> None:
    """Brings the rest up, and takes all of it down."""
    with fault_lab.holding():
        fault_lab.run("up")
        assert fault_lab.state() == reference.state, what
        assert not fault_lab.planned(), what
    fault_lab.run("down", "--volumes")
    assert not fault_lab.left(), what


def not_kept(name: str) -> bool:
    return not name.endswith("-data")


def reported_errors(ended: Ended) -> list[dict[str, Any]]:
    """The errors of a run that nobody ended: it ended by itself, with a report that has cures."""
    assert ended.code in (0, 1, 2), str(ended)  # 2: before anything was touched
    assert "Traceback" not in ended.err, str(ended)
    answer = ended.data
    errors = [step["error"] for step in answer.get("steps", ()) if step["error"]]
    errors += answer.get("errors", ())
    assert bool(errors) == bool(ended.code), str(ended)
    assert all(each["cure"] and "virtkit itself" not in each["what"] for each in errors), str(ended)
    return errors


# --- what libvirt has -----------------------------------------------------------------------


def _domain(domain: libvirt.virDomain) -> dict[str, Any]:
    root = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    element = root.find(f"./metadata/{RECORD}guest")
    assert element is not None
    assert element.text is not None
    said = json.loads(element.text)
    element.text = ""
    for each in root.findall("./resource"):  # libvirt's own, once it started a container
        root.remove(each)
    return {
        "xml": _text(root),
        "record": said | {key: bool(said[key]) for key in LIVES},
        "state": domain.state()[0],
        "autostart": domain.autostart(),
    }


def _network(network: libvirt.virNetwork) -> dict[str, Any]:
    root = etree.fromstring(network.XMLDesc(0))
    for each in root.iterfind("./bridge"):
        each.attrib.pop("name", None)
    for each in root.findall("./mac"):
        root.remove(each)
    root.attrib.pop("connections", None)
    return {"xml": _text(root), "active": network.isActive(), "autostart": network.autostart()}


def _text(root: etree._Element) -> str:
    return etree.canonicalize(etree.tostring(root, encoding="unicode"), strip_text=True)


def _pool(opened: libvirt.virConnect) -> libvirt.virStoragePool | None:
    try:
        return opened.storagePoolLookupByName("default")
    except libvirt.libvirtError:
        return None


# --- the daemon -------------------------------------------------------------------------------


def libvirtd() -> int:
    """Its pid."""
    return int(PID.read_text())


def start_libvirtd() -> None:
    """Starts it as tests/sandbox does, once the one that was ended is gone."""
    end = time.monotonic() + 10
    while subprocess.run(
        ["libvirtd", "-d", "-p", PID], check=False, capture_output=True
    ).returncode:
        assert time.monotonic() < end, "libvirtd does not start again"
        time.sleep(0.1)  # nothing tells when the old one's pid file is free
