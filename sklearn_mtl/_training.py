"""Training: what `fit` and `partial_fit` share, from X and y to fitted attributes."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import validate_data

from sklearn_mtl import _engine as engine
from sklearn_mtl import _recipe as recipes
from sklearn_mtl._batches import Batches
from sklearn_mtl._callbacks import OPTIONAL, Data, FitTasks
from sklearn_mtl._targets import EncodedTargets, TargetEncoder
from sklearn_mtl._validation import (
    InputReader,
    Source,
    as_input,
    check_weights,
    random_seed,
    split_rows,
)

__all__ = ["TrainingMixin"]


class _Plan(NamedTuple):
    """What a training is about, read and checked."""

    named: Any  # knows the column names of X
    encoder: TargetEncoder
    targets: EncodedTargets
    task_weights: NDArray[np.float64]
    reader: InputReader
    source: Source
    rows: NDArray[np.intp]
    held_out: NDArray[np.intp] | None
    recipe: recipes.Recipe
    seed: int


class TrainingMixin(CallbackSupportMixin):
    """Trains the estimator: the story behind its `fit` and `partial_fit`."""

    # What it finds there:
    tasks: Any
    loss: Any
    task_weights: Any
    class_weight: Any
    missing_values: Any
    input_shape: Any
    data_format: str
    trunk: Any
    head_hidden_units: int
    max_epochs: int | str
    batch_size: int | str
    learning_rate: float
    optimizer: Any
    weight_decay: float | str
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    warm_start: bool
    random_state: Any
    verbose: int
    device: str
    precision: str
    compile: bool
    net_params: dict[str, Any] | None

    # What it leaves there, beside the public attributes:
    _encoder: TargetEncoder
    _reader: InputReader
    net_: engine.TaskNet
    n_iter_: int
    history_: dict[str, NDArray[np.float64]]
    task_weights_: NDArray[np.float64]

    def _fit(
        self, data: Data, given: Data | None, classes: Any = None, is_stream: bool = False
    ) -> Self:
        """Train on `data`, with the validation data that the user has `given`."""
        goes_on = (is_stream or self.warm_start) and hasattr(self, "net_")
        built_by = self._built_by() if is_stream else None
        flows = goes_on and is_stream and self.net_.built_by == built_by  # with its optimizer
        plan = self._plan(data, given, classes, goes_on, is_stream)
        if flows:
            plan = plan._replace(task_weights=self.task_weights_)
        recipe, seed = plan.recipe, plan.seed
        batches = Batches(plan.source, *plan.targets, plan.rows, recipe, shuffle_seed=seed)
        valid, scored = self._validation(plan, data, given)
        learned = functools.partial(self._learned, plan)
        tasks = None if is_stream else FitTasks(self, data, scored, recipe.max_epochs, learned)
        with engine.seeded(seed, recipe.device):
            net = self._start(plan, batches, goes_on, flows)
            net.built_by = built_by
            engine.train(net, recipe, batches, valid, None if tasks is None else tasks.watch())
        del batches, valid  # room for the predictions
        attributes = learned(net)
        if goes_on and is_stream:
            now = attributes["history_"]
            hole = np.full_like(now["train_loss"], np.nan)  # no validation data any more
            attributes["history_"] = {
                name: np.concatenate([rows, now.get(name, hole)])
                for name, rows in self.history_.items()
            }
            attributes["n_iter_"] += self.n_iter_
        if tasks is not None:
            tasks.end(attributes)
        self._keep(attributes)
        return self

    def _plan(
        self, data: Data, given: Data | None, classes: Any, goes_on: bool, is_stream: bool
    ) -> _Plan:
        """Read and check what the training needs; what was learned before stays if it `goes_on`."""
        X, y, sample_weight = data
        inputs = as_input(X, estimator=self)
        named = self if goes_on else _with_names_of(self, X)
        self._require_targets(inputs, y)
        if goes_on:
            self._check_unchanged(classes)
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
            encoder, targets = self._encoder.encode_more(y, sample_weight, add=is_stream)
        else:
            # Copies, so that what the user changes later can be told.
            params = self.tasks, self.missing_values, self.class_weight
            encoder = TargetEncoder(*copy.deepcopy(params))
            targets = encoder.fit_encode(y, sample_weight, classes, more_comes=is_stream)
        task_weights = self._resolve_task_weights(encoder, targets)
        # A row counts as much as its heaviest target; a cell of weight 0 is but a hole.
        weight = check_weights(sample_weight, len(targets.weight), encoder.names).max(axis=1)
        seed = random_seed(self.random_state)
        if goes_on and is_stream:  # other shifts and shuffles than before
            seed = (seed + self.n_iter_) % 2**31
        rows, held_out = self._split(encoder, targets, weight, seed, inner=given is None)
        if goes_on:
            reader = self._reader
            reader.check_shape(inputs)
        else:
            shape = copy.copy(self.input_shape)
            reader = InputReader(shape, self.data_format, type(self).__name__)
            reader.fit(inputs, rows, weight[rows])
        recipe = self._recipe(reader, len(rows))
        if goes_on and (is_stream or self.precision == "auto"):
            recipe = recipe._replace(precision=engine.precision_of(self.net_))
        if is_stream:
            recipe = recipe._replace(max_epochs=1, is_stream=True)
        source = reader.of(inputs)
        return _Plan(
            named, encoder, targets, task_weights, reader, source, rows, held_out, recipe, seed
        )

    def _built_by(self) -> dict[str, str]:
        """Parameters that a net is built by, so that a change of them can be told."""
        names = (
            *("loss", "task_weights", "trunk", "head_hidden_units", "learning_rate", "optimizer"),
            *("weight_decay", "device", "precision", "net_params"),
        )
        return {name: repr(getattr(self, name)) for name in names}

    def _check_unchanged(self, classes: Any) -> None:
        """Refuse parameters by which y and X would be read in another way than before."""
        read_by = {
            "tasks": self._encoder.tasks,
            "missing_values": self._encoder.missing_values,
            "class_weight": self._encoder.class_weight,
            "input_shape": self._reader.input_shape,
            "data_format": self._reader.data_format,
        }
        for name, value in read_by.items():
            now = getattr(self, name)
            alike = name == "input_shape" and None not in (now, value) and [*now] == [*value]
            if repr(now) != repr(value) and not alike:
                raise ValueError(
                    f"{name} was changed from {value!r} to {now!r} since the last fit, so what was "
                    "learned cannot be trained further. Set it back, or fit anew with "
                    "warm_start=False."
                )
        self._encoder.check_declared(classes)

    def _start(self, plan: _Plan, batches: Batches, goes_on: bool, flows: bool) -> engine.TaskNet:
        """Return the net to train: a new one, or a copy of the one that learned before."""
        if flows:
            return engine.copied(self.net_, with_optimizer=True)
        bias = plan.encoder.constants(plan.targets)
        net = self._build_net(plan.recipe, plan.encoder, plan.reader, bias, plan.task_weights)
        engine.start_combiner(net, batches)  # before the weights are others
        if goes_on:
            try:
                engine.take_learned(net, self.net_)
            except ValueError as error:
                raise ValueError(
                    "trunk or head_hidden_units were changed since the last fit, and what was "
                    "learned does not fit into them. Set them back, or fit anew with "
                    "warm_start=False."
                ) from error
        return net

    def _learned(self, plan: _Plan, net: engine.TaskNet) -> dict[str, Any]:
        """Fitted attributes, if the training ends with this net."""
        raw, targets = engine.predict_raw(net, plan.source, plan.rows), plan.targets
        if len(plan.rows) < len(targets.values):
            targets = EncodedTargets(targets.values[plan.rows], targets.weight[plan.rows])
        if not plan.recipe.is_stream:
            engine.shift_outputs(net, plan.encoder.balance(raw, targets))
        noise_std = plan.encoder.noise_std(raw, targets)
        names = getattr(plan.named, "feature_names_in_", None)
        return self._attributes(net, plan.encoder, plan.reader, names, plan.task_weights, noise_std)

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
        train, valid = split_rows(
            targets.weight[rows] > 0,
            targets.values[rows][:, list(encoder.classes)],
            self.validation_fraction,
            encoder.names,
            np.random.default_rng(seed),
        )
        return rows[train], rows[valid]

    def _validation(
        self, plan: _Plan, data: Data, given: Data | None
    ) -> tuple[Batches | None, Data]:
        """Return validation data, if any, and the rows that callbacks see after an epoch."""
        if given is None:
            if plan.held_out is None:
                return None, data
            batches = Batches(plan.source, *plan.targets, plan.held_out, plan.recipe)
            return batches, data.part(plan.held_out)
        X, y, sample_weight = given
        if y is None:
            raise ValueError("X_val was passed without y_val. Pass y_val too.")
        validate_data(plan.named, X, reset=False, skip_check_array=True, ensure_2d=False)
        inputs = as_input(X, estimator=self)
        self._require_targets(inputs, y)
        plan.reader.check_shape(inputs)
        targets = plan.encoder.encode(y, sample_weight)
        rows = np.flatnonzero(targets.weight.any(axis=1))
        if len(rows) == 0:
            raise ValueError("y_val holds no observed target. Pass rows with observed targets.")
        return Batches(plan.reader.of(inputs), *targets, rows, plan.recipe), given

    def _recipe(self, reader: InputReader, n_rows: int) -> recipes.Recipe:
        """Parameters with every 'auto' resolved."""
        max_epochs, batch_size, precision = self.max_epochs, self.batch_size, self.precision
        images = len(reader.input_shape_) > 1
        if max_epochs == "auto":
            max_epochs = recipes.auto_max_epochs(n_rows, images)
        if batch_size == "auto":
            batch_size = recipes.auto_batch_size(n_rows, images)
        if precision == "auto":
            full_batch = n_rows <= int(batch_size)
            precision = recipes.auto_precision(self.trunk, reader.input_shape_, full_batch)
        weight_decay = self.weight_decay
        if isinstance(weight_decay, str):
            weight_decay = recipes.auto_weight_decay(self.optimizer, n_rows, images)
        return recipes.Recipe(
            max_epochs=int(max_epochs),
            batch_size=int(batch_size),
            learning_rate=self.learning_rate,
            optimizer=self.optimizer,
            weight_decay=weight_decay,
            device=recipes.resolve_device(self.device),
            precision=precision,
            verbose=int(self.verbose),
            net_params=self.net_params or {},
            patience=self.n_iter_no_change if self.early_stopping else None,
            tol=self.tol,
            compile=self.compile,
        )

    def _build_net(
        self,
        recipe: recipes.Recipe,
        encoder: TargetEncoder,
        reader: InputReader,
        bias: NDArray[np.float64],
        task_weights: NDArray[np.float64],
    ) -> engine.TaskNet:
        """Assemble the net for what the encoder and the reader have seen."""
        return engine.build_net(
            recipe,
            trunk=self.trunk,
            head_hidden_units=self.head_hidden_units,
            input_shape=reader.input_shape_,
            kinds=[task.kind for task in encoder.tasks_],
            n_outputs=encoder.n_outputs,
            loss_params=[kind.loss_params for kind in encoder.kinds_],
            bias=bias,
            loss=self.loss,
            task_weights=task_weights,
        )

    def _resolve_task_weights(
        self, encoder: TargetEncoder, targets: EncodedTargets
    ) -> NDArray[np.float64]:
        """One weight per task."""
        weights, names = self.task_weights, encoder.names
        if weights is None:
            return np.ones(len(names))
        if not isinstance(self.loss, str):
            raise ValueError(
                "task_weights is set, but loss is an object, which has weights of its own. "
                "Pass them to it, as in LogProd(weights=...), or pass loss as a name."
            )
        if isinstance(weights, str):  # 'n_observed'
            mass = targets.weight.sum(axis=0)
            return len(names) * mass / mass.sum()
        labels = weights.keys() if hasattr(weights, "keys") else ()  # of a dict, or a Series
        if isinstance(weights, Mapping) or any(isinstance(label, str) for label in labels):
            weights = dict(weights.items())
            unknown = [name for name in weights if name not in names]
            if unknown:
                raise ValueError(f"task_weights names unknown tasks {unknown}; known: {names}.")
            weights = [weights.get(name, 1.0) for name in names]
        try:
            weights = np.array(weights, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"task_weights={self.task_weights!r}: {error}.") from error
        if (
            not np.isfinite(weights).all()
            or weights.shape != (len(names),)
            or (weights < 0).any()
            or not weights.any()
        ):
            raise ValueError(
                f"task_weights={self.task_weights!r} does not fit. Pass {len(names)} weights >= 0, "
                f"not all 0, one per task: {names}."
            )
        return weights

    @staticmethod
    def _attributes(
        net: engine.TaskNet,
        encoder: TargetEncoder,
        reader: InputReader,
        names: NDArray[Any] | None,
        task_weights: NDArray[np.float64],
        noise_std: NDArray[np.float64],
    ) -> dict[str, Any]:
        """Fitted attributes of an estimator that holds `net`."""
        history = net.task_history()
        found = {
            "_encoder": encoder,
            "_reader": reader,
            "net_": net,
            "n_features_in_": math.prod(reader.sample_shape_),
            "tasks_": encoder.tasks_,
            "task_names_": encoder.names,
            "n_observed_": encoder.n_observed_,
            "n_applicable_": encoder.n_applicable_,
            "task_weights_": task_weights,
            "noise_std_": noise_std,
            "history_": history,
            "n_iter_": len(history["train_loss"]),
        }
        if names is not None:
            found["feature_names_in_"] = names
        classes = list(encoder.classes.values())
        if classes:
            found["classes_"] = classes[0] if len(classes) == 1 else classes
        return found

    def _keep(self, attributes: dict[str, Any]) -> None:
        """Set the fitted attributes, once nothing can fail any more."""
        for name in OPTIONAL:
            self.__dict__.pop(name, None)
        self.__dict__.update(attributes)


def _with_names_of(estimator: TrainingMixin, X: Any) -> TrainingMixin:
    """Return a copy that knows the column names of X; the original stays, as a fit may yet fail."""
    named = copy.copy(estimator)
    named.__dict__.pop("feature_names_in_", None)
    validate_data(named, X, reset=True, skip_check_array=True, ensure_2d=False)
    return named
