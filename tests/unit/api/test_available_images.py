"""Images by name: the catalogue as it is listed, and disks that the caller imported."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import samples

from virtkit import api
from virtkit.errors import Interrupted, RequestError
from virtkit.images import probe, unpack
from virtkit.spec import CATALOGUE, imported

MIB = 1024 * 1024
pytestmark = pytest.mark.skipif(
    not shutil.which("qemu-img"), reason="needs qemu-img: apt-get install qemu-utils"
)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(MIB) + bytes(20 * MIB))
    return path


def spec_with(image: str) -> api.Spec:
    text = f"name: lab\nguests: {{web: {{type: qemu, image: {image}, networks: []}}}}\n"
    return samples.spec_of(text)


def refused(file: Path, name: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        api.image_import(file, name)
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return caught.value


def command(*arguments: str | Path, code: int = 0) -> str:
    line = [sys.executable, "-m", "virtkit", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == code, (line, done.stdout, done.stderr)
    return done.stdout if code == 0 else done.stderr


def test_the_catalogue_is_listed() -> None:
    listed = {each.name: each for each in api.image_available()}
    assert {*listed} == {*CATALOGUE}
    assert listed["debian-12"].types == (
        "kvm",
        "qemu",
        "lxc",
        "uml",
        "xen-pv",
        "xen-pvh",
        "xen-hvm",
    )
    ubuntu = listed["ubuntu-24.04"]
    assert (ubuntu.kind, ubuntu.login, ubuntu.fetched) == ("disk", "ubuntu", False)
    assert ubuntu.source == CATALOGUE["ubuntu-24.04"].url
    assert {"kvm", "qemu"} <= {*ubuntu.types}
    assert not {"lxc", "uml"} & {*ubuntu.types}


def test_the_verbs(disk: Path) -> None:
    text = command("image", "list", "--available")
    assert "ubuntu-24.04" in text
    assert "cirros: has no cloud-init" in text
    answer = json.loads(command("image", "list", "--available", "--json"))["available"]
    assert [each["name"] for each in answer] == [*CATALOGUE]
    made = json.loads(command("image", "import", disk, "shop", "--json"))
    assert made["kind"] == "imported"
    (own,) = json.loads(command("image", "list", "--available", "--json"))["available"][-1:]
    assert own == made
    assert "FILE and NAME are needed" in command("image", "import", disk, code=2)
    assert "is an imported image shop" in command("image", "import", disk, "shop", code=2)


def test_a_disk_is_known_to_every_spec(disk: Path) -> None:
    before = disk.read_bytes()
    image = api.image_import(disk, "shop-1.2")
    assert disk.read_bytes() == before
    assert Path(image.source).read_bytes() == before
    assert Path(image.source).stat().st_blocks * 512 < 4 * MIB, "its zeros are holes"
    assert spec_with("shop-1.2").images["shop-1.2"].path == image.source
    assert [each.name for each in api.image_available()][-1] == "shop-1.2"
    made = api.image_make(None, "shop-1.2")
    assert (made.root, made.size) == (image.source, len(before))


def test_what_becomes_a_disk(disk: Path, tmp_path: Path) -> None:
    packed = tmp_path / "disk.gz"
    packed.write_bytes(gzip.compress(disk.read_bytes(), 1))
    assert Path(api.image_import(packed, "packed").source).read_bytes() == disk.read_bytes()
    vmdk = tmp_path / "disk.vmdk"
    line = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", disk, vmdk]
    subprocess.run(line, check=True)
    path = Path(api.image_import(vmdk, "theirs").source)
    assert path.suffix == ".qcow2"
    assert probe(path) == ("qcow2", 21 * MIB)
    assert vmdk.exists()
    assert imported.imported_names() == ["packed", "theirs"]


def test_what_is_refused(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"<html>".ljust(1000, b"x"))
    assert "is a web page" in refused(tmp_path / "page", "page").what
    assert "there is no file" in refused(tmp_path / "none", "none").what
    assert "the catalogue has an image debian-12" in refused(disk, "debian-12").what
    for name in ("", "../x", "A", "a/b", ".a", "a..", "x" * 64, "a\nb"):
        assert "is not the name of an image" in refused(disk, name).what
    qcow2 = tmp_path / "backed"
    base = ("-b", str(disk), "-F", "raw")
    line = ["qemu-img", "create", "-q", "-f", "qcow2", *base, str(qcow2)]
    subprocess.run(line, check=True)
    assert "has a backing file" in refused(qcow2, "backed").what
    assert imported.imported_names() == []
    assert not [*imported.folder().iterdir()], "nothing is left"


def test_interrupted(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_LOOK", MIB)
    stop = threading.Event()
    with pytest.raises(Interrupted):
        api.image_import(disk, "shop", lambda _: stop.set(), stop=stop)
    assert not [*imported.folder().iterdir()], "nothing is left"


def test_an_image_that_nobody_knows(disk: Path) -> None:
    api.image_import(disk, "shop")
    with pytest.raises(RequestError, match="there is no image 'shob'") as caught:
        spec_with("shob")
    assert caught.value.cure == "did you mean 'shop'?"
    with pytest.raises(RequestError, match="there is no image 'shob'"):
        api.image_make(None, "shob")


@pytest.mark.parametrize("name", ["../../outside", "/outside", "..", "Upper", ""])
def test_a_path_is_the_name_of_no_imported_image(name: str, tmp_path: Path) -> None:
    """`image rm` would remove that file."""
    imported.folder().mkdir(parents=True)
    for folder in (tmp_path / "data", imported.folder()):
        for each in ("outside", "Upper"):
            (folder / f"{each}.raw").write_bytes(bytes(512))
    name = name.replace("/outside", f"{tmp_path}/data/outside") if name[:1] == "/" else name
    assert (imported.folder() / "../../outside.raw").is_file()
    assert imported.imported_file(name) is None
    assert imported.known_image(name) is None
