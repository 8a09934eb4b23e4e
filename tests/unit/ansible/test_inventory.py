"""Inventory and ssh options: what other programs read out of them is what was meant."""

from __future__ import annotations

import ast
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit import ansible
from virtkit.access import Login, scp_command, ssh_command
from virtkit.ansible import InventoryGuest
from virtkit.api import Inventory
from virtkit.drivers import DRIVERS
from virtkit.errors import RequestError
from virtkit.state.record import GuestRecord

#: Beside our Python: the extra `ansible`.
ANSIBLE = shutil.which("ansible-inventory", path=f"{Path(sys.executable).parent}:{os.defpath}")
ODD = '/home/o\'brien & co/my $(id) "keys" #1; 100%d'


def login(name: str = "web", folder: str = "/keys", **fields: object) -> Login:
    values: dict[str, object] = {
        "guest": name,
        "alias": f"lab-{name}",
        "address": "10.20.0.10",
        "user": "admin",
        "identities": (Path(folder, "id_ed25519"),),
        "known_hosts": Path(folder, "known_hosts"),
    }
    return Login(**values | fields)


def guest(name: str = "web", *groups: str, **fields: object) -> InventoryGuest:
    return InventoryGuest(name, ansible.ssh_variables(login(name, **fields)), groups)


def hosts_of(text: str) -> dict[str, dict[str, str]]:
    """The host lines of a static inventory, split as Ansible's ini plugin does."""
    hosts = {}
    for line in text.split("\n\n")[0].splitlines():
        name, *pairs = shlex.split(line, comments=True)
        hosts[name] = dict(each.split("=", 1) for each in pairs)
    return hosts


paths = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12).map(
    lambda text: "/" + text
)


def read(text: str) -> Any:
    """A value as Ansible's ini plugin reads it."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@given(paths)
def test_paths_survive(folder: str) -> None:
    (variables,) = hosts_of(ansible.static([guest(folder=folder)])).values()
    meant = ansible.ssh_variables(login(folder=folder))
    assert {key: read(value) for key, value in variables.items()} == meant


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"]))
    | st.sampled_from(["None", "08", "1_0", "b'x'", "[1]", "{}", " 1", "{{ x }}", "!vault |", "#"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
    max_leaves=8,
)


@given(values)
def test_values_survive(value: Any) -> None:
    text = ansible.static([InventoryGuest("web", {"value": value}, ("a",))])
    assert len(text.splitlines()) == 4, "a guest is one line, whatever its variables"
    assert read(hosts_of(text)["web"]["value"]) == value


def test_static() -> None:
    text = ansible.static([guest("web", "all_of", "front"), guest("db", "all_of")])
    head, *groups = text.rstrip("\n").split("\n\n")
    assert [line.split()[0] for line in head.splitlines()] == ["web", "db"]
    assert groups == ["[all_of]\nweb\ndb", "[front]\nweb"]
    assert ansible.static([]) == "\n"


def test_script() -> None:
    listing = Inventory((guest("web", "front"), guest("db"))).script()
    assert listing["all"] == {"children": ["ungrouped", "front"]}
    assert listing["ungrouped"] == {"hosts": ["db"]}
    assert listing["front"] == {"hosts": ["web"]}
    assert listing["_meta"]["hostvars"]["web"]["ansible_host"] == "10.20.0.10"
    assert json.loads(json.dumps(listing)) == listing


def test_variables_of_one() -> None:
    inventory = Inventory((guest("web"),))
    assert inventory.variables("web") == ansible.ssh_variables(login("web"))
    assert inventory.variables("nobody") == {}
    assert "ansible_ssh_private_key_file" not in ansible.ssh_variables(login(identities=()))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        *(("web-servers", "web_servers"), ("a_b", "a_b"), ("A1", "A1"), ("-", "_")),
        ("type_xen-pv", "type_xen_pv"),
        ("model_shared kernel (system level)", "model_shared_kernel_system_level"),
    ],
)
def test_names_of_groups(text: str, name: str) -> None:
    assert ansible.group_name(text) == name


def record(type: str, **fields: Any) -> GuestRecord:
    requested = {"groups": ["web-servers"]}
    values = {"environment": "lab", "guest": "web", "type": type, "spec": "/lab.yaml"}
    return GuestRecord(**values, requested=requested, image_identity="", image=None, **fields)


def test_groups_and_facts() -> None:
    guest_record = record("lxc")
    assert ansible.groups(guest_record, DRIVERS["lxc"], "rack-1") == (
        *("web_servers", "environment_lab", "type_lxc", "model_shared_kernel_system_level"),
        "host_rack_1",
    )
    variables = ansible.guest_variables(guest_record, DRIVERS["lxc"], "rack-1", "/lab.yaml")
    assert variables["virtkit_model"] == "shared kernel (system level)"
    assert (variables["virtkit_domain"], variables["virtkit_spec"]) == ("lab-web", "/lab.yaml")
    assert "virtkit_spec" not in ansible.guest_variables(guest_record, DRIVERS["lxc"], "local", "")


@pytest.mark.parametrize(
    ("type", "ids", "plugin", "host"),
    [
        *(("qemu", 0, "community.libvirt.libvirt_qemu", "lab-web"),),
        ("kvm", 0, "community.libvirt.libvirt_qemu", "lab-web"),
        ("lxc", 0, "community.libvirt.libvirt_lxc", "lab-web"),
        ("lxc", 100000, "virtkit.core.exec", "web"),
    ],
)
def test_ways_through_the_hypervisor(type: str, ids: int, plugin: str, host: str) -> None:
    guest_record = record(type, ids=ids)
    variables = ansible.hypervisor_variables(
        guest_record, DRIVERS[type], "qemu:///system", "/lab.yaml"
    )
    assert variables is not None
    assert (variables["ansible_connection"], variables["ansible_host"]) == (plugin, host)


@pytest.mark.parametrize("ids", [0, 100000])
def test_ways_through_the_hypervisor_of_another_host(ids: int) -> None:
    """Ansible's own plugins know nothing of how virtkit gets there."""
    line = (record("lxc", ids=ids), DRIVERS["lxc"], "lxc+unix:///system", "/lab.yaml")
    variables = ansible.hypervisor_variables(*line, remote=True)
    assert variables is not None
    assert (variables["ansible_connection"], variables["ansible_host"]) == (
        "virtkit.core.exec",
        "web",
    )
    for type in ("qemu", "uml"):
        guest_record = record(type)
        assert (
            ansible.hypervisor_variables(guest_record, DRIVERS[type], "x", "/x", remote=True)
            is None
        )


