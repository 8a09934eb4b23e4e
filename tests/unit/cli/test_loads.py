"""What a command does not need, it does not load: modules are counted, and libraries named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SPEC = "name: lab\nguests:\n  web: {type: qemu, memory: 64MiB}\n"
#: Runs virtkit with the words after it, then prints the modules that are loaded.
PROGRAM = """
import json, sys
from virtkit.cli import main
sys.argv[0] = "virtkit"
try:
    main()
except SystemExit as ended:
    print(file=sys.stderr)
    print(json.dumps([ended.code, sorted(sys.modules)]), file=sys.stderr)
"""
#: What pydantic would look for plugins by.
PACKAGES = {"importlib.metadata"}
NETWORK = {"ssl", "http.client", "urllib.request", "asyncio", "paramiko"}
MODELS = {"pydantic", "ruamel.yaml"}
LIBVIRT = {"libvirt", "lxml.etree", "virtkit.host"}
WORK = {"virtkit.apply.steps", "virtkit.images.build", "pycdlib", "filelock", "ansible_runner"}
NOT_FOR_HELP = {*NETWORK, *MODELS, *LIBVIRT, *WORK, "jinja2", "rich"}
#: Libraries that read a command line, and what they bring; argparse does that here.
NOWHERE = {"typer", "click", "shellingham"}
#: What renders, probes, looks at the firewall, or waits for several things.
PLANS = {
    "jinja2",
    "virtkit.xml.render",
    "virtkit.state.desired",
    "virtkit.host.kvm_probe",
    "virtkit.host.firewall",
    "concurrent.futures",
    "logging",
}
#: Words, the most modules that they may load, and what none of these may be.
COMMANDS: dict[str, tuple[int, set[str]]] = {
    "--version": (185, NOT_FOR_HELP | PLANS),
    "--help": (130, NOT_FOR_HELP | PLANS),
    "nosuch": (210, PLANS | NOT_FOR_HELP - {"rich"}),
    "up --help": (160, PLANS | NOT_FOR_HELP),
    "image --help": (130, PLANS | NOT_FOR_HELP),
    "validate lab.yaml": (306, PACKAGES | NETWORK | LIBVIRT | WORK | PLANS | {"rich"}),
    "validate --json lab.yaml": (306, PACKAGES | NETWORK | LIBVIRT | WORK | PLANS | {"rich"}),
    "status lab.yaml": (
        434,
        PACKAGES | NETWORK | WORK | PLANS,
    ),  # rich where libvirt does not answer
}


@pytest.mark.parametrize("words", COMMANDS)
def test_what_a_command_loads(words: str, tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(SPEC)
    line = [sys.executable, "-c", PROGRAM, *words.split()]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    code, loaded = json.loads(done.stderr.splitlines()[-1])
    assert code == {"nosuch": 2}.get(words, 0) or words.startswith("status"), done.stderr
    most, forbidden = COMMANDS[words]
    assert (forbidden | NOWHERE) & set(loaded) == set()
    assert len(loaded) <= most, f"{len(loaded)} modules; is each of them needed?"


@pytest.mark.parametrize("door", ["virtkit", "virtkit.api", "virtkit.spec", "virtkit.plan"])
def test_a_door_loads_nothing_until_it_is_used(door: str) -> None:
    program = f"import json, sys, {door}; print(json.dumps(sorted(sys.modules)))"
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    loaded = {each for each in json.loads(done.stdout) if each.partition(".")[0] == "virtkit"}
    assert loaded <= {"virtkit", "virtkit._lazy", door}


def test_a_model_is_built_when_it_is_used(tmp_path: Path) -> None:
    """A guest's entry is checked; what the spec has none of needs no validator."""
    (tmp_path / "lab.yaml").write_text(SPEC)
    program = (
        "import json; from virtkit.spec import load, model; load('lab.yaml'); "
        "print(json.dumps([n for n in model.__all__ "
        "if getattr(getattr(model, n), '__pydantic_complete__', False)]))"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == ["GuestEntry"]


def test_a_plan_loads_nothing_that_carries_it_out() -> None:
    """What a plan needs to be shown is there without what would carry it out."""
    program = (
        "import sys; from virtkit import api; api.plan, api.apply_refusal; "
        "print('virtkit.api.lifecycle' in sys.modules, 'pycdlib' in sys.modules)"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
