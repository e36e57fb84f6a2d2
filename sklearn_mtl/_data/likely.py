"""Likelier meanings: what X looks like, where it is read as something else."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.refusals import listed

__all__ = ["find_codes", "look", "looks_flat", "shape_says"]

FloatArray = NDArray[np.floating[Any]]
Shape = tuple[int, ...]

# What is often written where nothing was measured: -1, 9, 99 ..., and the ends of integers.
NINES = 10.0 ** np.arange(1, 8) - 1
KNOWN = np.array([-1, *NINES, *-NINES, -(2**15), 2**15 - 1, -(2**31), 2**31 - 1])
FEW = 16  # so many channels, or fewer


def look(
    reader: InputReader,
    X: Any,
    rows: NDArray[np.intp],
    convolves: bool,
    auto: bool,
    masked: bool = False,
) -> None:
    """Warn where X looks like something else than what it is read as.

    Parameters
    ----------
    reader : InputReader
        Fitted.
    X : array-like
        As `as_input` returns it.
    rows : ndarray of int
        Rows to train on.
    convolves : bool
        Whether the trunk is one to which the axes of a sample matter, and takes any.
    auto : bool
        Whether the shape of a sample chooses the trunk.
    masked : bool, default=False
        Whether the last channel of sequences tells where they end.
    """
    shape, told = reader.sample_shape_, reader.input_shape is not None
    texts = [shape_says(shape, reader.data_format) if convolves and not told else None]
    samples = reader.glance(X, rows, masked)
    if len(samples) == 0:  # the first ones lack this part of X
        return
    if masked and len(reader.input_shape_) == 2:
        texts.append(_mask_says(reader.glance(X, rows)[:, -1]))
    table = len(reader.input_shape_) == 1
    if table and auto and not told and looks_flat(samples[:256]):
        texts.append(
            f"X of shape (n, {shape[0]}) looks like flat images, but is read as a table. Pass "
            "input_shape=(C, H, W) for images, trunk='dense' for a table."
        )
    samples = samples.reshape(*samples.shape[:2], -1)
    columns = np.moveaxis(samples, 1, -1).reshape(-1, samples.shape[1])
    codes = find_codes(columns)
    if len(reader.input_shape_) > 2:  # a pixel may be 255 or -1, and mean it
        codes = {c: at for c, at in codes.items() if abs(c) > 255 and _is_known(np.array(c))}
    texts.append(_codes_say(reader, codes))
    for text in texts:
        if text is not None:
            warnings.warn(text, stacklevel=2)


def _codes_say(reader: InputReader, codes: dict[float, list[int]]) -> str | None:
    if not codes:
        return None
    places = np.array(sorted({i for columns in codes.values() for i in columns}))
    of = "columns" if len(reader.input_shape_) == 1 else "channels"
    names = reader.feature_names_in_
    if names is not None and len(reader.sample_shape_) == len(reader.input_shape_) == 1:
        places = names[places]
    return (
        f"X holds {', '.join(f'{code:g}' for code in sorted(codes))} again and again, far from all "
        f"other values, in {of} {listed(places)}. If that means 'not measured', impute it first, "
        "for example by SimpleImputer(missing_values=...) in a Pipeline."
    )


def _mask_says(mask: FloatArray) -> str | None:
    """Say that a channel (n, L) is none that tells where sequences end, if so."""
    n = int(((mask[:, 1:] != mask[:, :-1]).sum(axis=1) > 1).sum())
    if not n:
        return None
    return (
        "The last channel of X is read as a mask, of one value up to the end of a sequence and "
        f"another one behind it, but it changes more than once in {n} of {len(mask)} sequences "
        "looked at, which are cut where it does first. Pass what SequencePad of "
        "sklearn_mtl.datasets makes; or, for sequences of equal length without a mask, "
        "trunk='conv'."
    )


# -- shapes --------------------------------------------------------------------------------------


def shape_says(shape: Shape, data_format: str) -> str | None:
    """Say what samples of this shape look like, of which nothing else is known; None for what is.

    Parameters
    ----------
    shape : tuple of int
        Of a sample as it was passed.
    data_format : {'channels_first', 'channels_last'}
    """
    first = data_format == "channels_first"
    whole = f"X of shape (n, {', '.join(map(str, shape))})"
    if len(shape) == 2:
        n_channels, length = sorted(shape)
        if n_channels > FEW or length < max(4 * n_channels, FEW):
            return None
        last = "data_format='channels_last' and " * (shape[1] == n_channels)
        return (
            f"{whole} is read as images of {shape[0]} x {shape[1]} pixels. Pass {last}"
            f"input_shape={(n_channels, length)} for sequences of {n_channels} channels, "
            f"input_shape={(1, *shape)} for images."
        )
    sides = shape[:-1] if first else shape[1:]
    n_read, n_likely = (shape[0], shape[-1]) if first else (shape[-1], shape[0])
    if len(shape) < 3 or n_likely > FEW or 2 * n_likely > min(sides):
        return None
    likely = "last" if first else "first"
    as_read = shape if first else (shape[-1], *shape[:-1])
    return (
        f"{whole} is read as samples of {n_read} channels. Pass data_format='channels_{likely}' if "
        f"they have {n_likely} channels, input_shape={as_read} if they have {n_read}."
    )


def looks_flat(values: FloatArray) -> bool:
    """Tell whether rows look like flat square images, of one channel or three.

    They do if values are whole numbers to 255 and mostly bright, or if pixels are more like those
    a line of the image further than those half a line further.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        Some rows.
    """
    n_columns = values.shape[1]
    lines = {
        channels: math.isqrt(n_columns // channels)
        for channels in (1, 3)
        if n_columns % channels == 0
    }
    lines = {c: side for c, side in lines.items() if side >= 8 and c * side**2 == n_columns}
    if not lines:
        return False
    whole = values.min() >= 0 and values.max() <= 255 and not (values % 1).any()
    if whole and np.median(values.max(axis=0)) > 127:
        return True
    # Lines of 3 channels may be channels side by side, or pixels of three values.
    steps = {step for c, side in lines.items() for step in {side, c * side}}
    apart = {s: _difference(values, s) for step in steps for s in (step, step // 2)}
    anywhere = 2 * values.var(axis=0).mean() + 2 * values.mean(axis=0).var()
    return any(apart[s] < 0.5 * anywhere and apart[s] < 0.8 * apart[s // 2] for s in steps)


def _difference(values: FloatArray, step: int) -> float:
    """Mean square of the difference of columns that are so many columns apart."""
    return float(((values[:, step:] - values[:, :-step]) ** 2).mean())


# -- numbers -------------------------------------------------------------------------------------


def find_codes(values: FloatArray) -> dict[float, list[int]]:
    """Find values that are repeated far from all others of their column, with those columns.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        Some rows.
    """
    found: dict[float, list[int]] = {}
    if len(values) < 8:
        return found
    ordered = np.sort(values, axis=0)
    for sign in (1, -1):  # the low end, and the high one
        ends = ordered[::sign]
        for column in np.flatnonzero((ends[0] == ends[1]) & _may_be_code(ends[0])):
            distinct, counts = np.unique(ordered[:, column], return_counts=True)
            for code in _codes_at_the_end(sign * distinct[::sign], counts[::sign]):
                found.setdefault(float(sign * code), []).append(int(column))
    return found


def _may_be_code(values: FloatArray) -> NDArray[np.bool_]:
    return _is_known(values) | (np.abs(values) > 9)


def _is_known(values: FloatArray) -> NDArray[np.bool_]:
    return np.isin(values, KNOWN)


def _codes_at_the_end(distinct: FloatArray, counts: NDArray[np.intp]) -> list[float]:
    """Return up to three values at the low end that are repeated, and far from all others."""
    for n in (3, 2, 1):
        if len(distinct) < n + 5 or counts[:n].min() < 2:
            continue
        gap = distinct[n] - distinct[n - 1]
        share = np.cumsum(counts[n:]) / counts[n:].sum()
        core = distinct[n:][(share > 0.05) & (share <= 0.95)]
        if len(core) < 2:
            continue
        spread, step = core[-1] - core[0], np.diff(core).max()
        known = _is_known(distinct[:n]).any() or _is_known(-distinct[:n]).any()
        far = max(0.3 * spread, 3 * step) if known else 5 * spread
        if gap > far and (known or counts[:n].min() > 4):
            return list(distinct[:n])
    return []
