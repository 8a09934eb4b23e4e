"""The sandbox itself: a libvirt that runs guests, and nothing of it left when it ends."""

from __future__ import annotations

import signal
import subprocess
import uuid
from contextlib import suppress
from pathlib import Path

import pytest

SANDBOX = Path(__file__).parents[1] / "sandbox"

GUESTS = """
set -eu
cat >$HOME/net.xml <<X
<network><name>n</name><forward mode='nat'/><bridge name='virbr0'/>
<ip address='10.99.9.1' netmask='255.255.255.0'>
<dhcp><range start='10.99.9.2' end='10.99.9.9'/></dhcp></ip>
</network>
X
cat >$HOME/vm.xml <<X
<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type>hvm</type></os>
<devices><interface type='network'><source network='n'/></interface></devices></domain>
X
cat >$HOME/ct.xml <<X
<domain type='lxc'><name>ct</name><memory unit='MiB'>64</memory>
<os><type>exe</type><init>/bin/sleep</init><initarg>1000</initarg></os>
<devices><interface type='network'><source network='n'/></interface><console type='pty'/></devices>
</domain>
X
virsh -q net-define $HOME/net.xml && virsh -q net-start n
virsh -q define $HOME/vm.xml && virsh -q start vm
virsh -q -c lxc:///system define $HOME/ct.xml && virsh -q -c lxc:///system start ct
virsh list --state-running --name; virsh -c lxc:///system list --state-running --name
"""


def sandbox(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SANDBOX, *command], input=stdin, capture_output=True, text=True, check=False
    )


def test_it_runs_guests_of_both_drivers() -> None:
    done = sandbox("sh", "-c", GUESTS)
    assert (done.returncode, done.stdout.split()) == (0, ["vm", "ct"]), done.stderr


def test_it_passes_input_and_the_exit_code_on() -> None:
    done = sandbox("sh", "-c", "cat; exit 7", stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "")


def command_lines() -> str:
    found = ""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended meanwhile
            found += file.read_text()
    return found


@pytest.mark.parametrize("end", [None, signal.SIGTERM, signal.SIGKILL])
def test_it_leaves_nothing(
    end: signal.Signals | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tmp_path.chmod(0o755)
    mark = str(uuid.uuid4())
    with subprocess.Popen(
        [SANDBOX, "sh", "-c", f"{GUESTS}\necho ready; : {mark}; read line"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin
        assert running.stdout
        assert "ready\n" in iter(running.stdout.readline, "")
        (state,) = tmp_path.glob("virtkit-sandbox.*")
        assert mark in command_lines()
        if end:
            running.send_signal(end)
        else:
            running.stdin.write("\n")
            running.stdin.flush()
        running.wait(timeout=20)
    if end == signal.SIGKILL:  # then the next one clears away
        assert sandbox("true").returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert mark not in command_lines()
    assert not list(Path("/sys/fs/cgroup").rglob(f"*{state.name}*"))
