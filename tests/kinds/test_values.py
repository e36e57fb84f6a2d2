"""Labels and numbers of every type."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _observed import small

from sklearn_mtl.kinds.values import are_numbers, as_column, first, narrow, positions


@pytest.mark.parametrize("first", [2**63 - 10, 2**60])
def test_large_labels_are_the_same_in_either_type_of_integer(first: int) -> None:
    labels = first + np.arange(24, dtype=np.uint64) % 3
    est = small(tasks={"y0": "classification"}).fit(np.eye(24), labels)
    score = est.score(np.eye(24), labels)
    assert score == est.score(np.eye(24), labels.astype(np.int64)) > 0
    assert est.score(np.eye(24), labels.astype(np.int64) + 3) == 0


@pytest.mark.parametrize("first", [2**63 + 5, 3])
def test_labels_of_64_bits_beside_holes(first: int) -> None:
    """Also beside small ones, with which numpy would make them floats."""
    known = [first, 2**63 + 6, 2**63 + 7]
    labels = [None if i % 5 == 0 else known[i % 3] for i in range(24)]
    y = pl.Series("y", labels, dtype=pl.UInt64)
    est = small(tasks={"y": "classification"}).fit(np.eye(24), y)
    assert est.classes_.tolist() == known
    assert est.predict_frame(np.eye(24))["y"].dtype == pl.UInt64


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([True, False], bool, [True, False]),
        ([np.True_, False], bool, [True, False]),
        ([True, 2], np.int64, [1, 2]),
        ([1, 2], np.int64, [1, 2]),
        ([2**63, 2**63 + 1], np.uint64, [2**63, 2**63 + 1]),
        ([2**63 + 1, 3], np.uint64, [2**63 + 1, 3]),
        ([2**63, -1], float, [2.0**63, -1.0]),
        ([np.int8(-1), 2**63], float, [-1.0, 2.0**63]),
        ([2**64, 1], float, [2.0**64, 1.0]),
        ([1, 2.5], float, [1.0, 2.5]),
        ([Decimal("1.5"), 2], float, [1.5, 2.0]),
        (["a", "b"], object, ["a", "b"]),
        (["a", 1], object, ["a", 1]),
        ([(1, 2), (3, 4)], object, [(1, 2), (3, 4)]),
    ],
)
def test_labels_have_their_narrowest_common_type(
    values: list[Any], dtype: Any, expected: list[Any]
) -> None:
    column = as_column(values)
    assert column.dtype == dtype
    assert column.tolist() == expected
    assert type(first(column)) is type(expected[0])
    assert are_numbers(column) == (dtype is not object)


def test_values_of_a_type_stay_as_they_are() -> None:
    for values in (np.array([1.0, 2.0], dtype=np.float32), np.array(["a"]), np.array([True])):
        assert narrow(values) is values


@pytest.mark.parametrize(
    ("labels", "values", "expected"),
    [
        (["b", "a"], ["a", "c", "b"], [1, -1, 0]),
        ([3, 1, 2], [1, 2, 3, 4, 0], [1, 2, 0, -1, -1]),
        ([0.5, 0.25], [0.25, 0.3, 0.5], [1, -1, 0]),
        ([False, True], [1, 0, 2], [1, 0, -1]),
        ([2**63, 2**63 + 1], [2**63 + 1, 2**63, 5], [1, 0, -1]),
        ([2**53, 2**53 + 1], [2**53 + 1, 2**53], [1, 0]),
        ([3], [], []),
        (["a"], [], []),
        (["1", "2"], [1, 2], [-1, -1]),
        ([(1, 2), "a"], ["a", (1, 2)], [1, 0]),
    ],
)
def test_positions_of_labels(labels: list[Any], values: list[Any], expected: list[int]) -> None:
    """Those of unsigned integers among signed ones too; -1 for a stranger."""
    found = positions(as_column(labels), as_column(values))
    assert found.dtype == np.float64
    assert found.tolist() == expected
    for one, other in ((np.int64, np.uint64), (np.uint64, np.int64)):
        if all(isinstance(v, int) and 0 <= v < 2**63 for v in labels + values) and labels[0]:
            mixed = positions(np.array(labels, dtype=one), np.array(values, dtype=other))
            assert mixed.tolist() == expected


def test_positions_of_intervals() -> None:
    labels = pd.cut([1.0, 3.0], [0, 2, 4])
    values = np.array([labels[1], labels[0], labels[1]], dtype=object)
    assert positions(np.array(labels.tolist(), dtype=object), values).tolist() == [1, 0, 1]
