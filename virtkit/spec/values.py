"""The kinds of text that a spec may hold: names, paths, addresses, URLs.

Each function takes the text and gives it back, normalised where there are two ways to write
it. Pure: it must never look at a disk or resolve a name.
"""

from __future__ import annotations

import keyword
import posixpath
import re
from collections.abc import Callable
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from urllib.parse import urlsplit

from virtkit.drivers import DRIVERS
from virtkit.spec.problem import Problem, quote, suggestion

LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
NUMBER_PATTERN = r"^[1-9][0-9]{0,3}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
DISK_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?$"
#: Variables that Ansible sets itself, whatever others say.
_ANSIBLES_OWN = frozenset(
    {
        *("group_names", "groups", "hostvars", "inventory_hostname"),
        *("inventory_hostname_short", "omit", "vars"),
    }
)
#: Disk names that virtkit gives itself.
RESERVED_DISKS = frozenset({"root", "seed", "console", "kernel", "initrd"})

_LABEL = re.compile(LABEL_PATTERN, re.ASCII)
_DISK = re.compile(DISK_PATTERN, re.ASCII)
_FOREIGN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_GROUP = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", re.ASCII)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]{1,99}", re.ASCII)
_RELEASE = re.compile(r"[a-z][a-z0-9.-]{0,31}", re.ASCII)
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}", re.ASCII)
_MOUNT = re.compile(r"/[A-Za-z0-9._@+/-]{1,200}", re.ASCII)
_URL = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]{1,2000}", re.ASCII)

_NOT_IN_PATHS = frozenset("<>&\"'`$;|*?\\")
_SYSTEM_FOLDERS = frozenset(
    f"/{name}"
    for name in (
        *("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32"),
        *("proc", "run", "sbin", "sys", "usr", "var", ".oldroot"),
    )
)
_SYSTEM_TREES = ("/dev/", "/proc/", "/run/", "/sys/", "/.oldroot/")
_NETWORK_PREFIXES = (8, 29)


def printable(text: str) -> str:
    """Text of one line, without control characters."""
    if not text:
        raise Problem("the text is empty", cure="write something, or leave the key out")
    if not text.isprintable():
        raise Problem(
            f"{quote(text)} holds a character that can't be printed",
            cure="use printable characters, on one line",
        )
    return text


def is_label(text: str) -> bool:
    """Whether ``text`` is a name: a DNS label."""
    return _LABEL.fullmatch(text) is not None


def label(text: str) -> str:
    """A name: a DNS label."""
    if not is_label(text):
        raise Problem(
            f"{quote(text)} is not a name",
            why="names are DNS labels: at most 63 of a-z, 0-9 and '-', no '-' first or last",
            cure=_label_cure(text),
        )
    return text


def _label_cure(text: str) -> str:
    near = suggest_label(text)
    return f"use '{near}'" if near else "choose a name such as 'web'"


def suggest_label(text: str) -> str:
    """The nearest name to ``text``; empty where nothing of it can stay."""
    near = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return near[:63].strip("-")


def disk_name(text: str) -> str:
    """A disk's name: a DNS label of at most 16 characters that virtkit does not use itself."""
    if _DISK.fullmatch(text) is None:
        raise Problem(
            f"{quote(text)} is not a disk's name",
            why="at most 16 of a-z, 0-9 and '-', no '-' first or last",
            cure="choose a name such as 'data'",
        )
    if text in RESERVED_DISKS:
        raise Problem(
            f"a disk can't be called '{text}'",
            why=f"virtkit's own are {', '.join(sorted(RESERVED_DISKS))}",
            cure="choose another name; the root disk's size is the guest's `disk:`",
        )
    return text


