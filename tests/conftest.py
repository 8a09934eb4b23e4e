"""What all tests share: `--regen`, and that CI skips nothing but what needs a processor."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def pytest_configure() -> None:
    """In a shell's background SIGINT is ignored, and what tests start would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regen",
        action="store_true",
        help="write what the cases expect from what they get; people review the difference",
    )
    parser.addoption(
        "--everything",
        action="store_true",
        help="interruptions of libvirtd and on Xen at every call, not the first of a function",
    )
    parser.addoption("--long", action="store_true", help="also what takes many minutes")
    parser.addoption("--short", action="store_true", help="without it, in named files too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what is marked long, unless it is asked for by name or by --long."""
    named = any(".py" in each for each in config.invocation_params.args if isinstance(each, str))
    if (
        (named and not config.getoption("--short"))
        or config.getoption("--long")
        or config.getoption("--everything")
    ):
        return
    out = [each for each in items if each.get_closest_marker("long")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [each for each in items if each not in out]


@pytest.fixture(scope="session")
def regen(request: pytest.FixtureRequest) -> bool:
    """Whether expected files are to be rewritten."""
    return bool(request.config.getoption("--regen"))


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """What virtkit keeps of environments is not mixed with that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "VIRTKIT_TEST_SANDBOX" not in os.environ:  # which has a home of its own
            for each in ("CONFIG", "DATA", "STATE"):
                patch.setenv(f"XDG_{each}_HOME", str(tmp_path_factory.mktemp(each.lower())))
        yield


def _fail_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid} does not run here, and in CI that is a failure. {why}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI only a test may be skipped that needs a processor which this machine hasn't got."""
    report = yield
    needs = any(item.get_closest_marker(each) for each in ("needs_kvm", "needs_uml"))
    expected = hasattr(report, "wasxfail") or needs
    if IN_CI and report.skipped and not expected:
        _fail_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI no module is skipped as a whole (`importorskip`)."""
    report = yield
    if IN_CI and report.skipped:
        _fail_skipped(report)
    return report
