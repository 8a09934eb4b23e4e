"""What scripts/ share (scripts/setup), in shells of their own and on real files."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

REPO = Path(__file__).parents[3]


def shell(
    text: str, *words: str | Path, checkout: Path = REPO, cwd: Path = REPO, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What a script of a checkout does and says."""
    return subprocess.run(
        ["sh", "-euc", f'. "$0"\n{text}', checkout / "scripts/setup", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | variables,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a virtkit in its .venv, in a folder that a shell would split."""
    folder = tmp_path / "it's a ü"
    shutil.copytree(REPO / "scripts", folder / "scripts")
    program = folder / ".venv/bin/virtkit"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho this one\n")
    program.chmod(0o755)
    (folder / ".venv/.virtkit-stamp").touch()
    return folder


@pytest.mark.parametrize(
    "word", ["", "a b", "it's", "ü", "$HOME", "a\\b", "`x`", "*", "~", "a\nb", "--x=1", "a;b", "!"]
)
def test_a_quoted_word_is_the_word(word: str) -> None:
    done = shell("""eval "set -- $(quote "$1")"; printf '%s|%s' "$#" "$1" """, word)
    assert done.stdout == f"1|{word}", done.stderr


def test_plain_words_stay_readable() -> None:
    assert shell("quote examples/hello.yaml").stdout == "examples/hello.yaml"


def test_the_checkout_is_found_from_everywhere(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(checkout / "scripts/up")
    text = '. "$1/scripts/setup"; echo "$repo"'
    for first in (checkout / "scripts/up", link):
        done = subprocess.run(
            ["sh", "-euc", text, first, checkout], capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{checkout}\n"
    (tmp_path / "elsewhere/scripts").mkdir(parents=True)
    done = subprocess.run(
        ["sh", "-euc", '. scripts/setup; echo "$repo"', "scripts/up"],
        capture_output=True,
        text=True,
        cwd=checkout,
        env=os.environ | {"CDPATH": f"{tmp_path}/elsewhere"},
        check=True,
    )
    assert done.stdout == f"{checkout}\n"


def test_groups_are_compared_whole() -> None:
    mine = subprocess.run(["id", "-nG"], capture_output=True, text=True, check=True).stdout.split()
    assert shell("in_group nobodys-group " + mine[0]).returncode == 0
    assert shell(f"in_group {mine[0]}-").returncode == 1
    assert shell(f"in_group {mine[0][:-1]}").returncode == 1
    assert shell("in_group of root root").returncode == 0
    assert shell("in_group of root nogroup").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sudo sets PATH for others")
def test_root_by_su_finds_what_root_needs() -> None:
    """Debian's su keeps the PATH of the user, and dpkg refuses to work without ldconfig."""
    text = "as_root printenv PATH; printenv PATH; as_root false || echo failed"
    inner, outer, failed = shell(text, PATH="/usr/bin:/bin").stdout.splitlines()
    assert inner.split(":")[-2:] == ["/usr/sbin", "/sbin"]
    assert outer == "/usr/bin:/bin", "what is not root's work shows what a user would see"
    assert failed == "failed"
    done = shell("as_root ldconfig --version", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr


STEPS = """
work() {
    echo 'Get:1 a mirror'
    echo 'dlstatus:1:12.3456:Retrieving file 3 of 120'
    sleep 2.5
    echo 'Setting up x'
    return 7
}
run_watched "$1" work || echo "ended with $?"
"""


def test_a_terminal_has_a_live_line(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    line = ["sh", "-euc", f'. "$0"\n{STEPS}', REPO / "scripts/setup", tmp_path / "log"]
    with subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        said = b""
        with suppress(OSError):  # the other end is closed
            while more := os.read(ours, 4096):
                said += more
    os.close(ours)
    assert shell.returncode == 0
    text = said.decode()
    assert "s  12% Retrieving file 3 of 120" in text
    assert text.rstrip().rpartition("\r")[2] == "ended with 7"
    assert "\n" not in text.rstrip()
    assert "Setting up x" in (tmp_path / "log").read_text()


def test_a_quick_step_says_nothing(tmp_path: Path) -> None:
    done = shell(STEPS, tmp_path / "log")
    assert (done.stdout, done.stderr) == ("ended with 7\n", "")


@pytest.mark.slow
def test_elsewhere_a_line_now_and_then(tmp_path: Path) -> None:
    text = """
    work() { echo "  Building wheel for x: started"; sleep 17; }
    run_watched "$1" work
    """
    done = shell(text, tmp_path / "log")
    (line,) = done.stderr.splitlines()
    assert line.split() == [line.split()[0], "s", "Building", "wheel", "for", "x:", "started"]
    assert 14 < int(line.split()[0]) < 18


LINK = 'link_virtkit "$1"; echo "$typed"'


def test_virtkit_becomes_a_command(checkout: Path, tmp_path: Path) -> None:
    folder, path = tmp_path / "home/.local/bin", os.environ["PATH"]
    (tmp_path / "home").mkdir()
    shutil.copy("/etc/skel/.profile", tmp_path / "home/.profile")
    home = {"HOME": f"{tmp_path}/home"}
    done = shell(LINK, folder, checkout=checkout, cwd=tmp_path, **home)
    assert "from your next login on" in done.stderr
    assert subprocess.run(["sh", "-c", f"{done.stdout.strip()}"], cwd=tmp_path).returncode == 0
    assert done.stdout.startswith("'it'")  # relative to where the caller stands
    done = shell(LINK, folder, checkout=checkout, cwd=checkout, **home)
    assert (done.stdout, done.stderr) == (".venv/bin/virtkit\n", "")
    done = shell(LINK, folder, checkout=checkout, cwd=Path("/"), **home)
    assert str(checkout).split("'")[0] in done.stdout
    done = shell(LINK, folder, checkout=checkout, PATH=f"{folder}:{path}", **home)
    assert (done.stdout, done.stderr) == ("virtkit\n", "")
    said = subprocess.run([folder / "virtkit"], capture_output=True, text=True, check=True).stdout
    assert said == "this one\n"


def test_no_promise_where_no_login_reads_the_folder(checkout: Path, tmp_path: Path) -> None:
    done = shell(LINK, tmp_path / "bin", checkout=checkout, HOME=str(tmp_path))
    assert f"where {tmp_path}/bin is in your PATH" in done.stderr


@pytest.mark.parametrize("kind", ["file", "link", "venv of their own", "dangling"])
def test_somebody_elses_command_is_left_alone(checkout: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    theirs = folder / "virtkit"
    own = tmp_path / "project/.venv/bin/virtkit"
    own.parent.mkdir(parents=True)
    own.touch()
    match kind:
        case "file":
            theirs.write_text("theirs")
        case "link":
            theirs.symlink_to("/bin/true")
        case "venv of their own":
            theirs.symlink_to(own)
        case "dangling":
            theirs.symlink_to("/nonexistent/virtkit")
    before = theirs.lstat()
    untouched = (before.st_ino, before.st_mtime_ns, before.st_size)
    done = shell(LINK, folder, checkout=checkout, PATH=f"{folder}:{os.environ['PATH']}")
    after = theirs.lstat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == untouched
    assert f"{theirs} is not of this checkout, and left alone" in done.stderr
    assert done.stdout.rstrip().endswith(".venv/bin/virtkit'")


@pytest.mark.parametrize("gone", [False, True])
def test_the_link_of_another_checkout_follows(checkout: Path, tmp_path: Path, gone: bool) -> None:
    old, folder = tmp_path / "old/.venv", tmp_path / "bin"
    folder.mkdir()
    if not gone:
        (old / "bin").mkdir(parents=True)
        (old / "bin/virtkit").touch()
        (old / ".virtkit-stamp").touch()
    (folder / "virtkit").symlink_to(old / "bin/virtkit")
    done = shell(LINK, folder, checkout=checkout, PATH=f"{folder}:{os.environ['PATH']}")
    assert done.stdout == "virtkit\n"
    assert (folder / "virtkit").readlink() == checkout / ".venv/bin/virtkit"


@pytest.mark.parametrize("part", ["", ".venv"])
def test_a_checkout_of_somebody_else(checkout: Path, part: str) -> None:
    """It says so, and nothing of a package that is missing."""
    (checkout / "pyproject.toml").touch()
    if not part:
        shutil.rmtree(checkout / ".venv")
    place = checkout / part if part else checkout
    place.chmod(0o555)
    # root without its power over files
    powerless = ["setpriv", "--bounding-set", "-all"] if os.geteuid() == 0 else []
    line = [*powerless, "sh", "-euc", '. "$0"\ninstall_virtkit', checkout / "scripts/setup"]
    done = subprocess.run(line, capture_output=True, text=True)
    place.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: virtkit can't be installed: {place} is not yours to write to\n"
        f"cure: run this as {place.owner()}, or in a checkout of your own\n"
    )


@pytest.mark.slow
def test_a_checkout_that_moved_gets_another_venv(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    text = 'venv_works && echo works; /usr/bin/python3 -m venv --clear "$venv"; venv_works'
    assert shell(text, checkout=checkout).returncode == 0
    moved = checkout.rename(checkout.with_name("moved"))
    assert shell("venv_works", checkout=moved).returncode == 1


def test_up_takes_a_spec_from_where_the_caller_stands(tmp_path: Path) -> None:
    done = subprocess.run(
        [REPO / "scripts/up", "gone lab.yaml"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no gone lab.yaml\ncure: ")
    done = subprocess.run(
        [REPO / "scripts/up", "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: scripts/up [SPEC [GUEST…]]\n")


def test_the_files_that_are_begun_first_are_there() -> None:
    text = (REPO / "scripts/test").read_text()
    names = text.partition('LONGEST="')[2].partition('"')[0].split()
    assert len(names) > 10
    missing = [n for n in names if not (REPO / f"tests/integration/test_{n}.py").is_file()]
    assert missing == []
