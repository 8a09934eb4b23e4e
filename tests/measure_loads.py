"""usage: tests/sandbox .venv/bin/python tests/measure_loads.py [ROUNDS]

Prints what commands cost beside `import libvirt, lxml.etree`, in rounds of all of them: processor
time in ms, the same on a machine where those imports take 45 ms, peak memory in MB. Bytecode is
cached. The guests are boot sectors; where nothing is to change, nothing is changed.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: Writes the guests' image. It is a process of its own: a program's peak memory counts that of the
#: process which started it, so this one stays small.
IMAGE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from integration.lab import tiny_disk
Path("tiny.raw").write_bytes(tiny_disk())
"""
SPEC = """
name: {name}
images: {{tiny: {{path: tiny.raw}}}}
networks: {{front: {{cidr: {cidr}}}}}
defaults: {{type: qemu, memory: 32MiB, image: tiny, ready: none, networks: [front]}}
guests: {guests}
"""
SPECS = {
    "one": {"cidr": "10.94.61.0/24", "guests": "{web: {}}"},
    "ten": {"cidr": "10.94.62.0/24", "guests": "{web: {count: 10}}"},
}
REFERENCE = ["-c", "import libvirt, lxml.etree"]
#: The words, and how many ms they may take on that machine.
COMMANDS = {
    "--version": 100,
    "--help": 100,
    "validate one.yaml": 200,
    "status one.yaml": 200,
    "plan one.yaml": 0,
    "up one.yaml": 0,
    "status ten.yaml": 0,
    "plan ten.yaml": 0,
    "up ten.yaml": 0,
}
#: What the reference takes on the machine of the limits.
SCALE = 45.0


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        subprocess.run([sys.executable, "-c", IMAGE, Path(__file__).parent], check=True)
        for name, each in SPECS.items():
            Path(f"{name}.yaml").write_text(SPEC.format(name=name, **each))
            subprocess.run([sys.executable, "-m", "virtkit", "up", f"{name}.yaml"], check=True)
        try:
            print_table(measured(rounds))
        finally:
            for name in SPECS:
                subprocess.run([sys.executable, "-m", "virtkit", "down", f"{name}.yaml"])


def measured(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Every command's ms and MB in each round; the reference is the one without words."""
    lines = {"": REFERENCE} | {words: ["-m", "virtkit", *words.split()] for words in COMMANDS}
    for line in lines.values():  # as bytecode is written
        cost(line)
    answer: dict[str, list[tuple[float, float]]] = {words: [] for words in lines}
    for _ in range(rounds):
        for words, line in lines.items():
            answer[words].append(cost(line))
    return answer


def cost(line: list[str]) -> tuple[float, float]:
    """What a run of Python took: ms of processor time, with its programs', and MB at most."""
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    started = os.posix_spawn(
        sys.executable, [sys.executable, *line], os.environ, file_actions=actions
    )
    os.close(null)
    _, status, used = os.wait4(started, 0)
    assert status == 0, line
    return seconds(used) * 1000, used.ru_maxrss / 1024


def seconds(used: resource.struct_rusage) -> float:
    return used.ru_utime + used.ru_stime


def print_table(measured: dict[str, list[tuple[float, float]]]) -> None:
    times = {words: statistics.median(ms for ms, _ in each) for words, each in measured.items()}
    reference, spread = times[""], sorted(ms for ms, _ in measured[""])
    print(f"load {os.getloadavg()[0]:.1f}, reference {spread[0]:.0f} to {spread[-1]:.0f} ms")
    print("| command | ms | scaled | least, scaled | MB | limit |")
    print("| --- | --- | --- | --- | --- | --- |")
    for words, each in measured.items():
        least = min(ms for ms, _ in each) / spread[0] * SCALE
        ms, scaled = times[words], times[words] / reference * SCALE
        memory = max(mb for _, mb in each)
        limit = COMMANDS.get(words) or ""
        name = words or "import libvirt, lxml.etree"
        print(f"| `{name}` | {ms:.0f} | {scaled:.0f} | {least:.0f} | {memory:.0f} | {limit} |")


main()
