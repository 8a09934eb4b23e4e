"""What root disks start from, as a spec describes it, and the images that need no entry."""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

from pydantic import Field, model_validator

from virtkit.spec.model.base import (
    DEFAULT_IMAGE,
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
    """What a guest's root disk starts from: one of ``build``, ``url`` and ``path``."""

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

    @model_validator(mode="after")
    def _one_source(self) -> Image:
        sources = [key for key in ("build", "url", "path") if getattr(self, key) is not None]
        if len(sources) != 1:
            raise Problem(
                f"an image has {' and '.join(sources) or 'none of build, url and path'}",
                cure="give exactly one of `build:`, `url:` and `path:`",
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


#: Image names that need no entry under ``images``.
CATALOGUE: MappingProxyType[str, Image] = MappingProxyType(
    {
        DEFAULT_IMAGE: Image.model_construct(
            build=Build.model_construct(distribution="debian", release="bookworm")
        )
    }
)
