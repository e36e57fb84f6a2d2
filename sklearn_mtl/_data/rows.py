"""Rows: their weights, parts of them, and the seed by which they are drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pickle import PicklingError
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing

from sklearn_mtl._data.contents import holes
from sklearn_mtl._data.on_disk import is_stored, lazily
from sklearn_mtl._data.opening import as_numpy, opened
from sklearn_mtl._data.weights import read_weights

__all__ = [
    "Samples",
    "check_groups",
    "check_weights",
    "hold_out_rows",
    "random_seed",
    "sent_to_workers",
    "split_rows",
    "take_rows",
    "weight_columns",
    "weights_of_rows",
]

FloatArray = NDArray[np.floating[Any]]


class Samples(NamedTuple):
    """Rows as the user passed them."""

    X: Any
    y: Any
    sample_weight: Any = None
    groups: Any = None


def weight_columns(sample_weight: Any) -> list[Any] | None:
    """Return the labels of a frame of weights, None for anything else."""
    with suppress(ValueError):  # labels that are there twice: the shape will not do
        frame: Any = nw.from_native(sample_weight, eager_only=True, pass_through=True)
        return list(frame.columns) if isinstance(frame, nw.DataFrame) else None
    return list(sample_weight.columns)


def check_weights(
    sample_weight: Any, n_samples: int, names: Sequence[str], name: str = "sample_weight"
) -> NDArray[np.float64]:
    """Return sample weights as an ``(n_samples, n_tasks)`` array; None is one everywhere.

    It is read-only; a weight per row takes no more memory than that. A frame whose columns are the
    names of the tasks is matched by name, all else by position. In errors, they go by `name`.
    """
    n_tasks = len(names)
    if sample_weight is None:
        return np.broadcast_to(np.float64(1), (n_samples, n_tasks))
    labels = weight_columns(sample_weight) or ()
    if len(labels) == len(names) and set(labels) == set(names):
        sample_weight = nw.from_native(sample_weight).select(list(names)).to_native()
    weight = read_weights(sample_weight, name)
    if weight.ndim == 0:
        weight = np.full(n_samples, weight)
    if weight.shape not in ((n_samples,), (n_samples, n_tasks)):
        raise ValueError(
            f"{name} has shape {weight.shape}, expected ({n_samples},) or "
            f"({n_samples}, {n_tasks}): one weight per row, or one per row and task."
        )
    if not weight.any():
        raise ValueError(f"{name} is zero everywhere. Pass at least one non-zero weight.")
    if weight.max() > 1e100:  # only ratios count, and sums must not overflow
        weight = weight / weight.max()
    if weight.ndim == 1:
        weight = weight[:, None]
    return np.broadcast_to(weight, (n_samples, n_tasks))


def weights_of_rows(weight: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return those of some rows, as small as `check_weights` made them."""
    if len(rows) == len(weight):
        return weight
    if weight.strides[1] == 0:
        return np.broadcast_to(weight[rows, :1], (len(rows), weight.shape[1]))
    return weight[rows]


def check_groups(groups: Any, n_samples: int) -> NDArray[np.intp] | None:
    """Return groups as numbers from 0, in the order of their labels; None where there are none."""
    if groups is None:
        return None
    labels = as_numpy(opened(groups, "groups"), "groups", "Pass one label per row.")
    if labels.shape != (n_samples,):
        raise ValueError(
            f"groups has shape {labels.shape}, expected ({n_samples},): one label per row."
        )
    if labels.dtype.kind == "V":
        raise ValueError(f"groups holds {labels.dtype} values. Pass numbers or text.")
    if holes(labels).any():
        raise ValueError("groups holds missing labels. Give each row a group, if of its own.")
    try:
        return np.unique(labels, return_inverse=True)[1]
    except Exception as error:  # of labels that are objects of any kind
        raise ValueError(f"groups holds labels that cannot be ordered: {error}.") from error


def take_rows(data: Any, rows: NDArray[np.integer[Any]]) -> Any:
    """Return some rows of X, y or weights, in the container that they are in."""
    if is_stored(data):  # such files have rules of their own about rows
        return lazily(data)[rows]
    return _safe_indexing(data, rows)


@contextmanager
def sent_to_workers() -> Iterator[None]:
    """Say what to do about an X that cannot be sent to other processes, as an open HDF5 file."""
    try:
        yield
    except (PicklingError, TypeError) as error:
        if "pickle" not in str(error):
            raise
        raise ValueError(
            "X, y or the estimator cannot be sent to other processes, as is so for an HDF5 file "
            "that is open for writing. Open it with h5py.File(path, 'r'); or pass n_jobs=1; or use "
            "threads: with joblib.parallel_config('threading', n_jobs=2)."
        ) from error


