"""What a training is about: parameters, X and y, read and checked."""

from __future__ import annotations

import copy
from collections import deque
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.fused import as_inputs, reader_for
from sklearn_mtl._data.inputs import InputReader, Source
from sklearn_mtl._data.refusals import rows_beside_y
from sklearn_mtl._data.rows import Samples, check_groups, check_weights, hold_out_rows
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._fitted import Fitted
from sklearn_mtl._identity import identity
from sklearn_mtl._training.agreeing import agree, agreed_seed, layout
from sklearn_mtl._training.augmenting import Augmenter, augmenter_of
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.copies import precision_of
from sklearn_mtl._training.dealing import deal_rows, equal_rows, kept_together
from sklearn_mtl._training.group import Group, present_group
from sklearn_mtl._training.learning import learn_inputs
from sklearn_mtl._training.recipe import Recipe, resolve
from sklearn_mtl._training.weighing import resolve_task_weights
from sklearn_mtl.networks import folds_of

__all__ = [
    "Plan",
    "parameter_names",
    "parameters_of",
    "plan_fit",
    "plan_refit",
    "plan_stream",
    "validation_batches",
    "watched_tasks",
]

FloatArray = NDArray[np.float64]
RowIndex = NDArray[np.intp]


def parameter_names(kind: type) -> tuple[str, ...]:
    """Names of the parameters of a class of estimators and its bases: it may list fewer itself."""
    kinds: list[Any] = [k for k in kind.__mro__ if issubclass(k, BaseEstimator)]
    return tuple(sorted({name for k in kinds for name in k._get_param_names()}))


def parameters_of(estimator: Any) -> SimpleNamespace:
    """Return the parameters as they are now, and the name that errors call the estimator by."""
    names = [name for name in parameter_names(type(estimator)) if hasattr(estimator, name)]
    params = {name: getattr(estimator, name) for name in names}
    return SimpleNamespace(**params, estimator_name=type(estimator).__name__)


class Plan(NamedTuple):
    """What a training is about.

    Attributes
    ----------
    parameters : namespace
        As `parameters_of` returns them.
    encoder, targets
        What y is, and y encoded.
    task_weights : ndarray of shape (n_tasks,)
        Resolved.
    reader, source
        What X is, and X to be read by rows.
    rows : ndarray of int
        Rows to train on: those with weight and a target.
    held_out : ndarray of int or None
        Rows for early stopping.
    folds : ndarray of int or None
        Of each of the rows to train on, the fold; one member of an ensemble leaves it out.
    n_folds : int
        Number of folds, and of members; 0 for none.
    alike : ndarray of int or None
        Of each of the rows to train on, the group, which is in one fold: of equal rows, if the user
        has passed none.
    in_one_group : list of str
        Tasks all of whose targets are of one group, for whose sake no rows are left out.
    recipe : Recipe
        Every 'auto' resolved.
    seed : int
    augmenter : Augmenter or None
        Changes images in training.
    group : Group
        Of the processes that train together.
    """

    parameters: Any
    encoder: TargetEncoder
    targets: EncodedTargets
    task_weights: FloatArray
    reader: InputReader
    source: Source
    rows: RowIndex
    held_out: RowIndex | None
    folds: RowIndex | None
    n_folds: int
    alike: RowIndex | None
    in_one_group: list[str]
    recipe: Recipe
    seed: int
    augmenter: Augmenter | None
    group: Group

    @property
    def trained_targets(self) -> EncodedTargets:
        """Targets of the rows to train on."""
        if len(self.rows) == len(self.targets):
            return self.targets
        return self.targets.take(self.rows)

    def batches(self, order: np.random.Generator) -> Batches:
        """Rows to train on, in an order that is new in every pass."""
        return Batches(
            *(self.source, self.targets, self.rows, self.recipe),
            order=order,
            folds=self.folds,
            n_folds=self.n_folds,
            augmenter=self.augmenter,
            group=self.group,
        )


def plan_fit(
    parameters: Any,
    samples: Samples,
    classes: Any = None,
    *,
    more_comes: bool = False,
    hold_out: bool = False,
) -> Plan:
    """Plan a training from scratch: tasks, labels, means and scales are learned from the rows.

    Parameters
    ----------
    parameters : namespace
        As `parameters_of` returns them.
    samples : Samples
        X, y and weights.
    classes : object
        Labels that are yet to come, as in `partial_fit`.
    more_comes : bool
        Whether these are the first rows of a stream.
    hold_out : bool
        Whether some rows are held out for early stopping.
    """
    reader = reader_for(
        samples.X,
        copy.copy(parameters.input_shape),
        parameters.data_format,
        parameters.estimator_name,
        copy.deepcopy(parameters.standardize),
    )
    inputs = as_inputs(samples.X)
    reader.fit_names(samples.X)
    _require_targets(samples.X, inputs, samples.y, reader.estimator_name)
    # Copies, so that what the user changes later can be told.
    read_by = parameters.tasks, parameters.missing_values, parameters.class_weight
    encoder = TargetEncoder(*copy.deepcopy(read_by))
    targets = encoder.fit_encode(samples.y, samples.sample_weight, classes, more_comes)
    plan = _plan(
        *(parameters, samples, inputs, reader, encoder, targets, hold_out),
        learn_X=True,
        leave_out=not more_comes,
    )
    if more_comes:  # third values too, perhaps
        reader.forget_levels()
    return plan


