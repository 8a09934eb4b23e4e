#!/usr/bin/python
# Copyright: the virtkit maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: virtkit_environment
short_description: Bring up, remove or plan the guests of a virtkit spec
version_added: 0.2.0
author: the virtkit maintainers (!UNKNOWN)
description:
  - Makes the virtual machines and containers of a spec, changes them to what it says, and removes
    them, through libvirt.
  - Runs the command C(virtkit) on the machine that the task is for, mostly V(localhost), and
    answers with its JSON.
  - The task is changed exactly where the plan of C(virtkit plan) was not empty.
options:
  state:
    description:
      - V(present) is C(virtkit up). The task ends once the guests are ready.
      - V(absent) is C(virtkit down). Kept disks and images stay.
      - V(planned) is C(virtkit plan) and touches nothing.
    type: str
    choices: [present, absent, planned]
    default: present
  spec:
    description:
      - The spec. A path, or the spec itself as a map or as text.
      - Text of one line is a path, where it does not begin with V({). A relative one is taken from
        O(chdir).
      - In a spec that is a map, quote MAC addresses and modes of files. Ansible's YAML takes them
        for numbers.
    type: raw
    required: true
  guests:
    description:
      - Narrows the task to these guests. Names, globs, and groups as V(@webservers).
      - V(present) takes along what they are C(after).
    type: list
    elements: str
  restart:
    description: Restart guests whose changes need a restart.
    type: bool
    default: false
  volumes:
    description: With O(state=absent), remove kept disks too.
    type: bool
    default: false
  consent:
    description:
      - Agree to what the plan says is lost, as C(--yes) does. Without it a plan that deletes or
        recreates what holds data is refused, and nothing is touched.
    type: bool
    default: false
  wait:
    description: Wait until the guests are ready. With V(false) only for what others are C(after).
    type: bool
    default: true
  parallel:
    description: How many steps run at a time. What suits the machine, where it is left out.
    type: int
  lock_timeout:
    description: Seconds to wait for another run on the environment. Then the task fails.
    type: float
  vault_password_file:
    description:
      - The file with the password of vaults that the guests' own C(playbooks) read. Left out, as
        Ansible finds it.
    type: path
  chdir:
    description:
      - The folder from which a relative path in O(spec) is taken, and the paths in a spec that
        stands in the task. Left out, the folder that the task runs in, which on V(localhost)
        is the playbook's. The one that C(ansible-playbook) was called in is V({{ '.' | realpath
        }}).
    type: path
  executable:
    description:
      - The command virtkit. Left out, the one beside the Python that runs the module, else the
        one in E(PATH), C(~/.local/bin) or C(/usr/local/bin).
    type: path
attributes:
  check_mode:
    description: Is C(virtkit plan). Where the run would be refused for lack of consent, so is the
      check.
    support: full
  diff_mode:
    description: Shows the plan, one entry for each object.
    support: full
seealso:
  - module: virtkit.core.virtkit_guest
  - plugin: virtkit.core.virtkit
    plugin_type: inventory
"""

EXAMPLES = r"""
- name: Bring up all guests of a spec
  virtkit.core.virtkit_environment:
    spec: lab.yaml

- name: Bring up a container from a spec in the task
  virtkit.core.virtkit_environment:
    spec:
      name: demo
      guests:
        box: {type: lxc, memory: 256MiB}

- name: Change the web servers, and restart those that lack what only a restart brings
  virtkit.core.virtkit_environment:
    spec: lab.yaml
    guests: ["@webservers"]
    restart: true

- name: Show what would change
  virtkit.core.virtkit_environment:
    spec: lab.yaml
    state: planned
  register: planned

- name: Remove everything, kept disks too
  virtkit.core.virtkit_environment:
    spec: lab.yaml
    state: absent
    volumes: true
"""

RETURN = r"""
environment:
  description: The environment's name.
  returned: success
  type: str
  sample: lab
plan:
  description: What C(virtkit plan --json) answers.
  returned: where the spec could be planned
  type: dict
  sample:
    environment: lab
    changes:
      - {object: guest/web, host: local, action: create, effect: none, reasons: []}
    pending: []
    notes: []
    refused: null
report:
  description: What C(virtkit up --json) or C(virtkit down --json) answers.
  returned: where something was done
  type: dict
  sample:
    environment: lab
    ok: true
    elapsed: 12.3
    steps:
      - {object: guest/web, host: local, step: define, outcome: done, elapsed: 0.1, error: null}
guests:
  description: The guests as C(virtkit status --json) shows them.
  returned: success, with O(state=present), not in check mode
  type: list
  elements: dict
  sample:
    - {name: web, type: kvm, host: local, state: running, ready: true, addresses: [10.20.0.10]}
