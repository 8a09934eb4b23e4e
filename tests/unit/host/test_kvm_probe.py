"""The KVM probe's bytes are what its source says; its documents are what libvirt takes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from virtkit.facts import KvmVerdict
from virtkit.host import kvm_probe, schemas

SOURCE = Path(kvm_probe.__file__).with_name("programs") / "kvm_probe.S"


@pytest.mark.skipif(
    not (shutil.which("as") and shutil.which("ld")), reason="needs as and ld: binutils"
)
def test_the_bytes_are_the_source_assembled(tmp_path: Path) -> None:
    commands = next(line for line in SOURCE.read_text().splitlines() if "as -o" in line)
    for command in commands.lstrip("# ").split("&&"):
        line = [str(SOURCE) if each == SOURCE.name else each for each in command.split()]
        subprocess.run(line, cwd=tmp_path, check=True)
    sector = (tmp_path / "probe.bin").read_bytes()
    assert len(sector) == 512
    assert kvm_probe.boot_disk()[:512] == sector


def test_the_disk() -> None:
    image = kvm_probe.boot_disk()
    assert len(image) == 1024 * 1024
    assert image[510:512] == b"\x55\xaa", "what makes it a boot sector"
    assert not any(image[512:])
    assert len(kvm_probe.SECTOR) <= 446, "clear of the partition table"


NOT_HERE = "KVM is not supported by '/usr/bin/qemu-system-x86_64' on this host"
QEMU_SAID = "internal error: process exited while connecting to monitor: failed to initialize kvm"
NO_DISK = "process exited while connecting to monitor: Could not open '/p': Permission denied"
BUSY = "Timed out during operation: cannot acquire state change lock"


def said(code: int, domain: int, message: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("")
    error.err = (code, domain, message, 2, "", None, None, 0, 0)
    return error


@pytest.mark.parametrize(
    ("code", "message", "lasting"),
    [
        (libvirt.VIR_ERR_INVALID_ARG, NOT_HERE, True),
        (libvirt.VIR_ERR_INTERNAL_ERROR, QEMU_SAID, True),
        (libvirt.VIR_ERR_INTERNAL_ERROR, NO_DISK, False),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, BUSY, False),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "Cannot allocate memory", False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "unable to create a thread", False),
    ],
)
def test_only_what_says_something_of_kvm_lasts(code: int, message: str, lasting: bool) -> None:
    verdict = kvm_probe.verdict_of_error("no KVM", said(code, libvirt.VIR_FROM_QEMU, message))
    assert (verdict.works, verdict.temporary) == (False, not lasting)
    assert message in verdict.why


def test_a_connection_that_is_gone_says_nothing_of_kvm() -> None:
    gone = said(libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, "client socket is closed")
    with pytest.raises(libvirt.libvirtError) as caught:
        kvm_probe.verdict_of_error("no KVM", gone)
    assert caught.value is gone


def test_only_its_own_power_off_is_its_end() -> None:
    works = kvm_probe.verdict_of_end(libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
    assert (works.works, works.temporary) == (True, False)
    for end in (
        libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
        libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
    ):
        verdict = kvm_probe.verdict_of_end(end)
        assert (verdict.works, verdict.temporary) == (False, True)


def test_a_guest_without_an_end_is_judged_by_its_processor_time() -> None:
    hangs = kvm_probe.verdict_of_timeout(9.0, used=8.9, max_seconds=8.6)
    assert "hangs" in hangs.why
    busy = kvm_probe.verdict_of_timeout(30.0, used=2.0, max_seconds=8.6)
    assert "too busy to tell" in busy.why
    assert hangs.temporary
    assert busy.temporary, "neither is kept until the next boot"


def test_how_long_a_verdict_holds(tmp_path: Path) -> None:
    """What KVM answered: for the boot. A time-out: for minutes, longer each time, not for good."""
    path = tmp_path / "kvm.json"

    def kept(
        verdict: KvmVerdict, before: kvm_probe.CachedVerdict | None, now: float
    ) -> kvm_probe.CachedVerdict:
        new = kvm_probe.CachedVerdict.after("boot", before, verdict, now)
        path.write_text(json.dumps(new.as_dict()))
        again = kvm_probe.CachedVerdict.read(path, "boot")
        assert again == new
        return new

    works = kept(KvmVerdict(True, "it runs"), None, 1000)
    assert works.holds(10**12)
    assert kvm_probe.CachedVerdict.read(path, "another boot") is None
    late = KvmVerdict(False, "too late", temporary=True)
    known, holds = works, []
    for _ in range(6):
        known = kept(late, known, 1000)
        holds.append(known.hold)
        assert known.holds(1000 + known.hold - 1)
        assert not known.holds(1000 + known.hold + 1)
        assert not known.holds(500), "the clock was put back"
    assert holds[0] == kvm_probe.MIN_HOLD
    assert holds == sorted(holds)
    assert holds[-1] == kvm_probe.MAX_HOLD
    path.write_text("[]")
    assert kvm_probe.CachedVerdict.read(path, "boot") is None


def test_the_guest() -> None:
    xml = kvm_probe._xml("virtkit-probe-1", "/pool/virtkit-probe-1")
    schemas.check("domain", xml, "the probe guest")
    root = etree.fromstring(xml)
    assert root.get("type") == "kvm"
    assert root.find("./devices/interface") is None
