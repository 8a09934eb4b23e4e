"""Packs the tests' Debian host (disk.py) as a box for Vagrant's libvirt provider.

Prints where it is.

usage: python -m realhost.box [RELEASE [KIND]]  (in tests/)
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path

import machine
from machine import Tell
from realhost import disk
from realhost.disk import RELEASES, SIZE_GIB, Kind

#: A box of one disk, as vagrant-libvirt reads it.
METADATA = {"provider": "libvirt", "format": "qcow2", "virtual_size": SIZE_GIB}
VAGRANTFILE = """\
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.disk_bus = "virtio"
  end
end
"""
#: Packs twice as fast as zlib, and is unpacked a few times as fast.
PACKING = ("-c", "-o", "compression_type=zstd", "-m", "4", "-W")


def built(release: str = RELEASES[0], kind: Kind = "ready", *, say: bool = False) -> Path:
    """The box; made where there is none for what its disk is made of."""
    base = disk.built(release, kind, say=say)

    def made(into: Path, tell: Tell) -> None:
        tell("packing the box")
        machine.run(
            ["qemu-img", "convert", *PACKING, "-O", "qcow2", base / "base.raw", into / "box.img"]
        )
        (into / "metadata.json").write_text(json.dumps(METADATA))
        (into / "Vagrantfile").write_text(VAGRANTFILE)
        with tarfile.open(into / "host.box", "w") as tar:
            for name in ("metadata.json", "Vagrantfile", "box.img"):
                tar.add(into / name, name)
                (into / name).unlink()

    key = machine.key_of(Path(__file__), words=(base.name,))
    return machine.kept(f"box-{release}-{kind}", key, made, say=say) / "host.box"


def main(words: list[str]) -> None:
    release, kind = [*words, *(RELEASES[0], "ready")[len(words) :]][:2]
    if release not in RELEASES or kind not in ("ready", "bare"):
        sys.exit(__doc__)
    print(built(release, kind, say=True))  # type: ignore[arg-type]  # looked at above


if __name__ == "__main__":
    main(sys.argv[1:])
