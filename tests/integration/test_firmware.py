"""A guest's firmware and its TPM, seen from inside; and what of them stays, and what goes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, editing, why
from integration.lab import run, tiny_disk, virsh

SWTPM = Path("/var/lib/libvirt/swtpm")
NVRAM = Path("/var/lib/libvirt/qemu/nvram")
POOL = Path("/var/lib/libvirt/images")
CASES = Path(__file__).parents[1] / "cases"
NETWORK = "10.94.37.0/24"
SPEC: dict[str, Any] = {
    "name": "firmware",
    "networks": {"front": {"cidr": NETWORK}},
    "defaults": {"type": "qemu", "ssh_keys": ["id.pub"]},
    "guests": {
        "web": {"memory": "512MiB", "networks": ["front"], "firmware": "secure", "tpm": True}
    },
}
#: Guests without a system, which start in a second.
TINY: dict[str, Any] = {
    "name": "variables",
    "images": {"tiny": {"path": "tiny.raw"}},
    "defaults": {"type": "qemu", "image": "tiny", "networks": []},
    "guests": {"tiny": {"memory": "64MiB"}},
}
#: The last byte of the firmware's variable, after four bytes of attributes: 1 where it is on.
SECURE_BOOT = "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"
#: How often the TPM was reset, which it counts in its state: the answer to TPM2_ReadClock.
RESETS = """
import struct
with open("/dev/tpm0", "r+b", buffering=0) as tpm:
    tpm.write(struct.pack(">HII", 0x8001, 10, 0x181))
    answer = tpm.read(4096)
print(*struct.unpack(">I", answer[26:30]))
"""
#: A certificate's owner in the variables of firmware with Microsoft's keys.
MICROSOFT = b"Microsoft Corporation UEFI CA 2011"
#: A variable that the guest's own system makes: its attributes, and its value.
VARIABLE = "/sys/firmware/efi/efivars/VirtkitTest-c2e0a7a8-6f9e-4b62-9f9f-2f1b1c1d1e1f"


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("firmware")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, SPEC) as edits:
        yield edits
    assert left_over("firmware") == []


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("variables")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    with editing(folder, TINY) as edits:
        yield edits
    assert left_over("variables") == []


@pytest.fixture(autouse=True)
def _as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """The tiny guest is each test's anew."""
    yield
    if "tiny" in request.fixturenames:
        lab: Edits = request.getfixturevalue("tiny")
        lab.lab.virtkit("down")
        assert left_over("variables") == []
        lab.reset()


def left_over(environment: str) -> list[Path]:
    """The files of firmware and TPMs that stay on the host, though their guests are gone."""
    states = [*SWTPM.iterdir()] if SWTPM.exists() and not virsh("list", "--all", "--name") else []
    return [*states, *POOL.glob(f"{environment}-*"), *NVRAM.glob(f"{environment}-*")]


def inside(edits: Edits, script: str) -> list[str]:
    """What a script prints in the guest ``web``, as root."""
    return edits.lab.virtkit("exec", "web", "--", "sh", "-c", script).out.splitlines()


def tpm_files(domain: str) -> set[str]:
    """The files of a guest's TPM, on its host."""
    return {each.name for each in (SWTPM / virsh("domuuid", domain)).rglob("*")}


def nvram(domain: str) -> Path:
    """The file with the variables of a running guest's firmware."""
    return Path(document(domain).findtext("os/nvram", ""))


@pytest.mark.long  # the guest has a system, which boots for minutes
def test_a_built_image_boots_with_secure_boot_on_and_a_tpm(edits: Edits) -> None:
    """Its kernel is the host's: the firmware takes it from QEMU, and tells it that Secure Boot is
    on, so that it locks itself down."""
    script = f"ls /dev/tpm0 /dev/tpmrm0; cat /sys/class/tpm/tpm0/tpm_version_major; {SECURE_BOOT}"
    assert [each.strip() for each in inside(edits, script)] == [
        "/dev/tpm0",
        "/dev/tpmrm0",
        "2",
        "1",
    ]
    (lockdown,) = inside(edits, "cat /sys/kernel/security/lockdown")
    assert "[integrity]" in lockdown
    root = document("firmware-web")
    assert root.find("os/loader").get("secure") == "yes"
    assert nvram("firmware-web") == POOL / "firmware-web_secure_VARS.fd"


@pytest.mark.long  # the guest has a system, which boots for minutes
def test_a_restart_keeps_the_tpms_state_and_the_firmwares_variables(edits: Edits) -> None:
    """What the guest's own system wrote into both is there after the machine was off."""
    inside(edits, f"printf '\\007\\000\\000\\000kept' > {VARIABLE}")
    (resets,) = inside(edits, f"python3 -c '{RESETS}'")
    edits.lab.virtkit("stop", "web")
    edits.lab.virtkit("start", "web")
    edits.up()
    assert inside(edits, f"tail -c 4 {VARIABLE}") == ["kept"]
    assert inside(edits, f"python3 -c '{RESETS}'") == [str(int(resets) + 1)]
    assert edits.plan() == {}
    assert edits.pending() == {}


