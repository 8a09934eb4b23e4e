#!/usr/bin/python
# Copyright: the virtkit maintainers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
module: virtkit_guest
short_description: Start, stop, restart and pause guests, run commands in them, read their consoles
version_added: 0.2.0
author: the virtkit maintainers (!UNKNOWN)
description:
  - Does one thing with guests that M(virtkit.core.virtkit_environment) has made. O(state),
    O(command) and O(console) exclude each other.
  - Without any of the three it tells how the guests are, and changes nothing.
options:
  spec:
    description:
      - The spec. A path, or the spec itself as a map or as text.
      - Text of one line is a path, where it does not begin with V({). A relative one is taken from
        O(chdir).
    type: raw
    required: true
  guests:
    description:
      - The guests. Names, globs, and groups as V(@webservers). Left out, all.
      - O(command) takes one.
    type: list
    elements: str
  state:
    description:
      - The state in which the guests are once the task has ended.
      - V(running) starts those that are stopped, and resumes those that are paused.
      - V(stopped) asks them to shut down, and forces them off after O(timeout).
      - V(restarted) shuts them down and starts them, and is always a change.
      - V(paused) freezes them. They must run. Whether a container's host can do that is seen in the
        run only, and not in check mode.
    type: str
    choices: [running, stopped, restarted, paused]
  wait:
    description: With O(state=running) and O(state=restarted), wait until the guests are ready.
    type: bool
    default: true
  timeout:
    description: Seconds until a guest is forced off, with O(state=stopped) and O(state=restarted).
    type: float
  lock_timeout:
    description: Seconds to wait for another run on the environment. Then the task fails. With
      O(state).
    type: float
  command:
    description:
      - A command that runs as root in the guest, through its hypervisor where that has a way in,
        else by ssh. A list is run as it is. Text is a line for the guest's shell.
      - The task fails where the command's exit code is not 0. In check mode nothing runs.
      - It stands in the list of processes of this machine. Give secrets by O(stdin).
    type: raw
  stdin:
    description: What the command reads. With O(command).
    type: str
  console:
    description: Read what the guests printed so far, on their consoles or into a container's
      journal.
    type: bool
    default: false
  chdir:
    description:
      - The folder from which a relative path in O(spec) is taken, and paths in a spec that
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
    description: Tells which guests would change their state. A O(command) is skipped.
    support: full
  diff_mode:
    description: Shows the state of each guest, before and after.
    support: full
seealso:
  - module: virtkit.core.virtkit_environment
"""

EXAMPLES = r"""
- name: Stop the web servers
  virtkit.core.virtkit_guest:
    spec: lab.yaml
    guests: ["@webservers"]
    state: stopped
    timeout: 30

- name: Ask a guest for its kernel
  virtkit.core.virtkit_guest:
    spec: lab.yaml
    guests: [web-1]
    command: [uname, -r]
  register: kernel
  changed_when: false

- name: Read what a guest printed
  virtkit.core.virtkit_guest:
    spec: lab.yaml
    guests: [web-1]
    console: true
  register: printed

- name: See how all guests are
  virtkit.core.virtkit_guest:
    spec: lab.yaml
  register: status
"""

RETURN = r"""
guests:
  description: The guests as C(virtkit status --json) shows them, after the task.
  returned: success
  type: list
  elements: dict
  sample:
    - {name: web, type: kvm, host: local, state: running, ready: true, addresses: [10.20.0.10]}
report:
  description: What the last C(virtkit start), C(stop), C(restart), C(pause) or C(resume) answered.
  returned: where the state was changed
  type: dict
rc:
  description: The command's exit code.
  returned: with O(command)
  type: int
  sample: 0
stdout:
  description: What the command printed.
  returned: with O(command)
  type: str
stderr:
  description: What the command, or virtkit, printed to its standard error.
  returned: with O(command)
  type: str
console:
  description: What each guest printed so far, by its name.
  returned: with O(console)
  type: dict
error:
  description: The first error, in the words of C(virtkit). All of them are in RV(errors).
  returned: failure, but of a command that ended with another exit code than 0
  type: dict
  sample:
    what: guest web does not exist yet
    where: ""
    why: ""
    cure: "make it: virtkit up -f /srv/lab.yaml web"
    code: 2
errors:
  description: All errors.
  returned: as RV(error)
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtkit.core.plugins.module_utils.virtkit import OPTIONS, Virtkit

_STATES = ("running", "paused", "stopped")

#: What each of these options is about; beside anything else it is refused.
BELONGS = {
    "wait": ("state", ["running", "restarted"]),
    "timeout": ("state", ["stopped", "restarted"]),
    "lock_timeout": ("state", ["running", "stopped", "restarted", "paused"]),
    "stdin": ("command", None),
}


def check_options(module, virtkit):
    """Refuses options that would be ignored."""
    for name, (other, values) in BELONGS.items():
        neutral = True if name == "wait" else None
        fits = module.params[other] is not None and (
            values is None or module.params[other] in values
        )
        if module.params[name] != neutral and not fits:
            with_what = other if values is None else f"{other}={' or '.join(values)}"
            virtkit.refuse(f"{name} goes with {with_what}", f"leave `{name}` out")


def check_guests(virtkit, guests, state):
    """Refuses what can't be done to the guests as they are."""
    missing = [each["name"] for each in guests if each["state"] == "missing"]
    if missing:
        virtkit.refuse(
            f"guest {', '.join(missing)} does not exist yet",
            f"make it: {virtkit.command('up', missing)}",
        )
    silent = [each["name"] for each in guests if each["state"] == "unknown"]
    if silent:
        hosts = sorted({each["host"] for each in guests if each["state"] == "unknown"})
        virtkit.refuse(
            f"the state of guest {', '.join(silent)} is not known",
            f"see why with `{virtkit.command('status', silent)}`",
            why=f"host {', '.join(hosts)} does not answer",
        )
    stopped = [each["name"] for each in guests if each["state"] == "stopped"]
    if state == "paused" and stopped:
        virtkit.refuse(
            f"guest {', '.join(stopped)} is stopped: there is nothing to pause",
            f"start it: {virtkit.command('start', stopped)}",
        )


def verbs(guests, state):
    """The verbs that bring the guests into a state, and the guests for each."""
    by_state = {each: [g["name"] for g in guests if g["state"] == each] for each in _STATES}
    if state == "restarted":
        wanted = {"restart": [each["name"] for each in guests]}
    elif state == "running":
        wanted = {"resume": by_state["paused"], "start": by_state["stopped"]}
    elif state == "stopped":
        wanted = {"stop": by_state["running"] + by_state["paused"]}
    else:
        wanted = {"pause": by_state["running"]}
    return {verb: names for verb, names in wanted.items() if names}


def set_state(module, virtkit, guests):
    """The result of bringing the guests into a state."""
    params = module.params
    state = params["state"]
    check_guests(virtkit, guests, state)
    todo = verbs(guests, state)
    touched = {name for names in todo.values() for name in names}
    result = {
        "changed": bool(todo),
        "guests": guests,
        "diff": [_diff(each, state) for each in guests if each["name"] in touched],
    }
    if module.check_mode:
        return result
    for verb, names in todo.items():
        options = [] if params["wait"] or verb not in ("start", "restart") else ["--no-wait"]
        if params["timeout"] is not None:
            options += ["--timeout", str(params["timeout"])]
        if params["lock_timeout"] is not None:
            options += ["--lock-timeout", str(params["lock_timeout"])]
        result["report"] = virtkit.report(verb, *options, arguments=names)
    result["guests"] = virtkit.guests()
    waits = state in ("running", "restarted") and params["wait"]
    if waits and virtkit.await_ready(result["guests"]):
        result["guests"] = virtkit.guests()
    return result


def _diff(guest, state):
    name = f"guest/{guest['name']} on {guest['host']}"
    return {
        "before_header": name,
        "after_header": name,
        "before": f"{guest['state']}\n",
        "after": f"{state}\n",
    }


def run_command(module, virtkit, guests):
    """The result of a command in a guest."""
    command = module.params["command"]
    if isinstance(command, str) and command.strip():
        command = ["sh", "-c", command]
    if not isinstance(command, list) or not command:
        virtkit.refuse("command is empty", "give it as a list of words, or as text for a shell")
    if len(guests) != 1:
        virtkit.refuse(
            f"command takes one guest, and these are {len(guests)}", "name one in `guests`"
        )
    check_guests(virtkit, guests, None)
    (guest,) = guests
    if guest["state"] != "running":
        verb = "resume" if guest["state"] == "paused" else "start"
        what = f"guest {guest['name']} is {guest['state']}"
        virtkit.refuse(what, f"first: {virtkit.command(verb, [guest['name']])}")
    if module.check_mode:
        return {"changed": True, "skipped": True, "msg": "in check mode no command runs"}
    arguments = [guest["name"], "--", *(str(each) for each in command)]
    return virtkit.execute(arguments, module.params["stdin"])


def main():
    module = AnsibleModule(
        argument_spec=dict(
            OPTIONS,
            state={"choices": ["running", "stopped", "restarted", "paused"]},
            wait={"type": "bool", "default": True},
            timeout={"type": "float"},
            lock_timeout={"type": "float"},
            command={"type": "raw"},
            stdin={"type": "str"},
            console={"type": "bool", "default": False},
        ),
        supports_check_mode=True,
    )
    params = module.params
    virtkit = Virtkit(module)
    if sum([params["state"] is not None, params["command"] is not None, params["console"]]) > 1:
        virtkit.refuse("state, command and console exclude each other", "make it several tasks")
    check_options(module, virtkit)
    guests = virtkit.guests()
    if params["state"] is not None:
        module.exit_json(**set_state(module, virtkit, guests))
    if params["command"] is not None:
        result = dict(run_command(module, virtkit, guests), guests=guests)
        if result.get("rc"):
            result["msg"] = f"the command ended with {result['rc']}"
            module.fail_json(**result)
        module.exit_json(**result)
    result = {"changed": False, "guests": guests}
    if params["console"]:
        if virtkit.guest_names:
            check_guests(virtkit, guests, None)
        result["console"] = virtkit.run_json("logs")["logs"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
