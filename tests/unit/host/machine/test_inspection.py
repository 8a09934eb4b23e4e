"""A host is asked for what its own files tell by a program that goes along with the question."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from virtkit.host.machine import inspection
from virtkit.host.questions import _RUN, _packed

#: Those whose answers are the same a moment later.
LASTING = ["boot", "freezer", "hook_outdated", "ids", "missing_files=/bin/sh,/none", "unfit"]
LASTING += ["missing_settings", "no_userns", "xen"]


def answers_elsewhere(*questions: str) -> dict[str, object]:
    """What the program answers where nothing of virtkit's is: as a shell on another host runs it,
    by the system's own Python."""
    line = ["env", "-i", "PATH=/usr/bin:/bin", "sh", "-c", f"{_RUN} {' '.join(questions)}"]
    done = subprocess.run(line, input=_packed(), capture_output=True, cwd="/", check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_another_host_answers_as_this_one() -> None:
    assert answers_elsewhere(*LASTING) == json.loads(json.dumps(inspection.answer(LASTING)))


def test_nothing_of_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["env", f"TMPDIR={tmp_path}", "sh", "-c", f"{_RUN} boot"]
    subprocess.run(line, input=_packed(), stdout=subprocess.DEVNULL, check=True)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing() -> None:
    answer = inspection.answer(["missing_files=/bin/sh,/no/such program"])
    assert answer == {"missing_files": ["/no/such program"]}


def test_every_question_has_an_answer_that_json_can_hold() -> None:
    every = [each if each != "counting" else "counting=100" for each in inspection._QUESTIONS]
    answer = inspection.answer(every)
    assert answer.keys() == inspection._QUESTIONS.keys()
    assert json.loads(json.dumps(answer)) == answer
    assert 0 <= answer["counting"] < 1


def test_xen_is_asked_where_xen_is_only(tmp_path: Path) -> None:
    """libvirt notes each vain question in the host's log."""
    assert not inspection.xen(tmp_path)
    (tmp_path / "sys/hypervisor").mkdir(parents=True)
    (tmp_path / "sys/hypervisor/type").write_text("xen\n")
    assert inspection.xen(tmp_path)
    (tmp_path / "sys/hypervisor/type").write_text("kvm\n")
    assert not inspection.xen(tmp_path)
    (tmp_path / "proc/xen").mkdir(parents=True)
    assert inspection.xen(tmp_path)


def test_it_imports_nothing_that_another_host_has_not() -> None:
    """It goes there alone, and the system's Python has the standard library."""
    for path in Path(inspection.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.split(".")[0] in sys.stdlib_module_names
                assert known or name.startswith("virtkit.host.machine"), f"{path.name}: {name}"


def test_what_paths_are(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    (tmp_path / "link").symlink_to("disk")
    paths = [*(tmp_path / each for each in ("disk", "link", "gone", ".")), Path("/dev/null")]
    (answer,) = inspection.answer([f"kinds={','.join(map(str, paths))}"]).values()
    assert [*answer.values()] == ["file", "file", "", "other", "other"]


def test_all_names_of_a_file_come_to_one_path(tmp_path: Path) -> None:
    file = tmp_path.resolve() / "a,b c"
    file.touch()
    link, gone = file.with_name("link"), file.with_name("gone")
    link.symlink_to(file)
    question = "real_paths=" + ",".join(quote(str(each)) for each in (file, link, gone))
    expected = {str(file): str(file), str(link): str(file), str(gone): str(gone)}
    assert inspection.answer([question])["real_paths"] == expected
    assert answers_elsewhere(question)["real_paths"] == expected
