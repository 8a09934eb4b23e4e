"""All errors of one spec: collected by place, each once, in words that its writer knows.

Translates pydantic's errors; none of its own terms reach a user.
"""

from __future__ import annotations

import shlex
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from virtkit.errors import RequestError, SpecErrors
from virtkit.spec.document import CLOUD_INIT
from virtkit.spec.model import (
    DHCP_RANGE,
    Build,
    Cpu,
    Dhcp,
    Disk,
    Folder,
    Graphics,
    InterfaceSpec,
    Kernel,
    Max,
    NumaCell,
    Password,
    Place,
    Ready,
    RootDisk,
    Ssh,
    Topology,
)
from virtkit.spec.model.ignition import Ignition
from virtkit.spec.nodes import DocumentProblem, Mark, Node, Path, error_at
from virtkit.spec.problem import MAX_QUOTED, Problem, quote, suggestion
from virtkit.spec.scalars import kind_of

#: The model of the maps below a key, wherever that key stands.
_PARTS: dict[str, type[BaseModel]] = {
    "build": Build,
    "cpu": Cpu,
    "dhcp": Dhcp,
    "disk": RootDisk,
    "disks": Disk,
    "folders": Folder,
    "ignition": Ignition,
    "networks": InterfaceSpec,
    "ready": Ready,
    "graphics": Graphics,
    "kernel": Kernel,
    "max": Max,
    "numa": NumaCell,
    "password": Password,
    "place": Place,
    "ssh": Ssh,
    "topology": Topology,
}


class Problems:
    """The errors found so far; one per place and wording."""

    def __init__(self) -> None:
        self._errors: dict[tuple[int, int, int, str], RequestError] = {}
        self._unknown: set[Path] = set()
        self._sources: dict[str, int] = {}
        #: Each with the path that it is about, in the order in which they were seen.
        self.by_path: list[tuple[Path, Problem]] = []

    def in_document(self, document_problem: DocumentProblem) -> None:
        """Keeps a problem of the document; nothing more is said of a value that it hides."""
        self.add(document_problem.mark, document_problem.path, document_problem.problem)
        if document_problem.of_value:
            self._unknown.add(document_problem.path)

    def add(self, mark: Mark, path: Path, problem: Problem) -> None:
        """Keeps an error about what stands at ``mark``."""
        if any(path[:length] in self._unknown for length in range(len(path) + 1)):
            return
        self.by_path.append((path, problem))
        error = error_at(mark, path, problem)
        source = self._sources.setdefault(mark.source, len(self._sources))
        self._errors.setdefault((source, mark.line, mark.column, problem.what), error)

    def at(self, node: Node, path: Path, problem: Problem) -> None:
        """Keeps an error about ``path`` below ``node``, or the nearest thing that is there."""
        nearest, rest = node.find(path)
        self.add(nearest.key if rest else nearest.position, nearest.path, problem)

    def at_key(self, node: Node, problem: Problem) -> None:
        """Keeps an error about the key of ``node``."""
        self.add(node.key, node.path, problem)

    def add_validation_error(
        self,
        error: ValidationError,
        node: Node,
        model: type[BaseModel],
        *,
        partial: bool = False,
    ) -> set[str]:
        """Keeps what ``error`` says of ``node``, which was to be a ``model``.

        Args:
            partial: maps that are merged later may lack keys.

        Returns:
            The keys of ``node`` that are wrong; "" stands for the whole.
        """
        wrong_keys: set[str] = set()
        for detail in error.errors(include_url=False):
            path = tuple(part for part in detail["loc"] if part != DHCP_RANGE)
            inside_list = any(isinstance(part, int) for part in path)
            if partial and detail["type"] == "missing" and not inside_list:
                continue
            wrong_keys.add(str(path[0]) if path else "")
            self._detail(detail, node, path, model)
        return wrong_keys

    def _detail(self, detail: ErrorDetails, node: Node, path: Path, model: type[BaseModel]) -> None:
        nearest, rest = node.find(path)
        problem = _translate(detail, nearest, path, _model_at(path, model))
        if detail["type"] == "extra_forbidden" and not rest:
            self.at_key(nearest, problem)
        elif detail["type"] == "missing":
            self.add(
                nearest.mark if _in_list(nearest) else nearest.key, (*nearest.path, *rest), problem
            )
        else:
            self.add(nearest.position, nearest.path, problem)

    def raise_all(self) -> None:
        """Raises SpecErrors, file by file and in each file's order, where there are any."""
        if self._errors:
            raise SpecErrors([self._errors[place] for place in sorted(self._errors)])


