"""What guests start from: an entry of the spec, and the volumes made of it. Pure."""

from __future__ import annotations

from virtkit._dataclass import dataclass
from virtkit.spec import model
from virtkit.state.digests import digest


@dataclass(frozen=True)
class ImageFiles:
    """The volumes of one image in a pool. Paths are on the host; ``size`` is in bytes.

    ``kernel`` and ``initrd`` are empty for an image that boots by itself.
    """

    content: str
    root: str
    format: str
    size: int
    kernel: str = ""
    initrd: str = ""

    @classmethod
    def named(
        cls, folder: str, content: str, *, format: str, size: int, bootable: bool
    ) -> ImageFiles:
        """The paths that an image with this content hash has in the pool at ``folder``."""
        stem = f"{folder}/virtkit-{content[:20]}"
        kernel, initrd = ("", "") if bootable else (f"{stem}.kernel", f"{stem}.initrd")
        return cls(content, f"{stem}.root", format, size, kernel, initrd)


@dataclass(frozen=True)
class ImageRef:
    """What a guest starts from: the spec's entry, and its files once they are known."""

    name: str
    entry: model.Image
    identity: str
    files: ImageFiles | None = None

    @classmethod
    def none(cls) -> ImageRef:
        """That of a guest without an image."""
        return cls(model.NO_IMAGE, model.Image.model_construct(), model.NO_IMAGE)

    @property
    def is_none(self) -> bool:
        """Whether the guest has no image: it starts from a blank disk, or from none."""
        return self.identity == model.NO_IMAGE


def image_identity(entry: model.Image) -> str:
    """What makes two image entries the same one: what they say, but not who fetches it."""
    said = entry.model_dump(mode="json", exclude={"fetch"})
    return digest("", model.without(said, {"rootfs"}))  # images of before there was that key
