"""What the values of a reader of X must be, and how objects are held to such rules."""

from __future__ import annotations

import functools
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sklearn_mtl._data.fused import FusedReader, PartReader
from sklearn_mtl._data.inputs import InputReader

__all__ = ["Rules", "holds", "is_finite", "is_float64", "is_positive", "is_reader", "obey"]

# What a value has to be; the object, or the dict, that holds it has all others.
Rules = Mapping[str, Callable[[Any, Any], bool]]


def is_finite(value: Any, whole: Any = None) -> bool:
    return bool(np.isfinite(value).all())


def is_positive(value: Any, whole: Any = None) -> bool:
    return bool(np.isfinite(value).all() and np.all(np.asarray(value) > 0))


def is_float64(value: Any, *shape: int) -> bool:
    return type(value) is np.ndarray and value.dtype == np.float64 and value.shape == shape


def holds(value: Any, example: Any, rules: Rules) -> bool:
    """Tell objects of the class of an example that have its attributes, all as they should be."""
    if type(value) is not type(example) or set(vars(value)) != set(vars(example)):
        return False
    obey(vars(value), value, rules)
    return True


def obey(values: Mapping[str, Any], whole: Any, rules: Rules) -> None:
    for name, rule in rules.items():
        try:
            right = rule(values[name], whole)
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"{name} is not what it should be: {error!r}") from error
        if not right:
            raise ValueError(f"{name}={reprlib.repr(values[name])} is not what it should be")


# -- X -------------------------------------------------------------------------------------------


def _is_shape(value: Any, reader: Any) -> bool:
    return type(value) is tuple and value != () and all(type(n) is int and n > 0 for n in value)


def _is_input_shape(value: Any, reader: Any) -> bool:
    fits = math.prod(value) == math.prod(reader.sample_shape_)
    return _is_shape(value, reader) and len(value) <= 4 and fits


def _is_per_channel(value: Any, reader: Any) -> bool:
    n_channels, *sides = reader.input_shape_
    return is_float64(value, n_channels, *[1] * len(sides)) and is_finite(value)


def _are_columns(value: Any, reader: Any) -> bool:
    if value is None:
        return True
    fits = value.dtype == object and value.shape == reader.sample_shape_
    return fits and all(type(name) is str for name in value)


def _are_places(value: Any, reader: Any) -> bool:
    n = reader.input_shape_[0] if len(reader.input_shape_) == 1 else 0
    fits = type(value) is tuple and all(type(i) is int and 0 <= i < n for i in value)
    return fits and list(value) == sorted(set(value))


READER: Rules = {
    "data_format": lambda v, _: v in ("channels_first", "channels_last"),
    "estimator_name": lambda v, _: type(v) is str,
    "standardize": lambda v, _: isinstance(v, bool | np.bool_ | str | tuple | list),
    "sample_shape_": _is_shape,
    "input_shape_": _is_input_shape,
    "mean_": _is_per_channel,
    "scale_": lambda v, reader: _is_per_channel(v, reader) and is_positive(v),
    "feature_names_in_": _are_columns,
    "two_valued_": _are_places,
}

PART: Rules = {
    **READER,
    "lacks_": lambda v, _: type(v) is bool,
}


def _is_flat(value: Any, reader: Any) -> bool:
    return is_float64(value, *reader.sample_shape_) and is_finite(value)


def _are_parts(value: Any, reader: Any) -> bool:
    named = type(value) is dict and value and all(type(name) is str for name in value)
    return bool(named) and all(holds(v, _a_reader(PartReader), PART) for v in value.values())


def _is_of_parts(attribute: str) -> Callable[[Any, Any], bool]:
    """Rule for a dict of what the readers of the parts have."""

    def rule(value: Any, reader: Any) -> bool:
        readers = reader.readers_
        alike = type(value) is dict and list(value) == list(readers)
        return alike and all(value[n] == getattr(r, attribute) for n, r in readers.items())

    return rule


FUSED: Rules = {
    "data_format": READER["data_format"],
    "estimator_name": READER["estimator_name"],
    "standardize": lambda v, _: isinstance(v, bool | np.bool_ | str | tuple | list | dict),
    "readers_": _are_parts,
    "input_shape_": _is_of_parts("input_shape_"),
    "two_valued_": _is_of_parts("two_valued_"),
    "sample_shape_": lambda v, r: (
        v == (sum(math.prod(part.sample_shape_) for part in r.readers_.values()),)
    ),
    "mean_": _is_flat,
    "scale_": lambda v, reader: _is_flat(v, reader) and is_positive(v),
    "feature_names_in_": _are_columns,
}


@functools.cache
def _a_reader(kind: type[InputReader] = InputReader) -> InputReader:
    X = np.arange(3.0)[:, None]
    return kind(None, "channels_first", "").fit_names(X).fit(X, np.arange(3), np.ones(3))


@functools.cache
def _a_fused_reader() -> InputReader:
    X = np.arange(3.0)[:, None]
    reader = FusedReader(["X"], {"X": (1,)}, "channels_first", "")
    return reader.fit_names(X).fit(X, np.arange(3), np.ones(3))


def is_reader(value: Any) -> bool:
    if isinstance(value, FusedReader):
        return holds(value, _a_fused_reader(), FUSED)
    return holds(value, _a_reader(), READER)
