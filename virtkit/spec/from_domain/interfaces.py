"""A domain's network interfaces, and the networks that they are on, as a spec has them."""

from __future__ import annotations

from typing import Any

from lxml import etree

from virtkit.spec.from_domain.elements import drop, number, take, take_if, unique
from virtkit.spec.from_domain.reading import Reading
from virtkit.spec.values import suggest_label

#: What a guest's card is where the spec says nothing: the type's own.
_OWN_MODELS = ("virtio", "virtio-net", "netfront")


def networks(reading: Reading) -> list[dict[str, Any]]:
    """The value of ``networks``; those that it names go into the reading."""
    return [
        {"name": _network(reading, *_entry(each)), **_options(each)}
        for each in reading.devices.findall("interface")
        if _entry(each, peek=True)[1]
    ]


def _entry(interface: etree._Element, *, peek: bool = False) -> tuple[dict[str, Any], str]:
    """The network that an interface is on, as an entry of ``networks``, and its name; an empty one
    where no spec can name it.

    Args:
        peek: nothing is taken.
    """
    kind, source = interface.get("type", ""), interface.find("source")
    key = {"network": "network", "bridge": "bridge", "direct": "dev"}.get(kind, "")
    name = "" if source is None or not key else source.get(key, "")
    if interface.find("virtualport") is not None and kind == "bridge":
        name = ""  # Open vSwitch's bridges are joined in a way of their own
    if peek or not name:
        return {}, name
    take(source, key)
    take_if(source, "mode", "bridge")  # of macvtap, which virtkit's is
    for each in ("portid", "bridge") if kind == "network" else ():
        take(source, each)  # of a running one
    if kind == "network":
        return {"existing": name}, name
    if kind == "bridge":
        return {"mode": "bridge", "bridge": name}, name
    entry = {"mode": "macvtap", "device": name}
    if source is not None and source.get("mode") in ("private", "vepa"):
        entry["macvtap"] = take(source, "mode") or ""
    return entry, name


def _network(reading: Reading, entry: dict[str, Any], name: str) -> str:
    """The key under ``networks`` of an entry, which is added where it is not there."""
    for key, other in reading.networks.items():
        if other == entry:
            return key
    key = unique(suggest_label(name) or "network", reading.networks)
    reading.networks[key] = entry
    return key


def _options(interface: etree._Element) -> dict[str, Any]:
    """What a card says of itself."""
    answer: dict[str, Any] = {}
    mac, model, driver = (interface.find(each) for each in ("mac", "model", "driver"))
    if address := take(mac, "address"):
        answer["mac"] = address
    if name := take(model, "type"):
        answer |= {} if name in _OWN_MODELS else {"model": name}
    if (size := number(take(interface.find("mtu"), "size"))) is not None:
        answer["mtu"] = size
    if (queues := number(take(driver, "queues"))) is not None:
        answer["queues"] = queues
    take_if(driver, "name", "vhost", "qemu")
    vlan = interface.findall("vlan/tag")
    if len(vlan) == 1 and (tag := number(take(vlan[0], "id"))) is not None:
        answer["vlan"] = tag
    if group := take(interface.find("source"), "portgroup"):
        answer["portgroup"] = group
    take_if(interface.find("link"), "state", "up")
    drop(interface, "address", "alias", "target", "script[@path='vif-bridge']")
    return answer
