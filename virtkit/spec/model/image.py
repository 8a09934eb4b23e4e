"""What root disks start from, as a spec describes it, and the images that need no entry."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from virtkit.drivers import ImageKind
from virtkit.spec.model.base import (
    DiskSize,
    HostPath,
    Model,
    Package,
    Release,
    Sha256,
    Url,
)
from virtkit.spec.problem import Problem
from virtkit.spec.sizes import GIB


class Build(Model):
    """An image made here from the distribution's own packages."""

    distribution: Literal["debian"] = Field(default="debian", description="The distribution.")
    release: Release = Field(default="bookworm", description="Its release, by code name.")
    packages: tuple[Package, ...] = Field(default=(), description="Packages beyond virtkit's own.")
    size: DiskSize = Field(default=4 * GIB, description="The size of the root file system.")


class Image(Model):
    """What a guest's root disk starts from: one of ``build``, ``url``, ``path`` and ``rootfs``."""

    build: Build | None = Field(
        default=None, description="Build it here; runs on every guest type."
    )
    url: Url | None = Field(
        default=None, description="Fetch it: http, https or file; unpacked as for `path`."
    )
    sha256: Sha256 | None = Field(
        default=None, description="The digest of what `url` gives, packed as it is."
    )
    checksums: Url | None = Field(
        default=None,
        description="The URL of a file with its digest: SHA256SUMS, SHA512SUMS, FILE.sha256, … "
        "Lines as GNU and BSD write them; a signature around them is not checked.",
    )
    fetch: Literal["local", "host"] | None = Field(
        default=None,
        description="Who fetches what `url` gives: this machine, or each host for itself.",
    )
    path: HostPath | None = Field(
        default=None,
        description="A file, from the spec's folder: a qcow2 or raw disk, one packed with gz, xz, "
        "bz2 or zst, a vmdk, vdi or vhdx, an ova or one of Vagrant's boxes for libvirt.",
    )

    rootfs: HostPath | None = Field(
        default=None,
        description="The archive of a root file system with systemd, for containers and `uml`: a "
        "tar, as it is or packed with gz, xz, bz2 or zst.",
    )

    @property
    def kind(self) -> ImageKind:
        """What guests get of it."""
        if self.build is not None:
            return "built"
        return "rootfs" if self.rootfs is not None else "disk"

    @property
    def file(self) -> str | None:
        """The path of a file on the caller's machine that it is made of."""
        return self.path if self.path is not None else self.rootfs

    @model_validator(mode="after")
    def _one_source(self) -> Image:
        every = ("build", "url", "path", "rootfs")
        sources = [key for key in every if getattr(self, key) is not None]
        if len(sources) != 1:
            raise Problem(
                f"an image has {' and '.join(sources) or 'none of build, url, path and rootfs'}",
                cure="give exactly one of `build:`, `url:`, `path:` and `rootfs:`",
            )
        digests = [key for key in ("sha256", "checksums") if getattr(self, key) is not None]
        if sources == ["url"] and len(digests) != 1:
            raise Problem(
                "an image by url has both sha256 and checksums"
                if digests
                else "an image by url has no digest",
                why="what is fetched must be what was meant",
                cure="give one of `sha256:` and `checksums:`",
            )
        if sources != ["url"] and digests:
            raise Problem(f"{digests[0]} goes with url only", cure=f"remove `{digests[0]}:`")
        if sources != ["url"] and self.fetch is not None:
            raise Problem(
                "fetch goes with url only",
                why="what is built or lies here is uploaded from here",
                cure="remove `fetch:`",
            )
        return self
