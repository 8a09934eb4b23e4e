"""Packages that load a public name when somebody asks for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


class _LazyPackage(ModuleType):
    """A package that knows in which module each of its public names stands.

    A module never hides a public name: ``virtkit.plan`` is the function, whoever imported the
    package of that name before. ``from virtkit.plan import …`` still reads the package.
    """

    _sources: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        sources: Mapping[str, str] = self.__dict__.get("_sources", {})
        if name not in sources:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(sources[name]), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__.get("_sources", ()) and isinstance(value, ModuleType):
            return  # the import system sets each module that it loads
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._sources})


def load_when_used(package: str, names: Mapping[str, str]) -> None:
    """Makes ``package`` load its public names when they are used.

    Args:
        names: the public names by the module that has them, with spaces between them.
    """
    module = sys.modules[package]
    sources = {name: source for source, each in names.items() for name in each.split()}
    module.__dict__["_sources"] = sources
    module.__class__ = _LazyPackage
