"""Every bad spec under tests/cases/bad-specs is refused with the errors in its expected.txt."""

import re
from pathlib import Path

import pytest

from virtkit.errors import RequestError, VirtkitError
from virtkit.spec import json_schema, read_text

CASES = Path(__file__).parents[2] / "cases" / "bad-specs"
NAMES = sorted(path.name for path in CASES.iterdir())


def printed(error: VirtkitError) -> str:
    lines = [f"error: {error.what}", f"where: {error.where}"]
    if error.why:
        lines.append(f"why: {error.why}")
    return "\n".join([*lines, f"cure: {error.cure}"])


@pytest.mark.parametrize("name", NAMES)
def test_bad_spec(name: str, regen: bool) -> None:
    text = (CASES / name / "spec.yaml").read_text(encoding="utf-8")
    with pytest.raises(RequestError) as caught:
        read_text(text, source="spec.yaml", folder=CASES / name)
    errors = caught.value.every()
    found = "\n\n".join(printed(error) for error in errors) + "\n"
    expected = CASES / name / "expected.txt"
    if regen:
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")
    assert caught.value.exit_code == 2
    for error in errors:
        assert re.match(r"[a-z]+\.yaml:\d+:\d+", error.where)
        assert error.cure
        assert error.what.isprintable()
        assert not [
            word for word in ("pydantic", "http://errors", "Input", "ctx") if word in found
        ], "no words of the libraries"


def test_there_is_one_for_each_key() -> None:
    """Whoever writes a value that a key can't have is told where; a new key has its bad spec."""
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]
    forms = [form for each in models for form in (each, *each.get("anyOf", ()))]
    keys = {key for form in forms for key in form.get("properties", ())}
    assert {"guests", "cpus", "ready", "mount"} <= keys
    expected = [(CASES / name / "expected.txt").read_text(encoding="utf-8") for name in NAMES]
    places = re.findall(r"^where: \S+ (.+)$", "\n".join(expected), re.MULTILINE)
    assert keys - {part for place in places for part in re.split(r"[.\[]", place)} == set()
