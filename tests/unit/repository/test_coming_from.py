"""docs/coming-from.md: each of our specs in it is valid, and can be rendered."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import samples

from virtkit.cli.commands import VERBS
from virtkit.plan.resolve import resolve
from virtkit.spec import read_text
from virtkit.state.desired import Decided
from virtkit.xml import render

PAGE = (Path(__file__).parents[3] / "docs/coming-from.md").read_text()
TOOLS = ["Vagrant", "kcli", "Terraform's provider libvirt", "virt-install", "docker compose"]
TOOLS += ["Incus"]


def sections() -> dict[str, str]:
    """The page's sections by their titles."""
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def ours(section: str) -> list[str]:
    """Our specs in a section; those of others begin with their file's name."""
    blocks = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    return [each for each in blocks if not each.startswith("# ")]


def test_each_tool_has_its_words_and_a_lab_of_each() -> None:
    assert [*sections()] == TOOLS
    for title, text in sections().items():
        assert text.count("\n| ") > 8, title
        assert len(ours(text)) == 1, title
        assert len(re.findall(r"```\w+\n", text)) == 2, title


@pytest.mark.parametrize("title", TOOLS)
def test_our_side_is_valid_and_can_be_rendered(title: str) -> None:
    (text,) = ours(sections()[title])
    spec = read_text(text, source="lab.yaml", folder=Path("/specs"))
    desired = resolve(spec, samples.WITH_KVM, Decided())
    assert desired.refused == {}
    assert len(desired.guests) == len(spec.guests) > 0
    for guest in map(samples.with_image, desired.guests):
        assert render.domain_xml(guest).startswith("<domain")
    for network in desired.networks:
        assert render.network_xml(network).startswith("<network")


def test_verbs_that_it_names_are_there() -> None:
    named = re.findall(r"^virtkit (\w+)", PAGE, re.MULTILINE)
    assert named
    assert {*named} <= {*VERBS}
