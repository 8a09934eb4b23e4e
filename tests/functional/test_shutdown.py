"""How a guest is stopped, against libvirt's test driver, which knows no ACPI: nobody can ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virtkit.apply import stop_guest
from virtkit.drivers import QEMU, Driver
from virtkit.host import Host
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
