"""What `virtkit render` shows, of guests on libvirt's own test driver."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from virtkit.cli import main
from virtkit.state import record_text

SPEC = """name: lab
images: {blank: {path: disk.raw}}
guests: {web: {type: qemu, image: blank, ready: none}}
"""

Render = Callable[..., list[str]]


@pytest.fixture
def render(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Render:
    """The documents of one run of the command, whose libvirt is the test driver."""
    node, opened = tmp_path / "node.xml", libvirt.open
    node.write_text("<node><cpu><mhz>1</mhz><model>any</model><active>1</active></cpu></node>")
    monkeypatch.setattr(libvirt, "open", lambda _uri: opened(f"test://{node}"))
    monkeypatch.chdir(tmp_path)
    Path("disk.raw").write_bytes(bytes(1 << 20))
    Path("virtkit.yaml").write_text(SPEC)

    def run(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["virtkit", "render", "--json", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        documents: list[str] = json.loads(capsys.readouterr().out)["documents"]
        return documents

    return run


def test_render_shows_the_record_when_it_is_asked_for(render: Render) -> None:
    bare, full = render(), render("--record")
    assert [etree.fromstring(each).tag for each in bare] == ["network", "domain"]
    assert "urn:virtkit:1" not in "".join(bare)
    network, domain = map(etree.fromstring, full)
    assert record_text.read_network(network) is not None
    assert record_text.read_guest(domain) is not None
    for short, long in zip(bare, full, strict=True):
        assert [*filter(lambda line: line not in long, short.splitlines())] == []
