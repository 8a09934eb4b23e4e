"""libvirt's hook: what it takes for its own, and what it refuses. (Its mounts: test_containers.)"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import world

from virtkit import record, render
from virtkit.host import hook

SPEC = """
name: lab
defaults: {type: lxc}
guests: {db: {disks: [{name: data, size: 1GiB, mount: /srv/data}]}}
"""
GUEST = world.guest_of(SPEC, world.facts_of())
RECORD = record.of_guest(GUEST, "/specs/lab.yaml")
XML = render.with_record(render.guest(GUEST), record.guest_element(RECORD))
FOLDER = f"{hook.FOLDER}/{GUEST.uuid}"


def read(text: str) -> hook.Container | None:
    return hook.read(ElementTree.fromstring(text))


def test_it_reads_what_virtkit_writes() -> None:
    found = read(XML.replace('<domain type="lxc"', '<domain type="lxc" id="17"'))
    assert found is not None
    assert (found.uuid, found.controller) == (GUEST.uuid, 17)
    assert (found.ids, found.folder) == (GUEST.confinement.ids, FOLDER)
    assert [(each.file, each.target, each.readonly) for each in hook.mounts(found)] == [
        (GUEST.files.root, f"{FOLDER}/{Path(GUEST.files.root).name}", True),
        ("/pool/lab-db-root", f"{FOLDER}/lab-db-root", False),
        ("/pool/lab-db-seed", f"{FOLDER}/lab-db-seed", True),
        ("/pool/lab-db-data", f"{FOLDER}/lab-db-data", False),
    ]


def test_a_container_with_disks_has_an_empty_root_mounted() -> None:
    guest = world.guest_of(SPEC.replace("lxc", "uml"), world.facts_of())
    element = record.guest_element(record.of_guest(guest, "/specs/lab.yaml"))
    found = read(render.with_record(render.guest(guest), element))
    assert found is not None
    (root,) = hook.mounts(found)
    assert (root.file, root.target, root.readonly) == ("", f"{FOLDER}/{hook.EMPTY}", False)


STRANGER = """<domain type="lxc"><name>db</name><uuid>{uuid}</uuid>{more}
<devices><filesystem type="mount"><source dir="{source}"/><target dir="/"/></filesystem></devices>
</domain>"""


@pytest.mark.parametrize(
    "more",
    [
        "",
        '<idmap><uid start="0" target="0" count="9"/><gid start="0" target="0" count="9"/></idmap>',
        '<metadata><vk:guest xmlns:vk="urn:virtkit:1">{}</vk:guest></metadata>',
        '<metadata><vk:guest xmlns:vk="urn:another">{}</vk:guest></metadata><idmap/>',
    ],
)
@pytest.mark.parametrize("operation", ["prepare", "start", "started", "stopped", "release"])
def test_strangers_are_left_alone(
    more: str, operation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    xml = STRANGER.format(uuid=GUEST.uuid, more=more, source=f"{FOLDER}/lab-db-root")
    assert read(xml) is None
    assert hook.main("db", operation, xml) == 0
    assert capsys.readouterr().err == ""
    assert not Path(FOLDER).exists()


def test_virtual_machines_and_hardened_containers_are_left_alone() -> None:
    assert read(XML.replace('type="lxc"', 'type="qemu"', 1)) is None
    begin, end = XML.index("<idmap>"), XML.index("</idmap>") + len("</idmap>")
    assert read(XML[:begin] + XML[end:]) is None


FIRST = str(GUEST.confinement.ids)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # other ids than virtkit gives: the host's own, a user's, somebody's by overlap
        (f'target="{FIRST}"', 'target="0"'),
        (f'target="{FIRST}"', 'target="100000"'),
        (f'target="{FIRST}"', f'target="{hook.LAST_ID}"'),
        (f'<uid start="0" target="{FIRST}"', f'<uid start="0" target="{hook.FIRST_ID + 7}"'),
        ('start="0"', 'start="1"'),
        ('count="65536"', 'count="4294967295"'),
        ("</idmap>", f'<uid start="65536" target="{FIRST}" count="65536"/></idmap>'),
        # folders that are not this container's, and volumes that the record does not list
        (f"<uuid>{GUEST.uuid}", "<uuid>../../../etc"),
        (f"<uuid>{GUEST.uuid}", f"<uuid>{GUEST.uuid}/.."),
        (f"{FOLDER}/lab-db-root", f"{hook.FOLDER}/{'0' * 8}-0000-0000-0000-{'0' * 12}/lab-db-root"),
        (f"{FOLDER}/lab-db-root", f"{FOLDER}/../lab-db-root"),
        (f"{FOLDER}/lab-db-root", f"{FOLDER}/lab-other-root"),
        (f"{FOLDER}/lab-db-root", f"{FOLDER}/lab-db-root/"),
        (f"{FOLDER}/lab-db-root", f"{FOLDER}/."),
        # records that lead elsewhere
        ("/pool/lab-db-root", "/etc/lab-db-root"),
        ("/pool/lab-db-root", "/pool/../etc/lab-db-root"),
        ("/pool/lab-db-root", "lab-db-root"),
        ("/pool/lab-db-root", "/pool/shadow"),
        ("/pool/lab-db-root", "/pool/other-db-root"),
        (GUEST.files.root, "/pool/shadow"),
        ('"guest": "db"', '"guest": "other"'),
        ('"environment": "lab"', '"environment": "la"'),
        ('"volumes": [', '"volumes": ["/etc/shadow", '),
        ('"volumes": [', '"volumes": 7, "more": ['),
        ('"volumes": [', '"volumes": [{"key": 7}, '),
        ('{"asked"', '["asked"'),
    ],
)
def test_what_virtkit_never_writes_is_refused(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = XML.replace(before, after)
    assert crafted != XML
    assert hook.main("lab-db", "prepare", crafted) == 1
    assert capsys.readouterr().err.startswith("virtkit: lab-db, prepare: ")
    assert not Path(FOLDER).exists()


def test_folders_of_the_host_that_a_spec_allowed_are_libvirts_matter() -> None:
    more = '<filesystem type="mount"><source dir="/srv"/><target dir="/srv"/></filesystem>'
    found = read(XML.replace("</devices>", f"{more}</devices>"))
    assert found is not None
    assert len(list(hook.mounts(found))) == 4


@pytest.mark.parametrize("text", ["", "no XML", "<domain type='lxc'>"])
def test_broken_xml_stops_the_start(text: str) -> None:
    assert hook.main("lab-db", "prepare", text) == 1


def loop_device(path: Path) -> Any:
    return hook._loop_device(str(path), True)


def test_only_plain_files_become_devices(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic"):
        loop_device(tmp_path / "link")
    for each in ("pipe", "."):
        with pytest.raises(hook.Refused, match="no plain file"):
            loop_device(tmp_path / each)
    with pytest.raises(hook.Refused, match="no plain file"):
        loop_device(Path("/dev/null"))


def test_a_file_system_that_can_t_grow_serves_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here it isn't even on a block device."""
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        hook._follow(folder, folder, "/pool/lab-db-data")
    finally:
        os.close(folder)
    said = capsys.readouterr().err
    assert said.startswith("virtkit: the file system in /pool/lab-db-data did not grow: ")


def test_it_runs_on_its_own(tmp_path: Path) -> None:
    """As libvirt runs it: a file elsewhere, without virtkit, through its shell."""
    import subprocess

    copy = tmp_path / "virtkit"
    copy.write_bytes(Path(hook.__file__).read_bytes())
    copy.chmod(0o755)
    line = [copy, "lab-db", "prepare", "begin", "-"]
    done = subprocess.run(line, input="<a/>", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    crafted = XML.replace("/pool/lab-db-root", "/etc/passwd")
    done = subprocess.run(line, input=crafted, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "virtkit: lab-db, prepare: its volumes are not in one folder" in done.stderr
