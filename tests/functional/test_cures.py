"""Cures name the spec and the guest that they are about: pasted anywhere, they reach no other
guest. Against libvirt's test driver.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import samples
from functional.conftest import serve_qemu

import virtkit
from virtkit import api
from virtkit.api import access
from virtkit.drivers import QEMU
from virtkit.errors import RequestError
from virtkit.host import Host
from virtkit.spec import Spec, read_text
from virtkit.state import record, record_text
from virtkit.xml import render, tree

SPEC = "name: cures\nguests: {web: {type: qemu}, other: {type: qemu}, new: {type: qemu}}\n"
POOL = "<pool type='dir'><name>default</name><target><path>/pool/</path></target></pool>"

#: What does something to every guest of ./virtkit.yaml where neither spec nor guest is named.
UNNAMED = re.compile(r"virtkit (start|stop|restart|pause|resume|down|provision)\b(?! (SPEC|-f))")


@pytest.fixture
def spec(host_with: Callable[..., Host], monkeypatch: pytest.MonkeyPatch) -> Spec:
    """An environment of two guests that are off, and one that is not made."""
    host = host_with(POOL)
    for guest in samples.desired_of(SPEC).guests:
        if guest.name == "new":
            continue
        guest = samples.with_image(guest)
        body = render.domain_xml(guest)
        made = record.of_guest(guest, "/lab.yaml", body).with_state("made")
        element = record_text.guest_element(replace(made, finished=True))
        host.domains.define(QEMU, tree.with_record(body, element), autostart=False)
    serve_qemu(host, monkeypatch)
    return read_text(SPEC, source="/lab.yaml", folder=Path("/"))


def cure_of(call: Callable[[], object]) -> str:
    with pytest.raises(RequestError) as caught:
        call()
    return caught.value.cure


def test_a_guest_that_does_not_run(spec: Spec) -> None:
    assert cure_of(lambda: access.login(spec, "web")) == "first: virtkit start /lab.yaml web"
    assert cure_of(lambda: api.vnc(spec, "web")) == "first: virtkit start /lab.yaml web"
    api.change_state(spec, "start", ["web"], wait=False)
    api.change_state(spec, "pause", ["web"])
    assert cure_of(lambda: api.console(spec, "web")) == "first: virtkit resume /lab.yaml web"


def test_one_that_is_stopped_can_not_be_resumed(spec: Spec) -> None:
    cure = cure_of(lambda: api.change_state(spec, "resume", ["web"]))
    assert cure == "start it: virtkit start /lab.yaml web"


def test_one_that_is_not_made(spec: Spec) -> None:
    cure = "make it: virtkit up /lab.yaml new"
    assert cure_of(lambda: access.login(spec, "new")) == cure
    assert cure_of(lambda: api.change_state(spec, "start", ["new"])) == cure


def test_one_without_a_display(spec: Spec) -> None:
    api.change_state(spec, "start", ["web"], wait=False)
    cure = cure_of(lambda: api.vnc(spec, "web"))
    assert cure == "give it `graphics: vnc`, then virtkit up /lab.yaml web --restart"


def test_no_text_of_ours_names_a_verb_alone() -> None:
    package = Path(virtkit.__file__).parent
    hits = []
    for file in sorted(package.rglob("*.py")):
        parsed = ast.parse(file.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(parsed)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        hits += [
            f"{file.relative_to(package)}:{node.lineno}: {found.group()}"
            for node in ast.walk(parsed)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in docstrings
            if (found := UNNAMED.search(node.value)) is not None
        ]
    assert hits == []
