"""Disks are made of what people have: packed files, archives, disks of other tools. What none can
be made of is refused with the reason, and so is what comes to too much."""

from __future__ import annotations

import gzip
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from virtkit.errors import Interrupted, RequestError, VirtkitError
from virtkit.images import cache, formats, probe, unpack
from virtkit.progress import Progress
from virtkit.spec import Image
from virtkit.state.desired import ImageRef, image_identity

pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-img"), reason="needs qemu-img: apt-get install qemu-utils"
)
MIB = 1024 * 1024
PACKERS = {"gzip": ".gz", "xz": ".xz", "bzip2": ".bz2", "zstd": ".zst"}
quiet = Progress()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def content() -> bytes:
    """A disk's content: some of it nothing, with a boot sector's sign."""
    sector = bytes(510) + b"\x55\xaa"
    return sector + os.urandom(MIB) + bytes(6 * MIB) + os.urandom(MIB // 2) + bytes(MIB)


def program(name: str, *words: str | Path) -> bytes:
    """What a program prints; skipped where this machine has not got it."""
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    return subprocess.run([name, *map(str, words)], check=True, capture_output=True).stdout


def disk(path: Path, content: bytes, format: str, *options: str) -> Path:
    """A disk of a format, with a content."""
    raw = path.with_name(f"{path.name}.source")
    raw.write_bytes(content)
    program("qemu-img", "convert", "-f", "raw", "-O", format, *options, raw, path)
    raw.unlink()
    return path


def ref_of(**keys: str) -> ImageRef:
    entry = Image(**keys)
    return ImageRef("mine", entry, image_identity(entry))


def made(path: Path) -> cache.LocalImage:
    return cache.local_image(ref_of(path=str(path)), Path("/"), quiet)


def steps(path: Path) -> str:
    """What the plan says of it."""
    return cache.check(ref_of(path=str(path)), Path("/"))


def content_of(image: cache.LocalImage, folder: Path) -> bytes:
    """What a guest would see on an image."""
    raw = folder / "seen"
    program("qemu-img", "convert", "-f", image.format, "-O", "raw", image.root, raw)
    return raw.read_bytes()


def refused(path: Path) -> RequestError:
    """What is said where the image is made."""
    with pytest.raises(RequestError) as caught:
        made(path)
    assert caught.value.cure
    assert not [*cache.folder().glob("*/image.json")], "nothing counts as an image"
    return caught.value


# --- packed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("named", [True, False])
def test_packed(packer: str, named: bool, content: bytes, tmp_path: Path) -> None:
    """Also under a name that says otherwise. It is sparse, and made once."""
    raw = tmp_path / "raw"
    raw.write_bytes(content)
    path = tmp_path / f"disk.raw{PACKERS[packer] if named else ''}"
    path.write_bytes(program(packer, "-c", raw))
    packed = path.read_bytes()
    assert steps(path) == f"unpacked ({packer})"
    image = made(path)
    assert (image.format, image.size) == ("raw", len(content))
    assert Path(image.root).read_bytes() == content
    assert Path(image.root).stat().st_blocks * 512 < 2 * MIB, "no zeros are written"
    assert path.read_bytes() == packed, "what was given stays"
    before = Path(image.root).stat().st_mtime_ns
    cache._probed.clear()
    assert made(path) == image
    assert Path(image.root).stat().st_mtime_ns == before
    assert image.content == cache.content_of(hashlib.sha256(packed).hexdigest())


def test_a_packed_qcow2(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "disk.qcow2.xz"
    path.write_bytes(program("xz", "-c", disk(tmp_path / "a", content, "qcow2")))
    assert steps(path) == "unpacked (xz)"
    image = made(path)
    assert image.format == "qcow2"
    assert content_of(image, tmp_path) == content


@pytest.mark.parametrize("packer", PACKERS)
def test_cut_off(packer: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(content)
    packed = program(packer, "-c", tmp_path / "raw")
    path = tmp_path / "disk"
    path.write_bytes(packed[: len(packed) // 2])
    error = refused(path)
    assert "can't be unpacked" in error.what
    assert error.why
    assert "cut off" in error.cure


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb(packer: str, tmp_path: Path) -> None:
    """It is refused at the limit: what came so far is all that was unpacked."""
    with (tmp_path / "zeros").open("wb") as file:
        file.truncate(200 * MIB)
    path = tmp_path / "disk"
    path.write_bytes(program(packer, "-c", tmp_path / "zeros"))
    assert path.stat().st_size < MIB
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(RequestError, match="comes to more than 64MiB unpacked"):
        unpack.make_disk(path, "disk", work, quiet, limit=64 * MIB)
    assert sum(each.stat().st_blocks for each in work.iterdir()) * 512 < MIB
    assert unpack.make_disk(path, "disk", work, quiet, limit=200 * MIB).stat().st_size == 200 * MIB


def test_a_bomb_that_is_a_disk_of_another_tool(tmp_path: Path) -> None:
    path = tmp_path / "disk.vmdk"
    program("qemu-img", "create", "-f", "vmdk", path, "1T")
    assert "comes to more than 256GiB" in refused(path).what


def test_a_bomb_of_memory(tmp_path: Path) -> None:
    """A dictionary of a gigabyte: the program that unpacks it is held back."""
    (tmp_path / "raw").write_bytes(os.urandom(MIB))
    words = ("--lzma2=dict=1GiB", "-T1", "-c", tmp_path / "raw")
    path = tmp_path / "disk.xz"
    path.write_bytes(program("xz", *words))
    assert "emory" in refused(path).why


def test_packed_too_often(tmp_path: Path) -> None:
    data = bytes(MIB)
    for _ in range(6):
        data = gzip.compress(data)
    (tmp_path / "disk").write_bytes(data)
    assert "packed 4 times" in refused(tmp_path / "disk").what


def test_no_room(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MIN_FREE", 1 << 62)
    monkeypatch.setattr(unpack, "_LOOK", MIB)
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(VirtkitError, match="has no room") as caught:
        made(path)
    assert "free some space" in caught.value.cure
    vmdk = disk(tmp_path / "disk.vmdk", content, "vmdk")
    with pytest.raises(VirtkitError, match="has no room"):
        made(vmdk)


def test_interrupted(tmp_path: Path, content: bytes) -> None:
    """The program that unpacks ends, and the next run makes it."""
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(content))
    stop = threading.Event()
    ended = Progress(lambda line: stop.set() if "unpacking" in line else None, stop)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(unpack, "_LOOK", MIB)
    with pytest.raises(Interrupted):
        cache.local_image(ref_of(path=str(path)), Path("/"), ended)
    monkey.undo()
    assert [each.suffix for each in cache.folder().iterdir() if each.is_dir()] == [".part"]
    assert Path(made(path).root).read_bytes() == content


@pytest.mark.parametrize(
    ("inside", "what"),
    [
        (b"<html>".ljust(1000, b"x"), "a web page"),
        (bytes(32769) + b"CD001" + bytes(1000), "a CD or DVD"),
        (b"070701" + b"0" * 104 + bytes(1000), "an initrd"),
    ],
)
@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_what_is_packed_is_no_disk(inside: bytes, what: str, pack: object, tmp_path: Path) -> None:
    """Told by the plan."""
    assert callable(pack)
    path = tmp_path / "disk.xz"
    path.write_bytes(pack(inside))
    with pytest.raises(RequestError) as caught:
        steps(path)
    assert f"({what}" in caught.value.what
    assert what in refused(path).what


def test_what_a_zstd_has_is_told_once_it_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"<html>".ljust(1000, b"x"))
    path = tmp_path / "disk.zst"
    path.write_bytes(program("zstd", "-c", tmp_path / "page"))
    assert refused(path).what.endswith("disk.zst is a web page")


# --- disks of other tools -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("vmdk", ()),
        ("vmdk", ("-o", "subformat=streamOptimized")),
        ("vdi", ()),
        ("vdi", ("-o", "static=on")),
        ("vhdx", ()),
        ("vhdx", ("-o", "subformat=fixed")),
    ],
)
def test_disks_of_others(
    format: str, options: tuple[str, ...], content: bytes, tmp_path: Path
) -> None:
    path = disk(tmp_path / "disk", content, format, *options)
    assert steps(path) == f"converted from {format} to qcow2"
    image = made(path)
    assert image.format == "qcow2"
    assert content_of(image, tmp_path)[: len(content)] == content
    packed = tmp_path / "disk.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert steps(packed) == f"unpacked (gzip), then converted from {format} to qcow2"
    assert content_of(made(packed), tmp_path)[: len(content)] == content


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentSparse"])
def test_a_vmdk_of_several_files(subformat: str, content: bytes, tmp_path: Path) -> None:
    """It names others; the cure is a command that makes one of them."""
    path = disk(tmp_path / "disk.vmdk", content, "vmdk", "-o", f"subformat={subformat}")
    error = refused(path)
    assert "content is in other files" in error.what
    line = error.cure.partition(": ")[2].partition(";")[0]
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    assert content_of(made(tmp_path / "whole.qcow2"), tmp_path) == content


def test_a_vmdk_that_names_a_file_of_this_machine(tmp_path: Path) -> None:
    """qemu-img would read it: as a text, and hidden behind a VMDK's own sign."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret".ljust(MIB, b"!"))
    descriptor = (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW 2048 FLAT "{secret}" 0\n'
        'ddb.adapterType = "ide"\nddb.geometry.cylinders = "2"\n'
    ).encode()
    plain = tmp_path / "plain.vmdk"
    plain.write_bytes(descriptor)
    hidden = tmp_path / "hidden.vmdk"
    header = b"KDMV" + (1).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(8)
    header += (128).to_bytes(8, "little") + (1).to_bytes(8, "little") + (1).to_bytes(8, "little")
    header = header.ljust(512, b"\0")
    hidden.write_bytes(header + descriptor.ljust(512 * 20, b"\0"))
    for path in (plain, hidden):
        assert "content is in other files" in refused(path).what
        with pytest.raises(RequestError, match="content is in other files"):
            steps(path)


def test_a_vmdk_with_a_parent(tmp_path: Path) -> None:
    program("qemu-img", "create", "-f", "vmdk", tmp_path / "base.vmdk", "8M")
    path = tmp_path / "disk.vmdk"
    base = ("-b", tmp_path / "base.vmdk", "-F", "vmdk")
    program("qemu-img", "create", "-f", "vmdk", *base, path)
    error = refused(path)
    assert "has a backing file" in error.what
    assert "base.vmdk" in error.what


@pytest.mark.parametrize("inner", ["base", "/etc/passwd"])
def test_a_backing_file_in_what_is_packed(inner: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    program("qemu-img", "create", "-u", "-f", "qcow2", "-b", inner, "-F", "raw", path, "8M")
    packed = tmp_path / "disk.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert f"has a backing file: {inner}" in refused(packed).what


# --- encrypted ------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "prefix"), [("luks", ""), ("qcow2", "encrypt.")])
def test_encrypted(format: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    secret = ("--object", "secret,id=s,data=secret")
    options = f"{prefix}key-secret=s,{prefix}iter-time=10"
    if prefix:
        options += f",{prefix}format=luks"
    program("qemu-img", "create", *secret, "-f", format, "-o", options, path, "8M")
    with pytest.raises(RequestError, match="is encrypted"):
        steps(path)
    assert "is encrypted" in refused(path).what
    packed = tmp_path / "disk.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert "is encrypted" in refused(packed).what


def test_an_encrypted_vmdk(tmp_path: Path) -> None:
    """As VMware Workstation marks it in the descriptor."""
    path = tmp_path / "disk.vmdk"
    program("qemu-img", "create", "-f", "vmdk", path, "8M")
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[28:36], "little") * 512
    end = data.index(0, start)
    mark = b'encryption.keySafe = "vmware:key/list/(pair/(x))"\n'
    data[end : end + len(mark)] = mark
    path.write_bytes(data)
    assert "is encrypted" in refused(path).what


# --- archives -------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, Path], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, source in members.items():
            tar.add(source, name)
    return path


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note"
    path.write_text("<Envelope/>\n" * 100)
    return path


def test_an_appliance(content: bytes, note: Path, tmp_path: Path) -> None:
    """An OVA: a description, a manifest and a disk that was made for streaming."""
    options = ("-o", "subformat=streamOptimized")
    inner = disk(tmp_path / "a-disk1.vmdk", content, "vmdk", *options)
    members = {"a.ovf": note, "a.mf": note, "a-disk1.vmdk": inner}
    path = archive(tmp_path / "a.ova", members)
    assert steps(path) == "taken out of its archive, then converted from vmdk to qcow2"
    assert content_of(made(path), tmp_path) == content


@pytest.mark.parametrize("packing", ["", ":gz", ":xz", ":bz2"])
def test_a_box_of_vagrants(packing: str, content: bytes, note: Path, tmp_path: Path) -> None:
    """For libvirt: a qcow2 as box.img, and its description."""
    metadata = tmp_path / "metadata.json"
    metadata.write_text(json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": 1}))
    inner = disk(tmp_path / "inner", content, "qcow2")
    members = {"./metadata.json": metadata, "./Vagrantfile": note, "./box.img": inner}
    path = archive(tmp_path / "debian.box", members, f"w{packing}")
    said = steps(path)
    assert said.startswith("unpacked (" if packing else "taken out of its archive")
    image = made(path)
    assert image.format == "qcow2"
    assert content_of(image, tmp_path) == content


def test_a_raw_disk_in_an_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(content)
    image = made(archive(tmp_path / "disk.tar.xz", {"disk.raw": tmp_path / "raw"}, "w:xz"))
    assert (image.format, Path(image.root).read_bytes() == content) == ("raw", True)
    assert Path(image.root).stat().st_blocks * 512 < 2 * MIB


def test_several_disks(content: bytes, tmp_path: Path) -> None:
    inner = disk(tmp_path / "inner", content, "qcow2")
    path = archive(tmp_path / "disk.box", {"box_0.img": inner, "box_1.img": inner}, "w")
    with pytest.raises(RequestError) as caught:
        steps(path)
    assert "has 2 disks: 'box_0.img', 'box_1.img'" in caught.value.what
    packed = archive(tmp_path / "disk.tgz", {"a.img": inner, "b.qcow2": inner}, "w:gz")
    assert "has 2 disks" in refused(packed).what


def test_no_disk_in_an_archive(note: Path, tmp_path: Path) -> None:
    error = refused(archive(tmp_path / "rootfs.tar.xz", {"etc/passwd": note}, "w:xz"))
    assert "has no disk" in error.what
    assert "etc/passwd" in error.why
    assert "`rootfs:`" in error.cure
    many = {f"usr/{number}": note for number in range(1100)}
    assert "more than 1000 files" in refused(archive(tmp_path / "many.tar", many)).what


def test_what_an_archive_names_is_never_a_path(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(content)
    path = tmp_path / "disk.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("disk.img")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        member = tarfile.TarInfo("../../outside.img")
        member.size = len(content)
        with (tmp_path / "raw").open("rb") as file:
            tar.addfile(member, file)
    assert Path(made(path).root).read_bytes() == content
    assert not (tmp_path.parent / "outside.img").exists()


def test_an_archive_that_was_cut_off(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(content)
    path = archive(tmp_path / "disk.tar", {"disk.img": tmp_path / "raw"})
    os.truncate(path, 2 * MIB)
    error = refused(path)
    assert "damaged or cut off" in error.what


# --- downloads ------------------------------------------------------------------------------


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a server of the files in ``tmp_path/web``."""
    (tmp_path / "web").mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *words: object) -> None:
            super().__init__(*words, directory=str(tmp_path / "web"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Keeps quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize("digest", ["sha256", "checksums"])
def test_a_download(web: str, digest: str, content: bytes, tmp_path: Path) -> None:
    """The digest is the published one: of the packed file."""
    path = tmp_path / "web" / "disk.vmdk.xz"
    path.write_bytes(program("xz", "-c", disk(tmp_path / "a", content, "vmdk")))
    value = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "web" / "SHA256SUMS").write_text(f"{value} *disk.vmdk.xz\n")
    given = value if digest == "sha256" else f"{web}/SHA256SUMS"
    ref = ref_of(url=f"{web}/disk.vmdk.xz", **{digest: given})
    assert cache.check(ref, tmp_path) == "unpacked, then converted to qcow2"
    image = cache.local_image(ref, tmp_path, quiet)
    assert image.format == "qcow2"
    assert content_of(image, tmp_path) == content
    assert image.content == cache.content_of(value)
    assert image.content == made(path).content, "the same file is the same image"
    path.unlink()
    assert cache.local_image(ref, tmp_path, quiet) == image, "from the cache"
    assert cache.check(ref, tmp_path) == ""


def signed(text: str, home: Path) -> str:
    """A text as gpg signs it, readable as it is."""
    if not shutil.which("gpg"):
        pytest.skip("needs gpg: apt-get install gpg")
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--quiet"]
    subprocess.run([*gpg, "--quick-gen-key", "a@example.org"], check=True, capture_output=True)
    done = subprocess.run([*gpg, "--clearsign"], input=text, text=True, capture_output=True)
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    assert done.stdout.startswith("-----BEGIN PGP SIGNED"), done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["sha256", "sha512"])
@pytest.mark.parametrize("form", ["GNU", "BSD"])
@pytest.mark.parametrize("is_signed", [False, True])
def test_published_digests(
    web: str, kind: str, form: str, is_signed: bool, content: bytes, tmp_path: Path
) -> None:
    """From the server that has the file, too; of another file's digest nothing is kept."""
    path = tmp_path / "web" / "disk.qcow2.gz"
    path.write_bytes(gzip.compress(disk(tmp_path / "a", content, "qcow2").read_bytes()))
    options = ("--tag",) if form == "BSD" else ()
    sums = program(f"{kind}sum", *options, path).decode().replace(f"{path.parent}/", "")
    sums = f"# disk.qcow2.gz: {path.stat().st_size} bytes\n{sums}"
    published = tmp_path / "web" / "CHECKSUM"
    published.write_text(signed(sums, tmp_path / "gnupg") if is_signed else sums)
    ref = ref_of(url=f"{web}/disk.qcow2.gz", checksums=f"{web}/CHECKSUM")
    assert content_of(cache.local_image(ref, tmp_path, quiet), tmp_path) == content
    cache.forget(ref.identity)
    path.write_bytes(gzip.compress(bytes(MIB)))
    with pytest.raises(VirtkitError, match="does not match the digest"):
        cache.local_image(ref, tmp_path, quiet)
    assert cache.cached(ref.identity) is None


def test_a_download_with_another_digest(web: str, content: bytes, tmp_path: Path) -> None:
    """That of the disk in it is not the published one; and nothing of it was unpacked."""
    (tmp_path / "web" / "disk.gz").write_bytes(gzip.compress(content))
    ref = ref_of(url=f"{web}/disk.gz", sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(VirtkitError, match="does not match the digest"):
        cache.local_image(ref, tmp_path, quiet)
    assert not [each for each in cache.folder().rglob("*") if each.name.startswith("step-")]


def test_a_download_that_is_kept_while_it_is_unpacked(
    web: str, content: bytes, tmp_path: Path
) -> None:
    """Who is interrupted there does not download it again."""
    packed = gzip.compress(content)
    path = tmp_path / "web" / "disk.gz"
    path.write_bytes(packed)
    ref = ref_of(url=f"{web}/disk.gz", sha256=hashlib.sha256(packed).hexdigest())
    stop = threading.Event()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(unpack, "_LOOK", MIB)
    ended = Progress(lambda line: stop.set() if "unpacking" in line else None, stop)
    with pytest.raises(Interrupted):
        cache.local_image(ref, tmp_path, ended)
    monkey.undo()
    part = cache.folder() / f"{ref.identity}.part"
    assert (part / "root.img").read_bytes() == packed
    assert Path(cache.local_image(ref, tmp_path, quiet).root).read_bytes() == content


def test_what_a_name_tells() -> None:
    said = {
        "https://example.org/a.qcow2": "",
        "https://example.org/a.img?x=.gz": "",
        "https://example.org/a.raw.XZ": "unpacked",
        "https://example.org/a%2Ezst": "unpacked",
        "https://example.org/a.box": "taken out of its archive",
        "https://example.org/a.tar.gz": "unpacked, then taken out of its archive",
        "https://example.org/a.vhdx": "converted to qcow2",
        "https://example.org/a.vhdx.xz": "unpacked, then converted to qcow2",
    }
    assert {url: formats.steps_by_name(url) for url in said} == said


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(1000))
    monkeypatch.setattr("virtkit.system.commands.search_path", lambda: "/nowhere")
    with pytest.raises(RequestError) as caught:
        steps(path)
    assert "zstd is missing" in caught.value.what
    assert caught.value.cure == "sudo apt-get install zstd"


def test_probe_takes_disks_only(tmp_path: Path) -> None:
    path = tmp_path / "disk.gz"
    path.write_bytes(gzip.compress(bytes(MIB)))
    with pytest.raises(RequestError, match="is compressed with gzip"):
        probe(path)
