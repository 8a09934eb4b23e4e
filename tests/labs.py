"""Labs of others as specs: those in examples/labs, and those in tests/cases/labs.

The second ones name files of their originals, which are not here: ``copied`` puts such a lab into a
folder of its own, where each of these is an empty one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import samples
import yaml

from virtkit.facts import HostFacts
from virtkit.spec import Spec, load

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples/labs").glob("*.yaml"))
OTHERS = sorted((ROOT / "tests/cases/labs").glob("*.yaml"))
_NOT_SAID = re.compile(r"^# not said: ", re.MULTILINE)
#: A host that runs all types that a lab may have.
HOST: HostFacts = samples.facts_of(
    {
        "kvm": {"works": True, "why": "KVM runs guests here"},
        "connections": {"qemu": "", "lxc": "", "xen": ""},
        "machines": {"xen": ["xenpv", "xenpvh", "xenfv"]},
    }
)


def all_is_said(path: Path) -> bool:
    """Whether a lab loses nothing of its original, as its comment has it."""
    return _NOT_SAID.search(path.read_text(encoding="utf-8")) is None


def copied(path: Path, folder: Path) -> Path:
    """The lab in ``folder``, with empty files and folders for those that it names."""
    copy = folder / "lab" / path.name
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    for name, is_folder in _named(yaml.safe_load(path.read_text(encoding="utf-8"))):
        place = copy.parent / name
        (place if is_folder else place.parent).mkdir(parents=True, exist_ok=True)
        if not is_folder:
            text = '{"ignition": {"version": "3.3.0"}}' if place.suffix == ".ign" else "{}"
            place.write_text(f"{text}\n", encoding="utf-8")
    return copy


def read(path: Path, folder: Path) -> Spec:
    """The lab as virtkit reads it; ``folder`` is for those whose files are not here."""
    return load(copied(path, folder) if path in OTHERS else path)


def _named(value: object) -> Iterator[tuple[str, bool]]:
    """The files that a spec's reader looks for, and whether each is a folder."""
    if isinstance(value, list):
        for each in value:
            yield from _named(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            if key == "folders":
                yield from ((folder["source"], True) for folder in each)
            elif key in ("source", "file", "user_data", "ignition") and isinstance(each, str):
                yield each, False
            else:
                yield from _named(each)