def _matching(pattern: re.Pattern[str], thing: str, why: str, cure: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if pattern.fullmatch(text) is None or ".." in text:
            raise Problem(f"{quote(text)} is not {thing}", why=why, cure=cure)
        return text

    check.__doc__ = f"The text of {thing}: {why}."
    return check


foreign_name = _matching(
    _FOREIGN,
    "a name that virtkit passes to libvirt",
    "at most 63 of A-Z, a-z, 0-9, '.', '_' and '-', a letter or digit first",
    "rename the object in libvirt, or name another",
)
user_name = _matching(
    _USER,
    "a user's name",
    "at most 32 of a-z, 0-9, '_' and '-', a letter or '_' first",
    "choose a name such as 'admin'",
)
package_name = _matching(
    _PACKAGE,
    "a Debian package's name",
    "at least two of a-z, 0-9, '+', '.' and '-', a letter or digit first",
    "look it up with `apt-cache search`",
)
release_name = _matching(
    _RELEASE,
    "a release",
    "at most 32 of a-z, 0-9, '.' and '-', a letter first",
    "use the code name, such as 'bookworm'",
)
bridge_name = _matching(
    _BRIDGE,
    "a network interface's name",
    "at most 15 of A-Z, a-z, 0-9, '_', '.' and '-', a letter or digit first",
    "look it up with `ip -brief link show type bridge`",
)
_group = _matching(
    _GROUP,
    "a group's name",
    "at most 63 of A-Z, a-z, 0-9, '_' and '-', a letter or '_' first",
    "choose a name such as 'webservers'",
)


def group_name(text: str) -> str:
    """An Ansible group's name."""
    if text in ("all", "ungrouped"):
        raise Problem(
            f"a group can't be called '{text}'",
            why="Ansible has a group of that name for every guest already",
            cure="choose another name",
        )
    return _group(text)


def variable_name(text: str) -> str:
    """An Ansible variable's name."""
    if text in _ANSIBLES_OWN:
        raise Problem(
            f"a variable can't be called '{text}'",
            why="Ansible sets one of that name for every host",
            cure="choose another name",
        )
    if re.fullmatch(VARIABLE_PATTERN, text) is None or keyword.iskeyword(text):
        raise Problem(
            f"{quote(text)} is not a variable's name",
            why="Ansible takes letters, digits and '_', no digit first, and no keyword of Python's",
            cure="choose a name such as 'http_port'",
        )
    return text


def host_path(text: str) -> str:
    """The path of a file on the caller's machine, relative to the spec's folder or absolute."""
    printable(text)
    bad = sorted(_NOT_IN_PATHS & set(text))
    if bad:
        raise Problem(
            f"{quote(text)} is not a path that virtkit takes",
            why=f"{' '.join(bad)} has a special meaning in shells or XML",
            cure="rename the file, or link to it under a plain name",
        )
    if text.startswith("-"):
        raise Problem(
            f"the path {quote(text)} looks like an option", cure=f"use {quote('./' + text)}"
        )
    if text.startswith("~") and not text.startswith("~/"):
        raise Problem(
            f"the path {quote(text)} begins with another user's home",
            cure="write that folder out; `~/` is your own",
        )
    if len(text) > 1000:
        raise Problem("the path is too long", cure="keep it under 1000 characters")
    return text


def key_path(text: str) -> str:
    """The path of a public key's file."""
    if re.match(r"(ssh-|ecdsa-|sk-)\S+ ", text):
        raise Problem(
            "an ssh key itself stands where a path is expected",
            cure="put the key into a file, and its path here",
        )
    return host_path(text)


def mount_point(text: str) -> str:
    """A folder in the guest: absolute, normalised, none that the system needs."""
    if _MOUNT.fullmatch(text) is None:
        raise Problem(
            f"{quote(text)} is not a folder to mount a disk on",
            why="an absolute path of A-Z, a-z, 0-9 and . _ @ + -, and not '/'",
            cure="use /srv/data",
        )
    if ".." in text.split("/") or posixpath.normpath(text) != text or text.startswith("//"):
        near = "/" + posixpath.normpath(text).lstrip("/")
        raise Problem(
            f"the folder {quote(text)} is not written in its shortest form",
            cure=f"use {near}" if len(near) > 1 else "use /srv/data",
        )
    if text in _SYSTEM_FOLDERS or text.startswith(_SYSTEM_TREES):
        raise Problem(
            f"a disk mounted on {text} would hide the system's own files",
            cure="mount it on its own folder, such as /srv/data",
        )
    return text


def is_mac_address(text: str) -> bool:
    """Whether a network interface can have it."""
    try:
        return bool(mac_address(text))
    except Problem:
        return False


def mac_address(text: str) -> str:
    """A unicast MAC address, in lower case with colons."""
    mac = text.lower()
    if _MAC.fullmatch(mac) is None:
        raise Problem(f"{quote(text)} is not a MAC address", cure="use 52:54:00:00:00:10")
    if int(mac[:2], 16) & 1:
        raise Problem(
            f"{text} is not the address of one network interface",
            why="an odd first byte means a group of receivers (multicast)",
            cure=f"use 52:54:00{mac[8:]}",
        )
    if mac == "00:00:00:00:00:00":
        raise Problem(f"{text} is no network interface's address", cure="use 52:54:00:00:00:10")
    return mac


def ipv4_address(text: str) -> str:
    """An IPv4 address of one machine."""
    try:
        return str(IPv4Address(text))
    except AddressValueError as error:
        raise Problem(
            f"{quote(text)} is not an IPv4 address", cure="use an address such as 10.20.0.10"
        ) from error


def server_address(text: str) -> str:
    """An IPv4 address of a name server or a gateway."""
    address = ipv4_address(text)
    if IPv4Address(address).is_multicast or IPv4Address(address).is_unspecified:
        raise Problem(f"{text} is no machine's address", cure="use an address such as 10.20.0.1")
    return address


def cidr(text: str) -> str:
    """An IPv4 network, such as ``10.20.0.0/24``."""
    try:
        network = IPv4Network(text, strict=False)
    except ValueError as error:
        raise Problem(
            f"{quote(text)} is not an IPv4 network",
            cure="use an address and a prefix length, such as 10.20.0.0/24",
        ) from error
    low, high = _NETWORK_PREFIXES
    if re.fullmatch(r"[0-9.]+/[0-9]{1,2}", text, re.ASCII) is None or not (
        low <= network.prefixlen <= high
    ):
        raise Problem(
            f"the network {quote(text)} has no prefix length from /{low} to /{high}",
            cure=f"use {IPv4Network(f'{network.network_address}/24', strict=False)}",
        )
    if str(network) != text:
        raise Problem(f"{quote(text)} is an address in a network", cure=f"use {network}")
    if network.is_multicast or network.is_loopback or network.is_link_local:
        raise Problem(f"{text} is not for networks of guests", cure="use 10.20.0.0/24")
    if network.is_reserved or network.network_address in IPv4Network("0.0.0.0/8"):
        raise Problem(f"{text} is not for networks of guests", cure="use 10.20.0.0/24")
    return text


def ipv6_cidr(text: str) -> str:
    """An IPv6 network with a prefix of 64 bits, such as ``fd00:20::/64``."""
    try:
        network = IPv6Network(text, strict=False)
    except ValueError as error:
        raise Problem(
            f"{quote(text)} is not an IPv6 network", cure="use a network such as fd00:20::/64"
        ) from error
    if network.prefixlen != 64:
        raise Problem(
            f"the network {quote(text)} is not a /64",
            why="guests make their own IPv6 addresses, which needs 64 bits",
            cure=f"use {IPv6Network(f'{network.network_address}/64', strict=False)}",
        )
    if IPv6Address(text.partition("/")[0]) != network.network_address:
        raise Problem(f"{quote(text)} is an address in a network", cure=f"use {network}")
    if network.is_multicast or network.is_loopback or network.is_link_local:
        raise Problem(f"{text} is not for networks of guests", cure="use fd00:20::/64")
    return str(network)


def domain_name(text: str) -> str:
    """A DNS domain: labels with dots between."""
    if len(text) > 200 or not all(_LABEL.fullmatch(part) for part in text.split(".")):
        raise Problem(
            f"{quote(text)} is not a domain",
            why="a domain is DNS labels with dots between, at most 200 characters",
            cure="use lab.test",
        )
    return text


def ssh_address(text: str) -> str:
    """``USER@HOST`` or ``HOST``, as ssh takes it and never as one of its options."""
    if re.fullmatch(r"([A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9][A-Za-z0-9.:_-]*", text) is None:
        raise Problem(
            f"{quote(text)} is no address for ssh",
            cure="use USER@HOST, such as root@rack1.example.org; a port goes into `ssh: {port: N}`",
        )
    return text


def libvirt_uri(scheme: str, uri: str) -> str:
    """The URI of a system's libvirt for one of its drivers, without a password in it."""
    schemes = list(dict.fromkeys(each.scheme for each in DRIVERS.values()))
    if scheme not in schemes:
        raise Problem(
            f"libvirt has no driver {quote(scheme)} here", cure=suggestion(scheme, schemes)
        )
    form = rf"{scheme}(\+[a-z0-9]+)?://([^/?#\s:@]+@)?[^/?#\s@]*/system(\?[!-~]*)?"
    if re.fullmatch(form, uri, re.ASCII) is None:
        raise Problem(
            # without the URI itself, which may have a password
            f"the URI for {scheme} is not one of libvirt's {scheme} driver",
            why="virtkit works with a system's libvirt, and a password has no place in a spec",
            cure=f"write it as virsh -c takes it: {scheme}+tls://rack1.example.org/system",
        )
    return uri


def sha256(text: str) -> str:
    """A SHA-256 in hex, lower case."""
    digest = text.lower()
    if _SHA256.fullmatch(digest) is None:
        raise Problem(
            f"{quote(text)} is not a SHA-256",
            why=f"a SHA-256 has 64 hex digits; this has {len(text)} characters",
            cure="take this file's digest alone from the publisher's SHA256SUMS; the URL of a file "
            "with digests, of SHA-512 too, goes into `checksums:`",
        )
    return digest


def url(text: str) -> str:
    """An http, https or file URL, without a user or password in it."""
    parts = _split_url(text)
    if parts is None:
        raise Problem(
            f"{quote(text)} is not a URL that virtkit fetches",
            why="http://, https:// and file:/// only, of the characters that URLs may hold",
            cure="use https://HOST/PATH; percent-encode what a URL may not hold",
        )
    if "@" in parts:
        raise Problem(
            "the URL holds a user or a password",
            why="it would stand in logs and in libvirt's metadata",
            cure="fetch the file yourself and give it as `path:`",
        )
    return text


def _split_url(text: str) -> str | None:
    """The host part of a URL; None where it is not one that we fetch."""
    if _URL.fullmatch(text) is None:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return None
    web = parts.scheme in ("http", "https") and bool(parts.hostname)
    local = parts.scheme == "file" and not parts.netloc and len(parts.path) > 1
    return parts.netloc if web or local else None


def command(text: str) -> str:
    """A shell command for the guest, of one or more lines."""
    if not text.strip():
        raise Problem("the command is empty", cure="write a command, or leave the key out")
    return text


def xml(text: str) -> str:
    """Raw XML, which is read and checked when the guest is rendered."""
    if not text.strip().startswith("<"):
        raise Problem(
            f"{quote(text)} is not an XML element",
            cure="write an element such as <watchdog model='i6300esb'/>",
        )
    if len(text) > 65536:
        raise Problem("the XML is too long", cure="keep it under 64 KiB")
    return text
