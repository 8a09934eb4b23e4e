"""Playbooks that `up` runs in guests: when, what is seen of it, and what is left of it."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.lab import VIRTKIT, Lab, laboratory, run, until, virsh
from lxml import etree

from virtkit.state import record, record_text

SECRET = "swordfish-7391"
SPEC = """
name: played
networks: {front: {cidr: 10.94.51.0/24}}
defaults: {type: lxc, memory: 128MiB, networks: [front]}
guests:
  one:
    groups: [a-group]
    vars: {said: "on {{ inventory_hostname }}", yes_: yes, token: SECRET}
    playbooks: [site.yml]
    ready: {command: test -e /etc/said}
  other: {playbooks: [other.yml], vars: {token: SECRET}}
  plain: {}
""".replace("SECRET", SECRET)
SITE = """
- hosts: a_group
  become: true
  tasks:
    - name: Say it
      ansible.builtin.template: {src: said.j2, dest: /etc/said, mode: "0644"}
    - name: Use the secret
      ansible.builtin.shell: 'echo {{ token }} >/etc/token'
      changed_when: false
      no_log: true
"""
OTHER = """
- hosts: all
  gather_facts: false
  roles: [own]
"""
ROLE = """
- name: Show who is there
  ansible.builtin.debug: {msg: "{{ groups['all'] | sort | join(' ') }}"}
- name: The role's own
  ansible.builtin.command: RUN
  changed_when: false
