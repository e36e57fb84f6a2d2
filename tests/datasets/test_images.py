"""Tests of files of images as arrays, at once and when they are needed."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image

from sklearn_mtl.datasets import ImageFiles, load_images

N, SIZE = 9, 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of several sizes: each of one grey, ten times its number."""
    for i in range(N):
        Image.new("RGB", (20 + 3 * i, 40 - 2 * i), (10 * i,) * 3).save(tmp_path / f"{i}.png")
    return tmp_path


def names() -> list[str]:
    return [f"{i}.png" for i in range(N)]


def greys(X: Any) -> list[int]:
    """Which picture is which."""
    return (np.asarray(X)[:, 0, SIZE // 2, SIZE // 2] // 10).tolist()


BOTH = pytest.mark.parametrize("read", [load_images, ImageFiles])
Read = Callable[..., Any]


# -- paths ---------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "held",
    [
        list,
        tuple,
        np.array,
        pd.Series,
        pl.Series,
        lambda paths: np.array(paths, dtype=object)[:, None],
        lambda paths: pd.Series(paths, dtype="category"),
        lambda paths: pd.DataFrame({"file": paths}),
        lambda paths: pl.DataFrame({"file": paths}),
        lambda paths: [Path(path) for path in paths],
        lambda paths: pd.Series([Path(path) for path in paths], index=range(5, 5 + N)),
        lambda paths: (path for path in paths),
        pa.array,
        lambda paths: pa.chunked_array([paths[:3], paths[3:]]),
        lambda paths: pa.table({"file": paths}),
        lambda paths: pd.Series(paths, dtype="string[pyarrow]"),
        lambda paths: pd.Series(paths, index=[0] * N),
        lambda paths: np.ma.array(np.array(paths, dtype=object)),
        lambda paths: dict.fromkeys(paths).keys(),
    ],
)
def test_paths_in_any_column(folder: Path, read: Read, held: Callable[[Any], Any]) -> None:
    X = read(held(names()), size=SIZE, root=folder)
    assert X.shape == (N, 3, SIZE, SIZE)
    assert X.dtype == np.uint8
    assert greys(X) == list(range(N))


@BOTH
def test_a_path_may_be_there_twice(folder: Path, read: Read) -> None:
    assert greys(read(["4.png", "1.png", "4.png"], SIZE, root=folder)) == [4, 1, 4]


@BOTH
def test_whole_paths_need_no_root(folder: Path, read: Read, monkeypatch: Any) -> None:
    whole = [folder / "2.png"]
    assert greys(read(whole, SIZE)) == greys(read(whole, SIZE, root="nowhere")) == [2]
    monkeypatch.chdir(folder)
    assert greys(read(["2.png"], SIZE)) == [2]


HOLES = [None, np.nan, float("nan"), "", pd.NA, pd.NaT, np.ma.masked]


@pytest.mark.parametrize("hole", HOLES)
def test_rows_without_a_path(folder: Path, hole: Any) -> None:
    """Files know them, and nobody reads them unawares."""
    paths = ["1.png", hole, "2.png", hole]
    message = r" has no path in 2 of 4 rows, the first \[1, 3\]. Leave out these rows of X and y"
    with pytest.raises(ValueError, match=f"paths{message}.*notna"):
        load_images(paths, SIZE, root=folder)
    X = ImageFiles(paths, SIZE, root=folder)
    assert X.missing.tolist() == [False, True, False, True]
    assert repr(X) == f"ImageFiles of the shape (4, 3, {SIZE}, {SIZE}), 2 of them missing"
    for read in (np.asarray, list, lambda X: X[3], lambda X: X.take([0, 1])):
        with pytest.raises(ValueError, match="ImageFiles has no path in "):
            read(X)
    with pytest.raises(ValueError, match=rf"X_val{message}.*X\[~X.missing\]"):
        X.check_rows("X_val")
    assert greys(X[~X.missing]) == greys(pickle.loads(pickle.dumps(X))[[0, 2]]) == [1, 2]


def test_files_beside_rows_without_a_path_are_looked_at(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"2 of 4 images .*'.*a' \(missing\), '.*b' \(missing\)"):
        ImageFiles(["a", None, "1.png", "b"], SIZE, root=folder)


@BOTH
@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ("a.png", ValueError, "paths is 'a.png', and no list.*sorted"),
        (Path("a.png"), ValueError, "paths is 'a.png', and no list"),
        (["a.png", 7], TypeError, "paths holds a int in row 1"),
        ([b"a.png"], TypeError, "paths holds a bytes in row 0"),
        ([["a.png"]], TypeError, "paths holds a list in row 0"),
        (np.array([["a", "b"]]), TypeError, "paths holds a ndarray of "),
        ({"a.png", "b.png"}, ValueError, "paths is a set, which has no order"),
        ({"a.png": 1}, ValueError, "paths is a dict, which has no order"),
        (np.array("a.png"), ValueError, "paths is a ndarray, and no list"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "a frame of 2 columns.*ImageReader"),
    ],
)
def test_what_is_no_list_of_paths(
    read: Read, paths: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(paths, SIZE)


@BOTH
def test_roots_that_are_none(read: Read) -> None:
    with pytest.raises(ValueError, match=r"root=3 is no folder\. Pass a path, or None"):
        read(["a.png"], SIZE, root=3)


@BOTH
def test_no_files_are_an_array_of_none(read: Read) -> None:
    X = read([], size=(4, 6), mode="L")
    assert X.shape == (0, 1, 4, 6)
    assert np.asarray(X).shape == (0, 1, 4, 6)


# -- files that cannot be read -------------------------------------------------------------------


def spoil(folder: Path) -> list[str]:
    """Files that cannot be read for several reasons, among others."""
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("no image")
    (folder / "sub").mkdir()
    return ["0.png", "gone.png", "empty.jpg", "1.png", "text.png", "sub", "gone.png"]


def cut(folder: Path, name: str, suffix: str = "jpg") -> str:
    """Write an image of which the end is missing."""
    path = folder / f"{name}.{suffix}"
    noise = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path.name


@BOTH
def test_bad_files_are_named_in_one_error(folder: Path, read: Read) -> None:
    paths = spoil(folder)
    with pytest.raises(ValueError, match="5 of 7 images cannot be read") as caught:
        read(paths, SIZE, root=folder)
    text = str(caught.value)
    expected = ["gone.png' (missing)", "empty.jpg' (empty)", "text.png' (no image that Pillow"]
    for part in [*expected, "sub' (a folder)", "leave out these rows of X and y"]:
        assert part in text
    assert text.count("gone.png") == 1


@BOTH
def test_of_many_bad_files_a_few_are_named(folder: Path, read: Read) -> None:
    message = r"30 of 31 images.*'a0' \(missing\).*'a4' \(missing\) and 25 more"
    with pytest.raises(ValueError, match=message):
        read([*[f"a{i}" for i in range(30)], folder / "1.png"], SIZE)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_a_file_of_which_the_end_is_missing(folder: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=rf"1 of 2 images cannot be read: '.*half.{suffix}' \("):
        load_images(["1.png", cut(folder, "half", suffix)], SIZE, root=folder)


def test_what_is_broken_inside_is_found_in_all_files_by_the_first_read(folder: Path) -> None:
    """Also when only a part is read, and the others are in another one."""
    paths = [*names(), cut(folder, "x"), *names(), cut(folder, "y")]
    X = ImageFiles(paths, SIZE, root=folder)
    for read in (
        lambda: X.take([1, 9]),
        lambda: np.asarray(X[9:12]),
        lambda: X[9],
        lambda: np.asarray(X),
    ):
        with pytest.raises(ValueError, match=r"2 of 20 .*x.jpg' \(image file is trunc.*y.jpg' \("):
            read()
    assert greys(X[:9]) == list(range(9))


def test_files_that_vanish_are_named(folder: Path) -> None:
    X = ImageFiles(names(), SIZE, root=folder)
    (folder / "3.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 9 .*3.png' \(missing\)"):
        np.asarray(X)


def test_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif' \(32 bits per pixel.*read it into an array\)"):
        load_images([tmp_path / "a.tif"], SIZE)


def test_pictures_in_memory_may_stand_for_files(folder: Path) -> None:
    image = Image.open(folder / "5.png")
    array = np.full((30, 9), 70, dtype=np.uint8)
    X = load_images([image, array, folder / "6.png", image, np.dstack([array] * 3)], SIZE)
    assert greys(X) == [5, 7, 6, 5, 7]
    assert image.size == (35, 30)
    image.close()
    with pytest.raises(TypeError, match="paths holds a ndarray of "):
        load_images([np.zeros((3, 3))], SIZE)
    with pytest.raises(TypeError, match=r"paths holds a ndarray of .* in row 1"):
        ImageFiles([folder / "5.png", array], SIZE)


def test_without_pillow_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    for read in (load_images, ImageFiles):
        with pytest.raises(ImportError, match=re.escape('pip install "sklearn-mtl[images]"')):
            read(["a.png"], SIZE)


# -- as an array ---------------------------------------------------------------------------------


@pytest.fixture
def X(folder: Path) -> ImageFiles:
    return ImageFiles(names(), SIZE, root=folder)


def test_it_looks_like_an_array(X: ImageFiles, folder: Path) -> None:
    A = load_images(names(), SIZE, root=folder)
    found, expected = ((a.shape, a.dtype, a.ndim, len(a), a.nbytes) for a in (X, A))
    assert found == expected
    np.testing.assert_array_equal(np.asarray(X), A)
    np.testing.assert_array_equal(np.array(X, dtype=np.float32), A.astype(np.float32))
    np.testing.assert_array_equal(list(X), A)
    assert repr(X) == f"ImageFiles of the shape (9, 3, {SIZE}, {SIZE})"
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(X, copy=False)


MASK = np.arange(N) % 2 == 0


@pytest.mark.parametrize(
    "key",
    [
        slice(2, 7, 2),
        slice(None, None, -1),
        [3, 0, 3],
        [-1, 2],
        [],
        np.array([8, 1]),
        MASK,
        list(MASK),
        pd.Series(MASK),
        (np.array([5, 2]), Ellipsis),
        (slice(3), slice(None), slice(None)),
    ],
    ids=repr,
)
def test_rows_are_files_again(X: ImageFiles, key: Any) -> None:
    part = X[key]
    assert isinstance(part, ImageFiles)
    np.testing.assert_array_equal(np.asarray(part), np.asarray(X)[key])
    np.testing.assert_array_equal(np.asarray(part[::-1][:2]), np.asarray(X)[key][::-1][:2])


@pytest.mark.parametrize(
    "key", [4, -2, np.int64(3), (4, 0), (4, ..., 3), (slice(3), 0), ([1, 2], 0, 5), (..., 0)]
)
def test_values_are_an_array(X: ImageFiles, key: Any) -> None:
    assert isinstance(X[key], np.ndarray)
    np.testing.assert_array_equal(X[key], np.asarray(X)[key])


@pytest.mark.parametrize("key", [9, -10, [9], "a", 1.5, np.zeros((2, 2), dtype=int), [True, False]])
def test_keys_that_are_none(X: ImageFiles, key: Any) -> None:
    with pytest.raises(IndexError):
        X[key]


def test_take_reads(X: ImageFiles) -> None:
    found = X.take([2, 1])
    assert isinstance(found, np.ndarray)
    assert greys(found) == [2, 1]


# -- the cache -----------------------------------------------------------------------------------


class Reads:
    """Which files are opened by whom: as Pillow sees it."""

    def __init__(self, monkeypatch: Any) -> None:
        self.names: list[str] = []
        self.threads: set[int] = set()
        opened = Image.open

        def count(path: str, *args: Any) -> Any:
            self.names.append(Path(path).name)
            self.threads.add(threading.get_ident())
            return opened(path, *args)

        monkeypatch.setattr(Image, "open", count)

    def of(self, function: Callable[[], Any]) -> list[str]:
        self.names.clear()
        function()
        return sorted(self.names)


ONE = 3 * SIZE * SIZE


def test_what_fits_into_the_cache_is_read_once(folder: Path, monkeypatch: Any) -> None:
    reads = Reads(monkeypatch)
    X = ImageFiles([*names(), *names()], SIZE, root=folder, cache=N * ONE)
    assert sorted(reads.names) == names()  # their heads
    assert reads.of(lambda: X[2:4].take([0])) == ["2.png"]
    assert set(reads.of(lambda: np.asarray(X))) == set(names()) - {"2.png"}
    for again in (X, X[::2], X[3:][[1, 2]]):
        assert reads.of(lambda again=again: np.asarray(again)) == []
    assert greys(X) == [*range(N), *range(N)]


def test_the_cache_has_a_limit(folder: Path, monkeypatch: Any) -> None:
    reads = Reads(monkeypatch)
    X = ImageFiles(names(), SIZE, root=folder, cache=3 * ONE + ONE // 2, n_jobs=1)
    np.asarray(X)
    for _ in range(2):
        assert reads.of(lambda: np.asarray(X)) == names()[3:]
    none = ImageFiles(names(), SIZE, root=folder, cache=0)
    np.asarray(none)
    assert reads.of(lambda: np.asarray(none)) == names()


@pytest.mark.parametrize("cache", [-1, "1 GB", None, np.nan])
def test_caches_that_are_none(cache: Any) -> None:
    with pytest.raises(ValueError, match=r"cache=.* Pass"):
        ImageFiles([], SIZE, cache=cache)


@BOTH
@pytest.mark.parametrize("n_jobs", [0, 1.5, "two", True])
def test_numbers_of_threads_that_are_none(read: Read, n_jobs: Any) -> None:
    with pytest.raises(ValueError, match=r"n_jobs=.* Pass"):
        read([], SIZE, n_jobs=n_jobs)


@pytest.mark.parametrize("n_jobs", [1, 2, 5, None, -1])
def test_any_number_of_threads_reads_the_same(
    folder: Path, n_jobs: int | None, monkeypatch: Any
) -> None:
    reads = Reads(monkeypatch)
    X = ImageFiles(names() * 5, SIZE, root=folder, n_jobs=n_jobs, cache=0)
    assert greys(X) == list(range(N)) * 5
    assert greys(load_images(names(), SIZE, root=folder, n_jobs=n_jobs)) == list(range(N))
    if n_jobs == 1:
        assert reads.threads == {threading.get_ident()}
    elif n_jobs is not None and n_jobs > 1:
        assert threading.get_ident() not in reads.threads


def test_pickles_hold_paths_and_no_images(X: ImageFiles) -> None:
    np.asarray(X)
    text = pickle.dumps(X[3:6])
    assert len(text) < 1500
    assert b"8.png" not in text
    copy = pickle.loads(text)
    assert copy.shape == (3, 3, SIZE, SIZE)
    assert greys(copy) == [3, 4, 5]
    assert greys(pickle.loads(pickle.dumps(copy))[[2, 0]]) == [5, 3]


def test_indices_of_several_axes_are_those_of_numpy(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), 40 * i, dtype=np.uint8)).save(path)
    X = ImageFiles(paths, 8)
    whole = np.asarray(X)
    for key in [(), ([0, 1], [1, 2]), ([0], 0, [1]), (slice(1), 0), (np.array([0, 1]), slice(1))]:
        np.testing.assert_array_equal(np.asarray(X[key]), whole[key])
