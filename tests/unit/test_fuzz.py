"""Whatever the model lets through stays a value: in XML, in seeds, in what other programs read.

The first boot's script is not only parsed but run, in namespaces of its own, with values that
would leave a trace if any of them were taken for a command.
"""

from __future__ import annotations

import ast
import contextlib
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import samples
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from virtkit import access, ansible, seed
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.host import schemas
from virtkit.host.names import checked_name
from virtkit.plan.resolve import resolve
from virtkit.spec import Spec, load, read_text, values
from virtkit.state import record, record_text
from virtkit.state.desired import Decided, Desired
from virtkit.xml import render, tree

thorough = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

# --- values that a spec may hold ------------------------------------------------------------

#: Each would leave a file behind if a shell ran it, or open a line or an element of its own.
EVIL = (
    *("$(touch /pwned)", "`touch /pwned`", "; touch /pwned", "'; touch /pwned; '", '"$(id)"'),
    *("\nVIRTKIT\ntouch /pwned\n", "VIRTKIT", "# virtkit: end", "-rf", "--", "..", ".", "/", "~"),
    *("</name><x/>", "<![CDATA[x]]>", "&amp;", "{{ 7*7 }}", "{% raw %}", "%h", "%%", "${HOME}"),
    *("a: b", "[all:vars]", "#x", "!x", "*x", "&x", "0x10", "1e3", "no", "null", "52:54:00:0:0:1"),
    *("\t", "é", "\U0001f600", "\u202e", "a\\b", "a b", "'", '"', "x=y", "@x", "-oProxyCommand=x"),
)
#: Near what the patterns of names take, so that many pass.
near = st.text(st.sampled_from("ab1-_.+/@:0"), max_size=12)
#: What the reader of specs takes at all.
any_text = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    max_size=8,
)


def passing(check: Callable[[str], object], *usual: str) -> st.SearchStrategy[str]:
    """The texts that a check of the model lets through."""

    def passes(value: str) -> bool:
        try:
            check(value)
        except ValueError:
            return False
        return True

    anything = st.sampled_from(EVIL) | near | any_text
    return st.sampled_from(usual) | anything.filter(passes)


labels = passing(values.label, "web", "a", "0-0", "x" * 20)
paths = passing(values.host_path, "./disk.qcow2", "a b/é", "~/x", "/abs/x")
link = st.fixed_dictionaries(
    {"name": st.just("front")},
    optional={"mac": st.sampled_from(["52:54:00:AA:bb:01", "00:00:00:00:00:0E"])},
)
plain = st.recursive(
    st.sampled_from(EVIL) | any_text | st.integers(-9, 9**9) | st.booleans(),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(any_text, below, max_size=2),
    max_leaves=6,
)
guests = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(DRIVERS)), "networks": st.lists(link, min_size=1, max_size=1)},
    optional={
        "user": passing(values.user_name, "admin", "_x"),
        "groups": st.lists(passing(values.group_name, "web", "A_b-c"), max_size=2),
        "cloud_init": st.dictionaries(any_text, plain, max_size=3),
        "ready": st.fixed_dictionaries({"command": passing(values.command, "true")}),
    },
)
machines = st.fixed_dictionaries(
    {
        "kernel": st.fixed_dictionaries(
            {"path": paths}, optional={"cmdline": passing(values.printable, "root=/dev/vda")}
        )
    }
)
disk = st.fixed_dictionaries(
    {
        "name": passing(values.disk_name, "data", "x-1"),
        "size": st.just("1MiB"),
        "mount": passing(values.mount_point, "/srv/data", "/a+b@c/.d", "/srv/-rf"),
    }
)
network = st.fixed_dictionaries(
    {"cidr": st.just("10.0.0.0/24")},
    optional={"domain": passing(values.domain_name, "lab.test", "a.b-c.d"), "dhcp": st.just(False)},
) | st.fixed_dictionaries({"existing": passing(values.foreign_name, "default", "A.b_c-d")})


def _boots(word: str) -> bool:
    """Whether a guest of the type may have a kernel of the user's."""
    return "kernel" not in DRIVERS[word].unsupported


specs = st.builds(
    lambda name, network, guest, more, disks, base: {
        "name": name,
        "networks": {"front": network},
        "guests": {base: {**guest, **(more if _boots(guest["type"]) else {}), "disks": disks}},
    },
    labels,
    network,
    guests,
    machines | st.just({}),
    st.lists(disk, max_size=1),
    labels,
)


def spec_of(data: object) -> Spec:
    shown = json.dumps(data, ensure_ascii=False)
    return read_text(shown, source="lab.yaml", folder=Path("/specs"))


