"""Bad inputs, put together of parts: a fault in values of a type in a container."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import scipy.sparse
import torch

# -- faults: of a cell, or of the shape -----------------------------------------------------------


class Raises:
    """An array, it says, and then it does not come."""

    shape = (30, 3)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("not today")

    def __len__(self) -> int:
        return 30


def _never_ending() -> Any:
    """A list that holds itself."""
    rows: list[Any] = []
    rows.append(rows)
    return rows


# That are no numbers, whatever they stand for. Holes are apart.
CELLS: dict[str, Any] = {
    "inf": np.inf,
    "-inf": -np.inf,
    "inf in text": "inf",
    "a large int": 10**400,
    "a large negative int": -(10**400),
    "a large fraction": fractions.Fraction(10**400, 3),
    "a signalling NaN": decimal.Decimal("sNaN"),
    "a large decimal": decimal.Decimal("1e999"),
    "an infinite decimal": decimal.Decimal("-Infinity"),
    "complex": 1 + 2j,
    "a list": [1.0],
    "a dict": {"a": 1},
    "a set": {1},
    "a day": datetime.date(2020, 1, 2),
    "a time": datetime.datetime(2020, 1, 2, 3),
    "a duration": datetime.timedelta(3),
    "a numpy time": np.datetime64("2020-01-02"),
    "a numpy duration": np.timedelta64(3, "s"),
    "bytes": b"1",
    "an object": Raises(),
    "a class": int,
    "a function": len,
    "an array": np.array([1.0, 2.0]),
    "a tensor": torch.ones(2),
    "numpy complex": np.complex128(1 + 2j),
    "numpy void": np.void(b"abc"),
    "numpy text": np.str_("abc"),
    "a zero-dimensional array of complex": np.array(1 + 2j),
    "a time of pandas": pd.Timestamp("2020-01-02"),
    "a duration of pandas": pd.Timedelta(3, "s"),
    "a frame": pd.DataFrame({"a": [1]}),
    "a period": pd.Period("2020-01"),
    "an interval": pd.Interval(0, 1),
    "text": "abc",
    "text of nothing": "",
    "a null character": "\x00",
    "a lone surrogate": "\ud800",
}
HOLES: dict[str, Any] = {
    "NaN": np.nan,
    "None": None,
    "NA": pd.NA,
    "NaT": pd.NaT,
    "a decimal NaN": decimal.Decimal("NaN"),
}

Table = np.ndarray


def _first_column_thrice(t: Table) -> Table:
    return np.stack([t, t, t], axis=-1)[..., None, None]


SHAPES: dict[str, Callable[[Table], Any]] = {
    "a row less": lambda t: t[:-1],
    "a row more": lambda t: np.concatenate([t, t[:1]]),
    "no rows": lambda t: t[:0],
    "one row": lambda t: t[:1],
    "no columns": lambda t: t[:, :0] if t.ndim > 1 else t[:0],
    "many axes": _first_column_thrice,
    "on its side": lambda t: t.T if t.ndim > 1 else t[None],
    "no axes": lambda t: t.flat[0],
    "ragged": lambda t: [*t.tolist()[:-1], [1.0] * 7],
    "a scalar among rows": lambda t: [*t.tolist()[:-1], "a"],
}

# -- types ----------------------------------------------------------------------------------------

# Those that hold no numbers that could be meant.
WRONG_TYPES: dict[str, Callable[[Table], Any]] = {
    "complex128": lambda t: t.astype(complex) + 1j,
    "datetime64": lambda t: t.astype("M8[s]"),
    "timedelta64": lambda t: t.astype("m8[s]"),
    "structured": lambda t: np.array([(1.0, 2)] * len(t), dtype=[("a", float), ("b", int)]),
    "void": lambda t: np.zeros(t.shape, dtype="V4"),
    "bytes": lambda t: np.full(t.shape, b"a"),
    "str": lambda t: np.full(t.shape, "a"),
}
TYPES: dict[str, Callable[[Table], Any]] = {
    "object": lambda t: t,
    **{
        name: lambda t, name=name: t.astype(name)
        for name in (*("float64", "float32", "float16", "longdouble", ">f8"), "int64", "uint8")
    },
    "not in a row": lambda t: np.repeat(t, 2, axis=0)[::2],
    "by columns": np.asfortranarray,
    "backwards": lambda t: t[::-1].copy()[::-1],
}

# -- containers -----------------------------------------------------------------------------------


def _named(values: Any) -> dict[str, Any]:
    table = np.asarray(values)
    if table.ndim == 1:
        return {"c0": table}
    if table.ndim != 2:
        raise ValueError("no table")
    return {f"c{j}": table[:, j] for j in range(table.shape[1])}


def _tensor(values: Any) -> torch.Tensor:
    return torch.as_tensor(values)


class OfUser:
    """Has a shape and rows, as HDF5 and Zarr arrays have."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.shape, self.dtype, self.ndim = self.values.shape, self.values.dtype, self.values.ndim

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        return self.values[key]


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "an array": np.asarray,
    "a read-only array": lambda v: _locked(np.array(v)),
    "a list": lambda v: np.asarray(v).tolist() if not isinstance(v, list) else v,
    "a tuple": lambda v: tuple(map(tuple, v)),
    "a list of arrays": lambda v: [np.asarray(row) for row in v],
    "a masked array": lambda v: np.ma.masked_array(v, np.zeros(np.shape(v), bool)),
    "a pandas frame": lambda v: pd.DataFrame(v),
    "a named frame": lambda v: pd.DataFrame(_named(v)),
    "a polars frame": lambda v: pl.DataFrame({n: c.tolist() for n, c in _named(v).items()}),
    "an Arrow table": lambda v: pa.table({n: pa.array(c.tolist()) for n, c in _named(v).items()}),
    "a tensor": _tensor,
    "a tensor of a gradient": lambda v: _tensor(v).requires_grad_(),
    "a deque": lambda v: collections.deque(np.asarray(v).tolist()),
    "an array of a user": OfUser,
}
# That are nothing that could be read, whatever they hold.
WRONG_CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda v: None,
    "a number": lambda v: 3.0,
    "text": lambda v: "data.csv",
    "a path": lambda v: pathlib.Path("data.csv"),
    "bytes": lambda v: b"data",
    "a file": lambda v: io.BytesIO(b"data"),
    "a set": lambda v: {1.0, 2.0},
    "a function": lambda v: len,
    "a class": lambda v: pd.DataFrame,
    "an object": lambda v: object(),
    "what raises": lambda v: Raises(),
    "a generator": lambda v: (row for row in np.asarray(v).tolist()),
    "what holds itself": lambda v: _never_ending(),
    "an ellipsis": lambda v: ...,
    "a lazy frame": lambda v: pl.LazyFrame({"a": [1.0] * 30}),
    "a loader": lambda v: torch.utils.data.DataLoader([1, 2, 3]),
    "bool": lambda v: True,
    "a mapping of lengths": lambda v: {"a": [1.0], "b": [1.0, 2.0]},
    "groups": lambda v: pd.DataFrame({"a": [1.0] * 30, "b": [1] * 30}).groupby("b"),
    "a sparse array of another length": lambda v: scipy.sparse.csr_array(np.eye(7)),
    "a meta tensor": lambda v: torch.empty(np.shape(v), device="meta"),
    "a complex tensor": lambda v: torch.ones(np.shape(v), dtype=torch.complex64),
    "a lazy sequence": lambda v: map(float, range(30)),
}