"""
#: Tests that break something mend it.
GOOD = "/bin/true"


def role(lab: Lab, command: str) -> None:
    (lab.folder / "shared/own/tasks/main.yml").write_text(ROLE.replace("RUN", command))


@pytest.fixture(autouse=True)
def good(lab: Lab) -> Iterator[None]:
    """What a test breaks is mended after it, whatever came of it."""
    yield
    role(lab, GOOD)
    lab.write(SPEC)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, temporary = tmp_path_factory.mktemp("played"), tmp_path_factory.mktemp("temporary")
    (folder / "templates").mkdir()
    (folder / "templates/said.j2").write_text("{{ said }} {{ yes_ }}\n")
    (folder / "site.yml").write_text(SITE)
    (folder / "other.yml").write_text(OTHER)
    (folder / "shared/own/tasks").mkdir(parents=True)
    # as Ansible beside the spec would take it
    (folder / "ansible.cfg").write_text("[defaults]\nroles_path = shared\n")
    # what PATH has first is not what is run
    (folder / "bin").mkdir()
    for name in ("ansible-playbook", "ansible", "python3"):
        (folder / "bin" / name).write_text("#!/bin/sh\nexit 66\n")
        (folder / "bin" / name).chmod(0o755)
    settings = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(temporary)}
    with laboratory(folder, "played", SPEC, **settings) as lab:
        role(lab, GOOD)
        report = lab.json("up")
        assert report["ok"], report
        yield lab


def provisioned(lab: Lab, guest: str) -> record.Provisioned:
    xml = virsh("dumpxml", f"{lab.name}-{guest}", uri="lxc:///system")
    found = record_text.read_guest(etree.fromstring(xml))
    assert found is not None
    assert found.provisioned is not None
    return found.provisioned


def played(report: dict[str, Any]) -> set[str]:
    """The guests whose playbooks a run came to."""
    return {each["object"] for each in report["steps"] if each["step"] == "playbooks"}


def planned(lab: Lab) -> dict[str, Any]:
    return {
        each["object"]: {r["field"]: (r["cause"], r["effect"]) for r in each["reasons"]}
        for each in lab.json("plan")["changes"]
    }


def test_they_ran_before_the_guest_was_ready(lab: Lab) -> None:
    assert lab.sh("one", "cat /etc/said /etc/token") == f"on one True\n{SECRET}"
    found = provisioned(lab, "one")
    assert (found.playbooks, found.ended, found.changed) == (("site.yml",), "ok", 1)
    shown = lab.status("one")["playbooks"]
    assert (shown["names"], shown["ended"], shown["at"]) == (["site.yml"], "ok", found.at)
    assert lab.status("plain")["playbooks"] is None
    assert "one other plain" in lab.virtkit("logs", "--playbooks", "other").out
    assert planned(lab) == {}
    assert lab.json("up")["steps"] == []


def test_what_they_read_makes_them_run_again(lab: Lab) -> None:
    """And nothing else is done to the guest, whose life goes on."""
    life = virsh("domid", "played-one", uri="lxc:///system")
    (lab.folder / "templates/said.j2").write_text("again {{ said }}\n")
    change = {"playbooks": ("spec", "live")}
    assert planned(lab) == {"guest/one": change, "guest/other": change}, "beside both"
    report = lab.json("up")
    assert [each["step"] for each in report["steps"] if each["object"] == "guest/one"] == [
        *("login", "playbooks", "ready", "finish")
    ]
    assert lab.sh("one", "cat /etc/said") == "again on one"
    assert planned(lab) == {}
    lab.write(SPEC.replace('said: "on', 'said: "now on'))
    assert planned(lab) == {"guest/one": change}
    assert played(lab.json("up")) == {"guest/one"}
    assert lab.sh("one", "cat /etc/said") == "again now on one"
    assert virsh("domid", "played-one", uri="lxc:///system") == life
    lab.write(SPEC)
    lab.virtkit("up")


def test_one_that_fails_leaves_the_others_and_is_run_again(lab: Lab) -> None:
    role(lab, "sh -c 'echo no such luck >&2; exit 3'")
    report = lab.json("up", code=1)
    (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert (failed["object"], failed["step"]) == ("guest/other", "playbooks")
    assert "own : The role's own (other): " in failed["error"]["why"]
    assert "no such luck" in failed["error"]["why"]
    assert f"virtkit logs {lab.spec} --playbooks other" in failed["error"]["cure"]
    assert lab.status("one")["ready"]
    assert "no such luck" in lab.virtkit("logs", "--playbooks", "other").out
    assert planned(lab) == {"guest/other": {"playbooks": ("unfinished", "live")}}
    assert played(lab.json("up", code=1)) == {"guest/other"}
    role(lab, GOOD)
    assert played(lab.json("up")) == {"guest/one", "guest/other"}, "beside both"
    assert planned(lab) == {}


def test_killed_it_takes_ansible_along_and_is_run_again(lab: Lab) -> None:
    role(lab, "sleep 600")
    with lab.starts("up", "--json") as started:
        assert until(lambda: lab.sh("other", "pgrep -f '[s]leep 600' || true"), 60)
        assert _ansible(lab.folder)
        started.send_signal(signal.SIGKILL)
    assert until(lambda: not _ansible(lab.folder), 10)
    assert provisioned(lab, "other").ended == ""
    assert planned(lab)["guest/other"]["playbooks"] == ("unfinished", "live")
    role(lab, GOOD)
    assert "guest/other" in played(lab.json("up"))
    assert planned(lab) == {}
    lab.sh("other", "pkill -f '[s]leep 600' || true")


def _ansible(folder: Path) -> list[str]:
    """The processes that run a playbook of this folder's."""
    done = subprocess.run(
        ["pgrep", "-f", f"ansible playbook .*{folder}"], capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_interrupted_it_ends_within_seconds(lab: Lab) -> None:
    role(lab, "sleep 600")
    with lab.starts("provision", "other", "--json") as started:
        assert until(lambda: lab.sh("other", "pgrep -f '[s]leep 600' || true"), 60)
        started.send_signal(signal.SIGINT)
        assert started.wait(20) == 130
    assert until(lambda: not _ansible(lab.folder), 10)
    role(lab, GOOD)
    assert played(lab.json("up")) == {"guest/other"}
    lab.sh("other", "pkill -f '[s]leep 600' || true")


def test_provision(lab: Lab) -> None:
    began = provisioned(lab, "one").at
    assert until(lambda: played(lab.json("provision")) == {"guest/one", "guest/other"}, 1)
    assert provisioned(lab, "one").at >= began
    assert played(lab.json("provision", "one")) == {"guest/one"}
    assert planned(lab) == {}
    assert "has no playbooks" in lab.errors("provision", "plain")[0]
    lab.virtkit("stop", "other")
    assert "guest other is stopped" in lab.errors("provision", "other")[0]
    lab.virtkit("start", "other")
    assert planned(lab) == {}


def test_without_waiting_they_are_left_to_the_next_run(lab: Lab) -> None:
    (lab.folder / "templates/said.j2").write_text("later\n")
    assert played(lab.json("up", "--no-wait")) == set()
    assert set(planned(lab)) == {"guest/one", "guest/other"}
    assert played(lab.json("up")) == {"guest/one", "guest/other"}


def test_a_guest_that_is_off(lab: Lab) -> None:
    lab.virtkit("stop", "one")
    (lab.folder / "templates/said.j2").write_text("while it was off\n")
    assert planned(lab)["guest/one"]["playbooks"] == ("spec", "next-boot")
    assert "guest/one" in played(lab.json("up"))
    assert lab.sh("one", "cat /etc/said") == "while it was off"
    assert planned(lab) == {}


def test_bad_playbooks_are_told_before_anything_is_touched(lab: Lab) -> None:
    for text, what in (
        ("- hosts: all\n  tasks: [\n", "this is not valid YAML"),
        ("hosts: all\n", "is not a playbook"),
        (None, "there is no playbook"),
    ):
        path = lab.folder / "new.yml"
        path.write_text(text) if text else path.unlink()
        lab.write(SPEC.replace("[other.yml]", "[other.yml, new.yml]"))
        for verb in ("plan", "up", "provision"):
            (error,) = lab.json(verb, code=2)["errors"]
            assert what in error["what"]
            assert ("new.yml:3" if "valid" in what else f"{lab.spec}:11") in error["where"]
            assert error["cure"]
    lab.write(SPEC)


def test_no_python_in_the_guest(lab: Lab) -> None:
    lab.sh("other", "for each in /usr/bin/python3*; do mv $each $each.gone; done")
    report = lab.json("provision", "other", code=1)
    (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert failed["error"]["what"] == "guest other has no Python, and Ansible needs it there"
    assert planned(lab) == {}, "nothing was begun"
    lab.sh("other", "for each in /usr/bin/*.gone; do mv $each ${each%.gone}; done")
    lab.virtkit("provision", "other")


def test_vaults(lab: Lab) -> None:
    """Beside the spec, as Ansible finds them there; the password by its option or its variable."""
    password, vaulted = lab.folder / "password", lab.folder / "group_vars/a_group.yml"
    password.write_text("open sesame\n")
    vaulted.parent.mkdir()
    vaulted.write_text("said: from the vault\n")
    vault = VIRTKIT.with_name("ansible-vault")
    run(vault, "encrypt", "--vault-password-file", password, vaulted)
    lab.write(SPEC.replace('said: "on {{ inventory_hostname }}", ', ""))
    (lab.folder / "templates/said.j2").write_text("{{ said }}\n")
    report = lab.json("up", code=1)
    (failed,) = [each for each in report["steps"] if each["outcome"] == "failed"]
    assert "no vault secrets" in failed["error"]["why"]
    lab.virtkit("up", "--vault-password-file", password)
    assert lab.sh("one", "cat /etc/said") == "from the vault"
    with_password = {**lab.settings, "ANSIBLE_VAULT_PASSWORD_FILE": str(password)}
    Lab(lab.folder, lab.name, with_password).virtkit("provision", "one")
    (error,) = lab.errors("up", "--vault-password-file", "nowhere")
    assert "no vault password file" in error
    shutil.rmtree(vaulted.parent)
    lab.write(SPEC)
    lab.virtkit("up")


def test_secrets_stay_where_they_belong(lab: Lab) -> None:
    """The token is in the spec and in the guest, and nowhere else."""
    home = Path.home() / ".local/share/virtkit/played"
    logs = list(home.glob("played-*.log"))
    assert len(logs) == 2
    for each in logs:
        assert stat.S_IMODE(each.stat().st_mode) == 0o600
        assert SECRET not in each.read_text()
    for guest in ("one", "other"):
        assert SECRET not in virsh("dumpxml", f"played-{guest}", uri="lxc:///system")
    assert SECRET not in lab.virtkit("plan", "--debug").out
    assert not list(Path(lab.settings["TMPDIR"]).iterdir()), "the runs' folders are gone"
    assert not list(lab.folder.glob("**/artifacts"))
