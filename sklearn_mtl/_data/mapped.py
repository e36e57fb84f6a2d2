"""Arrays whose memory is a file: what of it is soon read, and how another process finds it."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["is_found", "is_mapped", "mapping_of", "open_mapped", "place_of", "will_need"]

PAGE = mmap.PAGESIZE
NEAR_PAGES = 8  # pages in between that are read along rather than asked for apart


def mapping_of(array: Any) -> mmap.mmap | None:
    """Return the map of the file that an array stands in; None if it is in memory."""
    while isinstance(array, np.ndarray):
        array = array.base
    if isinstance(array, memoryview):
        array = array.obj
    return array if isinstance(array, mmap.mmap) else None


def is_mapped(X: Any) -> bool:
    """Tell arrays that stand in a file, such as `numpy.memmap` and views of it."""
    return isinstance(X, np.ndarray) and mapping_of(X) is not None


def will_need(array: NDArray[Any], rows: NDArray[np.intp]) -> None:
    """Let the system read rows of an array in a file at once, and not one page after the other.

    Parameters
    ----------
    array : ndarray
        Others than those in a file are left alone, and those whose rows do not stand in a row.
    rows : ndarray of int
        In any order.
    """
    file = mapping_of(array)
    if file is None or not hasattr(file, "madvise") or len(rows) == 0:  # as on Windows
        return
    step, size = array.strides[0], array[:1].nbytes
    if step < size or not array[:1].flags.c_contiguous:
        return
    start, rows = array.__array_interface__["data"][0] - _address(file), np.sort(rows)
    first = (start + rows * step) // PAGE
    last = (start + rows * step + size - 1) // PAGE
    apart = np.flatnonzero(first[1:] - last[:-1] > NEAR_PAGES)
    begins = first[np.concatenate([[0], apart + 1])].tolist()
    ends = last[np.concatenate([apart, [-1]])].tolist()
    for begin, end in zip(begins, ends, strict=True):
        file.madvise(mmap.MADV_WILLNEED, begin * PAGE, (end - begin + 1) * PAGE)


def is_found(array: NDArray[Any]) -> bool:
    """Tell whether another process can open the file of an array, and finds its values there."""
    return _owner(array) is not None


def place_of(array: NDArray[Any]) -> dict[str, Any]:
    """Return where an array stands, for `open_mapped` in another process.

    Raises
    ------
    ValueError
        If its file has no name, or its values may differ from those there.
    """
    owner, file = _owner(array), mapping_of(array)
    if owner is None or file is None:
        raise ValueError(
            "Other processes cannot open this memmap, which was made of a file without a path, or "
            "with mode='c'. Pass RowsOnDisk of np.memmap(path, mode='r', ...)."
        )
    low, high = np.lib.array_utils.byte_bounds(array)
    # The map begins at the last boundary of pages before the offset.
    begin = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
    file_place = {"filename": str(owner.filename), "offset": begin + low - _address(file)}
    layout = {"shape": array.shape, "dtype": array.dtype, "strides": array.strides}
    start = array.__array_interface__["data"][0] - low
    return {"file": file_place | {"shape": high - low}, "layout": layout | {"offset": start}}


def open_mapped(place: dict[str, Any]) -> NDArray[Any]:
    """Open what `place_of` has named."""
    try:
        memory: Any = np.memmap(mode="r", dtype=np.uint8, **place["file"])
    except ValueError as error:
        layout = place["layout"]
        raise ValueError(
            f"{place['file']['filename']} is smaller than it was when X was made: its rows "
            f"{layout['shape']} of {layout['dtype']} are not there any more. Make X anew from the "
            "file as it is."
        ) from error
    return np.ndarray(buffer=memory, **place["layout"])


def _owner(array: Any) -> Any:
    """Return the memmap that an array is a view of; None if others cannot open it."""
    while isinstance(array, np.ndarray) and not isinstance(array.base, mmap.mmap):
        array = array.base
    is_open = getattr(array, "filename", None) is not None and array.mode != "c"
    return array if is_open else None


def _address(file: mmap.mmap) -> int:
    return int(np.frombuffer(file, np.uint8).__array_interface__["data"][0])
