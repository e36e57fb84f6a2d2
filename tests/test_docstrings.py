"""Docstrings of all public names hold what numpydoc asks for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from numpydoc.validate import validate

import sklearn_mtl

MODULES = ["sklearn_mtl", *(f"sklearn_mtl.{name}" for name in sklearn_mtl.SUBMODULES)]

# What numpydoc finds that is no fault here, and why.
NOWHERE = {
    "ES01": "a summary that says all needs no second paragraph",
    "SA01": "the page of a module lists what belongs together",
    "RT02": "a result has a name, by which the text can speak of it",
    "SS05": "takes summaries that begin with a plural for verbs: 'Probabilities of all labels.'",
}
NOT_OF_PROTOCOLS = {"PR01": "nobody calls their constructor"}
NOT_OF_FUNCTIONS = {"EX01": "classes have examples, and guides show what their methods do"}
NOT_OF_OVERRIDING = {
    "PR01": "the method of the base class says what it takes,",
    "RT01": "and what it returns; this one, what is different",
}


def names_of(module: str) -> Iterator[tuple[str, set[str]]]:
    """Yield public names of a module, each with the codes that are no faults of it."""
    for name in importlib.import_module(module).__all__:
        thing = getattr(importlib.import_module(module), name)
        path = f"{module}.{name}"
        if inspect.isclass(thing):
            is_protocol = getattr(thing, "_is_protocol", False)
            yield path, {*NOWHERE, *(NOT_OF_PROTOCOLS if is_protocol else ())}
            yield from ((f"{path}.{method}", codes) for method, codes in methods_of(thing))
        elif inspect.isfunction(thing):
            yield path, {*NOWHERE, *NOT_OF_FUNCTIONS}


def methods_of(cls: type[Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield public methods and properties that are of this package, with such codes."""
    for name in dir(cls):
        static = inspect.getattr_static(cls, name)
        is_code = isinstance(static, property | classmethod | staticmethod) or callable(static)
        owners = [base for base in cls.__mro__ if name in vars(base)]
        if (
            name[0] != "_"
            and is_code
            and owners
            and owners[0].__module__.startswith("sklearn_mtl.")
        ):
            overriding = NOT_OF_OVERRIDING if len(owners) > 1 else ()
            yield name, {*NOWHERE, *NOT_OF_FUNCTIONS, *overriding}


@pytest.mark.parametrize("module", MODULES)
def test_numpydoc_finds_no_fault(module: str) -> None:
    names = list(names_of(module))
    assert names
    faults = [
        f"{name}: {code} {message}"
        for name, codes in names
        for code, message in validate(name)["errors"]
        if code not in codes
    ]
    assert not faults, "\n".join(faults)
