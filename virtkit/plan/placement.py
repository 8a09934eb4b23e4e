"""Which host a new guest goes to, where its spec says ``place:`` and not ``host:``.

The same spec and the same hosts give the same places. A guest that is there stays where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field

from virtkit._dataclass import dataclass
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, SpecErrors
from virtkit.facts import Room
from virtkit.spec import Spec, model
from virtkit.spec.sizes import format_size

#: The guests of some names, or of the entries of those names.
FindGuests = Callable[[Iterable[str]], list[str]]
_ANYWHERE = model.Place.model_construct()


@dataclass(frozen=True)
class Candidate:
    """A host on which guests may be placed.

    Attributes:
        labels: the spec's, by key.
        unable: why it can't run a type, by the types that it can't run.
    """

    name: str
    room: Room
    labels: Mapping[str, str] = field(default_factory=dict)
    unable: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Placement:
    """A guest's host, and why it is that one; empty where it was there."""

    host: str
    why: str = ""


def place(
    spec: Spec, candidates: Sequence[Candidate], current: Mapping[str, str], new: Collection[str]
) -> dict[str, Placement]:
    """The hosts of the ``new`` guests.

    Args:
        candidates: in the spec's order.
        current: the host of each guest that is there, or whose host the spec names.

    Raises:
        SpecErrors: some guests fit on no host, or must not be on those where they fit.
    """
    find_guests = _guest_finder(spec)
    places = _Places(spec, candidates, current, find_guests)
    errors: list[RequestError] = []
    for name in _in_order(spec, new, find_guests):
        try:
            places.add(spec.guests[name])
        except RequestError as error:
            errors.append(error)
    if errors:
        raise SpecErrors(errors)
    return places.chosen


def _in_order(spec: Spec, new: Collection[str], find_guests: FindGuests) -> Iterable[str]:
    """The spec's order, but each after the guests that it has to be with."""
    done: dict[str, None] = {}

    def add(name: str) -> None:
        if name in done:
            return
        place = spec.guests[name].place
        done[name] = None
        for each in find_guests(place.beside if place else ()):
            if each in new:
                add(each)
        order.append(name)

    order: list[str] = []
    for name in spec.guests:
        if name in new:
            add(name)
    return order


def _guest_finder(spec: Spec) -> FindGuests:
    """The function that finds guests by their names, or by their keys in the spec."""
    guests: dict[str, list[str]] = {}
    for name, guest in spec.guests.items():
        for key in {name, guest.base}:
            guests.setdefault(key, []).append(name)
    return lambda keys: [name for key in keys for name in guests.get(key, ())]


