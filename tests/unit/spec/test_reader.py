"""Good specs: the contract's example, merging, counting, and where each thing stands."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.spec import (
    CATALOGUE,
    GuestSpec,
    InterfaceSpec,
    NetworkSpec,
    Ready,
    Spec,
    read_text,
    yaml11,
)
from virtkit.spec.model import Disk

MIB = 1024 * 1024
GIB = 1024 * MIB
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

# CONTRACT.md's example, without the keys that no issue has built yet.
EXAMPLE = f"""\
name: lab

hosts:
  local: {{}}

images:
  debian:
    build: {{distribution: debian, release: bookworm, packages: [curl], size: 2GiB}}
  cloud:
    url: https://example.org/cloud.qcow2
    sha256: {SHA}
  mine: {{path: ./disk.qcow2}}

networks:
  front:
    mode: nat
    cidr: 10.20.0.0/24
    ipv6: fd00:20::/64
    domain: lab.test
    dhcp: {{start: 10.20.0.100, end: 10.20.0.200}}
  lan: {{mode: bridge, bridge: br0}}
  old: {{existing: default}}

defaults:
  image: debian
  networks: [front]
profiles:
  big: {{cpus: 4, memory: 8GiB}}

guests:
  db:
    type: lxc
    memory: 256MiB
    disks: [{{name: data, size: 4GiB, mount: /srv/data, keep: true}}]
  web:
    type: auto
    profiles: [big]
    count: 3
    cpus: 2
    memory: 1GiB
    disk: 8GiB
    networks: [{{name: front, address: 10.20.0.10, mac: 52:54:00:00:00:10}}]
    user: admin
    ssh_keys: [~/.ssh/id_ed25519.pub]
    cloud_init: {{packages: [nginx]}}
    groups: [webservers]
    after: [db]
    ready: {{port: 80, timeout: 2m}}
    autostart: true
    kernel: {{path: vmlinuz, initrd: initrd.img, cmdline: console=ttyS0 quiet}}
    firmware: bios
    privileged: false
    console: serial
    graphics: none
    template: ./my-domain.xml.j2
    devices: ["<watchdog model='i6300esb'/>"]
    allow: [hostdev]
"""


def read(text: str, source: str = "lab.yaml") -> Spec:
    return read_text(text, source=source, folder=Path("/specs/site"))


def guest(text: str, name: str = "web") -> GuestSpec:
    return read(text).guests[name]


def test_example() -> None:
    spec = read(EXAMPLE)
    assert (spec.name, spec.source, spec.folder) == ("lab", "lab.yaml", Path("/specs/site"))
    assert list(spec.guests) == ["db", "web-1", "web-2", "web-3"]
    assert spec.hosts["local"].pool == "default"
    assert spec.images["cloud"].sha256 == SHA
    assert spec.images["debian"].build is not None
    assert spec.images["debian"].build.size == 2 * GIB
    assert spec.networks["lan"] == NetworkSpec(mode="bridge", bridge="br0")
    db = spec.guests["db"]
    assert db.disks == (Disk(name="data", size=4 * GIB, mount="/srv/data", keep=True),)
    assert (db.type, db.image, db.networks) == ("lxc", "debian", (InterfaceSpec(name="front"),))
    assert (db.base, db.index) == ("db", None)
    web = spec.guests["web-3"]
    assert (web.base, web.index, web.after) == ("web", 3, ("db",))
    assert (web.cpus, web.memory, web.disk.size) == (2, GIB, 8 * GIB)
    assert web.networks == (
        InterfaceSpec(name="front", address="10.20.0.12", mac="52:54:00:00:00:12"),
    )
    assert web.ready == Ready(kind="port", port=80, timeout=120.0)
    assert web.kernel is not None
    assert web.kernel.cmdline == "console=ttyS0 quiet"


def test_smallest() -> None:
    spec = read("name: lab\nguests: {web: }\n")
    web = spec.guests["web"]
    assert (web.type, web.image, web.cpus, web.memory) == ("auto", "debian-12", 1, GIB)
    assert (web.user, web.ssh_keys, web.disk.size, web.disks) == ("virtkit", None, None, ())
    assert web.networks is None
    assert web.interfaces == (InterfaceSpec(name="default"),)
    assert web.ready == Ready(kind="ssh")
    assert spec.images == {"debian-12": CATALOGUE["debian-12"]}
    assert spec.networks == {"default": NetworkSpec(mode="nat")}
    assert spec.hosts["local"].pool == "default"


def test_an_environment_may_be_empty() -> None:
    assert read("name: lab\n").guests == {}
    assert (
        read("name: lab\nguests:\nimages:\nnetworks:\ndefaults:\nhosts: {local: }\n").guests == {}
    )


def test_own_entries_win_over_the_catalogue_and_the_made_network() -> None:
    spec = read(
        "name: lab\nimages: {debian-12: {path: x}}\n"
        "networks: {default: {cidr: 10.1.0.0/24}}\nguests: {web: {}}\n"
    )
    assert spec.images["debian-12"].path == "x"
    assert spec.networks["default"].cidr == "10.1.0.0/24"


def test_layers() -> None:
    text = """