def _locked(values: Table) -> Table:
    values.setflags(write=False)
    return values


# -- what is the same -----------------------------------------------------------------------------


def content_of(value: Any) -> Any:
    """What is in a value, to be compared with what is in it later."""
    if isinstance(value, np.ma.MaskedArray):
        return content_of(value.data), content_of(np.ma.getmaskarray(value))
    if isinstance(value, np.ndarray):
        items = [id(v) for v in value.flat] if value.dtype == object else value.tobytes()
        return value.dtype, value.shape, value.strides, value.flags.writeable, items
    if isinstance(value, OfUser):
        return content_of(value.values)
    if isinstance(value, torch.Tensor):
        data = value.detach().clone() if value.device.type == "cpu" else None
        return value.dtype, value.requires_grad, data if data is None else data.numpy().tobytes()
    if isinstance(value, pd.DataFrame):
        kept = [str(value.columns.tolist()), [str(t) for t in value.dtypes], list(value.index)]
        return kept, [content_of(value.iloc[:, j].to_numpy()) for j in range(value.shape[1])]
    if isinstance(value, pl.DataFrame):
        return value.schema, [repr(v) for v in value.rows()]
    if isinstance(value, list | tuple | collections.deque):
        return [id(v) for v in value]
    if isinstance(value, dict):
        return [(k, id(v)) for k, v in value.items()]
    return None  # cannot be looked into


def combinations(rng: np.random.Generator, values: Table) -> Iterator[tuple[str, Any]]:
    """Yield bad inputs made of `values` without end: what is wrong, and the input."""
    while True:
        kind = ("cell", "hole", "shape", "type", "container")[rng.integers(5)]
        container, typed = _chosen(rng, CONTAINERS), _chosen(rng, TYPES)
        table = values.copy()
        name = ""
        try:
            if kind == "container":
                name, container = _chosen(rng, WRONG_CONTAINERS)[0], ("", None)
                yield f"{kind} {name}", WRONG_CONTAINERS[name](table)
                continue
            if kind in ("cell", "hole"):
                name = _chosen(rng, CELLS if kind == "cell" else HOLES)[0]
                made = table.astype(object)
                spot = tuple(rng.integers(n) for n in made.shape)
                made[spot] = (CELLS | HOLES)[name]
                whole = typed[1](made)
                if whole.dtype != object and not (
                    whole.dtype.kind == "f" and not np.isfinite(whole[spot])
                ):
                    continue  # what was wrong is gone
            elif kind == "shape":
                name = _chosen(rng, SHAPES)[0]
                whole = SHAPES[name](typed[1](table))
            else:
                name = _chosen(rng, WRONG_TYPES)[0]
                whole = WRONG_TYPES[name](table)
            given = container[1](whole)
        except (Exception, pl.exceptions.PanicException):  # there is no such container
            continue
        yield f"{kind} {name}, {typed[0]}, {container[0]}", given


def _chosen(rng: np.random.Generator, options: dict[str, Any]) -> tuple[str, Any]:
    name = list(options)[rng.integers(len(options))]
    return name, options[name]
