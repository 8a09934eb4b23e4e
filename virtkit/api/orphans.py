"""What is virtkit's, or looks like it, and belongs to no spec. It deletes nothing."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from virtkit import access, images
from virtkit._dataclass import dataclass
from virtkit.api._hosts import hosts_of, path_of
from virtkit.api._observation import Answer, Observation, observe
from virtkit.errors import RequestError
from virtkit.host import Host, rotations
from virtkit.spec import LOCAL, Spec, escaped, format_size, load
from virtkit.spec.command import split_files, virtkit_command
from virtkit.state.observed import Observed, unseen_guests
from virtkit.state.record import GuestRecord, KeptDisk, NetworkRecord
from virtkit.system import temporary

#: Volumes that virtkit names itself: ``ENVIRONMENT-GUEST-ROLE``, and an image's three.
_OUR_NAMES = re.compile(
    r"[a-z0-9][a-z0-9-]*-[a-z0-9][a-z0-9-]*-(root|seed|console(\.[0-9]+)?|kernel|initrd)"
    r"|virtkit-[0-9a-f]{20}\.(root|kernel|initrd)",
    re.ASCII,
)


@dataclass(frozen=True)
class Orphan:
    """One thing without a spec. ``sure`` is False where it may be somebody's; ``cure`` removes
    it, once its reader made sure; ``host`` is the host that it is on."""

    kind: Literal["guest", "network", "disk", "image", "volume", "folder", "cache"]
    name: str
    environment: str
    why: str
    cure: str
    sure: bool = True
    host: str = LOCAL

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def orphans(spec: Spec | None = None) -> Answer[list[Orphan]]:
    """All that is left over on this machine, or on a spec's hosts that answer.

    Args:
        spec: one more spec, whose guests and networks are no orphans. Its hosts and pools are
            those looked at.
    """
    specs = _Specs(spec)
    observation = observe(hosts_of(spec), pool=True)
    leftovers: list[Orphan] = []
    for each in observation.host_states:
        on_host = [
            *_guests_and_networks(each.observed, specs, each.host),
            *_kept_disks(each.observed, specs, each.host),
            *_images(each.observed, spec),
            *_volumes(each.observed, each.host),
        ]
        leftovers += (replace(orphan, host=each.host.name) for orphan in on_host)
    leftovers += [*_folders(observation, spec), *_caches(observation)]
    return Answer(leftovers, observation.unanswered)


class _Specs:
    """The specs that records name, each read once, and the one that was given."""

    def __init__(self, extra: Spec | None) -> None:
        self._extra = extra
        self._read: dict[str, tuple[Spec | str, bool]] = {}

    def is_named(self, environment: str, *, guest: str = "", network: str = "") -> bool:
        """Whether the given spec names an object, whichever spec it was made from."""
        extra = self._extra
        return (
            extra is not None
            and extra.name == environment
            and (guest in extra.guests or network in extra.networks)
        )

    def of(self, path: str, environment: str) -> tuple[Spec | str, bool]:
        """The spec that something was made from, or why there is none; and whether that is sure."""
        extra = self._extra
        if extra is not None and (path_of(extra), extra.name) == (path, environment):
            return extra, True
        if path not in self._read:
            self._read[path] = _read_spec(path)
        spec_or_why, sure = self._read[path]
        if isinstance(spec_or_why, Spec) and spec_or_why.name != environment:
            return f"its spec {path} is now the spec of environment {spec_or_why.name}", True
        return spec_or_why, sure


def _read_spec(path: str) -> tuple[Spec | str, bool]:
    if path.startswith("<"):  # others may lie over it
        return "it was made from standard input: no file tells whether it is still wanted", False
    try:
        for each in split_files(path):
            Path(each).stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"its spec {path} is gone", True
    except (OSError, ValueError) as error:
        return f"its spec {path} can't be looked at: {error}", False
    try:
        return load(*split_files(path)), True
    except RequestError as error:
        return f"its spec {path} can't be read: {error.what}", False


def _guests_and_networks(observed: Observed, specs: _Specs, host: Host) -> Iterable[Orphan]:
    """Guests and networks whose spec is gone or names them no more; a network that a guest of
    another spec uses is none."""
    living: dict[str, set[str]] = {}
    for guest in (*observed.guests.values(), *observed.undefined.values()):
        environment, own = guest.record.environment, guest.record.guest
        why, sure = _unwanted(guest.record, specs, host)
        if not why or specs.is_named(environment, guest=own):
            living.setdefault(environment, set()).add(guest.domain)
            continue
        spec_or_why, _ = specs.of(guest.record.spec, environment)
        spec_gone = isinstance(spec_or_why, str)
        why += "; it has no domain any more, and its volumes are left" if guest.undefined else ""
        path = guest.record.spec
        cure = (
            down_command(environment, host, own)
            if spec_gone
            else virtkit_command("down", path, own)
        )
        yield Orphan("guest", guest.domain, environment, why, cure, sure)
    for network in observed.networks.values():
        environment = network.record.environment
        why, sure = _unwanted(network.record, specs, host)
        named = specs.is_named(environment, network=network.record.network)
        used = living.get(environment, set()) | {*map(unseen_guests, observed.silent)}
        if not why or named or {*network.users} & used:
            continue
        spec_or_why, _ = specs.of(network.record.spec, environment)
        if not isinstance(spec_or_why, str):
            cure = virtkit_command("up", network.record.spec)
        elif environment in living:
            virsh = host.connections.virsh_command()
            cure = f"{virsh} net-destroy {network.name}; {virsh} net-undefine {network.name}"
        else:
            cure = down_command(environment, host)
        yield Orphan("network", network.name, environment, why, cure, sure)


def _unwanted(record: GuestRecord | NetworkRecord, specs: _Specs, host: Host) -> tuple[str, bool]:
    """Why no spec wants an object, empty where one does; and whether that is sure."""
    spec_or_why, sure = specs.of(record.spec, record.environment)
    maker = _other_maker(record, host)
    if isinstance(spec_or_why, Spec):
        if isinstance(record, GuestRecord):
            named = record.guest in spec_or_why.guests
        else:
            named = record.network in spec_or_why.networks
        if named:
            return "", sure
        # an older version's says nothing of a machine, and here is a spec of that path and name
        maker = maker if record.made_from else ""
        spec_or_why = f"its spec {spec_or_why.source} does not name it any more"
    return (f"{spec_or_why}; {_in_use(maker)}", False) if maker else (spec_or_why, sure)


def _other_maker(owned: GuestRecord | NetworkRecord | KeptDisk, host: Host) -> str:
    """The machine where the spec of what stands on a host may be; empty where it is this one."""
    if owned.made_from:
        machine = f"machine {escaped(owned.made_from)}"
        return "" if owned.made_from == socket.gethostname() else machine
    return "another machine" if host.remote is not None else ""


def _in_use(maker: str) -> str:
    """That a spec on the machine ``maker`` may want it."""
    return f"it may still be in use from {maker}, where it was created"


def down_command(environment: str, host: Host, guest: str = "", *, volumes: bool = False) -> str:
    """The command that takes what an environment has on a host down, without its spec.

    Args:
        guest: it alone; nothing of another spec's goes with it.
        volumes: its kept disks, too.
    """
    document: dict[str, Any] = {"name": environment}
    if entry := _host_entry(host):
        document["hosts"] = {host.name: entry}
    if volumes:  # a guest that is gone can be told by its name only where the spec has that
        document["guests"] = {guest: {}}
    arguments = [*(["--volumes"] if volumes else []), *([guest] if guest else [])]
    text = shlex.quote(json.dumps(document, ensure_ascii=False))
    return " ".join([f"echo {text} | virtkit down -f - --yes", *arguments])


def _host_entry(host: Host) -> dict[str, Any]:
    """What a spec must say of a host."""
    entry: dict[str, Any] = {}
    if host.remote is not None:
        ssh = {key: getattr(host.remote, key) for key in ("port", "key", "known_hosts")}
        entry = {"address": host.remote.address, "ssh": {k: v for k, v in ssh.items() if v}}
    usual = Host(host.name, remote=host.remote).connections
    uris = {each: host.connections.display_uri(each) for each in host.connections.schemes}
    if other := {k: v for k, v in uris.items() if v != usual.display_uri(k)}:
        entry["uris"] = other
    if host.storage.pool_name != "default":
        entry["pool"] = host.storage.pool_name
    return entry


def _kept_disks(observed: Observed, specs: _Specs, host: Host) -> Iterable[Orphan]:
    """Kept disks of environments without a guest; a spec that is given may ask for them, as may the
    one that they were made from."""
    environments = {each.environment for each in observed.records()}
    for disk in observed.pool.kept.values():
        if specs.is_named(disk.environment, guest=disk.guest):
            continue
        spec_or_why, _ = specs.of(disk.spec, disk.environment) if disk.spec else ("", False)
        if isinstance(spec_or_why, Spec) and disk.guest in spec_or_why.guests:
            continue
        if disk.environment not in environments:
            why = f"kept for guest {disk.guest}, and the environment has no guest; it holds data"
            maker = _other_maker(disk, host)
            why += f"; {_in_use(maker)}" if maker else ""
            cure = down_command(disk.environment, host, disk.guest, volumes=True)
            yield Orphan("disk", disk.name, disk.environment, why, cure, sure=not maker)


def _images(observed: Observed, spec: Spec | None) -> Iterable[Orphan]:
    used = {each.image.content for each in observed.records() if each.image}
    unknown = {each.image_identity for each in observed.records() if not each.image}
    for content, image in observed.pool.images.items():
        if content not in used and not unknown & {*image.identities}:
            size = format_size(image.files.size)
            why = f"image {image.name} ({size}): no guest uses it"
            if not image.made:
                why = f"image {image.name}: its upload did not end, and no guest uses it"
            name = Path(image.files.root).name
            short = content[:12]
            cure = f"virtkit image rm {short}"
            if spec is not None:
                cure = virtkit_command("image rm", path_of(spec), short)
            yield Orphan("image", name, "", why, cure)


def _volumes(observed: Observed, host: Host) -> Iterable[Orphan]:
    """Volumes with names as virtkit gives them, that no record lists and no domain names."""
    listed = {volume.name for each in observed.records() for volume in each.volumes}
    listed |= {each for name in listed for each in rotations(observed.volumes, name)}
    listed |= set(observed.pool.kept) | {*filter(observed.pool.is_unread, observed.volumes)}
    for image in observed.pool.images.values():
        files = (image.files.root, image.files.kernel, image.files.initrd)
        listed |= {Path(each).name for each in files}
    own = tuple(f"{each.domain}-" for each in observed.guests.values())
    candidates = [n for n in observed.volumes if _OUR_NAMES.fullmatch(n) or n.startswith(own)]
    used = host.files_in_use() if set(candidates) - listed else frozenset()
    names = {Path(each).name for each in used}
    for name in sorted(set(candidates) - listed - names):
        why = "it has a name like virtkit's, but no record lists it: it may be left over"
        volume = f"{shlex.quote(name)} --pool {host.storage.pool_name}"
        virsh = host.connections.virsh_command()
        cure = f"{virsh} vol-delete {volume} (first: {virsh} vol-info {volume})"
        yield Orphan("volume", name, "", why, cure, sure=False)


def _folders(observation: Observation, spec: Spec | None) -> Iterable[Orphan]:
    """Keys and known hosts of environments that have nothing here any more."""
    host_states = observation.host_states
    environments = {
        each.environment for host_state in host_states for each in host_state.observed.records()
    }
    for path in access.environment_folders():
        if path.name in environments:
            continue
        # another environment may mean another host by a name
        own = {*spec.hosts} if spec is not None and spec.name == path.name else {LOCAL}
        looked_at = own & {each.name for each in observation.hosts}
        others = ", ".join(sorted((own | access.hosts_with_guests(path.name)) - looked_at))
        why = "keys and known hosts of an environment that has no guest here"
        if others:
            why += f"; it may have some on {others}, which were not looked at"
        cure = f"rm -r {shlex.quote(str(path))}"
        yield Orphan("folder", str(path), path.name, why, cure, sure=not others)


def _caches(observation: Observation) -> Iterable[Orphan]:
    pools = [each.observed.pool for each in observation.host_states]
    stored_images = [image for each in pools for image in each.images.values()]
    identities = {identity for image in stored_images for identity in image.identities}
    identities |= {image.files.content for image in stored_images}  # made of a file by `path:`
    for path in temporary.leftovers():
        cure = f"rm -r {shlex.quote(str(path))}"
        yield Orphan("cache", str(path), "", "what an interrupted run left", cure)
    others = ", ".join(observation.unanswered)
    for path, why in images.leftovers(identities):
        why += f"; nobody looked at {others}" if others else ""
        yield Orphan("cache", str(path), "", why, images.removal_command(path), sure=not others)
