"""Whether KVM really runs guests: a tiny one is started and must get to its end in time.

Every query may say yes where a Linux guest hangs (nested clouds), so nothing else decides.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
import platformdirs

from virtkit import render
from virtkit.facts import KvmVerdict, Pool
from virtkit.host.connection import Connections
from virtkit.host.errors import lost, told

#: Seconds from start to power-off. Under plain emulation the guest takes about one.
TIMEOUT = 6.0
#: The boot sector of kvm-probe.S without its padding and signature.
SECTOR = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cfc66bf0010000066b9000c00006631c066f3ab66c70600100320000066c7060020"
    "0330000066c70600308300000066b8001000000f22d80f20e06683c8200f22e066b9800000c00f32660d000100"
    "000f300f0116b07c0f20c0660d010000800f22c0ea737c0800b8100000008ed88ed048c7c1002d310148ffc975"
    "fb66ba040666b8002066eff4ebfd0f1f00000000000000000000000000009a200000000000009200001700987c"
)
_MIB = 1024 * 1024
#: What libvirt answers where a host has no KVM; and, in its words, that QEMU itself gave up.
_NO_KVM = (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_CONFIG_UNSUPPORTED)
_QEMU_ENDED = ("process exited", "closed the monitor")


def image(sector: bytes = SECTOR) -> bytes:
    """A disk of 1 MiB that boots ``sector`` (SeaBIOS refuses smaller ones)."""
    return (sector.ljust(510, b"\0") + b"\x55\xaa").ljust(_MIB, b"\0")


def verdict(connections: Connections, folder: str, say: Callable[[str], None]) -> KvmVerdict:
    """The verdict for this boot of the host, from the cache or from a probe guest.

    Where libvirt itself was in trouble, it is a verdict for this run only.

    Args:
        folder: a folder on the host where QEMU may read files (the pool's).
        say: told before a probe guest is started.

    Raises:
        VirtkitError: the probe could not be run.
    """
    cache = platformdirs.user_cache_path("virtkit") / "kvm.json"
    key = _key(connections)
    try:
        known = json.loads(cache.read_text())
        if known["key"] == key:
            return KvmVerdict(known["works"], known["why"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    say("looking whether KVM runs guests here (once per boot of the host)")
    found, lasting = probe(connections, folder)
    if not lasting:
        return found
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps({"key": key, "works": found.works, "why": found.why}))
    return found


def _key(connections: Connections) -> str:
    """This boot of this host with this libvirt."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    opened = connections.get("qemu")
    return f"{boot} {connections.uri('qemu')} {opened.getLibVersion()} {opened.getVersion()}"


def probe(connections: Connections, folder: str) -> tuple[KvmVerdict, bool]:
    """Runs the probe guest, and tells whether its verdict is to be kept.

    The guest and its volume are gone afterwards, also when virtkit dies.
    """
    opened = connections.get("qemu")
    with told("probe", "KVM", where=connections.host):
        try:
            opened.getDomainCapabilities(None, None, None, "kvm")
        except libvirt.libvirtError as error:
            return _refused("no KVM on this host", error)
    name = f"virtkit-probe-{uuid.uuid4().hex[:12]}"
    with told("probe", "KVM", where=connections.host), _pool(opened, name, folder) as pool:
        volume = pool.createXML(render.volume(name, _MIB, "raw"))
        try:
            _fill(opened, volume)
            return _run(opened, volume.path(), name)
        finally:
            volume.delete()


@contextmanager
def _pool(opened: libvirt.virConnect, name: str, folder: str) -> Iterator[libvirt.virStoragePool]:
    """The pool at ``folder``, or a passing one where nobody has made it yet.

    An inactive one is active for as long as the probe takes.
    """
    for pool in opened.listAllStoragePools():
        path = render.parse(pool.XMLDesc(), "a pool").findtext("./target/path") or ""
        if path.rstrip("/") != folder:
            continue
        was_active = bool(pool.isActive())
        if not was_active:
            pool.create(0)
        try:
            yield pool
        finally:
            if not was_active:
                pool.destroy()
        return
    # with the folder, as on a host where no pool was ever made; an existing folder stays as it is
    flags = 0 if Path(folder).is_dir() else libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD
    passing = opened.storagePoolCreateXML(render.pool(Pool(name, folder)), flags)
    try:
        yield passing
    finally:
        passing.destroy()


def _fill(opened: libvirt.virConnect, volume: libvirt.virStorageVol) -> None:
    stream = opened.newStream()
    volume.upload(stream, 0, _MIB)
    content = io.BytesIO(image())
    stream.sendAll(lambda _stream, size, _opaque: content.read(size), None)
    stream.finish()


def _refused(what: str, error: libvirt.libvirtError) -> tuple[KvmVerdict, bool]:
    """The verdict of an error, and whether it says something of KVM and not of libvirt's state.

    Raises:
        libvirtError: the connection is gone, so that it says nothing at all.
    """
    if lost(error):
        raise error
    message = (error.get_error_message() or str(error)).strip()
    lasting = error.get_error_code() in _NO_KVM or any(each in message for each in _QEMU_ENDED)
    return KvmVerdict(False, f"{what}: {message.splitlines()[-1]}"), lasting


def _run(opened: libvirt.virConnect, path: str, name: str) -> tuple[KvmVerdict, bool]:
    began = time.monotonic()
    try:
        domain = opened.createXML(_xml(name, path), libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as error:
        return _refused("KVM is announced but starts no guest", error)
    try:
        while time.monotonic() - began < TIMEOUT:
            if not _active(domain):
                return KvmVerdict(True, "KVM runs guests here"), True
            time.sleep(0.05)
    finally:
        if _active(domain):
            domain.destroy()
    why = f"KVM is announced but hangs: a probe guest of one second was not done in {TIMEOUT:.0f}"
    return KvmVerdict(False, why), True


def _active(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
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
