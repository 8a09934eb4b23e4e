"""The type `kvm`: refused where KVM does not run guests, and its lifecycle where it does.

A KVM that hangs under Linux still runs a guest in real mode, so the lifecycle is run everywhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.lab import Lab, domains, laboratory, networks, printed, tiny_disk, until, virsh

SPEC = """
name: kvm
images: {tiny: {path: tiny.raw}}
networks: {front: {cidr: 10.94.1.0/24}}
guests:
  a:
    type: kvm
    image: tiny
    memory: 32MiB
    networks: [front]
    ready: none
    # not host-passthrough: where KVM is broken, QEMU may fail to take the host's CPU over
    template: plain.xml.j2
"""
#: A boot sector in real mode, which says on COM1 whom the processor names as its hypervisor:
#:      cli; ds = ss = 0; sp = 0x7c00; eax = 0x40000000; cpuid; print "signature: "
#:      print ebx, ecx, edx, a zero as "."; print "\r\n"; 1: hlt; jmp 1b
_ASKS = bytes.fromhex(
    "fa31c08ed88ed0bc007c66b8000000400fa266891e000566890e04056689160805baf803be4d7cb90b00e815"
    "00be0005b90c00e80c00be587cb90200e80300f4ebfdac84c07502b02eeee2f6c37369676e61747572653a20"
    "0d0a"
)
HIDING = """
name: kvm-hides
images: {asks: {path: asks.raw}}
defaults: {type: kvm, image: asks, memory: 32MiB, networks: [], ready: none, template: plain.xml.j2}
guests:
  shown: {}
  hidden: {cpu: {hidden: true}}