name: lab
defaults: {cpus: 2, memory: 2GiB, groups: [a, b], user: one}
profiles:
  big: {cpus: 4, memory: 8GiB, groups: [c]}
  named: {user: two, cpus: 6}
guests:
  plain: {}
  web: {profiles: [big, named], memory: 4GiB}
  turned: {profiles: [named, big]}
"""
    spec = read(text)
    plain, web, turned = (spec.guests[name] for name in ("plain", "web", "turned"))
    assert (plain.cpus, plain.memory, plain.groups, plain.user) == (2, 2 * GIB, ("a", "b"), "one")
    assert (web.cpus, web.memory, web.groups, web.user) == (6, 4 * GIB, ("c",), "two")
    assert (turned.cpus, turned.memory, turned.user) == (4, 8 * GIB, "two")


def test_maps_merge_by_key_and_lists_whole() -> None:
    text = """
name: lab
defaults:
  cloud_init: {packages: [a], write_files: [{path: /a, content: null}], apt: {x: 1, y: 2}}
  ready: {port: 80}
  kernel: {path: vmlinuz}
guests:
  web:
    cloud_init: {packages: [b], apt: {y: 3}}
    ready: {timeout: 1m}
    kernel: {cmdline: quiet}
  db:
    cloud_init: {packages: null, apt: {x: null}}
    ready: ssh
"""
    web, db = guest(text), guest(text, "db")
    files = [{"path": "/a", "content": None}]
    assert web.cloud_init == {"packages": ["b"], "write_files": files, "apt": {"x": 1, "y": 3}}
    assert web.ready == Ready(kind="port", port=80, timeout=60.0)
    assert web.kernel is not None
    assert (web.kernel.path, web.kernel.cmdline) == ("vmlinuz", "quiet")
    assert db.cloud_init == {"write_files": files, "apt": {"y": 2}}
    assert db.ready == Ready(kind="ssh")


def test_null_goes_back_to_the_built_in_default() -> None:
    text = """
name: lab
defaults: {cpus: 4, memory: 8GiB, networks: [], ready: {port: 80, timeout: 1m}}
profiles:
  small: {memory: null}
guests:
  web: {cpus: null, networks: null, profiles: [small], ready: {port: null}}
"""
    web = guest(text)
    assert (web.cpus, web.memory, web.networks) == (1, GIB, None)
    assert web.ready == Ready(kind="ssh", timeout=60.0)


def test_null_stands_for_the_default_in_lists_of_maps_too() -> None:
    web = guest(
        "name: lab\nguests: {web: {disks: [{name: a, size: 1GiB, mount: null, keep: null}],"
        " networks: [{name: default, mac: null}]}}"
    )
    assert web.disks == (Disk(name="a", size=GIB),)
    assert web.networks == (InterfaceSpec(name="default"),)


def test_profiles_of_defaults_and_of_profiles() -> None:
    text = """
