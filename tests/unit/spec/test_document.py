"""Reading the file itself: what cannot be read is told with a cure, and exit code 2."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from virtkit.errors import RequestError
from virtkit.spec import load
from virtkit.spec.files import MAX_FILE_SIZE


def refused(path: str | Path) -> RequestError:
    with pytest.raises(RequestError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    assert caught.value.cure
    return caught.value


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab.yaml").write_bytes(b"\xef\xbb\xbfguests: {web: {}}\r\n")
    spec = load(tmp_path / "lab.yaml")
    assert (spec.name, spec.folder) == ("lab", tmp_path)
    assert spec.source == str(tmp_path / "lab.yaml")
    monkeypatch.chdir(tmp_path)
    spec = load("lab.yaml")
    assert (spec.source, spec.folder) == ("lab.yaml", tmp_path)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"name: lab\n")))
    spec = load("-")
    assert (spec.name, spec.source, spec.folder) == ("lab", "<stdin>", tmp_path)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"guests: {}\n")))
    assert refused("-").where == "<stdin>:1:1 name"


def test_missing(tmp_path: Path) -> None:
    error = refused(tmp_path / "none.yaml")
    assert "there is no file" in error.what
    assert error.where == str(tmp_path / "none.yaml")


def test_folder(tmp_path: Path) -> None:
    assert "virtkit.yaml" in refused(tmp_path).cure


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text("name: lab")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def denied(*args: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    error = refused(path)
    assert (error.why, "can't be read" in error.what) == ("Permission denied", True)


def test_not_a_folder_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file" / "lab.yaml").why == "Not a directory"


def test_odd_paths(tmp_path: Path) -> None:
    refused("a\0b.yaml")
    refused(tmp_path / ("x" * 5000))


def test_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(b"name: lab\nguests: {w\xff: {}}\n")
    assert refused(path).where == f"{path}:2:11"


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "lab.yaml"
    path.write_bytes(b"#" * (MAX_FILE_SIZE + 1))
    assert "larger than 1024 KiB" in refused(path).what
