"""From an object to the XML that libvirt gets, through templates/.

The only file that knows Jinja. Values are escaped, the result is parsed, and policy.py decides
whether it may reach the host. It must never decide anything about a guest.
"""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lxml import etree

from virtkit.errors import RequestError
from virtkit.facts import Pool
from virtkit.state.desired import Guest, Network, Volume
from virtkit.xml import container_mounts, policy, tree

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
#: What 0.1.0 called data that has another name now: users' templates may have it so.
_FORMER = {
    ("Guest", "asked"): "requested",
    ("Guest", "light"): "skips_cloud_init",
    ("Driver", "ports"): "pcie_ports",
    ("GuestSpec", "links"): "interfaces",
    ("GuestSpec", "most_cpus"): "max_cpus",
    ("GuestSpec", "most_memory"): "max_memory",
}


class _Sandbox(ImmutableSandboxedEnvironment):
    """Shows templates data only: of virtkit's objects the fields and properties.

    Their methods would be a way out: pydantic's old ``parse_raw`` unpickles what it is given.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        former = (type(obj).__name__, attribute)
        return super().getattr(obj, _FORMER.get(former, attribute))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        kind: Any = type(obj)
        if kind.__module__.partition(".")[0] == "virtkit":
            return attr in _METHODS or (attr in _shown(kind) and not callable(value))
        is_jinja = kind.__module__.partition(".")[0] in ("jinja2", "markupsafe")
        return (is_jinja or isinstance(obj, _PLAIN)) and super().is_safe_attribute(obj, attr, value)


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


def templates_folder() -> Path:
    """The templates: inside an installed virtkit, else beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


@functools.cache
def _environment() -> jinja2.Environment:
    environment = _Sandbox(
        loader=jinja2.FileSystemLoader(templates_folder()),
        undefined=jinja2.StrictUndefined,
        autoescape=lambda name: name is None or name.endswith(".xml.j2"),
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["q"] = lambda value: shlex.quote(str(value))
    return environment


def text(template: str, **values: object) -> str:
    """What a template of ours that isn't XML makes of ``values``."""
    return _environment().get_template(template).render(**values)


def from_user_template(guest: Guest, template: str) -> str:
    """What a template of the user's makes of a guest.

    It may loop without end; user_template.py calls it in a separate process.

    Raises:
        RequestError: the template is broken.
    """
    try:
        return _environment().from_string(template).render(guest=guest)
    except _TEMPLATE_ERRORS as error:
        raise RequestError(
            f"the template of guest {guest.name} can't be rendered",
            why=str(error),
            cure=f"fix {guest.spec.template}; the variable is `guest`",
            where=guest.where("template"),
        ) from error


def domain_xml(guest: Guest, user_xml: str = "") -> str:
    """The domain XML of a guest, without its record.

    Args:
        user_xml: what the spec's ``template:`` made, instead of the type's own.

    Raises:
        RequestError: the XML or a raw device is broken, holds a secret, or reaches the host
            unasked.
    """
    where = guest.where("template")
    rendered = user_xml or _environment().get_template(guest.driver.template).render(guest=guest)
    root = tree.parse_plain(rendered, f"the domain XML of guest {guest.name}", where)
    policy.check_template(guest, root)
    devices = root.find("devices")
    if devices is None:
        devices = etree.SubElement(root, "devices")
    raw = raw_devices(guest)
    container_mounts.check_devices(guest, raw, guest.where("devices"))
    devices.extend(raw)
    policy.check(guest, root)
    container_mounts.set_targets(guest, root, guest.where("template", "devices"))
    return tree.to_text(root)


def raw_devices(guest: Guest) -> list[etree._Element]:
    """The elements under the spec's ``devices:``; an entry may have several.

    Raises:
        RequestError: an entry is no XML.
    """
    answer: list[etree._Element] = []
    for index, raw in enumerate(guest.spec.devices):
        what, where = f"device {index + 1} of guest {guest.name}", guest.where("devices")
        try:
            answer.append(tree.parse_plain(raw, what, where))
            continue
        except RequestError as error:
            try:
                several = tree.parse_plain(f"<devices>{raw}</devices>", what, where)
            except RequestError:
                raise error from None  # with the lines and columns of the entry
            loose = [several.text, *(each.tail for each in several)]
            if not len(several) or any((each or "").strip() for each in loose):
                raise
            answer += several
    return answer


def network_xml(network: Network) -> str:
    """The network XML, without its record."""
    xml = _environment().get_template("network.xml.j2").render(network=network)
    return tree.to_text(tree.parse(xml, f"network {network.name}", f"networks.{network.name}"))


def volume_xml(
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


def guest_volume_xml(volume: Volume) -> str:
    """The volume XML of a guest's volume."""
    backing = volume.source if volume.content == "backed" else ""
    return volume_xml(
        volume.name,
        volume.size,
        volume.format,
        backing=backing,
        backing_format=volume.source_format,
    )


def pool_xml(pool: Pool) -> str:
    """The XML of the pool that virtkit makes where a host has none."""
    return _environment().get_template("pool.xml.j2").render(pool=pool)
