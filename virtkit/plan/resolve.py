"""From a spec and the facts of its host to the objects that libvirt should have.

Pure: types, MACs, subnets and addresses follow from the input, and what was once decided for
an object that exists (type, subnet, address, image content) is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from virtkit import drivers
from virtkit.drivers import Blocker, Driver
from virtkit.drivers.fields import FIELDS
from virtkit.errors import RequestError
from virtkit.facts import HostFacts
from virtkit.plan import existing_disks, shared
from virtkit.plan.host_abilities import bus_positions
from virtkit.plan.interfaces import (
    interfaces_of,
    requested_networks,
    served_folder,
)
from virtkit.spec import model
from virtkit.spec.defaults import completed
from virtkit.state import addresses, given
from virtkit.state.desired import (
    Confinement,
    Decided,
    Desired,
    Guest,
    ImageRef,
    Network,
    Reservation,
    digest,
    image_identity,
)

#: Guest fields that say how the spec is written or where a guest is, not what it is; those of
#: Ansible's, of which the record has its own digest; and what it has a digest of in its place.
_NOT_RECORDED = {"name", "base", "index", "host", "playbooks", "vars"}
_NOT_RECORDED |= {"files", "ignition", "password"}  # but for a digest of each


def resolve(spec: model.Spec, facts: HostFacts, decided: Decided) -> Desired:
    """The objects that ``spec`` asks for on the host that ``facts`` describe.

    Raises:
        RequestError: a subnet is full or none is free.
    """
    chosen = {name: _driver(spec, guest, facts, decided) for name, guest in spec.guests.items()}
    macs = _macs(spec, facts, decided)
    used = _used_networks(spec)
    subnets = _subnets(spec, used, facts, decided)
    interface_addresses = _interface_addresses(spec, used, subnets, macs, decided)
    taken = [
        *facts.subordinate_ids,
        *(range(each, each + addresses.ID_COUNT) for each in decided.ids),
    ]
    guests = []
    for name, guest in spec.guests.items():
        driver, why, _ = chosen[name]
        decided_guest = decided.guests.get(name)
        recorded = decided_guest.cloud_init if decided_guest else None
        next_confinement = _confinement(spec, guest, driver, facts, decided, taken)
        guests.append(
            Guest(
                environment=spec.name,
                spec=guest,
                host=facts.name,
                driver=driver,
                why=why,
                folder=facts.pool.path,
                source_folder=str(spec.folder),
                image=_image(spec, guest, decided),
                interfaces=interfaces_of(
                    spec.name, guest, macs, used, subnets, interface_addresses
                ),
                requested=requested(spec, guest, recorded, facts),
                folders=tuple(shared.folders(spec, guest, driver, facts)),
                targets=decided_guest.targets if decided_guest else {},
                sources=existing_disks.sources(guest, facts, decided_guest),
                confinement=_kept_confinement(guest, driver, decided) or next_confinement,
                next_confinement=next_confinement,
                host_cpus=facts.cpus,
                decided_uuid=_uuid(spec, name, facts, decided),
                positions=_guest_positions(spec, name),
            )
        )
    return Desired(
        environment=spec.name,
        networks=tuple(_networks(spec, facts.name, used, subnets, guests)),
        guests=tuple(guests),
        refused={name: error for name, (_, _, error) in chosen.items() if error is not None},
        positions=_network_positions(spec, used),
    )


def requested(
    spec: model.Spec,
    guest: model.GuestSpec,
    recorded: object = None,
    facts: HostFacts | None = None,
) -> dict[str, Any]:
    """What the record keeps of a guest's spec, as JSON has it; of secrets a salted digest only.

    Args:
        recorded: what it has of ``cloud_init``. 0.1.0 read plain words there by YAML 1.2: as long
            as its digest still holds for what the spec says, that is kept, and nothing changed.
    """
    answer: dict[str, Any] = guest.model_dump(mode="json", by_alias=True, exclude=_NOT_RECORDED)
    answer["networks"] = requested_networks(guest, spec.networks)
    defaults, whole = completed({}), completed(answer)
    for name, row in FIELDS.items():
        if row.sparse and name in answer and whole[name] == defaults[name]:
            del answer[name]
    salt = addresses.derived_uuid(spec.name, "guest", guest.name)
    answer |= given.recorded(spec.name, guest, salt)
    for each, folder in zip(answer.get("folders", ()), guest.folders, strict=False):
        each["source"] = shared.path_on_host(spec, folder, facts)
    if guest.cloud_init:
        core_digest = digest(salt, guest.core_cloud_init or guest.cloud_init)
        current_digest = digest(f"{salt} YAML 1.1 ", guest.cloud_init)
        answer["cloud_init"] = core_digest if recorded == core_digest else current_digest
    return answer


# --- guests -------------------------------------------------------------------------------


def _driver(
    spec: model.Spec, guest: model.GuestSpec, facts: HostFacts, decided: Decided
) -> tuple[Driver, str, RequestError | None]:
    """The driver of a guest, why ``auto`` took it, and the error where the host can't run it."""
    decided_guest = decided.guests.get(guest.name)
    if guest.type != "auto":
        candidates: Iterable[str] = (guest.type,)
    elif decided_guest is not None:
        candidates = (decided_guest.type,)
    else:
        candidates = drivers.AUTO
    passed_over: list[Blocker] = []
    for candidate in candidates:
        driver = drivers.DRIVERS[candidate]
        blockers = driver.check(facts)
        if not blockers:
            why = f"auto: {'; '.join(map(_blocker_text, passed_over)) or 'KVM runs guests here'}"
            return driver, why if guest.type == "auto" else "", None
        passed_over += blockers
    error = RequestError(
        f"guest {guest.name}: this host can't run `type: {guest.type}`",
        why="; ".join(dict.fromkeys(each.why for each in passed_over)),
        cure=blockers[0].cure,
        where=spec.where(("guests", guest.name, "type")),
    )
    return driver, "", error


