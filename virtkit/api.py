"""The door: what virtkit can do, as functions. Every face shows what these return.

``up`` is ``apply(plan(read(path)))`` and nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from virtkit import ansible, images, reach, record, render, resources
from virtkit import plan as planning
from virtkit.apply import Event, Hands, Options, Report, Step, engine, steps_of
from virtkit.apply import stop as stopping
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError, SpecErrors, VirtkitError
from virtkit.host import Host, schemas
from virtkit.observed import Observed, ObservedGuest
from virtkit.plan import Plan
from virtkit.reach import Login
from virtkit.record import GuestRecord
from virtkit.resources import Decided, DecidedGuest, Desired, Guest, ImageRef, Network
from virtkit.spec import CATALOGUE, Spec, json_schema, load

Tell = Callable[[Event], None]
Say = Callable[[str], None]
Verb = Literal["start", "stop", "restart", "pause", "resume"]

#: Seconds that a guest gets to shut down when asked.
STOP_TIMEOUT = 60.0


def read(path: str | Path) -> Spec:
    """The spec in a file, or of standard input (``-``).

    Raises:
        RequestError: it can't be read or is wrong; SpecErrors holds all that is wrong.
    """
    return load(path)


def schema() -> dict[str, Any]:
    """The spec's JSON Schema."""
    return json_schema()


def _quiet(_: Any) -> None:
    """Tells nobody."""


def _host(spec: Spec) -> Host:
    return Host("local", spec.hosts["local"].pool)


def _path(spec: Spec) -> str:
    """The spec's absolute path, as records keep it."""
    return spec.source if spec.source.startswith("<") else str(Path(spec.source).resolve())


# --- planning -----------------------------------------------------------------------------


def plan(spec: Spec, guests: Sequence[str] = (), *, say: Say = _quiet) -> Plan:
    """What ``up`` would change. With ``guests`` only these and what they are ``after``.

    Args:
        say: told when something takes longer, as the probe of KVM.

    Raises:
        RequestError: something is in the way; nothing was touched.
        VirtkitError: libvirt does not answer.
    """
    only = _with_dependencies(spec, guests)
    host = _host(spec)
    observed = host.observe()
    desired = _desired(spec, host, observed, only, say)
    found = planning.diff(desired, observed, spec=_path(spec), only=only)
    _check(found, spec)
    return found


def render_xml(spec: Spec, guests: Sequence[str] = (), *, say: Say = _quiet) -> list[str]:
    """The libvirt XML that would be defined: networks, then guests."""
    only = _with_dependencies(spec, guests) if guests else None
    host = _host(spec)
    desired = _desired(spec, host, host.observe(), only, say)
    chosen = [each for each in desired.guests if only is None or each.name in only]
    used = {each.network for guest in chosen for each in guest.interfaces}
    networks = [_xml(each, spec) for each in desired.networks if each.name in used]
    return networks + [_xml(each, spec) for each in chosen]


def _select(spec: Spec, words: Sequence[str]) -> set[str]:
    return planning.select(
        words,
        {name: guest.groups for name, guest in spec.guests.items()},
        {name: guest.base for name, guest in spec.guests.items()},
    )


def _with_dependencies(spec: Spec, words: Sequence[str]) -> set[str] | None:
    """The guests that ``words`` name and what they are after; None for all."""
    if not words:
        return None
    after = {name: guest.after for name, guest in spec.guests.items()}
    return planning.with_after(_select(spec, words), after)


def _desired(
    spec: Spec, host: Host, observed: Observed, only: Collection[str] | None, say: Say
) -> Desired:
    facts = host.facts()
    decided = _decided(spec, observed)
    looked_at = [each for each in spec.guests.values() if only is None or each.name in only]
    if any(
        each.type == "kvm" or (each.type == "auto" and each.name not in decided.guests)
        for each in looked_at
    ):
        say("looking whether KVM runs guests here (once per boot of the host)")
        facts = host.with_kvm(facts)
    return resources.resolve(spec, facts, decided)


def _decided(spec: Spec, observed: Observed) -> Decided:
    return Decided(
        guests={
            name: DecidedGuest(
                type=each.record.type,
                image=each.record.image,
                image_identity=each.record.image_identity,
                addresses=each.record.addresses,
            )
            for name, each in observed.guests_of(spec.name).items()
        },
        networks={
            name: each.record.cidr for name, each in observed.networks_of(spec.name).items()
        },
        images={
            identity: files
            for identity, files in observed.pool.by_identity().items()
            if identity not in _by_path(spec)
        },
    )


