"""What a user's XML may reach: the checks on ``devices`` and on templates.

Pure, and a security boundary: docs/security.md has each rule and what it can't guard. A value
that might be a path of the host is taken for one. It must never change a tree, and never look at
the host.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from lxml import etree

from virtkit.errors import RequestError
from virtkit.state.desired import Guest
from virtkit.xml import tree

#: Elements for libvirt's drivers alone (qemu:commandline, lxc:sharenet, xen:commandline …).
_FOREIGN = "http://libvirt.org/schemas/domain/"
#: Files of the host that any guest may name.
_HARMLESS = {"/dev/urandom", "/dev/random"}
#: Elements that reach the host, and the word under ``allow:`` that permits them.
_REACHING = {
    "hostdev": "hostdev",
    "emulator": "emulator",
    "bootloader": "emulator",  # it is run on the host, too
    "seclabel": "emulator",  # whom the emulator runs as, and whether it is confined
    "script": "host-paths",
    "downscript": "host-paths",
    "shmem": "host-paths",
    "secret": "host-paths",  # libvirt's own, of the host
}
#: Devices of the host without a path: by (tag, attribute), the values.
_HOSTDEVS = {
    ("interface", "type"): {"hostdev", "direct", "vdpa", "ethernet"},
    ("disk", "type"): {"nvme"},
    ("backend", "type"): {"passthrough"},
    ("smartcard", "mode"): {"host", "host-certificates"},
    ("graphics", "type"): {"sdl", "egl-headless"},
    ("audio", "type"): {"alsa", "coreaudio", "jack", "oss", "pipewire", "pulseaudio", "sdl"},
}
#: Texts and attributes that are paths on the host, even where they have no slash: libvirt and its
#: guests run in ``/``.
_PATH_TEXTS = {"kernel", "initrd", "loader", "nvram", "dtb", "shim", "table", "path", "backend"}
_PATH_KEYS = {"file", "path", "dir", "socket", "evdev"}
#: Texts and attributes that may hold a slash and name nothing of the host.
_FREE_TEXTS = {"cmdline", "init", "initarg", "initdir", "initenv", "entry", "serial"}
_FREE_TEXTS |= {"title", "description"}
#: What names something on another machine, in the source of a network disk.
_OF_SERVER = {"name", "query"}
#: Parts of names that lead to the host itself; where there is no name, it does, too.
_OWN_NAMES = {"", "localhost", "localhost4", "localhost6"}
#: A number in an address that inet_aton(3) takes for an octal one.
_OCTAL = re.compile("0[0-7]+", re.ASCII)
_FREE_KEYS = {("target", "dir"), ("entry", "name"), ("clock", "timezone")}


def check_template(one: Guest, root: etree._Element) -> None:
    """What a guest's template made of it, before ``devices`` are added.

    Raises:
        RequestError: it is another domain's, or a container that is kept off its host less well.
    """
    where = one.where("template")
    _check_identity(one, root, where)
    _check_confined(one, root, where)
    _check_rights(one, root, where)


def check(one: Guest, root: etree._Element) -> None:
    """A guest's whole domain XML, with its ``devices``.

    Raises:
        RequestError: it holds a secret, or reaches what the spec's ``allow:`` does not name.
    """
    where = one.where("template", "devices")
    _check_secrets(one, root, where)
    known = {each.key for each in one.volumes}
    known |= {each.source for each in one.filesystems if not each.readonly}
    shared = {one.files.root, one.files.kernel, one.files.initrd}
    shared |= {each.source for each in one.filesystems if each.readonly}
    _refuse(one, reaches(root, known, shared), where)


def _check_confined(one: Guest, root: etree._Element, where: str) -> None:
    """A template of the user's must not leave out what keeps the guest off the host."""
    wanted = one.driver.confined.get(one.confinement.mode, ())
    paths = [each.format(ids=one.confinement.ids) for each in wanted]
    missing = [each for each in paths if root.find(each) is None]
    if missing:
        raise RequestError(
            f"the template of guest {one.name} lacks {', '.join(missing)}",
            why="without it the guest is as good as root on its host",
            cure="put it back, or say `privileged: true`",
            where=where,
        )


def _check_rights(one: Guest, root: etree._Element, where: str) -> None:
    """Nor must it add rights to a container, or map a second range of users to the host's."""
    if one.spec.privileged or not one.driver.capabilities:
        return
    given = {
        tree.local_name(each)
        for each in root.iterfind("features/capabilities/*")
        if each.get("state") != "off"
    }
    more = sorted(given - {*one.driver.capabilities})
    maps = [tree.local_name(each) for each in root.iterfind("idmap/*")]
    if maps and not one.confinement.ids:
        raise RequestError(
            f"the template of guest {one.name} has an <idmap> of its own",
            why="this host gives containers no ids, so these are somebody else's",
            cure="take it out; `virtkit doctor` says how to prepare the host, and then a guest "
            "that is made anew has ids of its own (`guest.confinement.ids`); or say "
            "`privileged: true`",
            where=where,
        )
    more += sorted({f"idmap/{each}" for each in maps if maps.count(each) > 1})
    if more:
        raise RequestError(
            f"the template of guest {one.name} adds {', '.join(more)}",
            why="with it the guest could become root on its host",
            cure="take it out, or say `privileged: true`",
            where=where,
        )


