"""Types of the columns of y, and what pandas makes of labels, as plain data.

A name in a file is compared with those that are known here, and never handed to a library that
would look further: time zones, for example, are files.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from sklearn_mtl._files.arrays import dtype_of

__all__ = ["COLUMNS", "Rule", "exactly"]


class Rule(NamedTuple):
    """How one type of object is written: which values it takes, to plainer data, and back."""

    fits: Callable[[Any], bool]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


def exactly(kind: type) -> Callable[[Any], bool]:
    """Tell values of a type, and not of types derived from it, which may hold more."""
    return lambda value: type(value) is kind


# Types of pandas that are found again by their names. Others may name a time zone, which is a file.
NAMED = re.compile(
    r"U?Int(8|16|32|64)|Float(32|64)|boolean"
    r"|interval\[(u?int|float)(8|16|32|64), (left|right|both|neither)\]"
    r"|Sparse\[(bool|(u?int|float)(8|16|32|64)), (nan|0|0\.0|False)\]"
)


def _is_named(dtype: Any) -> bool:
    is_of_pandas = isinstance(dtype, pd.api.extensions.ExtensionDtype)
    return is_of_pandas and NAMED.fullmatch(str(dtype)) is not None


def _named_dtype(name: str) -> Any:
    if not NAMED.fullmatch(name):
        raise ValueError(f"{name!r} is not a type that this version knows")
    return pd.api.types.pandas_dtype(name)


def _index(content: list[Any]) -> Any:
    values, dtype, name = content
    return pd.Index(values, dtype=_decoded(dtype), name=name)


def _series(content: list[Any]) -> Any:
    values, index, dtype, name = content
    return pd.Series(values, index=index, dtype=_decoded(dtype), name=name)


def _numpy_dtype(name: str) -> Any:
    dtype = dtype_of(name)
    if dtype.kind == "U":  # as wide as somebody says
        raise ValueError(f"{name!r} is not a type of columns")
    return dtype


def _decoded(dtype: Any) -> Any:
    """Refuse names of types, by which pandas would find others than those that are known here."""
    if not isinstance(dtype, (np.dtype, pd.api.extensions.ExtensionDtype)):
        raise ValueError(f"{dtype!r} is not a type that this version knows")
    return dtype


def _string_dtype(content: list[Any]) -> Any:
    storage, has_nan = content
    na_value = np.nan if has_nan else pd.NA
    try:
        return pd.StringDtype(storage, na_value)
    except ImportError:  # no Arrow here: strings are stored otherwise, and are the same
        return pd.StringDtype("python", na_value)


# Types of Arrow that y can have, by the names that they show; all are aliases too.
ARROW = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("halffloat", "float", "double", "string", "large_string", "string_view"),
}


def _pack_arrow(dtype: Any) -> Any:
    """Name of an Arrow type; a list of its parts where it has some."""
    import pyarrow as pa

    if pa.types.is_dictionary(dtype):
        parts = _pack_arrow(dtype.index_type), _pack_arrow(dtype.value_type), dtype.ordered
        return ["dictionary", *parts]
    if pa.types.is_decimal128(dtype):
        return ["decimal128", dtype.precision, dtype.scale]
    return str(dtype)


def _is_arrow(dtype: Any) -> bool:
    if type(dtype) is not pd.ArrowDtype:
        return False
    packed = _pack_arrow(dtype.pyarrow_dtype)
    parts = [packed] if isinstance(packed, str) else packed[1:3] * (packed[0] == "dictionary")
    return all(part in ARROW for part in parts)


def _unpack_arrow(content: Any) -> Any:
    import pyarrow as pa

    if isinstance(content, str):
        if content not in ARROW:
            raise ValueError(f"{content!r} is not a type that this version knows")
        return pa.type_for_alias(content)
    name, *parts = content
    if name == "dictionary":
        return pa.dictionary(_unpack_arrow(parts[0]), _unpack_arrow(parts[1]), parts[2])
    return pa.decimal128(*parts)


# Types of narwhals, for frames that are not of pandas. Those without parameters:
NARWHALS = {
    kind.__name__: kind
    for kind in (
        nw.Boolean,
        nw.String,
        nw.Categorical,
        nw.Object,
        nw.Float32,
        nw.Float64,
        nw.Int8,
        nw.Int16,
        nw.Int32,
        nw.Int64,
        nw.Int128,
        nw.UInt8,
        nw.UInt16,
        nw.UInt32,
        nw.UInt64,
        nw.UInt128,
    )
}


# Libraries whose frames are read (`eager_only`); others are not to be imported.
BACKENDS = {
    name: nw.Implementation[name] for name in ("PANDAS", "MODIN", "CUDF", "PYARROW", "POLARS")
}


COLUMNS: dict[str, Rule] = {
    "numpy_dtype": Rule(
        lambda v: isinstance(v, np.dtype) and v.kind in "biufO", lambda v: v.str, _numpy_dtype
    ),
    "index": Rule(
        lambda v: isinstance(v, pd.Index) and not isinstance(v, pd.MultiIndex),
        lambda v: [v.tolist(), v.dtype, v.name],
        _index,
    ),
    "series": Rule(
        exactly(pd.Series),
        lambda v: [v.tolist(), v.index, v.dtype, v.name],
        _series,
    ),
    "categorical_dtype": Rule(
        exactly(pd.CategoricalDtype),
        lambda v: [v.categories, v.ordered],
        lambda c: pd.CategoricalDtype(*c),
    ),
    "string_dtype": Rule(
        exactly(pd.StringDtype), lambda v: [v.storage, v.na_value is not pd.NA], _string_dtype
    ),
    "arrow_dtype": Rule(
        _is_arrow,
        lambda v: _pack_arrow(v.pyarrow_dtype),
        lambda c: pd.ArrowDtype(_unpack_arrow(c)),
    ),
    "pandas_dtype": Rule(_is_named, str, _named_dtype),
    "narwhals_dtype": Rule(
        lambda v: type(v) in NARWHALS.values(), lambda v: type(v).__name__, lambda c: NARWHALS[c]()
    ),
    "narwhals_enum": Rule(
        lambda v: isinstance(v, nw.Enum), lambda v: list(v.categories), lambda c: nw.Enum(c)
    ),
    "narwhals_decimal": Rule(
        lambda v: isinstance(v, nw.Decimal),
        lambda v: [v.precision, v.scale],
        lambda c: nw.Decimal(*c),
    ),
    "backend": Rule(
        lambda v: isinstance(v, nw.Implementation), lambda v: v.name, lambda c: BACKENDS[c]
    ),
}
