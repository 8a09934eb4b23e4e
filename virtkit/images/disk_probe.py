"""What qemu-img says of a disk image, and which of them no guest can have.

It must never open what an image names: a backing file could be any file of the host.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from virtkit.errors import RequestError
from virtkit.images import file_checks
from virtkit.progress import Progress
from virtkit.system import commands

#: Asks qemu-img about one image, which it names itself.
QemuImg: TypeAlias = Callable[..., "subprocess.CompletedProcess[str]"]

#: What qemu-img check exits with where an image only takes more room than it needs.
_LEAKS = 3


def probe(path: Path, progress: Progress | None = None) -> tuple[str, int]:
    """Format and virtual size (bytes) of a disk image on this machine.

    Raises:
        RequestError: it is no qcow2 or raw image, although its name says so, or it needs other
            files; or qemu-img is missing.
    """
    if not path.is_file():
        raise RequestError(f"there is no image file {path}", cure="correct the image's `path:`")
    file_checks.check_disk(path)

    def qemu_img(*arguments: str) -> subprocess.CompletedProcess[str]:
        return commands.run("qemu-img", *arguments, str(path), progress=progress)

    return probe_with(str(path), path.name, qemu_img)


def probe_with(image: str, name: str, qemu_img: QemuImg) -> tuple[str, int]:
    """The same, of an image wherever it is.

    Args:
        image: what errors call it: its path or URL.
        name: its file's name.
    """
    info, quoted = _info(image, qemu_img), shlex.quote(image if "://" not in image else name)
    format = info.get("format")
    _check_whole(info, image, quoted)
    if format not in ("qcow2", "raw"):
        raise RequestError(
            f"image {image} is of format {format}",
            cure=f"convert it: qemu-img convert -O qcow2 {quoted} {quoted}.qcow2",
        )
    if format == "raw" and name.endswith(".qcow2"):
        raise RequestError(
            f"image {image} is not a qcow2 image, although its name says so",
            why="its first bytes are not a qcow2's: it is damaged, or a raw disk",
            cure="get it again; or give it another name, if it is meant to be a raw disk",
        )
    size = int(info["virtual-size"])
    if not size:
        raise RequestError(f"image {image} is a disk of 0 bytes", cure="get it again, or another")
    if format == "qcow2":
        _check_intact(image, qemu_img)
    return str(format), size


def convertible_size(image: str, name: str, qemu_img: QemuImg) -> tuple[int, int]:
    """The virtual size of another tool's disk, and how much of the disk here it takes as a qcow2,
    both in bytes.

    Args:
        image, name: as for ``probe_with``.
        qemu_img: names the format, too.

    Raises:
        RequestError: it needs other files, is encrypted, or is none.
    """
    info = _info(image, qemu_img)
    _check_whole(info, image, shlex.quote(image if "://" not in image else name))
    if len(info.get("format-specific", {}).get("data", {}).get("extents", [1])) != 1:
        raise RequestError(
            f"image {image} is a disk in several files",
            why="it names the others, and they could be any file of this machine",
            cure="make one file of them: qemu-img convert -O qcow2 DISK whole.qcow2",
        )
    done = qemu_img("measure", "-U", "-O", "qcow2", "--output=json")
    needed = int(json.loads(done.stdout)["required"]) if done.returncode == 0 else 0
    return int(info["virtual-size"]), needed


def encrypted_error(image: str) -> RequestError:
    """The error for a disk that nobody here has the key of."""
    return RequestError(
        f"image {image} is encrypted",
        why="virtkit has no key for it",
        cure="decrypt it with the tool that made it, and name what comes out",
    )


def _check_whole(info: dict[str, Any], image: str, quoted: str) -> None:
    """Refuses a disk whose content is elsewhere, or that can't be read without a key."""
    data_file = info.get("format-specific", {}).get("data", {}).get("data-file")
    for key, other_file in (
        ("backing file", info.get("backing-filename")),
        ("data file", data_file),
    ):
        if other_file:
            raise RequestError(
                f"image {image} has a {key}: {other_file}",
                why="that file could change, or be any file of the host",
                cure=f"make one file of both: qemu-img convert -O qcow2 {quoted} whole.qcow2",
            )
    if info.get("encrypted") or info.get("format") == "luks":
        raise encrypted_error(image)


def _check_intact(image: str, qemu_img: QemuImg) -> None:
    """qemu-img looks at the tables only, so it takes no longer for a large image."""
    done = qemu_img("check", "-U", "-f", "qcow2")
    if done.returncode not in (0, _LEAKS):
        lines = (done.stderr + done.stdout).strip().splitlines()
        raise RequestError(
            f"image {image} is damaged or cut off", why="\n".join(lines[:2]), cure="get it again"
        )


def _info(image: str, qemu_img: QemuImg) -> dict[str, Any]:
    done = qemu_img("info", "-U", "--output=json")
    if done.returncode != 0:
        raise RequestError(
            f"{image} is not a disk image that qemu-img can read",
            why=done.stderr.strip(),
            cure="name a qcow2 or raw file",
        )
    info: dict[str, Any] = json.loads(done.stdout)
    return info