def _blocker_text(blocker: Blocker) -> str:
    """Why ``auto`` passes over a type; a guest that is made keeps the type that it then takes."""
    again = (
        " (run `virtkit doctor` again when the host is less busy; a guest that is made stays "
        "emulated)"
    )
    return blocker.why + (again if blocker.temporary else "")


def _confinement(
    spec: model.Spec,
    guest: model.GuestSpec,
    driver: Driver,
    facts: HostFacts,
    decided: Decided,
    taken: list[range],
) -> Confinement:
    """The best way in which the host can confine the guest; adds its ids to those ``taken``."""
    if not driver.confined:
        return Confinement()
    why = facts.no_userns.why if facts.no_userns else ""
    if guest.privileged:
        return Confinement("privileged", why=why)
    if why:
        return Confinement("hardened", why=why)
    kept = _kept_confinement(guest, driver, decided)
    if kept is not None and kept.ids:
        return kept
    first = addresses.free_ids(spec.name, guest.name, taken=taken)
    taken.append(range(first, first + addresses.ID_COUNT))
    return Confinement("userns", first)


def _kept_confinement(
    guest: model.GuestSpec, driver: Driver, decided: Decided
) -> Confinement | None:
    """The confinement of a guest that exists, as long as the spec asks for such a one."""
    decided_guest = decided.guests.get(guest.name)
    if (
        decided_guest is None
        or decided_guest.type != driver.type
        or decided_guest.confinement.mode not in driver.confined
    ):
        return None
    return (
        decided_guest.confinement
        if guest.privileged == (decided_guest.confinement.mode == "privileged")
        else None
    )


def _image(spec: model.Spec, guest: model.GuestSpec, decided: Decided) -> ImageRef:
    if guest.image == model.NO_IMAGE:
        return ImageRef.none()
    name, entry = guest.image, spec.images[guest.image]
    identity = image_identity(entry)
    decided_guest = decided.guests.get(guest.name)
    if decided_guest is not None and decided_guest.image_identity == identity:
        return ImageRef(name, entry, identity, decided_guest.image or decided.images.get(identity))
    return ImageRef(name, entry, identity, decided.images.get(identity))


# --- networks -----------------------------------------------------------------------------


def _used_networks(spec: model.Spec) -> dict[str, model.NetworkSpec]:
    """The networks that guests use, by name."""
    names = [interface.name for guest in spec.guests.values() for interface in guest.interfaces]
    return {name: spec.networks[name] for name in dict.fromkeys(names)}


def _network_positions(spec: model.Spec, used: Iterable[str]) -> dict[tuple[str, str], str]:
    """Where in the spec networks say what the host must have, or must not."""
    return {
        (name, key): spec.where(("networks", name, key))
        for name in used
        for key in ("cidr", "ipv6", "existing", "bridge", "device", "tftp")
    }


def _guest_positions(spec: model.Spec, name: str) -> dict[str, str]:
    """Where in the spec a guest stands (``""``), what it has of raw XML, and what it names of files
    and of what not every host has."""
    keys = (
        *("", "template", "devices", "kernel", "cdroms", "folders", "host_devices"),
        *("cpu", "hugepages", "tpm", "firmware", "system"),
    )
    plain = {key: spec.where(("guests", name, *filter(None, [key]))) for key in keys}
    return plain | existing_disks.positions(spec, name) | bus_positions(spec, name)


def _uuid(spec: model.Spec, name: str, facts: HostFacts, decided: Decided) -> str:
    """A guest's UUID: as its domain has it, else derived.

    Where other hosts' guests are on one of its networks, it is not the same on two hosts: guests
    make their machine-id, and with it DHCP's client id, of it.
    """
    decided_guest = decided.guests.get(name)
    if decided_guest is not None and decided_guest.uuid:
        return decided_guest.uuid
    shares = any(not spec.networks[each.name].managed for each in spec.guests[name].interfaces)
    host = [facts.identity] if shares and facts.identity else []
    return addresses.derived_uuid(spec.name, "guest", name, *host)


