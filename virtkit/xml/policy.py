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
#: Elements that reach the host, and the value under ``allow:`` that permits them.
_REACHING = {
    "hostdev": "hostdev",
    "emulator": "emulator",
    "bootloader": "emulator",  # it is run on the host, too
    "bootloader_args": "emulator",  # which name files that it writes
    "seclabel": "emulator",  # whom the emulator runs as, and whether it is confined
    "script": "host-paths",
    "downscript": "host-paths",
    "shmem": "host-paths",
    "secret": "host-paths",  # libvirt's own, of the host
}
#: Elements that say where the content of a disk is; each has a ``<source>``.
_STORES = ("disk", "backingStore", "dataStore", "mirror", "nvram")
#: Devices of the host without a path: by (tag, attribute), the values.
_HOSTDEVS = {
    **{(tag, "type"): {"nvme"} for tag in _STORES},
    ("interface", "type"): {"hostdev", "direct", "vdpa", "ethernet"},
    ("disk", "rawio"): {"yes"},  # a right of the whole emulator's
    ("backend", "type"): {"passthrough"},
    ("smartcard", "mode"): {"host", "host-certificates"},
    ("graphics", "type"): {"sdl", "egl-headless", "desktop"},
    ("gl", "enable"): {"yes"},
    ("audio", "type"): {"alsa", "coreaudio", "jack", "oss", "pipewire", "pulseaudio", "sdl"},
}
#: Texts and attributes that are paths on the host, even where they have no slash: libvirt and its
#: guests run in ``/``.
_PATH_TEXTS = {"kernel", "initrd", "loader", "nvram", "dtb", "shim", "table", "path", "backend"}
_PATH_KEYS = {"file", "path", "dir", "socket", "evdev", "template", "rendernode", "tap", "vhost"}
_PATH_KEYS |= {"keyfile", "agentsock", "logFile", "xauth"}
#: Texts, by (parent, tag), and attributes, by (tag, key), that may hold a slash and name nothing of
#: the host.
_FREE_TEXTS = {("os", each) for each in ("cmdline", "init", "initarg", "initdir", "initenv")}
_FREE_TEXTS |= {("domain", "title"), ("domain", "description"), ("disk", "serial")}
_SMBIOS = ("sysinfo", "bios", "system", "baseBoard", "chassis", "oemStrings")
_FREE_TEXTS |= {(each, "entry") for each in _SMBIOS}
_FREE_KEYS = {("target", "dir"), ("entry", "name"), ("clock", "timezone")}
#: What a container may do, as libvirt calls it.
_RIGHTS = "capabilities"
#: What names something on another machine, in the source of a network disk.
_OF_SERVER = {"name", "query"}
#: Parts of names that lead to the host itself; where there is no name, it does, too.
_OWN_NAMES = {"", "localhost", "localhost4", "localhost6"}
#: A number in an address that inet_aton(3) takes for an octal one.
_OCTAL = re.compile("0[0-7]+", re.ASCII)
#: A server's name or address: nothing that is escaped, or says more than that in a URL.
_SERVER = re.compile(r"[\w.:-]+|\[[\w.:]+\]", re.ASCII)


def check_template(guest: Guest, root: etree._Element) -> None:
    """What a guest's template made of it, before ``devices`` are added.

    Raises:
        RequestError: it is another domain's, or a container that is kept off its host less well.
    """
    where = guest.where("template")
    _check_identity(guest, root, where)
    _check_confined(guest, root, where)
    _check_rights(guest, root, where)


