"""Two specs that give their environments one name: what one of them made is not the other's.

As two people have it who both say ``name: duo``, and one who moves or copies a spec.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from integration.lab import (
    POOL,
    VIRTKIT,
    Lab,
    domains,
    laboratory,
    networks,
    obey,
    run,
    tiny_disk,
    virsh,
)

ANN = """
name: duo
images: {duo: {path: duo.raw}}
networks: {front: {cidr: 10.94.41.0/24}}
defaults: {image: duo, type: qemu, memory: 32MiB, ready: none, networks: [front]}
guests:
  a: {disks: [{name: data, size: 1MiB, keep: true}]}
"""
BOB = ANN.replace("  a: {", "  b: {")
#: Nobody listens there, so whoever waits for it waits.
NEVER = BOB.replace("ready: none", "ready: {port: 22, timeout: 5m}")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture
def ann(tmp_path: Path, settings: dict[str, str]) -> Iterator[Lab]:
    folder = tmp_path / "ann"
    folder.mkdir()
    (folder / "duo.raw").write_bytes(tiny_disk(b"duo"))
    with laboratory(folder, "duo", ANN, **settings) as lab:
        yield lab
        lab.write(ANN)


@pytest.fixture
def bob(ann: Lab, tmp_path: Path) -> Lab:
    """On the same host, another folder; its guest is there, beside ann's."""
    folder = tmp_path / "bob's"
    folder.mkdir()
    shutil.copy(ann.folder / "duo.raw", folder)
    lab = Lab(folder, "duo", ann.settings).write(BOB)
    assert ann.json("up")["ok"]
    assert lab.json("up", "b")["ok"]
    assert set(domains()) == {"duo-a", "duo-b"}
    return lab


def everything() -> tuple[Any, ...]:
    """What a refusal must leave as it is."""
    found = {name: virsh("dumpxml", name) for name in sorted(domains())}
    return found, networks(), {p.name: p.stat().st_ino for p in POOL.iterdir()}


def at_terminal(line: list[str], answer: str, settings: dict[str, str]) -> tuple[int, str]:
    """Runs a program with a terminal and answers its question; exit code, and what it showed."""
    child, end = pty.fork()
    if child == 0:
        os.execve(line[0], line, os.environ | settings)
    said = b""
    with suppress(OSError):  # the other end has gone
        while select.select([end], [], [], 120)[0]:
            new = os.read(end, 65536)
            if not new:
                break
            if b"[y/N]" in new and b"[y/N]" not in said:
                os.write(end, answer.encode() + b"\r")
            said += new
    os.close(end)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode()


def test_down_asks_for_what_another_spec_made(ann: Lab, bob: Lab) -> None:
    before = everything()
    for words in ((), ("b",), ("*",), ("--volumes",)):
        error = ann.json("down", *words, code=2)["error"]
        assert "made from another spec" in error["what"]
        assert "guest/b: duo-b-root" in error["why"]
        assert f"made from {bob.spec}, not from {ann.spec}" in error["why"]
        assert "guest/a" not in error["why"]
        assert "--yes" in error["cure"]
        assert everything() == before
    # a terminal: the plan, a question, and what is answered
    for answer, code in (("n", 2), ("y", 0)):
        ended, said = at_terminal(ann.line("down", "b"), answer, dict(ann.settings))
        assert ended == code, said
        assert f"spec: {bob.spec} -> {ann.spec}" in said.replace("\r\n", "")
        assert ("duo-b" in domains()) is (answer == "n")
    assert "duo-a" in domains()


def test_the_cure_removes_only_what_is_ones_own(ann: Lab, bob: Lab) -> None:
    cure = ann.json("down", code=2)["error"]["cure"].partition("this spec's: ")[2]
    obey(cure)
    assert set(domains()) == {"duo-b"}
    assert networks() == {"duo-front"}, "bob's guest holds it"
    # a's kept disk is ann's: bob's --volumes has to say so
    error = bob.json("down", "--volumes", code=2)["error"]
    assert "disk/duo-a-data" in error["why"]
    assert f"made from {ann.spec}" in error["why"]
    assert bob.json("down")["ok"]
    assert ann.json("down", "--volumes", code=2)["error"]["why"].count("duo-b-data") == 2
    assert ann.json("down", "--volumes", "--yes")["ok"]
    assert not ann.left()


