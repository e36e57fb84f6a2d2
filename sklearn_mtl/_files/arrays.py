"""Arrays and scalars of numpy as plain data, where they are more than a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "dtype_of",
    "is_long",
    "is_mersenne",
    "is_numeric",
    "is_scalar",
    "native",
    "pack_labels",
    "pack_long",
    "random_state",
    "unpack_labels",
    "unpack_long",
    "unpack_scalar",
]

# Items of an array of labels, from which on each label is written only once.
LONG = 1000

# Characters up to which an array of strings may be padded, whatever their lengths.
PADDED = 2**22


def is_numeric(dtype: np.dtype[Any]) -> bool:
    """Tell dtypes that a tensor can hold."""
    return dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8)


def native(values: NDArray[Any]) -> NDArray[Any]:
    """Return a copy in the byte order of the machine, row by row."""
    return np.array(values, dtype=values.dtype.newbyteorder("="), order="C")


def pack_labels(values: NDArray[Any]) -> list[Any]:
    """Type, shape, and all items."""
    return [values.dtype.str, list(values.shape), values.ravel().tolist()]


def unpack_labels(content: list[Any]) -> NDArray[Any]:
    """Turn back what `pack_labels` returned."""
    dtype, shape, items = content
    values = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):  # one by one, as a label may be a tuple
        values[i] = item
    return _typed(values, dtype).reshape(shape)


def _typed(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return labels as objects, or as strings, which are as wide as the longest of them.

    Strings stay objects where most of a large array would be padding.
    """
    kind = dtype_of(dtype).kind
    if kind == "O":
        return values
    lengths = [len(item) for item in values if type(item) is str]
    if kind != "U" or len(lengths) < len(values):
        raise ValueError(f"an array of {dtype!r} holds something else")
    if len(values) * max(lengths, default=0) > PADDED + 4 * sum(lengths):
        return values
    return values.astype(np.str_)


def is_long(values: Any) -> bool:
    """Tell long arrays of plain labels and numbers, as predictions of all training rows are."""
    if type(values) is not np.ndarray or values.dtype.kind not in "OU" or values.size < LONG:
        return False
    return {type(item) for item in values.ravel().tolist()} <= {type(None), bool, int, float, str}


def pack_long(values: NDArray[Any]) -> list[Any]:
    """Distinct labels, the number of each item's label, and floats apart: their number is -1."""
    labels: dict[Any, int] = {}
    codes, floats = np.full(values.size, -1, dtype=np.int32), []
    for i, item in enumerate(values.ravel().tolist()):
        if type(item) is float:
            floats.append(item)
        else:
            codes[i] = labels.setdefault((type(item), item), len(labels))
    distinct = [label for _, label in labels]
    return [values.dtype.str, list(values.shape), distinct, codes, np.array(floats, dtype=float)]


def unpack_long(content: list[Any]) -> NDArray[Any]:
    """Turn back what `pack_long` returned."""
    dtype, shape, labels, codes, floats = content
    values, coded = np.empty(len(codes), dtype=object), codes >= 0
    values[coded] = np.array(labels, dtype=object)[codes[coded]]
    values[~coded] = floats
    return _typed(values, dtype).reshape(shape)


def dtype_of(text: str) -> np.dtype[Any]:
    """Return the dtype of a name, if it is one of plain data."""
    dtype = np.dtype(text) if type(text) is str else None
    if dtype is None or dtype.kind not in "biufOU":
        raise ValueError(f"{text!r} is not a type that this version knows")
    return dtype


def unpack_scalar(content: list[Any]) -> Any:
    """Turn back a number or text of numpy; no text is wider than it is."""
    name, item = content
    dtype = dtype_of(name)
    if type(item) is not (str if dtype.kind == "U" else type(dtype.type(0).item())):
        raise ValueError(f"{item!r} is no {name}")
    return np.str_(item) if dtype.kind == "U" else dtype.type(item)


def is_scalar(value: Any) -> bool:
    """Tell numbers and texts of numpy."""
    return isinstance(value, np.generic) and (is_numeric(value.dtype) or value.dtype.kind == "U")


def is_mersenne(value: Any) -> bool:
    """Tell random states of the usual generator."""
    return (
        type(value) is np.random.RandomState
        and value.get_state(legacy=False)["bit_generator"] == "MT19937"
    )


def random_state(state: dict[str, Any]) -> np.random.RandomState:
    """Make a random state, once its state is checked."""
    inner = state["state"]
    if not 0 <= inner["pos"] <= 624 or inner["key"].shape != (624,):  # numpy does not look
        raise ValueError("the state of a RandomState is out of range")
    made = np.random.RandomState(0)
    made.set_state(state)
    return made
