"""`MultiTaskCNNEstimator`: parameters, and fit / predict / score as short stories."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import Tags, check_array, check_consistent_length
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_mtl import _engine as engine
from sklearn_mtl._targets import EncodedTargets, TargetEncoder
from sklearn_mtl._validation import (
    InputReader,
    as_input,
    check_weights,
    random_seed,
    split_rows,
)
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.metrics import DEFAULT_METRICS, masked_score
from sklearn_mtl.networks import TRUNKS

__all__ = ["MultiTaskCNNEstimator"]


def _has_class_task(estimator: MultiTaskCNNEstimator) -> bool:
    check_is_fitted(estimator)
    if not any(task.kind == "classification" for task in estimator.tasks_):
        raise AttributeError("No task is a classification task, so there are no probabilities.")
    return True


class MultiTaskCNNEstimator(BaseEstimator):
    """TODO"""

    _parameter_constraints: dict[str, list[Any]] = {
        "tasks": [None, list, tuple, Mapping],
        "loss": [StrOptions(set(LOSSES)), callable],
        "task_weights": [None, StrOptions({"n_observed"}), "array-like", Mapping],
        "class_weight": [None, StrOptions({"balanced"}), Mapping],
        "missing_values": [None, Real, str],
        "conditional_output": [StrOptions({"estimate", "nan", "expected"})],
        "input_shape": [None, tuple, list],
        "data_format": [StrOptions({"channels_first", "channels_last"})],
        "trunk": [StrOptions({"auto", *TRUNKS}), HasMethods("build"), callable],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [str, callable],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "device": [str],
        "precision": [StrOptions({"auto", *engine.DTYPES})],
        "net_params": [None, dict],
    }

    def __init__(
        self,
        tasks: Any = None,
        *,
        loss: Any = "logprod",
        task_weights: Any = None,
        class_weight: Any = None,
        missing_values: Any = None,
        conditional_output: str = "estimate",
        input_shape: tuple[int, ...] | None = None,
        data_format: str = "channels_first",
        trunk: Any = "auto",
        max_epochs: int = 50,
        batch_size: int | str = "auto",
        learning_rate: float = 1e-3,
        optimizer: str | Callable[..., Any] = "AdamW",
        weight_decay: float = 1e-2,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        random_state: Any = None,
        verbose: int = 0,
        device: str = "auto",
        precision: str = "auto",
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.tasks = tasks
        self.loss = loss
        self.task_weights = task_weights
        self.class_weight = class_weight
        self.missing_values = missing_values
        self.conditional_output = conditional_output
        self.input_shape = input_shape
        self.data_format = data_format
        self.trunk = trunk
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.precision = precision
        self.net_params = net_params

    # -- fit ---------------------------------------------------------------------------------

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MultiTaskCNNEstimator:
        """DOC_FIT"""
        inputs, names = as_input(X, estimator=self), _feature_names(self, X)
        self._require_targets(inputs, y)
        encoder = TargetEncoder(self.tasks, self.missing_values, self.class_weight)
        targets = encoder.fit_encode(y, sample_weight)
        task_weights = self._resolve_task_weights(encoder)
        weight = check_weights(sample_weight, *targets.weight.shape).mean(axis=1)
        seed = random_seed(self.random_state)
        rows, held_out = self._split(encoder, targets, weight, seed, inner=X_val is None)
        reader = InputReader(self.input_shape, self.data_format, type(self).__name__)
        reader.fit(inputs, rows, weight[rows])
        recipe = self._recipe(reader, len(rows))
        batches = engine.Batches(reader.of(inputs), *targets, rows, recipe, shuffle_seed=seed)
        valid = None
        if X_val is not None:
            valid = self._validation(encoder, reader, recipe, X_val, y_val, sample_weight_val)
        elif held_out is not None:
            valid = engine.Batches(reader.of(inputs), *targets, held_out, recipe)
        with engine.seeded(seed, recipe.device):
            net = engine.build_net(
                recipe,
                trunk=self.trunk,
                input_shape=reader.input_shape_,
                kinds=[task.kind for task in encoder.tasks_],
                n_outputs=encoder.n_outputs,
                bias=encoder.constants(targets),
                loss=self.loss,
                task_weights=task_weights,
            )
            engine.train(net, recipe, batches, valid)
        self._keep(net, encoder, reader, names, task_weights)
        raw = engine.predict_raw(net, reader.of(inputs), rows, self.n_features_in_)
        self.noise_std_ = encoder.noise_std(raw, targets.values[rows], targets.weight[rows])
        return self

    def _require_targets(self, inputs: Any, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None."
            )
        check_consistent_length(inputs, y)

    def _split(
        self,
        encoder: TargetEncoder,
        targets: EncodedTargets,
        weight: NDArray[np.float64],
        seed: int,
        inner: bool,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp] | None]:
        """Rows to train on (those with weight), and rows held out for early stopping."""
        rows = np.flatnonzero(weight)
        if not (self.early_stopping and inner):
            return rows, None
        classes = [k for k, kind in enumerate(encoder.kinds_) if kind.is_class]
        train, valid = split_rows(
            targets.weight[rows] > 0,
            targets.values[np.ix_(rows, classes)],
            self.validation_fraction,
            encoder.names,
            np.random.default_rng(seed),
        )
        return rows[train], rows[valid]

    def _validation(
        self,
        encoder: TargetEncoder,
        reader: InputReader,
        recipe: engine.Recipe,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
    ) -> engine.Batches:
        """Validation data that the user brings."""
        inputs = as_input(X_val, estimator=self)
        self._require_targets(inputs, y_val)
        reader.check_shape(inputs)
        targets = encoder.encode(y_val, sample_weight_val)
        rows = np.flatnonzero(targets.weight.any(axis=1))
        if len(rows) == 0:
            raise ValueError("y_val holds no observed target. Pass rows with observed targets.")
        return engine.Batches(reader.of(inputs), *targets, rows, recipe)

    def _recipe(self, reader: InputReader, n_rows: int) -> engine.Recipe:
        """Parameters with every 'auto' resolved."""
        batch_size, precision = self.batch_size, self.precision
        if batch_size == "auto":
            batch_size = engine.auto_batch_size(n_rows)
        if precision == "auto":
            full_batch = n_rows <= int(batch_size)
            precision = engine.auto_precision(self.trunk, reader.input_shape_, full_batch)
        return engine.Recipe(
            max_epochs=self.max_epochs,
            batch_size=int(batch_size),
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            device=engine.resolve_device(self.device),
            precision=precision,
            verbose=int(self.verbose),
            net_params=self.net_params or {},
            patience=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
        )

    def _resolve_task_weights(self, encoder: TargetEncoder) -> NDArray[np.float64]:
        """One weight per task."""
        weights, names = self.task_weights, encoder.names
        if weights is None:
            return np.ones(len(names))
        if isinstance(weights, str):  # 'n_observed'
            return len(names) * encoder.n_observed_ / encoder.n_observed_.sum()
        if isinstance(weights, Mapping):
            unknown = [name for name in weights if name not in names]
            if unknown:
                raise ValueError(f"task_weights names unknown tasks {unknown}; known: {names}.")
            weights = [weights.get(name, 1.0) for name in names]
        weights = check_array(weights, ensure_2d=False, dtype=np.float64, input_name="task_weights")
        if weights.shape != (len(names),) or (weights < 0).any() or not weights.any():
            raise ValueError(
                f"task_weights={self.task_weights!r} does not fit. Pass {len(names)} weights >= 0, "
                f"not all 0, one per task: {names}."
            )
        return weights

    def _keep(
        self,
        net: engine.TaskNet,
        encoder: TargetEncoder,
        reader: InputReader,
        names: NDArray[Any] | None,
        task_weights: NDArray[np.float64],
    ) -> None:
        """Set the fitted attributes, once training has succeeded."""
        for name in ("classes_", "feature_names_in_"):
            self.__dict__.pop(name, None)
        self._encoder, self._reader = encoder, reader
        self.net_, self.module_ = net, net.module_
        self.n_features_in_ = int(np.prod(reader.sample_shape_))
        if names is not None:
            self.feature_names_in_ = names
        self.tasks_, self.task_names_ = encoder.tasks_, encoder.names
        classes = [kind.classes_ for kind in encoder.kinds_ if kind.is_class]
        if classes:
            self.classes_ = classes[0] if len(classes) == 1 else classes
        self.n_observed_, self.n_applicable_ = encoder.n_observed_, encoder.n_applicable_
        self.task_weights_ = task_weights
        self.history_ = net.task_history()
        self.n_iter_ = len(self.history_["train_loss"])

    # -- predict -----------------------------------------------------------------------------

    def predict(self, X: Any) -> NDArray[Any]:
        """DOC_PREDICT"""
        raw = self._raw(X)
        return self._encoder.matrix(self._encoder.decode(raw, self.conditional_output))

    def predict_frame(self, X: Any) -> Any:
        """DOC_PREDICT_FRAME"""
        raw = self._raw(X)
        columns = self._encoder.decode(raw, self.conditional_output)
        return self._encoder.frame(columns, index=getattr(X, "index", None))

    @available_if(_has_class_task)
    def predict_proba(self, X: Any) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """DOC_PREDICT_PROBA"""
        probabilities = list(self._encoder.probabilities(self._raw(X)).values())
        return probabilities[0] if len(probabilities) == 1 else probabilities

    def embed(self, X: Any) -> NDArray[np.float64]:
        """DOC_EMBED"""
        return self._raw(X, embed=True)

    def score_tasks(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, float]:
        """DOC_SCORE_TASKS"""
        raw = self._raw(X)
        check_consistent_length(raw, y)
        predictions, columns = self._encoder.decode(raw), self._encoder.read(y)
        weight = check_weights(sample_weight, len(predictions[0]), len(columns))
        scores = {}
        for k, task in enumerate(self.tasks_):
            metric, min_samples = DEFAULT_METRICS[task.kind]
            seen = columns[k].seen & (weight[:, k] > 0)
            scores[task.name] = masked_score(
                metric,
                columns[k].values[seen],
                predictions[k][seen],
                sample_weight=weight[seen, k],
                min_samples=min_samples,
                name=task.name,
            )
        return scores

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """DOC_SCORE"""
        scores = np.array(list(self.score_tasks(X, y, sample_weight).values()))
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")

    def _raw(self, X: Any, embed: bool = False) -> NDArray[np.float64]:
        """Check X, and run the network on it."""
        check_is_fitted(self)
        inputs = as_input(X, estimator=self)
        validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
        self._reader.check_shape(inputs)
        rows = np.arange(inputs.shape[0])
        return engine.predict_raw(
            self.net_, self._reader.of(inputs), rows, self.n_features_in_, embed
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.three_d_array = True
        return tags


def _feature_names(estimator: MultiTaskCNNEstimator, X: Any) -> NDArray[Any] | None:
    """Column names of a frame; found on a copy, as a fit that fails must leave no trace."""
    probe = copy.copy(estimator)
    probe.__dict__.pop("feature_names_in_", None)
    validate_data(probe, X, reset=True, skip_check_array=True, ensure_2d=False)
    return getattr(probe, "feature_names_in_", None)
