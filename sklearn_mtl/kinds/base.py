"""`Kind`: all that is to be said of a kind of target, in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from sklearn_mtl._identity import identity
from sklearn_mtl.kinds.scores import masked_score
from sklearn_mtl.losses import KindLoss

__all__ = ["Kind", "over_members"]

FloatArray = NDArray[np.float64]


class Kind:
    """Base of all kinds.

    A kind says how a cell is measured (`cell_loss`), what raw outputs mean (`link` and `units`,
    from which predictions and ONNX graphs are made), and how predictions are scored (`metric`). It
    is fitted on the observed targets of one task. It overrides `fit`, `encode`, `constant`, `link`
    and `metric`, and the rest where it needs to. Arrays hold observed targets only; weights are
    positive. Kinds of class derive from `ClassificationTarget`.

    Two kinds are equal if they are of one class and have equal parameters, fitted or not.

    Attributes
    ----------
    cell_loss : KindLoss
        Loss of a cell, in each family of losses.
    n_outputs : int
        Raw outputs that the network has for the task.
    is_class : bool
        Whether it predicts probabilities of `classes_`.
    is_mean : bool
        Whether predictions are expected values, so that their product with the probability that
        the target applies is one too (``conditional_output='expected'``).
    least_squares : bool
        Whether the first raw output is what a regression by least squares on the codes would
        predict.
    scale_output : int
        Raw output that says most of how large errors are, from which intervals get their width.
    min_samples : int
        Observed targets that the metric needs.
    is_ordered : bool
        Whether `classes_` go from low to high.
    bounds : tuple of float
        Between which numbers lie.
    errs_by_ratio : bool
        Whether errors of numbers are measured by the logarithm of target over prediction.

    Examples
    --------
    >>> from sklearn_mtl.kinds import KINDS, Kind
    >>> all(issubclass(kind, Kind) for kind in KINDS.values())
    True
    """

    cell_loss: ClassVar[KindLoss]
    n_outputs: int = 1
    is_class: ClassVar[bool] = False
    is_mean: ClassVar[bool] = False
    least_squares: ClassVar[bool] = False
    scale_output: ClassVar[int] = 0
    min_samples: ClassVar[int] = 2
    is_ordered: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    errs_by_ratio: ClassVar[bool] = False

    # -- y to codes --------------------------------------------------------------------------

    def fit(
        self, values: NDArray[Any], weight: FloatArray, order: Sequence[Any] | None = None
    ) -> Kind:
        """Learn from observed targets.

        It refuses what `check` does, by calling it where that needs nothing of the fit.

        Parameters
        ----------
        values, weight : ndarray of shape (n,)
            Observed targets, and their weights.
        order : sequence of labels, default=None
            Labels as y's type orders them.

        Returns
        -------
        self : Kind
            The kind itself.
        """
        raise NotImplementedError

    def check(self, values: NDArray[Any]) -> None:
        """Refuse values that this kind cannot hold.

        Parameters
        ----------
        values : ndarray of shape (n,)
            Targets, observed.
        """

    def encode(self, values: NDArray[Any]) -> FloatArray:
        """Turn targets into what the network learns from.

        Parameters
        ----------
        values : ndarray of shape (n,)
            Observed targets.

        Returns
        -------
        codes : ndarray of shape (n,)
            Numbers.
        """
        raise NotImplementedError

    def ordered(self, order: Sequence[Any] | None) -> Kind:
        """Return the kind for which this is the order of the labels, where it needs one.

        Parameters
        ----------
        order : sequence of labels, or None
            Labels as y's type orders them; None if it does not.

        Returns
        -------
        kind : Kind
            The kind itself where it has an order, or needs none.
        """
        return self

    @property
    def needs_unseen(self) -> str:
        """Say what of the kind is found on rows that were not trained on, and only there."""
        return ""

    @property
    def is_tuned(self) -> bool:
        """Whether it decides by what is best on rows that were not trained on."""
        return False

    @property
    def is_calibrated(self) -> bool:
        """Whether weights of classes are to leave its probabilities alone."""
        return False

    # -- loss --------------------------------------------------------------------------------

    @property
    def loss_params(self) -> dict[str, float]:
        """Numbers that the losses of this kind take as keyword arguments."""
        return {}

    def constant(self, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Raw outputs of the best constant predictor.

        Parameters
        ----------
        codes, weight : ndarray of shape (n,)
            Targets, as `encode` returns them, and their weights.

        Returns
        -------
        raw : ndarray of shape (n_outputs,)
            The same for all rows.
        """
        raise NotImplementedError

    def balance(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> FloatArray:
        """Shift of the raw outputs, with which training ends.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M ensemble members, of trained rows.
        codes, weight : ndarray of shape (n,)
            Targets, as `encode` returns them, and their weights.

        Returns
        -------
        shift : ndarray of shape (n_outputs,)
            What is added to them.
        """
        return np.zeros(self.n_outputs)

    def shrink(
        self, raw: FloatArray, codes: FloatArray, weight: FloatArray
    ) -> tuple[float, FloatArray]:
        """Slope and shift with which raw outputs predict new rows best.

        What cannot be predicted is shrunk to the constant predictor, and then balanced.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M ensemble members, of rows that were not trained on.
        codes, weight : ndarray of shape (n,)
            Targets, as `encode` returns them, and their weights.

        Returns
        -------
        slope : float in [0, 1]
            By which raw outputs are multiplied.
        shift : ndarray of shape (n_outputs,)
            What is added then.
        """
        center = self.constant(codes, weight)
        if raw.size == 0:  # a single ordered class has no output at all
            return 1.0, np.zeros_like(center)
        target = torch.from_numpy(np.broadcast_to(codes[:, None, None], (*raw.shape[:2], 1)).copy())
        params = {name: torch.tensor([value]) for name, value in self.loss_params.items()}
        away, total = raw - center, weight.sum()

        def loss(slope: float) -> float:
            shrunk = torch.from_numpy(center + slope * away).unsqueeze(2)
            cells = self.cell_loss.likelihood(shrunk, target, **params)
            return float((cells.mean(dim=(1, 2)).numpy() * weight).sum() / total)

        found = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-3})
        losses = {float(found.x): found.fun, 0.0: loss(0.0), 1.0: loss(1.0)}
        slope = min(losses, key=losses.__getitem__)
        balanced = self.balance(center + slope * away, codes, weight)
        return slope, (1 - slope) * center + balanced

    def tuned(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> Kind:
        """Return the kind, or a copy that decides best on rows that were not trained on.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M ensemble members, of rows that were not trained on.
        codes, weight : ndarray of shape (n,)
            Targets, as `encode` returns them, and their weights.

        Returns
        -------
        kind : Kind
            The kind itself where there is nothing to decide.
        """
        return self

    def noise_std(self, raw: FloatArray, codes: FloatArray, weight: FloatArray) -> float:
        """Return the standard deviation of what is not explained, in the units of y.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M ensemble members, of rows that were not trained on.
        codes, weight : ndarray of shape (n,)
            Targets, as `encode` returns them, and their weights.

        Returns
        -------
        std : float
            NaN for what has none, such as classes.
        """
        return float("nan")

    # -- raw outputs to y --------------------------------------------------------------------

    @property
    def units(self) -> tuple[float, float]:
        """Scale and shift that turn the mean of `link` over members into the units of y."""
        return 1.0, 0.0

    def link(self, raw: Any) -> Any:
        """Turn raw outputs into numbers, or probabilities of classes.

        Parameters
        ----------
        raw : Tensor or ndarray of shape (..., n_outputs)
            Raw outputs.

        Returns
        -------
        mean : Tensor or ndarray of shape (...), or (..., n_classes)
            Of the type of `raw`; with a last axis for kinds of class.
        """
        raise NotImplementedError

    def decode(self, raw: FloatArray) -> NDArray[Any]:
        """Turn raw outputs of ensemble members into predictions.

        Parameters
        ----------
        raw : ndarray of shape (n, M, n_outputs)
            Raw outputs of M members.

        Returns
        -------
        y_pred : ndarray of shape (n,)
            In the units, or the labels, of y.
        """
        return self.decode_mean(over_members(self.link(raw)))

    def decode_mean(self, mean: FloatArray) -> NDArray[Any]:
        """Turn what `link` gives, averaged over members, into predictions.

        Parameters
        ----------
        mean : ndarray of shape (n,) or (n, n_classes)
            Means over members.

        Returns
        -------
        y_pred : ndarray of shape (n,)
            In the units, or the labels, of y.
        """
        scale, shift = self.units
        return np.asarray(mean * scale + shift)

    # -- score -------------------------------------------------------------------------------

    @property
    def metric(self) -> Callable[..., float]:
        """Default metric ``(y_true, y_pred, sample_weight=None) -> float``, higher is better."""
        raise NotImplementedError

    def measured(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn true or predicted values into what `metric` takes.

        Parameters
        ----------
        values : ndarray of shape (n,)
            In the units, or the labels, of y.

        Returns
        -------
        measured : ndarray of shape (n,)
            The same values, where nothing has to be done.
        """
        return values

    def score(
        self, y_true: NDArray[Any], y_pred: NDArray[Any], weight: FloatArray, name: str
    ) -> float:
        """Score predictions of observed targets, by `metric`.

        Parameters
        ----------
        y_true, y_pred, weight : ndarray of shape (n,)
            Observed targets, predictions of them, and their weights.
        name : str
            Of the task, for errors and warnings.

        Returns
        -------
        score : float
            Higher is better; NaN of fewer than `min_samples` targets.
        """
        return masked_score(
            self.metric,
            self.measured(y_true),
            self.measured(y_pred),
            sample_weight=weight,
            min_samples=self.min_samples,
            name=name,
        )

    # -- identity ----------------------------------------------------------------------------

    def params(self) -> dict[str, Any]:
        """Return the parameters of the constructor, which keeps them under their names.

        Returns
        -------
        params : dict of str to object
            By their names.
        """
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    def __eq__(self, other: object) -> bool:
        """Tell whether the other one is of the same class, with equal parameters."""
        return (
            isinstance(other, Kind)
            and type(self) is type(other)
            and identity(self.params()) == identity(other.params())
        )

    def __hash__(self) -> int:
        """Return the same for all of a class, as parameters need not have a hash."""
        return hash(type(self))

    def __repr__(self) -> str:
        """Show the class, and parameters that are not None."""
        params = [f"{k}={v!r}" for k, v in self.params().items() if v is not None]
        return f"{type(self).__name__}({', '.join(params)})"


def over_members(values: NDArray[Any]) -> NDArray[Any]:
    """Mean over the members of an ensemble, the second axis; of one member, the values."""
    return values[:, 0] if values.shape[1] == 1 else np.asarray(values.mean(axis=1))