name: lab
defaults: {profiles: [one]}
profiles:
  one: {cpus: 2, profiles: [base]}
  base: {cpus: 9, memory: 2GiB}
  loop: {profiles: [loop], user: looped}
guests:
  web: {}
  db: {profiles: []}
  odd: {profiles: [loop]}
"""
    spec = read(text)
    assert (spec.guests["web"].cpus, spec.guests["web"].memory) == (2, 2 * GIB)
    assert spec.guests["db"].cpus == 1
    assert spec.guests["odd"].user == "looped"


@pytest.mark.parametrize(
    ("written", "ready"),
    [
        ("ssh", Ready(kind="ssh")),
        ("address", Ready(kind="address")),
        ("none", Ready(kind="none")),
        ("null", Ready(kind="ssh")),
        ("{}", Ready(kind="ssh")),
        ("{timeout: 5m}", Ready(kind="ssh", timeout=300.0)),
        ("{port: 80}", Ready(kind="port", port=80)),
        ("{kind: address, timeout: 10s}", Ready(kind="address", timeout=10.0)),
        ("{command: 'test -e /x && true'}", Ready(kind="command", command="test -e /x && true")),
    ],
)
def test_ready(written: str, ready: Ready) -> None:
    assert guest(f"name: lab\nguests: {{web: {{ready: {written}}}}}").ready == ready


def test_no_networks_is_ready_at_once() -> None:
    text = "name: lab\ndefaults: {ready: {port: 80}}\nguests: {web: {networks: []}}"
    web = guest(text)
    assert (web.networks, web.interfaces, web.ready) == ((), (), Ready(kind="none"))
    assert read(text).networks == {}


def test_count() -> None:
    text = """
name: lab
networks: {front: {cidr: 10.0.0.0/23}}
guests:
  one: {count: 1}
  web:
    count: 3
    after: [one, db-2]
    networks: [{name: front, address: 10.0.0.254, mac: 52:54:00:00:00:fF}, default]
  db: {count: 2}
  last: {after: [web, web-1]}
"""
    spec = read(text)
    assert list(spec.guests) == ["one-1", "web-1", "web-2", "web-3", "db-1", "db-2", "last"]
    assert [spec.guests[f"web-{n}"].index for n in (1, 2, 3)] == [1, 2, 3]
    interfaces = [spec.guests[f"web-{n}"].interfaces[0] for n in (1, 2, 3)]
    assert [interface.address for interface in interfaces] == [
        "10.0.0.254",
        "10.0.0.255",
        "10.0.1.0",
    ]
    assert [interface.mac for interface in interfaces] == [
        "52:54:00:00:00:ff",
        "52:54:00:00:01:00",
        "52:54:00:00:01:01",
    ]
    assert spec.guests["web-1"].after == ("one-1", "db-2")
    assert spec.guests["last"].after == ("web-1", "web-2", "web-3")
    assert spec.networks["default"] == NetworkSpec()


def test_fixed_addresses_where_no_dhcp_is_made() -> None:
    spec = read(
        "name: lab\nnetworks:\n"
        "  lan: {mode: bridge, bridge: br0, cidr: 192.168.1.0/24, gateway: 192.168.1.254,"
        " dns: [1.1.1.1]}\n"
        "  quiet: {mode: isolated, cidr: 10.9.0.0/24, dhcp: false}\n"
        "guests: {web: {networks: [{name: lan, address: 192.168.1.1},"
        " {name: quiet, address: 10.9.0.2}]}}\n"
    )
    assert spec.networks["lan"].static
    assert not spec.networks["lan"].managed
    assert spec.networks["quiet"].dhcp is False
    assert spec.networks["quiet"].managed


@pytest.mark.parametrize(
    ("network", "first", "second", "taken"),
    [
        ("cidr: 10.20.0.0/24", "host: a", "host: b", False),
        ("cidr: 10.20.0.0/24", "host: a", "host: a", True),
        ("cidr: 10.20.0.0/24", "host: a", "place: {}", True),
        ("mode: bridge, bridge: br0, cidr: 10.20.0.0/24", "host: a", "host: b", True),
    ],
)
def test_two_guests_with_one_address(network: str, first: str, second: str, taken: bool) -> None:
    """Networks that are made are made on each host; a bridge may be the same one on both."""
    interface = "networks: [{name: front, address: 10.20.0.5}]"
    text = f"""
