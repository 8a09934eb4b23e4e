"""A guest that is given an Ignition file: it finds it where QEMU's firmware has it, nobody else
does, and another one asks for another root disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, early, editing, lives, why
from integration.lab import POOL, run, tiny_disk, until, virsh

SECRET, OTHER = "s3cret-of-ignition", "an0ther-of-ignition"
FILE = "/sys/firmware/qemu_fw_cfg/by_name/opt/com.coreos/config/raw"
SPEC: dict[str, Any] = {
    "name": "ignited",
    "images": {"tiny": {"path": "tiny.raw"}},
    "defaults": {"type": "qemu", "networks": []},
    "guests": {
        "vm": {"memory": "256MiB", "ignition": "./config.ign"},
        "tiny": {"image": "tiny", "memory": "32MiB", "ignition": {"env": "IGNITED_CONFIG"}},
    },
}


def config(secret: str) -> str:
    return json.dumps({"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"name": secret}]}})


#: The virtual machine with a system boots for a minute; what it has of libvirt, the other has, too.
GUESTS = [pytest.param("vm", marks=pytest.mark.long), "tiny"]


@pytest.fixture(scope="module")
def edits(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("ignited")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "config.ign").write_text(config(SECRET))
    with editing(folder, early(request, SPEC, "vm"), IGNITED_CONFIG=config(SECRET)) as edits:
        yield edits


def inside(edits: Edits) -> str:
    """What the guest's system finds; nothing while that can't be asked yet."""
    script = f"modprobe qemu_fw_cfg && cat {FILE}"
    return edits.lab.virtkit("exec", "vm", "--", "sh", "-c", script, code=None).out.strip()


@pytest.mark.parametrize("guest", GUESTS)
def test_libvirt_has_the_file_in_the_pool(edits: Edits, guest: str) -> None:
    (entry,) = document(f"ignited-{guest}").iterfind("sysinfo[@type='fwcfg']/entry")
    assert entry.get("name") == "opt/com.coreos/config"
    path = Path(entry.get("file"))
    assert path == Path(POOL) / f"ignited-{guest}-ignition"
    assert path.read_text() == config(SECRET)
    assert f"{guest}-ignition" in edits.lab.volumes()
    assert f"{guest}-seed" not in edits.lab.volumes()


@pytest.mark.long  # its system boots
def test_the_guest_finds_what_the_file_says(edits: Edits) -> None:
    assert until(lambda: inside(edits), 300, 3) == config(SECRET)


@pytest.mark.parametrize("guest", GUESTS)
def test_nobody_else_does(edits: Edits, guest: str) -> None:
    path = Path(POOL) / f"ignited-{guest}-ignition"
    assert path.stat().st_mode & 0o777 == 0o600
    lines = run("ps", "-wweo", "args")
    assert f"ignited-{guest}-ignition" in lines, "QEMU is given the path"
    texts = [lines, virsh("dumpxml", f"ignited-{guest}", "--security-info")]
    texts += [virsh("dumpxml", f"ignited-{guest}", "--inactive", "--security-info")]
    texts += [edits.lab.virtkit(verb).out for verb in ("status", "render", "inventory")]
    assert not [each for each in texts if SECRET in each]


def test_apparmor_is_told_to_let_qemu_read_it(edits: Edits) -> None:
    root = document("ignited-tiny", "--inactive")
    line = ["/usr/lib/libvirt/virt-aa-helper", "-d", "-r", "-u", f"libvirt-{root.findtext('uuid')}"]
    xml = virsh("dumpxml", "ignited-tiny", "--inactive")
    done = subprocess.run(line, input=xml, capture_output=True, text=True, check=False)
    assert f'"{POOL}/ignited-tiny-ignition" r,' in done.stdout + done.stderr


@pytest.mark.parametrize("guest", GUESTS)
def test_virtkit_has_no_way_in(edits: Edits, guest: str) -> None:
    ran = edits.lab.virtkit("ssh", guest, "--", "true", code=None)
    assert ran.code != 0
    assert "an Ignition file set it up" in ran.err
    assert "ssh core@" in ran.err


def test_it_is_there_after_a_restart(edits: Edits) -> None:
    before = lives("ignited-tiny")
    edits.lab.virtkit("stop", "tiny", "--timeout", "1")
    edits.lab.virtkit("start", "tiny")
    assert lives("ignited-tiny") != before
    assert (Path(POOL) / "ignited-tiny-ignition").read_text() == config(SECRET)
    assert edits.plan() == {}


@pytest.mark.long  # its system boots once more
def test_another_content_asks_for_another_root_disk(edits: Edits) -> None:
    (edits.lab.folder / "config.ign").write_text(config(OTHER))
    before = lives("ignited-vm"), lives("ignited-tiny")
    plan = edits.plan()
    assert {name: why(each) for name, each in plan.items()} == {
        "guest/vm": {"ignition": ("spec", "recreate")}
    }
    assert OTHER not in json.dumps(plan)
    edits.refused("all on the root disk of vm")
    edits.up("--yes")
    assert lives("ignited-vm") != before[0]
    assert lives("ignited-tiny") == before[1]
    assert until(lambda: inside(edits), 300, 3) == config(OTHER)


def test_it_goes_with_the_key(edits: Edits) -> None:
    edits.guest("tiny", ignition=None)
    assert why(edits.plan()["guest/tiny"]) == {"ignition": ("spec", "recreate")}
    edits.up("--yes")
    assert document("ignited-tiny").find("sysinfo") is None
    assert not (Path(POOL) / "ignited-tiny-ignition").exists()


@pytest.mark.parametrize("guest", GUESTS)
def test_it_goes_with_the_guest(edits: Edits, guest: str) -> None:
    edits.reset()
    edits.up("--yes")
    run("test", "-e", f"{POOL}/ignited-{guest}-ignition")
    edits.lab.virtkit("down", guest)
    assert not (Path(POOL) / f"ignited-{guest}-ignition").exists()
