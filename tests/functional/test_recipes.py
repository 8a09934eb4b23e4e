"""Each recipe of CONTRIBUTING.md, followed in a copy of virtkit by the edits that stand in it.

The recipe for a guest type is followed in test_new_type.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import recipes

VERB = recipes.section("A new verb")
KEY = recipes.section("A new key of a guest")
SPEC = """
name: lab
guests:
  web: {type: qemu, on_crash: restart, disks: [{name: data, size: 1GiB}, {name: more, size: 1GiB}]}
  db: {type: lxc}
"""
WITHOUT_KEY = SPEC.replace("on_crash: restart, ", "")
CASES = recipes.REPO / "tests/integration/key_cases.py"
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0")


@pytest.fixture(scope="module")
def verb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipes.copied(
        tmp_path_factory.mktemp("verb"),
        "docs/api.md",
        "README.md",
        "tests/cases/bad-specs",
        "tests/unit/cli/test_command_line.py",
        "tests/unit/test_exports.py",
    )
    recipes.follow(VERB, folder)
    (folder / "lab.yaml").write_text(WITHOUT_KEY)
    return folder


def test_the_new_verb_is_listed_and_has_its_help(verb: Path) -> None:
    listed = recipes.run(verb, "-m", "virtkit", "--help").stdout
    assert re.search(r"^ *volumes +Print the names of the guests' own disks\.", listed, re.M)
    own = recipes.run(verb, "-m", "virtkit", "volumes", "--help").stdout
    assert "usage: virtkit volumes [OPTIONS] [SPEC]" in own
    assert "Print the names of the guests' own disks." in own
    alias = recipes.run(verb, "-m", "virtkit", "vol-list")
    assert (alias.returncode, "did you mean virtkit volumes?" in alias.stderr) == (2, True)


def test_the_new_verb_answers(verb: Path) -> None:
    plain = recipes.run(verb, "-m", "virtkit", "volumes", "lab.yaml")
    assert (plain.stdout, plain.stderr) == ("lab-web-data\nlab-web-more\n", "")
    data = recipes.run(verb, "-m", "virtkit", "volumes", "lab.yaml", "--json")
    assert json.loads(data.stdout)["volumes"] == ["lab-web-data", "lab-web-more"]


def test_the_new_verb_is_public_and_on_the_page(verb: Path) -> None:
    files = ("tests/unit/test_exports.py", "tests/unit/cli/test_command_line.py")
    done = recipes.run(verb, *PYTEST, *files, "-k", "public_name or all_verbs or volumes")
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = recipes.copied(
        tmp_path_factory.mktemp("key"),
        "pyproject.toml",
        "tests/conftest.py",
        "tests/samples.py",
        "tests/integration/key_cases.py",
        "tests/unit/drivers/test_fields.py",
        "tests/unit/plan/test_key_cases.py",
        "tests/unit/spec/test_bad_specs.py",
        "tests/cases/test_cases.py",
        "tests/cases/test_records.py",
        "tests/cases/records",
        "tests/unit/repository/test_spec_page.py",
        "docs/spec.md",
    )
    recipes.follow(KEY, folder)
    (folder / "lab.yaml").write_text(SPEC)
    return folder


def test_the_new_key_is_in_the_schema_and_in_the_xml(key: Path) -> None:
    schema = json.loads(recipes.run(key, "-m", "virtkit", "schema").stdout)
    option = schema["$defs"]["GuestEntry"]["properties"]["on_crash"]
    assert option["description"] == "What libvirt does when it crashes."
    assert recipes.run(key, "-m", "virtkit", "validate", "lab.yaml").returncode == 0


def test_the_new_keys_cases_are_written_and_hold(key: Path) -> None:
    files = ("tests/cases/test_cases.py", "tests/unit/spec/test_bad_specs.py")
    written = recipes.run(key, *PYTEST, "--regen", *files, "-k", "on-crash")
    assert written.returncode == 0, written.stdout
    page = recipes.run(key, *PYTEST, "--regen", "tests/unit/repository/test_spec_page.py")
    assert page.returncode == 0, page.stdout
    row = (
        "| `on_crash` | What libvirt does when it crashes. | all | restart | `on_crash: restart` |"
    )
    assert row in (key / "docs/spec.md").read_text()
    plan = json.loads((key / "tests/cases/on-crash/expected/plan.json").read_text())
    reasons = {
        change["object"]: [
            (each["field"], each["from"], each["to"], each["cause"]) for each in change["reasons"]
        ]
        for change in (*plan["changes"], *plan["pending"])
    }
    assert reasons == {
        "guest/given": [("on_crash", "destroy", "restart", "spec")],
        "guest/changed": [("on_crash", "restart", "destroy", "spec")],
        "guest/gone": [("on_crash", "restart", "destroy", "spec")],
    }
    xml = (key / "tests/cases/on-crash/expected/guest-given.xml").read_text()
    assert "<on_crash>restart</on_crash>" in xml
    refused = (key / "tests/cases/bad-specs/on-crash/expected.txt").read_text()
    assert "cure: use one of: destroy, restart\n" in refused


def test_the_new_key_has_its_row_and_yesterdays_guests_see_no_change(key: Path) -> None:
    files = ("tests/unit/drivers/test_fields.py", "tests/cases/test_records.py")
    done = recipes.run(key, *PYTEST, *files, "-k", "row or effect or live or upgrade")
    assert done.returncode == 0, done.stdout


def test_the_new_keys_change_is_planned_as_its_cases_say(key: Path) -> None:
    file = "tests/unit/plan/test_key_cases.py"
    done = recipes.run(key, *PYTEST, file, "-k", "every_row or one_place or on_crash")
    assert done.returncode == 0, done.stdout
    (key / "tests/integration/key_cases.py").write_text(CASES.read_text())
    forgotten = recipes.run(key, *PYTEST, file, "-k", "every_row")
    assert "a new key: give it a case in tests/integration/key_cases.py" in forgotten.stdout


def test_an_edit_must_fit_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\ntwo\none\n")
    block = "```diff\n--- file\n@@\n {}\n+three\n```\n"
    assert recipes.follow(block.format("two"), tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "one\ntwo\nthree\none\n"
    for line, places in (("one", 2), ("four", 0)):
        with pytest.raises(AssertionError, match=f"has {places} places"):
            recipes.follow(block.format(line), tmp_path)
