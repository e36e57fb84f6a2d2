"""Why an X cannot be read; what people are told in the end, tests/test_mistakes.py lists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sklearn_mtl._data.inputs import as_input
from sklearn_mtl._data.refusals import blame, listed, refusal, rows_beside_y

ROWS = np.zeros((6, 3))


@pytest.mark.parametrize(
    ("items", "text"),
    [
        (["a", 1], "'a', 1"),
        (np.arange(3), "0, 1, 2"),
        (np.array(["a"]), "'a'"),
        (list("abcde"), "'a', 'b', 'c', 'd', 'e'"),
        (list("abcdefg"), "'a', 'b', 'c', 'd', 'e' and 2 more"),
    ],
)
def test_many_items_are_cut_short(items: Any, text: str) -> None:
    assert listed(items) == text


def test_one_column_and_many() -> None:
    assert blame(["a"], "text").startswith("Column 'a' of X holds text. Encode")
    assert blame(["a", "b"], "text", "X_val").startswith("Columns 'a', 'b' of X_val hold text. En")


def test_each_fault_of_columns_is_told() -> None:
    X = pd.DataFrame(
        {"n": [1.0], "t": ["x"], "d": pd.to_datetime(["2024"]), "l": [[1]], "o": [set()]}
    )
    text = str(refusal(X, ValueError("?")))
    for part in ("'t' of X holds text", "'d' of X holds dates", "'l' of X holds lists", "'o' of X"):
        assert part in text
    assert "'n'" not in text


def test_what_nobody_foresaw_is_told_as_it_is() -> None:
    error = refusal(ROWS, ValueError("The moon is full."), "X_val")
    assert str(error) == "X_val cannot be read as numbers: The moon is full."


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ([ROWS, ROWS[:, :2]], "or MultiInput"),  # more rows each than items
        ([ROWS[:2], ROWS[:2, :2]], "Samples of X differ"),
        ([ROWS[0], ROWS[0, :2]], "Samples of X differ"),
        ([ROWS, ROWS[:4]], "Samples of X differ"),
        ([ROWS, ROWS[:, :2]] * 5, "Samples of X differ"),  # too many for inputs
    ],
)
def test_inputs_and_samples_are_told_apart(X: list[np.ndarray], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        raise refusal(X, ValueError("?"))


@pytest.mark.parametrize("y", [np.zeros(6), [0.0] * 6, pd.Series(np.zeros(6)), 5, np.float64(5)])
def test_rows_beside_y(y: Any) -> None:
    """What is no column at all is for others to refuse."""
    rows_beside_y(ROWS, 6, y)
    if np.ndim(y):
        with pytest.raises(ValueError, match=r"X and y have inconsistent numbers .* 5 and 6"):
            rows_beside_y(ROWS[:5], 5, y)


def test_a_matrix_that_stands_on_its_side_holds_no_inputs() -> None:
    with pytest.raises(ValueError, match="inconsistent numbers of samples, 12 and 6"):
        rows_beside_y(list(np.zeros((12, 6))), 12, np.zeros(6))


@pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 cannot ask such a NaN either")
def test_a_nan_that_signals_is_told_by_its_column() -> None:
    """Even to ask whether it is a NaN is an error."""
    numbers = np.array([[Decimal(1), Decimal(2)], [Decimal(3), Decimal("sNaN")]])
    for X in (numbers, pd.DataFrame(numbers, columns=["a", "b"])):
        column = "'b'" if isinstance(X, pd.DataFrame) else "1"
        with pytest.raises(ValueError, match=f"Column {column} of X holds a NaN that signals"):
            as_input(X)