name: lab
hosts: {{a: {{address: a}}, b: {{address: b}}}}
networks: {{front: {{{network}}}}}
guests:
  first: {{{first}, {interface}}}
  second: {{{second}, {interface}}}
"""
    if not taken:
        assert len(read_text(text, source="lab.yaml", folder=Path("/")).guests) == 2
        return
    with pytest.raises(RequestError, match="two guests have the address"):
        read_text(text, source="lab.yaml", folder=Path("/"))


def test_yaml_1_2_scalars() -> None:
    web = guest(
        "%YAML 1.1\n---\nname: 'on'\nguests: {web: {networks: [{name: default,"
        " mac: 52:54:00:11:22:33}], groups: [yes, on]}}"
    )
    assert web.interfaces[0].mac == "52:54:00:11:22:33"
    assert web.groups == ("yes", "on")


PLAIN_SCALARS = (
    "yes Yes YES yEs no NO on Off y n true tRue ~ null 0 7 -7 +7 0644 0888 0o17 0x1F 0b101 1_000 "
)
PLAIN_SCALARS += (
    "1:30 12:30:45 -1:30 1:75 1e3 1.5e+3 .5 -.5 1. 1.5 190:20:30.15 1_0.5 52:54:00:11:22:33 10.20"
)
PLAIN_SCALARS += " 1.2.3 = v1 2001-01-01"


@pytest.mark.parametrize(
    "spec",
    [
        "guests: {web: {CLOUD}}",
        "defaults: {CLOUD}\nguests: {web: {}}",
        "profiles: {p: {CLOUD}}\nguests: {web: {profiles: [p]}}",
    ],
)
def test_plain_scalars_of_cloud_init_are_yaml_1_1(spec: str) -> None:
    """As PyYAML reads them, which cloud-init does; but for dates, which a seed can't hold."""
    scalars = PLAIN_SCALARS.split()
    cloud = f"cloud_init: {{a: [{', '.join(scalars)}, 'no', \"0644\"]}}"
    found = guest(f"name: lab\n{spec.replace('CLOUD', cloud)}\n").cloud_init["a"]
    for scalar, value in zip(scalars, found, strict=False):
        plain = yaml.safe_load(f"- {scalar}") if scalar not in ("=", "2001-01-01") else [scalar]
        assert [value] == plain, scalar
        assert type(value) is type(plain[0]), scalar
    assert found[-2:] == ["no", "0644"], "what is in quotes is text"


@given(st.from_regex(r"[-+]?[0-9bxo_:.eE+a-f-]{1,8}", fullmatch=True))
def test_numbers_of_cloud_init_are_pyyamls(scalar: str) -> None:
    try:
        (theirs,) = yaml.safe_load(f"[{scalar}]")
    except (ValueError, yaml.YAMLError):
        return
    assert yaml11.resolve(scalar) == (theirs if isinstance(theirs, (int, float)) else scalar)


def test_aliases_are_followed() -> None:
    spec = read("name: lab\nguests:\n  web: &w {cpus: 2, groups: &g [a]}\n  db: *w\n")
    assert spec.guests["db"].cpus == 2
    assert spec.guests["db"].groups == ("a",)


def test_requested_is_json_and_the_same_each_time() -> None:
    for first, second in zip(
        read(EXAMPLE).guests.values(), read(EXAMPLE).guests.values(), strict=True
    ):
        assert json.loads(json.dumps(first.requested)) == first.requested == second.requested
        assert GuestSpec.model_validate(first.requested) == first


def test_two_layouts_of_one_spec_are_equal() -> None:
    assert read("name: lab\nguests: {web: {cpus: 1}}") == read("name: lab\nguests:\n  web: {}\n")


