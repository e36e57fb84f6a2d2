"""Paths as people hold them, read by threads, and what is wrong with them in one error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, KeysView, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sklearn_mtl.datasets.pictures import is_count, pillow, reason

__all__ = [
    "each",
    "fill",
    "is_path",
    "is_picture",
    "n_threads",
    "pictures_of",
    "refuse",
    "refuse_holes",
]

SHOWN = 5  # files and rows that an error names

# -- reading -------------------------------------------------------------------------------------


def n_threads(n_jobs: Any) -> int:
    """Return how many threads are meant."""
    if n_jobs is None:
        return torch.get_num_threads()
    if not is_count(n_jobs) or n_jobs == 0:
        raise ValueError(
            f"n_jobs={n_jobs!r} is no number of threads. Pass an int, -1 for as many as this "
            "process has processors, or None."
        )
    return int(n_jobs) if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + int(n_jobs))


def each(
    function: Callable[[Any], Any], items: Sequence[Any], n_jobs: int | None
) -> list[Exception | None]:
    """Call a function for each item, by threads; return what was raised, in the same order."""

    def attempt(item: Any) -> Exception | None:
        try:
            function(item)
        except (MemoryError, ImportError):
            raise
        except Exception as error:  # decoders raise what they like
            return error
        return None

    workers = n_threads(n_jobs)
    if workers == 1 or len(items) < 2:
        return list(map(attempt, items))
    with ThreadPoolExecutor(min(workers, len(items))) as pool:
        return list(pool.map(attempt, items))


def fill(
    image_of: Callable[[Any], NDArray[np.uint8]],
    pictures: Sequence[Any] | NDArray[Any],
    X: NDArray[np.uint8],
    rows: Sequence[int],
    n_jobs: int | None,
) -> list[tuple[Any, Exception]]:
    """Fill rows of X, and return the pictures that cannot be read, with the reasons."""

    def put(row: int) -> None:
        X[row] = image_of(pictures[row])

    errors = zip(rows, each(put, rows, n_jobs), strict=True)
    return [(pictures[row], error) for row, error in errors if error is not None]


def refuse(bad: Sequence[tuple[Any, Exception]], n: int) -> None:
    """Name pictures that cannot be read, the first few of many."""
    if not bad:
        return
    # A path that is there twice is named once, and counted twice.
    named = {f"{_name(picture)} ({reason(picture, error)})": None for picture, error in bad}
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    raise ValueError(
        f"{len(bad)} of {n} images cannot be read: {', '.join(list(named)[:SHOWN])}{more}. Mend "
        "the files, or leave out these rows of X and y."
    ) from bad[0][1]


def _name(picture: Any) -> str:
    return repr(picture) if isinstance(picture, str) else f"a {type(picture).__name__}"


# -- paths ---------------------------------------------------------------------------------------


def is_path(value: Any) -> bool:
    """Tell paths, of which a file is opened."""
    return isinstance(value, str | os.PathLike)


def is_picture(value: Any) -> bool:
    """Tell paths, images of PIL, and arrays that can be one."""
    if isinstance(value, np.ndarray):
        is_image = value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))
        return value.dtype == np.uint8 and is_image and value.size > 0
    return is_path(value) or isinstance(value, pillow().Image)


def pictures_of(paths: Any, root: Any, knows: Callable[[Any], bool]) -> list[Any]:
    """Return paths as text, with the folder they start from; None where there is none."""
    pillow()
    if is_path(paths):
        raise ValueError(
            f"paths is {str(paths)!r}, and no list. Pass the files that it stands for, as by "
            "sorted(Path(folder).glob('*.jpg'))."
        )
    if not (root is None or is_path(root) or isinstance(root, bytes)):
        raise ValueError(f"root={root!r} is no folder. Pass a path, or None.")
    if hasattr(paths, "columns") and hasattr(paths, "shape"):
        if paths.shape[1] != 1:
            raise ValueError(
                f"paths is a frame of {paths.shape[1]} columns. Pass the one that holds the paths, "
                "or use ImageReader(column)."
            )
        column = paths.columns[0]
        paths = column if hasattr(column, "to_pylist") else paths[column]
    if hasattr(paths, "to_pylist"):  # of Arrow
        paths = paths.to_pylist()
    if isinstance(paths, np.ndarray) and paths.dtype.kind in "OU":
        paths = paths.reshape(-1) if paths.shape[1:] == (1,) else paths
    if np.ndim(paths) == 0 if isinstance(paths, np.ndarray) else not isinstance(paths, Iterable):
        raise ValueError(f"paths is a {type(paths).__name__}, and no list. Pass a list of paths.")
    if isinstance(paths, Mapping | Set) and not isinstance(paths, KeysView):
        raise ValueError(
            f"paths is a {type(paths).__name__}, which has no order of rows. Pass a list of paths."
        )
    pictures: list[Any] = [None if _is_hole(path) else path for path in paths]
    for row, path in enumerate(pictures):
        if path is not None and not knows(path):
            shape = (
                f" of {path.dtype} and the shape {path.shape}"
                if isinstance(path, np.ndarray)
                else ""
            )
            raise TypeError(
                f"paths holds a {type(path).__name__}{shape} in row {row}. Pass a list of str or "
                "Path; `load_images` also takes images of PIL, and uint8 arrays (H, W) or (H, W, "
                "3)."
            )
    folder = "" if root is None else os.fsdecode(root)
    return [str(os.path.join(folder, os.fspath(p))) if is_path(p) else p for p in pictures]


def refuse_holes(holes: NDArray[np.bool_], name: str, mend: str) -> None:
    """Name rows without a path, the first few of many."""
    if holes.any():
        raise ValueError(
            f"{name} has no path in {holes.sum()} of {len(holes)} rows, the first "
            f"{np.flatnonzero(holes)[:SHOWN].tolist()}. Leave out these rows of X and y, {mend}."
        )


def _is_hole(path: Any) -> bool:
    """Tell None, NaN, `pd.NA`, masked values and empty text."""
    if path is np.ma.masked:
        return True
    return path == "" if isinstance(path, str) else pd.api.types.is_scalar(path) and pd.isna(path)
