"""Tests of arrays in files and data sets, whose folds are views."""

from __future__ import annotations

import copy
import mmap
import pickle
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from _inputs import make_small
from PIL import Image
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_mtl._data.mapped import will_need
from sklearn_mtl._data.on_disk import lazily
from sklearn_mtl.datasets import ImageFiles, MultiInput, RowsOnDisk
from sklearn_mtl.inspection import transfer_report
from sklearn_mtl.model_selection import cross_val_predict_tasks

N = 40
RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=(N, 3, 4)).astype(np.float32)
Y = VALUES.reshape(N, -1)[:, :2] + 0.1 * RNG.normal(size=(N, 2))


def memmap(folder: Path, values: np.ndarray) -> Any:
    np.save(folder / "X.npy", values)
    return np.load(folder / "X.npy", mmap_mode="r")


def hdf5(folder: Path, values: np.ndarray) -> Any:
    with h5py.File(folder / "X.h5", "w") as file:
        file.create_dataset("part/X", data=values, chunks=(7, *values.shape[1:]))
    return h5py.File(folder / "X.h5", "r")["part/X"]


def in_zarr(folder: Path, values: np.ndarray) -> Any:
    return zarr.create_array(folder / "X.zarr", data=values, chunks=(7, *values.shape[1:]))


