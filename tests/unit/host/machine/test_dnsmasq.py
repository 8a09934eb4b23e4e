"""A network whose dnsmasq has ended gives no addresses, though libvirt calls it active."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from virtkit.host.machine.dnsmasq import without_dnsmasq


def test_whose_dnsmasq_has_ended(tmp_path: Path) -> None:
    program = tmp_path / "dnsmasq"  # what the kernel calls a process is its file's name
    shutil.copy("/bin/sleep", program)
    run = tmp_path / "network"
    run.mkdir()

    def network(name: str, pid: object, *, active: bool = True) -> None:
        (run / f"{name}.pid").write_text(f"{pid}\n")
        if active:
            (run / f"{name}.xml").write_text("<networkstatus/>")

    with subprocess.Popen([program, "60"]) as serves, subprocess.Popen(["sleep", "60"]) as another:
        network("well", serves.pid)
        network("taken", another.pid)  # the number is somebody else's by now
        network("dead", 2**22 + 1)
        network("off", 2**22 + 1, active=False)
        network("driver", 1, active=False)
        (run / "odd.xml").write_text("")
        (run / "odd.pid").mkdir()
        assert without_dnsmasq(run) == ["dead", "taken"]
        serves.kill()
        os.waitid(os.P_PID, serves.pid, os.WEXITED | os.WNOWAIT)  # its parent has not yet
        assert without_dnsmasq(run) == ["dead", "taken", "well"]
        serves.wait()
        assert without_dnsmasq(run) == ["dead", "taken", "well"]
        another.kill()
    assert without_dnsmasq(tmp_path / "none") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount /proc and to be two users")
def test_what_proc_hides_has_not_ended(tmp_path: Path) -> None:
    """Users of a host whose /proc is mounted with hidepid don't see the processes of others."""
    program = tmp_path / "dnsmasq"
    shutil.copy("/bin/sleep", program)
    script = (
        "import os, sys; from pathlib import Path; from virtkit.host.machine import dnsmasq\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "assert not Path('/proc', sys.argv[2]).exists()\n"
        "print(*dnsmasq.without_dnsmasq(Path(sys.argv[1])))"
    )
    hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    with (
        tempfile.TemporaryDirectory(dir="/tmp") as run,
        subprocess.Popen([program, "60"]) as serves,
    ):
        Path(run).chmod(0o755)
        for name, pid in (("well", serves.pid), ("dead", 2**22 + 1)):
            Path(run, f"{name}.pid").write_text(f"{pid}\n")
            Path(run, f"{name}.xml").write_text("")
        line = ["unshare", "--mount", "sh", "-c", hidden, "sh"]
        line += [sys.executable, "-c", script, run, str(serves.pid)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        serves.kill()
    assert done.stdout == "dead\n", done.stderr