def reaches(
    root: etree._Element, known: Collection[str], image: Collection[str] = ()
) -> dict[str, str]:
    """What in a domain's XML reaches the host: the word for ``allow:`` to an example of it.

    Args:
        known: paths on the host that are the guest's own.
        image: paths that it shares with others, to read only.
    """
    found: dict[str, str] = {}
    for element in tree.outside_metadata(root):
        name = etree.QName(element)
        if name.namespace and name.namespace.startswith(_FOREIGN):
            found.setdefault("commandline", name.localname)
        elif name.localname in _REACHING:
            found.setdefault(_REACHING[name.localname], f"<{name.localname}>")
        for key, value in tree.attributes(element):
            if value in _HOSTDEVS.get((name.localname, key), ()):
                found.setdefault("hostdev", f"<{name.localname} {key}='{value}'>")
        if network := _of_network(element):
            found.setdefault("host-paths", network)
        allowed = {*known, *_HARMLESS, *(image if _only_read(element) else ())}
        for path in _paths(element):
            if path not in allowed:
                found.setdefault("host-paths", path)
    return found


def _only_read(element: etree._Element) -> bool:
    """Whether what an element names is never written to."""
    if tree.local_name(element) in ("kernel", "initrd"):
        return True
    parent = element.getparent()
    return parent is not None and (
        parent.tag == "backingStore" or parent.find("readonly") is not None
    )


def _paths(element: etree._Element) -> Iterable[str]:
    """Paths on the host that one element names: values with a slash, or volumes of any pool."""
    tag = tree.local_name(element)
    parent = element.getparent()
    card = parent is not None and tree.local_name(parent) == "interface"
    text = "".join([element.text or "", *(each.tail or "" for each in element)]).strip()
    if tag not in _FREE_TEXTS and text and ("/" in text or tag in _PATH_TEXTS):
        yield text
    for key, value in tree.attributes(element):
        if key in _OF_SERVER and _protocol(element):
            continue
        device = (tag, key) == ("source", "dev") and not card
        names = "/" in value or key in _PATH_KEYS or device
        if names and (tag, key) not in _FREE_KEYS:
            yield value
    if tag == "source" and element.get("pool"):
        yield f"{element.get('pool')}:{element.get('volume')}"


def _protocol(element: etree._Element) -> str:
    """The protocol of a network disk's source; empty for all else."""
    parent = element.getparent()
    if tree.local_name(element) != "source" or parent is None:
        return ""
    if tree.local_name(parent) not in ("disk", "backingStore"):
        return ""
    return dict(tree.attributes(element)).get("protocol", "")


def _of_network(element: etree._Element) -> str:
    """What of the host's own a network disk reaches; empty where it goes to other machines.

    It is the host that connects. What a name resolves to is not looked at.
    """
    protocol = _protocol(element)
    if not protocol:
        return ""
    said = f"<source protocol='{protocol}'>"
    children = element.iterchildren(etree.Element)
    hosts = [dict(tree.attributes(e)) for e in children if tree.local_name(e) == "host"]
    if not hosts:
        return f"{said} without <host>, so that the host's own configuration says where"
    if protocol == "ssh":
        return f"{said}, which goes by the host's own keys"
    own = [name for each in hosts if _is_own(name := each.get("name", ""))]
    return f"{said} of {own[0] or 'the host'} itself" if own else ""


def _is_own(name: str) -> bool:
    """Whether a server's name is the host's own, or only it can reach it."""
    plain = name.strip("[]").rstrip(".").lower()
    try:
        address = _address(plain)
    except ValueError:
        return plain.startswith("ip6-") or not _OWN_NAMES.isdisjoint(plain.split("."))
    mapped = getattr(address, "ipv4_mapped", None) or address
    return mapped.is_loopback or mapped.is_unspecified or mapped.is_link_local


def _address(name: str) -> IPv4Address | IPv6Address:
    """An address as programs read it: for inet_aton(3) 127.1, 0x7f.1 and 2130706433 are one, too.

    Raises:
        ValueError: it is none.
    """
    with suppress(ValueError):
        return ip_address(name)
    *first, last = (int(each, 8 if _OCTAL.fullmatch(each) else 0) for each in name.split("."))
    return IPv4Address(last + sum(number << 24 - 8 * at for at, number in enumerate(first)))


def _check_secrets(one: Guest, root: etree._Element, where: str) -> None:
    """What stands in ``devices`` is kept in the record, which every local user can read."""
    for element in tree.outside_metadata(root):
        tag = tree.local_name(element)
        keys = {key for key, _ in tree.attributes(element)}
        if tag == "cookie" or "passwd" in keys:
            raise RequestError(
                f"guest {one.name}: its <{tag}> holds a secret",
                why="records and spec files are no place for one; virtkit makes the password of "
                "VNC itself, and `virtkit console --vnc` tells it",
                cure="take it out; `graphics: vnc` gives a display with a password",
                where=where,
            )


def _check_identity(one: Guest, root: etree._Element, where: str) -> None:
    """A template with another name or UUID would define over somebody else's domain."""
    for tag, right in (("name", one.domain), ("uuid", one.uuid)):
        found = root.findtext(tag) or ""
        if found != right:
            raise RequestError(
                f"the template of guest {one.name} gives it the {tag} {found or '(none)'}",
                why=f"its {tag} is {right}, and virtkit defines nothing else",
                cure=f"write <{tag}>{{{{ guest.{'domain' if tag == 'name' else tag} }}}}</{tag}>, "
                'or begin with {% extends "base.xml.j2" %}',
                where=where,
            )


def _refuse(one: Guest, reaching: dict[str, str], where: str) -> None:
    for word, example in reaching.items():
        if word not in one.spec.allow:
            raise RequestError(
                f"guest {one.name} reaches the host: {example}",
                why="`devices` and `template` may only use what `allow` names",
                cure=f"add `allow: [{word}]` to the guest, or take it out",
                where=where,
            )
