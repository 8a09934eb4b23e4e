"""virtkit from Ansible, on a virtual machine and a container: playbooks, modules, inventory.

Ansible has a caller whose own ssh settings would lead it elsewhere, and an agent full of keys.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_programs import COLLECTIONS, LOCAL_PLAY, PLAYBOOKS, ansible, recap
from integration.lab import VIRTKIT, Lab, laboratory, run

SPEC = """
name: driven
networks: {{front: {{cidr: 10.94.78.0/24}}}}
defaults:
  networks: [front]
  vars: {{port: 8080, greeting: "hello {{{{ inventory_hostname }}}}"}}
guests:
  vm: {{type: qemu, memory: 512MiB, groups: [web-servers]}}
  box:
    type: lxc
    memory: 256MiB
    groups: [web-servers, first]
    vars:
      nested: {{list: [1, "2", null], "ü": 'it''s "q"'}}
      text: "8080"
      secret: {secret}
"""
GUESTS = ["box", "vm"]
PASSWORD = "of the vault"
#: As people have it in ~/.ssh/config.
SETTINGS = "Host 10.*\n  ProxyJump bastion.example.org\n  User corp\n  Port 2222\n"
COMMUNITY = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
COMMUNITY = COMMUNITY / "virtkit-tests/collections"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The socket of an agent with more keys than sshd lets anybody try."""
    folder = tmp_path_factory.mktemp("agent")
    socket = folder / "agent"
    running = subprocess.Popen(
        ["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        for number in range(8):
            key = folder / f"key-{number}"
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
            run("ssh-add", "-q", key, env=os.environ | {"SSH_AUTH_SOCK": str(socket)})
        yield str(socket)
    finally:
        running.terminate()
        running.wait()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, agent: str) -> Iterator[Lab]:
    """Nothing is up yet; with the caller's settings, and sources for the inventory plugin."""
    folder = tmp_path_factory.mktemp("driven")
    for place in (Path.home() / "config", Path.home() / ".ssh/config"):
        place.parent.mkdir(exist_ok=True, mode=0o700)
        place.write_text(SETTINGS)
    (folder / "password").write_text(PASSWORD)
    line = ["encrypt_string", "--vault-password-file", "password", "open sesame"]
    secret = ansible("ansible-vault", *line, folder=folder).stdout.rstrip("\n")
    head = "plugin: virtkit.core.virtkit\nspec: driven.yaml\n"
    (folder / "inventory.virtkit.yml").write_text(head)
    (folder / "hypervisor.virtkit.yml").write_text(head + "hypervisor: true\n")
    with laboratory(folder, "driven", SPEC.format(secret=secret)) as lab:
        yield lab


@pytest.fixture(scope="module")
def first(lab: Lab) -> dict[str, int]:
    """What up.yml counted where nothing was there."""
    return recap(playbook(lab, "up.yml", "-e", "spec=driven.yaml"))


def playbook(lab: Lab, name: str | Path, *words: str, **options: Any) -> Any:
    """Runs one of our playbooks from the spec's folder."""
    return ansible("ansible-playbook", PLAYBOOKS / name, *words, folder=lab.folder, **options)


def module_results(lab: Lab, source: str, *words: str, **settings: str) -> dict[str, Any]:
    """What each guest answers to a module, by ``ansible all``."""
    tree = lab.folder / f"tree-{len(list(lab.folder.glob('tree-*')))}"
    ansible(
        *("ansible", "-i", source, "--tree", tree, "--vault-password-file", "password"),
        *("all", *words),
        folder=lab.folder,
        **settings,
    )
    return {path.name: json.loads(path.read_text()) for path in sorted(tree.iterdir())}


def test_up_twice(lab: Lab, first: dict[str, int]) -> None:
    assert (first["changed"], first["failed"]) == (1, 0)
    again = playbook(lab, "up.yml", "-e", "spec=driven.yaml")
    assert recap(again)["changed"] == 0
    assert "10.94.78." in again.stdout, "it says where they are"
    assert recap(playbook(lab, "plan.yml", "-e", "spec=driven.yaml"))["changed"] == 0
    status = playbook(lab, "status.yml", "-e", "spec=driven.yaml")
    assert "lxc, running, ready, 10.94.78." in status.stdout


def test_ssh_whatever_the_caller_has_set(lab: Lab, first: dict[str, int], agent: str) -> None:
    found = module_results(lab, "inventory.virtkit.yml", "-m", "ping", SSH_AUTH_SOCK=agent)
    assert {name: each["ping"] for name, each in found.items()} == dict.fromkeys(GUESTS, "pong")


def test_through_the_hypervisor(lab: Lab, first: dict[str, int]) -> None:
    if not (COMMUNITY / "ansible_collections/community/libvirt").is_dir():
        pytest.skip("community.libvirt is not in the cache: run tests/community-libvirt")
    paths = {"ANSIBLE_COLLECTIONS_PATH": f"{COLLECTIONS}:{COMMUNITY}"}
    source = "hypervisor.virtkit.yml"
    found = module_results(lab, source, "-m", "ping", **paths)
    assert {name: each["ping"] for name, each in found.items()} == dict.fromkeys(GUESTS, "pong")
    found = module_results(lab, source, "-l", "box", "-m", "command", "-a", "id -u", **paths)
    assert found["box"]["stdout"] == "0"
    listed = listing(lab, source, **paths)["_meta"]["hostvars"]
    assert {name: each["ansible_connection"] for name, each in listed.items()} == {
        "box": "virtkit.core.exec",
        "vm": "community.libvirt.libvirt_qemu",
    }


def listing(lab: Lab, source: str | Path, **settings: str) -> dict[str, Any]:
    line = ["-i", source, "--list", "--vault-password-file", "password"]
    return json.loads(ansible("ansible-inventory", *line, folder=lab.folder, **settings).stdout)


def test_plugin_and_script_say_the_same(lab: Lab, first: dict[str, int]) -> None:
    script = lab.folder / "script"
    script.write_text(f"#!/bin/sh\nexec {VIRTKIT} inventory {lab.spec} --list\n")
    script.chmod(0o755)
    found = listing(lab, "inventory.virtkit.yml")
    assert found == listing(lab, script)
    assert {name for name in found if name not in ("_meta", "all", "ungrouped")} == {
        *("environment_driven", "first", "host_local", "type_lxc", "type_qemu", "web_servers"),
        *("model_shared_kernel_system_level", "model_full_virtualization_emulated_hosted"),
    }
    assert sorted(found["web_servers"]["hosts"]) == GUESTS


def test_variables(lab: Lab, first: dict[str, int]) -> None:
    what = "msg={{ [port, greeting, nested, text, secret] }}"
    found = module_results(lab, "inventory.virtkit.yml", "-l", "box", "-m", "debug", "-a", what)
    nested = {"list": [1, "2", None], "ü": 'it\'s "q"'}
    assert found["box"]["msg"] == [8080, "hello box", nested, "8080", "open sesame"]
    refused = lab.virtkit("inventory", code=2)
    assert "guest box: a file in INI form can't hold encrypted variables" in refused.err


def test_cache_and_constructed_groups(lab: Lab, first: dict[str, int]) -> None:
    source = lab.folder / "cached.virtkit.yml"
    text = """
plugin: virtkit.core.virtkit
spec: driven.yaml
strict: true
cache: true
cache_plugin: jsonfile
cache_connection: cache
compose: {more: port + 1}
groups: {machines: virtkit_type == "qemu"}
keyed_groups: [{key: virtkit_host, prefix: rack}]
"""
    source.write_text(text)
    found = listing(lab, source)
    assert found["machines"]["hosts"] == ["vm"]
    assert sorted(found["rack_local"]["hosts"]) == GUESTS
    assert found["_meta"]["hostvars"]["box"]["more"] == 8081
    source.write_text(text + "executable: /nowhere/virtkit\n")
    assert listing(lab, source) == found, "it is not asked again"
    (path,) = (lab.folder / "cache").iterdir()
    assert "open sesame" not in path.read_text()


TASKS = """
    - register: listed
      virtkit_guest: {spec: driven.yaml, guests: [box], command: [printf, "%s.", a b, $x]}
    - register: shell
      virtkit_guest: {spec: driven.yaml, guests: [vm], command: "cat; id -u", stdin: "given\\n"}
    - register: failing
      ignore_errors: true
      virtkit_guest: {spec: driven.yaml, guests: [box], command: "echo no >&2; exit 7"}
    - register: skipped
      check_mode: true
      virtkit_guest: {spec: driven.yaml, guests: [box], command: "touch /root/trace"}
    - {register: printed, virtkit_guest: {spec: driven.yaml, console: true}}
    - {register: checked, check_mode: true, virtkit_guest: &stop
        {spec: driven.yaml, guests: [box], state: stopped}}
    - {register: stopped, virtkit_guest: *stop}
    - {register: still, virtkit_guest: *stop}
    - {register: refused, ignore_errors: true, check_mode: true, virtkit_guest: &pause
        {spec: driven.yaml, guests: [box], state: paused}}
    - {register: refused_too, ignore_errors: true, virtkit_guest: *pause}
    - {register: started, virtkit_guest: {spec: driven.yaml, guests: [box], state: running}}
    - copy:
        dest: answers.json
        content: "{{ dict(names | zip(names | map('extract', vars))) | to_json }}"
      vars:
        names: [listed, shell, failing, skipped, printed, checked, stopped, still, refused,
          refused_too, started]
"""


def test_guests(lab: Lab, first: dict[str, int]) -> None:
    text = LOCAL_PLAY + TASKS.replace("virtkit_guest:", "virtkit.core.virtkit_guest:")
    (lab.folder / "guests.yml").write_text(text)
    ansible("ansible-playbook", "guests.yml", folder=lab.folder)
    found = json.loads((lab.folder / "answers.json").read_text())
    assert [each["name"] for each in found["printed"]["guests"]] == ["vm", "box"]
    assert found["listed"]["stdout"] == "a b.$x."
    assert found["shell"]["stdout"] == "given\n0\n"
    assert (found["failing"]["rc"], found["failing"]["stderr"]) == (7, "no\n")
    assert found["failing"]["failed"]
    assert found["skipped"]["skipped"]
    assert lab.sh("box", "ls /root/trace || true") == ""
    assert "login:" in found["printed"]["console"]["vm"]
    assert found["printed"]["console"]["box"]
    assert [found[each]["changed"] for each in ("checked", "stopped", "still")] == [
        True,
        True,
        False,
    ]
    assert found["stopped"]["guests"][0]["state"] == "stopped"
    assert found["refused"]["msg"] == found["refused_too"]["msg"]
    assert "guest box is stopped: there is nothing to pause" in found["refused"]["msg"]
    assert f"virtkit start -f {lab.spec.resolve()} box" in found["refused"]["msg"]
    assert found["started"]["guests"][0]["ready"], "a state is returned once it is reached"


@pytest.mark.long
def test_site(lab: Lab, first: dict[str, int]) -> None:
    line = ["-i", "inventory.virtkit.yml", "-e", "spec=driven.yaml"]
    line += ["--vault-password-file", "password", "-l", "localhost,box"]
    assert recap(playbook(lab, "site.yml", *line), "box")["changed"] == 1
    again = playbook(lab, "site.yml", *line)
    assert [recap(again, host)["changed"] for host in ("box", "localhost")] == [0, 0]
    model = "shared kernel (system level)"
    assert lab.sh("box", "cat /etc/motd") == f"box of driven: {model}"


def test_rolling(lab: Lab, first: dict[str, int]) -> None:
    """One guest restarted, then made anew: its root is gone."""
    booted = lab.sh("box", "cat /proc/sys/kernel/random/boot_id; stat -c %Z /proc/1")
    line = ["-e", "spec=driven.yaml", "-e", "guests=@first"]
    assert recap(playbook(lab, "rolling.yml", *line))["changed"] == 1
    assert lab.sh("box", "cat /proc/sys/kernel/random/boot_id; stat -c %Z /proc/1") != booted
    lab.sh("box", "touch /root/trace")
    assert recap(playbook(lab, "rolling.yml", *line, "-e", "reimage=true"))["changed"] == 2
    assert lab.sh("box", "ls /root/trace || true") == ""
    assert lab.status("box")["ready"]


def test_down(lab: Lab, first: dict[str, int]) -> None:
    line = ["down.yml", "-e", "spec=driven.yaml"]
    assert recap(playbook(lab, *line))["changed"] == 1
    assert recap(playbook(lab, *line))["changed"] == 0
    assert lab.left() == []
