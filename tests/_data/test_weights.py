"""Weights in whatever they come: numbers, or refused by name."""

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

from sklearn_mtl._data.weights import read_weights

DAYS = pd.date_range("2022", periods=3)


@pytest.mark.parametrize(
    "given",
    {
        "list": [0, 1, 2],
        "bools and numbers": [False, True, 2],
        "objects": np.array([0, np.True_, decimal.Decimal(2)], dtype=object),
        "masked nowhere": np.ma.array([0.0, 1.0, 2.0]),
        "longer floats": np.arange(3, dtype=np.longdouble),
        "nullable": pd.Series([0, 1, 2], dtype="Int64"),
        "categories": pd.Series([0, 1, 2], dtype="category"),
        "polars": pl.Series([0, 1, 2]),
        "tensor of a gradient": torch.tensor([0.0, 1.0, 2.0], requires_grad=True),
        "bfloat16": torch.tensor([0, 1, 2], dtype=torch.bfloat16),
    }.values(),
)
def test_numbers(given):
    weights = read_weights(given, "w")
    assert weights.dtype == np.float64
    assert weights.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "says"),
    {
        "dates": (DAYS, r"w holds datetime64\[.*\] values. Pass weights >= 0"),
        "dates with a zone": (pd.Series(DAYS.tz_localize("CET")), "w holds Timestamp"),
        "durations": (DAYS - DAYS[0], "w holds timedelta64"),
        "periods": (pd.Series(DAYS.to_period("D")), "w holds Period.*position 0"),
        "days": ([1.0, DAYS[0].date()], "w holds datetime.date.*at position 1"),
        "complex": (np.array([1, 2j]), "w holds complex128 values"),
        "text": (np.array(["1", "2"]), "w holds <U1 values"),
        "text in a list": ([1, "2"], "w holds '2' at position 1, which is no number"),
        "text in a series": (pd.Series(["1", "2"]), "w holds '1' at position 0"),
        "None": ([1, None], "w holds None at position 1"),
        "too large": ([1, 10**400], "w holds 1000.*at position 1"),
        "signalling": ([decimal.Decimal("sNaN")], "w holds Decimal.'sNaN'. at position 0"),
        "masked": (np.ma.array([1, 2], mask=[0, 1]), "w is an array with masked values. Pass 0"),
        "sparse": (sparse.csr_array([[1.0]]), r"w is of type csr_array. Pass its toarray\(\)"),
        "dict": ({"a": 1.0}, "w is of type dict. Pass an array of weights"),
        "generator": ((v for v in [1.0]), "w is of type generator"),
        "name": ("balanced", "w is of type str"),
        "ragged": ([[1], [1, 2]], "w is a list of rows of different lengths"),
        "negative": ([0, -1, -2], r"w holds negative.*at 2 positions, the first \[1, 2\]"),
        "infinite": ([[0, 1], [np.inf, 1]], r"non-finite values at 1 positions, the first \[1\]"),
        "a negative number": (-1.0, "w holds negative or non-finite values. Pass"),
        "records": (np.ones(2, dtype=[("a", float)]), "w holds .*'a'.* values"),
    }.values(),
)
def test_all_else_is_refused(given, says):
    with pytest.raises(ValueError, match=f"(?s){says}"):
        read_weights(given, "w")
