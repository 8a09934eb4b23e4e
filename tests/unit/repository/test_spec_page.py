"""docs/spec.md: its tables of keys are made from the model, and each example is read.

``--regen`` writes the tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from virtkit.drivers import DRIVERS, Driver
from virtkit.drivers.fields import FIELDS
from virtkit.drivers.network_fields import network_effect
from virtkit.spec import read_text
from virtkit.spec.model import GuestEntry, HostSpec, Image, Model, NetworkSpec

PAGE = Path(__file__).parents[3] / "docs/spec.md"
SECTIONS: Mapping[str, type[Model]] = {
    "guests": GuestEntry,
    "networks": NetworkSpec,
    "images": Image,
    "hosts": HostSpec,
}
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CLOUD = "url: https://example.org/cloud.qcow2"
SUMS = f"{CLOUD}, checksums: https://example.org/SHA256SUMS"
#: Each key in an entry of its section.
EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "guests": {
        "type": "type: lxc",
        "image": "image: debian-12",
        "description": "description: the shop's web server",
        "cpus": "cpus: 2",
        "memory": "memory: 1GiB",
        "hugepages": "memory: 4GiB, hugepages: 2MiB",
        "cpu": "cpu: {model: maximum}",
        "cpu.model": "cpu: {model: Nehalem}",
        "cpu.features": "cpu: {features: {vmx: disable}}",
        "cpu.topology": "cpus: 4, cpu: {topology: {sockets: 1, cores: 2, threads: 2}}",
        "cpu.pin": "cpus: 2, cpu: {pin: [0, 2]}",
        "cpu.emulator_pin": "cpus: 2, cpu: {pin: [2, 3], emulator_pin: [0, 1]}",
        "cpu.io_threads": "cpu: {io_threads: 1}",
        "cpu.io_thread_pin": "cpu: {io_threads: 2, io_thread_pin: [0, 1]}",
        "cpu.hidden": "type: kvm, cpu: {hidden: true}",
        "cpu.numa": "cpus: 2, memory: 1GiB, cpu: {numa: [{cpus: [0], memory: 512MiB}, "
        "{cpus: [1], memory: 512MiB}]}",
        **{
            f"cpu.numa.{part}": f"memory: 2GiB, cpu: {{numa: [{{cpus: [0], memory: 2GiB{rest}}}]}}"
            for part, rest in (
                ("cpus", ""),
                ("memory", ""),
                ("host_nodes", ", host_nodes: [1]"),
                ("policy", ", host_nodes: [0, 1], policy: interleave"),
            )
        },
        "max": "max: {cpus: 4, memory: 4GiB}",
        "max.cpus": "max: {cpus: 4}",
        "max.memory": "max: {memory: 4GiB}",
        "disk": "disk: 8GiB",
        "disk.size": "disk: {size: 8GiB}",
        "disk.bus": "disk: {bus: scsi}",
        "disk.cache": "disk: {cache: none}",
        "disk.io": "disk: {cache: none, io: native}",
        "disk.discard": "disk: {discard: false}",
        "disks": "disks: [{name: data, size: 4GiB, mount: /srv/data}]",
        "disks.name": "disks: [{name: data, size: 4GiB}]",
        "disks.size": "disks: [{name: data, size: 4GiB}]",
        "disks.mount": "disks: [{name: data, size: 4GiB, mount: /srv/data}]",
        "disks.keep": "disks: [{name: data, size: 4GiB, keep: true}]",
        "disks.bus": "disks: [{name: data, size: 4GiB, bus: scsi}]",
        "disks.cache": "disks: [{name: data, size: 4GiB, cache: writeback}]",
        "disks.io": "disks: [{name: data, size: 4GiB, io: io_uring}]",
        "disks.discard": "disks: [{name: data, size: 4GiB, discard: true}]",
        **{
            f"{key}.{part}": example
            for key, around in (
                ("disk", "image: none, disk: {%s}"),
                ("disks", "disks: [{name: data, %s}]"),
            )
            for part, example in (
                ("existing", around % "existing: /dev/vg/data"),
                ("format", around % "existing: /srv/data, format: qcow2"),
                ("readonly", around % "existing: /dev/vg/data, readonly: true"),
                ("shared", around % "existing: /dev/vg/data, shared: true"),
            )
        },
        "disk.partition": "type: xen-pv, image: none, disk: {existing: /dev/vg/root, partition: 2}",
        "disks.partition": (
            "type: xen-pv, disk: {partition: 2}, disks: [{name: swap, size: 1GiB, partition: 1}]"
        ),
        "cdroms": "cdroms: [./install.iso]",
        "boot": "image: none, cdroms: [./install.iso], boot: [cdrom, network]",
        "folders": "folders: [{source: ./src, target: /srv/src, readonly: true}]",
        "folders.source": "folders: [{source: ./src, target: /srv/src}]",
        "folders.target": "folders: [{source: ./src, target: /srv/src}]",
        "folders.readonly": "folders: [{source: ./src, target: /srv/src, readonly: true}]",
        "networks": "networks: [front]",
        "networks.name": "networks: [{name: front}]",
        "networks.address": "networks: [{name: front, address: 10.20.0.10}]",
        "networks.address6": 'networks: [{name: six, address6: "fd00:20::10"}]',
        "networks.mac": "networks: [{name: front, mac: 52:54:00:00:00:10}]",
        "networks.model": "networks: [{name: front, model: vmxnet3}]",
        "networks.mtu": "networks: [{name: front, mtu: 1400}]",
        "networks.queues": "networks: [{name: front, queues: 4}]",
        "networks.vlan": "networks: [{name: lan, vlan: 42}]",
        "networks.portgroup": "networks: [{name: campus, portgroup: dmz}]",
        "user": "user: admin",
        "ssh_keys": "ssh_keys: [~/.ssh/id_ed25519.pub]",
        "cloud_init": "cloud_init: {packages: [nginx]}",
        "user_data": "user_data: ./web.yaml",
        "password": "password: {env: LAB_PASSWORD}",
        "password.env": "password: {env: LAB_PASSWORD}",
        "password.file": "password: {file: ./password}",
        "files": 'files: [{path: /etc/motd, source: ./motd, mode: "0644", owner: root}]',
        "files.path": "files: [{path: /etc/motd, content: hello}]",
        "files.source": "files: [{path: /etc/motd, source: ./motd}]",
        "files.content": "files: [{path: /etc/token, content: {env: LAB_TOKEN}}]",
        "files.content.env": "files: [{path: /etc/token, content: {env: LAB_TOKEN}}]",
        "files.content.file": "files: [{path: /etc/token, content: {file: ./token}}]",
        "files.mode": 'files: [{path: /etc/token, content: {env: LAB_TOKEN}, mode: "0600"}]',
        "files.owner": "files: [{path: /etc/token, content: {env: LAB_TOKEN}, owner: app:adm}]",
        "ignition": "image: mine, ignition: ./config.ign",
        "ignition.file": "image: mine, ignition: {file: ./config.ign}",
        "ignition.env": "image: mine, ignition: {env: LAB_IGNITION}",
        "groups": "groups: [webservers]",
        "vars": "vars: {http_port: 8080}",
        "playbooks": "playbooks: [site.yml]",
        "after": "after: [db]",
        "ready": "ready: address",
        "ready.kind": "ready: {kind: address, timeout: 1m}",
        "ready.port": "ready: {port: 80}",
        "ready.command": "ready: {command: systemctl is-active nginx}",
        "ready.timeout": "ready: {port: 80, timeout: 2m}",
        "host": "host: rack1",
        "place": "place: {spread: zone, apart: db}",
        "place.spread": "place: {spread: zone}",
        "place.apart": "place: {apart: db}",
        "place.with": "place: {with: db}",
        "place.pack": "place: {pack: true}",
        "autostart": "autostart: true",
        "start": "start: false",
        "kernel": "kernel: {path: ./vmlinuz}",
        "kernel.path": "kernel: {path: ./vmlinuz}",
        "kernel.initrd": "kernel: {path: ./vmlinuz, initrd: ./initrd}",
        "kernel.cmdline": "kernel: {path: ./vmlinuz, cmdline: console=ttyS0 quiet}",
        "firmware": "firmware: secure",
        "system": "type: kvm, image: mine, system: windows",
        "tpm": "tpm: true",
        "privileged": "type: lxc, privileged: true",
        "console": "console: serial",
        "graphics": "graphics: vnc",
        "graphics.kind": "graphics: {kind: spice}",
        "graphics.listen": "graphics: {kind: vnc, listen: 10.0.0.5}, allow: [listen]",
        "graphics.video": "graphics: {kind: spice, video: virtio}",
        "graphics.tablet": "graphics: {kind: vnc, tablet: true}",
        "sound": "sound: true",
        "template": "template: ./my-domain.xml.j2",
        "devices": "devices: [\"<watchdog model='i6300esb'/>\"]",
        "host_devices": 'type: kvm, host_devices: ["0000:01:00.0"], allow: [hostdev]',
        "allow": "allow: [hostdev]",
        "count": "count: 3",
        "profiles": "profiles: [big]",
        "each": "count: 3, each: {2: {memory: 2GiB}}",
    },
    "networks": {
        "mode": "mode: isolated",
        "cidr": "cidr: 10.21.0.0/24",
        "ipv6": "ipv6: fd00:21::/64",
        "domain": "domain: lab.test",
        "dhcp": "cidr: 10.21.0.0/24, dhcp: false",
        "dhcp.start": "cidr: 10.21.0.0/24, dhcp: {start: 10.21.0.100, end: 10.21.0.200}",
        "dhcp.end": "cidr: 10.21.0.0/24, dhcp: {start: 10.21.0.100, end: 10.21.0.200}",
        "bridge": "mode: bridge, bridge: br0",
        "device": "mode: macvtap, device: eth0",
        "macvtap": "mode: macvtap, device: eth0, macvtap: private",
        "gateway": "mode: bridge, bridge: br0, cidr: 10.21.0.0/24, gateway: 10.21.0.254",
        "dns": "mode: bridge, bridge: br0, cidr: 10.21.0.0/24, dns: [10.21.0.53]",
        "existing": "existing: default",
        "mtu": "mtu: 9000",
        "names": "names: {api: 10.20.0.5, etcd: [10.20.0.6, 10.20.0.7]}",
        "forward": "forward: {corp.test: 10.0.0.53}",
        "tftp": "tftp: ./pxe",
        "bootfile": "tftp: ./pxe, bootfile: pxelinux.0",
    },
    "images": {
        "build": "build: {release: bookworm}",
        "build.distribution": "build: {distribution: debian}",
        "build.release": "build: {release: bookworm}",
        "build.packages": "build: {packages: [curl]}",
        "build.size": "build: {size: 2GiB}",
        "url": SUMS,
        "sha256": f"{CLOUD}, sha256: {SHA}",
        "checksums": SUMS,
        "fetch": f"{SUMS}, fetch: host",
        "path": "path: ./disk.qcow2",
        "rootfs": "rootfs: ./rootfs.tar.xz",
    },
    "hosts": {
        "address": "address: ops@rack1.example.org",
        "ssh": "address: rack1, ssh: {port: 2222}",
        "ssh.port": "address: rack1, ssh: {port: 2222}",
        "ssh.key": "address: rack1, ssh: {key: ~/.ssh/ops}",
        "ssh.known_hosts": "address: rack1, ssh: {known_hosts: ~/.ssh/known_hosts}",
        "uris": "address: rack1, uris: {qemu: qemu+tls://rack1/system}",
        "labels": "address: rack1, labels: {zone: a}",
        "pool": "address: rack1, pool: fast",
    },
}
#: The spec that has the entry ``web`` of a section, and what examples name.
AROUND = """
name: lab
hosts: {local: {}, rack1: {address: rack1, labels: {zone: a}}%(hosts)s}
images: {mine: {path: ./disk.raw}%(images)s}
networks:
  {front: {cidr: 10.20.0.0/24}, six: {cidr: 10.22.0.0/24, ipv6: "fd00:20::/64"},
   lan: {mode: bridge, bridge: br0}, campus: {existing: campus}%(networks)s}