def test_verbs_without_a_guest_leave_others_guests_alone(ann: Lab, bob: Lab) -> None:
    for verb, state in (("stop", "shut off"), ("start", "running"), ("restart", "running")):
        began = virsh("domid", "duo-b")
        words = () if verb == "start" else ("--timeout", "0")
        ran = ann.virtkit(verb, *words)
        assert f"guest b is left alone: it was made from {bob.spec}" in ran.err
        assert virsh("domstate", "duo-a") == state
        assert (virsh("domstate", "duo-b"), virsh("domid", "duo-b")) == ("running", began)
    ann.virtkit("stop", "*", "--timeout", "0")
    assert virsh("domstate", "duo-b") == "running"
    ann.virtkit("stop", "b", "--timeout", "0")
    assert virsh("domstate", "duo-b") == "shut off"
    assert "guest b was made from another spec" in ann.virtkit("status").err
    # nor do playbooks get there
    assert set(ann.json("inventory")["_meta"]["hostvars"]) == {"a"}


def test_up_names_both_specs(ann: Lab, bob: Lab) -> None:
    """It would delete what its spec does not name, and asks."""
    before = everything()
    error = ann.json("up", code=2)["error"]
    assert (
        f"duo-b-root (duo-b-data stays) (made from {bob.spec}, not from {ann.spec})"
        in (error["why"])
    )
    assert "another `name:`" in error["cure"]
    assert everything() == before
    # a change of another's guest, or of a network that it holds
    bob.write(BOB.replace("10.94.41", "10.94.42").replace("  b: {", "  a: {memory: 48MiB}\n  b: {"))
    error = bob.json("plan", "b", code=2)["error"]
    assert (
        f"duo-a (made from {ann.spec}), duo-b would lose their network connection" in error["why"]
    )
    bob.write(BOB.replace("  b: {", "  a: {memory: 48MiB}\n  b: {"))
    notes = bob.json("plan", "a")["notes"]
    assert f"guest/a: made from {ann.spec}, not from {bob.spec}" in notes
    # of an image
    line = [VIRTKIT, "image", "rm", "duo", "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    cure = json.loads(done.stdout)["error"]["cure"]
    assert f"virtkit down {ann.spec} a" in cure
    assert "bob'\"'\"'s/duo.yaml' b" in cure


def test_status_of_all_is_by_spec(ann: Lab, bob: Lab) -> None:
    guests = json.loads(run(VIRTKIT, "status", "--json"))["guests"]
    seen = [(each["environment"], each["spec"], each["name"]) for each in guests]
    assert seen == [("duo", str(ann.spec), "a"), ("duo", str(bob.spec), "b")]
    lines = run(VIRTKIT, "status").splitlines()
    first, second = (lines.index(f"duo: {each.spec} (root)") for each in (ann, bob))
    assert lines[first + 2].startswith("a ")
    assert lines[second + 2].startswith("b ")


def test_a_spec_by_another_path(ann: Lab, tmp_path: Path) -> None:
    """A symlink is the same spec; one that moved or is a copy is another, and both are told."""
    assert ann.json("up")["ok"]
    link = tmp_path / "link"
    link.symlink_to(ann.folder)
    linked = Lab(link, "duo", ann.settings)
    assert linked.json("plan")["changes"] == []
    # the folder moves, and the old place leads there
    place = tmp_path / "moved"
    ann.folder.rename(place)
    ann.folder.symlink_to(place)
    moved = Lab(place, "duo", ann.settings)
    moved.virtkit("stop", "--timeout", "0")
    assert moved.json("down")["ok"]
    assert moved.json("up")["ok"]
    ann.folder.unlink()
    place.rename(ann.folder)
    error = ann.json("down", code=2)["error"]
    assert f"made from {place}/duo.yaml, not from {ann.folder}/duo.yaml" in error["why"]
    assert "before its file was moved" in error["cure"]
    assert ann.json("plan")["changes"] == []
    # from standard input
    line = [str(VIRTKIT), "down", "-", "--json"]
    done = subprocess.run(line, input=ANN, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not from <stdin>" in json.loads(done.stdout)["error"]["why"]
    assert ann.json("down", "--yes")["ok"]


def test_an_orphan_s_cure_leaves_others_guests_alone(ann: Lab, bob: Lab) -> None:
    def orphans(*words: str | Path) -> dict[str, dict[str, Any]]:
        found = json.loads(run(VIRTKIT, "doctor", "--orphans", "--json", *words))["orphans"]
        return {each["name"]: each for each in found if each["environment"] == "duo"}

    assert orphans() == {}
    assert orphans(ann.spec) == {}, "bob's spec names bob's guest, though this one doesn't"
    ann.spec.unlink()
    # the network is ann's, and bob's guest uses it
    found = orphans()
    assert set(found) == {"duo-a"}
    obey(found["duo-a"]["cure"])
    assert set(domains()) == {"duo-b"}
    assert networks() == {"duo-front"}
    bob.virtkit("down")
    found = orphans()
    assert set(found) == {"duo-a-data"}, "bob's kept disk has a spec that names its guest"
    obey(found["duo-a-data"]["cure"])
    assert orphans() == {}
    assert not (POOL / "duo-a-data").exists()
    assert (POOL / "duo-b-data").exists()
    ann.write(ANN)


def test_who_is_at_work(ann: Lab, tmp_path: Path) -> None:
    """While bob's run is at it, and once it was killed."""
    folder = tmp_path / "bob"
    folder.mkdir()
    shutil.copy(ann.folder / "duo.raw", folder)
    bob = Lab(folder, "duo", ann.settings).write(NEVER)
    with bob.starts("up") as up:
        assert up.stderr is not None
        while "guest/b ready" not in up.stderr.readline():
            assert up.poll() is None
        at_it = f"a run is working on environment duo: process {up.pid} of root"
        for notes in (bob.json("plan")["notes"], ann.json("plan")["notes"]):
            (note,) = (each for each in notes if "is working on" in each)
            assert note.startswith(at_it)
            assert f"virtkit up {bob.spec}" in note
        assert at_it in bob.virtkit("status").err
        done = subprocess.run([VIRTKIT, "status"], capture_output=True, text=True, check=True)
        assert at_it in done.stderr
        up.send_signal(signal.SIGKILL)
        up.communicate()
    assert not any("is working on" in each for each in bob.json("plan")["notes"])
    # what was left is off by now: it is started, no more
    virsh("destroy", "duo-b")
    (change,) = (e for e in bob.json("plan", "b")["changes"] if e["object"] == "guest/b")
    assert (change["action"], change["effect"]) == ("start", "none")
    assert [(e["field"], e["cause"]) for e in change["reasons"]] == [
        ("state", "unfinished"),
        ("finished", "unfinished"),
    ]
    bob.write(BOB)
    assert bob.json("up", "b")["ok"]
    assert bob.json("plan", "b")["changes"] == []


def test_who_changed_something_meanwhile(ann: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "bob"
    folder.mkdir()
    shutil.copy(ann.folder / "duo.raw", folder)
    bob = Lab(folder, "duo", ann.settings).write(BOB + "  more: {}\n")
    assert ann.json("up")["ok"]
    ann.write(ANN + "  more: {}\n")
    path = Path("/run/lock/virtkit-env-duo.lock")
    with path.open() as lock, ExitStack() as ending:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waits = [ending.enter_context(ann.starts("up", *words)) for words in ((), ("more",))]
        for each in waits:
            assert each.stderr is not None
            while "waiting at most" not in each.stderr.readline():
                assert each.poll() is None
            each.send_signal(signal.SIGSTOP)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert bob.json("up", "b", "more")["ok"]
        said = []
        for each, code in zip(waits, (2, 0), strict=True):
            each.send_signal(signal.SIGCONT)
            _, err = each.communicate(timeout=120)
            assert each.returncode == code, err
            said.append(err)
    who = f"another run (this one waited for process {os.getpid()} of root"
    assert f"environment duo: {who}" in said[0]
    assert f"it has guests made from {bob.spec}) changed something meanwhile" in said[0]
    assert f"(made from {bob.spec}, not from {ann.spec})" in said[0]
    # b's place in the network stays
    assert f"environment duo: nothing left to change: {who}" in said[1]
    assert set(domains()) == {"duo-a", "duo-b", "duo-more"}
