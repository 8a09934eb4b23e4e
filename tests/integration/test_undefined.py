"""Somebody takes a guest's domain away: its volumes are still its own, and the next run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.lab import POOL, VIRTKIT, Lab, laboratory, run, tiny_disk, until, virsh

SPEC = """
name: undone
images: {tiny: {path: tiny.raw}}
networks: {front: {mode: isolated, cidr: 10.94.41.0/24}}
defaults: {image: tiny, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 1MiB}, {name: safe, size: 1MiB, keep: true}]}
  b: {}
"""
REAL = """
name: undone
networks: {front: {cidr: 10.94.42.0/24}}
defaults: {memory: 256MiB, networks: [front]}
guests:
  GUEST: {type: TYPE, disks: [{name: data, size: 32MiB, mount: /srv/data}]}
"""
WIPE = ("urn:virtkit:1", "--remove", "--config")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    with laboratory(tmp_path, "undone", SPEC) as lab:
        yield lab


def uri(scheme: str) -> str:
    return f"{scheme}:///system"


def undefine(domain: str, scheme: str = "qemu", *words: str) -> None:
    """As somebody does who wants to begin anew."""
    virsh("destroy", domain, uri=uri(scheme))
    virsh("undefine", domain, *words, uri=uri(scheme))


def inodes(lab: Lab, *names: str) -> dict[str, int]:
    """Which files volumes are: another one was made anew."""
    return {each: (POOL / f"{lab.name}-{each}").stat().st_ino for each in names}


def listed(lab: Lab) -> set[str]:
    """The domains of the environment in the pool's record."""
    (path,) = POOL.glob("virtkit-record-*.json")
    guests = json.loads(path.read_text())["guests"]
    return {each for each in guests if each.startswith(f"{lab.name}-")}


def changes(lab: Lab) -> dict[str, tuple[str, dict[str, str]]]:
    """What a plan does to each object, and why: the causes by field."""
    return {
        each["object"]: (each["action"], {r["field"]: r["cause"] for r in each["reasons"]})
        for each in lab.json("plan")["changes"]
    }


def settled(lab: Lab) -> None:
    assert changes(lab) == {}


# --- real guests ----------------------------------------------------------------------------


# a virtual machine boots for a minute, twice; that its files are the same, the boot sectors show
@pytest.mark.parametrize(
    ("guest", "type", "scheme"),
    [("box", "lxc", "lxc"), pytest.param("vm", "qemu", "qemu", marks=pytest.mark.long)],
)
def test_real_guests_go_on_with_their_disks_and_their_host_keys(
    tmp_path: Path, guest: str, type: str, scheme: str
) -> None:
    with laboratory(tmp_path, "undone", REAL.replace("GUEST", guest).replace("TYPE", type)) as lab:
        assert lab.json("up")["ok"]
        known = tmp_path / "known"
        lab.sh(guest, "echo hello >/srv/data/mine; echo there >/root/mine; sync")
        script = "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id; cloud-id 2>/dev/null"
        before = lab.sh(guest, f"{script} || true; cat /root/mine /srv/data/mine")
        known.write_text(lab.virtkit("ssh-config").out)
        lab.virtkit("stop")
        virsh("undefine", f"undone-{guest}", uri=uri(scheme))
        found = lab.json("plan")
        (change,) = found["changes"]
        assert (change["object"], change["action"]) == (f"guest/{guest}", "create")
        assert [(r["field"], r["cause"]) for r in change["reasons"]] == [("domain", "drift")]
        (note,) = [each for each in found["notes"] if each.startswith(f"guest/{guest}:")]
        assert f"undone-{guest}-root, undone-{guest}-data" in note
        files = [f"{guest}-{each}" for each in ("root", "data", "seed")]
        same = inodes(lab, *files)
        assert lab.json("up")["ok"]
        settled(lab)
        assert inodes(lab, *files) == same
        assert lab.sh(guest, f"{script} || true; cat /root/mine /srv/data/mine") == before
        assert lab.virtkit("ssh-config").out == known.read_text()
        # once more, and taken down without a domain
        undefine(f"undone-{guest}", scheme)
        assert lab.json("down")["ok"]
        assert not lab.left()
        assert listed(lab) == set()


# --- every way in which it goes -------------------------------------------------------------


