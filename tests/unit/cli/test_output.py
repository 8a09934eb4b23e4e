"""Tables are the same whether rich prints them or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from virtkit.api import GuestStatus
from virtkit.cli import output

GUESTS = [
    GuestStatus(
        environment=environment,
        name=name,
        type="qemu",
        virtualization="full virtualization, emulated (hosted)",
        host="local",
        state=state,
        ready=False,
        addresses=("10.0.0.2", "fd00::2")[:count],
        user="[admin]",
        groups=(),
        spec=f"/srv/[{environment}]/virtkit.yaml",
        why=why,
    )
    for environment, name, state, count, why in (
        ("lab", "web-1", "running", 2, ""),
        ("lab", "a-guest-with-a-long-name", "stopped", 0, "its kernel [panicked]"),
        ("other", "db", "paused", 1, "somebody paused it"),
    )
]


@pytest.mark.parametrize("environments", [False, True])
def test_the_status_where_nobody_looks_is_what_rich_prints(
    environments: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(each, raising=False)
    output.status(GUESTS, environments=environments)
    plain = capsys.readouterr().out
    monkeypatch.setenv("TTY_COMPATIBLE", "0")  # makes it rich's, and that no terminal's
    output.out.cache_clear()
    output.status(GUESTS, environments=environments)
    assert plain == capsys.readouterr().out
    assert plain.splitlines()[int(environments)].split()[:2] == ["guest", "type"]


def test_long_and_foreign_text_is_richs(tmp_path: Path) -> None:
    """Rich knows where to wrap, and how wide characters are."""
    program = (
        "import sys; from virtkit.cli import output; output.table(['a', 'b'], [[sys.argv[1], 'x']])"
    )
    for text, lines in (("x" * 20, 2), ("データ", 2)):
        line = [sys.executable, "-c", program, text]
        done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert len(done.stdout.splitlines()) == lines
        assert text in done.stdout
