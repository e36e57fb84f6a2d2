"""A table of containers and roles: each one is understood, or refused in a line that says why."""

from __future__ import annotations

import collections
import datetime
import decimal
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch
from _inputs import make_small
from PIL import Image

N = 40
RNG = np.random.default_rng(0)
# Quarters, which every type can hold: numbers that are the same to the last bit.
X = RNG.integers(-8, 9, size=(N, 2)) / 4
Y = np.column_stack([X[:, 0] > 0, RNG.integers(-8, 9, size=N) / 4])
WEIGHT = RNG.integers(1, 9, size=(N, 2)) / 4
ROLES = ("X", "y", "sample_weight")
HOLE = RNG.random((N, 2)) < 0.2
NAMES = ["y0", "y1"]  # as those of an array, and its tasks


def predicted(**given: Any) -> np.ndarray:
    """What is predicted of X, as it was passed, by what was learned from it."""
    given = {"X": X, "y": Y} | given
    return np.asarray(make_small().fit(**given).predict(given["X"]), dtype=float)


def framed(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, columns=NAMES)


def sparse_frame(fill: Any) -> Callable[[np.ndarray], Any]:
    return lambda v: framed(v).astype(pd.SparseDtype(float, fill))


def tensors(v: np.ndarray) -> list[Any]:
    return list(torch.tensor(v, dtype=torch.bfloat16).requires_grad_())


UNDERSTOOD: dict[str, Callable[[np.ndarray], Any]] = {
    "a list": np.ndarray.tolist,
    "a list of arrays": (list),
    "a tuple of lists": (lambda v: tuple(v.tolist())),
    "named tuples": (lambda v: [collections.namedtuple("Row", NAMES)(*row) for row in v]),
    "series as rows": (lambda v: [row for _, row in framed(v).iterrows()]),
    "float32": (np.float32),
    "float16": (np.float16),
    "longdouble": (np.longdouble),
    "big endian": (lambda v: v.astype(">f8")),
    "Fortran order": (np.asfortranarray),
    "objects": (lambda v: v.astype(object)),
    "a masked array of which nothing is masked": (lambda v: np.ma.array(v, mask=v > 99)),
    "a memoryview": (memoryview),
    "a tensor": (torch.tensor),
    "a tensor with a gradient": (lambda v: torch.tensor(v).requires_grad_()),
    "a result with a gradient": (lambda v: torch.tensor(v, requires_grad=True) * 1),
    "a parameter": (lambda v: torch.nn.Parameter(torch.tensor(v))),
    "bfloat16": (lambda v: torch.tensor(v, dtype=torch.bfloat16)),
    "float8": (lambda v: torch.tensor(v).to(torch.float8_e4m3fn)),
    "half": (lambda v: torch.tensor(v).half()),
    "a negative view": (lambda v: torch._neg_view(-torch.tensor(v))),
    "tensors": (lambda v: list(torch.tensor(v))),
    "tensors with a gradient, in bfloat16": (tensors),
    "lists of tensors of one value": (lambda v: [list(row) for row in tensors(v)]),
    "a frame": (framed),
    "Float64": (lambda v: framed(v).astype("Float64")),
    "Arrow columns of pandas": (lambda v: framed(v).astype("double[pyarrow]")),
    "a frame of objects": (lambda v: framed(v).astype(object)),
    "a frame of zeros that are not stored": (sparse_frame(0.0)),
    "a frame of quarters that are not stored": (sparse_frame(0.25)),
    "a frame of holes that are not stored": (sparse_frame(np.nan)),
    "polars": (lambda v: pl.DataFrame(v, schema=NAMES)),
    "polars decimals": (lambda v: pl.DataFrame(v, schema=NAMES).cast(pl.Decimal(9, 2))),
    "an Arrow table": (lambda v: pa.Table.from_pandas(framed(v))),
    "Arrow of several chunks": (
        lambda v: pa.concat_tables([pa.Table.from_pandas(framed(part)) for part in (v[:7], v[7:])])
    ),
    "decimals": (lambda v: [[decimal.Decimal(str(n)) for n in row] for row in v]),
}


def plain(role: str) -> np.ndarray:
    return {"X": X, "y": Y, "sample_weight": WEIGHT}[role]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", UNDERSTOOD)
def test_understood(name: str, role: str) -> None:
    values = plain(role)
    expected = predicted(**{role: values})
    found = predicted(**{role: UNDERSTOOD[name](values)})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name",
    ["a frame", "Float64", "polars", "an Arrow table", "a frame of zeros that are not stored"],
)
def test_weights_are_matched_by_name(name: str) -> None:
    """Of frames of every kind, whose columns may stand in another order."""
    hold = UNDERSTOOD[name]
    expected = predicted(y=framed(Y), sample_weight=framed(WEIGHT))
    turned = hold(WEIGHT).select(NAMES[::-1]) if name[0] == "p" or "Arrow" in name else None
    turned = hold(WEIGHT)[NAMES[::-1]] if turned is None else turned
    np.testing.assert_array_equal(predicted(y=framed(Y), sample_weight=turned), expected)
    wrong = pa.Table.from_pandas(framed(WEIGHT)).rename_columns(["y0", "z"])
    with pytest.raises(ValueError, match=r"sample_weight has the columns \['y0', 'z'\]"):
        predicted(y=framed(Y), sample_weight=wrong)


