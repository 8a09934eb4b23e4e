"""A spec of several files, what the command line sets in it, and what one of several guests has for
itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from virtkit.errors import RequestError
from virtkit.spec import Spec, load

GIB = 1024**3


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def refused(*paths: str, settings: list[str] | None = None) -> list[str]:
    """Each error in a line: where, what, and the cure."""
    with pytest.raises(RequestError) as caught:
        load(*paths, settings=settings or ())
    assert caught.value.exit_code == 2
    return [f"{e.where}: {e.what}; {e.cure}" for e in caught.value.every()]


# --- include ------------------------------------------------------------------------------


def test_an_included_file_lies_under_the_one_that_includes_it(lab: Path) -> None:
    written(
        {
            "lab.yaml": """
include: [common/base.yaml, sizes.yaml]
networks:
  front: {domain: lab.test}
guests:
  web: {memory: 2GiB, after: [db]}
""",
            "common/base.yaml": """
x-anything: [of, nobody]
name: never
include: below.yaml
networks:
  front: {cidr: 10.20.0.0/24, domain: base.test}
defaults: {memory: 512MiB, cpus: 2, networks: [front]}
guests:
  db: {ssh_keys: [../keys/db.pub, ~/own.pub, /etc/all.pub], playbooks: [db.yml]}
  web: {memory: 1GiB, kernel: {path: ./boot/vmlinuz}, description: from base}
""",
            "common/below.yaml": "name: below\ndefaults: {cpus: 8, disk: 4GiB}\nimages: "
            "{own: {path: disk.qcow2}}\n",
            "sizes.yaml": "name: lab\ndefaults: {memory: 256MiB}\n",
        }
    )
    spec = load("lab.yaml")
    assert spec.name == "lab"
    db, web = spec.guests["db"], spec.guests["web"]
    assert (spec.networks["front"].cidr, spec.networks["front"].domain) == (
        "10.20.0.0/24",
        "lab.test",
    )
    assert (db.memory, db.cpus, db.disk.size) == (GIB // 4, 2, 4 * GIB)
    assert (web.memory, web.after, web.description) == (2 * GIB, ("db",), "from base")
    assert db.ssh_keys == ("keys/db.pub", "~/own.pub", "/etc/all.pub")
    assert (db.playbooks, spec.folder) == (("common/db.yml",), lab)
    assert web.kernel is not None
    assert web.kernel.path == "common/boot/vmlinuz"
    assert spec.images["own"].path == "common/disk.qcow2"
    assert spec.where(("guests", "web", "kernel", "path")).startswith("common/base.yaml:10:")
    assert spec.where(("guests", "web", "memory")).startswith("lab.yaml:6:")
    assert spec.where(("guests", "db", "memory")).startswith("sizes.yaml:2:")


def test_each_file_is_included_once_and_a_null_takes_back_what_lies_under_it(lab: Path) -> None:
    written(
        {
            "lab.yaml": """
name: lab
include: [a.yaml, b.yaml]
guests:
  web: {memory: null}
""",
            "a.yaml": "include: [base.yaml]\ndefaults: {cpus: 3}\nguests: {web: {memory: 2GiB}}\n",
            "b.yaml": "include: [base.yaml]\ndefaults: {disk: null}\n",
            "base.yaml": "defaults: {cpus: 2, memory: 512MiB, disk: 4GiB}\n",
        }
    )
    web = load("lab.yaml").guests["web"]
    assert (web.cpus, web.memory, web.disk.size) == (3, GIB, None)


def test_paths_are_those_of_the_file_they_stand_in(lab: Path) -> None:
    written(
        {
            "sub/lab.yaml": "name: lab\ninclude: [../shared/hosts.yaml]\nguests: {a: {host: a}}\n",
            "shared/hosts.yaml": "hosts: {a: {address: me@a, ssh: {key: keys/a, known_hosts: "
            "/etc/known}}}\nprofiles: {p: {template: my.xml.j2}}\n",
        }
    )
    (host,) = load("sub/lab.yaml").hosts.values()
    assert (host.ssh.key, host.ssh.known_hosts) == ("../shared/keys/a", "/etc/known")


# --- several files ------------------------------------------------------------------------


def test_several_files_lie_over_each_other(lab: Path) -> None:
    written(
        {
            "base/lab.yaml": "defaults: {memory: 512MiB}\nguests: {web: {ssh_keys: [a.pub]}}\n",
            "small.yaml": "defaults: {memory: 128MiB}\nguests: {db: {ssh_keys: [b.pub]}}\n",
        }
    )
    spec = load("base/lab.yaml", "small.yaml")
    assert (spec.name, spec.source, spec.more_files) == ("lab", "base/lab.yaml", ("small.yaml",))
    assert spec.folder == lab / "base"
    assert {name: guest.memory for name, guest in spec.guests.items()} == {
        "web": GIB // 8,
        "db": GIB // 8,
    }
    assert spec.guests["web"].ssh_keys == ("a.pub",)
    assert spec.guests["db"].ssh_keys == ("../b.pub",)
    assert refused("small.yaml", "small.yaml") == [
        ": the spec 'small.yaml' is named twice; name each file once"
    ]
    assert refused("base/lab.yaml", "gone.yaml")[0].startswith("gone.yaml: there is no file")


# --- what the command line sets -----------------------------------------------------------

SPEC = """
name: lab
networks: {front: {cidr: 10.20.0.0/24}}
defaults: {networks: [front], disks: [{name: data, size: 1GiB}]}
profiles: {big: {memory: 8GiB}}
guests:
  web: {count: 2, each: {2: {memory: 3GiB}}}
  db: {vars: {a: {b.c: 1}}}
