"""One spec over several hosts, each with its own libvirt, over real ssh: where guests go, and what
happens where a host hangs, dies, or is cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_programs import ansible
from integration.lab import until
from integration.several_hosts import HostsLab, LibvirtHost, hosts_laboratory, several_hosts

REPO = Path(__file__).parents[2]
SPEC = """
defaults: {type: lxc, memory: 128MiB, networks: []}
guests:
  db: {count: 2, place: {apart: db}}
  web: {count: 3, place: {spread: host}}
  near: {place: {with: db-2}}
  fixed: {host: h3}
  late: {place: {}, after: [fixed]}
"""
ALL = ["db-1", "db-2", "web-1", "web-2", "web-3", "near", "fixed", "late"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[LibvirtHost]]:
    with several_hosts(tmp_path_factory.mktemp("hosts"), 3) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def lab(hosts: list[LibvirtHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    with hosts_laboratory(tmp_path_factory.mktemp("lab"), "many", SPEC, hosts) as lab:
        yield lab


def places(lab: HostsLab) -> dict[str, str]:
    return {each["name"]: each["host"] for each in lab.json("status")["guests"]}


def states(lab: HostsLab) -> dict[str, str]:
    return {each["name"]: each["state"] for each in lab.json("status")["guests"]}


@contextmanager
def hanging(host: LibvirtHost) -> Iterator[None]:
    """Its libvirt takes connections, and says nothing."""
    pid = host.libvirtd()
    host.ssh(f"kill -STOP {pid}")
    try:
        yield
    finally:
        host.ssh(f"kill -CONT {pid}")


def test_guests_go_where_the_spec_says(lab: HostsLab) -> None:
    plan = lab.json("plan")
    assert {e["object"] for e in plan["changes"]} >= {f"guest/{name}" for name in ALL}
    report = lab.json("up")
    assert report["ok"], report
    where = places(lab)
    assert where["db-1"] != where["db-2"] == where["near"]
    assert {where[f"web-{n}"] for n in (1, 2, 3)} == {"h1", "h2", "h3"}
    assert where["fixed"] == "h3"
    assert set(states(lab).values()) == {"running"}
    for each in lab.hosts:
        mine = {f"many-{name}" for name, host in where.items() if host == each.name}
        assert lab.on(each).domains() == mine


def test_they_stay_there(lab: HostsLab) -> None:
    where = places(lab)
    assert lab.json("plan")["changes"] == []
    lab.write(lab.spec.read_text().replace("count: 3", "count: 4"))
    assert lab.json("up")["ok"]
    after = places(lab)
    assert {name: after[name] for name in where} == where
    lab.write(lab.spec.read_text().replace("count: 4", "count: 3"))
    assert lab.json("up", "--yes")["ok"]


def test_a_host_without_python_is_told_with_its_cure(lab: HostsLab) -> None:
    host = lab.hosts[1]
    programs = set(host.ssh("type -aP python3 | xargs readlink -f").split())
    for each in programs:
        host.ssh(f"mount --bind /dev/null {each}")
    try:
        plan = lab.json("plan", code=1)
        assert plan["unanswered"].keys() == {"h2"}
        assert plan["unanswered"]["h2"]["what"] == "host h2 has no Python"
        assert "python3" in plan["unanswered"]["h2"]["cure"]
        assert plan["changes"] == []
    finally:
        for each in programs:
            host.ssh(f"umount {each}")
    assert "unanswered" not in lab.json("plan")


@pytest.mark.long  # it is waited for, half a minute each time
def test_a_host_that_hangs_holds_up_none_of_the_others(lab: HostsLab) -> None:
    where = places(lab)
    with hanging(lab.hosts[2]):
        plan = lab.json("plan", code=1)
        assert plan["unanswered"].keys() == {"h3"}
        there = {name for name, host in where.items() if host == "h3"}
        assert {e["object"] for e in plan["unknown"]} == {f"guest/{name}" for name in there}
        assert plan["changes"] == []
        now = {each["name"]: each["state"] for each in lab.json("status")["guests"]}
        assert {name for name, state in now.items() if state == "unknown"} == there
        lab.virtkit("stop", "db-1" if where["db-1"] != "h3" else "db-2")
        report = lab.json("up", code=1)
        ended = {each["object"]: each["outcome"] for each in report["steps"]}
        assert ended["host/h3"] == "failed"
        assert {ended[f"guest/{name}"] for name in there} == {"skipped"}
    assert lab.json("up")["ok"]
    assert set(states(lab).values()) == {"running"}


def test_killed_in_the_middle_and_up_again(lab: HostsLab) -> None:
    lab.json("down")
    running = lab.starts("up")
    host = lab.hosts[0]
    while not lab.on(host).domains():
        assert running.poll() is None
    host.ssh(f"kill -KILL {host.libvirtd()}")
    running.wait(300)
    host.start_libvirtd()
    assert lab.json("up")["ok"]
    assert set(states(lab).values()) == {"running"}
    assert running.returncode in (0, 1)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("after", [0.3, 0.8, 1.5, 2.5, 4.0, 7.0])
def test_cut_off_in_the_middle_and_up_again(lab: HostsLab, after: float) -> None:
    """The cable of one host is pulled so many seconds after `up` began, for a minute."""
    lab.json("down")
    host = lab.hosts[0]
    running = lab.starts("up")
    time.sleep(after)
    host.cut()
    try:
        assert until(lambda: running.poll() is not None, 150), "a host that is gone holds it up"
    finally:
        host.join()
    _, said = running.communicate(timeout=60)
    assert running.returncode in (0, 1), said
    assert "Traceback" not in said
    assert lab.json("up")["ok"]
    assert set(states(lab).values()) == {"running"}
    assert lab.json("plan")["changes"] == []


def test_down_with_a_host_that_is_cut_off_and_again(lab: HostsLab) -> None:
    where = places(lab)
    host = lab.hosts[1]
    host.cut()
    try:
        report = lab.json("down", code=1)
    finally:
        host.join()
    done = {e["object"] for e in report["steps"] if e["outcome"] == "done"}
    assert done >= {f"guest/{name}" for name, place in where.items() if place != host.name}
    assert lab.json("down")["ok"]
    for each in lab.hosts:
        assert lab.on(each).left() == []


SOME_OFF = """
networks: {front: {cidr: 10.20.0.0/24}}
defaults: {type: lxc, memory: 128MiB, networks: [front]}
guests:
  one: {host: h1, playbooks: [site.yml]}
  free: {place: {apart: [one, off]}}
  off: {host: h3, networks: [{name: front, address: 10.20.0.7}], playbooks: [site.yml]}
  lost: {host: h3}