def _by_path(spec: Spec) -> set[str]:
    """Identities of images that are files: their content counts anew for each new guest."""
    entries = (each for each in spec.images.values() if each.path is not None)
    return {resources.image_identity(each) for each in entries}


def _xml(wanted: Guest | Network, spec: Spec) -> str:
    """The XML of an object, checked against libvirt's schema."""
    if isinstance(wanted, Network):
        new = record.of_network(wanted, _path(spec))
        xml = render.network(wanted, record.network_element(new))
        where = spec.where(("networks", wanted.name))
        schemas.check("network", xml, f"network {wanted.name}", where)
        return xml
    own = _template(wanted)
    element = record.guest_element(record.of_guest(wanted, _path(spec)))
    where = spec.where(("guests", wanted.name))
    if len(element) > record.LIMIT:
        raise RequestError(
            f"guest {wanted.name}: its record would be larger than {record.LIMIT} bytes",
            cure="make `devices` shorter, or move them into a template",
            where=where,
        )
    xml = render.guest(wanted, element, own)
    schemas.check("domain", xml, f"guest {wanted.name}", where)
    return xml


def _template(guest: Guest) -> str:
    return _file(guest, guest.spec.template).read_text() if guest.spec.template else ""


def _file(guest: Guest, path: str) -> Path:
    found = Path(guest.source_folder, Path(path).expanduser())
    if not found.is_file():
        raise RequestError(
            f"guest {guest.name}: there is no file {found}", cure="correct the path in the spec"
        )
    return found


def _check(found: Plan, spec: Spec) -> None:
    """Looks at all that a plan needs before anything is touched.

    Raises:
        SpecErrors: files are missing or wrong, or XML that libvirt's schema does not allow.
    """
    errors: list[RequestError] = []
    for change in found.changes:
        if change.action not in ("create", "replace", "update"):
            continue
        try:
            if isinstance(change.desired, Guest):
                _check_files(change.desired)
            if isinstance(change.desired, ImageRef) and change.desired.entry.path is not None:
                path = Path(change.desired.entry.path).expanduser()
                images.probe(spec.folder / path)
            elif isinstance(change.desired, (Guest, Network)):
                _xml(change.desired, spec)
        except SpecErrors as many:
            errors += many.errors
        except RequestError as error:
            errors.append(error)
    if errors:
        raise SpecErrors(errors)


def _check_files(guest: Guest) -> None:
    if guest.spec.ssh_keys is not None:
        reach.key_files(guest.environment, guest.spec.ssh_keys, Path(guest.source_folder))
    for path in (guest.spec.kernel.path, guest.spec.kernel.initrd) if guest.spec.kernel else ():
        if path:
            _file(guest, path)


# --- up and down --------------------------------------------------------------------------


def apply(
    spec: Spec,
    found: Plan,
    *,
    consent: bool = False,
    wait: bool = True,
    parallel: int | None = None,
    tell: Tell = _quiet,
) -> Report:
    """Carries out a plan.

    Args:
        consent: recreate and delete what the plan says.
        wait: wait until guests are ready; else only for what others are ``after``.
        parallel: steps at a time; left out, what suits this machine.

    Raises:
        RequestError: the plan loses data and ``consent`` is missing; nothing was touched.
    """
    refused = planning.needs_consent(found)
    if refused is not None and not consent:
        raise refused
    host = _host(spec)
    options = Options(spec=_path(spec), folder=spec.folder, wait=wait)
    report = engine.run(
        spec.name,
        steps_of(found, Hands(host, options)),
        parallel=parallel or _parallel(host),
        tell=tell,
    )
    _known_hosts(spec.name, host.observe())
    return report


def _parallel(host: Host) -> int:
    """How many guests are started at once: starting is work for the CPUs (FACTS: 4 to 8)."""
    return max(4, min(16, 2 * host.cpus()))


def _known_hosts(environment: str, observed: Observed) -> Path:
    guests = observed.guests_of(environment).values()
    return reach.write_known_hosts(environment, [each.record for each in guests])


