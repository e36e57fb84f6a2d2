"""X of every rank and container."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
import zarr

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data.inputs import InputReader, as_input
from sklearn_mtl._predict import Inputs
from sklearn_mtl.networks import DenseTrunk

N = 40


def fitted(
    X: Any,
    *,
    input_shape: Any = None,
    data_format: str = "channels_first",
    weight: Any = None,
    rows: Any = None,
) -> InputReader:
    rows = np.arange(len(X)) if rows is None else rows
    weight = np.ones(len(rows)) if weight is None else weight
    return InputReader(input_shape, data_format, "Est").fit(as_input(X), rows, weight)


def read(reader: InputReader, X: Any, rows: Any = range(N)) -> np.ndarray:
    """Standardised samples."""
    return Inputs(reader.of(X), torch.float64, torch.device("cpu"))(rows).numpy()


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, *shape))


# -- shapes ---------------------------------------------------------------------------------

FIRST, LAST = "channels_first", "channels_last"


@pytest.mark.parametrize(
    ("shape", "params", "expected"),
    [
        ((5,), {}, (5,)),
        ((1,), {}, (1,)),
        ((5,), {"data_format": LAST}, (5,)),
        ((6, 7), {}, (1, 6, 7)),
        ((6, 7), {"data_format": LAST, "input_shape": (1, 6, 7)}, (1, 6, 7)),
        ((6, 7), {"data_format": LAST, "input_shape": (7, 6)}, (7, 6)),  # a sequence
        ((6, 3), {}, (1, 6, 3)),
        ((2, 6, 7), {}, (2, 6, 7)),
        ((1, 6, 1), {}, (1, 6, 1)),  # channels may stand on either side: first, as said
        ((3, 6, 3), {}, (3, 6, 3)),
        ((6, 7, 2), {}, (6, 7, 2)),  # two channels last are rare
        ((6, 7, 3), {"data_format": LAST}, (3, 6, 7)),
        ((2, 4, 6, 7), {}, (2, 4, 6, 7)),
        ((4, 6, 7, 2), {"data_format": LAST}, (2, 4, 6, 7)),
        ((42,), {"input_shape": (1, 6, 7)}, (1, 6, 7)),
        ((42,), {"input_shape": [2, 21]}, (2, 21)),
        ((42,), {"input_shape": (42,)}, (42,)),
        ((6, 7), {"input_shape": (6, 7)}, (6, 7)),  # a sequence of six channels
        ((6, 7, 3), {"input_shape": (6, 7, 3)}, (6, 7, 3)),  # says that channels come first
        ((6, 7), {"input_shape": (42,)}, (42,)),
        ((24,), {"input_shape": (2, 2, 2, 3)}, (2, 2, 2, 3)),
        ((2, 3, 2, 2, 2), {"input_shape": (6, 8)}, (6, 8)),
        ((42,), {"input_shape": np.array([1, 6, 7])}, (1, 6, 7)),
    ],
)
def test_input_shape(shape: tuple[int, ...], params: Any, expected: tuple[int, ...]) -> None:
    reader = fitted(draw(*shape), **params)
    assert reader.sample_shape_ == shape
    assert reader.input_shape_ == expected
    assert reader.mean_.shape == reader.scale_.shape == (expected[0], *[1] * (len(expected) - 1))
    batch = read(reader, draw(*shape), np.array([1, 5, 7]))
    assert batch.shape == (3, *expected)
    assert batch.dtype == np.float64


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("height", [2, 5, 64])
def test_channels_that_seem_to_come_last_are_refused(channels: int, height: int) -> None:
    X = draw(height, 7, channels)
    message = rf"shape \(n, {height}, 7, {channels}\).*data_format='channels_first'.*channels_last"
    with pytest.raises(ValueError, match=f"(?s){message}"):
        fitted(X)
    assert fitted(X, data_format=LAST).input_shape_ == (channels, height, 7)
    assert fitted(X, input_shape=X.shape[1:]).input_shape_ == X.shape[1:]


@pytest.mark.parametrize("spatial", [(6, 7), (3, 4, 5)])
def test_channels_last_are_the_same_images(spatial: tuple[int, ...]) -> None:
    first = draw(3, *spatial)
    last = np.moveaxis(first, 1, -1)
    rows = np.array([0, 3, 4])
    expected = read(fitted(first), first, rows)
    np.testing.assert_array_equal(read(fitted(last, data_format=LAST), last, rows), expected)
    # Flat images keep their layout: channels_last says what is flattened.
    for X, data_format in ((first, FIRST), (last, LAST)):
        flat = X.reshape(N, -1)
        reader = fitted(flat, input_shape=(3, *spatial), data_format=data_format)
        np.testing.assert_array_equal(read(reader, flat, rows), expected)


@pytest.mark.parametrize(
    ("shape", "input_shape"),
    [
        ((6,), (2, 2)),
        ((6,), ()),
        ((6,), (-2, -3)),
        ((6,), (2.0, 3)),
        ((6,), ("six",)),
        ((32,), (2, 2, 2, 2, 2)),
        ((2, 3), (7,)),
    ],
)
def test_input_shape_that_does_not_fit(shape: Any, input_shape: Any) -> None:
    message = re.escape(f"input_shape={input_shape} does not fit X, whose samples have shape")
    with pytest.raises(ValueError, match=message):
        fitted(draw(*shape), input_shape=input_shape)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(5), "Expected 2D array, got 1D array"),
        (np.zeros((5, 1, 2, 2, 2, 2)), r"6 dimensions, expected 2 to 5.*Pass input_shape="),
        (np.zeros((5, 0)), r"0 feature\(s\)"),
        (np.zeros((0, 3)), r"0 sample\(s\)"),
        (np.zeros((5, 3, 0, 2)), r"0 feature\(s\) \(shape=\(5, 3, 0, 2\)\)"),
        (np.array([["a"], ["b"]]), "Column 0 of X holds text"),
        (np.array([["a"], [1]], dtype=object), "^Column 0 of X holds text"),
        (
            pd.DataFrame({"n": [1.0, np.nan], "a": ["x", "y"], "b": [True, False], 7: ["z", "1"]}),
            r"^Columns 'a', 7 of X hold text\. Encode .* OneHotEncoder in a ColumnTransformer\.$",
        ),
        (
            pd.DataFrame({"n": [1], "c": pd.Categorical(["x"])}),
            r"Column 'c' of X holds text\. Encode",
        ),
        (pl.DataFrame({"n": [1, 2], "a": ["x", "y"]}), r"^Column 'a' of X holds text"),
        (
            pd.DataFrame({"d": pd.to_datetime(["2020"]), "n": [1.0]}),
            r"^Column 'd' of X holds dates",
        ),
        (np.zeros((5, 2), dtype=complex), "Complex data not supported"),
        (np.array(["2020", "2021"], dtype="M8[D]")[:, None], "Column 0 of X holds dates"),
        (np.array([[0, np.timedelta64(1, "h")]], dtype=object), "Column 1 of X holds dates or dur"),
        (pd.DataFrame({"z": [1.0, np.complex128(2j)]}, dtype=object), "'z' of X holds complex"),
        (pd.DataFrame({"z": [1 + 1j]}), "Column 'z' of X holds complex numbers. Pass their real"),
        ([[1.0, 2.0], [1.0]], r"differ in length: \(2,\) in row 0, \(1,\) in row 1\. Crop or pad"),
    ],
)
def test_refused_X(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"a": [], "b": []}, dtype=float), r"0 sample\(s\)"),
        (
            pl.DataFrame({"a": [1.0]}).lazy(),
            r"computed yet. Pass X.collect\(\)",
        ),
        (pd.DataFrame([[1, "x"]], columns=["a", "a"]), "same name: 'a'"),
    ],
)
def test_only_columns_are_blamed_that_hold_no_numbers(X: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        as_input(X)
    assert "hold text" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:pandas.DataFrame with sparse columns")
def test_columns_are_judged_by_their_values() -> None:
    numbers = {"o": np.array([3, 4], dtype=object), "s": pd.arrays.SparseArray([1.0, 0])}
    frame = pd.DataFrame({**numbers, "t": ["x", "y"], "u": ["z", "y"]})
    with pytest.raises(ValueError, match=r"^Columns 't', 'u' of X hold text"):
        as_input(frame)


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_holes_are_located(hole: float) -> None:
    X = draw(4)
    X[[2, 7], [3, 1]] = hole
    with pytest.raises(ValueError, match=r"first \[2, 7\], in column\(s\) 1, 3\. (Impute|Clip)"):
        fitted(X)
    with pytest.raises(ValueError, match=r"first \[2, 7\]\. (Impute|Clip) these values"):
        fitted(X.reshape(-1, 2, 2))


def test_three_axes_with_channels_last() -> None:
    """Sequences or images of one channel?"""
    message = r"\(n, 6, 7\).*input_shape=\(7, 6\) for seq.*input_shape=\(1, 6, 7\) for images"
    with pytest.raises(ValueError, match=message):
        fitted(draw(6, 7), data_format=LAST)


def test_samples_of_another_shape() -> None:
    with pytest.raises(ValueError, match="X has 4 features, but Est is expecting 3 features"):
        fitted(draw(3)).check_shape(draw(4))
    with pytest.raises(ValueError, match=r"shape \(6, 7\), but Est was fitted .* \(1, 6, 7\)"):
        fitted(draw(1, 6, 7)).check_shape(draw(6, 7))


# -- statistics -----------------------------------------------------------------------------


def exact_statistics(batch: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation per channel in extended precision."""
    values = batch.astype(np.longdouble).reshape(len(batch), batch.shape[1], -1)
    w = weight.astype(np.longdouble)[:, None, None]
    total = weight.astype(np.longdouble).sum() * values.shape[2]
    mean = (w * values).sum(axis=(0, 2)) / total
    variance = (w * (values - mean[:, None]) ** 2).sum(axis=(0, 2)) / total
    return mean, np.sqrt(variance)


