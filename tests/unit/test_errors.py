"""Errors are told apart by their types: no code of virtkit compares or overwrites their words."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtkit
from virtkit.cli import signals
from virtkit.errors import Interrupted, RequestError, VirtkitError
from virtkit.host.errors import FileUnusable

PACKAGE = Path(virtkit.__file__).parent
#: The words of an error that a reader sees; ``where`` may be filled in by whoever knows it.
WORDS = {"what", "why", "cure"}
#: Methods and functions that look into a text.
LOOKS = {"startswith", "endswith", "find", "index", "count"}
MATCHES = {"search", "match", "fullmatch", "findall", "finditer"}
#: Functions that translate another library's errors, whose types are too coarse.
FOREIGN = {
    "virtkit/access/ssh.py": {"_in_words"},  # paramiko: one SSHException for nearly everything
    # libvirt: what QEMU says stands in its words only
    "virtkit/host/kvm_probe.py": {"verdict_of_error"},
    "virtkit/spec/yaml_text.py": {"events"},  # ruamel.yaml: its errors have no types of their own
}


def _texts(function: ast.AST) -> set[str]:
    """The local names that hold an error's words: from ``str(error)``, or an attribute of it."""
    errors = {
        each.name
        for each in ast.walk(function)
        if isinstance(each, ast.ExceptHandler) and each.name
    }
    errors |= {
        each.arg
        for each in ast.walk(function)
        if isinstance(each, ast.arg) and "Error" in ast.unparse(each.annotation or ast.Constant(0))
    }
    names: set[str] = set()
    for each in ast.walk(function):
        named = isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
        if named and _of_error(each.value, errors, set()):
            names.add(each.targets[0].id)
    return names | {f"str:{name}" for name in errors}


def _of_error(node: ast.AST, errors: set[str], texts: set[str]) -> bool:
    """Whether an expression is an error's words."""
    if isinstance(node, ast.Name):
        return node.id in texts
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr in WORDS and node.value.id in errors
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str":
        return any(isinstance(each, ast.Name) and each.id in errors for each in node.args)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("lower", "strip") and _of_error(node.func.value, errors, texts)
    return isinstance(node, ast.BoolOp) and any(
        _of_error(each, errors, texts) for each in node.values
    )


def _compared(node: ast.AST, errors: set[str], texts: set[str]) -> bool:
    """Whether a node looks into an error's words, or overwrites them."""
    if isinstance(node, ast.Compare):
        return any(_of_error(each, errors, texts) for each in (node.left, *node.comparators))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        looks = node.func.attr in LOOKS and _of_error(node.func.value, errors, texts)
        matches = node.func.attr in MATCHES
        return looks or (matches and any(_of_error(each, errors, texts) for each in node.args))
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(
            isinstance(each, ast.Attribute)
            and each.attr in WORDS
            and not (isinstance(each.value, ast.Name) and each.value.id == "self")
            for each in targets
        )
    return False


def compared(source: str, passed: frozenset[str] = frozenset()) -> Iterator[int]:
    """The lines of ``source`` that compare or overwrite an error's words.

    Args:
        passed: functions that are not looked at.
    """
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, functions) and function.name not in passed:
            names = _texts(function)
            errors = {name[4:] for name in names if name.startswith("str:")}
            for node in ast.walk(function):
                if _compared(node, errors, names):
                    yield node.lineno  # type: ignore[attr-defined]  # expressions and statements


@pytest.mark.parametrize(
    "line",
    [
        "x = 'gone' in str(error)",
        "x = error.what.startswith('open')",
        "x = error.why == 'no route'",
        "x = error.cure in (A, B)",
        "text = str(error); x = 'gone' in text",
        "text = error.why or error.what; x = re.search('gone', text)",
        "x = 'gone' in str(error).lower()",
        "error.cure = 'another'",
        "errors[0].cure += ' and more'",
    ],
)
def test_it_sees_a_comparison(line: str) -> None:
    source = f"def f():\n  try:\n    g()\n  except VirtkitError as error:\n    {line}\n"
    assert set(compared(source)) == {5}


@pytest.mark.parametrize(
    "line",
    ["say(error.what)", "x = error.why or error.what", "x = error.errno == 2", "raise error"],
)
def test_it_lets_words_be_told(line: str) -> None:
    source = f"def f():\n  try:\n    g()\n  except VirtkitError as error:\n    {line}\n"
    assert not set(compared(source))


def test_no_code_compares_an_errors_words() -> None:
    places = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE.parent).as_posix()
        lines = compared(path.read_text(), frozenset(FOREIGN.get(name, ())))
        places += [f"{name}:{line}" for line in sorted(set(lines))]
    assert places == []


def test_what_is_passed_over_is_there() -> None:
    for name, functions in FOREIGN.items():
        source = (PACKAGE.parent / name).read_text()
        assert all(f"def {each}(" in source for each in functions), name


def test_an_error_of_another_type_has_the_same_words() -> None:
    error = FileUnusable("start domain a-b failed", why="it is gone", cure="look", where="rack1")
    again = error.as_type(RequestError)
    assert type(again) is RequestError
    assert {**again.as_dict(), "code": 1} == error.as_dict()
    better = error.as_type(FileUnusable, cure="mount it")
    assert (better.cure, better.why, error.cure) == ("mount it", "it is gone", "look")


def test_what_was_interrupted_has_its_own_exit_code() -> None:
    """Also in JSON: a caller that sets ``stop`` sees what the shell sees."""
    assert Interrupted().as_dict()["code"] == signals.INTERRUPTED == 130


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = virtkit.errors.__doc__ or ""
    kinds, missing = [VirtkitError], []
    while kinds:
        kind = kinds.pop()
        kinds += [each for each in kind.__subclasses__() if each.__module__.startswith("virtkit")]
        missing += [] if kind.__name__ in drawn else [kind.__name__]
    assert missing == []