def down(
    spec: Spec,
    guests: Sequence[str] = (),
    *,
    volumes: bool = False,
    parallel: int | None = None,
    tell: Tell = _quiet,
) -> Report:
    """Removes guests and all that is theirs; without ``guests`` the whole environment.

    Kept disks stay unless ``volumes``; images and the pool stay.
    """
    host = _host(spec)
    observed = host.observe()
    found = planning.down(
        observed,
        spec.name,
        only=_observed_names(spec, observed, guests) if guests else None,
        volumes=volumes,
    )
    options = Options(spec=_path(spec), folder=spec.folder)
    report = engine.run(
        spec.name,
        steps_of(found, Hands(host, options)),
        parallel=parallel or _parallel(host),
        tell=tell,
    )
    left = host.observe()
    if left.guests_of(spec.name):
        _known_hosts(spec.name, left)
    else:
        reach.forget(spec.name)
    return report


def _observed_names(spec: Spec, observed: Observed, words: Sequence[str]) -> set[str]:
    """The guests that ``words`` name, those included that left the spec but are there."""
    mine = observed.guests_of(spec.name)
    groups = {name: each.record.asked.get("groups", ()) for name, each in mine.items()}
    bases = {name: name for name in mine}
    groups |= {name: guest.groups for name, guest in spec.guests.items()}
    bases |= {name: guest.base for name, guest in spec.guests.items()}
    return planning.select(words, groups, bases)


# --- status -------------------------------------------------------------------------------


@dataclass(frozen=True)
class GuestStatus:
    """One guest as it is. ``model`` is its kind of virtualization in the article's words."""

    environment: str
    name: str
    type: str
    model: str
    host: str
    state: str
    ready: bool
    addresses: tuple[str, ...]
    user: str
    groups: tuple[str, ...]
    spec: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "environment": self.environment,
            "name": self.name,
            "type": self.type,
            "model": self.model,
            "host": self.host,
            "state": self.state,
            "ready": self.ready,
            "addresses": list(self.addresses),
            "user": self.user,
            "groups": list(self.groups),
            "spec": self.spec,
        }


def status(spec: Spec | None = None, guests: Sequence[str] = ()) -> list[GuestStatus]:
    """The guests of an environment, or all that virtkit owns on this machine."""
    host = _host(spec) if spec else Host()
    observed = host.observe()
    if spec is None:
        there = list(observed.guests.values())
    else:
        mine = observed.guests_of(spec.name)
        only = _observed_names(spec, observed, guests) if guests else {*spec.guests, *mine}
        there = [mine[name] for name in _ordered(spec, mine) if name in only]
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(lambda each: _status(host, each), there))
    if spec is not None:
        names = {each.name for each in found}
        found += [_missing(spec, n) for n in spec.guests if n in only and n not in names]
    return found


def _ordered(spec: Spec, mine: Collection[str]) -> list[str]:
    return [n for n in spec.guests if n in mine] + sorted(n for n in mine if n not in spec.guests)


def _status(host: Host, there: ObservedGuest) -> GuestStatus:
    found, ready = [], False
    if there.state == "running":
        try:
            found, _ = reach.addresses(host, there.record)
            ready = reach.is_ready(host, there.record)
        except VirtkitError:  # it went away while we looked
            found, ready = [], False
    return GuestStatus(
        environment=there.record.environment,
        name=there.record.guest,
        type=there.record.type,
        model=DRIVERS[there.record.type].model,
        host=host.name,
        state=there.state,
        ready=ready,
        addresses=tuple(found),
        user=there.record.asked["user"],
        groups=tuple(there.record.asked["groups"]),
        spec=there.record.spec,
    )


def _missing(spec: Spec, name: str) -> GuestStatus:
    guest = spec.guests[name]
    model = DRIVERS[guest.type].model if guest.type in DRIVERS else ""
    return GuestStatus(
        spec.name,
        name,
        guest.type,
        model,
        "local",
        "missing",
        False,
        (),
        guest.user,
        guest.groups,
        _path(spec),
    )


# --- start, stop, restart, pause, resume ------------------------------------------------------