def check(guest: Guest, root: etree._Element) -> None:
    """A guest's whole domain XML, with its ``devices``.

    Raises:
        RequestError: it holds a secret, or reaches what the spec's ``allow:`` does not name.
    """
    where = guest.where("template", "devices")
    _check_attributes(guest, root, where)
    _check_secrets(guest, root, where)
    own = {each.key for each in guest.volumes}
    own |= {guest.nvram} - {""}
    own |= {each.source for each in guest.filesystems if not each.readonly}
    own |= {each.volume.key.replace("/", ":") for each in guest.disks if each.kind == "volume"}
    own |= {each.volume.key for each in guest.disks}
    own |= {each.source for each in guest.folders}  # `allow` was asked for these already
    own |= {each["path"] for each in guest.host_devices if "path" in each}
    shared = {guest.files.root, guest.files.kernel, guest.files.initrd}
    shared |= {each.source for each in guest.filesystems if each.readonly}
    host_cards = {each.source for each in guest.interfaces if each.kind == "direct"}
    _refuse(guest, reaches(root, own, shared, host_cards, guest.driver.loader), where)


def _check_confined(guest: Guest, root: etree._Element, where: str) -> None:
    """A template of the user's must not leave out what keeps the guest off the host."""
    wanted = guest.driver.confined.get(guest.confinement.mode, ())
    paths = [each.format(ids=guest.confinement.ids) for each in wanted]
    missing = [each for each in paths if root.find(each) is None]
    rights = [each for each in root.iterfind("features/*") if tree.local_name(each) == _RIGHTS]
    if paths and len(rights) > 1:
        raise RequestError(
            f"the template of guest {guest.name} has <{_RIGHTS}> {len(rights)} times",
            why="libvirt takes the last one, whatever the first one denies",
            cure="leave one, or set `privileged: true`",
            where=where,
        )
    if missing:
        raise RequestError(
            f"the template of guest {guest.name} lacks {', '.join(missing)}",
            why="without it the guest is as good as root on its host",
            cure="put it back, or set `privileged: true`",
            where=where,
        )


def _check_rights(guest: Guest, root: etree._Element, where: str) -> None:
    """Nor must it add rights to a container, or map a second range of users to the host's."""
    if guest.spec.privileged or not guest.driver.capabilities:
        return
    rights = {
        tree.local_name(each)
        for each in root.iterfind(f"features/{_RIGHTS}/*")
        if each.get("state") != "off"
    }
    more = sorted(rights - {*guest.driver.capabilities})
    maps = [tree.local_name(each) for each in root.iterfind("idmap/*")]
    if maps and not guest.confinement.ids:
        raise RequestError(
            f"the template of guest {guest.name} has its own <idmap>",
            why="this host gives containers no ids, so these are somebody else's",
            cure="remove it; `virtkit doctor` says how to prepare the host, and then a guest "
            "that is recreated has its own ids (`guest.confinement.ids`); or set "
            "`privileged: true`",
            where=where,
        )
    more += sorted({f"idmap/{each}" for each in maps if maps.count(each) > 1})
    if more:
        raise RequestError(
            f"the template of guest {guest.name} adds {', '.join(more)}",
            why="with it the guest could become root on its host",
            cure="remove it, or set `privileged: true`",
            where=where,
        )


def reaches(
    root: etree._Element,
    own: Collection[str],
    image: Collection[str] = (),
    host_cards: Collection[str] = (),
    loader: str = "",
) -> dict[str, str]:
    """What in a domain's XML reaches the host: each value that ``allow:`` needs, with an example.

    Args:
        own: paths on the host that are the guest's own.
        image: paths that it shares with others, to read only.
        host_cards: the host's network cards that its networks are on (mode macvtap).
        loader: the boot loader that its type has itself.
    """
    reached: dict[str, str] = {}
    for element in tree.outside_metadata(root):
        tag, name = tree.local_name(element), etree.QName(element)
        if name.namespace and name.namespace.startswith(_FOREIGN):
            reached.setdefault("commandline", tag)
        elif tag in _REACHING and not _is_own_loader(element, loader):
            reached.setdefault(_REACHING[tag], f"<{tag}>")
        for key, value in tree.attributes(element):
            if value in _HOSTDEVS.get((tag, key), ()) and not _is_on_host_card(element, host_cards):
                reached.setdefault("hostdev", f"<{tag} {key}='{value}'>")
            if key == "secret":  # libvirt's own, as the element is
                reached.setdefault("host-paths", f"<{tag} {key}='{value}'>")
        if network := _of_network(element):
            reached.setdefault("host-paths", network)
        if shown := _shown_to_others(element):
            reached.setdefault("listen", shown)
        allowed = {*own, *_HARMLESS, *(image if _only_read(element) else ())}
        for path in _paths(element):
            if path not in allowed:
                reached.setdefault("host-paths", path)
    return reached


