"""From an object to the XML that libvirt gets, through templates/.

The only room that knows Jinja. Values are escaped, the result is parsed, and what reaches
the host must have been allowed by the spec. It must never decide anything about a guest.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Collection, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lxml import etree

from virtkit.errors import RequestError
from virtkit.facts import Pool
from virtkit.state.desired import Guest, Network, Volume
from virtkit.xml import container_mounts

#: What a user's template can raise: Jinja's own errors, and those of the expressions in it.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
#: What a template may ask for attributes, beside virtkit's own and Jinja's.
_PLAIN = (str, int, float, tuple, list, dict, type(None))
#: Methods of virtkit's own that templates call; all else that they see is data.
_METHODS = {"volume"}
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


class _Sandbox(ImmutableSandboxedEnvironment):
    """Shows templates data only: of virtkit's objects the fields and properties.

    Their methods would be a way out: pydantic's old ``parse_raw`` unpickles what it is given.
    """

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        kind: Any = type(obj)
        if kind.__module__.partition(".")[0] == "virtkit":
            return attr in _METHODS or (attr in _shown(kind) and not callable(value))
        jinjas = kind.__module__.partition(".")[0] in ("jinja2", "markupsafe")
        return (jinjas or isinstance(obj, _PLAIN)) and super().is_safe_attribute(obj, attr, value)


@functools.cache
def _shown(kind: Any) -> frozenset[str]:
    """The fields and properties of one of virtkit's classes; none that a library gave it."""
    fields = {**getattr(kind, "model_fields", {}), **getattr(kind, "__dataclass_fields__", {})}
    return frozenset(fields) | {
        name
        for each in kind.__mro__
        if each.__module__.partition(".")[0] == "virtkit"
        for name, value in vars(each).items()
        if isinstance(value, property)
    }


def folder() -> Path:
    """The templates: inside an installed virtkit, else beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        loader=jinja2.FileSystemLoader(folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is None or name.endswith(".xml.j2"),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    return environment


def text(template: str, **values: object) -> str:
    """A template of ours that isn't XML."""
    return _environment().get_template(template).render(**values)


def own(one: Guest, template: str) -> str:
    """What a template of the user's makes of a guest. It may loop without end: see template.py.

    Raises:
        RequestError: the template is broken.
    """
    try:
        return _environment().from_string(template).render(guest=one)
    except _TEMPLATE_ERRORS as error:
        raise RequestError(
            f"the template of guest {one.name} can't be rendered",
            why=str(error),
            cure=f"mend {one.spec.template}; the variable is `guest`",
            where=one.where("template"),
        ) from error


def guest(one: Guest, own_xml: str = "") -> str:
    """The domain XML of a guest, without its record.

    Args:
        own_xml: what the spec's ``template:`` made, instead of the type's own.

    Raises:
        RequestError: the XML or a raw device is broken, holds a secret, or reaches the host
            unasked.
    """
    where = one.where("template")
    rendered = own_xml or _environment().get_template(one.driver.template).render(guest=one)
    root = _parse(rendered, f"the domain XML of guest {one.name}", where)
    _check_identity(one, root, where)
    _check_confined(one, root, where)
    _check_rights(one, root, where)
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    given = raw_devices(one)
    container_mounts.refuse(one, given, one.where("devices"))
    devices.extend(given)
    where = one.where("template", "devices")
    _check_secrets(one, root, where)
    known = {each.key for each in one.volumes}
    known |= {each.source for each in one.filesystems if not each.readonly}
    shared = {one.files.root, one.files.kernel, one.files.initrd}
    shared |= {each.source for each in one.filesystems if each.readonly}
    _refuse(one, reaches(root, known, shared), where)
    container_mounts.lay(one, root, where)
    return written(root)


def raw_devices(one: Guest) -> list[etree._Element]:
    """The elements under the spec's ``devices:``; an entry may have several.

    Raises:
        RequestError: an entry is no XML.
    """
    answer: list[etree._Element] = []
    for index, raw in enumerate(one.spec.devices):
        what, where = f"device {index + 1} of guest {one.name}", one.where("devices")
        try:
            answer.append(_parse(raw, what, where))
            continue
        except RequestError as error:
            try:
                several = _parse(f"<devices>{raw}</devices>", what, where)
            except RequestError:
                raise error from None  # with the lines and columns of the entry
            loose = [several.text, *(each.tail for each in several)]
            if not len(several) or any((each or "").strip() for each in loose):
                raise
            answer += several
    return answer


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
        etree.QName(each).localname
        for each in root.iterfind("features/capabilities/*")
        if each.get("state") != "off"
    }
    more = sorted(given - {*one.driver.capabilities})
    maps = [etree.QName(each).localname for each in root.iterfind("idmap/*")]
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


def network(one: Network) -> str:
    """The network XML, without its record."""
    xml = _environment().get_template("network.xml.j2").render(network=one)
    return written(parse(xml, f"network {one.name}", f"networks.{one.name}"))