def desired_of(data: dict[str, Any]) -> Desired | None:
    """The objects of a spec whose parts are right; together its names may be too long."""
    refused: RequestError | None = None
    try:
        return resolve(spec_of(data), samples.WITH_KVM, Decided())
    except RequestError as error:
        refused = error
    assert all("too long" in each.what for each in refused.every()), str(refused.as_dict())
    return None


# --- files ------------------------------------------------------------------------------------

SAMPLE = b"""\
name: lab
hosts: {local: {pool: default}}
images:
  mine: {path: ./disk.qcow2}
  built: {build: {distribution: debian, release: bookworm, packages: [curl], size: 2GiB}}
  cloud: {url: "https://example.org/x.qcow2", checksums: "https://example.org/SHA256SUMS"}
networks:
  front:
    {mode: nat, cidr: 10.20.0.0/24, ipv6: "fd00:20::/64", domain: lab.test,
     dhcp: {start: 10.20.0.100, end: 10.20.0.200}}
  lan: {mode: bridge, bridge: br0, cidr: 10.30.0.0/24, gateway: 10.30.0.1, dns: [10.30.0.1]}
  old: {existing: default}
defaults: &d {image: built, networks: [front]}
profiles: {big: {cpus: 4, memory: 8GiB}}
guests:
  db: {type: lxc, disks: [{name: data, size: 4GiB, mount: /srv/data, keep: true}], ready: none}
  web:
    profiles: [big]
    count: 3
    networks: [{name: front, address: 10.20.0.10, mac: "52:54:00:00:00:10"}]
    cloud_init: {write_files: [{path: /x, content: "a: b\\n$(id)"}]}
    after: [db]
    ready: {port: 80, timeout: 2m}
    kernel: {path: vmlinuz, cmdline: 'root=/dev/vda quiet'}
    devices: ["<watchdog model='i6300esb'/>"]
    allow: [hostdev]
"""

_BITS = (
    *(each.encode() for each in EVIL),
    b"\0",
    b"\xff",
    b"\r",
    b"&d",
    b"*d",
    b"<<: *d",
    b"- ",
    b"{",
    b"]",
    b"? ",
)
mutations = st.lists(
    st.tuples(
        st.integers(0, len(SAMPLE)),
        st.sampled_from(["cut", "put", "repeat"]),
        st.sampled_from(_BITS) | st.binary(max_size=4),
        st.integers(0, 40),
    ),
    min_size=1,
    max_size=4,
)


def mutated(changes: list[tuple[int, str, bytes, int]]) -> bytes:
    data = SAMPLE
    for at, what, bits, length in changes:
        piece = {"cut": b"", "put": bits, "repeat": data[at : at + length] * 3}[what]
        data = data[:at] + piece + data[at + (0 if what == "put" else length) :]
    return data


