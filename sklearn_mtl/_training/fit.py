"""From parameters and data to what was learned: a fit, and a pass over rows of a stream."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.rows import Samples, weights_of_rows
from sklearn_mtl._data.sampling import SAMPLE_VALUES, spread_places
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import warn_together
from sklearn_mtl._fitted import Fitted
from sklearn_mtl._training.agreeing import agree
from sklearn_mtl._training.augmenting import resting
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.build import build_net, built_by, start_combiner
from sklearn_mtl._training.calibrate import calibrate
from sklearn_mtl._training.copies import copied, take_learned
from sklearn_mtl._training.ctrl_c import CtrlC
from sklearn_mtl._training.errors import (
    errors_left_out,
    errors_of_validation,
)
from sklearn_mtl._training.fingerprints import given_to, learned_by, made_of
from sklearn_mtl._training.fit_tasks import FitTasks
from sklearn_mtl._training.group import present_group, together
from sklearn_mtl._training.left_out import check_finite, out_of_bag, raw_left_out, raw_of
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.plan import (
    Plan,
    plan_fit,
    plan_refit,
    plan_stream,
    validation_batches,
    watched_tasks,
)
from sklearn_mtl._training.progress import Elsewhere, File, Progress, Store
from sklearn_mtl._training.random import Draws, undisturbed
from sklearn_mtl._training.run import rescale_outputs, run, run_one_pass, warn_of_constants
from sklearn_mtl._training.sharing import begin_alike
from sklearn_mtl._training.thawing import warn_of_frozen

__all__ = ["train", "train_on"]

LEARNED = "what was learned before, by fit or partial_fit,"
CLOSING_ROWS = 2**14  # of each task, where X has more values than `SAMPLE_VALUES`


@together
def train(
    parameters: Any,
    samples: Samples,
    previous: Fitted | None = None,
    *,
    ctrl_c: CtrlC,
    validation: Samples | None = None,
    listener: FitTasks | None = None,
    checkpoint: Store | None = None,
) -> Fitted:
    """Train a network over several epochs, with a schedule.

    Parameters
    ----------
    parameters : namespace
        Of the estimator, as `parameters_of` returns them.
    samples : Samples
        X, y and weights.
    previous : Fitted, optional
        What to go on from: its weights, and what it has learned of X and y.
    ctrl_c : CtrlC
        The context around this call, which knows of interrupts.
    validation : Samples, optional
        Validation data; without, early stopping holds some rows out.
    listener : FitTasks, optional
        Tells the callbacks of scikit-learn.
    checkpoint : Store, optional
        Where to keep how far the training is until it has ended, and to go on from.

    Returns
    -------
    fitted : Fitted
        A new one; `previous` stays as it was.
    """
    given = {"the method, fit or partial_fit,": "fit", "X_val, passed or not,": validation is None}
    agree(present_group(), given | {LEARNED: learned_by(previous)})
    hold_out = bool(parameters.early_stopping) and validation is None
    planned: Any = functools.partial(plan_fit, samples=samples, hold_out=hold_out)
    if previous is not None:
        planned = functools.partial(
            plan_refit, samples=samples, previous=previous, hold_out=hold_out
        )
    plan = planned(parameters)
    if checkpoint is None:
        return _trained(ctrl_c, plan, samples, previous, validation, listener)
    valid = None if validation is None else validation_batches(plan, validation)
    with _file_of(checkpoint, plan, lambda: given_to(plan, samples, valid, previous)) as file:
        saved = plan.group.leader(file.read)
        if saved is not None and parameters.random_state is None:
            plan = planned(SimpleNamespace(**vars(parameters) | {"random_state": saved.seed}))
        progress = Progress(file, plan.seed, made_of(plan), saved)
        fitted = _trained(ctrl_c, plan, samples, previous, validation, listener, progress)
        ctrl_c.check()
        file.remove()
    return fitted


def _file_of(
    checkpoint: Store, plan: Plan, given: Callable[[], dict[str, str]]
) -> contextlib.AbstractContextManager[File]:
    """Return the file of a fit: of several processes, the first one keeps it."""
    return contextlib.nullcontext(Elsewhere()) if plan.group.rank else checkpoint.of(given())


def _trained(
    ctrl_c: CtrlC,
    plan: Plan,
    samples: Samples,
    previous: Fitted | None,
    validation: Samples | None,
    listener: FitTasks | None,
    progress: Progress | None = None,
) -> Fitted:
    """Carry out a plan."""
    draws = Draws(plan.seed, plan.recipe.device)
    batches, valid = plan.batches(draws.order), validation_batches(plan, validation)
    needs = plan.encoder.needs_unseen()
    if plan.folds is None and valid is None:
        _check_unseen(plan, needs)
    learned = functools.partial(
        _learned, plan, samples, validation, valid if plan.encoder.uses_unseen else None
    )
    epochs = None
    if listener is not None:
        scored, rows = (samples, plan.held_out) if validation is None else (validation, None)
        epochs = listener.begin(samples, scored, rows, plan.recipe.max_epochs, learned)
    with undisturbed(plan.recipe.device):
        net = _new_net(plan, batches, previous, draws)
        net.watched_ = watched_tasks(plan, valid)
        if not plan.parameters.warm_start:  # more epochs may follow
            warn_of_frozen(net.module, plan.recipe.max_epochs)
        own = [callback for callback in (epochs, progress) if callback is not None]
        with resting(net.module, plan.augmenter):
            run(net, plan.recipe, batches, valid, own, plan.task_weights, draws, ctrl_c)
    was_stopped = net.interrupted_ or (epochs is not None and epochs.stopped)
    automatic = plan.parameters.max_epochs == "auto"
    if not was_stopped and (automatic or plan.folds is not None):
        warn_of_constants(net, plan.recipe, plan.task_weights, automatic and plan.folds is None)
    del batches, valid  # room for the predictions
    with draws.predicting():
        fitted = learned(net)
    if listener is not None:
        listener.end(fitted)
    # A stream starts an optimizer of its own: this one's moments are three quarters of a pickle.
    net.optimizer_.state.clear()
    return fitted


@together
def train_on(
    parameters: Any,
    samples: Samples,
    previous: Fitted | None = None,
    classes: Any = None,
    *,
    ctrl_c: CtrlC,
) -> Fitted:
    """Train a network for one pass over some rows of a stream, at a constant rate.

    The optimizer of `previous` goes on, unless parameters that it was built by were changed.

    Parameters
    ----------
    parameters, samples, previous, ctrl_c
        As in `train`.
    classes : object
        Labels that are yet to come, as in `partial_fit`.

    Returns
    -------
    fitted : Fitted
        A new one, whose history continues that of `previous`.
    """
    given = {"the method, fit or partial_fit,": "partial_fit", LEARNED: learned_by(previous)}
    agree(present_group(), given)
    plan = plan_stream(parameters, samples, previous, classes)
    if needs := plan.encoder.needs_unseen():
        is_threshold = next(iter(needs.values())).startswith("threshold")
        mend = "fit, or a number as threshold" if is_threshold else "fit"
        raise ValueError(_lacks_unseen(needs, mend))
    goes_on = (
        previous is not None
        and previous.built_by == built_by(parameters)
        and _knows_all(previous.net, plan)
    )
    if previous is not None and goes_on:
        plan = plan._replace(task_weights=previous.task_weights)
    draws = Draws(plan.seed, plan.recipe.device)
    batches = plan.batches(draws.order)
    with undisturbed(plan.recipe.device):
        if previous is not None and goes_on:
            net = copied(previous.net, with_optimizer=True)
            net.max_epochs, net.batch_size = plan.recipe.max_epochs, plan.recipe.batch_size
        else:
            net = _new_net(plan, batches, previous, draws)
        with resting(net.module, plan.augmenter):
            run_one_pass(net, plan.recipe, batches, draws, ctrl_c)
    del batches
    # As they are now: callbacks, which the net shares with the parameters, may have taken notes.
    by = built_by(parameters)
    with draws.predicting():
        return _learned_on(plan, net, by, previous)


def _check_unseen(plan: Plan, needs: dict[str, str]) -> None:
    """Refuse what needs rows that were not trained on, and name the groups that took them away."""
    if plan.in_one_group:
        said = f"groups has one label for all targets of {plan.in_one_group}, so that no rows can "
        mend = "Pass X_val and y_val, or finer groups; without groups, single rows are left out."
        if needs:
            name, what = next(iter(needs.items()))
            raise ValueError(f"{said}be left out, which task {name!r} needs: {what}. {mend}")
        warnings.warn(
            f"{said}be left out: there are no intervals, and no oob_score_. {mend}",
            UserWarning,
            stacklevel=2,
        )
    elif needs:
        raise ValueError(_lacks_unseen(needs, "early_stopping=True, or pass X_val and y_val"))


def _lacks_unseen(needs: dict[str, str], mend: str) -> str:
    """Message about what is found on rows that were not trained on, where there are none."""
    name, what = next(iter(needs.items()))
    return (
        f"Task {name!r}: {what} needs rows that were not trained on, and there are none here: only "
        f"a first fit with a DenseTrunk or an Ensemble leaves rows out by itself. Use {mend}."
    )


def _knows_all(net: TaskNet, plan: Plan) -> bool:
    """Tell whether a net was begun with targets of all tasks that are observed now."""
    return bool(np.isfinite(net.constant_losses_[plan.targets.counts > 0]).all())


def _new_net(plan: Plan, batches: Batches, previous: Fitted | None, draws: Draws) -> TaskNet:
    """Build a net, with the weights of `previous` if there is one."""
    bias = plan.encoder.constants(plan.targets)
    net = build_net(
        *(plan.parameters, plan.recipe, plan.encoder, plan.reader, bias, plan.task_weights, draws)
    )
    start_combiner(net, batches)  # before the weights are others
    begin_alike(net, plan.group)
    if previous is not None:
        first = _outputs_of_first_targets(plan.encoder, previous.encoder)
        try:
            take_learned(net, previous.net)
        except ValueError as error:
            raise ValueError(
                "trunk or head_hidden_units were changed since the last fit, and what was "
                "learned does not fit into them. Set them back, or fit anew with "
                "warm_start=False."
            ) from error
        with torch.no_grad():
            net.module.heads.bias[..., first] = torch.from_numpy(bias[first]).to(
                net.module.heads.bias
            )
    return net


def _outputs_of_first_targets(encoder: TargetEncoder, before: TargetEncoder) -> NDArray[np.bool_]:
    """Tell outputs of tasks whose first targets are here: they begin at the best constant."""
    return np.repeat(before.unobserved & ~encoder.unobserved, encoder.n_outputs)


def _learned(
    plan: Plan,
    samples: Samples,
    validation: Samples | None,
    valid: Batches | None,
    net: TaskNet,
) -> Fitted:
    """Balance the outputs, and return what was learned.

    By what members predict of the rows that they left out, where they did, else over the rows that
    were trained on. What needs others, is by the validation data `valid`.
    """
    encoder, oob = plan.encoder, {}
    targets, raw = _outputs(plan, net)
    if plan.folds is None:
        shift = encoder.balance(raw, targets)
        if rescale_outputs(net, np.ones_like(shift), shift) and shift.any():
            raw = raw + shift
        if valid is not None:
            encoder = _tuned_on(plan, valid, net)
        errors, noise = errors_of_validation(plan, net, samples, validation)
        noise_std = np.where(np.isnan(noise), encoder.noise_std(raw, targets), noise)
    else:
        calibrated = calibrate(plan, net, raw)
        encoder = encoder.tuned(calibrated, targets)
        columns, weight = encoder.read(samples.y, samples.sample_weight)
        columns = [column.take(plan.rows) for column in columns]
        weight = weights_of_rows(weight, plan.rows)
        # Errors first: predictions of all rows are as large as y.
        errors = errors_left_out(plan, net, columns, weight, calibrated, samples.groups is not None)
        oob = out_of_bag(plan, encoder, columns, weight, calibrated)
        noise_std = encoder.noise_std(calibrated, targets)
    history = net.task_history()
    return Fitted(encoder, plan.reader, net, plan.task_weights, noise_std, history, oob, errors, {})


def _tuned_on(plan: Plan, valid: Batches, net: TaskNet) -> TargetEncoder:
    """Return an encoder that decides best on validation data, by which outputs are calibrated."""
    encoder = plan.encoder
    targets = valid.targets.encoded
    warn_together(encoder.without_effect(targets), stacklevel=3)
    others = {k for k, kind in enumerate(encoder.kinds_) if not kind.is_calibrated}
    raw = raw_of(plan, net, valid.source, valid.rows)
    slope, shift = encoder.shrink(raw, targets, others)
    if rescale_outputs(net, slope, shift):
        raw = raw * slope + shift
    return encoder.tuned(raw, targets)


def _learned_on(plan: Plan, net: TaskNet, by: dict[str, Any], previous: Fitted | None) -> Fitted:
    """Return what was learned; the history goes on behind that of `previous`."""
    targets, raw = _outputs(plan, net)
    noise_std = plan.encoder.noise_std(raw, targets)
    history = net.task_history()
    if previous is not None:
        hole = np.full_like(history["train_loss"], np.nan)  # no validation data any more
        history = {
            name: np.concatenate([rows, history.get(name, hole)])
            for name, rows in previous.history.items()
        }
    return Fitted(plan.encoder, plan.reader, net, plan.task_weights, noise_std, history, {}, {}, by)


def _outputs(plan: Plan, net: TaskNet) -> tuple[EncodedTargets, NDArray[Any]]:
    """Targets and raw outputs of the rows that were trained on, of members that left them out.

    Where X has very many values, and no row was left out: of some of the rows of each task.
    """
    rows = plan.rows
    if plan.folds is not None:
        return plan.trained_targets, raw_left_out(plan, net)
    if len(rows) * math.prod(plan.source.shape) > SAMPLE_VALUES:
        targets = plan.trained_targets
        seen = [targets.cells(k).rows for k in range(targets.shape[1])]
        some = [each[spread_places(len(each), CLOSING_ROWS)] for each in seen]
        rows = rows[np.unique(np.concatenate(some))]
    raw = raw_of(plan, net, plan.source, rows)
    check_finite(raw, net)
    return plan.targets.take(rows) if len(rows) < len(plan.targets) else plan.targets, raw
