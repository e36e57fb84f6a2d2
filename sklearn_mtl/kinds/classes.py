"""Kinds of class: without an order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from sklearn_mtl.kinds.base import Kind, over_members
from sklearn_mtl.kinds.deciding import fault_of_threshold, find_threshold, scale_logits
from sklearn_mtl.kinds.values import are_numbers, as_column, first, is_hole, plain, positions
from sklearn_mtl.losses import CELL_LOSSES
from sklearn_mtl.losses.links import softmax

__all__ = ["ClassificationTarget"]

FloatArray = NDArray[np.float64]


class ClassificationTarget(Kind):
    """Classes without an order; raw outputs are logits.

    Parameters
    ----------
    categories : sequence of labels, optional
        All labels that there can be, each once; others are refused. By default those that are
        observed.
    threshold : float in (0, 1), str or callable, optional
        Of two classes, the probability of the second one from which on it is predicted. The name of
        a scorer of scikit-learn, or a metric ``(y_true, y_pred, sample_weight=...)`` of class
        codes, tunes it on rows that were not trained on. By default the most probable class is
        predicted.
    calibration : {'sigmoid'}, optional
        Make probabilities frequencies of rows that were not trained on, by a slope and shifts of
        the logits; weights of classes do not count.

    Attributes
    ----------
    classes_ : ndarray
        The categories, or else the observed labels, sorted.
    threshold_ : float or None
        As passed or tuned; None predicts the most probable class.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> from sklearn_mtl.kinds import ClassificationTarget
    >>> Task("defect", ClassificationTarget(["no", "yes"], threshold=0.2))
    Task('defect', ClassificationTarget(categories=('no', 'yes'), threshold=0.2))
    """

    cell_loss = CELL_LOSSES["classification"]
    is_class = True
    min_samples = 1
    categories: Sequence[Any] | None = None  # for kinds of others, whose constructor has no such
    threshold: float | str | Callable[..., float] | None = None
    calibration: str | None = None
    threshold_: float | None = None
    _listed: ClassVar[str] = "List each label once."

    def __init__(
        self,
        categories: Sequence[Any] | None = None,
        threshold: float | str | Callable[..., float] | None = None,
        calibration: str | None = None,
    ) -> None:
        if categories is not None and (fault := _fault_of(categories)):
            raise ValueError(f"categories={categories!r} {fault}. {self._listed}")
        if fault := fault_of_threshold(threshold):
            raise ValueError(
                f"threshold={threshold!r} {fault}. Use a probability, or what to tune it for, such "
                "as 'balanced_accuracy' or 'f1'."
            )
        if calibration is not None and calibration != "sigmoid":
            raise ValueError(f"calibration={calibration!r} is unknown. Use 'sigmoid' or None.")
        # A tuple, as arrays would not compare as one.
        self.categories = None if categories is None else tuple(plain(categories))
        self.threshold, self.calibration = threshold, calibration

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> ClassificationTarget:
        """Learn the classes of the observed `values`."""
        if self.categories is not None:
            self._refuse_strangers(values)
            values = np.concatenate([values, as_column(self.categories)])
        self.classes_ = self._sorted(values)
        self.n_outputs = len(self.classes_)
        if self.threshold is not None and self.n_outputs > 2:
            raise ValueError(
                f"threshold={self.threshold!r} is between two classes, and there are "
                f"{self.n_outputs}: {self.classes_.tolist()}. Leave it out, or make what it is to "
                "decide a column of its own."
            )
        number = self.threshold is not None and not self.needs_unseen
        self.threshold_ = float(self.threshold) if number else None  # type: ignore[arg-type]
        return self

    @property
    def is_tuned(self) -> bool:
        """Whether `threshold` is not a number."""
        return isinstance(self.threshold, str) or callable(self.threshold)

    @property
    def is_calibrated(self) -> bool:
        """Whether `calibration` is asked for."""
        return self.calibration is not None

    @property
    def needs_unseen(self) -> str:
        """Say which parameter needs rows that were not trained on, if it has not had any."""
        if self.calibration is not None:
            return f"calibration={self.calibration!r}"
        return f"threshold={self.threshold!r}" if self.is_tuned and self.threshold_ is None else ""

    def shrink(
        self, raw: FloatArray, codes: FloatArray, weight: FloatArray
    ) -> tuple[float, FloatArray]:
        """Slope and shift (n_outputs,) with which raw outputs predict new rows best.

        By `calibration`, if it is asked for: then the slope may be larger than 1.
        """
        if self.calibration is None:
            return super().shrink(raw, codes, weight)
        if len(np.unique(codes)) < 2:  # they say nothing of how sure to be
            return 1.0, np.zeros(self.n_outputs)
        logits = raw.reshape(-1, self.n_outputs)
        codes, weight = (np.repeat(values, raw.shape[1]) for values in (codes, weight))
        return scale_logits(logits, codes, weight)

    def tuned(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> ClassificationTarget:
        """Return the kind with the best threshold for rows that were not trained on."""
        if not self.is_tuned or len(self.classes_) < 2:
            return self
        kind = copy.copy(self)
        kind.threshold_ = find_threshold(self.proba(raw)[:, 1], codes, weight, self.threshold)
        return kind

    def _sorted(self, values: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.unique(values)
        except TypeError as error:
            types = {type(v).__name__: v for v in values}
            if len(types) == 1:
                ((name, label),) = types.items()
                raise ValueError(
                    f"labels such as {label!r}, of type {name}, have no order. Convert them to "
                    "text: column.astype(str)."
                ) from error
            of = ", ".join(f"{types[name]!r} of type {name}" for name in sorted(types))
            raise ValueError(
                f"labels of mixed types cannot be ordered: {of}. Convert them to one type."
            ) from error

    def labels_to_come(self, order: Sequence[Any] | None) -> NDArray[Any]:
        """Labels that are known before any is observed.

        Parameters
        ----------
        order : sequence of labels, or None
            Labels as y's type orders them; None if it does not.

        Returns
        -------
        labels : ndarray of shape (n_labels,)
            None of them, if none is known.
        """
        return as_column(self.categories or ())

    def check(self, values: NDArray[Any]) -> None:
        """Refuse strings where `fit` saw numbers, and numbers where it saw strings."""
        if len(values) and are_numbers(values) != are_numbers(self.classes_):
            raise ValueError(
                f"y holds labels like {first(values)!r}, but fit saw {self.classes_.tolist()}. "
                "Pass labels of the same type."
            )
        self._refuse_strangers(values)

    def _refuse_strangers(self, values: NDArray[Any]) -> None:
        """Refuse labels that are not among the categories, if these were passed."""
        if self.categories is None:
            return
        strangers = values[positions(as_column(self.categories), values) < 0]
        if len(strangers):
            alike = are_numbers(strangers) == are_numbers(as_column(self.categories))
            mend = (
                "List all labels that there can be." if alike else "Pass labels of the same type."
            )
            raise ValueError(
                f"y holds labels {self._sorted(strangers).tolist()} that are not among the "
                f"categories {list(self.categories)}. {mend}"
            )

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Class codes of observed `values`; -1 for a label that was not seen in `fit`."""
        return positions(self.classes_, values)

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor: the log of the class frequencies."""
        return np.log(self._frequencies(codes, weight))

    def _frequencies(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Class frequencies, none of them 0."""
        frequency = np.bincount(codes.astype(int), weights=weight, minlength=len(self.classes_))
        # Classes without weight get half an observation, so that the logarithm exists.
        return np.maximum(frequency / weight.sum(), 0.5 / (len(codes) + 1))

    def link(self, raw: Any) -> Any:
        """Class probabilities (..., n_classes)."""
        return softmax(raw)

    def proba(self, raw: FloatArray) -> FloatArray:
        """Class probabilities, averaged over ensemble members.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M members.

        Returns
        -------
        proba : ndarray of shape (n, n_classes)
            In the order of `classes_`.
        """
        return over_members(self.link(raw))

    def strangeness(self, proba: FloatArray) -> FloatArray:
        """Say how strange each class would be: how improbable it is.

        Of all sets that hold the true class with a given probability, those of the classes that are
        less strange than a threshold are the smallest in the mean [1]_.

        Parameters
        ----------
        proba : ndarray of shape (n, n_classes)
            Class probabilities.

        Returns
        -------
        strange : ndarray of shape (n, n_classes)
            From 0 to 1.

        References
        ----------
        .. [1] M. Sadinle, J. Lei, L. Wasserman, "Least Ambiguous Set-Valued Classifiers With
           Bounded Error Levels", Journal of the American Statistical Association 114, 2019.
        """
        return 1 - proba

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Return the class that `decode_mean` does."""
        return self.decode_mean(self.proba(raw))

    def decode_mean(self, proba: FloatArray) -> NDArray[Any]:
        """Return the most probable class, or the second of two from `threshold_` on."""
        if self.threshold_ is None or proba.shape[1] < 2:
            return self.classes_[proba.argmax(axis=1)]
        return self.classes_[(proba[:, 1] >= self.threshold_).astype(int)]

    @property
    def metric(self) -> Callable[..., float]:
        """Accuracy."""
        return accuracy_score

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Class codes: metrics do not take every type that a label may have."""
        return self.encode(values)


def _fault_of(categories: Any) -> str:
    """Say why these are not labels, each of them once, if they are not."""
    if isinstance(categories, (str, bytes, set, frozenset, Mapping)):  # which have no order
        return "is not understood"
    try:
        labels = list(categories)
        if any(map(is_hole, labels)):
            return "holds a missing value, which is no label"
        if len(set(labels)) < len(labels):
            return "holds a label twice"
        return "" if labels else "is empty"
    except TypeError:  # no collection, or of labels that cannot be compared
        return "is not understood"