def test_down_removes_what_has_no_domain(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    assert listed(lab) == {"undone-a", "undone-b"}
    undefine("undone-a")
    assert lab.json("down", "a")["ok"]
    assert lab.volumes() == {"a-safe", *(each for each in lab.volumes() if each[0] == "b")}
    assert listed(lab) == {"undone-b"}
    assert lab.status("b")["state"] == "running"
    assert lab.json("up")["ok"], "the kept disk is taken again"
    undefine("undone-a")
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()


def test_all_its_storage_went_with_it(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    undefine("undone-a", "qemu", "--remove-all-storage")
    assert "a-root" not in lab.volumes()
    assert changes(lab) == {"guest/a": ("create", {"domain": "drift"})}
    assert lab.json("up")["ok"]
    settled(lab)
    assert {"a-root", "a-data", "a-safe", "a-seed"} <= lab.volumes()


def test_one_disk_went_with_it(lab: Lab) -> None:
    """What is gone can't be taken again: that is lost, and nobody agreed."""
    assert lab.json("up")["ok"]
    undefine("undone-a")
    virsh("vol-delete", "undone-a-data", "--pool", "default")
    (error,) = lab.errors("up")
    assert "disk undone-a-data is gone: an empty one would take its place" in error
    same = inodes(lab, "a-root", "a-safe")
    assert lab.json("up", "--yes")["ok"]
    settled(lab)
    assert inodes(lab, "a-root", "a-safe") == same


def test_undefined_while_it_runs(lab: Lab) -> None:
    """It is defined again and runs on; at its end nothing of it is nobody's."""
    assert lab.json("up")["ok"]
    virsh("undefine", "undone-a")
    ran = virsh("domid", "undone-a")
    assert changes(lab) == {"guest/a": ("update", {"domain": "drift"})}
    assert lab.json("up")["ok"]
    settled(lab)
    assert virsh("domid", "undone-a") == ran
    assert virsh("dominfo", "undone-a").split("Persistent:")[1].split()[0] == "yes"
    virsh("undefine", "undone-a")
    virsh("undefine", "undone-b")
    lab.virtkit("stop", "b", "--timeout", "0")
    assert lab.status("b")["state"] == "missing"
    assert changes(lab)["guest/b"] == ("create", {"domain": "drift"})
    assert lab.json("down", "--volumes")["ok"]
    assert not lab.left()
    assert listed(lab) == set()


def test_a_definition_that_leaves_the_record_out(lab: Lab, tmp_path: Path) -> None:
    """While it runs the guest has its record; after that, only the pool's: its domain is nobody's,
    and the cure helps."""
    assert lab.json("up")["ok"]
    for guest in "ab":
        virsh("metadata", f"undone-{guest}", *WIPE)
    assert changes(lab)["guest/a"] == ("update", {"record": "drift"})
    assert lab.json("up", "a")["ok"]
    assert "urn:virtkit:1" in virsh("dumpxml", "--inactive", "undone-a")
    virsh("destroy", "undone-b")
    for verb in ("plan", "up"):
        (error,) = lab.json(verb, code=2)["errors"]
        assert "domain undone-b exists and does not belong to this environment" in error["what"]
        assert "virsh -c qemu:///system undefine undone-b" in error["cure"]
    said = lab.virtkit("down", "b")
    assert "guest/b stays: domain undone-b carries no virtkit record" in said.err
    assert "b-root" in lab.volumes()
    same = inodes(lab, "b-root")
    virsh("undefine", "undone-b")
    assert lab.json("up")["ok"]
    settled(lab)
    assert inodes(lab, "b-root") == same


def test_a_strangers_domain_that_has_its_disks(lab: Lab) -> None:
    """Renamed, it is no guest of ours; its disks are in use and stay where they are."""
    assert lab.json("up")["ok"]
    virsh("destroy", "undone-a")
    virsh("domrename", "undone-a", "mine-now")
    try:
        (error,) = lab.json("up", code=2)["errors"]
        assert "domain mine-now" in error["what"]
        assert "domrename mine-now undone-a" in error["cure"]
        same = inodes(lab, "a-root", "a-data", "a-safe")
        said = lab.virtkit("down", "--volumes")
        assert "guest/a stays: domain mine-now" in said.err
        assert inodes(lab, "a-root", "a-data", "a-safe") == same
    finally:
        virsh("domrename", "mine-now", "undone-a")
    assert lab.json("up")["ok"]
    assert inodes(lab, "a-root", "a-data", "a-safe") == same


def test_the_image_that_it_uses_stays(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    for guest in "ab":
        undefine(f"undone-{guest}")
    line = [lab.line("up")[0], "image", "rm", "tiny"]
    done = subprocess.run(line, capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 2
    assert "undone-a, undone-b use it" in done.stderr


def test_the_spec_changed_meanwhile(lab: Lab) -> None:
    """Another user is another root: that is told, and needs consent; a larger disk grows."""
    assert lab.json("up")["ok"]
    undefine("undone-b")
    lab.write(SPEC.replace("b: {}", "b: {memory: 48MiB}"))
    assert changes(lab) == {"guest/b": ("create", {"domain": "drift", "memory": "spec"})}
    lab.write(SPEC.replace("b: {}", "b: {user: other}"))
    assert changes(lab)["guest/b"][0] == "replace"
    (error,) = lab.errors("up")
    assert "all on the root disk of b" in error
    assert lab.json("up", "--yes")["ok"]
    settled(lab)


def test_it_left_the_spec(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    undefine("undone-b")
    lab.write(SPEC.replace("  b: {}\n", ""))
    assert changes(lab)["guest/b"] == ("delete", {"guest": "spec"})
    assert lab.json("up", "--yes")["ok"]
    assert not [each for each in lab.volumes() if each.startswith("b-")]
    assert listed(lab) == {"undone-a"}


def test_doctor_knows_whose_they_are(lab: Lab) -> None:
    assert lab.json("up")["ok"]
    undefine("undone-a")
    checks = lab.virtkit("doctor", "--json", code=None).data["checks"]
    (check,) = [each for each in checks if each["name"] == "guest a"]
    assert "its domain is gone" in check["what"]
    assert "virtkit up" in check["cure"]
    assert orphans() == {}, "its spec wants it"
    lab.spec.rename(lab.folder / "moved.yaml")
    found = orphans()["undone-a"]
    assert (found["kind"], found["sure"]) == ("guest", True)
    assert "it has no domain any more, and its volumes are left" in found["why"]
    run("sh", "-c", f"{found['cure']}".replace("virtkit ", f"{lab.line('up')[0]} "))
    assert listed(lab) == {"undone-b"}
    assert not [each for each in lab.volumes() if each in ("a-root", "a-data", "a-seed")]
    (lab.folder / "moved.yaml").rename(lab.spec)


def orphans() -> dict[str, dict[str, Any]]:
    """What is left over and that nobody wants, by name."""
    found = json.loads(run(VIRTKIT, "doctor", "--orphans", "--json", cwd="/"))["orphans"]
    return {each["name"]: each for each in found if each["environment"] == "undone"}


# --- killed ---------------------------------------------------------------------------------


def test_killed_before_the_list_was_brought_up_to_date(lab: Lab) -> None:
    """The next `up` does that, and says so; even without it nothing is made anew."""
    started = lab.starts("up")
    assert until(lambda: "undone-b" in virsh("list", "--name").split(), 120)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    same = inodes(lab, "b-root")
    undefine("undone-b")
    assert lab.json("up")["ok"]
    settled(lab)
    assert inodes(lab, "b-root") == same
    assert listed(lab) == {"undone-a", "undone-b"}


# --- the folder -----------------------------------------------------------------------------


def test_a_folder_that_is_not_mounted_is_not_recreated(lab: Lab) -> None:
    """Else `down` finds nothing in it, and forgets what is on the disk."""
    lab.virtkit("up")
    away = POOL.with_name("images.away")
    POOL.rename(away)
    try:
        subprocess.run(["virsh", "pool-refresh", "default"], capture_output=True, check=False)
        for verb in ("plan", "up"):
            (error,) = lab.json(verb, code=2)["errors"]
            assert f"{POOL} is gone" in error["what"]
        lab.virtkit("down", code=1)
        assert not POOL.exists()
        assert (away / "undone-a-root").exists()
    finally:
        away.rename(POOL)
    lab.virtkit("down", "--volumes")
    assert not lab.left()
