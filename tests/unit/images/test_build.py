"""What a build refuses, and what it puts into an image."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import virtkit
from virtkit.errors import RequestError
from virtkit.images import build
from virtkit.progress import Progress


def test_an_unknown_distribution_is_refused_and_nothing_written(tmp_path: Path) -> None:
    recipe = build.Recipe(distribution="plan9", release="4", packages=(), size=1 << 30)
    with pytest.raises(RequestError, match="plan9") as error:
        build.build(recipe, tmp_path, progress=Progress())
    assert error.value.cure
    assert list(tmp_path.iterdir()) == []


def changed(folder: Path, path: str, old: str, new: str) -> str:
    """The fingerprint of virtkit with one of its files changed."""
    package = folder / "virtkit"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(
        Path(virtkit.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    text = (package / path).read_text()
    assert old in text
    (package / path).write_text(text.replace(old, new, 1))
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); "
    script += "from virtkit.images import build; print(build.__file__, build.fingerprint())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    file, answer = done.stdout.split()
    assert file == str(package / "images/build.py")
    return answer


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("images/build.py", '"less",', '"most",'),
        ("images/build.py", "--variant=minbase", "--variant=apt"),
        ("images/build.py", "path-exclude=/usr/share/man/*", "path-exclude=/usr/share/info/*"),
        ("images/guest/configure.sh", "apt-daily.timer", ""),
        ("images/guest/pack.sh", "virtkit-root", "root"),
        ("images/guest/initrd-init", "\n", "\n:\n"),
    ],
)
def test_what_goes_into_an_image_makes_another_one(
    tmp_path: Path, path: str, old: str, new: str
) -> None:
    assert changed(tmp_path, path, old, new) != build.fingerprint()


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("images/build.py", "virtkit can't build an image", "nobody can build one"),
        ("images/build.py", '"reading the package lists"', '"reading lists"'),
        ("images/build_errors.py", "is full", "has no room"),
        ("images/sandbox.py", '"--kill-child"', '"--kill-child=KILL"'),
    ],
)
def test_what_does_not_makes_none(tmp_path: Path, path: str, old: str, new: str) -> None:
    """Who mends an error's text has nobody's images rebuilt."""
    assert changed(tmp_path, path, old, new) == build.fingerprint()


def test_the_files_for_the_image_carry_their_own_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(build.guest_files())) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["usr/lib/virtkit/init"].mode == 0o755
    assert members["usr/lib/virtkit/seed"].mode == 0o755
    assert members["usr/lib/virtkit/cards"].mode == 0o755
    assert members["usr/lib/systemd/system/virtkit-seed.service"].mode == 0o644
    assert {member.uid for member in members.values()} == {0}
