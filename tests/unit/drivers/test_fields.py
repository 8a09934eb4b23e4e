"""The table of fields: every field of a guest has a row, and what is live is carried out."""

from __future__ import annotations

import pytest

from virtkit.apply.hotplug import ACTIONS
from virtkit.drivers import DRIVERS, KVM, LXC, QEMU
from virtkit.drivers.effects import ORDER, Effect, worst
from virtkit.drivers.fields import (
    DEVICE_LISTS,
    FIELDS,
    FIELDS_BY_PATH,
    FOLLOWED,
    IN_SEED,
    accounts_for,
    field_at,
    row_key,
)
from virtkit.plan.drift import FieldDifference
from virtkit.spec.model import Cpu, Disk, Graphics, GuestFields, InterfaceSpec, Max
from virtkit.xml.diff import Difference

NAMES = {
    *GuestFields.model_fields,
    *(f"cpu.{name}" for name in Cpu.model_fields),
    *(f"graphics.{name}" for name in Graphics.model_fields if name != "kind"),
    *(f"disks.{name}" for name in Disk.model_fields if name != "name"),
    *(f"networks.{name}" for name in InterfaceSpec.model_fields if name != "name"),
    "cdroms.disc",  # an entry is the path alone
}


#: Steps of a guest's that carry out what is live (apply/steps.py).
STEPS = {"autostart", "playbooks", "follow"}


def test_every_field_has_its_row_and_every_row_is_a_field() -> None:
    assert NAMES - set(FIELDS) == set(), "a new field of a guest: give it a row"
    assert set(FIELDS) - NAMES == set(), "a row of no field"


@pytest.mark.parametrize("guest_type", sorted(DRIVERS))
def test_every_field_has_an_effect(guest_type: str) -> None:
    effects = DRIVERS[guest_type].effects
    assert {each.removesuffix(".less") for each in effects} - NAMES == set(), "of no field"
    assert {DRIVERS[guest_type].effect(each) for each in NAMES} | set(effects.values()) <= set(
        ORDER
    )


@pytest.mark.parametrize("guest_type", sorted(DRIVERS))
def test_what_is_live_is_carried_out_by_something(guest_type: str) -> None:
    for name in sorted(NAMES):
        if DRIVERS[guest_type].effect(named(name)) == "live":
            assert FIELDS[name].action in {*STEPS, *ACTIONS}, f"{name}: nothing does it"


@pytest.mark.parametrize("guest_type", sorted(DRIVERS))
def test_what_is_live_and_stands_in_the_xml_can_be_given_to_a_running_guest(
    guest_type: str,
) -> None:
    """Else `plan` says live, `up` says done, and the next `plan` tells of the same again."""
    for place, name in FIELDS_BY_PATH.items():
        if DRIVERS[guest_type].effect(name) == "live" and FIELDS[name].action != "plug":
            assert FieldDifference(name, Difference(place, "2", "1"), "drift").live_fix, name


def test_each_action_is_somebodys() -> None:
    assert {row.action for row in FIELDS.values()} - {""} == {*STEPS, *ACTIONS}


def test_what_the_guests_own_system_does_is_a_reason_to_ask_it() -> None:
    following = {name.partition(".")[0] for name, row in FIELDS.items() if row.action == "follow"}
    assert following <= FOLLOWED
    assert IN_SEED <= FOLLOWED


