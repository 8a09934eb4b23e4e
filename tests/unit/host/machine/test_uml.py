"""Which processors User-Mode Linux runs on, by what /proc/cpuinfo says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtkit.drivers import UML
from virtkit.facts import HostFacts, Pool
from virtkit.host.machine import uml

PLAIN = "processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: fpu sse2\n"
TILES = PLAIN.replace("avx512f", "avx512f amx_bf16 amx_tile amx_int8")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "linux.uml"
    path.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 6.1.176\n')
    path.chmod(0o755)
    return path


def unfit(cpuinfo: str, program: Path) -> dict[str, str]:
    path = program.with_name("cpuinfo")
    path.write_text(cpuinfo)
    return uml.unfit(path, str(program))


def test_where_it_runs(program: Path) -> None:
    assert unfit(PLAIN, program) == {}
    assert unfit("", program) == {}
    assert unfit(TILES, program.with_name("none")) == {}
    program.write_text("#!/bin/sh\necho 6.13.2\n")
    assert unfit(TILES, program) == {}


def test_where_it_panics(program: Path) -> None:
    (why,) = unfit(TILES, program).values()
    assert "User-Mode Linux 6.1 does not run on processors with AMX" in why


def test_the_type_is_refused_with_a_cure() -> None:
    (path,) = UML.programs
    facts = HostFacts("local", Pool("default", "/pool"), unfit_programs={path: "it panics"})
    (reason,) = [each for each in UML.check(facts) if each.why == "it panics"]
    assert "`lxc`" in reason.cure
    assert "user-mode-linux" in reason.cure