def plan_refit(
    parameters: Any, samples: Samples, previous: Fitted, *, hold_out: bool = False
) -> Plan:
    """Plan a training that goes on from `previous`: what it has learned of X and y stays."""
    return _plan_on(parameters, samples, previous, None, add=False, hold_out=hold_out)


def plan_stream(
    parameters: Any, samples: Samples, previous: Fitted | None, classes: Any = None
) -> Plan:
    """Plan one pass over rows of which more may come."""
    if previous is None:
        plan = plan_fit(parameters, samples, classes, more_comes=True)
    else:
        plan = _plan_on(parameters, samples, previous, classes, add=True, hold_out=False)
        # Other shifts and shuffles than before.
        plan = plan._replace(seed=(plan.seed + previous.n_iter) % 2**31)
    return plan._replace(recipe=plan.recipe._replace(max_epochs=1))


def _plan_on(
    parameters: Any,
    samples: Samples,
    previous: Fitted,
    classes: Any,
    *,
    add: bool,
    hold_out: bool,
) -> Plan:
    """Plan by what `previous` knows of X and y; counts of targets `add` up, or begin anew."""
    reader = previous.reader.with_more()
    inputs = as_inputs(samples.X)
    _require_targets(samples.X, inputs, samples.y, reader.estimator_name)
    _check_unchanged(parameters, previous)
    previous.encoder.check_declared(classes)
    reader.check_names(samples.X)
    reader.check_shape(inputs)
    encoder, targets = previous.encoder.encode_more(samples.y, samples.sample_weight, add=add)
    plan = _plan(parameters, samples, inputs, reader, encoder, targets, hold_out, learn_X=False)
    if parameters.precision != "auto":
        return plan
    return plan._replace(recipe=plan.recipe._replace(precision=precision_of(previous.net)))


def _plan(
    parameters: Any,
    samples: Samples,
    inputs: Any,
    reader: InputReader,
    encoder: TargetEncoder,
    targets: EncodedTargets,
    hold_out: bool,
    learn_X: bool,
    leave_out: bool = False,
) -> Plan:
    """Sort the rows, and resolve the parameters."""
    task_weights = resolve_task_weights(parameters, encoder, targets)
    # A row weighs as much as its heaviest cell. A cell of weight 0 is but a hole.
    cells = check_weights(samples.sample_weight, len(targets), encoder.names)
    weight = cells.max(axis=1)
    group = present_group()
    groups = check_groups(samples.groups, len(weight))
    given = {"y, or its weights,": [vars(encoder), *targets.contents], "groups": groups}
    seed = agreed_seed(group, parameters, layout(reader, inputs) | given)
    rows, held_out = _split(parameters, encoder, targets, groups, seed, hold_out)
    known = _rows_of_X(weight, held_out)
    if learn_X:
        learn_inputs(reader, inputs, known, weight[known], parameters, group)
    else:
        reader.look_for_missing(inputs, known[group.share(len(known))], group.gather)
    source = reader.of(inputs)
    n_folds = folds_of(parameters.trunk, reader.input_shape_) if leave_out else 0
    folds: RowIndex | None = None
    alike: RowIndex | None = None
    in_one_group: list[str] = []
    if n_folds:
        alike = groups[rows] if groups is not None else None
        alike = equal_rows(reader, source, targets, rows, group) if alike is None else alike
        folds = deal_rows(encoder, targets, rows, alike, n_folds, seed)
        if groups is not None:
            # Of a task of one group, who leaves it out knows nothing.
            in_one_group = [encoder.names[k] for k in kept_together(folds, targets.take(rows))]
        if in_one_group:
            folds, n_folds = None, 0
    recipe = resolve(
        parameters, reader.input_shape_, len(rows), left_out=n_folds > 0, rank=group.local_rank
    )
    if group.rank:  # the first process prints for all
        recipe = recipe._replace(verbose=0)
    return Plan(
        *(parameters, encoder, targets, task_weights, reader, source),
        *(rows, held_out, folds, n_folds),
        *(alike, in_one_group, recipe, seed),
        augmenter_of(parameters, encoder, targets, reader.input_shape_),
        group,
    )


