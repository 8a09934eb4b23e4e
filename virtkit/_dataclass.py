"""``dataclass`` for values that many commands load.

The standard one compiles six methods for each frozen class, which was a tenth of what `status`
takes. Here it compiles ``__init__`` alone, and the classes share the others. That a value stays as
it is made is held by mypy, which reads the standard one, and not at run time. Fields that are not
compared or not shown need the standard one.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, kw_only=False):
        """The decorator, as ``dataclasses`` has it."""

        def define(cls):
            if not frozen:
                return dataclasses.dataclass(cls, kw_only=kw_only)
            value = dataclasses.dataclass(cls, eq=False, repr=False, kw_only=kw_only)
            value.__eq__, value.__hash__, value.__repr__ = _equal, _hash, _repr
            return value

        return define if cls is None else define(cls)


def _equal(self: Any, other: object) -> bool:
    return self.__dict__ == other.__dict__ if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(tuple(self.__dict__.values()))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
    return f"{type(self).__qualname__}({values})"