def test_other_firmware_has_no_former_variables_and_leaves_none(tiny: Edits) -> None:
    """While a guest runs, and while it is off."""
    tiny.up()
    tiny.guest("tiny", firmware="uefi")
    assert why(tiny.plan()["guest/tiny"]) == {"firmware": ("spec", "restart")}
    tiny.up()
    assert why(tiny.pending()["guest/tiny"]) == {"firmware": ("spec", "restart")}
    tiny.up("--restart")
    assert tiny.pending() == {}
    plain = nvram("variables-tiny")
    assert plain.is_file()
    tiny.guest("tiny", firmware="secure")
    tiny.up("--restart")
    assert tiny.pending() == {}
    keyed = nvram("variables-tiny")
    assert keyed.is_file()
    assert keyed != plain
    assert not plain.exists()
    tiny.lab.virtkit("stop", "tiny", "--timeout", "0")
    tiny.guest("tiny", firmware="uefi")
    tiny.up()
    assert nvram("variables-tiny") == plain
    assert plain.is_file()
    assert not keyed.exists()
    tiny.lab.virtkit("stop", "tiny", "--timeout", "0")
    tiny.guest("tiny", firmware="bios")
    tiny.up()
    assert not plain.exists()
    assert tiny.pending() == {}


def test_whoever_starts_a_guest_again_its_secure_boot_has_its_keys(tiny: Edits) -> None:
    """The variables without keys, of before, would leave it off, and nobody would see it."""
    tiny.guest("tiny", firmware="uefi")
    tiny.up()
    former = nvram("variables-tiny")
    plain = former.read_bytes()
    tiny.guest("tiny", firmware="secure")
    tiny.up()
    virsh("destroy", "variables-tiny")
    virsh("start", "variables-tiny")
    keyed = nvram("variables-tiny").read_bytes()
    assert MICROSOFT in keyed
    assert MICROSOFT not in plain
    assert tiny.plan() == {}
    assert tiny.pending() == {}
    former.unlink()  # virtkit was not there as it could go


def test_a_tpm_comes_and_goes_with_a_restart(tiny: Edits) -> None:
    tiny.up()
    tiny.guest("tiny", tpm=True)
    assert why(tiny.plan()["guest/tiny"]) == {"tpm": ("spec", "restart")}
    tiny.up("--restart")
    assert tiny.pending() == {}
    assert "tpm2-00.permall" in tpm_files("variables-tiny")
    tiny.guest("tiny", tpm=None)
    tiny.up("--restart")
    assert tiny.pending() == {}
    assert document("variables-tiny").find("devices/tpm") is None
    assert not (SWTPM / virsh("domuuid", "variables-tiny")).exists()


def test_other_firmware_leaves_a_tpm_its_state(tiny: Edits) -> None:
    tiny.guest("tiny", tpm=True, firmware="uefi")
    tiny.up()
    (before,) = (SWTPM / virsh("domuuid", "variables-tiny")).rglob("*.permall")
    inode = before.stat().st_ino, before.read_bytes()[:64]
    tiny.lab.virtkit("stop", "tiny", "--timeout", "0")
    plain = NVRAM / "variables-tiny_VARS.fd"
    assert plain.exists()
    tiny.guest("tiny", firmware="bios", start=False)
    tiny.up()
    assert not plain.exists()
    assert (before.stat().st_ino, before.read_bytes()[:64]) == inode


def test_snapshots_of_others_hold_what_would_be_removed(tiny: Edits, tmp_path: Path) -> None:
    """libvirt removes a TPM's state only with the domain, and the snapshots with it: these stay."""
    tiny.guest("tiny", tpm=True, start=False)
    tiny.up()
    tiny.lab.virtkit("start", "tiny")
    tiny.lab.virtkit("stop", "tiny", "--timeout", "0")
    snapshot = tmp_path / "snapshot.xml"
    domain = virsh("dumpxml", "variables-tiny", "--inactive")
    text = "<name>mine</name><state>shutoff</state><creationTime>1</creationTime>"
    snapshot.write_text(f"<domainsnapshot>{text}{domain}</domainsnapshot>")
    virsh("snapshot-create", "variables-tiny", snapshot, "--redefine")
    tiny.guest("tiny", tpm=None)
    tiny.up()
    assert virsh("snapshot-list", "variables-tiny", "--name") == "mine"
    assert "tpm2-00.permall" in tpm_files("variables-tiny")
    virsh("snapshot-delete", "variables-tiny", "mine", "--metadata")
    shutil.rmtree(SWTPM / virsh("domuuid", "variables-tiny"))  # nor does it ask again


def test_a_windows_guest_is_one_that_libvirt_defines(tiny: Edits, tmp_path: Path) -> None:
    """There is no Windows here: nobody has seen one start."""
    windows = {"system": "windows", "firmware": "secure", "tpm": True, "memory": "2GiB"}
    tiny.guest("tiny", **windows, graphics="spice", start=False)
    tiny.up()
    xml = document("variables-tiny", "--inactive")
    assert xml.find("clock").get("offset") == "localtime"
    assert xml.find("./devices/disk/target").get("bus") == "sata"
    assert "variables-tiny-seed" not in virsh("vol-list", "default")
    assert tiny.plan() == {}
    kvm = tmp_path / "kvm.xml"
    kvm.write_text((CASES / "windows/expected/guest-win10.xml").read_text())
    virsh("define", "--validate", kvm)
    virsh("undefine", "lab-win10", "--nvram")
