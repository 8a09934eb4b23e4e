"""What a look at a Xen host finds, from what its tools print."""

from __future__ import annotations

import pytest

from virtkit.host import xen

WELL = """
@info
xen_version            : 4.17.7
virt_caps              : pv hvm hap gnttab-v1
free_memory            : 1250
@dom0
911360
@console
/usr/lib/xen-4.17/bin/xenconsoled --log=guest --log-dir=/var/log/xen/console
@scripts
@emulator
/usr/lib/xen/bin/qemu-system-i386
@images
/usr/bin/qemu-img
"""


def checks(said: str) -> dict[str, tuple[bool | None, str, str]]:
    return {name: (ok, what, cure) for name, ok, what, cure in xen.parse(said)}


def test_a_host_that_is_well_needs_no_cure() -> None:
    result = checks(WELL)
    assert {ok for ok, _, _ in result.values()} == {True}
    assert {cure for _, _, cure in result.values()} == {""}
    assert result["memory"][1] == "dom0 has 890 MiB, 1250 MiB are free for guests"


@pytest.mark.parametrize(
    ("old", "new", "name", "words"),
    [
        ("pv hvm hap", "pv", "hvm", "VT-x"),
        ("hvm hap", "hvm", "hap", ""),
        ("911360", "300000", "memory", "dom0_mem"),
        ("@scripts", "@scripts\nvif-bridge", "hotplug scripts", "xen-utils-common"),
        (" --log=guest", "", "console logs", "XENCONSOLED_ARGS"),
        ("/usr/lib/xen/bin/", "/usr/libexec/xen-", "emulator", "as root: mkdir"),
        ("/usr/lib/xen/bin/qemu-system-i386", "", "emulator", "qemu-system-xen"),
        ("/usr/bin/qemu-img", "", "disk images", "qemu-utils"),
    ],
)
def test_what_is_missing_has_its_cure(old: str, new: str, name: str, words: str) -> None:
    assert old in WELL
    ok, _, cure = checks(WELL.replace(old, new))[name]
    assert not ok
    assert words in cure


def test_a_machine_without_xen_has_one_check() -> None:
    ((name, (ok, what, cure)),) = checks("@info\nsh: 1: xl: not found\n@dom0\n1").items()
    assert (name, ok) == ("toolstack", False)
    assert "not found" in what
    assert "xen-system-amd64" in cure
