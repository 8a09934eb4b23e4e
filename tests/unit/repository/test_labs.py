"""Labs of others in our own keys (examples/labs, tests/cases/labs), and docs/labs.md on them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import labs
import pytest
import samples

from virtkit.plan.resolve import resolve
from virtkit.spec import load
from virtkit.state.desired import Decided
from virtkit.xml import render

LABS = [*labs.EXAMPLES, *labs.OTHERS]
PAGE = (labs.ROOT / "docs/labs.md").read_text()
#: A row of the page's table: the lab, its file, and whether all of it is said.
ROWS: dict[str, tuple[str, str]] = {
    name: (file, said)
    for name, file, said in re.findall(
        r"^\| \[([\w-]+)\]\((\S+)\) \|[^|]+\|[^|]+\|[^|]+\| (yes|no: [^|]+) \|$", PAGE, re.MULTILINE
    )
}


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_it_needs_no_xml_and_can_be_rendered(path: Path, tmp_path: Path) -> None:
    spec = labs.read(path, tmp_path)
    assert not [e.name for e in spec.guests.values() if e.devices or e.template]
    desired = resolve(spec, labs.HOST, Decided())
    assert desired.refused == {}
    assert len(desired.guests) == len(spec.guests) > 0
    for guest in map(samples.with_image, desired.guests):
        assert render.domain_xml(guest).startswith("<domain")
    for network in desired.networks:
        assert render.network_xml(network).startswith("<network")


@pytest.mark.parametrize("path", LABS, ids=lambda path: path.stem)
def test_it_names_its_original_and_is_short(path: Path) -> None:
    lines = path.read_text().splitlines()
    comment = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
    original = re.search(r"\((?:github\.com/)?([\w-]+/[\w.-]+)[,)]", comment)
    assert original is not None
    (row,) = (each for each in PAGE.splitlines() if each.startswith(f"| [{path.stem}]("))
    assert original[1] in row
    assert len(lines) < 75
    assert max(map(len, lines)) <= 120


def test_those_of_the_issue_are_there() -> None:
    """All ten of the issue, and 31 together."""
    known = {*("ceph-ansible", "ci-framework", "forklift", "jellyfin", "k8s-provisioner")}
    known |= {"kcli-openstack", "kubespray", "vagrant-ceph", "virt-infra", "win10"}
    assert known <= {path.stem for path in labs.EXAMPLES}
    assert len(LABS) == len({path.stem for path in LABS}) == 31


def test_the_page_has_each_with_what_its_file_says() -> None:
    assert ROWS.keys() == {path.stem for path in LABS}
    for path in LABS:
        file, said = ROWS[path.stem]
        assert (labs.ROOT / "docs" / file).resolve() == path
        assert (said == "yes") == labs.all_is_said(path), path.stem


def test_the_pages_count() -> None:
    count = sum(map(labs.all_is_said, LABS))
    assert f"\n{count} of {len(LABS)} are said in full.\n" in PAGE


@pytest.mark.parametrize("path", labs.EXAMPLES, ids=lambda path: path.stem)
def test_its_size_on_a_laptop_is_as_it_says(path: Path) -> None:
    line = re.search(r"`virtkit up (\S+\.yaml) (.*)`", path.read_text())
    assert line is not None
    assert line[1] == path.name
    settings = re.findall(r"--set (\S*)", line[2])
    small, whole = load(path, settings=settings), load(path)
    memory = [sum(e.memory for e in each.guests.values()) for each in (small, whole)]
    assert memory[0] < memory[1]


def test_the_page_says_which_of_them_run() -> None:
    """As their tests have it: what is marked long does not run in CI."""
    page = (labs.ROOT / "examples/labs/README.md").read_text()
    cells = [e.split("|")[1:3] for e in page.splitlines() if e.startswith("| [")]
    said = {name: run.strip() for names, run in cells for name in re.findall(r"\[(\S+)\]", names)}
    assert said.keys() == {path.stem for path in labs.EXAMPLES}
    text = (labs.ROOT / "tests/integration/test_labs_run.py").read_text()
    every = [each for each in ast.parse(text).body if isinstance(each, ast.ClassDef)]
    classes = [each for each in every if each.name.startswith("Test")]
    ran = {lab_of(each): "long tests" if each.decorator_list else "in CI" for each in classes}
    assert len(ran) == 5
    assert {name: run.partition(":")[0].partition(",")[0] for name, run in said.items()} == {
        **dict.fromkeys(said, "no"),
        **ran,
    }


def lab_of(node: ast.ClassDef) -> str:
    """The lab of a class of tests, which its attribute LAB names."""
    (name,) = (
        each.value.value
        for each in node.body
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "LAB"
        if isinstance(each.value, ast.Constant)
    )
    return str(name)
