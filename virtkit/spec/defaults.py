"""A guest's request as its record has it, with the model's default for each field that it lacks.

The version that wrote the record may not have had the field: then the guest is as the default
says, whatever that is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic_core import to_jsonable_python

from virtkit.spec.model import GuestFields, Model


def completed(requested: Mapping[str, Any]) -> dict[str, Any]:
    """``requested`` with what it lacks; what the model doesn't know stays as it is."""
    return _completed(GuestFields, requested)


def _completed(model: type[Model], requested: Mapping[str, Any]) -> dict[str, Any]:
    answer = {**requested, **{k: v for k, v in _defaults(model).items() if k not in requested}}
    for name, part in _parts(model):
        value = answer.get(name)
        if isinstance(value, dict):
            answer[name] = _completed(part, value)
        elif isinstance(value, list):
            answer[name] = [_completed(part, e) if isinstance(e, dict) else e for e in value]
    return answer


@functools.cache
def _defaults(model: type[Model]) -> dict[str, Any]:
    fields = model.model_fields.items()
    values = {
        each.alias or name: each.get_default(call_default_factory=True)
        for name, each in fields
        if not each.is_required()
    }
    answer: dict[str, Any] = to_jsonable_python(values)
    return answer


@functools.cache
def _parts(model: type[Model]) -> tuple[tuple[str, type[Model]], ...]:
    """The fields that are models themselves, or several of one."""
    fields = model.model_fields.items()
    return tuple((name, part) for name, each in fields for part in _models(each.annotation))


def _models(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)