"""
PLAIN = '{% extends "qemu.xml.j2" %}{% block cpu %}{% endblock %}'

Saying = Callable[[bool], None]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("kvm")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "plain.xml.j2").write_text(PLAIN)
    with laboratory(folder, "kvm", SPEC, XDG_CACHE_HOME=str(folder / "cache")) as lab:
        yield lab


def checks(lab: Lab) -> dict[str, dict[str, object]]:
    """What doctor says, by the name of the check."""
    found = lab.virtkit("doctor", "--json", code=None).data["checks"]
    return {each["name"]: each for each in found if each["ok"] is not None}


@pytest.fixture(scope="module")
def works(lab: Lab) -> bool:
    """Whether KVM runs guests here, by the real probe."""
    return bool(checks(lab)["type kvm"]["ok"])


@pytest.fixture
def saying(lab: Lab, works: bool) -> Saying:
    """Makes virtkit believe one or the other of this machine: what it knows of KVM is a file."""
    cache = lab.folder / "cache/virtkit/kvm.json"

    def say(verdict: bool) -> None:
        key = json.loads(cache.read_text())["key"]
        why = "KVM is announced but hangs here"
        cache.write_text(json.dumps({"key": key, "works": verdict, "why": why}))

    return say


def test_the_probe_leaves_nothing(works: bool) -> None:
    assert not [name for name in domains() if "probe" in name]
    assert "virtkit-probe" not in virsh("pool-list", "--all", "--name")
    assert not list(Path("/var/lib/libvirt").rglob("*probe*"))


def test_it_is_refused_before_anything_is_made(lab: Lab, saying: Saying) -> None:
    saying(False)
    before = lab.left(), domains(), networks(), virsh("pool-list", "--all", "--name")
    (error,) = lab.json("up", code=2)["errors"]
    assert "type: kvm" in error["what"]
    assert "KVM" in error["why"]
    assert "type: qemu" in error["cure"]
    assert error["where"] == f"{lab.spec}:7:11 guests.a.type"
    assert (lab.left(), domains(), networks(), virsh("pool-list", "--all", "--name")) == before


def test_doctor_probes_again(lab: Lab, saying: Saying, works: bool) -> None:
    """Whatever is kept; and what it finds is what the next plan goes by."""
    saying(not works)
    ran = lab.virtkit("doctor", code=None)
    assert "checking whether KVM runs guests here" in ran.err
    assert "kvm probe: just now: " in ran.out
    assert bool(json.loads(lab.virtkit("plan", "--json", code=None).out).get("errors")) != works


def test_a_verdict_that_passes_says_so(lab: Lab, saying: Saying, tmp_path: Path) -> None:
    """A guest that `auto` makes meanwhile stays emulated: its user is told how to look again."""
    saying(False)
    cache = lab.folder / "cache/virtkit/kvm.json"
    passing = json.loads(cache.read_text()) | {"until": time.time() + 100, "hold": 120}
    cache.write_text(json.dumps(passing))
    (error,) = lab.json("up", code=2)["errors"]
    assert "run `virtkit doctor` again" in error["cure"]
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    (tmp_path / "plain.xml.j2").write_text(PLAIN)
    other = Lab(tmp_path, "kvm", lab.settings).write(SPEC.replace("type: kvm", "type: auto"))
    (note,) = [each for each in other.json("plan")["notes"] if "auto" in each]
    assert "run `virtkit doctor` again" in note
    assert "stays emulated" in note
    cache.write_text(json.dumps(passing | {"until": time.time() - 1}))
    assert "checking whether KVM runs guests here" in other.virtkit("plan").err


def test_auto_passes_over_it_and_says_why(lab: Lab, saying: Saying, tmp_path: Path) -> None:
    saying(False)
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    (tmp_path / "plain.xml.j2").write_text(PLAIN)
    spec = SPEC.replace("type: kvm", "type: auto")
    other = Lab(tmp_path, "kvm", lab.settings).write(spec)
    assert "guest/a: auto: KVM" in other.virtkit("plan").out
    assert '<domain type="qemu"' in other.virtkit("render").out
    saying(True)
    assert '<domain type="kvm"' in other.virtkit("render").out


def needs_a_kvm(request: pytest.FixtureRequest) -> None:
    """Skips a test whose guests are in real mode where there is not even a KVM that hangs."""
    if not Path("/dev/kvm").exists():
        request.node.add_marker("needs_kvm")
        pytest.skip("there is no /dev/kvm at all")


def test_its_lifecycle(lab: Lab, saying: Saying, request: pytest.FixtureRequest) -> None:
    """define, start, pause, resume, reset, stop, undefine."""
    needs_a_kvm(request)
    saying(True)

    # where KVM is broken and others have the processors, 20 s were not enough
    def ticks(more: int) -> bool:
        before = len(printed("kvm-a"))
        return until(lambda: len(printed("kvm-a")) >= before + more, 60)

    def ups(count: int) -> bool:
        return until(lambda: printed("kvm-a").count("tiny: up") == count, 60)

    assert lab.json("up")["ok"]
    assert "<domain type='kvm'" in virsh("dumpxml", "kvm-a")
    assert ups(1)
    assert ticks(1)
    assert lab.json("plan")["changes"] == []

    lab.virtkit("pause")
    assert lab.status("a")["state"] == "paused"
    said = printed("kvm-a")
    time.sleep(1.5)  # it would tick in less
    assert printed("kvm-a") == said
    lab.virtkit("resume")
    assert lab.status("a")["state"] == "running"
    assert ticks(1)

    pid = Path("/run/libvirt/qemu/kvm-a.pid").read_text()
    lab.virtkit("restart", "--timeout", "0")  # presses the reset button
    assert Path("/run/libvirt/qemu/kvm-a.pid").read_text() == pid
    assert ups(2)

    assert ticks(1)  # it looks at its power button
    lab.virtkit("stop")
    assert lab.status("a")["state"] == "stopped"
    assert printed("kvm-a")[-1] == "tiny: off"

    lab.virtkit("start")
    assert ups(3)
    assert lab.virtkit("logs", "a").out.count("tiny: up") == 3
    lab.virtkit("down")
    assert lab.left() == []


def test_it_hides(lab: Lab, saying: Saying, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What a driver that refuses virtual machines asks the processor; with the processor that QEMU
    gives by itself. Not every KVM has Hyper-V's interfaces, whose word for it Windows would see."""
    needs_a_kvm(request)
    saying(True)
    disk = (_ASKS.ljust(510, b"\0") + b"\x55\xaa").ljust(1024 * 1024, b"\0")
    (tmp_path / "asks.raw").write_bytes(disk)
    (tmp_path / "plain.xml.j2").write_text(PLAIN)
    with laboratory(tmp_path, "kvm-hides", HIDING, **lab.settings) as hiding:
        hiding.virtkit("up")

        def signature(guest: str) -> str:
            lines = until(lambda: [e for e in hiding.printed(guest) if e.startswith("sign")], 60)
            return lines[0].partition(": ")[2].rstrip(".")

        assert signature("shown") == "KVMKVMKVM"
        assert "KVM" not in signature("hidden")
        assert hiding.json("plan")["changes"] == []


@pytest.mark.needs_kvm
def test_it_boots_linux(lab: Lab, works: bool, tmp_path: Path) -> None:
    if not works:
        pytest.skip("KVM does not run guests here; virtkit doctor says why")
    spec = "guests: {vm: {type: kvm, memory: 512MiB}}"
    with laboratory(tmp_path, "kvm-linux", spec) as linux:
        linux.virtkit("up")
        assert linux.status("vm")["ready"]
        assert "kvm" in linux.sh("vm", "systemd-detect-virt")
