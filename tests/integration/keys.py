"""Keys that open a guest, and an `up` that is cut off while it changes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from faultpoints import Fault, runner
from integration.lab import Lab, run


def new_key(path: Path, *, passphrase: str = "") -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path)
    return path


def can_log_in(lab: Lab, guest: str, key: Path | None = None) -> bool:
    """Whether a key opens the guest, or else whatever virtkit finds, by ssh and nothing else."""
    if key is None:
        return lab.virtkit("ssh", guest, "--", "true", code=None).code == 0
    config = lab.folder / "config"
    lines = lab.virtkit("ssh-config").out.splitlines()
    kept = (each for each in lines if not each.strip().startswith("IdentityFile"))
    config.write_text("\n".join(kept))
    line = ["ssh", "-F", config, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i", key]
    line += [f"{lab.name}-{guest}", "true"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def cut_off(lab: Lab, guest: str, text: str, *, first: bool = False) -> int:
    """Kills `up` after each call of a change of a guest's keys that changes something; the next one
    always ends it.

    Args:
        text: a spec, in which KEYS are the keys.
        first: only after the first call of each function, where each takes minutes.

    Returns: how often it was killed.
    """
    keys = [new_key(lab.folder / f"cut{number}") for number in range(2)]
    specs = [text.replace("KEYS", f"{each.name}.pub") for each in keys]
    lab.write(specs[0]).virtkit("up")
    with runner(lab.settings) as forks:
        lab.write(specs[1])
        count = Fault(changing=True)
        counted = forks.run("up", lab.spec, "--parallel", "1", fault=count, timeout=600)
        assert counted.code == 0, str(counted)
        points = [
            (at, name)
            for at, name in enumerate(counted.calls, start=1)
            if not first or name not in counted.calls[: at - 1]
        ]
        for number, (at, name) in enumerate(points):
            new, old = keys[number % 2], keys[1 - number % 2]
            lab.write(specs[number % 2])
            fault = Fault("kill", at, side="after", changing=True)
            ended = forks.run("up", lab.spec, "--parallel", "1", fault=fault, timeout=600)
            assert ended.killed, str(ended)
            done = forks.run("up", lab.spec, "--json", timeout=600)
            assert done.code == 0, f"{name}: {done}"
            assert can_log_in(lab, guest, new), name
            assert not can_log_in(lab, guest, old), name
            assert lab.json("plan")["changes"] == [], name
    return len(points)
