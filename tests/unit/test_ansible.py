"""Inventory and ssh options: what other programs read out of them is what was meant."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtkit import ansible
from virtkit.api import Inventory
from virtkit.reach import Login, scp_command, ssh_command

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


def hosts_of(text: str) -> dict[str, dict[str, str]]:
    """The host lines of a static inventory, split as Ansible's ini plugin does."""
    found = {}
    for line in text.split("\n\n")[0].splitlines():
        name, *pairs = shlex.split(line, comments=True)
        found[name] = dict(each.split("=", 1) for each in pairs)
    return found


paths = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12).map(
    lambda text: "/" + text
)


@given(paths)
def test_values_survive(folder: str) -> None:
    one = login(folder=folder)
    assert hosts_of(ansible.static([one], {})) == {"web": ansible.variables(one)}


def test_static() -> None:
    text = ansible.static([login("web"), login("db")], {"front": ["web"], "all-of": ["web", "db"]})
    head, *groups = text.rstrip("\n").split("\n\n")
    assert [line.split()[0] for line in head.splitlines()] == ["web", "db"]
    assert groups == ["[all-of]\nweb\ndb", "[front]\nweb"]
    assert ansible.static([], {}) == "\n"


def test_script() -> None:
    found = Inventory((login("web"), login("db")), {"front": ["web"]}).script()
    assert found["all"] == {"children": ["ungrouped", "front"]}
    assert found["ungrouped"] == {"hosts": ["db"]}
    assert found["front"] == {"hosts": ["web"]}
    assert found["_meta"]["hostvars"]["web"]["ansible_host"] == "10.20.0.10"
    assert json.loads(json.dumps(found)) == found


def test_variables_of_one() -> None:
    found = Inventory((login("web"),), {})
    assert found.variables("web") == ansible.variables(login("web"))
    assert found.variables("nobody") == {}
    assert "ansible_ssh_private_key_file" not in ansible.variables(login(identities=()))


@pytest.mark.skipif(not shutil.which("ssh"), reason="ssh reads its own options: openssh-client")
@pytest.mark.parametrize(
    "folder",
    ["/keys", "/my keys", "/100%d", "/a%h b", "/a\tb", '/o"b', "/o'b", "/a#b", "/a #b", "/a\\b"],
)
def test_ssh_reads_what_we_meant(folder: str) -> None:
    one = login(folder=folder)
    line = ssh_command(one, ["true"])
    told = subprocess.run(["ssh", "-G", *line[1:]], capture_output=True, text=True, check=True)
    options = dict(each.split(" ", 1) for each in told.stdout.splitlines() if " " in each)
    assert options["hostkeyalias"] == "lab-web"
    assert options["user"] == "admin"
    assert options["stricthostkeychecking"] == "true"
    assert options["userknownhostsfile"].strip('"') == f"{folder}/known_hosts"
    # -G tells this one as it is written, tokens and all
    meant = folder.replace("%", "%%")
    assert options["identityfile"].strip('"') == f"{meant}/id_ed25519"
    # Ansible splits this variable as a shell would
    common = shlex.split(ansible.variables(one)["ansible_ssh_common_args"])
    told = subprocess.run(
        ["ssh", "-G", *common, "10.20.0.10"], capture_output=True, text=True, check=True
    )
    assert "hostkeyalias lab-web\n" in told.stdout
    assert f"{folder}/known_hosts" in told.stdout


def test_the_callers_settings_for_all_hosts_change_nothing(tmp_path: Path) -> None:
    """Ansible, and whoever has our lines on top of ~/.ssh/config, read those settings, too."""
    own = "Host *\n  Port 2222\n  User me\n  ProxyCommand false\n  HostKeyAlias other\n"
    one = login()
    lines = "".join(f"  {key} {value}\n" for key, value in one.options())
    (tmp_path / "config").write_text(f"Host lab-web\n{lines}\n{own}")
    (tmp_path / "own").write_text(own)
    common = shlex.split(ansible.variables(one)["ansible_ssh_common_args"])
    for line in (
        ["-F", tmp_path / "config", "lab-web"],
        ["-F", tmp_path / "own", *common, "-oUser=admin", "10.20.0.10"],
    ):
        done = subprocess.run(["ssh", "-G", *line], capture_output=True, text=True, check=True)
        told = done.stdout.splitlines()
        assert {"hostname 10.20.0.10", "port 22", "user admin", "hostkeyalias lab-web"} <= {*told}
        assert not any(each.startswith("proxycommand ") for each in told)


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
    one = login()
    own = tmp_path / "config"
    own.write_text(OWN)
    block = tmp_path / "block"
    block.write_text("\n".join([f"Host {one.alias}", *(f"  {k} {v}" for k, v in one.options())]))
    both = tmp_path / "both"
    both.write_text(f"Include {block}\n{OWN}")
    ansible_args = shlex.split(ansible.variables(one)["ansible_ssh_common_args"])
    virtkits = ssh_command(one, [])[1:-1]
    assert virtkits[:2] == ["-F", "/dev/null"]
    for line in (
        [*virtkits, one.address],
        ["-F", own, *virtkits[2:], one.address],
        ["-F", own, *ansible_args, "-l", one.user, one.address],
        ["-F", both, one.alias],
    ):
        told = subprocess.run(
            ["ssh", "-G", *line], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert [each for each in told if each.startswith(("proxyjump", "proxyc"))] == []
        assert {
            "user admin",
            "hostname 10.20.0.10",
            "hostkeyalias lab-web",
            "identitiesonly yes",
            "preferredauthentications publickey",
            "stricthostkeychecking true",
            "userknownhostsfile /keys/known_hosts",
        } <= {*told}
        assert told.index("identityfile /keys/id_ed25519") >= 0


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


@pytest.mark.skipif(not ANSIBLE, reason="needs ansible-core: pip install virtkit[ansible]")
@pytest.mark.parametrize("name", ["inventory", "hosts.txt"])
def test_ansible_reads_it(name: str, tmp_path: Path) -> None:
    one, other = login("web", ODD), login("db", "/my keys")
    groups = {"front": ["web"]}
    path = tmp_path / name
    path.write_text(ansible.static([one, other], groups))
    environment = {**os.environ, "HOME": str(tmp_path), "ANSIBLE_LOCAL_TEMP": str(tmp_path)}
    told = subprocess.run(
        [ANSIBLE, "-i", str(path), "--list"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    found = json.loads(told.stdout)
    meant = ansible.script([one, other], groups)
    assert found["_meta"]["hostvars"] == meant["_meta"]["hostvars"]
    assert found["front"] == meant["front"]
