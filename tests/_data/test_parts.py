"""`MultiInput`: rows of several parts, in the containers that people hold."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.model_selection import KFold, train_test_split
from sklearn.utils import _safe_indexing

from sklearn_mtl._data.parts import Holed, columns_of
from sklearn_mtl.datasets import ImageFiles, MultiInput

IMAGES = np.arange(6 * 12.0).reshape(6, 3, 2, 2)
TABLE = pd.DataFrame({"a": np.arange(6), "b": np.arange(6) * 2.0}, index=list("uvwxyz"))


def make():
    return MultiInput(
        image=IMAGES,
        table=TABLE,
        words=sparse.csr_matrix(np.eye(6)),
        lists=[[k, k] for k in range(6)],
    )


@pytest.mark.parametrize(
    "key",
    [slice(1, 4), [4, 0], np.array([5, 5, 1]), np.arange(6) % 2 == 0, -np.arange(1, 3)],
    ids=["slice", "list", "array", "mask", "from the end"],
)
def test_rows_are_those_of_every_part(key):
    found, rows = make()[key], np.arange(6)[key]
    assert len(found) == len(rows)
    np.testing.assert_array_equal(found["image"], IMAGES[rows])
    pd.testing.assert_frame_equal(found["table"], TABLE.iloc[rows])
    np.testing.assert_array_equal(found["words"].toarray(), np.eye(6)[rows])
    assert found["lists"] == [[k, k] for k in rows]


def test_a_row_is_a_dict():
    row = make()[-1]
    assert list(row) == ["image", "table", "words", "lists"]
    np.testing.assert_array_equal(row["image"], IMAGES[5])
    np.testing.assert_array_equal(row["table"], [5, 10])
    with pytest.raises(IndexError):
        make()[6]


def test_a_row_without_a_file_has_none(tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.new("L", (4, 4), 7).save(tmp_path / "a.png")
    X = MultiInput(image=ImageFiles(["a.png", None], 4, root=tmp_path, mode="L"), table=np.eye(2))
    assert X[1]["image"] is None
    assert (X[0]["image"] == 7).all()


def test_it_says_what_it_is():
    assert make().shape == (6, 12 + 2 + 6 + 2)
    assert len(make()) == 6
    assert repr(make()) == (
        "MultiInput of 6 rows: image (3, 2, 2), table (2,), words (6,), lists (2,)"
    )


def test_it_is_cut_by_scikit_learn():
    one, other = train_test_split(make(), test_size=2, shuffle=False)
    assert (len(one), len(other)) == (4, 2)
    np.testing.assert_array_equal(other["image"], IMAGES[4:])
    for _, test in KFold(3).split(make()):
        np.testing.assert_array_equal(_safe_indexing(make(), test)["table"]["a"], test)


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array, sparse.coo_matrix])
def test_sparse_parts_of_any_format_are_cut(make):
    X = MultiInput(image=IMAGES, words=make(np.eye(6)))
    np.testing.assert_array_equal(X[[4, 1]]["words"].toarray(), np.eye(6)[[4, 1]])
    assert train_test_split(X, test_size=2)[0]["words"].shape == (4, 6)


def test_it_survives_a_pickle():
    again = pickle.loads(pickle.dumps(make()))
    assert repr(again) == repr(make())


@pytest.mark.parametrize(
    ("parts", "error", "match"),
    [
        ({}, ValueError, "has no parts"),
        ({"a": IMAGES, "b": TABLE[:5]}, ValueError, "'a' has 6, 'b' has 5"),
        ({"a": IMAGES, "b__c": TABLE}, ValueError, "'b__c'"),
        ({"a": "photograph.jpg"}, TypeError, "'a' of MultiInput is a str"),
        ({"a": IMAGES, "b": None}, TypeError, "NoneType, which has no rows"),
        ({"a": (row for row in IMAGES)}, TypeError, "generator"),
        ({"a": {"x": [1]}}, TypeError, "dict, which has no rows"),
        ({"a": np.float64(3)}, TypeError, "no rows"),
        ({"a": MultiInput(b=TABLE)}, TypeError, "MultiInput, which has no rows"),
    ],
)
def test_what_has_no_rows_is_named(parts, error, match):
    with pytest.raises(error, match=match):
        MultiInput(**parts)


def test_it_does_not_pass_for_an_array():
    with pytest.raises(TypeError, match=r"no array, but has the parts \['image'"):
        np.asarray(make())
    with pytest.raises(KeyError, match="'imag' is no part"):
        make()["imag"]
    with pytest.raises(IndexError, match="Rows of MultiInput"):
        make()[np.zeros((2, 2), dtype=int)]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_missing_rows_are_nan_and_the_others_exact(dtype):
    values = np.array([[7], [2**7], [9]]).astype(dtype)
    if dtype == np.int64:
        values[1] = 2**40 + 1
    holed = Holed(values, np.array([True, False, False]))
    found = holed[np.array([2, 0, 1])]
    assert found.dtype == holed.dtype == (np.float64 if values.itemsize > 4 else np.float32)
    assert np.isnan(found[1]).all()
    assert found[[0, 2], 0].tolist() == [9, values[1, 0]]
    assert np.isnan(holed[:1]).all()


class Forwards:
    """As HDF5: a table in a file, of which rows are read forwards."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, key):
        return self.values[key]


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, Forwards])
def test_columns_of_a_table(make):
    table = np.arange(12.0).reshape(3, 4)
    columns = columns_of(make(table), 1, 3)
    assert columns.shape == (3, 2)
    found = columns[np.array([0, 2])]
    np.testing.assert_array_equal(
        found.toarray() if sparse.issparse(found) else found, table[[0, 2], 1:3]
    )