def _macs(spec: model.Spec, facts: HostFacts, decided: Decided) -> dict[tuple[str, int], str]:
    """The MAC of every network interface, by guest and index; one that goes changes no other.

    A guest that exists keeps those that it was given. A new one's depends on its host where other
    hosts may be on the same network: on bridges, and on libvirt's networks that may be bridged.
    """
    answer: dict[tuple[str, int], str] = {}
    taken: set[str] = set()

    def take(name: str, index: int, mac: str) -> None:
        answer[name, index] = mac
        taken.add(mac)

    interfaces = [
        (g.name, i, interface)
        for g in spec.guests.values()
        for i, interface in enumerate(g.interfaces)
    ]
    for name, index, interface in interfaces:
        if interface.mac:
            take(name, index, interface.mac.lower())
    for name, index, interface in interfaces:
        if not interface.mac:
            before = spec.guests[name].interfaces[:index]
            which = str(sum(each.name == interface.name for each in before))
            decided_guest = decided.guests.get(name)
            kept = decided_guest.macs.get((interface.name, int(which))) if decided_guest else None
            if kept is not None and kept not in taken:
                take(name, index, kept)
                continue
            host = [] if spec.networks[interface.name].managed else [facts.identity]
            names = (spec.name, name, interface.name, which, *filter(None, host))
            take(name, index, addresses.mac(*names, taken=taken))
    return answer


def _subnets(
    spec: model.Spec, used: Mapping[str, model.NetworkSpec], facts: HostFacts, decided: Decided
) -> dict[str, str]:
    """The IPv4 subnet of every network that virtkit makes or knows the subnet of."""
    answer = {name: n.cidr for name, n in used.items() if n.cidr}
    for name, network in used.items():
        if not network.managed or name in answer or network.cidr is False:
            continue
        kept = decided.networks.get(name)
        in_use = [each for each in facts.used_subnets if ":" not in each.subnet]
        routes = [each.subnet for each in in_use if each.kind == "route"]
        others = [each.subnet for each in in_use if each.kind != "route"]
        answer[name] = kept or addresses.free_subnet(
            f"{spec.name}/{name}",
            [*others, *answer.values()],
            routes,
            where=spec.where(("networks", name)),
        )
    return answer


def _dhcp_range(network: model.NetworkSpec, cidr: str) -> tuple[str, str] | None:
    if network.dhcp is False:
        return None
    return (network.dhcp.start, network.dhcp.end) if network.dhcp else addresses.dynamic_range(cidr)


def _interface_addresses(
    spec: model.Spec,
    used: Mapping[str, model.NetworkSpec],
    subnets: Mapping[str, str],
    macs: Mapping[tuple[str, int], str],
    decided: Decided,
) -> dict[tuple[str, int], str]:
    """The IPv4 address of every network interface whose network is ours, or that asks for one."""
    answer: dict[tuple[str, int], str] = {}
    former = [
        decided_guest for name, decided_guest in decided.guests.items() if name not in spec.guests
    ]
    held = {address for decided_guest in former for address in decided_guest.addresses.values()}
    for name, network in used.items():
        wanted = {
            (guest.name, index): interface.address
            for guest in spec.guests.values()
            for index, interface in enumerate(guest.interfaces)
            if interface.name == name
        }
        if not network.managed or name not in subnets:
            answer |= {interface: address for interface, address in wanted.items() if address}
            continue
        kept = {
            interface: address
            for interface in wanted
            if (decided_guest := decided.guests.get(interface[0])) is not None
            if (address := decided_guest.addresses.get(macs[interface]))
        }
        dynamic = _dhcp_range(network, subnets[name])
        named = {ip for each in network.names.values() for ip in each if ":" not in ip}  # taken
        answer |= addresses.allocate(
            subnets[name], wanted, kept=kept, held=held | named, dynamic=dynamic
        )
    return answer


def _networks(
    spec: model.Spec,
    host: str,
    used: Mapping[str, model.NetworkSpec],
    subnets: Mapping[str, str],
    guests: Iterable[Guest],
) -> Iterable[Network]:
    for name, network in used.items():
        if not network.managed:
            continue
        yield Network(
            environment=spec.name,
            name=name,
            host=host,
            mode=network.mode,
            cidr=subnets.get(name, ""),
            ipv6=network.ipv6 or "",
            domain=network.domain or "",
            dhcp=_dhcp_range(network, subnets[name]) if name in subnets else None,
            reservations=tuple(
                Reservation(
                    mac=each.mac,
                    ip=each.address,
                    name=guest.name,
                    ip6=each.address6,
                    dhcp=each.dhcp,
                )
                for guest in guests
                for each in guest.interfaces
                if each.network == name
            ),
            requested=network.model_dump(mode="json"),
            more_names=network.names,
            forwarders=network.forward,
            mtu=network.mtu,
            tftp=served_folder(network.tftp, str(spec.folder)),
            bootfile=network.bootfile or "",
        )
