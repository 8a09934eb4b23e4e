"""What belongs to no spec is found, told with the command that removes it, and left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.lab import (
    POOL,
    VIRTKIT,
    Lab,
    domains,
    laboratory,
    networks,
    obey,
    run,
    tiny_disk,
    virsh,
)

SPEC = """
name: left
images: {lone: {path: tiny.raw}}
networks: {front: {cidr: 10.94.30.0/24}}
defaults: {image: lone, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 1MiB, keep: true}]}
  b: {}
"""
DATA = Path.home() / ".local/share/virtkit"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    (tmp_path / "tiny.raw").write_bytes(tiny_disk(b"lone"))
    with laboratory(tmp_path, "left", SPEC) as lab:
        assert lab.json("up")["ok"]
        yield lab
        lab.write(SPEC)


def orphans(*words: str | Path) -> dict[str, dict[str, Any]]:
    """What is told, by kind and name; images of other tests, and of whoever runs them, aside."""
    line = [VIRTKIT, "doctor", "--orphans", "--json", *words]
    found = json.loads(run(*line, cwd="/"))["orphans"]
    return {
        f"{each['kind']} {each['name']}": each
        for each in found
        if each["kind"] not in ("cache", "image")
        or "ghost" in each["name"]
        or each["why"].startswith("image lone ")
    }


def test_what_has_a_spec_is_no_orphan(lab: Lab) -> None:
    assert orphans() == {}
    assert orphans(lab.spec) == {}
    assert "nothing is left over" in run(VIRTKIT, "doctor", "--orphans") or orphans() == {}


def test_a_guest_that_left_its_spec(lab: Lab) -> None:
    lab.write(SPEC.replace("  b: {}\n", ""))
    (found,) = orphans().values()
    assert (found["kind"], found["name"], found["environment"]) == ("guest", "left-b", "left")
    assert found["sure"]
    assert "does not name it any more" in found["why"]
    obey(found["cure"])
    assert orphans() == {}
    assert list(domains()) == ["left-a"]


def test_a_spec_that_is_gone(lab: Lab) -> None:
    """From the guests to the last disk, each by the command that is told; nothing by itself."""
    lab.spec.unlink()
    for _ in range(2):
        found = orphans()
        assert set(found) == {"guest left-a", "guest left-b", "network left-front"}
        assert all("is gone" in each["why"] and each["sure"] for each in found.values())
    assert set(domains()) == {"left-a", "left-b"}
    obey(found["network left-front"]["cure"])
    assert not domains()
    assert not networks()
    found = orphans()
    (image,) = [each for each in found.values() if each["kind"] == "image"]
    assert set(found) == {"disk left-a-data", f"image {image['name']}"}
    assert "it holds data" in found["disk left-a-data"]["why"]
    assert (POOL / "left-a-data").exists()
    obey(image["cure"])
    obey(found["disk left-a-data"]["cure"])
    assert orphans() == {}
    lab.write(SPEC)
    assert not lab.left()


def test_a_spec_that_moved_claims_what_is_its(lab: Lab, tmp_path: Path) -> None:
    new = tmp_path / "elsewhere" / "left.yaml"
    new.parent.mkdir()
    lab.spec.rename(new)
    assert len(orphans()) == 3
    assert orphans(new) == {}
    text = run(VIRTKIT, "doctor", "--orphans")
    assert "orphan guest left-a: its spec" in text
    assert """to remove it: echo '{"name": "left"}' | virtkit down -f -""" in text


@pytest.mark.parametrize(
    ("text", "why", "sure"),
    [
        ("guests: [", "can't be read", False),
        (SPEC.replace("name: left", "name: right"), "is now the spec of environment right", True),
    ],
)
def test_a_spec_that_says_something_else(lab: Lab, text: str, why: str, sure: bool) -> None:
    lab.write(text)
    found = orphans()
    assert set(found) == {"guest left-a", "guest left-b", "network left-front"}
    for each in found.values():
        assert why in each["why"]
        assert each["sure"] is sure


def test_volumes_without_a_record(lab: Lab) -> None:
    for name in ("left-a-more", "other-vm-root", "a-strangers", "used-vm-root"):
        virsh("vol-create-as", "default", name, "1MiB", "--format", "raw")
    domain = lab.folder / "stranger.xml"
    domain.write_text(
        '<domain type="qemu"><name>stranger</name><memory unit="MiB">32</memory>'
        '<os><type>hvm</type></os><devices><disk type="file"><target dev="vda"/>'
        f'<source file="{POOL}/used-vm-root"/></disk></devices></domain>'
    )
    virsh("define", domain)
    try:
        found = orphans()
        assert set(found) == {"volume left-a-more", "volume other-vm-root"}
        assert not any(each["sure"] for each in found.values())
        assert "may be left over" in found["volume left-a-more"]["why"]
        assert (POOL / "left-a-more").exists()
        obey(found["volume other-vm-root"]["cure"])
        assert not (POOL / "other-vm-root").exists()
    finally:
        virsh("undefine", "stranger")
        for name in ("left-a-more", "a-strangers", "used-vm-root"):
            virsh("vol-delete", name, "--pool", "default")


def test_folders_of_keys_and_interrupted_builds(lab: Lab) -> None:
    ghost = DATA / "ghost"
    ghost.mkdir(parents=True)
    (ghost / "id_ed25519").write_text("a key")
    part = Path(os.environ["XDG_CACHE_HOME"], "virtkit", "images", "ghost.part")
    part.mkdir(parents=True)
    found = orphans()
    assert set(found) == {f"folder {ghost}", f"cache {part}"}
    assert found[f"folder {ghost}"]["environment"] == "ghost"
    assert "interrupted" in found[f"cache {part}"]["why"]
    for each in found.values():
        obey(each["cure"])
    assert not ghost.exists()
    assert not part.exists()
    part.with_name("ghost.lock").unlink()


def test_doctor_tells_what_is_gone(lab: Lab) -> None:
    def gone() -> dict[str, str]:
        checks = lab.virtkit("doctor", "--json", code=None).data["checks"]
        names = ("guest ", "network ", "disk ")
        return {each["name"]: each["what"] for each in checks if each["name"].startswith(names)}

    assert gone() == {}
    virsh("destroy", "left-b")
    virsh("undefine", "left-b")
    virsh("net-destroy", "left-front")
    found = gone()
    assert "its domain is gone" in found["guest b"]
    assert "not active" in found["network front"]
    virsh("net-undefine", "left-front")
    assert "its network left-front is gone" in gone()["guest a"]
    lab.virtkit("down", "a")
    virsh("vol-delete", "left-a-data", "--pool", "default")
    assert "is gone" in gone()["disk left-a-data"]
    lab.virtkit("down", "--volumes")
    assert gone() == {}
    for path in POOL.glob("left-b-*"):
        path.unlink()
