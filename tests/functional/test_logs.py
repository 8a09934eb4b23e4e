"""Logs that can't be read, against libvirt's test driver: they say so, and the others are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
import samples
from functional.conftest import NODE, POOL

from virtkit import access, api
from virtkit.cli import commands
from virtkit.errors import VirtkitError
from virtkit.host import Host
from virtkit.progress import Progress
from virtkit.state import record, record_text
from virtkit.xml import render, tree

pytestmark = pytest.mark.usefixtures("streams")

SPEC = """name: told
guests:
  web: {type: qemu, networks: []}
  box: {type: lxc, networks: []}
  kernel: {type: uml, networks: []}
"""


@pytest.fixture
def path(host_with: Callable[..., Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spec of three guests: one that printed a line, a container that is off, and a kernel that
    only ssh leads into, and that has no address."""
    path = tmp_path / "told.yaml"
    path.write_text(SPEC)
    (tmp_path / "lxc.xml").write_text(NODE.format(""))
    host = host_with(POOL)
    machines = host.connections.get("qemu")
    containers = libvirt.open(f"test://{tmp_path}/lxc.xml")
    for guest in map(samples.with_image, samples.desired_of(SPEC).guests):
        made = record.of_guest(guest, str(path)).with_state("made")
        element = record_text.guest_element(replace(made, finished=True))
        libvirts = machines if guest.name == "web" else containers
        domain = libvirts.defineXML(tree.with_record(render.domain_xml(guest), element))
        if guest.name != "box":
            domain.create()
        for volume in guest.volumes if guest.name == "web" else ():
            host.storage.create(render.guest_volume_xml(volume))
    host.storage.write("told-web-console", b"hello\n")
    monkeypatch.setattr(
        libvirt, "open", lambda uri: machines if uri.startswith("qemu") else containers
    )
    return path


def told(*words: str | Path) -> int:
    """The exit code of `virtkit logs`."""
    with pytest.raises(SystemExit) as end:
        commands.run(["logs", *map(str, words)])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_the_others_are_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(path) == 1
    printed = capsys.readouterr()
    assert printed.out == "web | hello\n"
    assert "the journal of guest box can't be read" in printed.err
    assert f"cure: first: virtkit start {path} box" in printed.err
    assert "the journal of guest kernel can't be read" in printed.err
    assert "no address" in printed.err
    assert f"virtkit console {path} kernel" in printed.err


def test_programs_are_told_both(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(path, "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["logs"] == {"web": "hello\n"}
    assert document["error"] == document["errors"][0]
    wheres = {each["where"] for each in document["errors"]}
    assert wheres == {"local guest/box", "local guest/kernel"}


def test_none_of_them_is_an_error(path: Path) -> None:
    spec = api.read(path)
    with pytest.raises(VirtkitError, match="journal of guest box can't be read"):
        api.logs(spec, ["box"])
    with pytest.raises(VirtkitError, match="none of the logs") as caught:
        api.logs(spec, ["box", "kernel"])
    assert "guest box" in caught.value.why
    assert "guest kernel" in caught.value.why


def test_a_guest_that_is_not_ready_has_no_empty_console(path: Path) -> None:
    """Nobody could read what it printed, and so nobody knows."""
    host = Host()
    made = host.observe().guests["told-kernel"].record
    ready = {"kind": "command", "command": "true", "timeout": 1}
    asked = replace(made, requested={**made.requested, "ready": ready})
    with pytest.raises(VirtkitError) as caught:
        access.wait_ready(host, asked, path.parent, Progress())
    assert "empty" not in caught.value.why
    assert "what its journal has can't be read: ssh: no address" in caught.value.why
