"""What can be cut into rows as an array is, and reads nothing until it is asked for values."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from numbers import Integral, Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LazyRows", "RowView", "row_numbers"]


def row_numbers(rows: Any) -> NDArray[np.intp]:
    """Return numbers of rows as an array; masks and fractions are none.

    Raises
    ------
    IndexError
        If they are of another type, or not in one list.
    """
    if isinstance(rows, range):
        return np.arange(rows.start, rows.stop, rows.step, dtype=np.intp)
    numbers = np.asarray(rows)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise IndexError(f"Rows to take are integers, but these are {numbers.dtype}.")
    if numbers.ndim != 1:
        raise IndexError(f"Rows to take are one list, but these have the shape {numbers.shape}.")
    return numbers.astype(np.intp, copy=False)


class RowView(ABC):
    """Rows by a slice, by numbers or by a mask are of the same class; a number is one row."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @abstractmethod
    def _part(self, rows: Any) -> Any:
        """Return some rows, by a range or an array of numbers that are not negative."""

    @abstractmethod
    def _row(self, row: int) -> Any:
        """Return one row."""

    def __getitem__(self, key: Any) -> Any:
        """Return rows by a slice, numbers or a mask; one by its number."""
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:  # of scikit-learn
            key = key[0]
        n = len(self)
        if isinstance(key, slice):
            return self._part(range(n)[key])
        if isinstance(key, int | np.integer) and not isinstance(key, bool):
            if not -n <= key < n:
                raise IndexError(f"There is no row {key}, but {n} of them.")
            return self._row(int(key) % n)
        rows: Any = None if key is None or isinstance(key, tuple) else np.arange(n)[key]
        if rows is None or rows.ndim != 1:
            name = type(self).__name__
            raise IndexError(f"Rows of {name} are a number, a slice, numbers or a mask.")
        return self._part(rows)


class LazyRows(RowView):
    """A `RowView` that looks like an array: it has a shape and a type, and can become one.

    Attributes
    ----------
    shape : tuple of int
        Of an array in memory.
    dtype : dtype
        Of an array in memory.
    """

    dtype: np.dtype[Any]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """As of an array in memory."""

    @abstractmethod
    def take(self, rows: Any) -> NDArray[Any]:
        """Read some rows into an array.

        Parameters
        ----------
        rows : array-like of int, or range
            In any order, perhaps repeated.

        Returns
        -------
        values : ndarray of shape (len(rows), ...)
            In the order of `rows`.
        """

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all rows have in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __repr__(self) -> str:
        """Tell the shape."""
        return f"{type(self).__name__} of the shape {self.shape}"

    def __getitem__(self, key: Any) -> Any:
        """Return some rows, not yet read; or values as an array."""
        rows, *rest = (key or (slice(None),)) if isinstance(key, tuple) else (key,)
        beside = any(not isinstance(k, slice | Integral) and k is not Ellipsis for k in rest)
        if rows is Ellipsis or rows is None or beside:
            return np.asarray(self)[key]
        part = super().__getitem__(rows)
        if all(each is Ellipsis or each == slice(None) for each in rest):
            return part
        several = (slice(None),) if isinstance(part, LazyRows) else ()
        return np.asarray(part)[(*several, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all rows."""
        if copy is False:
            name = type(self).__name__
            raise ValueError(f"{name} cannot become an array without a copy.")
        values = self.take(range(len(self)))
        return values if dtype is None else values.astype(dtype, copy=False)

    # Arrays and numbers of numpy leave these to the methods below, and do not read all rows.
    __array_priority__ = 100.0

    def _calculate(self, *_: Any) -> Any:
        """Refuse, as the result would be all rows in memory."""
        raise TypeError(
            f"{type(self).__name__} has no arithmetic, as it is read by rows. Leave out scalings "
            "such as X / 255: fit learns means and scales of X by itself. For anything else, "
            "calculate with np.asarray(X), which reads all rows into memory; or pass RowsOnDisk "
            "of a class of your own, whose take(rows) calculates with the rows that it reads."
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _calculate
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _calculate
    __pow__ = __rpow__ = __matmul__ = __rmatmul__ = __neg__ = __abs__ = _calculate
    __lt__ = __le__ = __gt__ = __ge__ = _calculate

    def __eq__(self, other: object) -> bool:
        """Be equal to nothing else; refuse to compare values."""
        return self._calculate() if isinstance(other, np.ndarray | Number) else self is other

    __hash__ = object.__hash__

    def _row(self, row: int) -> Any:
        return self.take(np.array([row]))[0]
