"""usage: tests/sandbox .venv/bin/python tests/integration/measure_changes.py

Prints how long `up` takes for each kind of change of a running guest, what `plan` says of them,
and how long `plan` takes over ten guests that nothing is to change of.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from integration.edits import Edits, editing
from integration.lab import tiny_disk

DISK = {"name": "data", "size": "64MiB", "mount": "/srv/data"}
SPEC: dict[str, Any] = {
    "name": "timed",
    "images": {"tiny": {"path": "tiny.raw"}},
    "networks": {"front": {"cidr": "10.94.41.0/24"}, "back": {"cidr": "10.94.42.0/24"}},
    "defaults": {"networks": ["front"]},
    "guests": {
        "vm": {"type": "qemu", "memory": "256MiB", "max": {"memory": "512MiB", "cpus": 2}},
        "box": {"type": "lxc", "memory": "128MiB", "max": {"memory": "256MiB"}},
        "tiny": {
            "type": "qemu",
            "image": "tiny",
            "memory": "32MiB",
            "ready": "none",
            "count": 8,
        },
    },
}
CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vm", {"groups": ["web"]}),
    ("vm", {"autostart": True}),
    ("vm", {"memory": "384MiB"}),
    ("vm", {"disk": "6GiB"}),
    ("vm", {"disks": [DISK]}),
    ("vm", {"disks": [{**DISK, "size": "96MiB"}]}),
    ("vm", {"networks": ["front", "back"]}),
    ("vm", {"networks": ["front"]}),
    ("vm", {"disks": None}),
    ("box", {"groups": ["web"]}),
    ("box", {"memory": "192MiB"}),
    ("box", {"networks": ["front", "back"]}),
    ("box", {"networks": ["front"]}),
    ("box", {"disks": [DISK]}),
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tiny.raw").write_bytes(tiny_disk())
        with editing(Path(folder), SPEC) as edits:
            edits.lab.program = True  # what users wait for
            timed(edits)


def timed(edits: Edits) -> None:
    plans = [edits.lab.virtkit("plan", "--exit-code").elapsed for _ in range(3)]
    print(f"plan over ten guests, nothing to change: {min(plans):.2f} s")
    for guest, fields in CHANGES:
        edits.guest(guest, **fields)
        effect = edits.plan()[f"guest/{guest}"]["effect"]
        took = edits.lab.virtkit("up", "--yes").elapsed
        print(f"{guest:4} {effect:8} {took:5.1f} s  {fields}")
    edits.guest("vm", memory="448MiB", cpus=2, networks=["front", "back"])
    edits.guest("box", memory="160MiB", disks=None)
    for verb, *words in (("plan",), ("up", "--yes"), ("plan",), ("status",)):
        print(f"\n$ virtkit {' '.join([verb, *words])}")
        ran = edits.lab.virtkit(verb, *words)
        print((ran.err if verb == "up" else "") + ran.out)


main()