def change_state(
    spec: Spec,
    verb: Verb,
    guests: Sequence[str] = (),
    *,
    timeout: float = STOP_TIMEOUT,
    wait: bool = True,
    tell: Tell = _quiet,
) -> Report:
    """Starts, stops, restarts, pauses or resumes guests that exist.

    Args:
        timeout: seconds that a guest gets to shut down before the plug is pulled, or before
            its reset button is pressed.
        wait: wait until started guests are ready.

    Raises:
        RequestError: a guest does not exist, or its host can't do this.
    """
    host = _host(spec)
    observed = host.observe()
    mine = observed.guests_of(spec.name)
    names = _observed_names(spec, observed, guests) if guests else {*spec.guests, *mine}
    missing = sorted(names - {*mine})
    if missing and (guests or not mine):
        raise RequestError(
            f"guest {', '.join(missing)} does not exist yet", cure="make it: virtkit up"
        )
    chosen = {name: mine[name] for name in names if name in mine}
    if verb == "pause":
        _check_pause(host, chosen.values())
    steps = [s for each in chosen.values() for s in _verb_steps(host, spec, verb, each, timeout)]
    if verb in ("start", "restart", "resume"):
        steps += [_ready_step(host, spec, each, verb) for each in chosen.values() if wait]
    return engine.run(spec.name, steps, parallel=_parallel(host), tell=tell)


def _check_pause(host: Host, chosen: Iterable[ObservedGuest]) -> None:
    for each in chosen:
        why = host.no_pause(DRIVERS[each.record.type])
        if why:
            raise RequestError(
                f"guest {each.record.guest} can't be paused on this host",
                why=why,
                cure="stop it instead: virtkit stop",
            )


def _verb_steps(
    host: Host, spec: Spec, verb: Verb, there: ObservedGuest, timeout: float
) -> Iterable[Step]:
    driver, name = DRIVERS[there.record.type], there.domain
    object = f"guest/{there.record.guest}"
    after = tuple((f"guest/{each}", "ready") for each in there.record.asked["after"])

    def restart(_say: Say) -> None:
        if host.domains.state(driver, name) != "running":
            host.domains.start(driver, name)
        elif stopping(host, driver, name, timeout, reset=True):
            host.domains.start(driver, name)

    runs: dict[Verb, Callable[[Say], Any]] = {
        "start": lambda _: host.domains.start(driver, name),
        "stop": lambda _: stopping(host, driver, name, timeout),
        "restart": restart,
        "pause": lambda _: host.domains.pause(driver, name),
        "resume": lambda _: host.domains.resume(driver, name),
    }
    yield Step(object, verb, host.name, runs[verb], after if verb == "start" else ())


def _ready_step(host: Host, spec: Spec, there: ObservedGuest, verb: Verb) -> Step:
    object = f"guest/{there.record.guest}"

    def ready(say: Say) -> None:
        reach.wait_ready(host, there.record, spec.folder, say)

    return Step(object, "ready", host.name, ready, ((object, verb),), waits=True)


# --- into guests --------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A way into a guest: a command line to run with the caller's streams, or an answer."""

    command: list[str] | None
    ran: reach.Ran | None = None


def _one(spec: Spec, word: str) -> tuple[Host, Observed, ObservedGuest]:
    """The one guest that ``word`` names.

    Raises:
        RequestError: there is none, or it isn't made.
        VirtkitError: it isn't running.
    """
    host = _host(spec)
    observed = host.observe()
    names = _observed_names(spec, observed, [word])
    if len(names) > 1:
        raise RequestError(
            f"{word} names {len(names)} guests: {', '.join(sorted(names))}", cure="name one of them"
        )
    there = observed.guests_of(spec.name).get(names.pop())
    if there is None:
        raise RequestError(f"guest {word} does not exist yet", cure=f"make it: virtkit up {word}")
    return host, observed, there


def _running(there: ObservedGuest) -> None:
    if there.state != "running":
        raise RequestError(
            f"guest {there.record.guest} is {there.state}",
            cure=f"virtkit {'resume' if there.state == 'paused' else 'start'} it first",
        )


def login(spec: Spec, word: str) -> Login:
    """How to log in to a running guest by ssh."""
    host, observed, there = _one(spec, word)
    _running(there)
    return _login(spec, host, there, _known_hosts(spec.name, observed))


