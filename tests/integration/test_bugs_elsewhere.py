"""What other tools were reported for, each as a test.

Covered elsewhere:

    terraform-provider-libvirt #1069 #844  test_changes: …_changes_unnoticed, …_waits_for_it
    terraform-provider-libvirt #1325 #1349 test_changes: test_a_running_virtual_machine_changes_…
    terraform-provider-libvirt #1269 #1326 #1341  test_drift: test_odd_words_mean_the_same
    terraform-provider-libvirt #67 #921    test_interrupted: test_up_goes_on_after_a_kill
    vagrant-libvirt #447 #559 #658         test_interrupted: the same, test_down_goes_on_…; below
    community.libvirt #205                 test_contract: test_up_again_changes_nothing
    community.libvirt #53, Salt #59739     test_drift: test_virsh_edit, test_the_configs_commands_…
    NixVirt #57                            test_changes: test_a_template_that_changed_comes_…
    NixVirt #103                           test_strangers
    cockpit-machines #598 #659             test_interrupted: test_two_at_once_end_well
    virt-lightning (password in metadata)  test_contract: test_no_secret_is_in_libvirts_sight
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, again, document, editing, lives
from integration.lab import POOL, domains, tiny_disk, virsh

SPEC: dict[str, Any] = {
    "name": "tickets",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.31.0/24"}},
    "defaults": {
        "type": "qemu",
        "image": "tiny",
        "memory": "32MiB",
        "ready": "none",
        "networks": ["front"],
    },
    "guests": {"a": {"disks": [{"name": "data", "size": "1MiB"}]}},
}
NVRAM = Path("/var/lib/libvirt/qemu/nvram")


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("tickets")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with editing(folder, SPEC) as edits:
        yield edits


@pytest.fixture
def lab(edits: Edits) -> Iterator[Edits]:
    edits.reset()
    yield from again(edits)


def test_each_guest_has_its_own_nvram_and_it_goes_with_it(lab: Edits) -> None:
    """terraform-provider-libvirt #1270 (can't undefine), vagrant-libvirt #1723 (one for all)."""
    lab.guest("b", firmware="uefi", count=2)
    lab.up()
    files = {document(f"tickets-b-{n}").findtext("os/nvram") for n in (1, 2)}
    assert len(files) == 2
    assert all(Path(str(each)).exists() for each in files)
    lab.lab.virtkit("down", "b")
    assert not any(Path(str(each)).exists() for each in files)
    assert not list(NVRAM.glob("tickets-*"))


def test_a_start_that_fails_leaves_nothing_to_repair(lab: Edits) -> None:
    """vagrant-libvirt #447 #559 #658: the guest "exists", but nothing can be done with it."""
    lab.guest("b", devices=["<watchdog model='ib700' action='none'/>"])  # no ISA card on q35 …
    lab.guest("b", devices=["<hub type='usb'/>"] * 12)  # … nor enough ports
    report = lab.lab.virtkit("up", "--json", code=None)
    if report.code:
        (error, *_) = (e["error"] for e in report.data["steps"] if e["outcome"] == "failed")
        assert error["what"]
        assert error["why"]
        assert error["cure"]
        lab.guest("b", devices=None)
        lab.up("--restart")
        assert lab.lab.status("b")["state"] == "running"
    lab.lab.virtkit("down", "b")
    assert "tickets-b" not in domains()


def test_a_guest_without_an_address_is_told_with_what_was_looked_at(lab: Edits) -> None:
    """vagrant-libvirt #1032: no address, and no reason why."""
    lab.guest("b", ready={"port": 22, "timeout": "2s"}, networks=["front"])
    report = lab.lab.virtkit("up", "--json", code=1)
    (error,) = (each["error"] for each in report.data["steps"] if each["outcome"] == "failed")
    assert "b is not ready" in error["what"]
    assert "after 2 s" in error["why"]
    assert "tiny: up" in error["why"]  # the end of its console


def test_a_time_out_is_not_taken_for_gone(lab: Edits) -> None:
    """multipass #2100: a guest that answers late was told as deleted."""
    lab.guest("b", ready={"port": 22, "timeout": "1s"})
    lab.lab.virtkit("up", code=1)
    life = lives("tickets-b")
    found = lab.lab.status("b")
    assert (found["state"], found["ready"]) == ("running", False)
    assert lab.plan()["guest/b"]["action"] == "update"
    lab.guest("b", ready="none")
    lab.up()  # it goes on with the same guest
    assert lives("tickets-b") == life


def test_an_unknown_key_is_an_error(lab: Edits) -> None:
    """kcli #598: it was ignored."""
    lab.guest("a", memroy="64MiB")
    before = lives("tickets-a")
    (error,) = lab.lab.errors("up")
    assert "memroy" in error
    assert lives("tickets-a") == before


def test_what_a_change_does_not_name_stays(lab: Edits) -> None:
    """NixVirt #57, terraform-provider-libvirt #1069: a small edit took the guest down."""
    volume = POOL / "tickets-a-data"
    before, inode = lives("tickets-a"), volume.stat().st_ino
    lab.guest("a", groups=["web"], autostart=True)
    lab.up()
    assert (lives("tickets-a"), volume.stat().st_ino) == (before, inode)
    assert "tickets-a" in virsh("list", "--autostart", "--name").split()