profiles: {big: {memory: 4GiB}}
guests: {db: {host: local}%(guests)s}
"""


def parts_of(annotation: Any) -> Iterator[type[Model]]:
    """The models in a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for each in get_args(annotation):
        yield from parts_of(each)


def keys(model: type[Model], above: str = "") -> Iterator[tuple[str, str]]:
    """Each key of a model and of its parts, with what it means."""
    for name, field in model.model_fields.items():
        key = f"{above}{field.alias or name}"
        if key in ("password.hash", "files.content.text"):
            continue
        yield key, field.description or ""
        if key != "each":
            for part in parts_of(field.annotation):
                if part.__name__ != "Topology":
                    yield from keys(part, f"{key}.")


def row_of(key: str) -> str:
    """The key of a guest's field in the table of fields."""
    first, _, rest = key.partition(".")
    part = f"{'disks' if first == 'disk' else first}.{rest}"
    return next((each for each in (part, first) if each in FIELDS), "")


def can(driver: Driver, key: str) -> bool:
    """Whether guests of a type can have a key."""
    first, _, rest = key.partition(".")
    part = ".".join(key.split(".")[:2])
    names = {key, first, part} if first not in ("disk", "disks") else {f"disks.{rest}"}
    return not names & set(driver.unsupported)


def effect(key: str) -> str:
    """What a change of a guest's key costs, by type where they differ."""
    row = row_of(key)
    if not row:
        return ""
    name = f"{row.partition('.')[0]}.NAME.{row.partition('.')[2]}".rstrip(".")
    name = name if row.startswith(("disks", "networks")) and key != "disk" else row
    costs: dict[str, list[str]] = {}
    for each in sorted(DRIVERS.values(), key=lambda each: each.type):
        if can(each, key):
            costs.setdefault(each.effect(name), []).append(each.type)
    if len(costs) == 1:
        return next(iter(costs))
    return "; ".join(f"{cost}: {', '.join(types)}" for cost, types in sorted(costs.items()))


