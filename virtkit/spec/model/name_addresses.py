"""The addresses of a name that a network's DNS answers: one, or a list of several."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from virtkit.spec.model.base import MachineAddress
from virtkit.spec.problem import Problem


def _listed(value: object) -> object:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, (list, tuple)):
        raise Problem(
            "this is neither an address nor a list of several",
            cure="write such as 10.20.0.5, or [10.20.0.5, 10.20.0.6]",
        )
    return value


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Raises Problem where there is no address, or one twice."""
    if not values:
        raise Problem("the name has no address", cure="give it one, or remove the name")
    twice = next((each for each in values if values.count(each) > 1), None)
    if twice is not None:
        raise Problem(f"the name has the address {twice} twice", cure="remove one of them")
    return values


def _short(values: tuple[str, ...]) -> str | list[str]:
    """As the file may have it, and versions had it that knew one address only."""
    return values[0] if len(values) == 1 else list(values)


#: One address alone needs no list.
NameAddresses = Annotated[
    tuple[MachineAddress, ...],
    BeforeValidator(_listed),
    AfterValidator(_distinct),
    PlainSerializer(_short),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
            ]
        }
    ),
]