def _is_own_loader(element: etree._Element, loader: str) -> bool:
    """Whether an element names the boot loader of the guest's type, and nothing else."""
    is_one = bool(loader) and tree.local_name(element) == "bootloader"
    return is_one and element.text == loader and len(element) == 0


def _is_on_host_card(element: etree._Element, host_cards: Collection[str]) -> bool:
    """Whether an element is an interface on one of the ``host_cards``, beside the host."""
    sources = [e for e in element.iterchildren(etree.Element) if tree.local_name(e) == "source"]
    return (
        tree.local_name(element) == "interface"
        and _values(element, "type") == ["direct"]
        and len(sources) == 1
        and _values(sources[0], "mode") in (["bridge"], ["private"], ["vepa"])
        and len(_values(sources[0], "dev")) == 1
        and _values(sources[0], "dev")[0] in host_cards
    )


def _parent(element: etree._Element) -> str:
    """The name of the element around one; empty for the root."""
    parent = element.getparent()
    return "" if parent is None else tree.local_name(parent)


def _values(element: etree._Element, key: str) -> list[str]:
    """What an attribute holds that may stand there several times, in a namespace each."""
    return [value for each, value in tree.attributes(element) if each == key]


def _only_read(element: etree._Element) -> bool:
    """Whether what an element names is never written to."""
    tag, around = tree.local_name(element), _parent(element)
    if tag in ("kernel", "initrd"):
        return around == "os"
    parent = element.getparent()
    if tag != "source" or parent is None:
        return False
    if around == "backingStore":
        return _parent(parent) in ("disk", "backingStore")
    return around in ("disk", "filesystem") and parent.find("readonly") is not None


def _paths(element: etree._Element) -> Iterable[str]:
    """Paths on the host that one element names: values with a slash, or volumes of any pool."""
    tag, around = tree.local_name(element), _parent(element)
    parts = [element.text or "", *(each.tail or "" for each in element)]
    if tag in _PATH_TEXTS:
        parts = [str(each) for each in element.itertext()]  # libvirt reads that of children, too
    text = "".join(parts).strip()
    if (around, tag) not in _FREE_TEXTS and text and ("/" in text or tag in _PATH_TEXTS):
        yield text
    for key, value in tree.attributes(element):
        if key in _OF_SERVER and _is_on_server(element):
            continue
        device = (tag, key) == ("source", "dev") and around != "interface"
        is_path = "/" in value or key in _PATH_KEYS or device
        if is_path and (tag, key) not in _FREE_KEYS:
            yield value
    if tag == "source":
        volume = "".join(_values(element, "volume"))
        yield from (f"{pool}:{volume}" for pool in _values(element, "pool") if pool)


def _is_on_server(element: etree._Element) -> bool:
    """Whether an element is the source of a network disk."""
    source = tree.local_name(element) == "source" and _parent(element) in _STORES
    return source and any(_values(element, "protocol"))


def _of_network(element: etree._Element) -> str:
    """What of the host's own a network disk reaches; empty where it goes to other machines.

    It is the host that connects. What a name resolves to is not looked at.
    """
    if not _is_on_server(element):
        return ""
    protocols = _values(element, "protocol")
    source = f"<source protocol='{protocols[0]}'>"
    if "ssh" in protocols:
        return f"{source}, which uses the host's own keys"
    hosts = [e for e in element.iterchildren(etree.Element) if tree.local_name(e) == "host"]
    names = [name for each in hosts for name in _values(each, "name") or [""]]
    own = [each for each in names if _is_own(each)]
    if own:
        return f"{source} of {own[0] or 'the host'} itself"
    if element.find("host") is None:
        return f"{source} without <host>, so that the host's own configuration says where"
    return ""


