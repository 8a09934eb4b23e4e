"""`examples/models.yaml`: one guest of each type from one image, on this machine and a Xen host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from integration.lab import Lab, domains, terminal, virsh
from integration.xen import XenLab
from xenhost.xenhost import XenHost

from virtkit.drivers import DRIVERS

EXAMPLE = Path(__file__).parents[2] / "examples/models.yaml"
#: What a guest's own system takes its machine for.
SEEN_BY_GUEST = {
    "kvm": "kvm",
    "qemu": "qemu",
    "lxc": "lxc-libvirt",
    "uml": "uml",
    "xen-pv": "xen PV",
    "xen-pvh": "xen PVH",
    "xen-hvm": "xen HVM",
}
LOOK = "echo $(systemd-detect-virt; cat /sys/hypervisor/guest_type 2>/dev/null)"

#: The bridge that the Xen host has itself, and what a running guest there gets.
NETWORK = """
networks:
  beside: {mode: bridge, bridge: xenbr0, cidr: 10.0.2.0/24, gateway: 10.0.2.2}
"""
DISK = "disks: [{name: more, size: 32MiB, mount: /srv/more}]"
CHANGED = (
    "xen-pv: {type: xen-pv, memory: 224MiB, "
    f"networks: [front, {{name: beside, address: 10.0.2.77}}], {DISK}}}"
)

#: What CI has elsewhere (test_contract.py, test_uml.py), and of those that the Xen host boots, one
#: after the other, in minutes, all but one.
LATE = ("qemu", "uml", "xen-pvh", "xen-hvm")
#: Each type; `kvm` and `uml` where the machine's processor runs them.
MARKS = {"kvm": [pytest.mark.needs_kvm], "uml": [pytest.mark.needs_uml]}
EVERY = [
    pytest.param(each, marks=[*MARKS.get(each, ()), *([pytest.mark.long] if each in LATE else [])])
    for each in DRIVERS
]

pytestmark = pytest.mark.timeout(1500)  # the first test waits for all of them


@dataclass
class TypesLab(XenLab):
    """``types``: those that this machine and the Xen host run."""

    types: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def lab(
    xen: XenHost, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[TypesLab]:
    lab = TypesLab(tmp_path_factory.mktemp("models"), "models", xen=xen)
    lab.write(_here(EXAMPLE.read_text(), xen))
    well = {each["name"] for each in lab.json("doctor", code=None)["checks"] if each["ok"]}
    without = {each for each in ("kvm", "uml") if f"type {each} on local" not in well}
    chosen = " ".join(each.name for each in request.session.items)
    without |= {each for each in LATE if f"[{each}]" not in chosen}
    lab.types = tuple(each for each in DRIVERS if each not in without)
    try:
        assert lab.json("up", *lab.types)["ok"]
        yield lab
    finally:
        lab.virtkit("down", "--volumes", code=None)


@pytest.fixture
def guest(lab: TypesLab, request: pytest.FixtureRequest) -> str:
    """The guest of each type."""
    if request.param not in lab.types:
        pytest.skip(f"this machine's processor runs no {request.param} guests: see virtkit doctor")
    return str(request.param)


def _here(text: str, xen: XenHost) -> str:
    """The example with the Xen host that there is. It has one processor, which is emulated: three
    guests that boot on it together need three times what they need one after the other. A guest
    that never is ready is told, with its console's last lines, before the test's own time is up."""
    place = xen.spec.partition("\n")[2]
    text = re.sub(r"  xen1: .*\n", lambda _: place, text)
    text = text.replace("defaults: {", "defaults: {ready: {timeout: 10m}, ")
    for guest, before in (("xen-pvh", "xen-pv"), ("xen-hvm", "xen-pvh")):
        text = text.replace(f"{{type: {guest}}}", f"{{type: {guest}, after: [{before}]}}")
    return text


def test_every_type_is_in_it() -> None:
    assert re.findall(r"^  (\S+): +\{type: (\S+)\}", EXAMPLE.read_text(), re.MULTILINE) == [
        (word, word) for word in DRIVERS
    ]


def test_status_shows_type_and_virtualization(lab: TypesLab) -> None:
    found = {each["name"]: each for each in lab.json("status", *lab.types)["guests"]}
    table = lab.virtkit("status").out
    assert list(found) == list(lab.types)
    for word, each in found.items():
        host = "xen1" if word.startswith("xen") else "local"
        wanted = {"type": word, "host": host, "state": "running", "ready": True}
        assert wanted.items() <= each.items()
        assert each["model"] == DRIVERS[word].virtualization
        line = next(line for line in table.splitlines() if line.startswith(f"{word} "))
        assert re.split(" {2,}", line)[1:5] == [word, host, "running", "yes"]
        assert line.rstrip().endswith(DRIVERS[word].virtualization)


@pytest.mark.parametrize("guest", EVERY, indirect=True)
def test_ssh_gets_in(lab: TypesLab, guest: str) -> None:
    assert lab.virtkit("ssh", guest, "--", LOOK).out.strip() == SEEN_BY_GUEST[guest]


@pytest.mark.parametrize("guest", EVERY, indirect=True)
def test_the_console_asks_who_logs_in(lab: TypesLab, guest: str) -> None:
    terminal(lab, guest)


def test_again_changes_nothing(lab: TypesLab) -> None:
    assert lab.json("up", *lab.types)["steps"] == []


@pytest.mark.long  # two minutes beside others
def test_a_guest_of_xens_changes_while_it_runs(lab: TypesLab) -> None:
    boot = lab.sh("xen-pv", "cat /proc/sys/kernel/random/boot_id")
    text = lab.spec.read_text()
    lab.write(text.replace("\nnetworks:\n", NETWORK).replace("xen-pv: {type: xen-pv}", CHANGED))
    (change,) = lab.json("plan", "xen-pv")["changes"]
    fields = {"memory", "networks.beside", "disks.more"}
    assert {each["field"]: each["effect"] for each in change["reasons"]} == dict.fromkeys(
        fields, "live"
    )
    assert lab.json("up", "xen-pv")["ok"]
    assert lab.json("plan", "xen-pv")["changes"] == lab.json("plan", "xen-pv")["pending"] == []
    assert lab.sh("xen-pv", "cat /proc/sys/kernel/random/boot_id") == boot
    assert "10.0.2.77" in lab.sh("xen-pv", "ip -4 -brief address")
    assert "SSH-2.0" in lab.xen.ssh("nc -w 3 10.0.2.77 22 </dev/null", check=False)
    memory = "sed -n 's/MemTotal: *//p' /proc/meminfo"
    less = int(lab.sh("xen-pv", f"echo kept >/srv/more/file; {memory}").split()[0])
    lab.write(text.replace("xen-pv: {type: xen-pv}", f"xen-pv: {{type: xen-pv, {DISK}}}"))
    assert lab.json("up", "xen-pv")["ok"]
    kept, more, *_ = lab.sh("xen-pv", f"cat /srv/more/file; {memory}").split()
    assert (kept, int(more) - less) == ("kept", 32 * 1024)
    assert "10.0.2.77" not in lab.sh("xen-pv", "ip -4 -brief address")
    lab.write(text)
    lab.virtkit("up", "xen-pv", code=2)  # the disk would be lost
    assert lab.json("up", "xen-pv", "--yes")["ok"]
    assert lab.sh("xen-pv", "ls /dev/xvd*") == "/dev/xvda\n/dev/xvdb"
    assert lab.sh("xen-pv", "cat /proc/sys/kernel/random/boot_id") == boot
    assert lab.json("plan", "xen-pv")["changes"] == []


# the second move makes a guest as the first did
@pytest.mark.parametrize("to", ["lxc", pytest.param("qemu", marks=pytest.mark.long)])
def test_one_word_moves_a_guest_to_another_hypervisor(lab: TypesLab, to: str) -> None:
    text = lab.spec.read_text()
    was = "xen-pv" if to == "lxc" else "lxc"
    lab.write(text.replace(f"xen-pv: {{type: {was}}}", f"xen-pv: {{type: {to}}}"))
    changes = lab.json("plan", "xen-pv")["changes"]
    (made,) = (e for e in changes if (e["object"], e["host"]) == ("guest/xen-pv", "local"))
    assert made["effect"] == "recreate"
    reasons = {each["field"]: (each["from"], each["to"]) for each in made["reasons"]}
    assert reasons["type"] == (was, to)
    if to == "lxc":
        assert reasons["host"] == ("xen1", "local")
        assert [each["action"] for each in changes if each["host"] == "xen1"] == ["delete"]
    lab.virtkit("up", "xen-pv", code=2)  # its root disk would be lost
    wait = () if to == "lxc" else ("--no-wait",)  # it boots as the guest `qemu` did
    assert lab.json("up", "xen-pv", "--yes", *wait)["ok"]
    found = lab.status("xen-pv")
    assert (found["type"], found["host"], found["state"]) == (to, "local", "running")
    assert "models-xen-pv" in domains()
    assert "models-xen-pv" not in lab.domains()
    if to == "lxc":
        assert lab.virtkit("ssh", "xen-pv", "--", LOOK).out.strip() == SEEN_BY_GUEST[to]
    else:  # in the middle of its boot it would not hear that it is to stop
        virsh("destroy", "models-xen-pv")


def test_down_leaves_nothing(lab: TypesLab) -> None:
    assert lab.json("down", "--volumes")["ok"]
    assert lab.left() == []
    assert Lab(lab.folder, "models").left() == []
