"""How a guest is stopped, against libvirt's test driver, which knows no ACPI: nobody can ask it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ssh_guest

from virtkit.apply import stop_guest
from virtkit.drivers import QEMU, Driver
from virtkit.host import Host, guest_exec
from virtkit.host.connection import Connections
from virtkit.progress import Progress

POOL = "<pool type='dir'><name>default</name><target><path>/pool/</path></target></pool>"
WEB = (
    "<domain type='test'><name>lab-web</name><memory>1024</memory><os><type>hvm</type></os>"
    "</domain>"
)
DEAF = replace(QEMU, type="deaf", stop=("acpi", "initctl"))


@pytest.fixture
def guest(host_with: Callable[..., Host]) -> Host:
    """A host with a guest that runs."""
    return host_with(POOL, WEB)


def stopped(
    host: Host, timeout: float, *, driver: Driver = QEMU, reset: bool = False
) -> tuple[bool, list[str], str]:
    progress = Progress()
    answer = stop_guest(host, driver, "lab-web", timeout, progress, reset=reset)
    return answer, progress.notes, host.domains.state(QEMU, "lab-web")


@pytest.mark.parametrize("driver", [QEMU, DEAF])
def test_one_that_can_not_be_asked_is_not_said_to_have_been_given_time(
    guest: Host, driver: Driver
) -> None:
    assert stopped(guest, 60.0, driver=driver) == (
        False,
        ["it could not be asked to shut down: it was forced off"],
        "stopped",
    )


def test_it_is_reset_where_that_is_wanted(guest: Host) -> None:
    answer, (note,), state = stopped(guest, 60.0, reset=True)
    assert (answer, state) == (False, "running")
    assert note == "it could not be asked to shut down: it was reset"


def test_a_paused_one_goes_on_first(guest: Host) -> None:
    guest.domains.pause(QEMU, "lab-web")
    answer, notes, state = stopped(guest, 60.0)
    assert (answer, state) == (False, "stopped")
    assert notes == ["it could not be asked to shut down: it was forced off"]


def test_nothing_is_told_of_one_that_nobody_was_to_ask(guest: Host) -> None:
    assert stopped(guest, 0.0) == (False, [], "stopped")
    assert stopped(guest, 60.0) == (True, [], "stopped"), "it is off already"


def test_asking_takes_no_longer_than_the_guest_has(
    guest: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose init does not take the command."""
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(guest_exec, "_NSENTER", slow)
    container = replace(QEMU, type="container", stop=("poweroff", "acpi"))
    began = time.monotonic()
    _, notes, state = stopped(guest, 1.5, driver=container)
    assert time.monotonic() - began < 6
    assert (notes, state) == (["it could not be asked to shut down: it was forced off"], "stopped")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sudo may ask for a password")
def test_a_second_is_the_least_on_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To timeout(1), 0 is for ever."""
    with tempfile.TemporaryDirectory() as short, ssh_guest.host(tmp_path) as remote:
        monkeypatch.setenv("XDG_RUNTIME_DIR", short)
        there = Connections("rack1", {"qemu": "test:///default"}, remote)
        *_, line = guest_exec.nsenter_command(there, QEMU, "test", ["true"], timeout=0.3)
        remote.disconnect()
    assert "timeout --kill-after=5 1 python3" in line