def _shown_to_others(element: etree._Element) -> str:
    """What of a display other machines may reach; empty where it listens on loopback, or where
    libvirt's own configuration says, or not at all."""
    tag = tree.local_name(element)
    if tag == "graphics":
        key = "listen"
    elif tag == "listen" and _parent(element) == "graphics":
        if "network" in _values(element, "type"):
            return "<listen type='network'>"
        key = "address"
    else:
        return ""
    others = (each for each in _values(element, key) if each and not _is_loopback(each))
    return next((f"<{tag} {key}='{each}'>" for each in others), "")


def _is_loopback(name: str) -> bool:
    """Whether what listens there is reached from its own machine alone."""
    try:
        address = _address(name.strip("[]"))
    except ValueError:
        return name.lower() in _OWN_NAMES
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_own(name: str) -> bool:
    """Whether a server's name is the host's own, or only it can reach it, or may be read so."""
    if not _SERVER.fullmatch(name):
        return True
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
        ValueError: it is no address.
    """
    with suppress(ValueError):
        return ip_address(name)
    *first, last = (int(each, 8 if _OCTAL.fullmatch(each) else 0) for each in name.split("."))
    return IPv4Address(last + sum(number << 24 - 8 * at for at, number in enumerate(first)))


def _check_attributes(guest: Guest, root: etree._Element, where: str) -> None:
    """What is judged must be what libvirt reads, and that looks at no namespace of an attribute."""
    for element in tree.outside_metadata(root):
        keys = [key for key, _ in tree.attributes(element)]
        duplicate = next((each for each in keys if keys.count(each) > 1), None)
        if duplicate:
            raise RequestError(
                f"guest {guest.name}: its <{tree.local_name(element)}> has {duplicate} twice",
                why="libvirt reads one of them, whatever its namespace",
                cure="write it once, without a prefix",
                where=where,
            )


def _check_secrets(guest: Guest, root: etree._Element, where: str) -> None:
    """What stands in ``devices`` is kept in the record, which every local user can read."""
    for element in tree.outside_metadata(root):
        tag = tree.local_name(element)
        keys = {key for key, _ in tree.attributes(element)}
        if tag == "cookie" or "passwd" in keys:
            raise RequestError(
                f"guest {guest.name}: its <{tag}> holds a secret",
                why="records and spec files are no place for one; virtkit makes the password of "
                "VNC itself, and `virtkit console --vnc` shows it",
                cure="remove it; `graphics: vnc` gives a display with a password",
                where=where,
            )


def _check_identity(guest: Guest, root: etree._Element, where: str) -> None:
    """A template with another name or UUID would define over somebody else's domain."""
    for tag, expected in (("name", guest.domain), ("uuid", guest.uuid)):
        element = root.find(tag)
        text = "" if element is None else "".join(map(str, element.itertext()))
        if text != expected:
            raise RequestError(
                f"the template of guest {guest.name} gives it the {tag} {text or '(none)'}",
                why=f"its {tag} is {expected}, and virtkit defines nothing else",
                cure=f"write <{tag}>{{{{ guest.{'domain' if tag == 'name' else tag} }}}}</{tag}>, "
                'or begin with {% extends "base.xml.j2" %}',
                where=where,
            )


def _refuse(guest: Guest, reached: dict[str, str], where: str) -> None:
    for permission, example in reached.items():
        if permission not in guest.spec.allow:
            raise RequestError(
                f"guest {guest.name} reaches the host: {example}",
                why="`devices` and `template` may only use what `allow` names",
                cure=f"add `allow: [{permission}]` to the guest, or remove it",
                where=where,
            )