def validation_batches(plan: Plan, validation: Samples | None) -> Batches | None:
    """Batches of the validation data: those of the user, else the rows held out, if any."""
    if validation is None:
        if plan.held_out is None:
            return None
        return Batches(plan.source, plan.targets, plan.held_out, plan.recipe, group=plan.group)
    X, y, sample_weight, _ = validation
    reader = plan.reader
    if y is None:
        raise ValueError("X_val was passed without y_val. Pass y_val too.")
    reader.check_names(X)
    inputs = as_inputs(X, "X_val")
    rows_beside_y(X, inputs.shape[0], y, ("X_val", "y_val"))
    reader.check_shape(inputs, "X_val")
    encoder = plan.encoder
    if sample_weight is not None:
        check_weights(sample_weight, inputs.shape[0], encoder.names, "sample_weight_val")
    try:
        targets = encoder.encode(y, sample_weight)
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"y_val: {error}") from error
    agree(
        plan.group, layout(reader, inputs, "X_val") | {"y_val, or its weights,": targets.contents}
    )
    rows = np.flatnonzero(targets.any_seen)
    if len(rows) == 0:
        raise ValueError("y_val holds no observed target. Pass rows with observed targets.")
    source = reader.of(inputs, "X_val", to_predict=True)
    if any(source.ahead):  # what cannot be read is told before the training, as of X
        mine = rows[plan.group.share(len(rows))]
        deque(source.parts(reader.chunks(mine)), maxlen=0)
    return Batches(source, targets, rows, plan.recipe, group=plan.group)


def watched_tasks(plan: Plan, valid: Batches | None) -> torch.Tensor | None:
    """Tell which tasks say when to stop early; None for all."""
    watched = _watched(plan.parameters.early_stopping, plan.encoder.names)
    if valid is None or watched.all():
        return None
    watched &= ~plan.encoder.unobserved
    if not watched.any() or not (valid.targets.mass.cpu() > 0)[watched].all():
        raise ValueError("y_val holds no observed target of a task that early_stopping names.")
    return torch.from_numpy(watched)


def _watched(early_stopping: Any, names: list[str]) -> NDArray[np.bool_]:
    """Tell which tasks early stopping looks at: those that are named, or all."""
    if isinstance(early_stopping, bool | np.bool_):
        return np.ones(len(names), dtype=bool)
    chosen = [early_stopping] if isinstance(early_stopping, str) else list(early_stopping)
    if unknown := [name for name in chosen if name not in names]:
        raise ValueError(f"early_stopping names unknown tasks {unknown}; known: {names}.")
    return np.isin(names, chosen)


def _require_targets(X: Any, inputs: Any, y: Any, estimator_name: str) -> None:
    if y is None:
        raise ValueError(
            f"This {estimator_name} estimator requires y to be passed, but the target y is None."
        )
    rows_beside_y(X, inputs.shape[0], y)


def _check_unchanged(parameters: Any, previous: Fitted) -> None:
    """Refuse parameters by which y and X would be read in another way than before."""
    read_by = {
        "tasks": previous.encoder.tasks,
        "missing_values": previous.encoder.missing_values,
        "class_weight": previous.encoder.class_weight,
        "input_shape": previous.reader.input_shape,
        "data_format": previous.reader.data_format,
        "standardize": previous.reader.standardize,
    }
    for name, value in read_by.items():
        now = getattr(parameters, name)
        if identity(now) != identity(value):
            raise ValueError(
                f"{name} was changed from {value!r} to {now!r} since the last fit, so what was "
                "learned cannot be trained further. Set it back, or fit anew with "
                "warm_start=False."
            )


def _rows_of_X(weight: FloatArray, held_out: RowIndex | None) -> RowIndex:
    """Rows that tell what X is like: those to train on, and those with weight but no target."""
    known = weight > 0
    if held_out is not None:
        known[held_out] = False
    return np.flatnonzero(known)


def _split(
    parameters: Any,
    encoder: TargetEncoder,
    targets: EncodedTargets,
    groups: NDArray[np.intp] | None,
    seed: int,
    hold_out: bool,
) -> tuple[RowIndex, RowIndex | None]:
    """Rows to train on (those with a target and weight), and rows held out for early stopping."""
    rows = np.flatnonzero(targets.any_seen)
    if len(rows) == 0:  # all are of classes that weigh nothing
        raise ValueError("y holds no target of non-zero weight. Leave these rows out.")
    if not hold_out:
        return rows, None
    targets = targets.take(rows)
    watched = np.flatnonzero(_watched(parameters.early_stopping, encoder.names))
    train, valid = hold_out_rows(
        targets.seen(watched),
        np.array([targets.column(k) for k in encoder.classes if k in watched])
        .reshape(-1, len(rows))
        .T,
        parameters.validation_fraction,
        [encoder.names[k] for k in watched],
        np.random.default_rng(seed),
        None if groups is None else groups[rows],
    )
    return rows[train], rows[valid]
