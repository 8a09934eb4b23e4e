"""Real guests, against the libvirt of `tests/sandbox` only and never the machine's own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import filelock
import platformdirs
import pytest
from integration.fault_lab import TALLY, Tally
from xenhost import xenhost
from xenhost.xenhost import XenHost

from virtkit.host.machine import uml

HERE = Path(__file__).parent

pytest.register_assert_rewrite("integration.contract", "integration.every_call")

# Emulated guests take their time; a test that needs another limit says so itself.
TIMEOUT = 960


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """What the summary of the run shows about interruptions."""
    return pytestconfig.stash.setdefault(TALLY, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(TALLY, [])
    if not found:
        return
    terminalreporter.section("interruptions")
    for each in found:
        terminalreporter.write_line(str(each))
    target = os.environ.get("VIRTKIT_TEST_FIGURES")
    if target:
        Path(target).write_text(json.dumps([asdict(each) for each in found], indent=2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is here outside of the sandbox (in CI, tests/conftest.py makes a failure of it)."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        if item.get_closest_marker("needs_uml") and (why := "; ".join(uml.unfit().values())):
            item.add_marker(pytest.mark.skip(reason=why))
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT))
        if "VIRTKIT_TEST_SANDBOX" not in os.environ:
            item.add_marker(pytest.mark.skip(reason="run tests/sandbox pytest tests/integration"))


@pytest.fixture(scope="module")
def xen(tmp_path_factory: pytest.TempPathFactory, alone: None) -> Iterator[XenHost]:
    """A fresh Xen host for a file's tests: seconds, since it comes from a snapshot."""
    host = xenhost.start(tmp_path_factory.mktemp("xen"))
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module", autouse=True)
def alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """One run of a file at a time on a machine: loop devices are the kernel's, and the tests count
    those of their environments."""
    folder = platformdirs.user_cache_path("virtkit-tests", ensure_exists=True)
    with filelock.FileLock(folder / f"{request.path.stem}.lock"):
        yield