class _Places:
    """Where guests are by now, and what room is left."""

    def __init__(
        self,
        spec: Spec,
        candidates: Sequence[Candidate],
        current: Mapping[str, str],
        find_guests: FindGuests,
    ) -> None:
        self._spec = spec
        self._find_guests = find_guests
        self._candidates = {each.name: each for each in candidates}
        self._hosts: dict[str, str] = {}
        self._here: dict[str, set[str]] = {}
        for name, host in current.items():
            self._put(name, host)
        #: Bytes that may be taken, and those that containers may not get; CPUs of guests.
        self._free = {each.name: each.room.free for each in candidates}
        self._limits = {each.name: 0 for each in candidates}
        self._used = {each.name: each.room.used for each in candidates}
        self.chosen: dict[str, Placement] = {}

    def _put(self, guest: str, host: str) -> None:
        self._hosts[guest] = host
        self._here.setdefault(host, set()).add(guest)

    def add(self, guest: model.GuestSpec) -> None:
        """Places a guest.

        Raises:
            RequestError: it can go nowhere.
        """
        refusals = {name: self._refusal(guest, each) for name, each in self._candidates.items()}
        able = [name for name, why in refusals.items() if not why]
        if not able:
            raise RequestError(
                f"there is no host for guest {guest.name}",
                why="; ".join(f"{name} {why}" for name, why in refusals.items()),
                cure="give it less `memory:`, change its `place:`, name its `host:` outright, or "
                "add a host",
                where=self._spec.where(("guests", guest.name, "place")),
            )
        host, why = self._best(guest, able)
        self._put(guest.name, host)
        if _reserves(guest):
            self._free[host] -= guest.max_memory
        else:
            self._limits[host] += guest.max_memory
        self._used[host] += guest.cpus
        self.chosen[guest.name] = Placement(host, why)

    def _refusal(self, guest: model.GuestSpec, host: Candidate) -> str:
        """Why a guest can't go to a host; empty where it can."""
        if guest.type in host.unable:
            return f"can't run type {guest.type} ({host.unable[guest.type]})"
        here = self._here.get(host.name, set())
        place = guest.place or _ANYWHERE
        apart = [each for each in self._find_guests(place.apart) if each in here]
        apart += sorted(each for each in here if self._wants_apart(each, guest))
        if apart:
            return f"has {apart[0]}, and they are to be apart"
        mates = [each for each in self._find_guests(place.beside) if each != guest.name]
        if any(each in self._hosts for each in mates) and not here & {*mates}:
            return f"does not have {' or '.join(place.beside)}, which it is to be with"
        if _reserves(guest) and self._free[host.name] < guest.max_memory:
            room = _shown(self._free[host.name])
            return f"has {room} of memory free, and {format_size(guest.max_memory)} are needed"
        return ""

    def _wants_apart(self, other: str, guest: model.GuestSpec) -> bool:
        """Whether a guest that is placed is to be apart from this one."""
        place = self._spec.guests[other].place if other in self._spec.guests else None
        return place is not None and bool({guest.name, guest.base} & {*place.apart})

    def _best(self, guest: model.GuestSpec, able: Sequence[str]) -> tuple[str, str]:
        """The host to take of those that can have it, and why."""
        place = guest.place or _ANYWHERE
        reasons = [f"with {' and '.join(place.beside)}"] if place.beside else []
        reasons += [f"apart from {' and '.join(place.apart)}"] if place.apart else []
        if place.spread is not None:
            alike = self._alike(guest, place.spread)
            counts = {name: alike[self._part(name, place.spread)] for name in able}
            fewest = min(counts.values())
            able = [name for name in able if counts[name] == fewest]
        loads = {name: self._load(name, guest) for name in able}
        pick = max if place.pack else min
        host = pick(loads, key=loads.__getitem__)
        if place.spread is not None:
            part = self._part(host, place.spread)
            reasons.append(f"{fewest} of {guest.base} in {place.spread} {part}".rstrip())
        what = "the fullest with room" if place.pack else "most room"
        reasons.append(f"{what}: {_shown(self._free[host])} of memory free")
        return host, "; ".join(reasons)

    def _part(self, host: str, label: str) -> str:
        """The part of all hosts that one is in, by a label; hosts without it are one part."""
        return host if label == "host" else self._candidates[host].labels.get(label, "")

    def _alike(self, guest: model.GuestSpec, label: str) -> Counter[str]:
        """How many guests of the same entry are in each part."""
        hosts = (self._hosts.get(name) for name in self._find_guests([guest.base]))
        return Counter(self._part(each, label) for each in hosts if each in self._candidates)

    def _load(self, host: str, guest: model.GuestSpec) -> float:
        """How full a host would be with it, by what is scarcer there."""
        room = self._candidates[host].room
        left = self._free[host] - self._limits[host] - guest.max_memory
        return max(1 - left / max(1, room.memory), (self._used[host] + guest.cpus) / room.cpus)


def _reserves(guest: model.GuestSpec) -> bool:
    """Whether its memory is gone for others; what ``auto`` chooses from is virtual machines."""
    return guest.type not in DRIVERS or DRIVERS[guest.type].reserves_memory


def _shown(memory: int) -> str:
    """An amount of memory to a tenth of a GiB, or a MiB."""
    if memory >= 2**30:
        return f"{memory / 2**30:.1f} GiB"
    return f"{max(0, memory) // 2**20} MiB"