# -- holes ------------------------------------------------------------------------------------


def holed(v: np.ndarray) -> pd.DataFrame:
    return framed(np.where(HOLE, np.nan, v))


HOLED: dict[str, Callable[[np.ndarray], Any]] = {
    "NaN": lambda v: holed(v).to_numpy(),
    "a masked array": lambda v: np.ma.array(v, mask=HOLE),
    "masked integers": lambda v: np.ma.array((v * 4).astype(int), mask=HOLE),
    "masked objects": lambda v: np.ma.array(v.astype(object), mask=HOLE),
    "a masked array that was cut and turned": lambda v: np.ma.array(v[::-1], mask=HOLE[::-1])[::-1],
    "masked rows": lambda v: list(np.ma.array(v, mask=HOLE)),
    "rows of which some are masked": lambda v: [
        np.ma.array(row, mask=hole) if hole.any() else row
        for row, hole in zip(v, HOLE, strict=True)
    ],
    "a deque of masked rows": lambda v: collections.deque(np.ma.array(v, mask=HOLE)),
    "a tuple of masked rows": lambda v: tuple(np.ma.array(v, mask=HOLE)),
    "None in lists": lambda v: [[None if n != n else n for n in row] for row in holed(v).values],
    "a tensor with a gradient": lambda v: torch.tensor(holed(v).values, requires_grad=True),
    "bfloat16": lambda v: torch.tensor(holed(v).values).bfloat16(),
    "Float64": lambda v: holed(v).astype("Float64"),
    "Int64": lambda v: holed(v * 4).astype("Int64"),
    "Arrow columns of pandas": lambda v: holed(v).astype("double[pyarrow]"),
    "a frame of holes that are not stored": lambda v: holed(v).astype(pd.SparseDtype(float)),
    "a frame of objects": lambda v: holed(v).astype(object).where(~HOLE, None),
    "polars": lambda v: pl.DataFrame(holed(v)).fill_nan(None),
    "polars integers": lambda v: pl.DataFrame(holed(v * 4)).fill_nan(None).cast(pl.Int16),
    "an Arrow table": lambda v: pa.Table.from_pandas(holed(v)),
}


@pytest.mark.filterwarnings("ignore:X holds NaN")
@pytest.mark.parametrize("name", HOLED)
def test_holes_in_X_are_found(name: str) -> None:
    """Not trained on as whatever stands below a mask."""
    with pytest.raises(ValueError, match=f"X contains NaN in {HOLE.any(axis=1).sum()} of"):
        predicted(X=HOLED[name](X))
    names = hasattr(HOLED[name](X), "columns")
    estimator = make_small().fit(framed(X) if names else X, Y)
    with pytest.raises(ValueError, match="X contains NaN"):
        estimator.predict(HOLED[name](X))


@pytest.mark.parametrize("name", HOLED)
def test_holes_in_y_are_not_observed(name: str) -> None:
    y = HOLED[name](Y)
    factor = 4 if "nteger" in name or "Int" in name else 1
    tasks = {"y0": "classification"}
    found = make_small(tasks).fit(X, y)
    np.testing.assert_array_equal(found.n_observed_, (~HOLE).sum(axis=0))
    expected = make_small(tasks).fit(X, holed(Y * factor).to_numpy())
    np.testing.assert_array_equal(found.predict(X).astype(float), expected.predict(X))


@pytest.mark.parametrize("name", HOLED)
def test_holes_in_weights_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"sample_weight .*Pass (weights >= 0|0 where)"):
        predicted(sample_weight=HOLED[name](WEIGHT))


def test_masked_groups_are_refused() -> None:
    groups = np.arange(N) % 7
    for held in (np.ma.array(groups, mask=groups == 2), np.ma.array(groups, mask=groups == 0)):
        with pytest.raises(ValueError, match="groups holds missing labels"):
            make_small().fit(X, Y, groups=held)


