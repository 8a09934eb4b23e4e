"""A network whose dnsmasq has ended gives no addresses, though libvirt calls it active."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from virtkit.host.networks import unserved


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
        assert unserved(run) == {"taken", "dead"}
        serves.kill()
        serves.wait()
        assert unserved(run) == {"well", "taken", "dead"}
        another.kill()
    assert unserved(tmp_path / "none") == frozenset()