error:
  description: The first error, in the words of C(virtkit). All of them are in RV(errors).
  returned: failure
  type: dict
  sample:
    what: there is no guest type 'vm'
    where: "lab.yaml:4:11 guests.web.type"
    why: ""
    cure: "use one of: auto, kvm, lxc, qemu, uml, xen-hvm, xen-pv, xen-pvh"
    code: 2
errors:
  description: All errors.
  returned: failure
  type: list
  elements: dict
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtkit.core.plugins.module_utils.virtkit import OPTIONS, Virtkit

#: The states in which an option that is not at its default would be ignored, and so is refused.
IGNORED = {
    "restart": ["absent"],
    "volumes": ["present", "planned"],
    "consent": ["planned"],
    "wait": ["absent", "planned"],
    "parallel": ["planned"],
    "lock_timeout": ["planned"],
    "vault_password_file": ["absent", "planned"],
}
#: What these are where they are left out; the others are False then.
DEFAULTS = {"wait": True, "parallel": None, "lock_timeout": None, "vault_password_file": None}


def check_options(module, virtkit):
    """Refuses options that the state would ignore."""
    state = module.params["state"]
    for name, states in IGNORED.items():
        if state in states and module.params[name] != DEFAULTS.get(name, False):
            virtkit.refuse(f"{name} has no meaning with state={state}", f"leave `{name}` out")


def options(params, verb):
    """The options of a verb's command line."""
    answer = []
    if verb in ("plan", "up") and params["restart"]:
        answer.append("--restart")
    if verb == "plan" and params["state"] == "absent":
        answer.append("--down")
    if verb != "up" and params["volumes"]:
        answer.append("--volumes")
    if verb == "plan":
        return answer
    if params["consent"]:
        answer.append("--yes")
    if verb == "up" and not params["wait"]:
        answer.append("--no-wait")
    for name in ("parallel", "lock_timeout", "vault_password_file"):
        if params[name] is not None:
            answer += ["--" + name.replace("_", "-"), str(params[name])]
    return answer


def diff_of(plan):
    """A plan as diff mode shows it."""
    return [_diff(each) for each in plan["changes"]]


def _diff(change):
    before, after = [], []
    if change["action"] in ("create", "replace"):
        after.append("made" if change["action"] == "create" else "recreated")
    if change["action"] in ("delete", "replace"):
        before.append("there")
    if change.get("lost"):
        before.append(f"lost: {change['lost']}")
    for each in change["reasons"]:
        before.append(f"{each['field']}: {_value(each['from'])}")
        after.append(f"{each['field']}: {_value(each['to'])}")
    name = f"{change['object']} on {change['host']}"
    return {
        "before_header": name,
        "after_header": f"{name} ({change['action']}, {change['effect']})",
        "before": "".join(line + "\n" for line in before),
        "after": "".join(line + "\n" for line in after),
    }


def _value(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def carry_out(module, virtkit, result):
    """The result of a run that changes what the plan says."""
    params = module.params
    if params["state"] == "absent":
        report = virtkit.report("down", *options(params, "down"), **result)
        return dict(result, report=report, changed=bool(report["steps"]))
    if result["changed"] or result["plan"].get("unanswered"):
        report = virtkit.report("up", *options(params, "up"), **result)
        result = dict(result, report=report, changed=bool(report["steps"]))
    guests = virtkit.guests()
    if params["wait"] and virtkit.await_ready(guests):
        guests = virtkit.guests()
    return dict(result, guests=guests)


def main():
    module = AnsibleModule(
        argument_spec=dict(
            OPTIONS,
            state={"choices": ["present", "absent", "planned"], "default": "present"},
            restart={"type": "bool", "default": False},
            volumes={"type": "bool", "default": False},
            consent={"type": "bool", "default": False},
            wait={"type": "bool", "default": True},
            parallel={"type": "int"},
            lock_timeout={"type": "float"},
            vault_password_file={"type": "path", "no_log": False},
        ),
        supports_check_mode=True,
    )
    virtkit = Virtkit(module)
    check_options(module, virtkit)
    plan = virtkit.run_json("plan", *options(module.params, "plan"))
    result = {"environment": plan["environment"], "plan": plan, "diff": diff_of(plan)}
    for host, error in plan.get("unanswered", {}).items():
        module.warn(f"host {host} does not answer: {error['why'] or error['what']}")
    planned = module.params["state"] == "planned"
    if plan["refused"] and not module.params["consent"] and not planned:
        virtkit.fail([plan["refused"]], **result)
    result["changed"] = bool(plan["changes"])
    if not module.check_mode and not planned:
        result = carry_out(module, virtkit, result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
