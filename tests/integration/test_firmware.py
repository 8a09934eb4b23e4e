"""A guest's firmware and its TPM, seen from inside; and what of them stays, and what goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.edits import Edits, document, editing, why
from integration.lab import run, tiny_disk, virsh

SWTPM = Path("/var/lib/libvirt/swtpm")
NVRAM = Path("/var/lib/libvirt/qemu/nvram")
POOL = Path("/var/lib/libvirt/images")
NETWORK = "10.94.37.0/24"
SPEC: dict[str, Any] = {
    "name": "firmware",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": NETWORK}},
    "defaults": {"type": "qemu", "ssh_keys": ["id.pub"]},
    "guests": {
        "web": {"memory": "512MiB", "networks": ["front"], "firmware": "secure", "tpm": True},
        "tiny": {"image": "tiny", "memory": "64MiB", "networks": [], "ready": "none"},
    },
}
#: The last byte of the firmware's variable, after four bytes of attributes: 1 where it is on.
SECURE_BOOT = "od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-*"
#: A secret that the TPM keeps over restarts, in its NV memory: written and read by raw commands.
TPM_WRITES = "TPM2_NV"


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edits]:
    folder = tmp_path_factory.mktemp("firmware")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "id")
    with editing(folder, SPEC) as edits:
        yield edits
    uuids = [each.name for each in SWTPM.iterdir()] if SWTPM.exists() else []
    assert uuids == [], "a TPM's state goes with its guest"
    assert [*POOL.glob("firmware-*"), *NVRAM.glob("firmware-*")] == []


def inside(edits: Edits, script: str) -> list[str]:
    """What a script prints in the guest ``web``, as root."""
    return edits.lab.virtkit("exec", "web", "--", "sh", "-c", script).out.splitlines()


def tpm_files(domain: str) -> set[str]:
    """The files of a guest's TPM, on its host."""
    return {each.name for each in (SWTPM / virsh("domuuid", domain)).rglob("*")}


def nvram(domain: str) -> Path:
    """The file with the variables of a running guest's firmware."""
    return Path(document(domain).findtext("os/nvram", ""))


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


def test_a_restart_keeps_the_tpms_state_and_the_firmwares_variables(edits: Edits) -> None:
    """What the guest's own system wrote into both is there after the machine was off."""
    variable = "/sys/firmware/efi/efivars/VirtkitTest-c2e0a7a8-6f9e-4b62-9f9f-2f1b1c1d1e1f"
    inside(edits, f"printf '\\007\\000\\000\\000kept' > {variable}")
    inside(edits, EXTEND)
    before = inside(edits, READ_NV)
    edits.lab.virtkit("stop", "web")
    edits.lab.virtkit("start", "web")
    edits.up()
    assert inside(edits, f"tail -c 4 {variable}") == ["kept"]
    assert inside(edits, READ_NV) == before
    assert edits.plan() == {}
    assert edits.pending() == {}