class Taken:
    """The protocol at its least: a shape, a type and `take`, of increasing rows."""

    def __init__(self, folder: Path, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def take(self, rows: Any) -> np.ndarray:
        assert (np.diff(rows) > 0).all()
        return self.values[rows]


class Sliced:
    """Slices of rows, as of a table in parquet."""

    def __init__(self, folder: Path, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.chunks = (9, *values.shape[1:])

    def __getitem__(self, rows: Any) -> np.ndarray:
        assert isinstance(rows, slice)
        return self.values[rows]


class Pairs(torch.utils.data.Dataset[Any]):
    """A data set of (x, y)."""

    def __init__(self, folder: Path, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Any:
        return torch.tensor(self.values[row]), torch.tensor(Y[row])


def pairs(folder: Path, values: np.ndarray) -> Any:
    return RowsOnDisk(Pairs(folder, values), 0)


STORES: dict[str, Any] = {
    "take": Taken,
    "slices": Sliced,
    "a data set of torch": pairs,
    "memmap": memmap,
    "hdf5": hdf5,
    "zarr": in_zarr,
}


@pytest.fixture(params=STORES)
def stored(request: Any, tmp_path: Path) -> RowsOnDisk:
    X = STORES[request.param](tmp_path, VALUES)
    return X if isinstance(X, RowsOnDisk) else RowsOnDisk(X)


KEYS: list[Any] = [
    slice(None),
    slice(5, 30, 3),
    slice(None, None, -1),
    slice(3, 3),
    [4, 1, 1, -1],
    [],
    RNG.random(N) < 0.3,
    np.array([38, 2]),
    7,
    -2,
    (slice(4, 9), Ellipsis),
    (np.array([3, 1]), Ellipsis),
    (slice(2, 9), slice(None), 1),
    (5, 2),
    (),
    Ellipsis,
    None,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_rows_are_those_of_the_array(stored: RowsOnDisk, key: Any) -> None:
    expected = VALUES[key]
    assert stored[key].shape == expected.shape
    np.testing.assert_array_equal(np.asarray(stored[key]), expected)
    # And of a view of a view, by numbers and by a range.
    for rows in (np.array([9, 3, 3, 39, *range(36)]), slice(None, None, -1)):
        np.testing.assert_array_equal(np.asarray(stored[rows][key]), VALUES[rows][key])


def test_rows_are_views(stored: RowsOnDisk) -> None:
    part = stored[RNG.permutation(N)[:30]]
    assert isinstance(part, RowsOnDisk)
    assert part._store is stored._store
    assert (part.shape, part.ndim, part.dtype) == ((30, 3, 4), 3, np.float32)
    assert part.nbytes == 30 * 12 * 4
    assert repr(part) == "RowsOnDisk of the shape (30, 3, 4)"
    with pytest.raises(IndexError):
        stored[[N]]
    with pytest.raises(IndexError, match=f"no row {N}"):
        stored[N]
    with pytest.raises(IndexError, match="Rows of RowsOnDisk are a number"):
        stored[np.zeros((2, 2), dtype=int)]
    with pytest.raises(IndexError):
        stored.take([-N - 1])
    with pytest.raises(ValueError, match="without a copy"):
        np.array(stored, copy=False)


def test_other_processes_find_the_rows(stored: RowsOnDisk) -> None:
    for part in (stored, stored[5:30], stored[[8, 2]], stored[::-1]):
        again = pickle.loads(pickle.dumps(part))
        np.testing.assert_array_equal(np.asarray(again), np.asarray(part))
    np.testing.assert_array_equal(np.asarray(copy.deepcopy(stored)), VALUES)


@pytest.mark.parametrize("store", [memmap, hdf5, in_zarr])
def test_a_pickle_holds_no_values(store: Any, tmp_path: Path) -> None:
    stored = RowsOnDisk(store(tmp_path, np.zeros((5000, 20))))
    assert len(pickle.dumps(stored)) < 5000
    assert len(pickle.dumps(stored[100:4000:7])) < 5000


def scores_of_a_search(X: Any, n_jobs: int | None = None) -> list[float]:
    grid = {"learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(make_small(), grid, cv=2, n_jobs=n_jobs, refit=False)
    results = search.fit(X, Y).cv_results_
    return [*results["split0_test_score"], *results["split1_test_score"]]


@cache
def scores_of_the_array() -> list[float]:
    return scores_of_a_search(VALUES)


@pytest.mark.usefixtures("other_processes")
@pytest.mark.parametrize("store", STORES)
def test_searches_have_the_scores_of_the_array(store: str, tmp_path: Path) -> None:
    X = STORES[store](tmp_path, VALUES)
    stored = X if isinstance(X, RowsOnDisk) else RowsOnDisk(X)
    n_jobs = 2 if store in ("memmap", "hdf5", "zarr") else None  # they know no class of this file
    assert scores_of_a_search(stored, n_jobs) == scores_of_the_array()


def test_folds_read_only_what_they_need(tmp_path: Path) -> None:
    """Each row as part of a few, never all of them."""
    largest = 0

    class Watched(Taken):
        def take(self, rows: Any) -> np.ndarray:
            nonlocal largest
            largest = max(largest, len(rows))
            return super().take(rows)

    values = RNG.normal(size=(60, 50_000))
    X, y = RowsOnDisk(Watched(tmp_path, values)), values[:, :2]
    cross_validate(make_small(batch_size=5, max_epochs=1), X, y, cv=2)
    assert 0 < largest <= 43


@cache
def report_on_the_array() -> Any:
    return transfer_report(make_small(max_epochs=1), VALUES, Y, cv=2)


@pytest.mark.parametrize("store", [memmap, hdf5, in_zarr])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_reports_have_the_scores_of_the_array(store: Any, n_jobs: Any, tmp_path: Path) -> None:
    X = store(tmp_path, VALUES)
    found = transfer_report(make_small(max_epochs=1), X, Y, cv=2, n_jobs=n_jobs)
    assert found.equals(report_on_the_array())


def test_several_inputs_are_views_too(tmp_path: Path) -> None:
    X = MultiInput(a=hdf5(tmp_path, VALUES), b=RowsOnDisk(memmap(tmp_path, VALUES)))
    part = X[np.array([5, 1])]
    assert isinstance(part["a"], RowsOnDisk)
    assert isinstance(part["b"], RowsOnDisk)
    np.testing.assert_array_equal(part["a"], VALUES[[5, 1]])
    dense = MultiInput(a=VALUES, b=VALUES)
    found = make_small(trunk="auto").fit(X, Y).predict(X)
    np.testing.assert_array_equal(found, make_small(trunk="auto").fit(dense, Y).predict(dense))


def test_views_of_memmaps(tmp_path: Path) -> None:
    path = tmp_path / "X.bin"
    VALUES.tofile(path)
    whole = np.memmap(path, np.float32, "r", shape=VALUES.shape)
    shifted = np.memmap(path, np.float32, "r", offset=5 * 48, shape=(35, 3, 4))
    for view, values in (
        (whole[4:], VALUES[4:]),
        (np.asarray(whole)[7:], VALUES[7:]),
        (shifted[2:], VALUES[7:]),
        (np.memmap(path, np.float32, "r", shape=(12, N), order="F"), VALUES.reshape(N, 12).T),
        (whole.view(np.int32), VALUES.view(np.int32)),
        (whole[::2, :, 1:], VALUES[::2, :, 1:]),
        (shifted[::-3, ::-1], VALUES[:4:-3, ::-1]),
    ):
        again = RowsOnDisk(view)
        for _ in range(2):
            again = pickle.loads(pickle.dumps(again))
            np.testing.assert_array_equal(np.asarray(again), values)


def maps_of_one_process(folder: Path) -> Iterator[np.ndarray]:
    """Values that may differ from the file, and a file without a name."""
    VALUES.tofile(folder / "X.bin")
    yield np.memmap(folder / "X.bin", np.float32, "c", shape=VALUES.shape)
    shared = np.frombuffer(mmap.mmap(-1, VALUES.nbytes), np.float32).reshape(VALUES.shape)
    shared[...] = VALUES
    yield shared


def test_maps_that_others_cannot_open_are_cut_as_arrays(tmp_path: Path) -> None:
    for X in maps_of_one_process(tmp_path):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazily(X))), VALUES)
        with pytest.raises(ValueError, match="Other processes cannot open this memmap"):
            pickle.dumps(RowsOnDisk(X))


def test_transformers_calculate_with_a_memmap(tmp_path: Path) -> None:
    """Not with rows that are no array, in a pipeline or a search over one."""
    X = memmap(tmp_path, VALUES)
    halved = make_pipeline(FunctionTransformer(lambda X: X / 2), make_small(max_epochs=1))
    expected = cross_val_predict_tasks(halved, VALUES, Y, cv=2)
    search = GridSearchCV(halved, {}, cv=2)
    for estimator in (halved, search):
        found = cross_val_predict_tasks(estimator, X, Y, cv=2)
        for name, column in expected.items():
            np.testing.assert_array_equal(found[name], column)
    assert transfer_report(halved, X, Y, cv=2).equals(transfer_report(halved, VALUES, Y, cv=2))


@pytest.mark.parametrize(
    "calculate",
    [
        lambda X: X / 255,
        lambda X: 1 - X,
        lambda X: X - VALUES.mean(axis=0),
        lambda X: VALUES.mean(axis=0) - X,
        lambda X: np.float32(2) * X,
        lambda X: -X,
        lambda X: X @ np.eye(4),
        lambda X: X > 0,
        lambda X: VALUES < X,
        lambda X: X == 0,
        lambda X: VALUES != X,
    ],
)
def test_arithmetic_says_what_to_do_instead(calculate: Any, tmp_path: Path) -> None:
    """What would read all rows, is asked for in words."""
    pipeline = make_pipeline(FunctionTransformer(calculate), make_small(max_epochs=1))
    with pytest.raises(TypeError, match=r"RowsOnDisk has no arithmetic.*np\.asarray\(X\)"):
        pipeline.fit(RowsOnDisk(hdf5(tmp_path, VALUES)), Y)


def test_rows_in_a_file_are_equal_to_themselves(tmp_path: Path) -> None:
    X, other = RowsOnDisk(hdf5(tmp_path, VALUES)), RowsOnDisk(memmap(tmp_path, VALUES))
    assert [X == X, other == X, X == "X", X in (other, X), {X: 1}[X]] == [
        True,
        False,
        False,
        True,
        1,
    ]


def test_what_is_soon_read(tmp_path: Path) -> None:
    """The system is told of all rows, in few pieces, whatever the strides."""
    asked: list[tuple[int, int]] = []
    values = np.arange(100_000 * 8, dtype=np.float64).reshape(100_000, 8)
    path = tmp_path / "X.npy"
    np.save(path, values)
    whole = np.load(path, mmap_mode="r")

    class Told:
        def __init__(self, file: Any) -> None:
            self.file = file

        def madvise(self, advice: int, start: int, length: int) -> None:
            asked.append((start, start + length))
            self.file.madvise(advice, start, length)

    with pytest.MonkeyPatch.context() as patch:
        real = will_need.__globals__["mapping_of"]
        address = will_need.__globals__["_address"]
        patch.setitem(
            will_need.__globals__, "mapping_of", lambda a: a if a is None else Told(real(a))
        )
        patch.setitem(will_need.__globals__, "_address", lambda told: address(told.file))
        rows = np.sort(RNG.choice(100_000, 50, replace=False))
        for view in (whole, whole[10:], whole[::3], whole[:, 2:4]):
            asked.clear()
            some = rows[rows < len(view)]
            will_need(view, RNG.permutation(some))
            start = 128 + view.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
            for row in some:
                begin = start + row * view.strides[0]
                end = begin + view[:1].nbytes
                assert any(a <= begin and end <= b for a, b in asked)
        asked.clear()
        will_need(whole, np.arange(5000))
        assert len(asked) == 1
        asked.clear()
        will_need(whole.T, np.arange(8))
        assert not asked


@pytest.mark.parametrize(
    ("array", "given", "error", "match"),
    [
        (VALUES, {}, TypeError, "ndarray, and not in a file. Pass it as X"),
        (torch.zeros(3, 2), {}, TypeError, "Tensor, and not in a file"),
        ([[1.0]], {}, TypeError, "array is a list. Pass an array in a file"),
        ("X.npy", {}, TypeError, "array is a str"),
        (3, {}, TypeError, "array is a int"),
        (Taken(Path(), VALUES), {"column": 1}, ValueError, "column=1 is for data sets"),
        (Taken(Path(), np.array(1.0)), {}, ValueError, "without axes"),
        (Taken(Path(), VALUES), {"block": 0}, ValueError, "block=0 is no number of rows"),
        (Taken(Path(), VALUES), {"block": True}, ValueError, "block=True"),
        (Pairs(Path(), VALUES), {}, ValueError, "Sample 0 is a tuple of 2, .* Pass column=, its"),
        (Pairs(Path(), VALUES), {"column": 2}, ValueError, "column=2 is nothing in sample 0"),
        (Pairs(Path(), VALUES), {"column": "x"}, ValueError, "column='x' is nothing in sample 0"),
        (Pairs(Path(), VALUES[:0]), {"column": 0}, ValueError, "has no samples"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_refused(array: Any, given: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        RowsOnDisk(array, **given)


def test_samples_of_unequal_shape() -> None:
    class Unequal(Pairs):
        def __getitem__(self, row: int) -> Any:
            return np.zeros(2 + (row == 3)), 0

    X = RowsOnDisk(Unequal(Path(), VALUES), 0)
    with pytest.raises(ValueError, match=r"\(2,\) in row 0, and \(3,\) in row 3"):
        make_small().fit(X, Y)


def test_samples_of_another_type_are_not_rounded() -> None:
    class Mixed(Pairs):
        def __getitem__(self, row: int) -> Any:
            return [1, 2] if row == 0 else [0.5, 0.25], 0

    X = RowsOnDisk(Mixed(Path(), VALUES), 0)
    np.testing.assert_array_equal(X.take([0]), [[1, 2]])
    with pytest.raises(ValueError, match="type int64 in row 0, and float64 in row 3, which would"):
        X.take([3])


@pytest.mark.parametrize("rows", [np.arange(N) < 2, [0.5, 1.5]], ids=["mask", "fractions"])
def test_what_is_no_number_of_a_row_is_not_taken_for_one(rows: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(path)
    for X in (RowsOnDisk(memmap(tmp_path, VALUES)), ImageFiles([path] * N, 2)):
        with pytest.raises(IndexError, match="Rows to take are integers"):
            X.take(rows)
    assert RowsOnDisk(memmap(tmp_path, VALUES)).take([]).shape == (0, 3, 4)


def test_streams_of_torch_have_no_rows() -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(VALUES)

    with pytest.raises(TypeError, match=r"no rows by number.*partial_fit"):
        RowsOnDisk(Stream())


def test_data_sets_of_hugging_face(tmp_path: Path) -> None:
    """As they lie on the disk, in the type that is declared, by column or with its name."""
    pytest.importorskip("datasets.arrow_dataset", reason="needs datasets of Hugging Face")
    hf = sys.modules["datasets"]
    pixels = RNG.integers(0, 256, size=(N, 3, 8, 8)).astype(np.uint8)
    features = hf.Features({"pixels": hf.Array3D((3, 8, 8), "uint8"), "name": hf.Value("string")})
    made = hf.Dataset.from_dict({"pixels": list(pixels), "name": ["a"] * N}, features=features)
    made.save_to_disk(tmp_path)
    data = hf.load_from_disk(tmp_path)
    for X in (RowsOnDisk(data, "pixels"), RowsOnDisk(data["pixels"])):
        assert (X.shape, X.dtype) == (pixels.shape, np.uint8)
        np.testing.assert_array_equal(X.take([5, 5, 1]), pixels[[5, 5, 1]])
        part = pickle.loads(pickle.dumps(X[3:20]))
        np.testing.assert_array_equal(np.asarray(part), pixels[3:20])
    assert len(pickle.dumps(X)) < pixels.nbytes / 2
    found, expected = (make_small(trunk="conv").fit(x, Y).predict(x) for x in (X, pixels))
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match=r"Sample 0 is a dict of \['pixels', 'name'\]"):
        RowsOnDisk(data)
    with pytest.raises(ValueError, match="column='pixel' is nothing in sample 0"):
        RowsOnDisk(data, "pixel")
    for given in (data, data["pixels"]):
        with pytest.raises(ValueError, match=r"of Hugging Face. Pass RowsOnDisk\(.*, 'pixels'\)"):
            make_small(trunk="conv").fit(given, Y)


def test_a_data_set_as_it_is_says_how(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"or, as X, RowsOnDisk\(X, 0\) of sklearn_mtl"):
        make_small().fit(Pairs(tmp_path, VALUES), Y)


def test_what_is_in_memory_stays_as_it_is(tmp_path: Path) -> None:
    for X in (VALUES, [[1.0]], None, RowsOnDisk(memmap(tmp_path, VALUES))):
        assert lazily(X) is X


@pytest.mark.parametrize(
    ("store", "kind"), [(hdf5, h5py.Dataset), (in_zarr, zarr.Array)], ids=["hdf5", "zarr"]
)
def test_chunks_are_unpacked_where_they_will_stand(
    store: Any, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not into an array of their own first, which takes as long as a third of the unpacking."""
    X = RowsOnDisk(store(tmp_path, VALUES))
    monkeypatch.setattr(kind, "__getitem__", lambda *_: pytest.fail("read, and copied"))
    np.testing.assert_array_equal(np.asarray(X), VALUES)


def test_an_array_of_hdf5_may_be_of_another_type_than_its_file(tmp_path: Path) -> None:
    X = RowsOnDisk(hdf5(tmp_path, VALUES).astype("f4"))
    np.testing.assert_array_equal(np.asarray(X), VALUES.astype("f4"))


def test_small_parts_of_chunks_are_read_once(tmp_path: Path) -> None:
    """By who goes forwards: predictions, means and scales."""
    reads: list[tuple[int, int]] = []

    class Counted(Sliced):
        def __getitem__(self, rows: Any) -> np.ndarray:
            reads.append((rows.start, rows.stop))
            return self.values[rows]

    values = RNG.normal(size=(64, 20_000))
    counted = Counted(tmp_path, values)
    counted.chunks = (16, 20_000)
    X = RowsOnDisk(counted)
    assert X.block == 16
    parts = [X.take(range(start, min(start + 5, 64))) for start in range(0, 64, 5)]
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert reads == [(0, 16), (16, 32), (32, 48), (48, 64)]


def opened_hdf5(path: Path, values: np.ndarray) -> Any:
    with h5py.File(path, "w") as file:
        file["X"] = values
    return h5py.File(path, "r")["X"]


@pytest.mark.parametrize("task", ["make", "take", "fit", "fit as it is", "pickle"])
def test_closed_files_are_told(tmp_path: Path, task: str) -> None:
    array = opened_hdf5(tmp_path / "X.h5", VALUES)
    X = RowsOnDisk(array)
    array.file.close()
    uses: dict[str, Any] = {
        "make": lambda: RowsOnDisk(array),
        "take": lambda: X.take([1]),
        "fit": lambda: make_small().fit(X, Y),
        "fit as it is": lambda: make_small().fit(array, Y),
        "pickle": lambda: pickle.dumps(X),
    }
    with pytest.raises(ValueError, match="closed"):
        uses[task]()


@pytest.mark.parametrize(
    "array",
    [
        pd.DataFrame(VALUES[:, 0]),
        pd.Series(VALUES[:, 0, 0]),
        csr_matrix(VALUES[:, 0]),
        {"X": VALUES},
        zarr.open_group(zarr.storage.MemoryStore(), mode="w"),
    ],
    ids=lambda array: type(array).__name__,
)
def test_what_is_in_memory_or_has_no_rows_is_refused(array: Any) -> None:
    with pytest.raises(TypeError, match=r"not in a file|Pass an array in a file"):
        RowsOnDisk(array)


def test_archives_tell_what_is_in_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "X.npz", part=VALUES)
    opened_hdf5(tmp_path / "X.h5", VALUES).file.close()
    for archive in (np.load(tmp_path / "X.npz"), h5py.File(tmp_path / "X.h5", "r")):
        with pytest.raises(TypeError, match=r"of \['(part|X)'\]"):
            RowsOnDisk(archive)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["X"] = h5py.Empty("f4")
        with pytest.raises(ValueError, match="without axes"):
            RowsOnDisk(file["X"])


def test_a_file_that_changed_on_its_way_is_told(tmp_path: Path) -> None:
    sent = pickle.dumps(RowsOnDisk(opened_hdf5(tmp_path / "X.h5", VALUES))[30:])
    for other in (VALUES[:9], VALUES.astype(int)):
        (tmp_path / "X.h5").unlink()
        opened_hdf5(tmp_path / "X.h5", other).file.close()
        with pytest.raises(ValueError, match="any more"):
            pickle.loads(sent)
    sent = pickle.dumps(RowsOnDisk(memmap(tmp_path, VALUES)))
    memmap(tmp_path, VALUES[:9])
    with pytest.raises(ValueError, match="smaller than it was"):
        pickle.loads(sent)


def test_a_file_that_changed_while_it_is_open_is_told(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "X.h5", "w") as file:
        array = file.create_dataset("X", data=VALUES, maxshape=(None, 3, 4))
        X = RowsOnDisk(array)
        array.resize(9, axis=0)
        with pytest.raises(ValueError, match="its file has changed"):
            X.take([20])


def test_another_process_has_another_folder(tmp_path: Path, monkeypatch: Any) -> None:
    opened_hdf5(tmp_path / "X.h5", VALUES).file.close()
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(RowsOnDisk(h5py.File("X.h5", "r")["X"]))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(sent), VALUES)


class Samples(Pairs):
    """A data set whose samples are given."""

    def __getitem__(self, row: int) -> Any:
        return self.values[row]


@pytest.mark.parametrize(
    "samples",
    [
        [np.array([1, 2], np.uint8), np.array([300, -1])],
        [[1, 0], [0.5, 0]],
        [np.array([True]), np.array([2])],
    ],
    ids=str,
)
def test_samples_are_not_cut_to_the_type_of_the_first(samples: Any) -> None:
    X = RowsOnDisk(Samples(Path(), samples))
    with pytest.raises(ValueError, match="of the type"):
        X.take([1])


def test_samples_are_read_as_arrays_are() -> None:
    halves = [torch.tensor(row, dtype=torch.bfloat16) for row in VALUES[:, 0]]
    X = RowsOnDisk(Samples(Path(), halves))
    np.testing.assert_array_equal(X, torch.stack(halves).float().numpy())
    palette = [Image.new("P", (3, 3))] * 4  # type: ignore[list-item]
    with pytest.raises(ValueError, match="palette"):
        RowsOnDisk(Samples(Path(), palette))
    with pytest.raises(ValueError, match="sparse"):
        RowsOnDisk(Samples(Path(), [torch.eye(3).to_sparse()]))


@pytest.mark.parametrize("told", [(VALUES[:, :2], VALUES), (VALUES.astype(int), VALUES)])
@pytest.mark.parametrize("kind", [Taken, Sliced])
def test_rows_are_as_the_object_said(tmp_path: Path, kind: Any, told: Any) -> None:
    array = kind(tmp_path, told[0])
    array.values = told[1]
    with pytest.raises(ValueError, match="what its shape and dtype say"):
        RowsOnDisk(array).take([2, 3])


@pytest.mark.parametrize("rows", [[1.5], [[1, 2], [3, 4]], 3, np.ones(N, dtype=bool), "a"], ids=str)
def test_rows_to_take_are_numbers(stored: RowsOnDisk, rows: Any) -> None:
    with pytest.raises(IndexError, match="Rows to take are"):
        stored.take(rows)


def test_rows_are_those_of_the_file_now(tmp_path: Path) -> None:
    """A chunk is kept only where nobody can write to it."""
    with h5py.File(tmp_path / "X.h5", "w") as file:
        array = file.create_dataset("X", data=np.zeros((8, 2)), chunks=(4, 2))
        X = RowsOnDisk(array)
        assert X.take([0, 2]).sum() == 0
        array[:] = 1
        assert X.take([0, 2]).sum() == 4
