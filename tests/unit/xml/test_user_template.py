"""Templates of users run in a process of their own, and come to an end within bounds."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import samples

from virtkit.errors import RequestError
from virtkit.spec.model import GuestFile
from virtkit.state.desired import Guest
from virtkit.xml import user_template

TEXT = "<domain><name>{{ guest.domain }}</name>EXTRA</domain>"

#: The file, line and column of the spec's `template:`.
PLACE = "lab.yaml:1:64 guests.web.template"


def guest_of(folder: Path, extra: str) -> Guest:
    (folder / "own.xml.j2").write_text(TEXT.replace("EXTRA", extra))
    spec = {"name": "lab", "guests": {"web": {"type": "qemu", "template": "own.xml.j2"}}}
    return replace(samples.guest_of(json.dumps(spec)), source_folder=str(folder))


def test_it_is_rendered_as_in_our_own_process(tmp_path: Path) -> None:
    text = "<title>{{ guest.spec.memory }} é \U0001f600 {{ guest.volume('root').key }}</title>"
    found = user_template.rendered(guest_of(tmp_path, text))
    title = "<title>1073741824 é \U0001f600 /pool/lab-web-root</title>"
    assert found == f"<domain><name>lab-web</name>{title}</domain>"


def test_it_sees_no_secrets(tmp_path: Path) -> None:
    """What a template makes stands in libvirt, where others read it."""
    names = ("spec", "spec.cloud_init", "spec.core_cloud_init", "spec.vars", "requested")
    names += ("spec.files", "spec.file_contents", "spec.password", "spec.password_text")
    names += ("spec.ignition_bytes",)
    shown = " ".join(f"{{{{ guest.{each} }}}}" for each in names)
    guest = guest_of(tmp_path, f"{shown} {{{{ guest.skips_cloud_init }}}} ")
    cloud = {"chpasswd": {"users": ["a secret"]}}
    hidden = {"cloud_init": cloud, "core_cloud_init": cloud, "vars": {"token": "a secret"}}
    given = {"file_contents": {"/etc/a": b"a secret"}, "password_text": "a secret"}
    given["ignition_bytes"] = b"a secret"
    file = GuestFile(path="/etc/a", content="a secret")
    own_spec = guest.spec.model_copy(update={**hidden, **given, "files": (file,)})
    own = replace(guest, spec=own_spec)
    assert "a secret" not in user_template.rendered(own)
    assert " False " in user_template.rendered(own), "it is told that there is one"
    assert " True " in user_template.rendered(guest)


def test_without_a_template_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)
    assert user_template.rendered(samples.guest_of("guests: {web: {}}\nname: lab")) == ""
    with pytest.raises(TypeError):
        user_template.rendered(guest_of(tmp_path, ""))


@pytest.mark.parametrize(
    "extra",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'x' * 50000000 }}",
        "{{ 'x' * 10 ** 10 }}",
        "{{ '%1000000000d' % 1 }}",
        "{% set a = namespace(b='x') %}{% for i in 'x'*60 %}{% set a.b = a.b ~ a.b %}{% endfor %}",
    ],
)
def test_a_template_without_end(extra: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(RequestError, match="does not finish") as caught:
        user_template.rendered(guest_of(tmp_path, extra))
    assert "own.xml.j2" in caught.value.cure
    assert caught.value.where == PLACE
    assert time.monotonic() - began < user_template._TIMEOUT


@pytest.mark.parametrize("more", [0, 1])
def test_a_template_is_never_cut(more: int, tmp_path: Path) -> None:
    most = user_template._MAX_BYTES
    guest = guest_of(tmp_path, "")
    path = tmp_path / "own.xml.j2"
    comment = "x" * (most + more - len(path.read_bytes()) - len("{##}"))
    path.write_text(path.read_text() + "{#" + comment + "#}")
    assert path.stat().st_size == most + more
    if not more:
        assert user_template.rendered(guest) == "<domain><name>lab-web</name></domain>"
        return
    with pytest.raises(RequestError, match="can't be read") as caught:
        user_template.rendered(guest)
    assert caught.value.why == "it has more than 4 MiB"
    assert caught.value.where == PLACE


def test_a_broken_template(tmp_path: Path) -> None:
    for extra in ("{{ nothing }}", "{% if %}", "{{ guest.spec.parse_file('/etc/passwd') }}"):
        with pytest.raises(RequestError, match="can't be rendered") as caught:
            user_template.rendered(guest_of(tmp_path, extra))
        assert caught.value.where == PLACE
        assert caught.value.cure


def test_a_template_that_is_no_text(tmp_path: Path) -> None:
    guest = guest_of(tmp_path, "")
    (tmp_path / "own.xml.j2").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="can't be read"):
        user_template.rendered(guest)
    (tmp_path / "own.xml.j2").unlink()
    for make in (lambda: None, (tmp_path / "own.xml.j2").mkdir):
        make()
        with pytest.raises(RequestError, match="can't be read"):
            user_template.rendered(guest)


def test_a_module_beside_the_spec_is_not_taken_for_one_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit('a stranger')")
    (tmp_path / "virtkit.py").write_text("raise SystemExit('a stranger')")
    monkeypatch.chdir(tmp_path)
    assert "lab-web" in user_template.rendered(guest_of(tmp_path, ""))
