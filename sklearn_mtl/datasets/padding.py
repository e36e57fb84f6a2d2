"""`SequencePad`: sequences of unequal length become one array, with a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

__all__ = ["SequencePad"]


# Sequences are no table: they have no names of columns, and `set_output` is not for them.
class SequencePad(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Pads sequences of unequal length to one, and adds a channel that says where they end.

    For a :class:`~sklearn_mtl.networks.SequenceTrunk`, to which the padding says nothing, neither
    in `fit` nor in predictions.

    Parameters
    ----------
    length : int, default=None
        Steps of all sequences in the end. None takes the longest one in `fit`.
    channels : {'first', 'last'}, default='first'
        Whether sequences have the shape (n_channels, n_steps) or (n_steps, n_channels). Those of
        one axis have one channel.

    Attributes
    ----------
    length_ : int
        Steps of all sequences.
    fill_ : ndarray of shape (n_channels,)
        Mean of each channel over all steps in `fit`, which is what sequences are padded with: other
        trunks, which see the padding, see nothing unusual there.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_mtl.datasets import SequencePad
    >>> X = SequencePad().fit_transform([np.array([1.0, 2.0, 6.0]), np.array([3.0])])
    >>> X.shape
    (2, 2, 3)
    >>> X[1]
    array([[3., 3., 3.],
           [1., 0., 0.]])
    """

    def __init__(self, length: int | None = None, *, channels: str = "first") -> None:
        self.length = length
        self.channels = channels

    def fit(self, X: Any, y: Any = None) -> SequencePad:
        """Learn the length, and what to pad with.

        Parameters
        ----------
        X : list of array-like of shape (n_channels, n_steps), (n_steps, n_channels) or (n_steps,)
            Sequences of numbers, each of at least one step.
        y : None
            Is not looked at.

        Returns
        -------
        self : SequencePad
            The fitted transformer.

        Raises
        ------
        ValueError
            If a sequence is longer than `length`.
        """
        parts = self._parts(X)
        self.length_ = self._length(max(part.shape[1] for part in parts))
        self._check_lengths(parts)
        self.fill_ = np.concatenate(parts, axis=1).mean(axis=1, dtype=np.float64)
        return self

    def transform(self, X: Any) -> NDArray[np.floating[Any]]:
        """Return the sequences in one array.

        Parameters
        ----------
        X : list of array-like of shape (n_channels, n_steps), (n_steps, n_channels) or (n_steps,)
            Sequences of numbers, each of at least one step.

        Returns
        -------
        padded : ndarray of shape (n_sequences, n_channels + 1, n_steps)
            Of float64, or float32 if all sequences are. The last channel is 1 at the steps of the
            sequence, and 0 behind them.

        Raises
        ------
        ValueError
            If a sequence is longer than `length_`, or has another number of channels than in `fit`.
        """
        check_is_fitted(self)
        parts = self._parts(X, len(self.fill_))
        self._check_lengths(parts)
        single = all(part.dtype == np.float32 for part in parts)
        dtype = np.float32 if single else np.float64
        padded = np.empty((len(parts), len(self.fill_) + 1, self.length_), dtype=dtype)
        padded[:, :-1] = self.fill_[:, None]
        padded[:, -1] = 0
        for row, part in zip(padded, parts, strict=True):
            row[:-1, : part.shape[1]] = part
            row[-1, : part.shape[1]] = 1
        return padded

    def __sklearn_tags__(self) -> Any:
        """Say that arrays of sequences have two axes or three."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _check_lengths(self, parts: Sequence[NDArray[Any]]) -> None:
        longer = [row for row, part in enumerate(parts) if part.shape[1] > self.length_]
        if longer:
            raise ValueError(
                f"X holds {len(longer)} sequences of more than {self.length_} steps, the first in "
                f"rows {longer[:5]}. Cut them, or pass a larger length="
                f"{max(part.shape[1] for part in parts)}."
            )

    def _length(self, longest: int) -> int:
        if self.length is None:
            return longest
        whole = isinstance(self.length, int | np.integer) and not isinstance(self.length, bool)
        if not whole or self.length < 1:
            raise ValueError(f"length={self.length!r} is no number of steps. Pass an int, or None.")
        return int(self.length)

    def _parts(self, X: Any, n_channels: int | None = None) -> Sequence[NDArray[Any]]:
        """Return the sequences as arrays of numbers, channels first."""
        if self.channels not in ("first", "last"):
            raise ValueError(f"channels={self.channels!r} does not exist. Use 'first' or 'last'.")
        if hasattr(X, "toarray"):
            raise TypeError(f"X is a sparse {type(X).__name__}. Pass a list of sequences.")
        if hasattr(X, "columns") and X.shape[1] == 1:
            X = X[X.columns[0]]
        elif hasattr(X, "__array__") and not isinstance(X, Iterable):
            X = np.asarray(X)
        if not isinstance(X, Iterable) or hasattr(X, "columns"):
            raise ValueError(f"X is a {type(X).__name__}. Pass a list of sequences.")
        parts = []
        for row, sequence in enumerate(X):
            part = _array(sequence, row)
            if part.ndim == 1:
                part = part[None]
            elif self.channels == "last":
                part = part.T
            n_channels = len(part) if n_channels is None else n_channels
            if len(part) != n_channels:
                raise ValueError(
                    f"Row {row} of X has {len(part)} channels, others have {n_channels}. "
                    "channels='last' reads (n_steps, n_channels), 'first' (n_channels, n_steps)."
                )
            if not np.isfinite(part).all():
                raise ValueError(
                    f"Row {row} of X holds NaN or infinity. Impute these values, or drop the steps."
                )
            parts.append(part)
        if not parts:
            raise ValueError("X holds no sequences. Pass at least one.")
        return parts


def _array(sequence: Any, row: int) -> NDArray[Any]:
    """Return a sequence as an array of numbers."""
    if hasattr(sequence, "detach"):  # of torch
        sequence = sequence.detach().cpu()
    try:
        part = np.asarray(sequence)
        if np.ma.is_masked(sequence):
            part = np.ma.filled(sequence.astype(float), np.nan)
        part = part.astype(np.float64) if part.dtype.kind == "O" else part
    except (TypeError, ValueError) as error:  # of numpy, about lists of unequal length, or text
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"Row {row} of X is no array of numbers: {error}.") from error
    if part.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: row {row} of X is {part.dtype}. Pass real and imaginary "
            "parts as channels."
        )
    if part.ndim == 0 and part.dtype.kind in "biuf":
        raise ValueError(
            f"Row {row} of X is a number, and no sequence. Reshape your data: X[None], or [X], if "
            "all of it is one sequence."
        )
    if part.dtype.kind not in "biuf" or part.ndim not in (1, 2) or part.size == 0:
        raise ValueError(
            f"Row {row} of X is {part.dtype} of the shape {part.shape}. Pass sequences of numbers, "
            "of one axis or two, and at least one step."
        )
    return part
