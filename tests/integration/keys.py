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


def enters(lab: Lab, guest: str, key: Path | None = None) -> bool:
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


def cut_off(lab: Lab, guest: str, text: str) -> int:
    """Kills `up` after each call of a change of a guest's keys that changes something; the next one
    always ends it. KEYS in ``text``, a spec, are the keys. Returns: how often it was killed."""
    keys = [new_key(lab.folder / f"cut{number}") for number in range(2)]
    specs = [text.replace("KEYS", f"{each.name}.pub") for each in keys]
    lab.write(specs[0]).virtkit("up")
    with runner(lab.settings) as forks:
        lab.write(specs[1])
        count = Fault(changing=True)
        whole = forks.run("up", lab.spec, "--parallel", "1", fault=count, timeout=600)
        assert whole.code == 0, str(whole)
        for number, name in enumerate(whole.calls):
            new, old = keys[number % 2], keys[1 - number % 2]
            lab.write(specs[number % 2])
            fault = Fault("kill", number + 1, side="after", changing=True)
            ended = forks.run("up", lab.spec, "--parallel", "1", fault=fault, timeout=600)
            assert ended.killed, str(ended)
            done = forks.run("up", lab.spec, "--json", timeout=600)
            assert done.code == 0, f"{name}: {done}"
            assert enters(lab, guest, new), name
            assert not enters(lab, guest, old), name
            assert lab.json("plan")["changes"] == [], name
    return len(whole.calls)