def test_no_way_through_the_hypervisor() -> None:
    for type in ("uml", "xen-pv"):
        assert (
            ansible.hypervisor_variables(record(type), DRIVERS[type], "xen:///", "/x.yaml") is None
        )
    guest_record = record("lxc", ids=100000)
    assert ansible.hypervisor_variables(guest_record, DRIVERS["lxc"], "lxc:///system", "") is None


def test_what_a_file_cannot_hold_is_refused() -> None:
    secret = {"deep": [{"__ansible_vault": "$ANSIBLE_VAULT;1.1;AES256\n61"}]}
    web = InventoryGuest("web", {"secret": secret}, ())
    with pytest.raises(RequestError, match=r"guest web: .* encrypted") as refused:
        ansible.static([web])
    assert "virtkit.core.virtkit" in refused.value.cure
    assert ansible.script([web])["_meta"]["hostvars"]["web"]["secret"] == secret


def test_guests_of_two_hosts_at_one_address_share_no_connection() -> None:
    """Ansible's are named by address, port and user, as mostly are the caller's own."""
    ways = [
        ansible.ssh_variables(login(proxy=f"ssh -W [%h]:%p {host}")).get("ansible_control_path")
        for host in ("h1", "h2")
    ]
    assert len({*ways, None}) == 3
    assert all(str(each).startswith("%(directory)s/") for each in ways)
    assert "ansible_control_path" not in ansible.ssh_variables(login())
    (variables,) = hosts_of(ansible.static([guest(proxy="ssh -W [%h]:%p h1")])).values()
    assert variables["ansible_control_path"] == ways[0]
    assert "ControlPath" not in variables["ansible_ssh_common_args"]


@pytest.mark.skipif(not shutil.which("ssh"), reason="ssh reads its own options: openssh-client")
def test_the_callers_shared_connections_are_none_of_a_guests_on_another_host(
    tmp_path: Path,
) -> None:
    (tmp_path / "own").write_text("Host *\n  ControlMaster auto\n  ControlPath ~/%r@%h:%p\n")
    for way, shared in ((login(proxy="ssh -W [%h]:%p h1"), False), (login(), True)):
        block = "\n".join(f"  {key} {value}" for key, value in way.options())
        (tmp_path / "config").write_text(f"Host lab-web\n{block}\nInclude {tmp_path / 'own'}\n")
        line = ["ssh", "-G", "-F", tmp_path / "config", "lab-web"]
        settings = subprocess.run(line, capture_output=True, text=True, check=True).stdout
        assert ("admin@10.20.0.10:22" in settings) is shared


