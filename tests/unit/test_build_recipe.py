"""What a build refuses, and what it puts into an image."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from virtkit.errors import RequestError, VirtkitError
from virtkit.images import build
from virtkit.voice import Voice


def test_an_unknown_distribution_is_refused_and_nothing_written(tmp_path: Path) -> None:
    recipe = build.Recipe(distribution="plan9", release="4", packages=(), size=1 << 30)
    with pytest.raises(RequestError, match="plan9") as error:
        build.build(recipe, tmp_path, say=Voice())
    assert error.value.cure
    assert list(tmp_path.iterdir()) == []


def test_a_missing_tool_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda tool, path: None)
    recipe = build.Recipe(distribution="debian", release="bookworm", packages=(), size=1 << 30)
    with pytest.raises(VirtkitError, match="mmdebstrap") as error:
        build.build(recipe, tmp_path, say=Voice())
    assert error.value.cure.startswith("apt-get install mmdebstrap")


def test_the_files_for_the_image_carry_their_own_modes() -> None:
    with tarfile.open(fileobj=io.BytesIO(build._guest_files())) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["usr/lib/virtkit/init"].mode == 0o755
    assert members["usr/lib/virtkit/seed"].mode == 0o755
    assert members["usr/lib/virtkit/cards"].mode == 0o755
    assert members["usr/lib/systemd/system/virtkit-seed.service"].mode == 0o644
    assert {member.uid for member in members.values()} == {0}