def types(key: str) -> str:
    able = [name for name in sorted(DRIVERS) if can(DRIVERS[name], key)]
    return "all" if len(able) == len(DRIVERS) else ", ".join(able)


def table(section: str) -> str:
    rows = []
    for key, text in keys(SECTIONS[section]):
        example = f"`{EXAMPLES[section].get(key, key)}`"
        cells = [f"`{key}`", text]
        cells += [types(key), effect(key)] if section == "guests" else []
        cells += [network_effect(key.partition(".")[0])] if section == "networks" else []
        rows.append([each.replace("|", "\\|") for each in (*cells, example)])
    more = {"guests": ["types", "a change costs"], "networks": ["a change costs"]}
    head = ["key", "what it is", *more.get(section, [])]
    lines = [[*head, "example"], ["---"] * (len(head) + 1), *rows]
    return "".join(f"| {' | '.join(each)} |\n" for each in lines)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_page_has_the_models_keys(section: str, regen: bool) -> None:
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->\n"
    before, _, rest = page.partition(begin)
    shown, _, after = rest.partition(end)
    made = table(section)
    if regen:
        PAGE.write_text(f"{before}{begin}{made}{end}{after}", encoding="utf-8")
    assert shown == made or regen


@pytest.mark.parametrize("section", SECTIONS)
def test_each_key_has_its_example(section: str) -> None:
    assert {key for key, _ in keys(SECTIONS[section])} == set(EXAMPLES[section])


@pytest.mark.parametrize(
    ("section", "key"), [(section, key) for section, rows in EXAMPLES.items() for key in rows]
)
def test_each_example_is_read(section: str, key: str) -> None:
    example = EXAMPLES[section][key]
    entries = dict.fromkeys(SECTIONS, "") | {section: f", web: {{{example}}}"}
    spec = read_text(AROUND % entries, source="lab.yaml", folder=PAGE.parent)
    if section == "guests":
        assert any(each.base == "web" for each in spec.guests.values())