def volume(
    name: str,
    capacity: int,
    format: str,
    *,
    backing: str = "",
    backing_format: str = "raw",
    mode: str = "0600",
) -> str:
    """The volume XML; ``capacity`` in bytes, ``mode`` in octal."""
    return (
        _environment()
        .get_template("volume.xml.j2")
        .render(
            name=name,
            capacity=capacity,
            format=format,
            backing=backing,
            backing_format=backing_format,
            mode=mode,
        )
    )


def guest_volume(one: Volume) -> str:
    """The volume XML of a guest's volume."""
    backing = one.source if one.content == "backed" else ""
    return volume(one.name, one.size, one.format, backing=backing, backing_format=one.source_format)


def pool(one: Pool) -> str:
    """The XML of the pool that virtkit makes where a host has none."""
    return _environment().get_template("pool.xml.j2").render(pool=one)


def parse(xml: str, what: str, where: str = "") -> etree._Element:
    """``xml`` as a tree.

    Raises:
        RequestError: it isn't well-formed, or carries a DOCTYPE.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    try:
        root = etree.fromstring(xml.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise RequestError(
            f"{what} is not well-formed XML", why=str(error), cure="mend the XML", where=where
        ) from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise RequestError(f"{what} carries a DOCTYPE", cure="remove it", where=where)
    return root


def _parse(xml: str, what: str, where: str) -> etree._Element:
    """A user's XML without comments: libvirt reads a text past one, we would read up to it."""
    root = parse(xml, what, where)
    etree.strip_tags(root, etree.Comment, etree.ProcessingInstruction)
    return root


def reaches(
    root: etree._Element, known: Collection[str], image: Collection[str] = ()
) -> dict[str, str]:
    """What in a domain's XML reaches the host: the word for ``allow:`` to an example of it.

    Args:
        known: paths on the host that are the guest's own.
        image: paths that it shares with others, to read only.
    """
    found: dict[str, str] = {}
    for element in _outside_metadata(root):
        name = etree.QName(element)
        if name.namespace and name.namespace.startswith(_FOREIGN):
            found.setdefault("commandline", name.localname)
        elif name.localname in _REACHING:
            found.setdefault(_REACHING[name.localname], f"<{name.localname}>")
        for key, value in _attributes(element):
            if value in _HOSTDEVS.get((name.localname, key), ()):
                found.setdefault("hostdev", f"<{name.localname} {key}='{value}'>")
        if network := _of_network(element):
            found.setdefault("host-paths", network)
        allowed = {*known, *_HARMLESS, *(image if _only_read(element) else ())}
        for path in _paths(element):
            if path not in allowed:
                found.setdefault("host-paths", path)
    return found


def _outside_metadata(root: etree._Element) -> Iterable[etree._Element]:
    """The elements that libvirt acts on; what is in ``<metadata>`` it only keeps."""
    yield root
    for child in root.iterchildren(etree.Element):
        if child.tag != "metadata":
            yield from child.iter(etree.Element)


def _attributes(element: etree._Element) -> Iterable[tuple[str, str]]:
    """Names without their namespace: libvirt does not look at it either."""
    return ((etree.QName(key).localname, str(value)) for key, value in element.attrib.items())


def _only_read(element: etree._Element) -> bool:
    """Whether what an element names is never written to."""
    if etree.QName(element).localname in ("kernel", "initrd"):
        return True
    parent = element.getparent()
    return parent is not None and (
        parent.tag == "backingStore" or parent.find("readonly") is not None
    )


def _paths(element: etree._Element) -> Iterable[str]:
    """Paths on the host that one element names: values with a slash, or volumes of any pool."""
    tag = etree.QName(element).localname
    parent = element.getparent()
    card = parent is not None and etree.QName(parent).localname == "interface"
    text = "".join([element.text or "", *(each.tail or "" for each in element)]).strip()
    if tag not in _FREE_TEXTS and text and ("/" in text or tag in _PATH_TEXTS):
        yield text
    for key, value in _attributes(element):
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
    if etree.QName(element).localname != "source" or parent is None:
        return ""
    if etree.QName(parent).localname not in ("disk", "backingStore"):
        return ""
    return dict(_attributes(element)).get("protocol", "")


def _of_network(element: etree._Element) -> str:
    """What of the host's own a network disk reaches; empty where it goes to other machines.

    It is the host that connects. What a name resolves to is not looked at.
    """
    protocol = _protocol(element)
    if not protocol:
        return ""
    said = f"<source protocol='{protocol}'>"
    children = element.iterchildren(etree.Element)
    hosts = [dict(_attributes(e)) for e in children if etree.QName(e).localname == "host"]
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
    for element in _outside_metadata(root):
        tag = etree.QName(element).localname
        keys = {key for key, _ in _attributes(element)}
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


def with_record(xml: str, record: str) -> str:
    """A document with our element in its ``<metadata>``; that of others stays. In lines."""
    root = parse(xml, "a document")
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        root.insert(2, metadata)  # after name and uuid
    new = etree.fromstring(record)
    for old in metadata.findall(new.tag):
        metadata.remove(old)
    metadata.append(new)
    return etree.tostring(root, encoding="unicode", pretty_print=True)


def written(root: etree._Element) -> str:
    """A tree as text, in one line."""
    return etree.tostring(root, encoding="unicode")