def test_what_is_masked_in_a_row_without_weight_is_not_asked_for() -> None:
    weight = 1.0 - HOLE.any(axis=1)
    estimator = make_small().fit(np.ma.array(X, mask=HOLE), Y, sample_weight=weight)
    expected = make_small().fit(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(estimator.predict(X), expected.predict(X))


# -- what is refused --------------------------------------------------------------------------


class Readings(torch.utils.data.Dataset[torch.Tensor]):
    """Rows by number, as torch likes them."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = torch.tensor(values)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.values[row]


def records(v: np.ndarray) -> np.ndarray:
    return framed(v).to_records(index=False)


def days(v: np.ndarray) -> list[list[datetime.date]]:
    return [[datetime.date(2020, 1, 1 + int(abs(4 * n))) for n in row] for row in v]


class Closed:
    """An array by its word, which cannot be read any more."""

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("the store is closed")


def ring() -> list[Any]:
    """A list that holds itself."""
    rows: list[Any] = []
    rows.append(rows)
    return rows


REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "a dict of columns": lambda v: dict(zip(NAMES, v.T, strict=True)),
    "dicts": lambda v: framed(v).to_dict("records"),
    "a generator": lambda v: (row for row in v),
    "an iterator": lambda v: map(list, v),
    "a set": lambda v: set(v.ravel()),
    "a data set of torch": Readings,
    "a data set of tensors": lambda v: torch.utils.data.TensorDataset(torch.tensor(v)),
    "a loader": lambda v: torch.utils.data.DataLoader(Readings(v)),
    "a sparse tensor": lambda v: torch.tensor(v).to_sparse(),
    "a tensor without values": lambda v: torch.tensor(v, device="meta"),
    "a complex tensor": lambda v: torch.tensor(v) + 1j,
    "complex numbers": lambda v: v + 1j,
    "a lazy frame": lambda v: pl.DataFrame(v, schema=NAMES).lazy(),
    "a structured array": records,
    "a structured array with masks": lambda v: np.ma.masked_array(records(v)),
    "an array that raises": lambda v: Closed(),
    "a list of itself": lambda v: ring(),
    "a class": lambda v: pd.DataFrame,
    "dates": lambda v: np.array(days(v), dtype="M8[D]"),
    "date objects": days,
    "a frame of dates": lambda v: framed(np.array(days(v), dtype="M8[s]")),
    "polars dates": lambda v: pl.DataFrame(days(v), schema=NAMES, orient="row"),
    "Arrow dates": lambda v: pa.table(dict(zip(NAMES, zip(*days(v), strict=True), strict=True))),
    "durations": lambda v: (v * 4).astype("m8[h]"),
    "lists in a column": lambda v: pd.DataFrame({"y0": v[:, 0], "y1": v.tolist()}),
    "polars lists": lambda v: pl.DataFrame({"y0": v[:, 0], "y1": v.tolist()}),
    "Arrow lists": lambda v: pa.table({"y0": v[:, 0], "y1": v.tolist()}),
    "sparse rows in a list": lambda v: list(map(sp.csr_array, v[:, None])),
    "a file": lambda v: "rows.npy",
    "text": lambda v: np.full(v.shape, "a"),
    "categories of text": lambda v: framed(np.where(v > 0, "a", "b")).astype("category"),
}
LABELS = ("text", "categories of text", "date objects")  # of y, that is


@pytest.mark.parametrize(
    ("name", "role"),
    [(n, r) for n in REFUSED for r in ROLES if r != "y" or n not in LABELS],
)
def test_refused(name: str, role: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        predicted(**{role: REFUSED[name](plain(role))})
    assert re.search(rf"\b{role}\b", str(caught.value))
    assert len(str(caught.value).splitlines()) == 1


# -- images -----------------------------------------------------------------------------------

PIXELS = RNG.integers(0, 256, size=(N, 6, 6, 3)).astype(np.uint8)


def images(mode: str) -> list[Image.Image]:
    return [Image.fromarray(image).convert(mode) for image in PIXELS]


def seen(X: Any) -> np.ndarray:
    last = {"data_format": "channels_last"} if np.ndim(X[0]) == 3 else {}
    return np.asarray(make_small(trunk="conv", max_epochs=1, **last).fit(X, Y).predict(X))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "F", "I", "1", "CMYK", "HSV"])
@pytest.mark.parametrize("hold", [list, tuple, pd.Series], ids=["list", "tuple", "series"])
def test_images(mode: str, hold: Callable[[Any], Any]) -> None:
    arrays = np.stack([np.asarray(image) for image in images(mode)])
    np.testing.assert_array_equal(seen(hold(images(mode))), seen(arrays))


@pytest.mark.parametrize("hold", [list, tuple, pd.Series], ids=["list", "tuple", "series"])
def test_images_that_are_no_brightness(hold: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match=r"X holds images of the mode\(s\) 'P'.*palette.*convert"):
        make_small(trunk="conv").fit(hold(images("P")), Y)
    mixed = [*images("RGB")[:20], *images("HSV")[20:]]
    with pytest.raises(ValueError, match=r"mode\(s\) 'HSV', 'RGB', which are not the same"):
        make_small(trunk="conv").fit(hold(mixed), Y)


def test_an_object_without_axes() -> None:
    with pytest.raises(ValueError, match="X is an array without axes"):
        make_small().fit(np.array(decimal, dtype=object), Y)


def test_a_column_of_arrays_asks_for_one_array() -> None:
    with pytest.raises(ValueError, match=r"X is a column of arrays\. Pass one array: np\.stack"):
        make_small().fit(pd.Series(list(X)), Y)
