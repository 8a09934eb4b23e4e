"""examples/web.yaml: its playbook makes two web servers and a load balancer before them."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

from integration.lab import laboratory

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "web", tmp_path / "web")
    with laboratory(tmp_path, "web", (EXAMPLES / "web.yaml").read_text()) as lab:
        first = lab.json("up")
        assert first["ok"], first
        address = lab.status("lb")["addresses"][0]
        pages = {_page(address) for _ in range(4)}
        assert pages == {f"Hello from virtkit, on web-{number}" for number in (1, 2)}
        assert lab.json("up")["steps"] == [], "no playbook is run"
        template = tmp_path / "web/templates/index.html.j2"
        template.write_text(template.read_text().replace("{{ greeting }}", "Edited"))
        ran = {object for object, step in lab.virtkit("up", "--json").steps if step == "playbooks"}
        assert ran == {"guest/web-1", "guest/web-2", "guest/lb"}
        assert {_page(address) for _ in range(4)} == {f"Edited, on web-{n}" for n in (1, 2)}
        assert lab.json("down")["ok"]
        assert not lab.left()


def _page(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/", timeout=10) as answer:
        text: str = answer.read().decode()
    return text.rpartition("<p>")[2].partition("</p>")[0]
