"""What a training leaves: one frozen object that predicts, decodes and scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils._available_if import _AvailableIfDescriptor
from sklearn.utils.validation import check_is_fitted

from sklearn_mtl._data.fused import as_inputs
from sklearn_mtl._data.inputs import InputReader, Source
from sklearn_mtl._data.on_disk import is_stored, lazily
from sklearn_mtl._data.refusals import rows_beside_y
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tree import TaskList
from sklearn_mtl._fitted_module import FittedModule
from sklearn_mtl._intervals import Errors
from sklearn_mtl._predict import predict_raw
from sklearn_mtl._score import score_columns

__all__ = [
    "OPTIONAL",
    "Fitted",
    "available_if",
    "fit_name",
    "fitted_of",
    "innermost",
    "steps_to",
    "there_is",
    "through",
    "to_be_cut",
]

FloatArray = NDArray[np.float64]
Method = TypeVar("Method", bound=Callable[..., Any])

# Standard deviations from the mean, above which outputs that are not finite are the fault of X.
FAR = 1e4

# Outputs of members that `decode` holds at once.
OUTPUTS = 2**24

# Public attributes that not every fit sets.
OPTIONAL = (
    *("classes_", "feature_names_in_", "thresholds_"),
    *("oob_prediction_", "oob_decision_function_", "oob_score_"),
)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What was learned from X and y.

    Attributes
    ----------
    encoder : TargetEncoder
        Tasks, kinds and gates; between y and what the network learns from.
    reader : InputReader
        Between X and what the network takes.
    net : skorch.NeuralNet
        Trained. Its module is what computes.
    task_weights : ndarray of shape (n_tasks,)
        Resolved.
    noise_std : ndarray of shape (n_tasks,)
        In the units of y, NaN for kinds without.
    history : dict of str to ndarray of shape (n_iter, n_tasks)
        Losses and weights per epoch.
    oob : dict of str to object
        Attributes about rows that members of an ensemble have left out; empty where they did not.
    errors : dict of str to ndarray
        Of rows that were left out or held out, by which intervals are made; empty without such.
    built_by : dict of str to object
        Identity of the parameters that the net was built by, so that a change of them can be told.
        Empty after `fit`, and `load` of a file without the optimizer: the next `partial_fit` starts
        one of its own.
    """

    encoder: TargetEncoder
    reader: InputReader
    net: Any
    task_weights: FloatArray
    noise_std: FloatArray
    history: dict[str, FloatArray]
    oob: dict[str, Any]
    errors: Errors
    built_by: dict[str, Any]

    @property
    def n_iter(self) -> int:
        """Number of epochs."""
        return len(self.history["train_loss"])

    @property
    def best_epoch(self) -> int | None:
        """Epoch, from 1, with the best objective on rows left out, or else on validation data.

        None without such, and where the net does not know the epochs: after `load`, or a stream.
        """
        epochs = getattr(self.net, "history", ())
        if len(epochs) == self.n_iter:
            for loss in ("oob_loss", "valid_loss"):
                values = [epoch.get(loss, math.inf) for epoch in epochs]
                if min(values) < math.inf:
                    return values.index(min(values)) + 1
        return None

    def raw(self, X: Any, embed: bool = False) -> NDArray[np.floating[Any]]:
        """Check X, and run the network on it, in its own precision.

        Returns
        -------
        raw : ndarray of shape (n, n_outputs) or (n, M, n_outputs)
            Outputs of all tasks side by side; or, to `embed`, the representation (n, F).
        """
        source, n_rows = self._opened(X)
        return self._raw(source, range(n_rows), embed)

    def _opened(self, X: Any) -> tuple[Source, int]:
        """Check X; return its samples by index, and how many there are."""
        inputs = as_inputs(X)
        self.reader.check_names(X)
        self.reader.check_shape(inputs)
        return self.reader.of(inputs, to_predict=True), inputs.shape[0]

    def _raw(self, source: Source, rows: range, embed: bool = False) -> NDArray[np.floating[Any]]:
        """Run the network on some rows."""
        net = self.net
        raw = predict_raw(net.module_, source, rows, net.device, net.amp_dtype_, embed)
        finite = np.isfinite(raw)
        if not finite.all():
            bad = rows.start + np.flatnonzero(~finite.all(axis=tuple(range(1, raw.ndim))))
            first = bad[:5]
            far = np.nanmax(np.abs((source.read(first) - source.mean) / source.scale)) > FAR
            why = (
                "their values are too far from those of the training rows to be computed with. "
                "Check X."
                if far
                else "their values are like those of the training rows. Check what the trunk does."
            )
            raise ValueError(
                f"The network's output is not finite in {len(bad)} rows of X, the first "
                f"{first.tolist()}: {why}"
            )
        return raw

    def as_module(self, task: str | None = None) -> FittedModule:
        """Return a module from X to the predictions of all tasks, or one; it shares nothing."""
        network = getattr(self.net.module_, "_orig_mod", self.net.module_)  # not as compiled
        encoder = self.encoder
        return FittedModule(network, self.reader, encoder.names, encoder.kinds_, task)

    def decode(self, X: Any, conditional: str = "estimate") -> list[NDArray[Any]]:
        """Predict every task: labels and numbers (n,) in the units of y.

        Of many rows and tasks, outputs of all members would be much larger than y: rows in turn.
        """
        source, n_rows = self._opened(X)
        n_outputs = sum(self.encoder.n_outputs) * max(1, self.net.module_.n_folds)
        step = max(1, OUTPUTS // max(1, n_outputs))
        parts = [
            self.encoder.decode(self._raw(source, range(at, min(at + step, n_rows))), conditional)
            for at in range(0, n_rows, step)
        ]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """Score every task on its observed targets, by the metric of its kind."""
        encoder, found = self.encoder, self.decode(X)
        rows_beside_y(X, len(found[0]), y)
        columns, weight = encoder.read(y, sample_weight)
        return score_columns(encoder.names, encoder.kinds_, columns, found, weight)

    def score_task(self, k: int, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score task `k` on a column y of its own."""
        name, kind = self.encoder.names[k], self.encoder.kinds_[k]
        found = kind.decode(self.encoder.part_of(self.raw(X), k))
        rows_beside_y(X, len(found), y)
        column, weight = self.encoder.read_task(k, y, sample_weight)
        return score_columns([name], [kind], [column], [found], weight[:, None])[name]

    # -- in and out of an estimator, and of a file -------------------------------------------

    def attributes(self) -> dict[str, Any]:
        """Fitted attributes of an estimator that holds it."""
        encoder, reader = self.encoder, self.reader
        attributes = {
            "_fitted": self,
            "net_": self.net,
            "n_features_in_": math.prod(reader.sample_shape_),
            "tasks_": TaskList.of(encoder),
            "task_names_": encoder.names,
            "n_observed_": encoder.n_observed_,
            "n_applicable_": encoder.n_applicable_,
            "task_weights_": self.task_weights,
            "noise_std_": self.noise_std,
            "n_iter_": self.n_iter,
            **self.oob,
        }
        if reader.feature_names_in_ is not None:
            attributes["feature_names_in_"] = reader.feature_names_in_
        classes = list(encoder.classes.values())
        if classes:
            attributes["classes_"] = classes[0] if len(classes) == 1 else classes
        found = zip(encoder.names, encoder.kinds_, strict=True)
        thresholds = {name: getattr(kind, "threshold_", None) for name, kind in found}
        if any(t is not None for t in thresholds.values()):
            attributes["thresholds_"] = {n: t for n, t in thresholds.items() if t is not None}
        return attributes

    def keep_in(self, estimator: Any) -> None:
        """Set the fitted attributes of an estimator, once nothing can fail any more.

        All at once: who asks in another thread sees those of before, or these.
        """
        attributes = self.attributes()
        vars(estimator).update(attributes)
        for name in set(OPTIONAL) - set(attributes):
            vars(estimator).pop(name, None)

    def state(self) -> dict[str, Any]:
        """All that a file holds of it besides the net."""
        names = [field.name for field in fields(self) if field.name not in ("net", "built_by")]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_state(
        cls, state: dict[str, Any], net: Any, built_by: dict[str, Any] | None = None
    ) -> Fitted:
        """Make it of a state, the net that belongs to it, and what that was built by."""
        return cls(net=net, built_by=built_by or {}, **state)


def fitted_of(estimator: Any) -> Fitted:
    """Return what a fitted estimator, or the last step of a pipeline or search, has learned.

    Raises
    ------
    TypeError
        If there is no `MultiTaskCNNEstimator` in it.
    NotFittedError
        If it is not fitted.
    """
    no_estimator = isinstance(estimator, type) or not hasattr(estimator, "fit")
    if not no_estimator:
        check_is_fitted(estimator)
    last = innermost(estimator)
    fitted = getattr(last, "_fitted", None)
    if no_estimator or not isinstance(fitted, Fitted):
        of = last if isinstance(last, type) else type(last)
        raise TypeError(
            f"{of.__qualname__} has no tasks. Pass a fitted MultiTaskCNNEstimator, a "
            "pipeline that ends in one, or a search over it that has refitted the best one."
        )
    return fitted


def innermost(estimator: Any) -> Any:
    """Last step of a pipeline, what a search found best, or the estimator itself."""
    return steps_to(estimator)[-1]


def steps_to(estimator: Any) -> list[Any]:
    """List the transformers that X goes through, and then the estimator behind them."""
    if isinstance(estimator, Pipeline):
        return [estimator[:-1]] * (len(estimator) > 1) + steps_to(estimator[-1])
    if isinstance(estimator, FrozenEstimator):
        return steps_to(estimator.estimator)
    best = getattr(estimator, "best_estimator_", None)
    return [estimator] if best is None else steps_to(best)


def through(estimator: Any, X: Any) -> Any:
    """X as it comes to the estimator, behind all transformers."""
    for transformer in steps_to(estimator)[:-1]:
        X = transformer.transform(X)
    return X


def to_be_cut(X: Any, estimator: Any) -> Any:
    """X in files as rows that are views, of which folds of a cross-validation hold no values.

    A memmap stays as it is before a pipeline: its transformers may calculate with it.
    """
    while not isinstance(estimator, Pipeline) and hasattr(estimator, "estimator"):  # a search
        estimator = estimator.estimator
    return X if isinstance(estimator, Pipeline) and not is_stored(X) else lazily(X)


def fit_name(estimator: Any, name: str) -> str:
    """Name by which `fit` hands a parameter on to the last step."""
    if not isinstance(estimator, Pipeline) or get_config()["enable_metadata_routing"]:
        return name
    return f"{estimator.steps[-1][0]}__{fit_name(estimator[-1], name)}"


class _Available(_AvailableIfDescriptor):
    """As that of scikit-learn, but it hands on why a method is not there."""

    def _check(self, obj: Any, owner: Any) -> None:
        self.check(obj)


def available_if(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Make a method one that is there unless `check` raises an AttributeError."""

    def decorated(method: Method) -> Method:
        return cast(Method, _Available(method, check, method.__name__))

    return decorated


def there_is(why_not: str | None) -> bool:
    """Raise an AttributeError that says why not, if there is a reason."""
    if why_not is not None:
        raise AttributeError(why_not)
    return True
