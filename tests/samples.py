"""Sample objects for tests: a host's facts, a spec's objects, and what libvirt has after an `up`.

Guests come from the spec's text through virtkit itself, so that no test rests on an object that
virtkit would not make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from virtkit.api.plan import decided
from virtkit.facts import (
    DeviceFacts,
    DiskSource,
    DriverFacts,
    FolderFacts,
    HostFacts,
    KvmVerdict,
    MachineFacts,
    NoUserns,
    Pool,
    SharedFacts,
    UsedSubnet,
)
from virtkit.plan.resolve import resolve
from virtkit.seed import SshKeys
from virtkit.spec import Spec, read_text
from virtkit.state import record
from virtkit.state.desired import Decided, Desired, Guest, ImageFiles, ImageRef
from virtkit.state.observed import Observed, ObservedGuest, ObservedNetwork
from virtkit.state.record import KeptDisk, PoolRecord, StoredImage
from virtkit.xml import render

FOLDER = "/pool"
GIB = 1024**3
#: libvirt's id of each running guest.
RUN = "7"
#: A real public key without a comment; nobody has its private half.
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID6tkuCKY5iC97Jvb4vHZ6SQ/WnE4jsyQT9hJCnjIsK1"
KEYS = SshKeys(
    authorized=["ssh-ed25519 AAAAcaller caller@example.org"],
    host_private="-----BEGIN KEY-----\nAAAAhost\n-----END KEY-----\n",
    host_public="ssh-ed25519 AAAAhost",
)


def spec_of(text: str, folder: str = "/specs") -> Spec:
    """The spec in ``text``, as if it stood in ``/specs/lab.yaml``."""
    return read_text(text, source="lab.yaml", folder=Path(folder))


def facts_of(data: Mapping[str, Any] | None = None) -> HostFacts:
    """A host that answers for ``connections`` (scheme to libvirt's message where it fails), with
    ``machines`` (by scheme), ``subnets`` that routes lead to, and
    ``used_subnets`` (SUBNET KIND HOLDER); ``abilities`` of virtual machines (by domain type),
    ``cpu_numbers``, ``numa_nodes``, its ``libvirt``'s version, and what guests are given of it
    (``shared``).
    """
    data = data or {}
    machines: dict[str, list[str]] = data.get("machines", {})
    answers = data.get("connections", {"qemu": "", "lxc": ""})
    kvm = data.get("kvm")
    return HostFacts(
        name="local",
        pool=Pool("default", FOLDER, exists=data.get("pool", True), active=data.get("pool", True)),
        connections={
            scheme: DriverFacts(
                f"{scheme}:///system",
                error,
                data.get("libvirt", 9000000),
                machines=frozenset(machines.get(scheme, ())),
            )
            for scheme, error in answers.items()
        },
        cpus=4,
        kvm=KvmVerdict(**kvm) if kvm else None,
        used_subnets=(
            *(UsedSubnet(each, "eth0") for each in data.get("subnets", ())),
            *(_used_subnet(*each.split()) for each in data.get("used_subnets", ())),
        ),
        networks=data.get("networks", {}),
        portgroups={k: frozenset(each) for k, each in data.get("portgroups", {}).items()},
        vlan_networks=frozenset(data.get("vlan_networks", ())),
        device_kinds=data.get("device_kinds"),
        identity=data.get("identity", ""),
        machines={
            each: MachineFacts(
                found.get("cpu_models", {}),
                found["tpm"],
                frozenset(found["firmware"]),
                frozenset(found["hyperv"]) if "hyperv" in found else None,
            )
            for each, found in data.get("abilities", {}).items()
        },
        cpu_numbers=frozenset(data.get("cpu_numbers", ())),
        numa_nodes={
            int(node): {int(size): count for size, count in pages.items()}
            for node, pages in data.get("numa_nodes", {}).items()
        },
        missing_programs=frozenset(data.get("missing_programs", ())),
        no_userns=NoUserns(**data["no_userns"]) if "no_userns" in data else None,
        disk_sources={n: DiskSource(**each) for n, each in data.get("disk_sources", {}).items()},
        real_paths=data.get("real_paths", {}),
        shared=_shared(data["shared"]) if "shared" in data else None,
    )


def _shared(data: Mapping[str, Any]) -> SharedFacts:
    folders = {path: FolderFacts(**each) for path, each in data.get("folders", {}).items()}
    devices = {name: DeviceFacts(**each) for name, each in data.get("devices", {}).items()}
    return SharedFacts(**{**data, "folders": folders, "devices": devices})


def _used_subnet(subnet: str, kind: Any, holder: str) -> UsedSubnet:
    return UsedSubnet(subnet, holder, kind)


WITH_KVM = facts_of({"kvm": {"works": True, "why": "KVM runs guests here"}})


def desired_of(text: str, facts: HostFacts = WITH_KVM, decided: Decided | None = None) -> Desired:
    """All objects of the spec in ``text``."""
    return resolve(spec_of(text), facts, decided or Decided())


def guest_of(text: str, facts: HostFacts = WITH_KVM) -> Guest:
    """The only guest, or the first, of the spec in ``text``, with its image made."""
    return with_image(desired_of(text, facts).guests[0])


def with_image(guest: Guest) -> Guest:
    has = guest.image.files or guest.image.is_none
    return guest if has else guest.with_image(files_of(guest.image))


def files_of(ref: ImageRef) -> ImageFiles:
    """The volumes of an image once it is made; 2 GiB large."""
    entry = ref.entry
    return ImageFiles.named(
        FOLDER,
        ref.identity,
        format="raw" if entry.build else "qcow2",
        size=2 * GIB,
        bootable=entry.build is None,
    )


def up(desired: Desired, spec: str, change: Mapping[str, Any] | None = None) -> Observed:
    """What libvirt has after ``up``, but for what ``change`` says.

    Args:
        change: ``guests`` and ``networks`` with fields to replace (``edits`` and ``live_edits``:
            text to text in the XML; ``template``: what a guest was rendered with; ``record``),
            ``sizes`` of disks, ``without``: objects that are not there; ``foreign_domains``
            (name to schemes), ``foreign_networks``, ``volumes``, and ``users`` (domain names by
            network) of strangers;
            ``undefined``: guests that the pool's record lists and that have no domain;
            ``kept``: ``ENVIRONMENT/GUEST/VOLUME``, or with ``/`` and a path the spec's.
    """
    change = change or {}
    without = set(change.get("without", ()))
    guests = [with_image(each) for each in desired.guests]
    there = {each.name: each for each in guests if f"guest/{each.name}" not in without}
    observed_guests = {
        guest.domain: _guest(guest, spec, change.get("guests", {}).get(name, {}))
        for name, guest in there.items()
    }
    networks = {}
    for each in desired.networks:
        if f"network/{each.name}" in without:
            continue
        undefined = change.get("undefined", ())
        users = [
            n.domain for n in there.values() if each.name in _names(n) and n.name not in undefined
        ]
        xml = render.network_xml(each)
        networks[each.libvirt_name] = ObservedNetwork(
            record=record.of_network(
                each, change.get("networks", {}).get(each.name, {}).get("spec", spec), xml
            ),
            name=each.libvirt_name,
            uuid=each.uuid,
            users=tuple(sorted([*users, *change.get("users", {}).get(each.libvirt_name, ())])),
            **_network(xml, change.get("networks", {}).get(each.name, {})),
        )
    without_domain = {
        domain: replace(each, state="stopped", inactive="", live="", undefined=True)
        for domain, each in observed_guests.items()
        if each.record.guest in change.get("undefined", ())
    }
    listed = {domain: each.record.for_pool_record() for domain, each in without_domain.items()}
    foreign_domains = change.get("foreign_domains", {})
    volumes = {v.name for each in observed_guests.values() for v in each.record.volumes}
    kept = {each.split("/", 3)[2]: _kept(each) for each in change.get("kept", ())}
    return Observed(
        host="local",
        guests={d: each for d, each in observed_guests.items() if d not in without_domain},
        networks=networks,
        foreign_domains=frozenset(
            (scheme, name) for name, each in foreign_domains.items() for scheme in each.split()
        ),
        foreign_networks=frozenset(change.get("foreign_networks", ())),
        volumes=frozenset({*volumes, *kept, *change.get("volumes", ())} - without),
        disk_sizes={
            volume.name: change.get("sizes", {}).get(volume.name, volume.size)
            for each in there.values()
            for volume in each.volumes
            if volume.role in ("root", "disk")
        },
        pool=PoolRecord(images_of(guests) if "images" not in without else {}, kept, listed),
        undefined=without_domain,
    )


def images_of(guests: Iterable[Guest]) -> dict[str, StoredImage]:
    refs = {each.image.identity: each.image for each in guests if not each.image.is_none}
    stored = [(each, each.files or files_of(each)) for each in refs.values()]
    return {f.content: StoredImage(r.name, (r.identity,), f, made=True) for r, f in stored}


def _names(guest: Guest) -> set[str]:
    return {each.network for each in guest.interfaces}


def _network(xml: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    own = {"active": True, "autostart": True, **fields}
    own.pop("spec", None)
    own["inactive"] = edited(xml, own.pop("edits", {}))
    live = edited(xml, own.pop("live_edits", {}))
    return {**own, "live": live if own["active"] else ""}


def _guest(guest: Guest, spec: str, fields: Mapping[str, Any]) -> ObservedGuest:
    own = dict(fields)
    template = own.pop("template", "")
    xml = render.domain_xml(guest, render.from_user_template(guest, template) if template else "")
    new = replace(record.of_guest(guest, own.pop("spec", spec), xml), host_key=KEYS.host_public)
    new = replace(new.with_state(own.pop("volumes", "made")), finished=own.pop("finished", True))
    addresses = own.pop("addresses", None)
    if addresses is not None:
        pairs = zip(new.interfaces, addresses, strict=True)
        new = replace(new, interfaces=tuple(replace(each, address=a) for each, a in pairs))
    for key in ("confinement", "ids"):
        new = replace(new, **{key: own.pop(key, getattr(new, key))})
    # what was staged was so in the run that goes on, unless a test says otherwise
    new = replace(new, **{"staged_in": RUN} | own.pop("record", {}))
    live = xml.replace("<domain ", f'<domain id="{RUN}" ', 1)
    state = own.get("state", "running")
    return ObservedGuest(
        record=new,
        domain=guest.domain,
        uuid=guest.uuid,
        scheme=guest.driver.scheme,
        **{
            "state": "running",
            "autostart": guest.spec.autostart,
            "inactive": edited(xml, own.pop("edits", {})),
            "live": edited(live, own.pop("live_edits", {})) if state != "stopped" else "",
        }
        | own,
    )


def edited(xml: str, edits: Mapping[str, str]) -> str:
    """XML after somebody's `virsh edit`: text to text; each must be there."""
    for old, new in edits.items():
        assert old in xml, (old, xml)
        xml = xml.replace(old, new)
    return xml


def _kept(path: str) -> KeptDisk:
    environment, guest, name, *spec = path.split("/", 3)
    return KeptDisk(environment, guest, name, f"{FOLDER}/{name}", *(f"/{each}" for each in spec))


__all__ = [
    "FOLDER",
    "GIB",
    "KEYS",
    "WITH_KVM",
    "decided",
    "desired_of",
    "facts_of",
    "files_of",
    "guest_of",
    "images_of",
    "spec_of",
    "up",
    "with_image",
]