@pytest.mark.skipif(not shutil.which("ssh"), reason="ssh reads its own options: openssh-client")
@pytest.mark.parametrize(
    "folder",
    ["/keys", "/my keys", "/100%d", "/a%h b", "/a\tb", '/o"b', "/o'b", "/a#b", "/a #b", "/a\\b"],
)
def test_ssh_reads_what_we_meant(folder: str) -> None:
    way = login(folder=folder)
    line = ssh_command(way, ["true"])
    printed = subprocess.run(["ssh", "-G", *line[1:]], capture_output=True, text=True, check=True)
    options = dict(each.split(" ", 1) for each in printed.stdout.splitlines() if " " in each)
    assert options["hostkeyalias"] == "lab-web"
    assert options["user"] == "admin"
    assert options["stricthostkeychecking"] == "true"
    assert options["userknownhostsfile"].strip('"') == f"{folder}/known_hosts"
    # -G tells this one as it is written, tokens and all
    meant = folder.replace("%", "%%")
    assert options["identityfile"].strip('"') == f"{meant}/id_ed25519"
    # Ansible splits this variable as a shell would
    common = shlex.split(ansible.ssh_variables(way)["ansible_ssh_common_args"])
    printed = subprocess.run(
        ["ssh", "-G", *common, "10.20.0.10"], capture_output=True, text=True, check=True
    )
    assert "hostkeyalias lab-web\n" in printed.stdout
    assert f"{folder}/known_hosts" in printed.stdout


def test_the_callers_settings_for_all_hosts_change_nothing(tmp_path: Path) -> None:
    """Ansible, and whoever has our lines on top of ~/.ssh/config, read those settings, too."""
    own = "Host *\n  Port 2222\n  User me\n  ProxyCommand false\n  HostKeyAlias other\n"
    way = login()
    lines = "".join(f"  {key} {value}\n" for key, value in way.options())
    (tmp_path / "config").write_text(f"Host lab-web\n{lines}\n{own}")
    (tmp_path / "own").write_text(own)
    common = shlex.split(ansible.ssh_variables(way)["ansible_ssh_common_args"])
    for line in (
        ["-F", tmp_path / "config", "lab-web"],
        ["-F", tmp_path / "own", *common, "-oUser=admin", "10.20.0.10"],
    ):
        done = subprocess.run(["ssh", "-G", *line], capture_output=True, text=True, check=True)
        settings = done.stdout.splitlines()
        assert {"hostname 10.20.0.10", "port 22", "user admin", "hostkeyalias lab-web"} <= {
            *settings
        }
        assert not any(each.startswith("proxycommand ") for each in settings)


#: As people have it in ~/.ssh/config; ssh takes of each option what it reads first.
OWN = """
Host 10.* *.corp lab-*
  ProxyJump bastion.example.org
  User corp
  IdentityFile ~/.ssh/corp
  IdentitiesOnly no
  PreferredAuthentications password,keyboard-interactive
Host *
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
"""


