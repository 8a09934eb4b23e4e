"""The table of what a change costs: every field of a guest stands in it, for every type."""

from __future__ import annotations

import pytest

from virtkit.drivers import DRIVERS, KVM, LXC, QEMU
from virtkit.drivers.effects import ORDER, Effect, key, worst
from virtkit.spec.model import Disk, GuestKeys, InterfaceSpec

FIELDS = {
    *GuestKeys.model_fields,
    *(f"disks.{name}" for name in Disk.model_fields if name != "name"),
    *(f"networks.{name}" for name in InterfaceSpec.model_fields if name != "name"),
}


@pytest.mark.parametrize("word", sorted(DRIVERS))
def test_every_field_has_an_effect(word: str) -> None:
    effects = DRIVERS[word].effects
    assert FIELDS - set(effects) == set(), "a new field of a guest: what does its change cost?"
    assert {each.removesuffix(".less") for each in effects} - FIELDS == set(), "of no field"
    assert set(effects.values()) <= set(ORDER)


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
        ("kernel.path", "kernel"),
        ("max.cpus", "max"),
        ("devices/disk[vda]/driver/@cache", "devices/disk[vda]/driver/@cache"),
    ],
)
def test_key(field: str, expected: str) -> None:
    assert key(field) == expected


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


@pytest.mark.parametrize("word", ["kvm", "qemu"])
def test_machines_get_disks_while_they_run(word: str) -> None:
    driver = DRIVERS[word]
    for field in ("disk", "disks.data", "disks.data.size", "disks.data.mount", "networks.front"):
        assert driver.effect(field) == "live", field
    assert driver.ports > 0, "they are plugged in somewhere"


def test_containers_get_disks_when_they_start() -> None:
    for field in ("disk", "disks.data", "disks.data.size", "disks.data.mount"):
        assert LXC.effect(field) == "restart", field
    assert LXC.effect("networks.front") == "live"


@pytest.mark.parametrize("word", sorted(DRIVERS))
def test_what_is_only_in_the_record_costs_nothing(word: str) -> None:
    for field in ("groups", "after", "ready", "allow", "disks.data.keep"):
        assert DRIVERS[word].effect(field) == "none", field
    for field in ("type", "image", "user", "cloud_init"):
        assert DRIVERS[word].effect(field) == "recreate", field
