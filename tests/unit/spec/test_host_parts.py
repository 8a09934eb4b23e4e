"""Folders and devices of the host in a spec: paths as they are meant, and what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.errors import SpecErrors
from virtkit.spec import Spec, read_text
from virtkit.spec.host_parts import is_below, source_path
from virtkit.spec.model import Folder, device_kind, device_parts
from virtkit.spec.raw_xml import exclusive_resources, pci_address, usb_address


def spec(folder: Path, source: str, more: str = "", hosts: str = "") -> Spec:
    folders = f"folders: [{{source: {source}, target: /srv/x}}]"
    text = f"name: lab\n{hosts}\nguests: {{a: {{{folders}{more}}}}}\n"
    return read_text(text, source="lab.yaml", folder=folder)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("./src", "/specs/src"),
        (".", "/specs"),
        ("../other/", "/other"),
        ("/srv/./x/..", "/srv"),
        ("~/src", "{home}/src"),
    ],
)
def test_a_source_is_read_from_the_specs_folder(source: str, expected: str) -> None:
    folder = Folder(source=source, target="/srv/x")
    assert source_path(folder, Path("/specs")) == expected.format(home=Path.home())


def test_what_is_below_what() -> None:
    assert is_below("/a/b", "/a")
    assert is_below("/a", "/a")
    assert is_below("/a", "/")
    assert not is_below("/ab", "/a")


def test_a_folder_of_this_machine_must_be_there(tmp_path: Path) -> None:
    """It stops who makes the guest, and nobody who removes it: the spec itself is read."""
    with pytest.raises(SpecErrors) as caught:
        spec(tmp_path, "./src").check_references()
    (error,) = caught.value.errors
    assert error.what == "there is no folder './src'"
    assert error.where == "lab.yaml:3:33 guests.a.folders[0].source"
    assert error.cure == f"mkdir -p {tmp_path}/src"
    (tmp_path / "src").write_text("")
    with pytest.raises(SpecErrors, match="is no folder"):
        spec(tmp_path, "./src").check_references()
    (tmp_path / "src").unlink()
    (tmp_path / "src").mkdir()
    spec(tmp_path, "./src").check_references()


def test_another_hosts_folders_are_not_looked_for_here(tmp_path: Path) -> None:
    hosts = "hosts: {rack: {address: ops@rack}}"
    spec(tmp_path, "/srv/none", ", allow: [host-paths]", hosts).check_references()


def test_an_address_is_the_same_in_raw_xml() -> None:
    """So that a key and raw XML that name one device are seen to."""
    pci = "<address domain='0' bus='1' slot='0x1f' function='7'/>"
    usb = "<vendor id='0x046d'/><product id='0xc52b'/>"
    for name, source, address in (
        ("0000:01:1f.7", pci, pci_address),
        ("usb:046d:c52b", usb, usb_address),
    ):
        (found,) = exclusive_resources(f"<hostdev><source>{source}</source></hostdev>")
        assert found.value == address(name)


def test_the_parts_of_a_devices_name() -> None:
    assert device_parts("0000:01:00.0") == ("0000", "01", "00", "0")
    assert device_parts("/dev/net/tun") == ("/dev/net/tun",)
    assert device_kind("eth0") is None
    assert device_parts("eth0") == ()
