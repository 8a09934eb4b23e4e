"""What libvirt chooses for a domain, and keeps beside it: firmware's variables, a TPM, and more.

Pure. libvirt makes these two at a domain's first start and removes them as it undefines one that
has them. So what the former machine had goes by a definition that still asks for it.
"""

from __future__ import annotations

import copy

from lxml import etree

#: How much memory a video card has, in parts that not every model has.
_VIDEO_MEMORY = frozenset({"ram", "vram", "vram64", "vgamem"})
_TPM = "devices/tpm/backend[@type='emulator']"


def firmware(root: etree._Element) -> str:
    """The spec's word for the firmware of a domain: its variables are for that one only."""
    os = root.find("os")
    if os is None:
        return "bios"
    secure = ("loader[@secure='yes']", "firmware/feature[@name='secure-boot'][@enabled='yes']")
    if any(os.find(each) is not None for each in secure):
        return "secure"
    uefi = os.get("firmware") == "efi" or os.find("loader[@type='pflash']") is not None
    return "uefi" if uefi or os.find("nvram") is not None else "bios"


def outdated(former: etree._Element, wanted: etree._Element) -> frozenset[str]:
    """What a domain had, and its new definition has no use for: ``NVRAM``, ``TPM``."""
    answer = set()
    if firmware(former) not in ("bios", firmware(wanted)):
        answer.add("NVRAM")
    if former.find(_TPM) is not None and wanted.find(_TPM) is None:
        answer.add("TPM")
    return frozenset(answer)


def with_former_machine(definition: etree._Element, former: etree._Element) -> etree._Element:
    """A domain's definition that asks for the firmware and the TPM that it had."""
    answer = copy.deepcopy(definition)
    for tag in ("os", "features"):
        old, new = former.find(tag), answer.find(tag)
        if old is not None and new is not None:
            answer.replace(new, copy.deepcopy(old))
    os, devices = answer.find("os"), answer.find("devices")
    if os is not None and "firmware" not in os.attrib:
        _remove(os, "firmware")  # of a running guest: libvirt has chosen
    if devices is not None and answer.find(_TPM) is None:
        devices.extend(
            copy.deepcopy(each)
            for each in former.iterfind("devices/tpm")
            if each.find("backend[@type='emulator']") is not None
        )
    return answer


def _remove(parent: etree._Element, tag: str) -> None:
    for each in parent.findall(tag):
        parent.remove(each)


def forget_chosen(before: etree._Element, wanted: etree._Element, current: etree._Element) -> None:
    """Takes from a definition what libvirt chose for a part of the machine that is another now: the
    files of firmware, the memory of a video card, who plays the sound.

    Args:
        before: what was rendered last time.
        wanted: what is rendered now.
        current: the definition, which is changed.
    """
    _forget_firmware(before, wanted, current)
    if _video(before) != _video(wanted):
        for model in current.iterfind("devices/video/model"):
            for name in _VIDEO_MEMORY & {*map(str, model.attrib)}:
                del model.attrib[name]
    if _displays(before) != _displays(wanted):
        devices = current.find("devices")
        for audio in devices.findall("audio") if devices is not None else ():
            chosen = {*audio.attrib} <= {"id", "type"} and audio.get("type") in ("none", "spice")
            if devices is not None and chosen and not len(audio):
                devices.remove(audio)


def _forget_firmware(
    before: etree._Element, wanted: etree._Element, current: etree._Element
) -> None:
    if firmware(before) == firmware(wanted):
        return
    os = current.find("os")
    for tag in ("loader", "nvram"):
        if os is not None and wanted.find(f"os/{tag}") is None:
            _remove(os, tag)


def _video(root: etree._Element) -> list[str]:
    return [each.get("type", "") for each in root.iterfind("devices/video/model")]


def _displays(root: etree._Element) -> list[str]:
    return [each.get("type", "") for each in root.iterfind("devices/graphics")]
