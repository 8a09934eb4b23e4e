# Copyright: the virtkit maintainers
# SPDX-License-Identifier: Apache-2.0
"""What the modules share: they run `virtkit VERB --json` and answer with what it answers.

virtkit itself is never imported: its command line is the contract.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys

#: The options of every module.
OPTIONS = {
    "spec": {"type": "raw", "required": True},
    "guests": {"type": "list", "elements": "str"},
    "chdir": {"type": "path"},
    "executable": {"type": "path"},
}

NO_COMMAND = {
    "where": "",
    "cure": "run scripts/up in a checkout of virtkit, or say where virtkit is: executable: PATH",
    "code": 2,
}


class NoCommand(Exception):
    """The command virtkit is not there; ``error`` has the form of virtkit's own."""

    def __init__(self, what, why):
        super().__init__(what)
        self.error = dict(NO_COMMAND, what=what, why=why)


def find_command(given=None):
    """The path of the command: the one that is given, else the one beside this Python, else the
    one in PATH or where scripts/up puts it."""
    if given:
        path = shutil.which(os.path.expanduser(given))
        if path:
            return path
        raise NoCommand(f"there is no command {given}", "`executable` names it")
    beside = os.path.dirname(sys.executable)
    folders = [beside, os.environ.get("PATH", os.defpath)]
    folders += [os.path.expanduser("~/.local/bin"), "/usr/local/bin"]
    path = shutil.which("virtkit", path=os.pathsep.join(folders))
    if path:
        return path
    raise NoCommand(
        "the command virtkit is not on this machine",
        f"it is neither beside {sys.executable} nor in PATH",
    )


def as_text(errors):
    """Errors as virtkit's command line tells them."""
    texts = []
    for each in errors:
        lines = [str(each["what"])]
        lines += [f"{key}: {each[key]}" for key in ("where", "why", "cure") if each.get(key)]
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def parse_output(line, code, out, err):
    """The JSON document that a run of virtkit answered, or an error in its place."""
    try:
        answer = json.loads(out)
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    error = {
        "what": f"virtkit ended with {code} and without an answer",
        "where": "",
        "why": err.strip()[-2000:],
        "cure": f"see what it says where it is run by hand: {' '.join(line)}",
        "code": code,
    }
    return {"error": error, "errors": [error]}


class Virtkit:
    """The command line for a module, which ends with virtkit's own error where that has one."""

    def __init__(self, module):
        self._module = module
        try:
            self._command = find_command(module.params["executable"])
        except NoCommand as missing:
            self.fail([missing.error])
        self._chdir = module.params["chdir"] or os.getcwd()
        if not os.path.isdir(self._chdir):
            self.refuse(f"there is no folder {self._chdir}", "correct `chdir`")
        self._spec, self._text = self._read_spec(module.params["spec"])
        self.guest_names = module.params["guests"]
        if self.guest_names is not None and not [each for each in self.guest_names if each]:
            self.refuse("guests is empty", "leave it out where all guests are meant")

    def _read_spec(self, spec):
        """The value of `-f`, and a spec that stands in the task itself as text."""
        if isinstance(spec, dict):
            return "-", json.dumps(spec, indent=1)
        if not isinstance(spec, str) or not spec.strip():
            self.refuse(
                "spec is neither a path nor a spec" if spec else "no spec is named",
                "give one: the path of a file (virtkit's own playbooks take -e spec=lab.yaml), or "
                "a spec as a map or as text",
            )
        if "\n" in spec.strip() or spec.lstrip().startswith("{"):
            return "-", spec
        return os.path.join(self._chdir, os.path.expanduser(spec)), None

    def run(self, verb, *options, arguments=None, stdin=None):
        """Runs `virtkit VERB OPTIONS -f SPEC -- ARGUMENTS`.

        Returns its command line, its exit code, what it printed, and its standard error.
        """
        line = [self._command, verb, *options, "-f", self._spec]
        line += ["--", *arguments] if arguments else []
        code, out, err = self._module.run_command(
            line,
            data=self._text if stdin is None else stdin,
            binary_data=True,
            cwd=self._chdir,
            expand_user_and_vars=False,
        )
        return line, code, out, err

    def command(self, verb, guests):
        """The command that a cure names: it does ``verb`` to guests of the spec."""
        return " ".join(["virtkit", verb, "-f", shlex.quote(self._spec), *guests])

    def run_json(self, verb, *options, arguments=None, **result):
        """What `virtkit VERB --json` answers. The module fails where nothing was touched; a report
        of a run that failed on its way is an answer.

        Args:
            result: what the module then has to tell beside the error.
        """
        ran = self.run(verb, "--json", *options, arguments=arguments or self.guest_names)
        answer = parse_output(*ran)
        if "error" in answer:
            self.fail(answer["errors"], **result)
        return answer

    def report(self, verb, *options, arguments=None, **result):
        """The same for a verb that answers with a report; the module fails where that says so."""
        answer = self.run_json(verb, *options, arguments=arguments, **result)
        if not answer["ok"]:
            errors = [each["error"] for each in answer["steps"] if each["error"]]
            done = any(each["outcome"] == "done" for each in answer["steps"])
            self.fail(errors or [_interrupted(verb)], **dict(result, changed=done, report=answer))
        return answer

    def guests(self):
        """The guests as `virtkit status` shows them."""
        return self.run_json("status")["guests"]

    def execute(self, arguments, stdin):
        """What a command in a guest answered."""
        if stdin is not None and self._text is not None:
            self.refuse(
                "the command can't be given stdin where the spec stands in the task",
                "write the spec into a file",
                why="virtkit reads that spec from its standard input",
            )
        code, out, err = self.run("exec", arguments=arguments, stdin=stdin)[1:]
        return {"changed": True, "rc": code, "stdout": out, "stderr": err}

    def await_ready(self, guests):
        """Waits for those of the guests that run and are not ready."""
        late = [each["name"] for each in guests if each["state"] == "running" and not each["ready"]]
        if late:
            self.report("start", arguments=late)
        return bool(late)

    def fail(self, errors, **result):
        """Ends the module with virtkit's errors."""
        result.setdefault("changed", False)
        self._module.fail_json(msg=as_text(errors), error=errors[0], errors=errors, **result)

    def refuse(self, what, cure, why="", where=""):
        """Ends the module with an error of its own, before anything was touched."""
        self.fail([{"what": what, "where": where, "why": why, "cure": cure, "code": 2}])


def _interrupted(verb):
    return {
        "what": f"virtkit {verb} was interrupted",
        "where": "",
        "why": "",
        "cure": "run again: it continues where it stopped",
        "code": 130,
    }
