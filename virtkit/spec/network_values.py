"""Values of networks: names that DNS answers, and addresses of either family."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address, ip_address

from virtkit.spec.problem import Problem, quote
from virtkit.spec.values import LABEL_PATTERN

#: Labels with dots between, as DNS has them.
HOST_NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"

_LABEL = re.compile(LABEL_PATTERN, re.ASCII)
_BOOT_FILE = re.compile(r"[A-Za-z0-9._/-]{1,127}", re.ASCII)


def host_name(text: str) -> str:
    """A name that DNS answers: labels with dots between, at most 200 characters."""
    if len(text) > 200 or not all(_LABEL.fullmatch(part) for part in text.split(".")):
        raise Problem(
            f"{quote(text)} is not a name that DNS answers",
            why="a name is DNS labels (a-z, 0-9 and -) with dots between, at most 200 characters",
            cure="use a name such as api or api.corp.test",
        )
    return text


def boot_file(text: str) -> str:
    """A file's path below another folder, of characters that every TFTP client takes."""
    parts = text.split("/")
    if _BOOT_FILE.fullmatch(text) is None or {"", ".", ".."} & {*parts}:
        raise Problem(
            f"{quote(text)} is no file that TFTP serves",
            why="a path below `tftp:`, of letters, digits and ._-",
            cure="use pxelinux.0, or efi/grubx64.efi",
        )
    return text


def machine_address(text: str) -> str:
    """An IPv4 or IPv6 address of one machine, as it is usually written."""
    try:
        address = ip_address(text)
    except ValueError as error:
        raise Problem(
            f"{quote(text)} is not an IP address",
            cure="use an address such as 10.20.0.5 or fd00:20::5, in quotes where it has colons",
        ) from error
    scoped = "%" in text
    if address.is_multicast or address.is_unspecified or address.is_link_local or scoped:
        raise Problem(
            f"{quote(text)} is no machine's address that others can reach",
            cure="use an address such as 10.20.0.5 or fd00:20::5",
        )
    return str(address)


def ipv6_address(text: str) -> str:
    """An IPv6 address of one machine, as it is usually written."""
    try:
        return machine_address(str(IPv6Address(text)))
    except AddressValueError as error:
        raise Problem(
            f"{quote(text)} is not an IPv6 address",
            cure='use an address such as "fd00:20::10", in quotes',
        ) from error
