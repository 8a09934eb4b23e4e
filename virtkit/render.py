"""From an object to the XML that libvirt gets, through templates/.

The only room that knows Jinja. Values are escaped, the result is parsed, and what reaches
the host must have been allowed by the spec. It must never decide anything about a guest.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lxml import etree

from virtkit.errors import RequestError
from virtkit.facts import Pool
from virtkit.resources import Guest, Network, Volume

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
#: Elements for libvirt's drivers alone (qemu:commandline, lxc:sharenet, xen:commandline …).
_FOREIGN = "http://libvirt.org/schemas/domain/"
#: Files of the host that any guest may name.
_HARMLESS = {"/dev/urandom", "/dev/random"}
#: Elements that reach the host, and the word under ``allow:`` that permits them.
_REACHING = {
    "hostdev": "hostdev",
    "emulator": "emulator",
    "script": "host-paths",
    "shmem": "host-paths",
}
_HOSTDEVS = {("interface", "hostdev"), ("interface", "direct"), ("disk", "nvme")}
#: Attributes and texts that name paths inside the guest, by (parent's tag, name).
_INSIDE = {("target", "dir"), ("os", "init"), ("os", "initarg"), ("os", "initdir")}


def folder() -> Path:
    """The templates: inside an installed virtkit, else beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
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


def guest(one: Guest, record: str, own_template: str = "") -> str:
    """The domain XML of a guest.

    Args:
        record: our element for ``<metadata>``.
        own_template: the text of the spec's ``template:``, instead of the type's own.

    Raises:
        RequestError: a template or raw device is broken, or reaches the host unasked.
    """
    where = f"guests.{one.spec.base}"
    try:
        if own_template:
            template = _environment().from_string(own_template)
        else:
            template = _environment().get_template(one.driver.template)
        rendered = template.render(guest=one)
    except _TEMPLATE_ERRORS as error:
        raise RequestError(
            f"the template of guest {one.name} can't be rendered",
            why=str(error),
            cure=f"mend {one.spec.template or one.driver.template}; the variable is `guest`",
            where=where,
        ) from error
    root = parse(rendered, f"the domain XML of guest {one.name}", where)
    _check_identity(one, root, where)
    _check_confined(one, root, where)
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    for index, raw in enumerate(one.spec.devices):
        devices.append(parse(raw, f"device {index + 1} of guest {one.name}", where))
    known = {each.key for each in one.volumes} | {one.files.root, one.files.kernel}
    known |= {each.source for each in one.filesystems}
    _refuse(one, reaches(root, known | {one.files.initrd}), where)
    return _with_record(root, record)


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


def network(one: Network, record: str) -> str:
    """The network XML."""
    xml = _environment().get_template("network.xml.j2").render(network=one)
    return _with_record(parse(xml, f"network {one.name}", f"networks.{one.name}"), record)


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


def reaches(root: etree._Element, known: Collection[str]) -> dict[str, str]:
    """What in a domain's XML reaches the host: the word for ``allow:`` to an example of it.

    Args:
        known: paths on the host that are the guest's own.
    """
    found: dict[str, str] = {}
    for element in root.iter(etree.Element):
        name = etree.QName(element)
        if name.namespace and name.namespace.startswith(_FOREIGN):
            found.setdefault("commandline", name.localname)
        elif name.localname in _REACHING:
            found.setdefault(_REACHING[name.localname], f"<{name.localname}>")
        elif (name.localname, element.get("type")) in _HOSTDEVS:
            found.setdefault("hostdev", f"<{name.localname} type='{element.get('type')}'>")
        for path in _paths(element):
            if path not in known and path not in _HARMLESS:
                found.setdefault("host-paths", path)
    return found


def _paths(element: etree._Element) -> Iterable[str]:
    """Paths on the host that one element names: values with a slash, or volumes of any pool."""
    tag = etree.QName(element).localname
    parent = element.getparent()
    above = etree.QName(parent).localname if parent is not None else ""
    if element.text and element.text.strip().startswith("/") and (above, tag) not in _INSIDE:
        yield element.text.strip()
    for key, value in element.attrib.items():
        if str(value).startswith("/") and (tag, key) not in _INSIDE:
            yield str(value)
    if tag == "source" and element.get("pool"):
        yield f"{element.get('pool')}:{element.get('volume')}"


def _check_identity(one: Guest, root: etree._Element, where: str) -> None:
    """A template with another name or UUID would define over somebody else's domain."""
    for tag, right in (("name", one.domain), ("uuid", one.uuid)):
        found = (root.findtext(tag) or "").strip()
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


def _with_record(root: etree._Element, record: str) -> str:
    """The document with our element in its ``<metadata>``."""
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        root.insert(2, metadata)  # after name and uuid
    new = etree.fromstring(record)
    for old in metadata.findall(new.tag):  # a template that began as a dump of a guest
        metadata.remove(old)
    metadata.append(new)
    return etree.tostring(root, encoding="unicode", pretty_print=True)
