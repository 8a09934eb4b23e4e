"""What libvirt keeps beside a domain, by what its XML asks for."""

from __future__ import annotations

import pytest

from virtkit.xml import diff, machine_state, tree

SECURE = "<firmware><feature enabled='yes' name='secure-boot'/></firmware>"
TPM = "<devices><tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>"
LOADER = "<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>"


def domain(text: str) -> tree.etree._Element:
    return tree.parse(f"<domain><name>lab-web</name>{text}</domain>", "it")


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("", "bios"),
        ("<os><type>hvm</type></os>", "bios"),
        ("<os firmware='efi'><type>hvm</type></os>", "uefi"),
        (f"<os firmware='efi'>{SECURE}</os>", "secure"),
        (f"<os firmware='efi'>{SECURE.replace('yes', 'no')}</os>", "uefi"),
        (f"<os>{LOADER}</os>", "uefi"),
        ("<os><loader secure='yes' type='pflash'>/x.fd</loader></os>", "secure"),
        ("<os><loader type='rom'>/x.bin</loader></os>", "bios"),
        ("<os><nvram>/x_VARS.fd</nvram></os>", "uefi"),
    ],
)
def test_firmware(xml: str, expected: str) -> None:
    assert machine_state.firmware(domain(xml)) == expected


@pytest.mark.parametrize(
    ("former", "wanted", "expected"),
    [
        ("<os firmware='efi'/>", "<os firmware='efi'/>", set()),
        ("<os firmware='efi'/>", f"<os firmware='efi'>{SECURE}</os>", {"NVRAM"}),
        (f"<os firmware='efi'>{SECURE}</os>", "<os/>", {"NVRAM"}),
        ("<os/>", "<os firmware='efi'/>", set()),
        (TPM, TPM, set()),
        (TPM, "<devices/>", {"TPM"}),
        ("<devices/>", TPM, set()),
        (TPM.replace("emulator", "passthrough"), "<devices/>", set()),
        (f"<os firmware='efi'/>{TPM}", "<os/><devices/>", {"NVRAM", "TPM"}),
    ],
)
def test_what_is_out_of_date(former: str, wanted: str, expected: set[str]) -> None:
    assert machine_state.outdated(domain(former), domain(wanted)) == expected


def test_the_former_machine_has_what_the_guest_had_and_nothing_else_of_it() -> None:
    """A running guest's XML names libvirt's choice; libvirt takes no firmware to choose there."""
    now = domain(
        "<memory>2</memory><os><type>hvm</type></os><features><acpi/></features><devices/>"
    )
    former = domain(
        f"<memory>1</memory><os><type>hvm</type>{SECURE}<nvram>/x</nvram></os>"
        f"<features><acpi/><smm state='on'/></features>{TPM}"
    )
    answer = machine_state.with_former_machine(now, former)
    assert answer.findtext("memory") == "2"
    assert answer.findtext("os/nvram") == "/x"
    assert answer.find("os/firmware") is None
    assert answer.find("features/smm") is not None
    assert len(answer.findall("devices/tpm")) == 1
    assert now.find("devices/tpm") is None, "it is a copy"
    again = machine_state.with_former_machine(answer, former)
    assert len(again.findall("devices/tpm")) == 1


@pytest.mark.parametrize(
    ("before", "wanted", "kept"),
    [
        ("<os firmware='efi'/>", "<os firmware='efi'/>", True),
        ("<os firmware='efi'/>", f"<os firmware='efi'>{SECURE}<nvram>/mine</nvram></os>", False),
        ("<os firmware='efi'/>", "<os/>", False),
    ],
)
def test_files_that_libvirt_chose_go_with_their_firmware(
    before: str, wanted: str, kept: bool
) -> None:
    """libvirt 11 writes its choice into the definition; then it would refuse another one."""
    current = domain(f"<os firmware='efi'>{LOADER}<nvram>/chosen</nvram></os>")
    merged = diff.merged(domain(before), domain(wanted), current)
    assert (merged.find("os/loader") is not None) == kept
    expected = {True: "/chosen", False: "/mine" if "/mine" in wanted else None}
    assert merged.findtext("os/nvram") == expected[kept]


VNC = '<graphics type="vnc" listen="127.0.0.1"/>'
SPICE = VNC.replace("vnc", "spice")


def display(devices: str) -> tree.etree._Element:
    return domain(f"<devices>{devices}</devices>")


def merged_display(before: str, wanted: str, current: str) -> str:
    answer = diff.merged(display(before), display(wanted), display(current)).find("devices")
    assert answer is not None
    return "".join(tree.etree.tostring(each, encoding="unicode") for each in answer)


def test_the_memory_of_a_video_card_goes_with_its_model() -> None:
    """Else libvirt refuses the definition: no other card has a qxl's."""
    before = '<video><model type="qxl"/></video>'
    current = '<video><model type="qxl" ram="65536" vgamem="16384" heads="1"/></video>'
    after = before.replace("qxl", "vga")
    assert merged_display(before, after, current) == (
        '<video><model type="vga" heads="1"/></video>'
    )
    assert merged_display(before, before, current) == current


def test_who_plays_the_sound_goes_with_the_display() -> None:
    """A guest that had none before would be silent on SPICE, too."""
    chosen, own = '<audio id="1" type="none"/>', '<audio id="1" type="alsa"/>'
    assert merged_display(VNC, SPICE, VNC + chosen) == SPICE
    assert merged_display(VNC, SPICE, VNC + own) == own + SPICE, "somebody else chose it"
    assert merged_display(VNC, VNC, VNC + chosen) == VNC + chosen


def test_a_displays_address_is_the_same_wherever_libvirt_has_it() -> None:
    child = '<listen type="address" address="127.0.0.1"/>'
    current, new = VNC.replace("/>", f">{child}</graphics>"), VNC.replace("0.0.1", "0.0.2")
    assert merged_display(VNC, new, current) == current.replace("0.0.1", "0.0.2")
    without = '<graphics type="vnc"/>'
    assert merged_display(VNC, without, current) == without
