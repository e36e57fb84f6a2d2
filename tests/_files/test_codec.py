"""Values of a file: what can be written comes back as it was, all else is refused by name."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from _asserts import assert_alike
from sklearn.base import BaseEstimator
from torch import nn

from sklearn_mtl._files.codec import decode, encode
from sklearn_mtl.networks import DenseTrunk

VALUES: list[Any] = [
    None,
    True,
    -(2**70),
    5e-324,
    -0.0,
    float("-inf"),
    "\ud800 'quoted' \n é",
    (),
    (1, (2.5, [None])),
    {1: "a", "1": "b", (1, 2): {"c": []}, None: 0, 2.5: frozenset({1})},
    {"dict": 1},
    {1, "a"},
    np.float32(0.1),
    np.float16("nan"),
    np.True_,
    np.uint64(2**64 - 1),
    np.str_("a"),
    np.zeros((0, 3), dtype=np.float32),
    np.array(2.5),
    np.arange(6, dtype=np.int8).reshape(2, 3).T,
    np.array([1, 2], dtype=">u2"),
    np.array([True, False]),
    np.array([["a", "bb"]]),
    np.array([1, True, 1.0, "1", None, float("nan"), (1,), np.int8(3)], dtype=object),
    np.dtype("float32"),
    np.dtype(object),
    torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    pd.Interval(0, 1, closed="both"),
    pd.Index(["a", "b"], name="n"),
    pd.RangeIndex(3),
    pd.Int8Dtype(),
    pd.BooleanDtype(),
    pd.StringDtype("python"),
    pd.StringDtype("pyarrow"),
    pd.StringDtype("python", np.nan),
    pd.CategoricalDtype(["b", "a"], ordered=True),
    pd.CategoricalDtype(),
    pd.IntervalDtype("int64", "left"),
    pd.ArrowDtype(pa.int16()),
    pd.ArrowDtype(pa.decimal128(7, 2)),
    pd.ArrowDtype(pa.dictionary(pa.int8(), pa.large_string(), ordered=True)),
    nw.Int128(),
    nw.Categorical(),
    nw.Enum(["b", "a"]),
    nw.Decimal(7, 2),
    nw.Implementation.POLARS,
    torch.optim.Adam,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values(value):
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(encode(value, "x", tensors), allow_nan=False)
    back = decode(json.loads(text), tensors)
    if isinstance(value, pd.RangeIndex):
        value = pd.Index([*value])
    assert_alike(back, value)
    assert str(back) == str(value)


# As above, but long enough for each label to be written once.
MANY = np.arange(1200).reshape(400, 3) % 7

LONG: dict[str, np.ndarray] = {
    "texts": np.array(["a", "", "\ud800", "0", "é", "f", "g"])[MANY],
    "objects": np.array([None, True, 1, 1.0, "1", float("nan"), 2**70] * 200, dtype=object).reshape(
        2, -1
    ),
    "labels alone": np.array(["a", None] * 500, dtype=object),
    "numbers alone": np.array([0.1, -0.0, float("inf"), float("nan")] * 250, dtype=object),
    "tuples": np.fromiter((("a", i % 3) for i in range(1000)), dtype=object),
    "numbers of numpy": np.array([np.int8(1), np.float32(0.1), "a", 1] * 250, dtype=object),
}


@pytest.mark.parametrize("name", LONG)
def test_long_labels(name):
    """Headers of safetensors end at 100 MB: predictions of many rows are put among the arrays."""
    value, tensors = LONG[name], {}
    text = json.dumps(encode(value, "x", tensors), allow_nan=False)
    assert (len(text) < 400) == (name not in ("tuples", "numbers of numpy"))
    back = decode(json.loads(text), tensors)
    assert_alike(back, value)
    assert str(back.tolist()) == str(value.tolist())  # also -0.0, and types


def test_values_are_copies():
    array, tensors = np.zeros(3), {}
    data = encode([array, array], "x", tensors)
    array[0] = 1
    first, second = decode(data, tensors)
    first[0] = 2
    assert second.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "value",
    [
        object(),
        print,
        BaseEstimator,
        nn.Linear(1, 1),
        nn.Parameter(torch.zeros(1)),
        Decimal(1),
        b"bytes",
        1j,
        np.longdouble(1),
        np.zeros(2, dtype=[("a", int)]),
        np.ma.masked_array([1.0], [True]),
        pd.Timestamp(0),
        type("Text", (str,), {})("a"),
        type("Numbers", (dict,), {})(),
        DenseTrunk,
        pd.MultiIndex.from_tuples([("a", 1)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_that_are_no_data(value):
    said = rf"here\['a'\] holds (.|\n)*, of type {type(value).__name__}, which is not"
    with pytest.raises(TypeError, match=said):
        encode({"a": value}, "here", {})


@pytest.mark.parametrize("pos", [-1, 625, 100_000])
def test_a_random_state_out_of_range_is_refused(pos):
    tensors: dict[str, torch.Tensor] = {}
    data = encode(np.random.RandomState(0), "x", tensors)
    text = json.dumps(data)
    assert text.count("624") == 1
    with pytest.raises(ValueError, match="RandomState is out of range"):
        decode(json.loads(text.replace("624", str(pos))), tensors)


@pytest.mark.parametrize(
    "data",
    [
        {"loss": {"dict": [["logprod", {"dict": [["__class__", {"optimizer": "SGD"}]]}]]}},
        {"loss": {"dict": [["logprod", {"dict": [["forward", {"optimizer": "SGD"}]]}]]}},
        {"kind": {"dict": [["poisson", {"dict": [["encode", {"optimizer": "SGD"}]]}]]}},
        {"encoder": {"dict": [["decode", {"optimizer": "SGD"}]]}},
        {"backend": "PYSPARK"},
    ],
)
def test_methods_and_libraries_are_not_taken_from_a_file(data):
    with pytest.raises((ValueError, KeyError), match=r"no attributes|PYSPARK"):
        decode(data, {})