def _in_list(node: Node) -> bool:
    return bool(node.path) and isinstance(node.path[-1], int)


def _model_at(path: Path, model: type[BaseModel]) -> type[BaseModel]:
    """The model whose key is the last of ``path``."""
    names = [part for part in path[:-1] if isinstance(part, str)]
    return _PARTS.get(names[-1], model) if names else model


def _keys(model: type[BaseModel]) -> list[str]:
    """The keys of a model, as files have them."""
    return [each.alias or name for name, each in model.model_fields.items()]


def _translate(detail: ErrorDetails, node: Node, path: Path, model: type[BaseModel]) -> Problem:
    """A pydantic error in the words of a spec's writer."""
    context: dict[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    last = str(path[-1]) if path else ""
    if kind == "value_error" and isinstance(context.get("error"), Problem):
        problem: Problem = context["error"]
        return problem
    if kind == "extra_forbidden":
        return Problem(f"there is no key {quote(last)} here", cure=suggestion(last, _keys(model)))
    if kind == "missing":
        return Problem(f"the key '{last}' is missing", cure=f"add `{last}:`")
    if kind == "literal_error":
        return _one_of(node, context)
    if last == CLOUD_INIT and kind == "dict_type" and isinstance(node.value, str):
        return _no_file(node.value)
    if kind in _EXPECTED:
        return _expected(kind, node)
    return _out_of_range(kind, node, context)


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a map of keys",
    "model_type": "a map of keys",
}


def _expected(kind: str, node: Node) -> Problem:
    wanted = _EXPECTED[kind]
    value = node.value
    what = f"expected {wanted}, found {kind_of(value)}"
    if wanted == "text" and isinstance(value, (bool, int, float)):
        written = str(value).lower() if isinstance(value, bool) else str(value)
        return Problem(what, cure=f'put it in quotes: "{written}"')
    if wanted == "a list" and isinstance(value, (str, int)) and not isinstance(value, bool):
        short = 0 < len(str(value)) <= MAX_QUOTED
        return Problem(what, cure=f"write a list, such as [{value}]" if short else "write [a, b]")
    cures = {
        "text": "write one text",
        "a whole number": "write a number without a unit, a point or quotes",
        "true or false": "write true or false, without quotes",
        "a list": "write [a, b], or one `- …` per line",
        "a map of keys": "write `key: value` lines below the key",
    }
    return Problem(what, cure=cures[wanted])


def _no_file(text: str) -> Problem:
    """What is wrong with a file's name or text where ``cloud_init``'s keys are to stand."""
    what = f"expected cloud-config's keys, found {kind_of(text)}"
    if "\n" in text or text.startswith("#"):
        return Problem(
            what, cure=f"remove the `|` behind `{CLOUD_INIT}:`; the lines below it can stay"
        )
    shown = shlex.quote(text) if len(text) <= MAX_QUOTED else "FILE"
    return Problem(what, cure=f"write `user_data: {shown}`")


def _one_of(node: Node, context: dict[str, Any]) -> Problem:
    choices = [
        each.strip("'") for each in str(context["expected"]).replace(" or ", ", ").split(", ")
    ]
    if not isinstance(node.value, str):
        return Problem(
            f"expected one of {', '.join(choices)}, found {kind_of(node.value)}",
            cure=f"use {choices[0]}",
        )
    return Problem(f"{quote(node.value)} is not known here", cure=suggestion(node.value, choices))


def _out_of_range(kind: str, node: Node, context: dict[str, Any]) -> Problem:
    if kind == "greater_than_equal":
        return Problem(f"{quote(node.value)} is too small", cure=f"use {context['ge']} or more")
    if kind == "less_than_equal":
        return Problem(f"{quote(node.value)} is too large", cure=f"use {context['le']} or less")
    if kind == "too_long":
        most = context["max_length"]
        return Problem(
            f"the list has {len(node.items)} entries, more than {most}",
            cure=f"keep at most {most}",
        )
    return Problem(
        f"{quote(node.plain())} can't stand here",
        cure="see `virtkit schema` for what this key takes",
    )