def check_load(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lab.yaml")
        path.write_bytes(data)
        try:
            spec = load(path)
        except RequestError as refused:
            for error in refused.every():
                assert isinstance(error, RequestError)
                assert error.what
                assert error.cure
                assert error.where.startswith(str(path))
        else:
            names = [spec.name, *spec.guests, *spec.networks, *spec.images]
            assert all(map(values.is_label, names))


def test_the_sample_is_right() -> None:
    assert len(spec_of(yaml.safe_load(SAMPLE)).guests) == 4


@settings(thorough, max_examples=300)
@given(mutations)
def test_a_spec_with_mistakes_is_read_or_refused(
    changes: list[tuple[int, str, bytes, int]],
) -> None:
    check_load(mutated(changes))


@thorough
@given(st.binary(max_size=60) | st.binary(max_size=20).map(lambda each: b"name: lab\n" + each))
def test_any_bytes(data: bytes) -> None:
    check_load(data)


# --- what libvirt hears ------------------------------------------------------------------------


@thorough
@given(specs)
def test_what_libvirt_gets(data: dict[str, Any]) -> None:
    desired = desired_of(data)
    for network in desired.networks if desired else ():
        element = record_text.network_element(record.of_network(network, "/s.yaml"))
        xml = tree.with_record(render.network_xml(network), element)
        schemas.check("network", xml, "a network")
        root = etree.fromstring(xml)
        assert checked_name(root.findtext("name")) == network.libvirt_name
        assert record_text.read_network(root) is not None
    for guest in map(samples.with_image, desired.guests if desired else ()):
        element = record_text.guest_element(record.of_guest(guest, "/s.yaml"))
        xml = tree.with_record(render.domain_xml(guest), element)
        schemas.check("domain", xml, "a guest")
        root = etree.fromstring(xml)
        assert checked_name(root.findtext("name")) == guest.domain
        assert root.findtext("./os/cmdline") == (guest.boot.cmdline if guest.boot else None)
        found = record_text.read_guest(root)
        assert found is not None, "what virtkit writes it takes for its own"
        assert found.requested == guest.requested
        for volume in guest.volumes:
            told = etree.fromstring(render.guest_volume_xml(volume))
            assert checked_name(told.findtext("name")) == volume.name
            assert volume.key == f"{samples.FOLDER}/{volume.name}"


# --- what a guest's first boot reads ------------------------------------------------------------

key_lines = (st.sampled_from(EVIL) | any_text).map(lambda each: f"{samples.PUBLIC} {each}")


@thorough
@given(specs, st.lists(key_lines, max_size=3))
def test_seeds(data: dict[str, Any], keys: list[str]) -> None:
    desired = desired_of(data)
    for guest in desired.guests if desired else ():
        given = replace(samples.KEYS, authorized=keys)
        files = seed.files(guest, given, "one")
        found = yaml.safe_load(files["user-data"])
        assert found == seed.user_data(guest, given)
        for key, value in guest.spec.cloud_init.items():
            if not isinstance(value, (dict, list)):
                assert found[key] == value
        told = yaml.safe_load(files["network-config"])
        assert told == seed.network_config(guest.interfaces)
        for index, each in enumerate(guest.interfaces):
            assert told["ethernets"][f"nic{index}"]["match"] == {"macaddress": each.mac}
        assert yaml.safe_load(files["meta-data"])["local-hostname"] in (
            guest.name,
            _odd(guest.name),
        )


def _odd(name: str) -> object:
    """A name that YAML takes for a number: cloud-init makes a text of it again."""
    return yaml.safe_load(name)


#: A root of its own for the script: nothing in it but programs, read-only, and what it writes.
ROOT = """
set -eu
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir -p usr etc/ssh etc/sudoers.d run tmp dev var/lib root stubs proc
mount --bind /usr usr
mount -o remount,bind,ro usr
for each in bin sbin lib lib64; do
    if [ -L "/$each" ]; then
        ln -s "usr/$each" "$each"
    elif [ -d "/$each" ]; then
        mkdir "$each"
        mount --bind "/$each" "$each"
        mount -o remount,bind,ro "$each"
    fi
done
for each in useradd hostname mount findmnt resize2fs chown; do
    printf '#!/bin/sh\\nprintf "%%s\\\\0" %s "$@" >>/ran\\necho >>/ran\\n' "$each" >"stubs/$each"
    chmod 755 "stubs/$each"
done
: >etc/fstab
printf '%s:x:1000:1000::/home/me:/bin/sh\\n' "$2" >etc/passwd
mkdir -p home/me
cat >script
chroot . /usr/bin/env -i PATH=/stubs:/usr/bin:/bin /bin/sh /script >/dev/null
tar -c --one-file-system --exclude ./bin --exclude ./sbin --exclude './lib*' --exclude ./usr .
"""


def runs_namespaces() -> bool:
    line = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def first_boot(script: str, user: str, into: Path) -> Path:
    """The files that a first boot leaves behind."""
    with tempfile.TemporaryDirectory() as mount:
        line = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ROOT, "sh"]
        done = subprocess.run(
            [*line, mount, user], input=script.encode(), capture_output=True, check=True
        )
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    subprocess.run(["tar", "-x", "-C", into, "-f", "-"], input=done.stdout, check=True)
    return into


