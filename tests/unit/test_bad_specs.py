"""Every bad spec under tests/cases/bad-specs is refused with the errors in its expected.txt."""

from pathlib import Path

import pytest

from virtkit.errors import RequestError, VirtkitError
from virtkit.spec import read_text

CASES = Path(__file__).parent.parent / "cases" / "bad-specs"
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
        read_text(text, source="spec.yaml", folder=Path("/specs"))
    errors = caught.value.every()
    found = "\n\n".join(printed(error) for error in errors) + "\n"
    expected = CASES / name / "expected.txt"
    if regen:
        expected.write_text(found, encoding="utf-8")
    assert found == expected.read_text(encoding="utf-8")
    assert caught.value.exit_code == 2
    for error in errors:
        assert error.where.startswith("spec.yaml:")
        assert error.cure
        assert error.what.isprintable()
        assert not [
            word for word in ("pydantic", "http://errors", "Input", "ctx") if word in found
        ], "no words of the libraries"


def test_there_are_many() -> None:
    assert len(NAMES) >= 30