@pytest.mark.skipif(not shutil.which("ssh"), reason="ssh reads its own options: openssh-client")
def test_settings_of_the_callers_change_nothing(tmp_path: Path) -> None:
    """By virtkit itself, by Ansible, and by what `ssh-config` says above the caller's own."""
    way = login()
    own = tmp_path / "config"
    own.write_text(OWN)
    block = tmp_path / "block"
    block.write_text("\n".join([f"Host {way.alias}", *(f"  {k} {v}" for k, v in way.options())]))
    both = tmp_path / "both"
    both.write_text(f"Include {block}\n{OWN}")
    ansible_args = shlex.split(ansible.ssh_variables(way)["ansible_ssh_common_args"])
    virtkits = ssh_command(way, [])[1:-1]
    assert virtkits[:2] == ["-F", "/dev/null"]
    for line in (
        [*virtkits, way.address],
        ["-F", own, *virtkits[2:], way.address],
        ["-F", own, *ansible_args, "-l", way.user, way.address],
        ["-F", both, way.alias],
    ):
        settings = subprocess.run(
            ["ssh", "-G", *line], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert [each for each in settings if each.startswith(("proxyjump", "proxyc"))] == []
        assert {
            "user admin",
            "hostname 10.20.0.10",
            "hostkeyalias lab-web",
            "identitiesonly yes",
            "preferredauthentications publickey",
            "stricthostkeychecking true",
            "userknownhostsfile /keys/known_hosts",
        } <= {*settings}
        assert settings.index("identityfile /keys/id_ed25519") >= 0


def test_ssh_command() -> None:
    assert ssh_command(login(), [])[-1] == "10.20.0.10"
    words = ["printf", "%s\n", "a b", "$(id)"]
    *_, separator, line = ssh_command(login(), words)
    assert separator == "--"
    assert shlex.split(line) == words
    assert ssh_command(login(), ["a; b"])[-1] == "a; b", "one word is a line for the guest's shell"


def test_scp_command() -> None:
    six = login(address="fd00::5")
    assert scp_command(six, "-file", ":/tmp/x")[-3:] == ["--", "./-file", "[fd00::5]:/tmp/x"]
    assert scp_command(login(), "log-12:30.txt", ":/tmp/")[-2:] == [
        "./log-12:30.txt",
        "10.20.0.10:/tmp/",
    ]
    assert scp_command(login(), ":/tmp/a:b", "12:30")[-2:] == ["10.20.0.10:/tmp/a:b", "./12:30"]
    for plain in ("/a:b", "a/b:c", "../x", "x y"):
        assert scp_command(login(), plain, ":/tmp/")[-2] == plain
    assert scp_command(login(), ":/tmp/x", ".")[-2:] == ["10.20.0.10:/tmp/x", "."]


#: Variables that a form could lose or change, and what Ansible is to make of them.
ODD_VARIABLES: dict[str, Any] = {
    "number": 8080,
    "text": "8080",
    "truth": True,
    "word": "True",
    "nothing": None,
    "words": "None",
    "real": 1.5,
    "empty": "",
    "list": [],
    "map": {},
    "octal": "010",
    "nan": "nan",
    "nested": {"a": [1, "2", {"b": None, "c": "x y"}], "é": "ü ☃", "q": 'it\'s "q"'},
    "lines": "a\nb\n",
    "spaces": "  x ",
    "hash": "a # b",
    "equals": "a=b c=d",
    "tab": "a\tb",
    "back": "a\\b\\n",
    "separators": "a\u2028b\x85c",
    "quote": "'",
    "double": '"',
    "face": "😀",
    "vault": "!vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  61",
    "date": "2001-01-01",
    "large": 10**20,
    "bytes": "b'x'",
    "python": "{'a': 1}",
    "mac": "52:54:00:11:22:33",
    "template": "{{ number + 1 }}",
    "unsafe": {"__ansible_unsafe": "{{ nope }} {% endraw %} x"},
}
MEANT = ODD_VARIABLES | {"template": 8081, "unsafe": "{{ nope }} {% endraw %} x"}
PLAY = """
- hosts: web
  gather_facts: false
  tasks:
    - copy: {content: "{{ read | to_json }}", dest: "{{ playbook_dir }}/read"}
      vars: {read: {%s}}
"""


def ansible_program(name: str, *words: str | Path, home: Path) -> str:
    """What one of Ansible's programs prints; it warns of nothing."""
    environment = {**os.environ, "HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home)}
    assert ANSIBLE is not None
    done = subprocess.run(
        [Path(ANSIBLE).with_name(name), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment | {"ANSIBLE_DEPRECATION_WARNINGS": "0"},
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "WARNING" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(not ANSIBLE, reason="needs ansible-core: pip install virtkit[ansible]")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["inventory", "hosts.yaml", "script"])
def test_ansible_reads_it(name: str, tmp_path: Path) -> None:
    """The same, in both forms and under every name of the file."""
    web = guest("web", "front", folder=ODD)
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    variables = {**web.variables, **local, **ODD_VARIABLES}
    guests = [replace(web, variables=variables), guest("db", folder="/my keys")]
    path = tmp_path / name
    path.write_text(ansible.static(guests))
    if name == "script":
        (tmp_path / "answer").write_text(json.dumps(ansible.script(guests)))
        path.write_text('#!/bin/sh\ncat "${0%/*}/answer"\n')
        path.chmod(0o755)
    listed = json.loads(ansible_program("ansible-inventory", "-i", path, "--list", home=tmp_path))
    hostvars = listed["_meta"]["hostvars"]
    assert hostvars["db"] == ansible.ssh_variables(login("db", "/my keys"))
    assert listed["front"] == {"hosts": ["web"]}
    assert {key: hostvars["web"][key] for key in web.variables if key not in local} == {
        key: value for key, value in web.variables.items() if key not in local
    }
    play = PLAY % ", ".join(f"{key}: '{{{{ {key} }}}}'" for key in ODD_VARIABLES)
    (tmp_path / "play.yml").write_text(play)
    ansible_program("ansible-playbook", "-i", path, tmp_path / "play.yml", home=tmp_path)
    assert json.loads((tmp_path / "read").read_text()) == MEANT
