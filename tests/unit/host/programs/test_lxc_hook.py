"""libvirt's hook: what it takes for its own, and what it refuses. (Its mounts: test_containers.)"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import samples

from virtkit.host.programs import lxc_hook
from virtkit.state import record, record_text
from virtkit.xml import render, tree

SPEC = """
name: lab
defaults: {type: lxc}
guests: {db: {disks: [{name: data, size: 1GiB, mount: /srv/data}]}}
"""
GUEST = samples.guest_of(SPEC, samples.facts_of())
RECORD = record.of_guest(GUEST, "/specs/lab.yaml")
XML = tree.with_record(render.domain_xml(GUEST), record_text.guest_element(RECORD))
FOLDER = f"{lxc_hook.FOLDER}/{GUEST.uuid}"


def read(text: str) -> lxc_hook.Container | None:
    return lxc_hook.read(ElementTree.fromstring(text))


def test_it_reads_what_virtkit_writes() -> None:
    container = read(XML.replace('<domain type="lxc"', '<domain type="lxc" id="17"'))
    assert container is not None
    assert (container.uuid, container.controller) == (GUEST.uuid, 17)
    assert (container.ids, container.folder) == (GUEST.confinement.ids, FOLDER)
    assert [(each.file, each.target, each.readonly) for each in lxc_hook.mounts(container)] == [
        (GUEST.files.root, f"{FOLDER}/{Path(GUEST.files.root).name}", True),
        ("/pool/lab-db-root", f"{FOLDER}/lab-db-root", False),
        ("/pool/lab-db-seed", f"{FOLDER}/lab-db-seed", True),
        ("/pool/lab-db-data", f"{FOLDER}/lab-db-data", False),
    ]


def test_a_container_with_disks_has_an_empty_root_mounted() -> None:
    guest = samples.guest_of(SPEC.replace("lxc", "uml"), samples.facts_of())
    element = record_text.guest_element(record.of_guest(guest, "/specs/lab.yaml"))
    container = read(tree.with_record(render.domain_xml(guest), element))
    assert container is not None
    (root,) = lxc_hook.mounts(container)
    assert (root.file, root.target, root.readonly) == ("", f"{FOLDER}/{lxc_hook.EMPTY}", False)


FOLDERS = """
name: lab
guests: {db: {type: %s, folders: [{source: ./src, target: /srv/src, readonly: true}]}}
"""


@pytest.mark.parametrize("kind", ["lxc", "uml"])
def test_a_folder_of_the_host_is_mounted_by_its_tag(kind: str) -> None:
    guest = samples.guest_of(FOLDERS % kind, samples.facts_of())
    element = record_text.guest_element(record.of_guest(guest, "/specs/lab.yaml"))
    container = read(tree.with_record(render.domain_xml(guest), element))
    assert container is not None
    *_, folder = lxc_hook.mounts(container)
    (tag,) = (each.tag for each in guest.folders)
    assert (folder.folder, folder.file) == ("/specs/src", "")
    assert (folder.target, folder.readonly) == (f"{FOLDER}/{tag}", True)


@pytest.mark.parametrize("source", ["/", "src", "/srv/../etc", "/srv/"])
def test_a_folder_that_virtkit_would_not_give_is_refused(source: str) -> None:
    guest = samples.guest_of(FOLDERS % "lxc", samples.facts_of())
    element = record_text.guest_element(record.of_guest(guest, "/specs/lab.yaml"))
    xml = tree.with_record(render.domain_xml(guest), element)
    container = read(xml.replace('"/specs/src"', f'"{source}"'))
    assert container is not None
    with pytest.raises(lxc_hook.Refused):
        list(lxc_hook.mounts(container))


def test_a_folders_owner_is_the_containers_root() -> None:
    """On the disk the owner's id; all others are the container's own."""
    first, last = lxc_hook.FIRST_ID, lxc_hook.FIRST_ID + lxc_hook.IDS - 1
    assert lxc_hook._owned_by(1000, first) == [
        (1000, first, 1),
        (first + 1, first + 1, last - first),
    ]
    assert lxc_hook._owned_by(first + 5, first) == [(first, first, lxc_hook.IDS)]


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
    assert lxc_hook.main("db", operation, xml) == 0
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
        (f'target="{FIRST}"', f'target="{lxc_hook.LAST_ID}"'),
        (f'<uid start="0" target="{FIRST}"', f'<uid start="0" target="{lxc_hook.FIRST_ID + 7}"'),
        ('start="0"', 'start="1"'),
        ('count="65536"', 'count="4294967295"'),
        ("</idmap>", f'<uid start="65536" target="{FIRST}" count="65536"/></idmap>'),
        # folders that are not this container's, and volumes that the record does not list
        (f"<uuid>{GUEST.uuid}", "<uuid>../../../etc"),
        (f"<uuid>{GUEST.uuid}", f"<uuid>{GUEST.uuid}/.."),
        (
            f"{FOLDER}/lab-db-root",
            f"{lxc_hook.FOLDER}/{'0' * 8}-0000-0000-0000-{'0' * 12}/lab-db-root",
        ),
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
        ('{"booted"', '["booted"'),
    ],
)
def test_what_virtkit_never_writes_is_refused(
    before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = XML.replace(before, after)
    assert crafted != XML
    assert lxc_hook.main("lab-db", "prepare", crafted) == 1
    assert capsys.readouterr().err.startswith("virtkit: lab-db, prepare: ")
    assert not Path(FOLDER).exists()


def test_folders_of_the_host_that_a_spec_allowed_are_libvirts_matter() -> None:
    more = '<filesystem type="mount"><source dir="/srv"/><target dir="/srv"/></filesystem>'
    container = read(XML.replace("</devices>", f"{more}</devices>"))
    assert container is not None
    assert len(list(lxc_hook.mounts(container))) == 4


@pytest.mark.parametrize("text", ["", "no XML", "<domain type='lxc'>"])
def test_broken_xml_stops_the_start(text: str) -> None:
    assert lxc_hook.main("lab-db", "prepare", text) == 1


def loop_device(path: Path) -> Any:
    return lxc_hook._loop_device(str(path), True)


def test_only_plain_files_become_devices(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic"):
        loop_device(tmp_path / "link")
    for each in ("pipe", "."):
        with pytest.raises(lxc_hook.Refused, match="not a regular file"):
            loop_device(tmp_path / each)
    with pytest.raises(lxc_hook.Refused, match="not a regular file"):
        loop_device(Path("/dev/null"))


# --- file systems that follow their files --------------------------------------------------------

MIB = 1024**2
# libvirt runs the hook as root; CI is root too, and there a skip would be a failure
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives the file to another user")


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lxc_hook, "LOGS", str(tmp_path))
    return tmp_path / "lab-db.log"


def made(path: Path, size: int, *options: str) -> Path:
    """A file system that fills its file."""
    with path.open("wb") as file:
        file.truncate(size)
    line = ["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", *options, str(path)]
    subprocess.run(line, check=True)
    return path


def missing_blocks(path: Path) -> int:
    with path.open("rb") as file:
        return lxc_hook.missing_blocks(file.fileno())


def is_whole(path: Path) -> bool:
    line = ["e2fsck", "-f", "-n", str(path)]
    return subprocess.run(line, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("options", [(), ("-b", "4096"), ("-O", "^64bit"), ("-O", "^has_journal")])
def test_it_knows_how_much_a_file_system_lacks(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = made(tmp_path / "disk", 64 * MIB, *options)
    assert missing_blocks(path) == 0
    os.truncate(path, 96 * MIB)
    assert missing_blocks(path) * (4096 if "4096" in options else 1024) == 32 * MIB


@pytest.mark.parametrize("content", [b"", b"\0" * MIB, b"\xff" * MIB])
def test_what_is_no_file_system_lacks_nothing(tmp_path: Path, logs: Path, content: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    os.truncate(path, 64 * MIB)
    assert missing_blocks(path) == 0
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert not logs.exists()


@root_only
@pytest.mark.parametrize("options", [(), ("-O", "^has_journal")])
def test_a_file_system_follows_its_file(
    tmp_path: Path, logs: Path, options: tuple[str, ...]
) -> None:
    path = made(tmp_path / "disk", 32 * MIB, *options)
    os.truncate(path, 64 * MIB)
    before = path.stat()
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert missing_blocks(path) == 0
    assert is_whole(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (before.st_uid, before.st_gid)
    assert f"virtkit: the file system in {path} grew by 32768 blocks in " in logs.read_text()
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert len(logs.read_text().splitlines()) == 1


@root_only
def test_who_reads_a_file_system_may_nothing_else(tmp_path: Path) -> None:
    script = "grep -E '^(Uid|Gid|Groups|Cap|NoNew)' /proc/self/status; exit 9"
    with (tmp_path / "disk").open("wb") as file, pytest.raises(lxc_hook.Failed) as caught:
        lxc_hook._run(file.fileno(), lxc_hook.NOBODY, "../bin/sh", "-c", script)
    words = str(caught.value).partition(" ended with 9: ")[2].split()
    assert words == [
        *["Uid:", *[str(lxc_hook.NOBODY)] * 4],
        *["Gid:", *[str(lxc_hook.NOBODY)] * 4],
        "Groups:",
        *[
            field
            for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")
            for field in (f"Cap{kind}:", "0" * 16)
        ],
        *["NoNewPrivs:", "1"],
    ]


@root_only
def test_a_file_system_that_is_not_sound_stays_as_it_is(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(tmp_path / "disk", 32 * MIB)
    subprocess.run(["debugfs", "-w", "-R", "clri <2>", path], check=True, capture_output=True)
    os.truncate(path, 64 * MIB)
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert missing_blocks(path) == 32 * 1024
    said = f"virtkit: the file system in {path} did not grow: e2fsck ended with 4: "
    assert said in logs.read_text()
    assert said in capsys.readouterr().err


@root_only
def test_a_growth_that_found_no_room_leaves_a_sound_file_system(tmp_path: Path, logs: Path) -> None:
    """resize2fs says itself that it needs `e2fsck -y` then."""
    path = made(tmp_path / "disk", 32 * MIB)
    os.truncate(path, 640 * MIB)
    held = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * MIB, held[1]))
    try:
        lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, held)
    assert "did not grow: resize2fs ended with " in logs.read_text()
    assert is_whole(path)
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert missing_blocks(path) == 0


@root_only
def test_it_waits_no_longer_than_it_must(
    tmp_path: Path, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path / "disk", 32 * MIB)
    os.truncate(path, 64 * MIB)
    monkeypatch.setattr(lxc_hook, "PROGRAM_TIMEOUT", 0.0)
    lxc_hook.grow_filesystem(str(path), lxc_hook.NOBODY, "lab-db")
    assert "did not grow: e2fsck took more than 0 s" in logs.read_text()
    assert is_whole(path)


def test_it_says_where_there_is_nothing_to_grow(tmp_path: Path, logs: Path) -> None:
    (tmp_path / "link").symlink_to("disk")
    for name in ("disk", "link"):
        lxc_hook.grow_filesystem(str(tmp_path / name), lxc_hook.NOBODY, "lab-db")
    assert logs.read_text().count(" did not grow: ") == 2


def test_words_of_a_file_system_are_no_words_to_a_terminal(logs: Path) -> None:
    lxc_hook.tell("lab-db", "\x1b[2J one\ntwo")
    assert logs.read_text().endswith("virtkit: ?[2J one?two\n")


def open_guest() -> str:
    guest = samples.guest_of(SPEC.replace("{db: {", "{db: {privileged: true, "), samples.facts_of())
    listed = record.of_guest(guest, "/specs/lab.yaml")
    return tree.with_record(render.domain_xml(guest), record_text.guest_element(listed))


def test_of_those_that_libvirt_mounts_it_takes_what_the_container_writes_to() -> None:
    root = ElementTree.fromstring(open_guest())
    assert list(lxc_hook.mounted_by_libvirt(root)) == ["/pool/lab-db-root", "/pool/lab-db-data"]
    assert list(lxc_hook.mounted_by_libvirt(ElementTree.fromstring(XML))) == []


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('<source file="/pool/lab-db-root"', '<source file="/etc/passwd"', ""),
        ('"/pool/lab-db-root"', '"/pool/../etc/lab-db-root"', "no file system grows"),
    ],
)
def test_nothing_but_its_record_s_volumes_grows_and_nothing_keeps_it_from_starting(
    before: str, after: str, said: str, capsys: pytest.CaptureFixture[str], logs: Path
) -> None:
    crafted = open_guest().replace(before, after)
    assert crafted != open_guest()
    assert lxc_hook.main("lab-db", "prepare", crafted) == 0
    assert said in capsys.readouterr().err
    assert not logs.exists() or "/etc" not in logs.read_text()


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """A pair of cards, as libvirt makes one for a container."""
    if os.geteuid() != 0:
        pytest.skip("cards are root's")
    names = (f"vk{os.getpid()}a", f"vk{os.getpid()}b")
    line = ["ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1]]
    if subprocess.run(line, check=False, capture_output=True).returncode != 0:
        pytest.skip("this kernel makes no pair of cards here")
    yield names
    subprocess.run(["ip", "link", "delete", names[0]], check=True)


def test_both_ends_of_a_card_get_its_mtu(pair: tuple[str, str], logs: Path) -> None:
    interface = f"<guest dev='eth0' actual='{pair[1]}'/><mtu size='9000'/>"
    lost = "<guest dev='eth1' actual='not-there'/><mtu size='9000'/>"
    root = "<domain><devices>" + "".join(
        f"<interface>{each}</interface>" for each in (lost, interface, "<guest dev='eth2'/>")
    )
    lxc_hook.set_mtus("lab-db", ElementTree.fromstring(f"{root}</devices></domain>"))
    sizes = [Path(f"/sys/class/net/{each}/mtu").read_text().strip() for each in pair]
    assert sizes == ["9000", "9000"]
    assert "not-there keeps its MTU" in logs.read_text()


def test_it_starts_python_only_where_a_card_has_an_mtu() -> None:
    line = ["sh", "-x", lxc_hook.__file__, "lab-db", "start", "begin", "-"]
    for xml, starts in (("<domain/>", False), ("<domain><mtu size='9000'/></domain>", True)):
        done = subprocess.run(line, input=xml, text=True, capture_output=True, check=True)
        assert ("/usr/bin/python3" in done.stderr) is starts, done.stderr


def test_it_runs_on_its_own(tmp_path: Path) -> None:
    """As libvirt runs it: a file elsewhere, without virtkit, through its shell."""
    copy = tmp_path / "virtkit"
    copy.write_bytes(Path(lxc_hook.__file__).read_bytes())
    copy.chmod(0o755)
    line = [copy, "lab-db", "prepare", "begin", "-"]
    done = subprocess.run(line, input="<a/>", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    crafted = XML.replace("/pool/lab-db-root", "/etc/passwd")
    done = subprocess.run(line, input=crafted, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "virtkit: lab-db, prepare: its volumes are not in one folder" in done.stderr
