"""Specs, libvirt and virtkit's own runs changed at random, against libvirt's test driver.

After each `up` that ends well `plan` is empty and what others added is still there; in the end `up
--restart` leaves nothing that waits, and `down` leaves nothing at all. Each run may be killed at a
call into libvirt (faultpoints.py). VIRTKIT_TEST_HISTORIES=N tries N new ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import libvirt
import pytest
from faultpoints import Ended, Fault
from hypothesis import HealthCheck, Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from integration.every_call import opened_fault_lab
from integration.fault_lab import FaultLab, Histories, Tally
from lxml import etree

NAMES = strategies.sampled_from(["a", "b", "c"])
DISKS = strategies.sampled_from(["data", "more"])
NETWORKS = ("front", "back")
#: Of a run's changes, the one after which it is killed; small runs are the most.
NUMBERS = strategies.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 50])
#: A device that somebody else adds, and where it must stay.
FOREIGN = "<watchdog model='i6300esb' action='none'/>"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class Environment(RuleBasedStateMachine):
    """One environment. ``fault_lab`` and ``seen`` are set by the test.

    ``made`` holds the disks that stood at the last `up`, by the name of their volume: the inode,
    and whether it is kept. Whatever may rightly end a disk takes it out.
    """

    fault_lab: FaultLab
    seen: Histories

    def __init__(self) -> None:
        super().__init__()
        self.fault_lab.reset()
        self.seen.histories += 1
        self.foreign: set[str] = set()
        self.made: dict[str, tuple[int, bool]] = {}
        self.spec: dict[str, Any] = {
            "name": "cut",
            "images": {"cut": {"path": "cut.raw"}, "other": {"path": "other.raw"}},
            "networks": {
                "front": {"cidr": "10.94.9.0/24", "domain": "cut.test"},
                "back": {"mode": "isolated", "cidr": "10.94.10.0/24"},
            },
            "defaults": {"image": "cut", "type": "toy", "memory": "32MiB", "ready": "none"},
            "guests": {"a": {"networks": ["front"]}},
        }
        self.write()

    # --- the spec ---------------------------------------------------------------------------

    def write(self) -> None:
        self.fault_lab.lab.spec.write_text(json.dumps(self.spec))

    def guest(self, name: str) -> dict[str, Any]:
        return self.spec["guests"].setdefault(name, {"networks": ["front"]})

    @rule(name=NAMES, memory=strategies.integers(16, 64), most=strategies.booleans())
    def changes_memory(self, name: str, memory: int, most: bool) -> None:
        self.guest(name)["memory"] = f"{memory}MiB"
        self.guest(name)["max"] = {"memory": "64MiB", "cpus": 4} if most else None
        self.write()

    @rule(name=NAMES, cpus=strategies.integers(1, 4))
    def changes_cpus(self, name: str, cpus: int) -> None:
        self.guest(name)["cpus"] = cpus
        self.write()

    @rule(name=NAMES, disk=DISKS, keep=strategies.booleans())
    def adds_or_grows_disk(self, name: str, disk: str, keep: bool) -> None:
        disks = self.guest(name).setdefault("disks", [])
        for each in disks:
            if each["name"] == disk:
                each["size"] = f"{int(each['size'][:-3]) + 1}MiB"
                each["keep"] = keep
                break
        else:
            disks.append({"name": disk, "size": "8MiB", "keep": keep})
        if self.made.get(f"cut-{name}-{disk}", (0, keep))[1] != keep:
            del self.made[f"cut-{name}-{disk}"]
        self.write()

    @rule(name=NAMES)
    def drops_a_disk(self, name: str) -> None:
        if disks := self.guest(name).get("disks"):
            self.forget(f"cut-{name}-{disks.pop()['name']}")
        self.write()

    @rule(name=NAMES, networks=strategies.lists(strategies.sampled_from(NETWORKS), unique=True))
    def changes_networks(self, name: str, networks: list[str]) -> None:
        self.guest(name)["networks"] = networks
        self.write()

    @rule(name=NAMES, autostart=strategies.booleans(), group=strategies.sampled_from(["x", "y"]))
    def changes_what_the_record_holds(self, name: str, autostart: bool, group: str) -> None:
        self.guest(name).update(autostart=autostart, groups=[group])
        self.write()

    @rule(name=NAMES, image=strategies.sampled_from(["cut", "other"]))
    def changes_the_image(self, name: str, image: str) -> None:
        self.guest(name)["image"] = image
        self.write()

    @rule(name=NAMES)
    def leaves_the_spec(self, name: str) -> None:
        if len(self.spec["guests"]) > 1:
            self.spec["guests"].pop(name, None)
            self.forget(f"cut-{name}-")
        self.write()

    def forget(self, prefix: str) -> None:
        """Disks that what comes next may rightly end: those that are not kept."""
        for volume in [each for each in self.made if each.startswith(prefix)]:
            if not self.made[volume][1]:
                del self.made[volume]

    # --- others -----------------------------------------------------------------------------

    def domain(self, name: str) -> libvirt.virDomain | None:
        found = [d for d in self.opened().listAllDomains() if d.name() == f"cut-{name}"]
        return found[0] if found else None

    def opened(self) -> libvirt.virConnect:
        return self.fault_lab.open()

    def edit(self, name: str, edit: Callable[[etree._Element], None]) -> bool:
        """As `virsh edit`: whether the guest was there."""
        opened = self.opened()
        for domain in opened.listAllDomains():
            if domain.name() == f"cut-{name}":
                root = etree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
                edit(root)
                opened.defineXML(etree.tostring(root, encoding="unicode"))
                return True
        return False

    @rule(name=NAMES, memory=strategies.integers(8, 16))
    def others_edit_memory(self, name: str, memory: int) -> None:
        def edit(root: etree._Element) -> None:
            for each in root.iterfind("./currentMemory"):
                each.text = str(memory * 1024)

        self.edit(name, edit)

    @rule(name=NAMES)
    def others_take_an_interface(self, name: str) -> None:
        def edit(root: etree._Element) -> None:
            for each in root.findall("./devices/interface")[:1]:
                each.getparent().remove(each)

        self.edit(name, edit)

    @rule(name=NAMES)
    def others_add_a_device(self, name: str) -> None:
        def edit(root: etree._Element) -> None:
            if root.find("./devices/watchdog") is None:
                root.find("./devices").append(etree.fromstring(FOREIGN))

        if self.edit(name, edit):
            self.foreign.add(name)

    @rule(name=NAMES, what=strategies.sampled_from(["destroy", "suspend", "autostart"]))
    def others_change_state(self, name: str, what: str) -> None:
        domain = self.domain(name)
        if domain is None:
            return
        if what == "autostart":
            domain.setAutostart(1 - domain.autostart())
        elif domain.isActive():
            domain.destroy() if what == "destroy" else domain.suspend()

    @rule(name=NAMES)
    def others_remove_a_guest(self, name: str) -> None:
        """As `virsh undefine --remove-all-storage`, but for disks that are kept."""
        domain = self.domain(name)
        if domain is None:
            return
        domain.destroy() if domain.isActive() else None
        domain.undefine()
        now = self.fault_lab.state()
        for volume in now["volumes"]:
            if volume.startswith(f"cut-{name}-") and volume not in now["record"]["kept"]:
                self.delete(volume)
        self.foreign.discard(name)
        self.forget(f"cut-{name}-")

    def delete(self, volume: str) -> None:
        self.opened().storagePoolLookupByName("default").storageVolLookupByName(volume).delete()
        (self.fault_lab.store / volume).unlink()

    @rule(name=NAMES, disk=DISKS)
    def others_delete_a_disk(self, name: str, disk: str) -> None:
        volume = f"cut-{name}-{disk}"
        if (self.fault_lab.store / volume).exists():
            self.delete(volume)
            self.made.pop(volume, None)

    @rule(what=strategies.sampled_from(["destroy", "autostart", "host"]))
    def others_change_a_network(self, what: str) -> None:
        for network in self.opened().listAllNetworks():
            if network.name() != "cut-front":
                continue
            if what == "autostart":
                network.setAutostart(0)
            elif what == "destroy" and network.isActive() and not self._connected():
                network.destroy()
            elif what == "host" and network.isActive():
                self._drop_a_host(network)

    def _connected(self) -> bool:
        """Whether a running guest is on the network: the test driver could not put it back."""
        running = self.opened().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return any("network='cut-front'" in each.XMLDesc() for each in running)

    def _drop_a_host(self, network: libvirt.virNetwork) -> None:
        for host in etree.fromstring(network.XMLDesc(0)).findall(".//dhcp/host")[:1]:
            network.update(
                libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE,
                libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST,
                -1,
                etree.tostring(host, encoding="unicode"),
                libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG,
            )

    # --- virtkit ----------------------------------------------------------------------------

    def run(self, verb: str, *words: str, fault: Fault | None = None) -> Ended:
        self.seen.runs += 1
        ended = (
            self.fault_lab.run(verb, *words, fault=fault)
            if fault
            else self.fault_lab.run(verb, *words)
        )
        assert "Traceback" not in ended.err, str(ended)
        return ended

    def killed(self, number: int, verb: str, *words: str) -> None:
        """A run that is killed at a change of its own, if it has as many."""
        fault = Fault("kill", number, "after", changing=True)
        ended = self.run(verb, *words, fault=fault)
        assert ended.killed or ended.code == 0, str(ended)
        self.seen.killed += ended.killed

    @rule(number=NUMBERS)
    def is_killed_on_the_way_down(self, number: int) -> None:
        self.killed(number, "down")
        self.forget("cut-")
        self.foreign = {name for name in self.foreign if self.domain(name) is not None}

    @rule(restart=strategies.booleans(), numbers=strategies.lists(NUMBERS, max_size=2))
    def comes_up(self, restart: bool, numbers: Sequence[int] = ()) -> None:
        words = ["--yes", *(["--restart"] if restart else [])]
        for number in numbers:
            self.killed(number, "up", *words)
        self.run("up", *words)
        plan = self.fault_lab.runner.run("plan", self.fault_lab.lab.spec, "--json").data
        assert plan["changes"] == [], json.dumps(plan, indent=1)
        assert not (restart and [p for p in plan["pending"] if p["effect"] == "restart"]), plan
        self._as_asked()
        self.seen.converged += 1

    def _as_asked(self) -> None:
        """The guests of the spec run, and no others are there; foreign devices stayed."""
        there = {d.name(): d for d in self.opened().listAllDomains() if d.name().startswith("cut-")}
        assert sorted(there) == sorted(f"cut-{name}" for name in self.spec["guests"])
        assert all(each.isActive() for each in there.values())
        self.foreign &= set(self.spec["guests"])
        self._disks_as_made()
        for name in self.foreign:
            xml = there[f"cut-{name}"].XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            assert "<watchdog" in xml, xml

    def _disks_as_made(self) -> None:
        """No disk was made again; those of the spec are looked after from now on."""
        for volume, (inode, _) in self.made.items():
            assert (self.fault_lab.store / volume).stat().st_ino == inode, (
                f"{volume} was made again"
            )
        for name, guest in self.spec["guests"].items():
            for disk in guest.get("disks", ()):
                volume = f"cut-{name}-{disk['name']}"
                self.made[volume] = (self.fault_lab.store / volume).stat().st_ino, disk["keep"]

    @rule(verb=strategies.sampled_from(["stop", "start", "restart"]))
    def is_told(self, verb: str) -> None:
        """Guests of the spec that are not there yet are an error that says so."""
        there = {d.name() for d in self.opened().listAllDomains()}
        names = [name for name in self.spec["guests"] if f"cut-{name}" in there]
        if names:
            self.run(verb, *names)

    @rule(volumes=strategies.booleans())
    def goes_down(self, volumes: bool) -> None:
        self.run("down", *(["--volumes"] if volumes else []))
        self.foreign.clear()
        self.made.clear() if volumes else self.forget("cut-")
        left = self.fault_lab.left()
        assert not left or (not volumes and all(each.endswith(("-data", "-more")) for each in left))

    def teardown(self) -> None:
        self.comes_up(restart=True)
        self.goes_down(volumes=True)
        assert not self.fault_lab.left()


@pytest.fixture(scope="module")
def fault_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLab]:
    with opened_fault_lab(tmp_path_factory.mktemp("toy"), "toy") as fault_lab:
        yield fault_lab


def test_any_history_ends_well(fault_lab: FaultLab, tally: Tally) -> None:
    Environment.fault_lab = fault_lab
    Environment.seen = seen = Histories()
    tally.append(seen)
    run_state_machine_as_test(  # type: ignore[no-untyped-call] # hypothesis has no types for it
        Environment,
        settings=settings(
            max_examples=int(os.environ.get("VIRTKIT_TEST_HISTORIES", "20")),
            stateful_step_count=20,
            deadline=None,
            derandomize="VIRTKIT_TEST_HISTORIES" not in os.environ,
            phases=[Phase.explicit, Phase.generate],  # finding a shorter history takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert seen.converged >= seen.histories