def test_a_spec_cannot_be_changed() -> None:
    spec = read(EXAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        spec.guests["db"].cpus = 3  # type: ignore[misc]


def test_positions() -> None:
    spec = read(EXAMPLE)
    lines = EXAMPLE.splitlines()

    def line(key: str, after: str = "guests:") -> int:
        start = lines.index(after)
        return next(n for n in range(start, len(lines)) if lines[n].strip().startswith(key)) + 1

    assert spec.position() == "lab.yaml:1:1"
    assert spec.position(("networks", "lan")) == f"lab.yaml:{line('lan:', 'networks:')}:3"
    assert spec.position(("guests", "db")) == f"lab.yaml:{line('db:')}:3"
    assert spec.position(("guests", "web-2")) == f"lab.yaml:{line('web:')}:3"
    assert spec.position(("guests", "web")) == f"lab.yaml:{line('web:')}:3"
    where = spec.where(("guests", "web-2", "user"))
    assert where == f"lab.yaml:{line('user:')}:11 guests.web.user"
    where = spec.where(("guests", "web-2", "image"))
    assert where == f"lab.yaml:{line('image:', 'defaults:')}:10 defaults.image"
    where = spec.where(("guests", "web-2", "networks", 0, "mac"))
    assert where.endswith(" guests.web.networks[0].mac")
    where = spec.where(("guests", "db", "user"))
    assert where == f"lab.yaml:{line('db:')}:3 guests.db.user"
    assert spec.position(("images", "debian-12")) == f"lab.yaml:{line('images:', 'hosts:')}:1"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("lab.yaml", "lab"),
        ("deep/down/lab-2.yml", "lab-2"),
        ("virtkit.yaml", "site"),
        ("./virtkit.yml", "site"),
    ],
)
def test_name_from_the_path(source: str, name: str) -> None:
    assert read("guests: {}", source).name == name
    assert read("name: own", source).name == "own"


@pytest.mark.parametrize(
    ("source", "cure"),
    [
        ("My Lab.yaml", "add `name: my-lab`"),
        ("..yaml", "add `name: lab`"),
        ("-rf.yaml", "add `name: rf`"),
        ("a.b.yaml", "add `name: a-b`"),
        ("<stdin>", "add `name: lab`"),
    ],
)
def test_name_that_the_path_cannot_give(source: str, cure: str) -> None:
    with pytest.raises(RequestError) as caught:
        read("guests: {}", source)
    assert caught.value.cure == cure
    assert caught.value.where == f"{source}:1:1 name"


def test_a_new_type_is_one_line_in_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = replace(DRIVERS["qemu"], type="toy", unsupported={"cpus": "a toy has one"})
    monkeypatch.setitem(DRIVERS, "toy", toy)
    assert guest("name: lab\nguests: {web: {type: toy}}").type == "toy"
    with pytest.raises(RequestError) as caught:
        read("name: lab\nguests: {web: {type: toy, cpus: 2}}")
    assert caught.value.where == "lab.yaml:2:33 guests.web.cpus"
    assert "a toy has one" in caught.value.why


def test_what_a_type_lacks_may_stand_at_its_default() -> None:
    text = "name: lab\nguests: {web: {type: lxc, firmware: bios, graphics: none, kernel: null}}"
    assert guest(text).type == "lxc"


def test_two_hundred_guests_are_read_quickly() -> None:
    text = "name: lab\nnetworks: {front: {cidr: 10.20.0.0/16}}\nguests:\n  db: {}\n" + "".join(
        f"  g{n}:\n    type: lxc\n    memory: 256MiB\n    cpus: 2\n    groups: [a, b]\n"
        f"    networks: [{{name: front, address: 10.20.1.{n}}}]\n"
        "    after: [db]\n    ready: {port: 80, timeout: 2m}\n"
        for n in range(200)
    )
    started = time.process_time()
    assert len(read(text).guests) == 201
    # 0.2 s where it was written; the margin is for slower machines and busy ones.
    assert time.process_time() - started < 1.5