"""


def set_in(text: str, *settings: str) -> Spec:
    written({"lab.yaml": text})
    return load("lab.yaml", settings=settings)


def test_a_value_is_set_for_one_run(lab: Path) -> None:
    spec = set_in(
        SPEC,
        "name=other",
        "networks.front.cidr=10.30.0.0/24",
        "defaults.cpus=4",
        "guests.web.memory=5GiB",
        "guests.web.disks[0].size=2GiB",
        "guests.db.profiles=[big]",
        'guests.db.vars.a."b.c"=yes',
        "guests.db.cloud_init={packages: [git], ntp: {enabled: no}}",
        "guests.web.each.1.cpus=1",
    )
    assert (spec.name, spec.networks["front"].cidr) == ("other", "10.30.0.0/24")
    db, first, second = (spec.guests[name] for name in ("db", "web-1", "web-2"))
    assert [g.memory for g in (db, first, second)] == [8 * GIB, 5 * GIB, 5 * GIB]
    assert [g.cpus for g in (db, first, second)] == [4, 1, 4]
    assert [g.disks[0].size for g in (db, first, second)] == [GIB, 2 * GIB, 2 * GIB]
    assert db.vars == {"a": {"b.c": True}}
    assert db.cloud_init == {"packages": ["git"], "ntp": {"enabled": False}}
    assert set_in(SPEC, "guests.web.each.2.memory=1GiB").guests["web-2"].memory == GIB
    assert set_in(SPEC, "guests.web.count=1", "guests.web.each=").guests.keys() == {"web-1", "db"}
    assert set_in(SPEC, "guests.db.disks=").guests["db"].disks == ()
    assert spec.where(("guests", "web-1", "memory")) == "--set guests.web.memory"


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("memory=2GiB", "--set: a spec has no key 'memory'; use one of: defaults, guests, hosts"),
        ("guests.web.memory", "--set: 'guests.web.memory' sets nothing; write PATH=VALUE, such as"),
        ("=5", "--set: '' is no path of a spec; write PATH=VALUE, such as --set guests.web.mem"),
        ("guests..web=5", "--set: 'guests..web' is no path of a spec; write"),
        ("[0].a=5", "--set: '[0].a' is no path of a spec; write"),
        ("guests.web]=5", "--set: 'guests.web]' is no path of a spec; write"),
        ("include=[x.yaml]", "--set include: `include` can't be set; name the file with a second"),
        (
            "guests.wep.cpus=2",
            "--set guests.wep.cpus: the spec has no guests 'wep'; did you mean 'web'?",
        ),
        (
            "guests.web-2.cpus=2",
            "--set guests.web-2.cpus: the spec has no guests 'web-2'; set guests.web.each.2.cpus",
        ),
        ("networks.back.cidr=10.1.0.0/24", "--set networks.back.cidr: the spec has no networks"),
        ("guests.web.memory=much", "--set guests.web.memory: 'much' is not a size; use 512MiB"),
        ("guests.web.memroy=1GiB", "--set guests.web.memroy: there is no key 'memroy' here; did"),
        ("guests.web.disks[1].size=1GiB", "--set guests.web.disks[1].size: there is no entry 1 to"),
        ("guests.web.count.x=1", "--set guests.web.count.x: there are no keys to set in the num"),
        ("guests.web.each.3.cpus=1", "--set guests.web.each.3: the entry makes no guest with the"),
        ("guests.web.description=!!str x", "--set guests.web.description: the tag '!!str' can't"),
        ("guests.web.vars={a: [}", "--set guests.web.vars:1:6: this is not valid YAML; check"),
    ],
)
def test_what_can_not_be_set(lab: Path, setting: str, error: str) -> None:
    written({"lab.yaml": SPEC})
    (first, *_) = refused("lab.yaml", settings=[setting])
    assert first.startswith(error)


# --- one of several -----------------------------------------------------------------------


def test_one_of_several_guests_has_something_for_itself(lab: Path) -> None:
    spec = set_in("""
name: lab
networks: {front: {cidr: 10.20.0.0/24}, back: {cidr: 10.21.0.0/24}}
defaults: {networks: [front]}
profiles: {first: {each: {1: {groups: [control], cpus: 4}}}}
guests:
  node:
    profiles: [first]
    count: 4
    networks: [{name: front, address: 10.20.0.10}]
    memory: 1GiB
    max: {cpus: 8}
    each:
      1: {memory: 2GiB, cpus: null}
      3:
        networks: [{name: back, address: 10.21.0.50}]
        max: {memory: 4GiB}
        after: [node-1]
        cloud_init: {ntp: {enabled: no}}
  tail: {after: [node]}
""")
    assert list(spec.guests) == ["node-1", "node-2", "node-3", "node-4", "tail"]
    nodes = [spec.guests[f"node-{number}"] for number in (1, 2, 3, 4)]
    assert [each.index for each in nodes] == [1, 2, 3, 4]
    assert [each.memory // GIB for each in nodes] == [2, 1, 1, 1]
    assert [each.cpus for each in nodes] == [1, 1, 1, 1]
    assert [each.groups for each in nodes] == [("control",), (), (), ()]
    assert [(each.max.cpus, each.max.memory) for each in nodes][2] == (8, 4 * GIB)
    assert [each.interfaces[0].address for each in nodes] == [
        *("10.20.0.10", "10.20.0.11", "10.21.0.50", "10.20.0.13")
    ]
    assert [each.after for each in nodes] == [(), (), ("node-1",), ()]
    assert nodes[2].cloud_init == {"ntp": {"enabled": False}}
    assert spec.guests["tail"].after == ("node-1", "node-2", "node-3", "node-4")
    assert re.search(r":16:", spec.where(("guests", "node-3", "networks", 0, "address")))