def _login(spec: Spec, host: Host, there: ObservedGuest, known_hosts: Path) -> Login:
    found, looked = reach.addresses(host, there.record)
    if not found:
        raise VirtkitError(
            f"guest {there.record.guest} has no address that anybody knows",
            why=", ".join(looked),
            cure="give it a network, or use `virtkit exec` or `virtkit console`",
        )
    return reach.login(there.record, found[0], spec.folder, known_hosts)


def ssh(spec: Spec, word: str, command: Sequence[str] = ()) -> list[str]:
    """The command line of ``virtkit ssh``."""
    return reach.ssh_command(login(spec, word), command)


def execute(spec: Spec, word: str, command: Sequence[str]) -> Way:
    """Runs a command as root: through the hypervisor where it can, else by ssh and sudo."""
    host, observed, there = _one(spec, word)
    _running(there)
    driver = DRIVERS[there.record.type]
    line = reach.attached(host, driver, there.domain, command)
    if line is not None:
        return Way(line)
    ran = reach.by_agent(host, driver, there.domain, command)
    if ran is not None:
        return Way(None, ran)
    found = _login(spec, host, there, _known_hosts(spec.name, observed))
    return Way(reach.ssh_command(found, reach.as_root(found.user, command)))


def copy(spec: Spec, source: str, target: str) -> list[str]:
    """The command line of ``virtkit cp``; ``GUEST:PATH`` is a path in a guest.

    Raises:
        RequestError: not exactly one side is in a guest.
    """
    sides = [_side(spec, each) for each in (source, target)]
    inside = [guest for guest, _ in sides if guest]
    if len(inside) != 1:
        raise RequestError(
            "cp copies between here and one guest",
            cure="write one side as GUEST:PATH, as in virtkit cp SPEC file.txt web:/tmp/",
        )
    found = login(spec, inside[0])
    paths = [f":{path}" if guest else path for guest, path in sides]
    return reach.scp_command(found, paths[0], paths[1])


def _side(spec: Spec, text: str) -> tuple[str, str]:
    """A guest's name and a path; the name is empty for a path here."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name:
        return "", text
    near = difflib.get_close_matches(name, list(spec.guests), n=1)
    if name not in spec.guests and not near:
        return "", text
    return name, path


def console(spec: Spec, word: str) -> list[str]:
    """The command line that attaches the caller's terminal to a guest's console."""
    host, _, there = _one(spec, word)
    _running(there)
    uri = host.connections.uri(DRIVERS[there.record.type].scheme)
    return ["virsh", "-q", "-c", uri, "console", there.domain]


@dataclass(frozen=True)
class Vnc:
    """Where a guest's screen is: on loopback only."""

    address: str
    port: int
    password: str


def vnc(spec: Spec, word: str) -> Vnc:
    """Address and password of a guest's VNC display.

    Raises:
        RequestError: it has none.
    """
    host, _, there = _one(spec, word)
    _running(there)
    xml = host.domains.secure_xml(DRIVERS[there.record.type], there.domain)
    graphics = render.parse(xml, "a domain").find("./devices/graphics[@type='vnc']")
    if graphics is None:
        raise RequestError(
            f"guest {there.record.guest} has no VNC display",
            cure="give it `graphics: vnc` and recreate it",
        )
    return Vnc(
        graphics.get("listen", "127.0.0.1"),
        int(graphics.get("port", "-1")),
        graphics.get("passwd", ""),
    )


def logs(spec: Spec, guests: Sequence[str] = ()) -> dict[str, str]:
    """What each guest printed so far, by its name."""
    host = _host(spec)
    observed = host.observe()
    mine = observed.guests_of(spec.name)
    names = _observed_names(spec, observed, guests) if guests else set(mine)
    return {
        name: reach.log(host, DRIVERS[mine[name].record.type], mine[name].domain)
        for name in _ordered(spec, mine)
        if name in names
    }


# --- for other programs --------------------------------------------------------------------


@dataclass(frozen=True)
class Inventory:
    """The guests that Ansible can reach, and their groups."""

    logins: tuple[Login, ...]
    groups: dict[str, list[str]]

    def static(self) -> str:
        """A file for ``ansible -i`` as it is."""
        return ansible.static(self.logins, self.groups)

    def script(self) -> dict[str, Any]:
        """The answer to ``--list``."""
        return ansible.script(self.logins, self.groups)

    def variables(self, guest: str) -> dict[str, str]:
        """The answer to ``--host GUEST``."""
        found = next((each for each in self.logins if each.guest == guest), None)
        return ansible.variables(found) if found else {}


