"""Ansible's check mode: before, between and after edits it says exactly what then happens. What an
edit left undone would be more than the next one's check may say.

All steps run in one playbook, on guests as tiny as can be; the tests look at what it answered.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_programs import LOCAL_PLAY, ansible
from integration.lab import domains, laboratory, tiny_disk

SPEC: dict[str, Any] = {
    "name": "checked",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.79.0/24"}, "back": {"cidr": "10.94.80.0/24"}},
    "defaults": {
        "image": "tiny",
        "type": "qemu",
        "memory": "32MiB",
        "networks": ["front"],
        "ready": "none",
    },
    "guests": {"a": {}, "b": {"after": ["a"]}},
}
#: Each step's edit of the guests' keys (a guest that is None goes), the module's options, a command
#: of somebody else's before it, and what happens to which object; None where it is refused.
STEPS: dict[str, tuple[dict[str, Any], dict[str, Any], str, dict[str, str] | None]] = {
    "made": (
        *({}, {}, ""),
        {
            "image/tiny": "create",
            "network/front": "create",
            "guest/a": "create",
            "guest/b": "create",
        },
    ),
    "in the record only": (
        {"a": {"groups": ["x"]}, "b": {"vars": {"size": 80}}},
        *({}, ""),
        {"guest/a": "update"},
    ),
    "waits for a restart": ({"a": {"memory": "48MiB"}}, {}, "", {"guest/a": "update"}),
    "restarted": ({}, {"restart": True}, "", {"guest/a": "update"}),
    "a guest": (
        {"c": {"networks": []}},
        *({}, ""),
        {"image/tiny": "create", "guest/c": "create"},
    ),
    "stopped by others": (
        {},
        {},
        "virsh -q -c qemu:///system destroy checked-a",
        {"guest/a": "start"},
    ),
    "one of two": (
        {"a": {"autostart": True}, "b": {"autostart": True}},
        *({"guests": ["a"]}, ""),
        {"guest/a": "update"},
    ),
    "a disk": (
        {"b": {"disks": [{"name": "data", "size": "1MiB"}]}},
        *({}, ""),
        {"guest/b": "update"},
    ),
    "gone, and nobody agreed": ({"c": None}, {}, "", None),
    "gone": ({}, {"consent": True}, "", {"guest/c": "delete"}),
    "nothing": ({}, {}, "", {}),
    "all removed": (
        *({}, {"state": "absent"}, ""),
        {"guest/a": "delete", "guest/b": "delete", "network/front": "delete"},
    ),
}

PLAY = f"""{LOCAL_PLAY}
    - include_tasks: step.yml
      loop: "{{{{ lookup('file', 'steps.json') | from_json }}}}"
      loop_control: {{loop_var: step}}
    - copy: {{content: "{{{{ results | to_json }}}}", dest: results.json}}
"""
#: `raw` and anchors, as a module's own start takes longer than what is done here.
TASKS = """
- raw: cp {{ step.file }} checked.yaml; {{ step.before }} >&2; {{ all_xml }}
  register: before
  vars: &all
    all_xml: >-
      for d in $(virsh -q -c qemu:///system list --all --name); do
      virsh -c qemu:///system dumpxml $d; virsh -c qemu:///system dumpxml --inactive $d; done
- virtkit.core.virtkit_environment: &options
    spec: checked.yaml
    state: "{{ step.options.state | default(omit) }}"
    guests: "{{ step.options.guests | default(omit) }}"
    restart: "{{ step.options.restart | default(omit) }}"
    consent: "{{ step.options.consent | default(omit) }}"
  check_mode: true
  diff: true
  ignore_errors: true
  register: checked
- raw: "{{ all_xml }}"
  register: between
  vars: *all
- virtkit.core.virtkit_environment: *options
  diff: true
  ignore_errors: true
  register: ran
- set_fact:
    results: "{{ results | default({}) | combine({step.name: found}) }}"
  vars:
    found:
      {untouched: "{{ before.stdout == between.stdout }}",
       checked: "{{ checked }}", ran: "{{ ran }}"}
"""


def steps(folder: Path) -> Iterator[dict[str, Any]]:
    """The steps for the playbook, each with its spec in a file."""
    spec = copy.deepcopy(SPEC)
    for name, (edit, options, before, _) in STEPS.items():
        for guest, fields in edit.items():
            if fields is None:
                del spec["guests"][guest]
            else:
                spec["guests"].setdefault(guest, {}).update(fields)
        file = folder / f"{name}.json".replace(" ", "-")
        file.write_text(json.dumps(spec))
        yield {"name": name, "file": str(file), "options": options, "before": before or "true"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the modules answered, by step."""
    folder = tmp_path_factory.mktemp("checked")
    (folder / "tiny.raw").write_bytes(tiny_disk())
    (folder / "steps.json").write_text(json.dumps([*steps(folder)]))
    (folder / "play.yml").write_text(PLAY)
    (folder / "step.yml").write_text(TASKS)
    with laboratory(folder, "checked", json.dumps(SPEC)):
        ansible("ansible-playbook", "play.yml", folder=folder)
        yield json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("step", STEPS)
def test_check_mode_says_what_then_happens(results: dict[str, Any], step: str) -> None:
    found = results[step]
    checked, ran = found["checked"], found["ran"]
    expected = STEPS[step][3]
    assert found["untouched"], "check mode changed something"
    assert (checked["changed"], checked["diff"]) == (ran["changed"], ran["diff"])
    assert checked["plan"] == ran["plan"]
    if expected is None:
        assert checked["failed"]
        assert checked["error"] == ran["error"]
        assert checked["error"]["code"] == 2
        assert "--yes" in checked["error"]["cure"]
        assert "guest/c" in checked["msg"]
        return
    assert not ran.get("failed"), ran
    changes = {each["object"]: each["action"] for each in checked["plan"]["changes"]}
    assert changes == expected
    assert checked["changed"] == bool(expected)
    assert len(checked["diff"]) == len(expected)
    did = {each["object"] for each in ran.get("report", {"steps": []})["steps"]} - {"pool"}
    assert did == set(expected), "what it did is what the plan said"


def test_what_is_there_afterwards(results: dict[str, Any]) -> None:
    states = results["gone"]["ran"]["guests"]
    assert {each["name"]: each["state"] for each in states} == {"a": "running", "b": "running"}
    assert [each for each in domains() if each.startswith("checked-")] == []


def test_diff_tells_fields(results: dict[str, Any]) -> None:
    (diff,) = results["waits for a restart"]["ran"]["diff"]
    assert diff["before_header"] == "guest/a on local"
    assert diff["before"] != diff["after"]
    assert "memory: " in diff["before"]


def test_a_spec_in_the_task(tmp_path: Path) -> None:
    """As a map and as text, with paths from `chdir`; nothing of it stays."""
    (tmp_path / "tiny.raw").write_bytes(tiny_disk())
    spec = SPEC | {"name": "within", "networks": {}, "guests": {"a": {"networks": []}}}
    text = json.dumps(spec, indent=1)
    task = {"chdir": str(tmp_path)}
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "tasks": [
                {"virtkit.core.virtkit_environment": task | {"spec": spec}},
                {"virtkit.core.virtkit_environment": task | {"spec": text, "state": "absent"}},
            ],
        }
    ]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    done = ansible("ansible-playbook", "play.yml", folder=tmp_path)
    told = [each for each in done.stdout.splitlines() if each.endswith(": [localhost]")]
    assert told == ["changed: [localhost]"] * 2
    assert [each for each in domains() if each.startswith("within-")] == []
