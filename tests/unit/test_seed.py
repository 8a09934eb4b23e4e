"""What a guest's first boot is told; read with the reader that cloud-init uses (PyYAML)."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import samples
import yaml
from hypothesis import given
from hypothesis import strategies as st

from virtkit import seed
from virtkit.state.desired import Guest
from virtkit.xml import render

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=10)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below),
    max_leaves=10,
)
maps = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def guest_of(**keys: object) -> Guest:
    return samples.guest_of(json.dumps({"name": "lab", "guests": {"web": keys}}))


def user_data(guest: Guest) -> dict[str, Any]:
    text = seed.files(guest, samples.KEYS, "one")["user-data"]
    first, _, body = text.partition("\n")
    assert first == "#cloud-config"
    data: dict[str, Any] = yaml.safe_load(body)
    return data


@given(maps, maps)
def test_merge(own: dict[str, Any], users: dict[str, Any]) -> None:
    before = json.dumps([own, users])
    merged = seed.merge(own, users)
    assert json.dumps([own, users]) == before, "neither side is changed"
    assert merged.keys() == own.keys() | users.keys()
    for key, value in merged.items():
        mine, theirs = own.get(key), users.get(key)
        if key not in users:
            assert value == mine
        elif isinstance(mine, list) and isinstance(theirs, list):
            assert value == mine + theirs
        elif isinstance(mine, dict) and isinstance(theirs, dict):
            assert value == seed.merge(mine, theirs)
        else:
            assert value == theirs
    assert seed.merge(own, {}) == own
    assert seed.merge({}, users) == users


def test_the_spec_adds_to_lists_and_wins_elsewhere() -> None:
    cloud = {"users": [{"name": "eve"}], "ssh_pwauth": True, "packages": ["nginx"]}
    result = user_data(guest_of(user="admin", cloud_init=cloud))
    assert [each["name"] for each in result["users"]] == ["admin", "eve"]
    assert result["ssh_pwauth"] is True
    assert result["packages"] == ["nginx"]
    assert result["ssh_keys"]["ed25519_private"] == samples.KEYS.host_private


KEY = "ssh-ed25519 AAAAmine me@example.org"
FORMS: list[dict[str, Any]] = [
    {"users": [{"name": "admin", "shell": "/bin/zsh", "ssh_authorized_keys": [KEY]}]},
    {"users": [{"name": "admin", "shell": "/bin/zsh", "ssh-authorized-keys": KEY}]},
    {"users": [{"name": "default", "shell": "/bin/zsh", "ssh_authorized_keys": {"a": KEY}}]},
    {"users": {"admin": {"shell": "/bin/zsh", "ssh_authorized_keys": [KEY]}}},
    {"user": {"shell": "/bin/zsh", "ssh_authorized_keys": [KEY]}},
    {
        "user": {"name": "admin", "shell": "/bin/zsh"},
        "users": ["default", {"name": "admin", "ssh_authorized_keys": [KEY]}],
    },
]


@pytest.mark.parametrize("cloud", FORMS)
def test_what_is_said_of_the_login_is_laid_over_it(cloud: dict[str, Any]) -> None:
    guest = guest_of(user="admin", cloud_init=cloud)
    result = user_data(guest)
    (login,) = result["users"]
    assert (login["name"], login["shell"], login["lock_passwd"]) == ("admin", "/bin/zsh", True)
    assert login["ssh_authorized_keys"] == [*samples.KEYS.authorized, KEY]
    assert result["user"] == login, "cloud-init's default user, who gets its password and keys"
    files = seed.files(guest, samples.KEYS, "one")
    assert seed.keys_in(files) == samples.KEYS, "the spec's keys are not virtkit's"


OTHERS: list[tuple[object, list[object]]] = [
    ([{"name": "eve"}], [{"name": "eve"}]),
    (["default", "eve"], ["eve"]),
    ("admin, eve,bob", ["eve", "bob"]),
    ([["eve", "admin"], "bob,default"], ["eve", "bob"]),
    (
        {"eve": {"uid": 7}, "bob": True, "tom": False, "default": True},
        [{"name": "eve", "uid": 7}, "bob"],
    ),
    ([{"snapuser": "eve@example.org"}], [{"snapuser": "eve@example.org"}]),
    ([], []),
]


@pytest.mark.parametrize(("users", "others"), OTHERS)
def test_other_users_come_beside_the_login(users: object, others: list[object]) -> None:
    result = user_data(guest_of(user="admin", cloud_init={"users": users, "packages": ["x"]}))
    assert result["users"] == [result["user"], *others]
    assert result["user"]["ssh_authorized_keys"] == list(samples.KEYS.authorized)


@pytest.mark.parametrize("user", ["eve", {"name": "eve"}])
def test_another_default_user_stays_that(user: object) -> None:
    result = user_data(guest_of(user="admin", cloud_init={"user": user, "users": ["default"]}))
    assert result["user"] == user
    assert [each if isinstance(each, str) else each["name"] for each in result["users"]] == [
        "admin",
        "default",
    ]


def test_a_password_does_not_expire_unless_that_is_said() -> None:
    """One that has expired lets nobody in by key, and so not virtkit."""
    result = user_data(guest_of(cloud_init={"password": "x"}))
    assert (result["password"], result["chpasswd"]) == ("x", {"expire": False})
    cloud = {"chpasswd": {"expire": True, "list": ["virtkit:x"]}}
    assert user_data(guest_of(cloud_init=cloud))["chpasswd"] == cloud["chpasswd"]
    assert "chpasswd" not in user_data(guest_of(cloud_init={"packages": ["x"]}))


def test_root_as_the_login_is_let_in() -> None:
    assert user_data(guest_of(user="root"))["disable_root"] is False
    assert "disable_root" not in user_data(guest_of(user="admin"))


@given(st.text())
def test_text_reaches_cloud_init_as_it_is(text: str) -> None:
    guest = guest_of(cloud_init={"write_files": [{"path": "/x", "content": "y"}]})
    cloud = {"write_files": [{"path": "/x", "content": text}]}
    odd = replace(guest, spec=guest.spec.model_copy(update={"cloud_init": cloud}))
    assert user_data(odd)["write_files"][0]["content"] == text


def test_what_skips_cloud_init() -> None:
    assert set(seed.files(guest_of(), samples.KEYS, "one")) == {
        "meta-data",
        "user-data",
        "network-config",
        "virtkit.sh",
    }
    full = seed.files(guest_of(cloud_init={"packages": ["nginx"]}), samples.KEYS, "one")
    assert "virtkit.sh" not in full, "all that users add goes to cloud-init itself"


def test_an_instance_for_each_life() -> None:
    files = seed.files(guest_of(), samples.KEYS, "one-life")
    meta = yaml.safe_load(files["meta-data"])
    assert meta == {"instance-id": "one-life", "local-hostname": "web"}
    assert "one-life" in files["virtkit.sh"]


def test_mounts() -> None:
    disks = [
        {"name": "data", "size": "1GiB", "mount": "/srv/data"},
        {"name": "more", "size": "1GiB", "mount": "/srv/more"},
    ]
    machine, container = guest_of(type="qemu", disks=disks), guest_of(type="lxc", disks=disks)
    assert [each[:2] for each in user_data(machine)["mounts"]] == [
        ["LABEL=data", "/srv/data"],
        ["LABEL=more", "/srv/more"],
    ]
    assert "mounts" not in user_data(container), "libvirt mounts a container's"
    script = seed.files(container, samples.KEYS, "one")["virtkit.sh"]
    assert ">>/etc/fstab" not in script
    assert "resize2fs" not in script
    script = seed.files(machine, samples.KEYS, "one")["virtkit.sh"]
    assert "LABEL=data /srv/data ext4" in script


def test_the_script_is_shell_whatever_stands_in_it() -> None:
    keys = replace(samples.KEYS, authorized=["ssh-ed25519 AAAA $(touch /tmp/x)`id`'\"; rm -rf /"])
    guest = guest_of(user="admin", disks=[{"name": "data", "size": "1GiB", "mount": "/srv/a+b@c"}])
    evil = replace(
        guest,
        environment="$(id)",
        spec=guest.spec.model_copy(update={"name": "a'b $(id)", "user": "$(id)"}),
    )
    for each in (guest, evil):
        script = seed.files(each, keys, "it's $(one)")["virtkit.sh"]
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
        assert f"echo {shlex.quote(each.name)} >/etc/hostname" in script
        assert f"user={shlex.quote(each.spec.user)}\n" in script
        lines = script.splitlines()
        assert keys.authorized[0] in lines, "inside a here-document that expands nothing"
        assert "<<VIRTKIT" not in script


def test_a_key_of_cloud_init_stays_where_ssh_keys_had_it_too() -> None:
    cloud = {"users": [{"name": "admin", "ssh_authorized_keys": [KEY]}]}
    script = seed.update(guest_of(user="admin", cloud_init=cloud), [], {}, ["AAAAmine", "AAAAold"])
    assert "grep -vF -e AAAAold " in script


@pytest.mark.parametrize("existing", ["", "ssh-ed25519 AAAAhand me\n"])
def test_a_run_that_was_cut_off_leaves_no_key_behind(existing: str, tmp_path: Path) -> None:
    name = pwd.getpwuid(os.geteuid()).pw_name
    (tmp_path / "passwd").write_text(f"{name}:x:0:0::{tmp_path}:/bin/sh\n")
    keys = tmp_path / ".ssh" / "authorized_keys"
    keys.parent.mkdir()
    keys.with_name("authorized_keys.virtkit").write_text("ssh-ed25519 AAAAold a\n")
    if existing:
        keys.write_text(f"{existing}ssh-ed25519 AAAAformer b\n")
    wanted = ["ssh-ed25519 AAAAnew c"]
    script = render.text("seed/keys.sh.j2", former=["AAAAformer"], authorized_keys=wanted)
    script = script.replace("/etc/passwd", str(tmp_path / "passwd"))
    subprocess.run(["sh", "-euc", f"user={name}\n{script}"], check=True)
    marked = f"# virtkit: begin\n{wanted[0]}\n# virtkit: end\n"
    assert keys.read_text() == f"{existing}{marked}"
    assert keys.stat().st_mode & 0o777 == 0o600


def test_a_wire_has_nobody_of_virtkits_to_ask() -> None:
    """Who serves there, if anybody, is a guest: a boot does not wait for an answer."""
    text = """
name: lab
networks:
  wire: {mode: isolated, cidr: false}
  quiet: {mode: isolated, cidr: false, dhcp: false}
guests: {web: {networks: [wire, quiet]}}
"""
    result = seed.files(samples.guest_of(text), samples.KEYS, "one")
    wire, quiet = yaml.safe_load(result["network-config"])["ethernets"].values()
    assert wire["dhcp4"] is True
    assert wire["optional"] is True
    assert quiet["dhcp4"] is False
    assert "optional" not in quiet
    assert result["virtkit.sh"].count("DHCP=ipv4") == 1
    assert result["virtkit.sh"].count("DHCP=no") == 1


def test_no_network() -> None:
    result = seed.files(guest_of(networks=[]), samples.KEYS, "one")
    assert yaml.safe_load(result["network-config"]) == {"version": 2, "ethernets": {}}
    assert "[Match]" not in result["virtkit.sh"]