"""
PLAYBOOK = "- {{hosts: all, gather_facts: false, tasks: [{{raw: {}}}]}}\n"
#: What the inventory plugin is told.
SOURCE = """
plugin: virtkit.core.virtkit
spec: some.yaml
cache: true
cache_plugin: jsonfile
cache_connection: cache
"""


@pytest.mark.long  # each verb waits for the host that is off
@pytest.mark.timeout(1200)
def test_all_that_only_tells_with_a_host_that_is_off(
    hosts: list[LibvirtHost], tmp_path: Path
) -> None:
    (tmp_path / "site.yml").write_text(PLAYBOOK.format("uptime"))
    with hosts_laboratory(tmp_path, "some", SOME_OFF, hosts) as lab:
        assert lab.json("up")["ok"]
        assert places(lab)["free"] == "h2"
        assert lab.json("inventory")["_meta"]["hostvars"].keys() == {"one", "free", "off", "lost"}
        hosts[2].cut()
        try:
            _tell_with_h3_off(lab)
            _play_with_h3_off(lab)
        finally:
            hosts[2].join()
        assert set(lab.json("logs")["logs"]) == {"one", "free", "off", "lost"}
        line = ["-i", "some.virtkit.yml", "--list"]
        listing = ansible("ansible-inventory", *line, folder=tmp_path).stdout
        assert '"lost"' in listing, "what was told without its host is in no cache"
        assert lab.json("up")["ok"], "the playbooks of h3's guest are left to do"
        assert lab.json("plan")["changes"] == []
        assert lab.json("down")["ok"]


def _play_with_h3_off(lab: HostsLab) -> None:
    (lab.folder / "site.yml").write_text(PLAYBOOK.format("hostname"))
    for verb in ("up", "provision"):
        steps = lab.json(verb, code=1)["steps"]
        ended = {(each["object"], each["step"]): each["outcome"] for each in steps}
        assert ended["guest/one", "playbooks"] == "done", steps
        assert ended["guest/off", "look"] == "skipped"
        assert ended["host/h3", "connect"] == "failed"


def _tell_with_h3_off(lab: HostsLab) -> None:
    for name in ("one", "free"):  # by the spec, and by known_hosts
        assert lab.sh(name, "hostname") == name
    assert lab.virtkit("exec", "free", "--", "sh", "-c", "exit 7", code=7).err == ""
    assert "h3" in lab.virtkit("exec", "off", "--", "true", code=1).err
    logs = lab.json("logs", code=1)
    assert (logs["logs"].keys(), [*logs["unanswered"]]) == ({"one", "free"}, ["h3"])
    assert lab.json("logs", "one")["logs"].keys() == {"one"}
    listing = lab.virtkit("inventory", "--list")
    assert listing.data["_meta"]["hostvars"].keys() == {"one", "free", "off"}
    assert "host h3 does not answer" in listing.err
    assert "guest lost is left out" in listing.err
    static = lab.virtkit("inventory", code=1)
    (lab.folder / "hosts.ini").write_text(static.out)
    (lab.folder / "some.virtkit.yml").write_text(SOURCE)
    for source in ("hosts.ini", "some.virtkit.yml"):
        line = ["all", "-i", source, "-m", "raw", "-a", "hostname", "-T", "5"]
        done = ansible("ansible", *line, folder=lab.folder, code=4)  # some can't be reached
        assert "off | UNREACHABLE" in done.stdout
        for name in ("one", "free"):
            assert f"{name} | CHANGED" in done.stdout, done.stdout
    config = lab.virtkit("ssh-config", code=1)
    for name in ("one", "free", "off"):
        assert f"Host some-{name}\n" in config.out
    assert "some-lost" not in config.out
    found = lab.json("image list", code=1)
    assert {each["host"] for each in found["images"]} == {"h1", "h2"}
    assert [*found["unanswered"]] == ["h3"]
    assert lab.json("image rm", "nosuchimage", code=1)["error"]["cure"]
    left = lab.json("doctor", "--orphans", code=1)
    assert not [each for each in left["orphans"] if each["environment"] == "some"]


def test_the_readme_s_example(hosts: list[LibvirtHost], tmp_path: Path) -> None:
    """With the tests' hosts in place of the reader's."""
    text = (REPO / "README.md").read_text().partition("cat >racks.yaml <<'EOF'\n")[2]
    text = text.partition("\nEOF\n")[0]
    lines = [each for each in text.splitlines() if "address:" not in each and each != "hosts:"]
    assert len(text.splitlines()) - len(lines) == 3
    racks = [replace(each, name=f"rack{n}") for n, each in enumerate(hosts[:2], 1)]
    with hosts_laboratory(tmp_path, "racks", "\n".join(lines), racks) as lab:
        assert lab.json("up")["ok"]
        where = places(lab)
        assert (where["db"], where["cache"]) == ("rack1", "rack2")
        assert {where[f"web-{n}"] for n in (1, 2, 3)} == {"rack1", "rack2"}
        assert {each["ready"] for each in lab.json("status")["guests"]} == {True}
        assert lab.json("down")["ok"]
        for each in racks:
            assert lab.on(each).left() == []