def inventory(spec: Spec) -> Inventory:
    """How Ansible reaches the guests that have an address."""
    records, logins = _logins(spec)
    groups: dict[str, list[str]] = {}
    for each in records:
        for group in each.asked["groups"]:
            groups.setdefault(group, []).append(each.guest)
    return Inventory(tuple(logins), groups)


def ssh_config(spec: Spec, guests: Sequence[str] = ()) -> str:
    """A block for ``~/.ssh/config``: ``ssh ENVIRONMENT-GUEST`` then works as it is."""
    _, logins = _logins(spec, guests)
    blocks = []
    for each in logins:
        options = (f"  {key} {value}" for key, value in each.options().items())
        blocks.append("\n".join([f"Host {each.alias}", *options]))
    return "\n\n".join(blocks) + "\n"


def _logins(spec: Spec, guests: Sequence[str] = ()) -> tuple[list[GuestRecord], list[Login]]:
    host = _host(spec)
    observed = host.observe()
    mine = observed.guests_of(spec.name)
    names = _observed_names(spec, observed, guests) if guests else set(mine)
    known_hosts = _known_hosts(spec.name, observed)
    records, logins = [], []
    for name in _ordered(spec, mine):
        there = mine[name]
        known = there.state == "running" or any(there.record.addresses)
        found = reach.addresses(host, there.record)[0] if known else []
        if name in names and found:
            records.append(there.record)
            logins.append(reach.login(there.record, found[0], spec.folder, known_hosts))
    return records, logins


# --- images -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StoreEntry:
    """An image in the store. ``users``: guests that lean on it; ``size`` in bytes."""

    name: str
    content: str
    format: str
    size: int
    made: bool
    users: tuple[str, ...]


def image_list(spec: Spec | None = None) -> list[StoreEntry]:
    """The images in this machine's pool."""
    observed = (_host(spec) if spec else Host()).observe()
    return [
        StoreEntry(
            each.name,
            each.files.content,
            each.files.format,
            each.files.size,
            each.made,
            _image_users(observed, each.files.content),
        )
        for each in observed.pool.images.values()
    ]


def image_make(spec: Spec | None, name: str, say: Say = _quiet) -> images.LocalImage:
    """Builds, downloads or probes an image of the spec or the catalogue, on this side only.

    ``up`` puts it into a pool where a guest needs it.
    """
    known = {**CATALOGUE, **(spec.images if spec else {})}
    if name not in known:
        near = difflib.get_close_matches(name, list(known), n=1)
        raise RequestError(
            f"there is no image {name!r}",
            cure=f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}",
        )
    entry = known[name]
    ref = ImageRef(name, entry, resources.image_identity(entry))
    return images.prepare(ref, spec.folder if spec else Path.cwd(), say)


def image_remove(name: str, spec: Spec | None = None) -> list[StoreEntry]:
    """Removes an image, by name or content hash, from the pool and from the cache.

    Raises:
        RequestError: there is none, or a guest leans on it.
    """
    host = _host(spec) if spec else Host()
    observed = host.observe()
    chosen = [
        each
        for each in observed.pool.images.values()
        if each.name == name or (len(name) >= 6 and each.files.content.startswith(name))
    ]
    if not chosen:
        raise RequestError(f"the store has no image {name!r}", cure="see virtkit image list")
    for each in chosen:
        users = _image_users(observed, each.files.content)
        if users:
            raise RequestError(
                f"image {each.name} is in use",
                why=f"{', '.join(users)} lean on it",
                cure="take these guests down first",
            )
    gone = [entry for entry in image_list(spec) if entry.content in _contents(chosen)]
    for each in chosen:
        images.drop(host, each.files.content)
        for identity in each.identities:
            images.forget(identity)
    return gone


def _contents(chosen: Iterable[record.StoredImage]) -> set[str]:
    return {each.files.content for each in chosen}


def _image_users(observed: Observed, content: str) -> tuple[str, ...]:
    return tuple(
        sorted(
            each.domain
            for each in observed.guests.values()
            if each.record.image is not None and each.record.image.content == content
        )
    )

