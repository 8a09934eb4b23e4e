"""What Ansible reads of a playbook, and how a run of it is told: Ansible runs on this machine."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from virtkit import ansible
from virtkit.ansible import runner
from virtkit.errors import Interrupted, RequestError
from virtkit.progress import Progress

HERE = {"all": {"hosts": {"here": {"ansible_connection": "local"}}}}
#: Seconds, as no other test has them.
SLEEP = "617.5"
HERE["all"]["hosts"]["here"]["ansible_python_interpreter"] = "/usr/bin/python3"


def playbook(path: Path, *tasks: str) -> Path:
    lines = "".join(f"    - {each}\n" for each in tasks)
    path.write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n{lines}")
    return path


def play(path: Path, **values: Any) -> ansible.PlaybookRun:
    return ansible.PlaybookRun((path,), HERE, path.parent, **values)


# --- what it reads --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "there is no playbook"),
        ("- hosts: [\n", "this is not valid YAML"),
        ("hosts: all\n", "is not a playbook"),
        ("", "is not a playbook"),
        ("just words\n", "is not a playbook"),
        (b"\xff\xfe", "can't be read"),
    ],
)
def test_what_is_no_playbook(tmp_path: Path, text: str | bytes | None, what: str) -> None:
    path = tmp_path / "site.yml"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RequestError) as caught:
        ansible.check(path, "spec.yaml:1:1")
    assert what in caught.value.what
    assert caught.value.cure


@pytest.mark.parametrize(
    "text", ["- hosts: all\n", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", "- {vars: {a: !vault x}}\n"]
)
def test_what_may_be_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yml").write_text(text)
    ansible.check(tmp_path / "site.yml", "")


FILES = {
    "site.yml": "- hosts: all\n  vars_files: [settings/a.yml]\n  tasks: [{script: run.sh}]\n",
    "settings/a.yml": "more: ../deep/b.json\n",
    "deep/b.json": "{}",
    "run.sh": "true",
    "roles/r/tasks/main.yml": "[]",
    "templates/x.j2": "x",
    "group_vars/all.yml": "a: 1",
    "ansible.cfg": "[defaults]\nroles_path = shared:/usr/share",
    "shared/r/tasks/main.yml": "[]",
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_makes_another_digest(tmp_path: Path, name: str) -> None:
    for each, text in FILES.items():
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).write_text(text)
    path = tmp_path / "site.yml"
    before = ansible.digests([path], tmp_path)
    assert ansible.digests([path], tmp_path) == before
    (tmp_path / name).write_text(FILES[name] + "\n")
    for old, new in zip(before, ansible.digests([path], tmp_path), strict=True):
        assert old != new


def test_what_is_not_read_makes_none(tmp_path: Path) -> None:
    path = tmp_path / "site.yml"
    path.write_text("- hosts: all\n  tasks: [{copy: {src: /etc/hostname, dest: /etc/motd}}]\n")
    before = ansible.digests([path], tmp_path)
    (tmp_path / "lab.yaml").write_text("guests: {}")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "roles/r/.git").mkdir(parents=True)
    (tmp_path / "roles/r/.git/HEAD").write_text("x")
    os.mkfifo(tmp_path / "templates")  # nobody is to wait for it
    assert ansible.digests([path], tmp_path) == before


def test_what_installs_python(tmp_path: Path) -> None:
    raw = playbook(tmp_path / "raw.yml", "ansible.builtin.raw: apt-get install python3")
    ping = playbook(tmp_path / "ping.yml", "ansible.builtin.ping:")
    assert ansible.installs_python([raw])
    assert not ansible.installs_python([ping])


# --- how it runs ----------------------------------------------------------------------------


def test_tasks_are_told_and_counted(tmp_path: Path) -> None:
    path = playbook(
        tmp_path / "site.yml",
        "{name: First, ansible.builtin.command: 'true'}",
        "{name: Second, ansible.builtin.command: 'false', ignore_errors: true}",
        "{name: Third, ansible.builtin.debug: {msg: '{{ word }}'}}",
    )
    said: list[str] = []
    log = tmp_path / "log"
    done = ansible.run(play(path, variables={"word": "spoken"}, log=log), Progress(said.append))
    assert said == ["First", "Second", "Third"]
    assert (done.code, done.failures, done.changed) == (0, (), {"here": 2})
    assert "spoken" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "site.yml"]


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ("{name: T, ansible.builtin.command: sh -c 'echo no luck >&2; exit 3'}", "no luck"),
        ("{name: T, ansible.builtin.fail: {msg: it says so}}", "T (here): it says so"),
        (
            """{name: T, ansible.builtin.command: "sh -c 'exit {{ item }}'", loop: [0, 5]}""",
            "T (here): non-zero return code",
        ),
        (
            "{name: T, ansible.builtin.command: sh -c 'echo hush; exit 3', no_log: true}",
            "T (here): its message is hidden by `no_log: true`",
        ),
        ("{name: T, nosuchmodule: {}}", "nosuchmodule"),
        ("{name: T, ansible.builtin.debug: {msg: '{{ nobody }}'}}", "'nobody' is undefined"),
    ],
)
def test_why_it_failed(tmp_path: Path, task: str, why: str) -> None:
    done = ansible.run(play(playbook(tmp_path / "site.yml", task)), Progress())
    assert done.code != 0
    assert why in done.why
    assert "hush" not in done.why


def test_secrets_of_loops_are_hidden_too(tmp_path: Path) -> None:
    task = "{name: T, ansible.builtin.command: 'false {{ item }}', loop: [$word], no_log: true}"
    task = task.replace("$word", "'{{ word }}'")
    log = tmp_path / "log"
    path = playbook(tmp_path / "site.yml", task)
    done = ansible.run(play(path, log=log, variables={"word": "hush"}), Progress())
    assert done.code != 0
    assert "hush" not in done.why + log.read_text()


def test_it_ends_where_the_work_should_end(tmp_path: Path) -> None:
    path = playbook(tmp_path / "site.yml", f"ansible.builtin.command: sleep {SLEEP}")
    stop = threading.Event()
    began = time.monotonic()
    progress = Progress(lambda line: threading.Timer(1, stop.set).start(), stop)
    with pytest.raises(Interrupted):
        ansible.run(play(path), progress)
    assert time.monotonic() - began < 30
    assert until(lambda: not working(path) and not working(f"sleep {SLEEP}"))


def test_it_ends_in_the_middle_of_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ansible-runner had written of it is no JSON."""
    half = tmp_path / "half.py"
    half.write_text("import time\nprint('{\"event\": ', end='', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(runner, "_RUNNER", half)
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    with pytest.raises(Interrupted):
        ansible.run(play(playbook(tmp_path / "site.yml")), Progress(stop=stop))


def test_it_is_ended_before_it_has_read_what_to_run(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    many = (playbook(tmp_path / "site.yml"),) * 5000  # more than a pipe holds
    with pytest.raises(Interrupted):
        ansible.run(ansible.PlaybookRun(many, HERE, tmp_path), Progress(stop=stop))


def test_a_killed_run_leaves_nothing_at_work(tmp_path: Path) -> None:
    """Ansible's workers leave its session, and their commands run on where only it is killed."""
    path = playbook(tmp_path / "site.yml", f"ansible.builtin.command: sleep {SLEEP}")
    code = (
        "from pathlib import Path; from virtkit import ansible; "
        "from virtkit.progress import Progress; "
        f"ansible.run(ansible.PlaybookRun((Path({str(path)!r}),), {HERE!r}, Path('/')), Progress())"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as run:
        assert until(lambda: working(path) and working(f"sleep {SLEEP}"))
        run.kill()
    assert until(lambda: not working(path) and not working(f"sleep {SLEEP}"))


def working(what: object) -> list[str]:
    """The processes that have this in their command line."""
    line = ["pgrep", "-f", str(what)]
    return subprocess.run(line, capture_output=True, text=True, check=False).stdout.split()


def until(what: Callable[[], object]) -> bool:
    end = time.monotonic() + 60
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return bool(answer)


def test_a_folder_of_ansibles_name_is_not_what_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor what PATH has first, nor a locale that Ansible refuses."""
    (tmp_path / "ansible").mkdir()
    (tmp_path / "ansible/__init__.py").write_text("raise SystemExit(77)")
    (tmp_path / "ansible-playbook").write_text("#!/bin/sh\nexit 77\n")
    (tmp_path / "ansible-playbook").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C")
    path = playbook(tmp_path / "site.yml", "ansible.builtin.ping:")
    assert ansible.run(play(path), Progress()).code == 0


def test_check_mode_changes_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    task = f"ansible.builtin.copy: {{content: x, dest: {made}, mode: '0644'}}"
    path = playbook(tmp_path / "site.yml", task)
    assert ansible.run(play(path, check=True), Progress()).changed == {"here": 1}
    assert not made.exists()
    assert ansible.run(play(path), Progress()).changed == {"here": 1}
    assert ansible.run(play(path), Progress()).changed == {}
