"""y in every container: what its columns are, and what frames come back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _columns import (
    BIT_HOLES,
    BOOL,
    BOOL_HOLES,
    CODE_HOLES,
    REAL,
    REAL_HOLES,
    WORD,
    WORD_HOLES,
    N,
    inputs,
    small,
)

from sklearn_mtl import Task
from sklearn_mtl._data.tables import Column, RawColumn, clean, read_table

# One vector each: y, labels in order (None for a number), and the frame's dtype (None: not y's).
VECTORS: dict[str, tuple[Any, list[Any] | None, Any]] = {
    "numpy bool": (np.array(BOOL), [False, True], None),
    "numpy 0/1": (np.array(BOOL, dtype=int), [0, 1], None),
    "numpy uint8 0/1": (np.array(BOOL, dtype=np.uint8), [0, 1], None),
    "numpy 0.0/1.0": (np.array(BOOL, dtype=float), [0.0, 1.0], None),
    "numpy only ones and holes": (np.array([np.nan, 1.0, 0.0] * 8), [0.0, 1.0], None),
    "numpy float": (np.array(REAL), None, None),
    "numpy float16": (np.array(REAL, dtype=np.float16), None, None),
    "numpy ints": (np.arange(N), None, None),
    "numpy -1/1": (np.array([-1, 1] * 12), None, None),
    "numpy 0/1/2": (np.array([0, 1, 2] * 8), None, None),
    "numpy uint64": (np.arange(N, dtype=np.uint64) + 2**63, None, None),
    "numpy U": (np.array(WORD), ["a", "b"], None),
    "numpy object strings": (np.array(WORD, dtype=object), ["a", "b"], None),
    "numpy object bools": (np.array(BOOL_HOLES, dtype=object), [False, True], None),
    "numpy object numbers": (np.array(REAL_HOLES, dtype=object), None, None),
    "numpy object 0/1": (np.array(BIT_HOLES, dtype=object), [0, 1], None),
    "masked array": (np.ma.masked_array(REAL, mask=np.arange(N) == 3), None, None),
    "list of strings": (WORD, ["a", "b"], None),
    "list of strings with None": (WORD_HOLES, ["a", "b"], None),
    "list of bools": (BOOL, [False, True], None),
    "list of numbers with None": (REAL_HOLES, None, None),
    "tuple": (tuple(WORD), ["a", "b"], None),
    "pandas str": (pd.Series(WORD_HOLES, name="v"), ["a", "b"], pd.Series(WORD).dtype),
    "pandas object": (pd.Series(WORD_HOLES, dtype=object), ["a", "b"], np.dtype(object)),
    "pandas string": (pd.Series(WORD_HOLES, dtype="string"), ["a", "b"], pd.StringDtype()),
    "pandas bool": (pd.Series(BOOL), [False, True], np.dtype(bool)),
    "pandas boolean": (pd.Series(BOOL_HOLES, dtype="boolean"), [False, True], pd.BooleanDtype()),
    "pandas Int64 0/1": (pd.Series(BIT_HOLES, dtype="Int64"), [0, 1], pd.Int64Dtype()),
    "pandas Int8 number": (pd.Series(CODE_HOLES, dtype="Int8"), None, None),
    "pandas Float64": (pd.Series(REAL_HOLES, dtype="Float64"), None, None),
    "pandas float32": (pd.Series(REAL, dtype="float32"), None, None),
    "pandas category": (
        pd.Series(WORD_HOLES, dtype="category"),
        ["a", "b"],
        pd.CategoricalDtype(["a", "b"]),
    ),
    "pandas category of ints": (
        pd.Series(pd.Categorical(CODE_HOLES, categories=[3, 5, 7])),
        [3, 7],
        pd.CategoricalDtype([3, 5, 7]),
    ),
    "pandas category of bools": (
        pd.Series(BOOL_HOLES, dtype="category"),
        [False, True],
        pd.CategoricalDtype([False, True]),
    ),
    "polars str": (pl.Series("v", WORD_HOLES), ["a", "b"], pl.String),
    "polars without a name": (pl.Series(WORD_HOLES), ["a", "b"], pl.String),
    "polars bool": (pl.Series("v", BOOL_HOLES), [False, True], pl.Boolean),
    "polars int8 0/1": (pl.Series("v", BIT_HOLES, dtype=pl.Int8), [0, 1], pl.Int8),
    "polars int": (pl.Series("v", CODE_HOLES), None, pl.Float64),
    "polars float32": (pl.Series("v", REAL_HOLES, dtype=pl.Float32), None, pl.Float64),
    "polars categorical": (pl.Series("v", WORD, dtype=pl.Categorical), ["a", "b"], pl.Categorical),
    "polars enum": (
        pl.Series("v", WORD_HOLES, dtype=pl.Enum(["b", "a"])),
        ["a", "b"],
        pl.Enum(["b", "a"]),
    ),
}


@pytest.mark.filterwarnings("ignore:Task .* holds .* only")
@pytest.mark.parametrize("name", VECTORS)
def test_vector_round_trip(name: str) -> None:
    y, labels, dtype = VECTORS[name]
    est = small().fit(inputs(), y)
    assert [task.kind for task in est.tasks_] == [
        "regression" if labels is None else "classification"
    ]
    assert est.task_names_ == ["v" if getattr(y, "name", None) == "v" else "y0"]
    predicted = est.predict(inputs())
    assert predicted.shape == (N,)
    if labels is None:
        assert not hasattr(est, "classes_")
        assert predicted.dtype.kind == "f"
        assert np.isfinite(predicted).all()
    else:
        assert est.classes_.tolist() == labels
        assert predicted.dtype == est.classes_.dtype
        assert set(predicted.tolist()) <= set(labels)
        assert est.predict_proba(inputs()).shape == (N, len(labels))
    frame = est.predict_frame(inputs())
    assert isinstance(frame, pl.DataFrame if isinstance(y, pl.Series) else pd.DataFrame)
    assert list(frame.columns) == est.task_names_
    if dtype is not None:
        assert frame[est.task_names_[0]].dtype == dtype
    assert 0 <= est.score(inputs(), y) <= 1 or labels is None


def test_masked_cells_are_holes() -> None:
    y = np.ma.masked_array(np.arange(N, dtype=float), mask=np.arange(N) % 3 == 0)
    assert small().fit(inputs(), y).n_observed_.tolist() == [N - 8]


BIG = [2**53, 2**53 + 1] * 11 + [None, 2**53]  # floats would make them one


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(BIG, dtype="Int64"),
        pd.Series(BIG, dtype="int64[pyarrow]"),
        pl.Series(BIG),
        np.array(BIG, dtype=object),
        BIG,
    ],
    ids=["pandas", "arrow", "polars", "object", "list"],
)
def test_integers_with_holes_keep_their_digits(y: Any) -> None:
    est = small(tasks={"y0": "classification"}).fit(inputs(), y)
    assert est.classes_.tolist() == BIG[:2]
    assert est.classes_.dtype == np.int64


def test_decimals_are_numbers() -> None:
    y = pd.Series([Decimal("1.5"), None, Decimal("2.25")] * 8)
    est = small().fit(inputs(), y)
    assert est.tasks_ == [Task("y0", "regression")]
    assert est._fitted.encoder.kinds_[0].mean_ == pytest.approx(1.875)


def test_labels_that_a_frame_need_not_have() -> None:
    """Column labels that are no strings come back in `predict_frame`; names are y0, y1."""
    columns = [5, ("a", 1)]
    y = pd.DataFrame(np.c_[REAL, REAL[::-1]])
    y.columns = pd.Index(columns, tupleize_cols=False)
    est = small().fit(inputs(), y)
    assert est.task_names_ == ["y0", "y1"]
    assert list(est.predict_frame(inputs()).columns) == columns


def test_frame_keeps_the_index_of_X() -> None:
    X = pd.DataFrame(inputs(), columns=list("abc"), index=np.arange(N) + 100)
    frame = small().fit(X, np.array(REAL)).predict_frame(X)
    pd.testing.assert_index_equal(frame.index, X.index)


def test_frame_from_a_list() -> None:
    X = inputs().tolist()
    assert small().fit(X, WORD).predict_frame(X).shape == (N, 1)


def test_table_columns_are_those_of_y() -> None:
    table = read_table(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}))
    assert list(table.columns) == ["a", "b"]
    assert table.ndim == 2
    assert not table.columns["a"].categorical
    assert read_table([1, 2, 3]).ndim == 1
    assert read_table(pd.Series(["x"], dtype="category")).columns["y0"].categorical


@pytest.mark.parametrize(
    ("values", "missing", "seen", "expected"),
    [
        ([1.0, np.nan, 3.0], None, [True, False, True], [1.0, 3.0]),
        (np.array([1, -9, 3]), -9, [True, False, True], [1, 3]),
        (np.array(["a", None, "b"], dtype=object), None, [True, False, True], ["a", "b"]),
        (np.array(["a", "?", pd.NA], dtype=object), "?", [True, False, False], ["a"]),
        (np.array([True, None], dtype=object), None, [True, False], [True]),
        (np.array([1, None, 2**63], dtype=object), None, [True, False, True], [1, 2**63]),
    ],
)
def test_holes_are_told_from_values(values: Any, missing: Any, seen: Any, expected: Any) -> None:
    column = clean(RawColumn(np.asarray(values)), "a", missing)
    assert column.seen.tolist() == seen
    assert column.values[column.seen].tolist() == expected
    assert len(column.values) == len(seen)
    assert not column.categorical  # no type says so


def test_an_order_does_not_count_what_means_missing() -> None:
    raw = RawColumn(np.array(["a", "?", "b"]), True, ("?", "b", "a"))
    assert clean(raw, "a", "?").order == ("b", "a")
    assert clean(raw, "a", None).order == ("?", "b", "a")


# -- columns of few values -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [float, int, object])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_a_column_of_few_values_is_as_one_of_many(share: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    values, seen = np.arange(50).astype(dtype), rng.random(50) < share
    column = Column(values, seen, True, (1, 2))
    again = Column.of(np.flatnonzero(seen), values[seen], 50, True, (1, 2))
    kept, rows = rng.random(50) < 0.5, np.arange(0, 50, 3)
    for found in (column, again):
        assert (found.n_rows, found.n_seen) == (50, seen.sum())
        assert (found.categorical, found.order) == (True, (1, 2))
        assert found.values.dtype == found.observed.dtype == values.dtype
        np.testing.assert_array_equal(found.seen, seen)
        np.testing.assert_array_equal(found.rows, np.flatnonzero(seen))
        np.testing.assert_array_equal(found.observed, values[seen])
        np.testing.assert_array_equal(found.values[seen], values[seen])
        for part, where, of in (
            (found.where(kept), seen & kept, values),
            (found.take(rows), seen[rows], values[rows]),
        ):
            np.testing.assert_array_equal(part.seen, where)
            np.testing.assert_array_equal(part.observed, of[where])
            assert (part.categorical, part.order) == (True, (1, 2))