def test_the_limits_are_those_that_max_has() -> None:
    assert {name for name, row in FIELDS.items() if row.max_xml_path} == set(Max.model_fields)
    assert accounts_for("max") == {"max", *Max.model_fields}
    assert accounts_for("memory") == {"memory", "max"}
    assert accounts_for("user") == set()


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("vcpu", "cpus"),
        ("vcpu/@current", "cpus"),
        ("cputune/quota", "cpus"),
        ("cputune/vcpupin[0]/@cpuset", "cpu.pin"),
        ("cputune/emulatorpin/@cpuset", "cpu.emulator_pin"),
        ("cputune/iothreadpin[1]", "cpu.io_thread_pin"),
        ("features/hyperv/vendor_id", "cpu.hidden"),
        ("memoryBacking/hugepages/page/@size", "hugepages"),
        ("cpu/@mode", "cpu.model"),
        ("cpu/feature[vmx]/@policy", "cpu.features"),
        ("os/@firmware", "firmware"),
        ("os/kernel", "kernel"),
        ("devices/graphics[vnc]/@listen", "graphics"),
        ("os/type/@machine", ""),
        ("memoryBacking/access/@mode", "folders"),
        ("devices/hostdev/source", "host_devices"),
        ("cpu/numa/cell[0]/@memory", "cpu.numa"),
        ("numatune/memnode[0]", "cpu.numa"),
        ("blkiotune", ""),
    ],
)
def test_field_at(path: str, field: str) -> None:
    assert field_at(path) == field


def named(key: str) -> str:
    """A reason's field for a key of the table."""
    first, *rest = key.split(".")
    return ".".join([first, "NAME", *rest]) if first in DEVICE_LISTS else key


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("memory", "memory"),
        ("disks.data", "disks"),
        ("disks.data.size", "disks.size"),
        ("disks.size.size", "disks.size"),
        ("disks.size", "disks"),
        ("networks.front", "networks"),
        ("networks.front#2", "networks"),
        ("networks.front#2.mac", "networks.mac"),
        ("disk", "disk"),
        ("disk.bus", "disks.bus"),
        ("cpu.pin", "cpu.pin"),
        ("kernel.path", "kernel"),
        ("max.cpus", "max"),
        ("devices/disk[vda]/driver/@cache", "devices/disk[vda]/driver/@cache"),
    ],
)
def test_row_key(field: str, expected: str) -> None:
    assert row_key(field) == expected


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        ([], "none"),
        (["none", "live"], "live"),
        (["restart", "live", "next-boot"], "restart"),
        (["next-boot", "live"], "next-boot"),
        (["recreate", "restart"], "recreate"),
    ],
)
def test_worst(effects: list[Effect], expected: Effect) -> None:
    assert worst(effects) == expected


def test_the_way_down_may_cost_more() -> None:
    assert (KVM.effect("cpus"), KVM.effect("cpus", less=True)) == ("live", "restart")
    assert QEMU.effect("cpus") == "restart", "an emulator may abort"
    assert (QEMU.effect("memory"), QEMU.effect("memory", less=True)) == ("live", "live")
    assert (LXC.effect("cpus"), LXC.effect("cpus", less=True)) == ("restart", "restart")


def test_a_place_in_the_xml_that_no_field_names_needs_a_restart() -> None:
    assert QEMU.effect("os/type/@machine") == "restart"
    assert LXC.effect("on_crash") == "restart"


@pytest.mark.parametrize("guest_type", ["kvm", "qemu"])
def test_machines_get_disks_while_they_run(guest_type: str) -> None:
    driver = DRIVERS[guest_type]
    for field in ("disk", "disks.data", "disks.data.size", "disks.data.mount", "networks.front"):
        assert driver.effect(field) == "live", field
    assert driver.pcie_ports > 0, "they are plugged in somewhere"


def test_containers_get_disks_when_they_start() -> None:
    for field in ("disk", "disks.data", "disks.data.size", "disks.data.mount"):
        assert LXC.effect(field) == "restart", field
    assert LXC.effect("networks.front") == "live"


@pytest.mark.parametrize("guest_type", sorted(DRIVERS))
def test_what_is_only_in_the_record_costs_nothing(guest_type: str) -> None:
    for field in ("groups", "after", "ready", "allow", "disks.data.keep"):
        assert DRIVERS[guest_type].effect(field) == "none", field
    for field in ("type", "image", "user", "cloud_init"):
        assert DRIVERS[guest_type].effect(field) == "recreate", field