@pytest.mark.skipif(not runs_namespaces(), reason="user namespaces are off: sysctl")
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(specs, st.lists(key_lines, max_size=3))
def test_the_first_boot_runs_no_value(data: dict[str, Any], lines: list[str]) -> None:
    guest = data["guests"][next(iter(data["guests"]))]
    guest.pop("cloud_init", None)
    desired = desired_of(data)
    if desired is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "keys.pub").write_text("\n".join([samples.PUBLIC, *lines]))
        spec = (
            spec_of(data)
            .guests[desired.guests[0].name]
            .model_copy(update={"ssh_keys": ("keys.pub",)})
        )
        guest = replace(desired.guests[0], spec=spec, source_folder=folder)
        found: list[str] = []
        with contextlib.suppress(RequestError):  # where one of the lines is no key
            found = access.authorized_keys(guest)
        keys = replace(samples.KEYS, authorized=found)
        script = seed.files(guest, keys, "it's one")["virtkit.sh"]
        root = first_boot(script, guest.spec.user, Path(folder) / "root")
        assert not list(root.rglob("pwned*"))
        read = lambda path: (root / path).read_text()  # noqa: E731
        assert read("etc/hostname") == f"{guest.name}\n"
        assert guest.fqdn in read("etc/hosts").split()
        assert read("var/lib/virtkit/instance") == "it's one\n"
        assert read("etc/ssh/ssh_host_ed25519_key") == samples.KEYS.host_private
        assert read("etc/ssh/ssh_host_ed25519_key.pub") == f"{samples.KEYS.host_public}\n"
        allowed = read("home/me/.ssh/authorized_keys").splitlines()
        assert allowed == ["# virtkit: begin", *keys.authorized, "# virtkit: end"]
        if guest.spec.user != "root":
            assert read("etc/sudoers.d/90-virtkit") == f"{guest.spec.user} ALL=(ALL) NOPASSWD:ALL\n"
        for index, each in enumerate(guest.interfaces, 1):
            lines = read(f"run/systemd/network/50-virtkit-{index}.network").splitlines()
            assert f"MACAddress={each.mac}" in lines
            assert not each.domain or f"Domains={each.domain}" in lines
        mounts = [each for each in guest.volumes if each.mount and guest.driver.mounts_disks]
        assert read("etc/fstab").splitlines() == [
            f"LABEL={each.label} {each.mount} ext4 defaults,nofail,x-virtkit 0 2" for each in mounts
        ]
        ran = read("ran").replace("\0", " ")
        assert set(ran.split("\n")) <= {
            "",
            f"hostname {guest.name} ",
            "findmnt -n -o SOURCE / ",
            "resize2fs  ",
            f"chown {guest.spec.user}: /home/me/.ssh ",
            f"chown {guest.spec.user}: /home/me/.ssh/authorized_keys.virtkit ",
            *(f"mount {each.mount} " for each in mounts),
            *(f"findmnt -n {each.mount} " for each in mounts),
            *(f"findmnt -n -o SOURCE {each.mount} " for each in mounts),
        }


def test_a_value_that_a_shell_would_run_leaves_a_trace(tmp_path: Path) -> None:
    """The harness itself: what it looks for is what an injected command does."""
    root = first_boot("echo $(touch /pwned) >/etc/hostname; useradd x", "me", tmp_path / "root")
    assert (root / "pwned").exists()
    assert (root / "ran").read_bytes() == b"useradd\0x\0\n"
    assert not Path("/pwned").exists()


# --- what other programs read -------------------------------------------------------------------

folders = any_text.map(lambda each: "/" + each.replace("${", "$")) | st.sampled_from(
    [f"/{each}" for each in EVIL if "\n" not in each and "${" not in each]
)


def options_of(text: str, host: str) -> dict[str, str]:
    """What ssh reads out of a configuration."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(text)
        file.flush()
        told = subprocess.run(
            ["ssh", "-G", "-F", file.name, host], capture_output=True, text=True, check=True
        )
    return dict(each.split(" ", 1) for each in told.stdout.splitlines() if " " in each)


def as_ini(text: str) -> Any:
    """A value as Ansible's ini plugin reads it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@settings(thorough, max_examples=60)
@given(
    folders, passing(values.user_name, "admin"), labels, st.lists(passing(values.group_name, "web"))
)
def test_inventory_and_ssh_config(folder: str, user: str, name: str, groups: list[str]) -> None:
    one = access.Login(
        guest=name,
        alias=f"lab-{name}",
        address="10.0.0.5",
        user=user,
        identities=(Path(folder, "id"),),
        known_hosts=Path(folder, "known_hosts"),
    )
    meant = ansible.ssh_variables(one)
    named = tuple(dict.fromkeys(map(ansible.group_name, groups)))
    static = ansible.static([ansible.InventoryGuest(name, meant, named)])
    first, *rest = static.split("\n")
    host, *pairs = shlex.split(first)
    found = {key: as_ini(value) for key, _, value in (each.partition("=") for each in pairs)}
    assert (host, found) == (name, meant)
    assert [each for each in rest if each] == [
        line for group in sorted(named) for line in (f"[{group}]", name)
    ]
    block = "\n".join([f"Host {one.alias}", *(f"  {k} {v}" for k, v in one.options())])
    found = options_of(block, one.alias)
    assert found["user"] == user
    assert found["hostname"] == "10.0.0.5"
    assert found["hostkeyalias"] == one.alias
    assert found["stricthostkeychecking"] == "true"
    assert found["userknownhostsfile"].strip('"') == str(one.known_hosts)
    assert found["identitiesonly"] == "yes"
    assert "proxycommand" not in found
    line = ["ssh", "-G", *access.ssh_command(one, [])[1:]]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert f"user {user}\n" in told
    assert "proxycommand" not in told


def test_known_hosts_are_a_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    text = "name: lab\nguests: {a: {type: qemu}, b: {type: lxc}}\n"
    records = [each.record for each in samples.up(samples.desired_of(text), "/s").guests.values()]
    path = access.write_known_hosts("lab", records)
    assert path.read_text() == "".join(f"lab-{n} {samples.KEYS.host_public}\n" for n in "ab")