@pytest.mark.parametrize("chunk", [2**21, 64, 7])
@pytest.mark.parametrize("offset", [0.0, 255.0, 1e9, -1e12])
@pytest.mark.parametrize("shape", [(3,), (6, 7), (3, 6, 7), (2, 3, 4, 5)])
def test_statistics_are_exact(
    shape: tuple[int, ...], offset: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sklearn_mtl._data.inputs.CHUNK_ELEMENTS", chunk)
    X = draw(*shape) + offset
    rows = np.arange(0, N, 3)
    weight = np.random.default_rng(1).random(len(rows)) + 0.1
    reader = fitted(X, rows=rows, weight=weight)
    mean, scale = exact_statistics(X[rows].reshape(len(rows), *reader.input_shape_), weight)
    np.testing.assert_allclose(reader.mean_.ravel(), mean.astype(float), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(reader.scale_.ravel(), scale.astype(float), rtol=1e-12)


@pytest.mark.parametrize("unit", [1e-100, 1e-9, 1.0, 1e9, 1e100])
def test_standardised_whatever_the_units(unit: float) -> None:
    X = (draw(3) + np.array([0, 1, 1e9])) * unit * [1, 1e-3, 1e3]
    batch = read(fitted(X), X)
    np.testing.assert_allclose(batch.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(batch.std(axis=0), 1, rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 255.0, 1e9 + 0.1, -1e-300])
def test_constant_features_become_zero(value: float) -> None:
    X = np.full((N, 2), value)
    X[:, 1] = draw(1)[:, 0]
    reader = fitted(X)
    assert reader.scale_[0] == 1.0
    np.testing.assert_allclose(read(reader, X)[:, 0], 0, atol=1e-6 * abs(value))


def test_weights_enter_the_statistics() -> None:
    X, repeat = draw(3), np.random.default_rng(1).integers(1, 4, size=N)
    weighted, repeated = fitted(X, weight=repeat.astype(float)), fitted(np.repeat(X, repeat, 0))
    np.testing.assert_allclose(weighted.mean_, repeated.mean_, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(weighted.scale_, repeated.scale_, rtol=1e-12)


@pytest.mark.parametrize("factor", [1e-290, 1e-160, 1e160, 1e290])
def test_a_common_factor_of_the_weights_changes_nothing(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sklearn_mtl._data.inputs.CHUNK_ELEMENTS", 10)  # chunks are merged
    X, weight = draw(3) * 2 + 100, np.random.default_rng(1).random(N) + 0.1
    plain, scaled = fitted(X, weight=weight), fitted(X, weight=weight * factor)
    np.testing.assert_allclose(scaled.mean_, plain.mean_, rtol=1e-12)
    np.testing.assert_allclose(scaled.scale_, plain.scale_, rtol=1e-12)


def flags(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, size=(N, *shape))


@pytest.mark.parametrize("chunk", [2**21, 12])
@pytest.mark.parametrize("dtype", [float, bool, np.uint8, ">f4"])
def test_features_of_two_values(dtype: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the rows to learn from, whatever stands in others."""
    monkeypatch.setattr("sklearn_mtl._data.inputs.CHUNK_ELEMENTS", chunk)
    X = flags(4).astype(dtype)
    X[:, 2] = 1  # constant
    assert fitted(X).two_valued_ == (0, 1, 2, 3)
    X = X.astype(float)
    X[7, 0], X[-1, 3] = 5, 6
    assert fitted(X).two_valued_ == (1, 2)
    rows = np.arange(8, N)
    assert fitted(X, rows=rows).two_valued_ == (0, 1, 2)
    assert fitted(X, rows=rows[:-1]).two_valued_ == (0, 1, 2, 3)
    X[3, 1] = np.nan
    assert fitted(X, rows=rows).two_valued_ == (0, 1, 2)
    with pytest.raises(ValueError, match="X contains NaN"):
        fitted(X)


@pytest.mark.parametrize(
    ("shape", "input_shape", "n_found"),
    [((12,), None, 12), ((3, 4), (12,), 12), ((12,), (3, 4), 0), ((3, 4), None, 0)],
)
def test_only_tables_have_features_of_two_values(
    shape: Any, input_shape: Any, n_found: int
) -> None:
    reader = fitted(flags(*shape), input_shape=input_shape)
    assert reader.two_valued_ == tuple(range(n_found))


@pytest.mark.parametrize("shape", [(5,), (6, 7), (3, 6, 7)])
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.longdouble, ">f8", ">i4"]
)
def test_same_numbers_of_any_type_are_read_bit_for_bit(shape: Any, dtype: Any) -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(N, *shape))
    typed, plain = X.astype(dtype), X.astype(np.float64)
    np.testing.assert_array_equal(typed.astype(np.float64), plain)
    one, other = fitted(typed), fitted(plain)
    np.testing.assert_array_equal(one.mean_, other.mean_)
    np.testing.assert_array_equal(one.scale_, other.scale_)
    batch = read(one, typed, np.arange(0, N, 2))
    assert batch.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(batch, read(other, plain, np.arange(0, N, 2)))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, float])
def test_samples_in_memory_are_not_copied(dtype: Any) -> None:
    """Rows that stand side by side are a part of X; what may not be written to is copied."""
    X = np.ones((N, 3), dtype=dtype)
    source = fitted(X).of(X)
    for rows in (range(2, 7), np.arange(2, 7)):
        assert np.shares_memory(source.read(rows), X)
    assert source.read(np.array([3, 5])).dtype == dtype
    X.flags.writeable = False
    assert source.read(range(2, 7)).flags.writeable
    np.testing.assert_array_equal(source.read(range(2, 7)), X[2:7])


ODD = np.zeros(N, dtype=[("a", "f8", 3), ("b", "u1")])


@pytest.mark.parametrize(
    "X",
    [
        draw(3)[::-1][:1],
        draw(3)[:1][:, ::-1],
        draw(1)[:, ::-1],
        draw(1)[::-1][:1],
        ODD["a"][:1],
        ODD["a"],
        draw(4, 5, 1)[..., ::-1],
        np.broadcast_to(draw(3)[:1], (N, 3)),
    ],
)
def test_strides_of_any_kind(X: np.ndarray) -> None:
    """Axes of length 1 may have any, also those that torch refuses."""
    params = {"data_format": LAST} if X.ndim == 4 else {}
    plain = X.copy()
    expected = read(fitted(plain, **params), plain, range(len(X)))
    np.testing.assert_array_equal(read(fitted(X, **params), X, range(len(X))), expected)


def test_bytes_train_as_their_floats_do() -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(N, 1, 8, 8)).astype(np.uint8)
    y = X.mean(axis=(1, 2, 3))
    one, other = (
        MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(A, y).predict(A)
        for A in (X, X.astype(float))
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda X: X[::-1].copy()[::-1],
        lambda X: X.tolist(),
        lambda X: pd.DataFrame(X),
        lambda X: pd.DataFrame(X, dtype="Float64"),
        lambda X: pl.DataFrame(X),
        lambda X: X.astype(object),
        np.asfortranarray,
    ],
    ids=["backwards", "list", "pandas", "pandas nullable", "polars", "object", "fortran"],
)
def test_tables_of_every_container(make: Any) -> None:
    X = draw(3)
    inputs = as_input(make(X))
    reader = InputReader(None, FIRST, "Est").fit(inputs, np.arange(N), np.ones(N))
    expected = read(fitted(X), X)
    np.testing.assert_array_equal(read(reader, inputs), expected)


# -- finiteness -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (3, 6, 7)])
@pytest.mark.parametrize(
    ("value", "said"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")]
)
def test_what_is_not_finite_is_named_with_its_rows(shape: Any, value: float, said: str) -> None:
    X = draw(*shape)
    X[5].flat[1] = X[7].flat[0] = value
    message = (
        rf"^X contains {said} in 2 of the 40 rows.*first \[5, 7\].*in a Pipeline, or drop them\.$"
    )
    with pytest.raises(ValueError, match=message):
        fitted(X)
    reader = fitted(np.delete(X, [5, 7], axis=0))
    with pytest.raises(ValueError, match=r"^X contains .* 1 of the 3 rows.*first \[7\]"):
        reader.of(X).read(np.array([6, 7, 8]))
    fitted(X, rows=np.arange(5))  # rows that are not read do no harm


# -- larger than memory ---------------------------------------------------------------------


class ChunkedArray:
    """What HDF5 and Zarr arrays offer, and a record of what was read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim
        self.chunks = (4, *values.shape[1:])
        self.largest = 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = np.arange(len(self))[rows]  # indices, or a slice
        assert rows.ndim == 1, "read by rows"
        assert (np.diff(rows) > 0).all(), "HDF5 takes increasing rows only"
        self.largest = max(self.largest, len(rows))
        return self.values[rows]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise AssertionError("read whole")


def small(**params: Any) -> MultiTaskCNNEstimator:
    defaults = {
        "trunk": DenseTrunk((4,), n_members=2),
        "max_epochs": 2,
        "random_state": 0,
        "batch_size": 16,
    }
    return MultiTaskCNNEstimator(**(defaults | params))


@pytest.mark.parametrize("shape", [(6,), (1, 8, 8)])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_arrays_on_disk_are_never_read_whole(
    shape: Any, early_stopping: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sklearn_mtl._data.stores.BLOCK_BYTES", 1)
    monkeypatch.setattr("sklearn_mtl._data.inputs.CHUNK_ELEMENTS", 10 * int(np.prod(shape)))
    monkeypatch.setattr("sklearn_mtl._data.inputs.GLANCE_ELEMENTS", 10 * int(np.prod(shape)))
    monkeypatch.setattr("sklearn_mtl._predict.CHUNK_VALUES", 10 * int(np.prod(shape)))
    monkeypatch.setattr("sklearn_mtl._training.batches.READ_VALUES", 10 * int(np.prod(shape)))
    X, y = draw(*shape), draw(2)
    on_disk = ChunkedArray(X)
    est = small(early_stopping=early_stopping, validation_fraction=0.3)
    predicted = est.fit(on_disk, y).predict(on_disk)
    assert 0 < on_disk.largest <= 16
    expected = est.fit(X, y).predict(X)
    np.testing.assert_array_equal(predicted, expected)
    assert est.score(on_disk, y) == est.score(X, y)


def hdf5(path: Path, X: np.ndarray) -> Any:
    return h5py.File(path / "X.h5", "w").create_dataset("X", data=X, chunks=(4, *X.shape[1:]))


def in_zarr(path: Path, X: np.ndarray) -> Any:
    array = zarr.create_array(
        path / "X.zarr", shape=X.shape, dtype=X.dtype, chunks=(4, *X.shape[1:])
    )
    array[...] = X
    return array


def memmap(path: Path, X: np.ndarray) -> np.memmap:
    array = np.memmap(path / "X.mm", dtype=X.dtype, mode="w+", shape=X.shape)
    array[...] = X
    array.flush()
    return np.memmap(path / "X.mm", dtype=X.dtype, mode="r", shape=X.shape)


@pytest.mark.parametrize("store", [hdf5, in_zarr, memmap])
@pytest.mark.parametrize("shape", [(6,), (8, 8), (2, 8, 8)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_stores_give_what_their_numbers_give(
    store: Any, shape: Any, dtype: Any, tmp_path: Path
) -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(N, *shape)).astype(dtype)
    stored, y = store(tmp_path, X), draw(2)
    est = small()
    np.testing.assert_array_equal(est.fit(stored, y).predict(stored), est.fit(X, y).predict(X))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        small().fit(stored, y[:-1])


@pytest.mark.parametrize("store", [hdf5, in_zarr, memmap])
def test_stores_are_checked_batch_by_batch(store: Any, tmp_path: Path) -> None:
    X, y = draw(6), draw(2)
    est = small().fit(X, y)
    X[17, 2] = np.nan
    stored = store(tmp_path, X)
    for attempt in (lambda: small().fit(stored, y), lambda: est.predict(stored)):
        with pytest.raises(ValueError, match=r"^X contains NaN .*first \[17\]"):
            attempt()


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros(5), r"X has the shape \(5,\)"),
        (np.zeros((5, 0)), r"0 feature\(s\) \(shape=\(5, 0\)\)"),
        (np.zeros((5, 2), dtype=complex), "X holds complex128"),
    ],
)
def test_stores_that_cannot_be_X(X: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_input(ChunkedArray(X))


def test_memory_maps_stay_maps(tmp_path: Path) -> None:
    stored = memmap(tmp_path, draw(6))
    assert np.shares_memory(as_input(stored), stored)


# -- names of columns -------------------------------------------------------------------------


def test_column_names_are_learned_and_checked() -> None:
    frame = pd.DataFrame(draw(3), columns=list("abc"))
    reader = InputReader(None, FIRST, "Est").fit_names(frame)
    assert reader.feature_names_in_.tolist() == ["a", "b", "c"]
    reader.check_names(frame + 1)
    for other, message in (
        (frame[["b", "a", "c"]], "(?s)names should match those.*must be in the same order"),
        (frame.rename(columns={"c": "d"}), "(?s)unseen at fit time:.*- d.*yet now missing:.*- c"),
        (frame[["a", "b"]], "(?s)yet now missing:.*- c"),
    ):
        with pytest.raises(ValueError, match=message):
            reader.check_names(other)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but Est was fitted"):
        reader.check_names(frame.to_numpy())


def test_arrays_have_no_names() -> None:
    reader = InputReader(None, FIRST, "Est").fit_names(draw(3))
    assert reader.feature_names_in_ is None
    reader.check_names(draw(3))
    with pytest.warns(UserWarning, match="X has feature names, but Est was fitted without"):
        reader.check_names(pd.DataFrame(draw(3), columns=list("abc")))
    # Those of an earlier frame are forgotten.
    reader.fit_names(pd.DataFrame(draw(3), columns=list("abc")))
    assert reader.fit_names(draw(3)).feature_names_in_ is None


# -- sequences that end --------------------------------------------------------------------------


def padded(lengths: list[int], n_steps: int, behind: float) -> np.ndarray:
    """Sequences of two channels, and a mask; something else stands behind their ends."""
    X = np.full((len(lengths), 3, n_steps), behind)
    for i, length in enumerate(lengths):
        values = np.random.default_rng(i).normal(1e6 * (i + 1), 3, size=(2, length))
        X[i, :2, :length] = values
        X[i, 2] = np.where(np.arange(n_steps) < length, 1, 0)
    return X


@pytest.mark.parametrize("chunk", [2**21, 1])
def test_means_and_scales_are_of_the_steps_of_sequences(chunk: int, monkeypatch: Any) -> None:
    monkeypatch.setattr("sklearn_mtl._data.inputs.CHUNK_ELEMENTS", chunk)
    lengths, weight = [3, 9, 1, 5], np.array([1.0, 0.5, 2.0, 3.0])
    X = padded(lengths, 9, 0.0)
    steps = np.concatenate([x[:2, :n] for x, n in zip(X, lengths, strict=True)], axis=1)
    w = np.repeat(weight, lengths)
    mean = np.average(steps, axis=1, weights=w)
    scale = np.sqrt(np.average((steps - mean[:, None]) ** 2, axis=1, weights=w))
    for n_steps, behind in [(9, 0.0), (9, -1e9), (40, 7.0)]:
        X = padded(lengths, n_steps, behind)
        reader = InputReader(X.shape[1:], FIRST, "Est").fit(X, np.arange(4), weight, [None])
        np.testing.assert_allclose(reader.mean_[:, 0], [*mean, 1], rtol=1e-12)
        np.testing.assert_allclose(reader.scale_[:, 0], [*scale, 1], rtol=1e-9)
    plain = InputReader(X.shape[1:], FIRST, "Est").fit(X, np.arange(4), weight)
    assert not np.allclose(plain.scale_[:2, 0], scale)
