"""The image store: images are built, fetched and verified here, then put into a host's pool.

It must never make an image twice, and never trust one that it did not verify.
"""

from typing import TYPE_CHECKING

from virtkit._lazy import load_when_used

if TYPE_CHECKING:
    from virtkit.images.cache import (
        LocalImage,
        check_builds,
        forget,
        leftovers,
        local_image,
    )
    from virtkit.images.disk_probe import probe
    from virtkit.images.file_checks import check_boot, check_disc
    from virtkit.images.imports import import_disk
    from virtkit.images.pool import delete, upload
    from virtkit.images.provide import check, provide
    from virtkit.images.sandbox import removal_command

load_when_used(
    __name__,
    {
        "virtkit.images.cache": "LocalImage check_builds forget leftovers local_image",
        "virtkit.images.disk_probe": "probe",
        "virtkit.images.file_checks": "check_boot check_disc",
        "virtkit.images.imports": "import_disk",
        "virtkit.images.pool": "delete upload",
        "virtkit.images.provide": "check provide",
        "virtkit.images.sandbox": "removal_command",
    },
)

__all__ = [
    "LocalImage",
    "check",
    "check_boot",
    "check_builds",
    "check_disc",
    "delete",
    "forget",
    "import_disk",
    "leftovers",
    "local_image",
    "probe",
    "provide",
    "removal_command",
    "upload",
]
