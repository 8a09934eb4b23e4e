"""Whether KVM really runs guests: a tiny one is started and must get to its own end.

Every query may say yes where a Linux guest hangs (nested clouds), so nothing else decides. A KVM
that hangs may still run it, a hundred times slower; and one that works looks like that on a busy
host. So what counts is the processor time that the guest had, against what this host needs for
work of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import queue
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import libvirt
import platformdirs

from virtkit._dataclass import dataclass
from virtkit.errors import RequestError
from virtkit.facts import KvmVerdict, Pool
from virtkit.host import questions
from virtkit.host.connection import Connections
from virtkit.host.errors import connection_lost, libvirt_errors
from virtkit.host.lock import Lock, RemoteLock
from virtkit.host.power import force_off
from virtkit.host.storage_pool import pool_at
from virtkit.xml import render

#: Seconds from the guest's start to its power-off, on however busy a host.
TIMEOUT = 120.0
#: How far the guest counts.
COUNT = 100_000_000
#: Seconds of processor time that its firmware may take, and how many times as long as a loop of
#: Python's here its counting. Seen, in seconds: where KVM works less than 0.2 for all of it, where
#: it works within an emulated machine 3, where it hangs under Linux 50 and more.
MAX_FIRMWARE, MAX_SLOWNESS = 4.0, 3
#: Seconds between two lines of progress.
_PROGRESS_INTERVAL = 5.0
#: Seconds for which a verdict is kept that may be another one the next time: so long at first, so
#: many times longer each time that it comes out the same, and never longer than the last.
MIN_HOLD, HOLD_FACTOR, MAX_HOLD = 120.0, 4, 7200.0
#: The boot sector of programs/kvm_probe.S without its padding and signature.
SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfc66bf0010000066b9000c00006631c066f3ab66c70600100320000066c7060020"
    "0330000066c70600308300000066b8001000000f22d80f20e06683c8200f22e066b9800000c00f32660d000100"
    "000f300f0116b07c0f20c0660d010000800f22c0ea737c0800b8100000008ed88ed048c7c100e1f50548ffc975"
    "fb66ba040666b8002066eff4ebfd0f1f00000000000000000000000000009a200000000000009200001700987c"
)
_MIB = 1024 * 1024
#: What libvirt answers where a host has no KVM; and, in its words, that QEMU itself gave up.
_NO_KVM = (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
_QEMU_ENDED = ("process exited", "closed the monitor")
#: What QEMU names then, where it was KVM that it could not use.
_OF_KVM = ("kvm", "msr")


def boot_disk(sector: bytes = SECTOR) -> bytes:
    """A disk of 1 MiB that boots ``sector`` (SeaBIOS refuses smaller ones)."""
    return (sector.ljust(510, b"\0") + b"\x55\xaa").ljust(_MIB, b"\0")


def verdict(
    connections: Connections,
    folder: str,
    in_use: Lock | RemoteLock,
    say: Callable[[str], None],
    *,
    refresh: bool = False,
) -> KvmVerdict:
    """The verdict on this host's KVM, from the cache or from a probe guest.

    What KVM itself answered holds until the host boots again. What may come out otherwise the next
    time (a time-out, a libvirt in trouble) is kept for minutes, so that a host that hangs costs
    its waiting now and then, and a slow one is not taken for broken for good.

    Args:
        folder: a folder on the host where QEMU may read files (the pool's).
        in_use: the lock that runs share for as long as they rely on a pool that is active.
        say: gets a line before a probe guest is started, and while it runs.
        refresh: probe again, whatever is in the cache.

    Raises:
        VirtkitError: the probe could not be run.
    """
    cache, key = _cache(connections), _key(connections)
    cached = CachedVerdict.read(cache, key)
    if cached is not None and not refresh and cached.holds(time.time()):
        return cached.verdict
    # one at a time on the host: another one's pool may be gone in a moment
    with connections.lock("kvm-probe", "the probe of KVM").acquire(on_wait=say):
        say("checking whether KVM runs guests here")
        probed = probe(connections, folder, in_use, say)
    kept = CachedVerdict.after(key, None if refresh else cached, probed, time.time())
    with suppress(OSError):  # what can't be kept is looked for again
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(kept.as_dict()))
    return probed


@dataclass(frozen=True)
class CachedVerdict:
    """A verdict in the cache.

    Attributes:
        key: the host's boot, and its libvirt.
        until: the time until which a temporary one holds, for ``hold`` seconds.
    """

    key: str
    verdict: KvmVerdict
    until: float = 0.0
    hold: float = 0.0

    @classmethod
    def after(
        cls, key: str, previous: CachedVerdict | None, verdict: KvmVerdict, now: float
    ) -> CachedVerdict:
        """What is kept of a verdict; ``previous`` is what was kept until now."""
        if not verdict.temporary:
            return cls(key, verdict)
        again = previous is not None and previous.verdict.temporary
        hold = (
            min(previous.hold * HOLD_FACTOR, MAX_HOLD)
            if previous is not None and again
            else MIN_HOLD
        )
        return cls(key, verdict, now + hold, hold)

    @classmethod
    def read(cls, path: Path, key: str) -> CachedVerdict | None:
        """What a file keeps for ``key``."""
        try:
            entry = json.loads(path.read_text())
            if entry["key"] != key:
                return None
            until, hold = float(entry.get("until", 0)), float(entry.get("hold", 0))
            verdict = KvmVerdict(bool(entry["works"]), str(entry["why"]), hold > 0)
            return cls(key, verdict, until, hold)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def holds(self, now: float) -> bool:
        """Whether it still counts; also not where the clock was put back."""
        return not self.verdict.temporary or self.until - self.hold <= now < self.until

    def as_dict(self) -> dict[str, object]:
        entry = {"key": self.key, "works": self.verdict.works, "why": self.verdict.why}
        return entry | ({"until": self.until, "hold": self.hold} if self.verdict.temporary else {})


def _cache(connections: Connections) -> Path:
    """The file for a host's verdict: each has its own, since a run may look at several."""
    host = "" if connections.remote is None else connections.display_uri("qemu")
    name = f"kvm-{hashlib.sha256(host.encode()).hexdigest()[:16]}.json" if host else "kvm.json"
    return platformdirs.user_cache_path("virtkit") / name


def _key(connections: Connections) -> str:
    """This boot of the host with this libvirt."""
    opened = connections.get("qemu")
    boot = questions.ask(connections.remote, "boot")["boot"]
    with libvirt_errors("read", "libvirt's version", where=connections.host):
        versions = f"{opened.getLibVersion()} {opened.getVersion()}"
    return f"{boot} {connections.uri('qemu')} {versions}"


def probe(
    connections: Connections, folder: str, in_use: Lock | RemoteLock, say: Callable[[str], None]
) -> KvmVerdict:
    """Runs the probe guest. It and its volume are gone afterwards; its domain also where virtkit
    was killed."""
    opened = connections.get("qemu")
    with libvirt_errors("probe", "KVM", where=connections.host):
        try:
            opened.getDomainCapabilities(None, None, None, "kvm")
        except libvirt.libvirtError as error:
            return verdict_of_error("no KVM on this host", error)
    name = f"virtkit-probe-{uuid.uuid4().hex[:12]}"
    with (
        libvirt_errors("probe", "KVM", where=connections.host),
        _pool(connections, name, folder, in_use) as pool,
    ):
        volume = pool.createXML(render.volume_xml(name, _MIB, "raw"))
        try:
            _fill(opened, volume)
            counting = questions.ask(connections.remote, f"counting={COUNT}")["counting"]
            max_seconds = MAX_FIRMWARE + MAX_SLOWNESS * float(counting)
            return _run(opened, name, volume.path(), max_seconds, say)
        finally:
            volume.delete()


@contextmanager
def _pool(
    connections: Connections, name: str, folder: str, in_use: Lock | RemoteLock
) -> Iterator[libvirt.virStoragePool]:
    """The pool at ``folder``, or a transient one where nobody has made it yet."""
    opened = connections.get("qemu")
    existing = pool_at(connections, folder)
    if existing is not None:
        pool = opened.storagePoolLookupByName(existing)
        with nullcontext() if pool.isActive() else _activated(pool, in_use):
            yield pool
        return
    # with the folder, as on a host where no pool was ever made; an existing folder stays as it is
    missing = questions.folder_missing(connections.remote, folder)
    flags = libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD if missing else 0
    transient = opened.storagePoolCreateXML(render.pool_xml(Pool(name, folder)), flags)
    try:
        yield transient
    finally:
        transient.destroy()


@contextmanager
def _activated(pool: libvirt.virStoragePool, in_use: Lock | RemoteLock) -> Iterator[None]:
    """An inactive pool, active for as long as the probe takes.

    Where runs are at work it stays active: they may have seen it so, and nobody waits for their
    end.
    """
    with ExitStack() as stack:
        alone = False
        with suppress(RequestError):
            stack.enter_context(in_use.acquire(0))
            alone = True
        try:
            pool.create(0)
        except libvirt.libvirtError:
            if not pool.isActive():  # else a run came first
                raise
            alone = False
        try:
            yield
        finally:
            if alone:
                pool.destroy()


def _fill(opened: libvirt.virConnect, volume: libvirt.virStorageVol) -> None:
    stream = opened.newStream()
    volume.upload(stream, 0, _MIB)
    content = io.BytesIO(boot_disk())
    stream.sendAll(lambda _stream, size, _opaque: content.read(size), None)
    stream.finish()


def verdict_of_error(what: str, error: libvirt.libvirtError) -> KvmVerdict:
    """The verdict of an error; a temporary one where it says nothing of KVM.

    Raises:
        libvirtError: the connection is gone, so that it says nothing at all.
    """
    if connection_lost(error):
        raise error
    message = (error.get_error_message() or str(error)).strip()
    gave_up = any(each in message for each in _QEMU_ENDED)
    of_kvm = any(each in message.lower() for each in _OF_KVM)
    lasting = error.get_error_code() in _NO_KVM or (gave_up and of_kvm)
    return KvmVerdict(False, f"{what}: {message.splitlines()[-1]}", not lasting)


def _run(
    opened: libvirt.virConnect, name: str, path: str, max_seconds: float, say: Callable[[str], None]
) -> KvmVerdict:
    """The verdict on a guest that runs until it had ``max_seconds`` of processor time."""
    with _ends(opened, name) as ends:
        try:
            domain = opened.createXML(_xml(name, path), libvirt.VIR_DOMAIN_START_AUTODESTROY)
        except libvirt.libvirtError as error:
            return verdict_of_error("KVM is advertised but starts no guest", error)
        try:
            return _watched(domain, ends, max_seconds, say)
        finally:
            force_off(domain)


@contextmanager
def _ends(opened: libvirt.virConnect, name: str) -> Iterator[queue.SimpleQueue[int]]:
    """How the domain of that name ended, as libvirt tells it: a transient one is gone then."""
    ends: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_event(
        _: object, domain: libvirt.virDomain, event: int, detail: int, *__: object
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and domain.name() == name:
            ends.put(detail)

    kind = libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
    number = opened.domainEventRegisterAny(None, kind, on_event, None)
    try:
        yield ends
    finally:
        opened.domainEventDeregisterAny(number)


def _watched(
    domain: libvirt.virDomain,
    ends: queue.SimpleQueue[int],
    max_seconds: float,
    say: Callable[[str], None],
) -> KvmVerdict:
    """What a probe guest does until its end, or until it had ``max_seconds`` of processor time."""
    began, first, used = time.monotonic(), _cpu(domain), 0.0
    last_said = began
    while (now := time.monotonic()) - began < TIMEOUT and used < max_seconds:
        try:
            return verdict_of_end(ends.get(timeout=0.1))
        except queue.Empty:
            pass
        if now - last_said >= _PROGRESS_INTERVAL:
            say(f"KVM's probe guest is still running: {now - began:.0f} s of at most {TIMEOUT:.0f}")
            last_said = now
        used = max(used, _cpu(domain) - first)
    return verdict_of_timeout(time.monotonic() - began, used, max_seconds)


def verdict_of_end(end: int) -> KvmVerdict:
    """The verdict on a guest that ended; only its own power-off is the end of its program."""
    if end == libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        return KvmVerdict(True, "KVM runs guests here")
    why = "KVM is advertised, but QEMU ended while a probe guest ran: see /var/log/libvirt/qemu/"
    return KvmVerdict(False, why, temporary=True)


def verdict_of_timeout(seconds: float, used: float, max_seconds: float) -> KvmVerdict:
    """The verdict on a guest that was waited for, by the processor time that it ``used``."""
    if used >= max_seconds:
        why = (
            "KVM is advertised but hangs: a probe guest that needs less than a second used "
            f"{used:.0f} s of CPU time without finishing"
        )
    else:
        why = (
            f"KVM is advertised, but a probe guest did not finish in {seconds:.0f} s and got only "
            f"{used:.0f} s of CPU time: this host is too busy to tell"
        )
    return KvmVerdict(False, why, temporary=True)


def _cpu(domain: libvirt.virDomain) -> float:
    """Seconds of processor time that a guest's process had; 0 where it has gone."""
    try:
        return float(domain.info()[4]) / 1e9
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return 0.0
        raise


def _xml(name: str, path: str) -> str:
    return (
        f"<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>"
        "<os><type machine='q35'>hvm</type></os><features><acpi/></features>"
        "<cpu mode='host-passthrough'/>"  # as the guests of type kvm have
        "<on_poweroff>destroy</on_poweroff><devices>"
        f"<disk type='file'><driver name='qemu' type='raw'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
        "<video><model type='none'/></video><memballoon model='none'/></devices></domain>"
    )
