"""The names of images. Pure."""

from __future__ import annotations

import re

from virtkit.spec.problem import Problem, quote

IMAGE_PATTERN = r"^[a-z0-9]+([.-]+[a-z0-9]+)*$"
_IMAGE = re.compile(IMAGE_PATTERN, re.ASCII)
#: Characters of a name.
_MAX_LENGTH = 63


def is_image_name(text: str) -> bool:
    """Whether an image can be called so: a DNS label, or one with a version in it."""
    return len(text) <= _MAX_LENGTH and _IMAGE.fullmatch(text) is not None


def image_name(text: str) -> str:
    """The name of an image, as ``is_image_name`` has it."""
    if not is_image_name(text):
        raise Problem(
            f"{quote(text)} is not the name of an image",
            why="an image's name has a-z, 0-9, '-' and '.', at most 63 of them",
            cure="see `virtkit image list --available`, or name an entry of `images:`",
        )
    return text