def random_seed(random_state: Any) -> int:
    """Draw one seed; None takes fresh entropy, so that no global state is touched."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**31))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    return int(random_state)


def hold_out_rows(
    observed: NDArray[np.bool_],
    codes: FloatArray,
    fraction: float,
    names: Sequence[str],
    rng: np.random.Generator,
    groups: NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """As `split_rows`, but a task that is observed in one row, or group, trains on it."""
    counts = _observations(observed, groups)
    rare = counts < 2
    kept = observed[:, rare].any(axis=1)
    if groups is not None:
        kept = np.isin(groups, groups[kept])
    free = np.flatnonzero(~kept)
    part = None if groups is None else groups[free]
    enough = _observations(observed[free], part) >= 2
    if not rare.any() or not enough.any():
        return split_rows(observed, codes, fraction, names, rng, groups)
    if (counts == 1).any():
        unwatched = [name for name, few in zip(names, ~enough & (counts > 0), strict=True) if few]
        warnings.warn(
            f"early_stopping does not look at {unwatched}, for want of observed targets to hold "
            "out. Name the tasks that it shall look at, or pass X_val and y_val.",
            UserWarning,
            stacklevel=2,
        )
    chosen = [name for name, is_enough in zip(names, enough, strict=True) if is_enough]
    train, valid = split_rows(observed[free][:, enough], codes[free], fraction, chosen, rng, part)
    return np.sort(np.concatenate([free[train], np.flatnonzero(kept)])), free[valid]


def _observations(observed: NDArray[np.bool_], groups: NDArray[np.intp] | None) -> NDArray[np.intp]:
    """Count the rows, or groups, in which each task is observed."""
    if groups is None:
        return observed.sum(axis=0)
    return np.array([len(np.unique(groups[column])) for column in observed.T], dtype=np.intp)


def split_rows(
    observed: NDArray[np.bool_],
    codes: FloatArray,
    fraction: float,
    names: Sequence[str],
    rng: np.random.Generator,
    groups: NDArray[np.intp] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split rows into training and validation, observed targets of every task on both sides.

    Rows are sorted by their pattern of observed targets and classes, at random within a pattern,
    and every ``1 / fraction``-th goes to validation: a proportional stratification.

    Parameters
    ----------
    observed : ndarray of shape (n_samples, n_tasks)
    codes : ndarray of shape (n_samples, n_class_tasks)
        Class codes, 0 where not observed.
    fraction : float in (0, 1)
        Share of rows for validation.
    names : sequence of str
        Task names for messages.
    rng : Generator
    groups : ndarray of int of shape (n_samples,), optional
        Rows of one group stay together: groups are split, by which targets they have, and the
        classes of their first row.

    Returns
    -------
    train, valid : ndarrays of int, increasing
    """
    if groups is not None:
        _, first, group = np.unique(groups, return_index=True, return_inverse=True)
        seen = np.stack([np.bincount(group, weights=column) > 0 for column in observed.T], axis=1)
        parts = split_rows(seen, codes[first], fraction, names, rng)
        train, valid = (np.flatnonzero(np.isin(group, part)) for part in parts)
        return train, valid
    n = len(observed)
    for name, count in zip(names, observed.sum(axis=0), strict=True):
        if count < 2:
            raise ValueError(
                f"early_stopping needs observed targets of every task for training and for "
                f"validation, but task {name!r} has {count} in n_samples={n} rows. Pass X_val and "
                "y_val, or set early_stopping=False."
            )
    order = np.lexsort((rng.random(n), *codes.T, *observed.T))
    n_valid = min(max(1, round(fraction * n)), n - 1)
    picks = ((np.arange(n_valid) + rng.random()) * (n / n_valid)).astype(np.intp)
    valid = np.zeros(n, dtype=bool)
    valid[order[picks]] = True
    total, held_out = observed.sum(axis=0), observed[valid].sum(axis=0)
    for _ in range(100 * len(total)):  # a rare task may be on one side: move one of its rows
        one_sided = np.flatnonzero((held_out == 0) | (held_out == total))
        if len(one_sided) == 0:
            return np.flatnonzero(~valid), np.flatnonzero(valid)
        row = rng.choice(np.flatnonzero(observed[:, rng.choice(one_sided)]))
        valid[row] = not valid[row]
        held_out = held_out + (1 if valid[row] else -1) * observed[row]
    raise ValueError(
        "early_stopping found no split with observed targets of every task for training and for "
        f"validation: tasks {[names[int(k)] for k in one_sided]} share too few rows with others. "
        "Pass X_val and y_val, or set early_stopping=False."
    )
