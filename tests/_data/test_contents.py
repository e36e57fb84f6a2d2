"""What y and its cells may be: understood wholly, or refused in a line that says what to pass."""

import decimal
import fractions
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse

from sklearn_mtl._data.contents import as_array, check_container
from sklearn_mtl._data.tables import clean, read_table

M = np.ma.masked
SNAN, NAN = decimal.Decimal("sNaN"), decimal.Decimal("nan")


def objects(values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def read(y, missing_values=None):
    """Values of the columns of y, None where not observed."""
    columns = [clean(raw, n, missing_values) for n, raw in read_table(y).columns.items()]
    return [np.where(c.seen, c.values.astype(object), None).tolist() for c in columns]


@pytest.mark.parametrize(
    ("y", "expected"),
    {
        "masked numbers": (np.ma.array([1, 2, 3], mask=[0, 1, 0]), [[1, None, 3]]),
        "masked text": (np.ma.array(["a", "b"], mask=[0, 1]), [["a", None]]),
        "masked matrix": (
            np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[1, 0], [0, 1]]),
            [[None, 3.0], [2.0, None]],
        ),
        "masked rows": (
            [np.ma.array([1.0, 2.0], mask=[1, 0]), np.ma.array([3.0, 4.0], mask=[0, 1])],
            [[None, 3.0], [2.0, None]],
        ),
        "masked values": ([1.5, M, 2.5], [[1.5, None, 2.5]]),
        "masked labels": (["a", M, "b"], [["a", None, "b"]]),
        "masked objects": (pd.DataFrame({"k": objects(["a", M])}), [["a", None]]),
        "signalling": (objects([SNAN, NAN, decimal.Decimal(3)]), [[None, None, 3.0]]),
        "fractions": (objects([fractions.Fraction(1, 2), 2]), [[0.5, 2.0]]),
        "bools of numpy": (objects([np.True_, 2]), [[1.0, 2.0]]),
        "large": ([2**70, 2**71], [[2.0**70, 2.0**71]]),
        "a tensor of a gradient": (torch.tensor([1.0, 2.0], requires_grad=True), [[1.0, 2.0]]),
        "polars with holes": (pl.DataFrame({"k": ["a", None]}), [["a", None]]),
    }.values(),
)
def test_containers_are_wholly_understood(y, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(y) == expected


@pytest.mark.parametrize(
    ("y", "says"),
    {
        "dict": ({"a": [1, 2]}, r"y_val is a dict. Pass a frame of its columns: pd.DataFrame"),
        "set": ({1, 2}, "y_val is a set. Pass a list, in the order of the rows of X"),
        "generator": ((v for v in "ab"), "y_val is a generator. Pass a list"),
        "name": ("size", "y_val is the text 'size'. Pass the targets"),
        "sparse": (sparse.dia_array(np.eye(2)), r"y_val is a sparse dia_array.*or y_val.toarray"),
        "records": (
            np.array([("a", 1.0)], dtype=[("kind", "U1"), ("size", "f8")]),
            r"y_val is an array of the fields \['kind', 'size'\]. Pass a frame",
        ),
    }.values(),
)
def test_other_containers_are_refused(y, says):
    with pytest.raises(TypeError, match=says):
        check_container(y, "y_val")
    with pytest.raises(TypeError, match=r"^y is"):
        as_array(y)


@pytest.mark.parametrize(
    ("y", "says"),
    {
        "dates": (pd.date_range("2021", periods=3), r"datetime64.*A date.*dt\.days.*astype\(str\)"),
        "dates with a zone": (pd.Series(pd.date_range("2021", periods=3, tz="CET")), "A date"),
        "categories of dates": (
            pd.Series(pd.Categorical(pd.date_range("2021", periods=2))),
            "date",
        ),
        "durations": (pd.Series(pd.to_timedelta([1, 2], "h")), r"timedelta64.*column / pd\.Timed"),
        "dates of polars": (pl.Series("y0", [1, 2]).cast(pl.Date), "A date is no target"),
        "durations of polars": (pl.Series("y0", [1, 2]).cast(pl.Duration), "A duration is no num"),
        "complex": (np.array([1j, 2]), "complex128.*real and one of the imaginary"),
        "bytes": (np.array([b"a", b"b"]), r"\|S1.*Decode them"),
        "objects of bytes": (
            objects([b"a", b"b"]),
            "holds b'a' in row 0, of type bytes.*Decode it",
        ),
        "lists of polars": (pl.Series("y0", [[1, 2], [3]]), r"in row 0.*one value"),
        "arrays": (pd.Series([1.0, np.ones(2)], dtype=object), r"in row 1, of type ndarray"),
        "too large": (objects([1, 10**400]), r"holds a number that float64 cannot: 1000"),
        "longer floats": (np.array([1, 2], np.longdouble) * np.longdouble("1e400"), "infinity"),
        "merged": (objects([2**70, 2**70 + 1]), r"float64 cannot tell apart.*text.*subtract"),
    }.values(),
)
def test_other_cells_are_refused(y, says):
    with pytest.raises(ValueError, match=f"(?s)Column 'y0' of y holds .*{says}|{says}"):
        read(y)


def test_a_column_name_that_is_there_twice_is_named():
    y = pd.DataFrame(np.ones((3, 3)), columns=["a", "b", "b"])
    with pytest.raises(ValueError, match=r"y has the column 'b' twice. Give each target a name"):
        read_table(y)


@pytest.mark.parametrize(
    ("y", "missing", "twin"),
    [
        (np.array([-1.0, 2, 3]), "-1", -1.0),
        (np.array(["-1", "a"]), -1, "-1"),
        (pd.DataFrame({"y0": ["a", "-9"]}), -9, "-9"),
    ],
)
def test_a_missing_value_of_another_type_is_told_of(y, missing, twin):
    with pytest.warns(UserWarning, match=rf"'y0' of y holds {twin!r}, which is not missing_values"):
        assert None not in read(y, [missing, "?"])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert None in read(y, [missing, twin])[0]


def test_missing_values_are_single_values():
    with pytest.raises(ValueError, match=r"missing_values holds \[-1\]. List single values"):
        read(np.array([1.0, 2.0]), [[-1], [-9]])
