"""skorch's net: with the loss of every task per epoch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, GradientNormClipping, PrintLog
from torch import Tensor, nn

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._predict import infer
from sklearn_mtl._training.averaging import AveragedWeights
from sklearn_mtl._training.batches import Batches, LeftOut, Unlabelled
from sklearn_mtl._training.criterion import MultiTaskLoss, Tally
from sklearn_mtl._training.ctrl_c import CtrlC
from sklearn_mtl._training.groups import align_gradients, check_groups, grouped
from sklearn_mtl._training.lines import EpochBar, EpochLines
from sklearn_mtl._training.listeners import (
    CosineSchedule,
    Stopper,
    check_losses,
)
from sklearn_mtl._training.pickling import PlainNet
from sklearn_mtl._training.random import Draws
from sklearn_mtl._training.sharing import Sharing
from sklearn_mtl._training.undoing import undoing_step
from sklearn_mtl.losses import LOSSES, Cells
from sklearn_mtl.networks import BATCH_NORMS

__all__ = ["TaskNet"]

BETWEEN_STEPS = ("on_batch_begin", "on_batch_end", "on_grad_computed")

# Callbacks that draw nothing.
QUIET = (EpochTimer, EpochBar, PrintLog, CosineSchedule, Stopper, GradientNormClipping)

RECORDED = ("train_loss", "valid_loss", "oob_loss", "effective_weight")

NOTHING = contextlib.nullcontext()

# An earlier name of 'valid_loss' in the history, which callbacks may watch.
OBJECTIVE = "valid_objective"


class TaskNet(Sharing, PlainNet):
    """skorch's net with the loss of every task in its history.

    `forward`, `forward_iter`, `predict` and `predict_proba` take X as the estimator does, and give
    the raw outputs of all tasks side by side. It is trained by the estimator, not by its own `fit`.

    Attributes
    ----------
    task_names_ : list of str
        Names of the tasks.
    reader_ : InputReader
        Between X and what the module takes.
    record_ : dict of str to list of ndarray of shape (n_tasks,)
        Per epoch: 'train_loss', 'valid_loss', 'oob_loss' (NaN where a task had no observed target)
        and 'effective_weight'.
    averaged_ : nn.Module or None
        In training, the module with averaged weights, if there is one. It is what is validated.
    left_out_ : LeftOut or None
        In training, the rows by fold, if losses of members on the rows that they leave out are
        asked for after each epoch.
    draws_ : Draws or None
        In training, what random numbers come from.
    group_, own_draws_, stop_asked_
        As of `Sharing`.
    ctrl_c_ : CtrlC or None
        In training, what knows whether Ctrl-C was pressed.
    constant_losses_ : ndarray of shape (n_tasks,)
        Losses of the best constant predictor on the training rows.
    watched_ : Tensor of bool of shape (n_tasks,) or None
        Tasks that make up the objective on validation data; None for all.
    interrupted_ : bool
        Whether a callback interrupted the training: by a KeyboardInterrupt, which is skorch's way,
        and not because losses got no better.
    pressed_ : bool
        Whether Ctrl-C was pressed, and the training is no success.
    """

    # Instance attributes end in an underscore: all others are parameters of the net for skorch.
    amp_dtype_: torch.dtype | None = None
    task_names_: list[str]
    reader_: InputReader
    # What requires gradients: at the end of the last training, and by the hand of the user.
    flags_: Mapping[str, bool] = MappingProxyType({})
    toggled_: dict[str, bool]
    averaged_: nn.Module | None = None
    left_out_: LeftOut | None = None
    draws_: Draws | None = None
    ctrl_c_: CtrlC | None = None
    watched_: Tensor | None = None
    tally_: Tally
    constant_losses_: NDArray[np.float64]
    pressed_ = False
    asked_ = False  # whether a callback raised a KeyboardInterrupt
    in_epoch_ = False  # whether an epoch is under way
    modules_set_ = False  # whether the modules were set to training or not, in it
    # In an epoch: methods of callbacks, by event; whether others than our schedule are among them.
    listeners_: dict[str, list[Callable[..., Any]]]
    disturbed_ = False

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        """Return a timer, and what `verbose` shows; those of skorch would average surrogates."""
        shown = [("epoch_bar", EpochBar()), ("print_log", EpochLines())]
        return [("epoch_timer", EpochTimer()), *shown]

    def task_history(self) -> dict[str, NDArray[np.float64]]:
        """Return the record as arrays of shape (n_epochs, n_tasks)."""
        n_epochs, n_tasks = len(self.record_["train_loss"]), self.criterion_.task_losses.n_tasks
        history = {}
        for name, rows in self.record_.items():
            if rows or name not in ("valid_loss", "oob_loss"):
                history[name] = np.full((n_epochs, n_tasks), np.nan)
                if rows:  # an interrupted epoch has no validation: its row stays NaN
                    history[name][: len(rows)] = rows
        return history

    # -- parameters and data -----------------------------------------------------------------

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Weight decay shrinks weight matrices, not biases (class frequencies) or norm scales.

        Nor what a part of the network names in `no_weight_decay()`, as models of timm do. The rate
        of pretrained weights is their own.
        """
        named_parameters = list(named_parameters)
        chosen = self.get_params_for(prefix).get("param_groups", ())
        check_groups(prefix, chosen, self.optimizer, [name for name, _ in named_parameters])
        (groups,), kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        return (grouped(groups, self.module_, kwargs),), kwargs

    def get_split_datasets(self, X: Any, y: Any = None, **split_params: Any) -> Any:
        """X is the pair (training batches, validation batches or None)."""
        if not (isinstance(X, tuple) and isinstance(X[0], Batches)):
            raise TypeError("net_ is trained by its estimator. Call fit or partial_fit of that.")
        return X

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Refuse: the net knows nothing of y as the estimator takes it."""
        raise TypeError("net_ is trained by its estimator. Call fit or partial_fit of that.")

    def partial_fit(self, X: Any, y: Any = None, *args: Any, **fit_params: Any) -> Any:
        """Train on the pair that the estimator passes; refuse all else before anything happens."""
        self.get_split_datasets(X)
        return super().partial_fit(X, y, *args, **fit_params)

    def get_dataset(self, X: Any, y: Any = None) -> Any:
        """Batches of X as the estimator takes it."""
        return Unlabelled(self, X)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the data set, which is its own loader."""
        return dataset

    # -- steps -------------------------------------------------------------------------------

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call those that listen, and take gradients that they made in any memory order.

        Calling all callbacks, most of which have no use for single batches, takes 1 to 2 % of an
        epoch of a small network, and less than 1 % with the default trunk.
        """
        methods = self.listeners_.get(method_name)
        try:
            if methods is None:
                with self._drawing(callback for _, callback in self.callbacks_):
                    super().notify(method_name, **kwargs)
            else:
                getattr(self, method_name)(self, **kwargs)
                if methods:
                    listening = (getattr(method, "__self__", None) for method in methods)
                    with self._drawing(listening) if self.disturbed_ else NOTHING:
                        for method in methods:
                            method(self, **kwargs)
        except KeyboardInterrupt:
            self.asked_ = True
            if not self._passes_on(method_name):
                raise
        if self.group_ is not None and method_name == "on_epoch_end":
            self._agree_to_stop()
        if methods and method_name == "on_grad_computed":
            align_gradients(self.module_.parameters())

    def _look_who_listens(self) -> None:
        """Look which callbacks do something between two steps, and whether others than ours do."""
        for event in BETWEEN_STEPS:
            silent = getattr(Callback, event)
            methods = [getattr(callback, event) for _, callback in self.callbacks_]
            self.listeners_[event] = [
                method for method in methods if getattr(method, "__func__", None) is not silent
            ]
        own = (CosineSchedule.on_batch_end, AveragedWeights.on_batch_end)
        self.disturbed_ = any(
            getattr(method, "__func__", None) not in own
            for methods in self.listeners_.values()
            for method in methods
        )
        if self.draws_ is not None and self.own_draws_ is not None:
            is_known = {
                "loss": type(_plain(self.criterion_).combine) in LOSSES.values(),
                "optimizer": type(self.optimizer_).step.__module__.startswith("torch.optim"),
            }
            unknown = {part for part, known in is_known.items() if not known}
            self.draws_.look_at(self.module_, unknown)
            if self.group_ is not None:
                self.own_draws_.look_at(self.module_, unknown - {"loss"})

    def _drawing(self, callbacks: Iterable[Any]) -> contextlib.AbstractContextManager[Any]:
        """Let callbacks, unless they are known to draw nothing, draw from where we do."""
        if self.draws_ is None or all(isinstance(callback, QUIET) for callback in callbacks):
            return NOTHING
        return self.draws_.drawing()

    def _set_training(self, training: bool = True) -> None:
        """Walk through the modules only where something may have changed since the last step.

        Else it takes 8 % of an epoch of a small network, 2 to 6 % with the default trunk.
        """
        roots = self.module_.training == self.criterion_.training == training
        if not (roots and self.modules_set_) or self.disturbed_:
            super()._set_training(training)
            parts = list(self.module_.modules()) if training else []
            if any(isinstance(part, BATCH_NORMS) for part in parts):
                frozen = (norm for part in filter(_is_frozen, parts) for norm in part.modules())
                for norm in (norm for norm in frozen if isinstance(norm, BATCH_NORMS)):
                    norm.eval()  # its statistics stand still too
            self.modules_set_ = self.in_epoch_

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        """Forget the gradients.

        `zero_grad` takes 5 % of an epoch of a small network, 1 to 4 % with the default trunk.
        """
        for group in self.optimizer_.param_groups:
            for param in group["params"]:
                param.grad = None

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        """Step; once more, if an optimizer that is not known is found to draw."""
        draws, step = self.draws_, super().train_step
        if draws is None or "optimizer" not in draws.unknown:
            return step(batch, **fit_params)
        act = functools.partial(step, batch, **fit_params)
        return draws.run("optimizer", act, lambda: undoing_step(self, self.optimizer_))

    def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
        """Go forwards and backwards; once more, if unknown code is found to draw."""
        if self.group_ is not None:
            return self._shared_step(batch)
        step, seen = super().train_step_single, batch[1].members
        return self._evaluated(step, batch, seen=seen, **fit_params)

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """Evaluate a batch; once more, if unknown code is found to draw."""
        if self.group_ is not None:
            return self._shared_evaluation(batch)
        return self._evaluated(super().validation_step, batch, **fit_params)

    def _evaluated(self, evaluate: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        draws = self.own_draws_
        if draws is None or draws.knows_evaluation:
            return evaluate(*args, **kwargs)
        act = functools.partial(evaluate, *args, **kwargs)
        return draws.run("evaluation", act, lambda: undoing_step(self))

    def infer(self, x: Any, seen: Tensor | None = None, **fit_params: Any) -> Tensor:
        """Raw outputs in full precision; of rows that members have `seen`, if told which."""
        module = self.module_
        if self.averaged_ is not None and not module.training:
            module = self.averaged_
        return self._run(module, x.to(self.device, non_blocking=True), seen)

    def _run(self, module: nn.Module, x: Tensor, seen: Tensor | None = None) -> Tensor:
        draws = self.own_draws_
        if draws is None or draws.is_idle:  # without a context, which takes 1 % of a small step
            return infer(module, x, self.amp_dtype_, seen)
        with draws.forward():
            return infer(module, x, self.amp_dtype_, seen)

    def get_loss(self, y_pred: Tensor, y_true: Cells, *args: Any, **kwargs: Any) -> Tensor:
        """Combine the task losses of a batch, and tally them."""
        loss, losses = _plain(self.criterion_)(y_pred, y_true)
        self.tally_.add(losses, y_true.counts)
        return loss

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin the record; callbacks, which are told after this, may put in what there was."""
        self.record_: dict[str, list[NDArray[np.float64]]] = {name: [] for name in RECORDED}
        self.best_: dict[str, float] = {}

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Train the epochs that are left; a KeyboardInterrupt ends it in good order."""
        self.get_split_datasets(X)
        self.interrupted_ = self.pressed_ = self.asked_ = False
        epochs = self.max_epochs if epochs is None else epochs
        try:
            super().fit_loop(X, y, epochs - len(self.history), **params)
        except KeyboardInterrupt:
            self.pressed_ = not self.asked_ or (self.ctrl_c_ is not None and self.ctrl_c_.pressed)
            self.interrupted_ = not any(
                callback.stopped
                if isinstance(callback, Stopper)
                else isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
                for _, callback in self.callbacks_
            )
        return self

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **kwargs: Any
    ) -> None:
        """Run an epoch, and record the loss of each task."""
        if not training and self.left_out_ is not None:
            self._look_at_left_out(self.left_out_)
        if iterator is None:
            return
        self.tally_ = Tally()
        if training and not any(p.requires_grad for p in self.module_.parameters()):
            raise ValueError(
                "All parameters of the network are frozen. Set requires_grad of those in module_ "
                "that are to be trained, or leave the callback out that has frozen them."
            )
        self.in_epoch_, self.modules_set_ = True, False
        self._look_who_listens()
        if training and self.group_ is not None:
            self._renew_draws()
        rows = self.history[-1]["batches"]
        try:
            for batch in iterator:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **kwargs)
                # As skorch does it, but for History's own look-ups, 3 % of an epoch.
                rows[-1][f"{prefix}_loss"] = step["loss"].item()
                rows[-1][f"{prefix}_batch_size"] = len(batch[0])
                self.notify("on_batch_end", batch=batch, training=training, **step)
                if self.ctrl_c_ is not None:
                    self.ctrl_c_.check()
        finally:
            tally, self.tally_ = self.tally_, Tally()
            self.in_epoch_ = self.modules_set_ = False
            self.listeners_ = {}
            if len(tally):  # none if it was interrupted at once
                self._record(prefix, tally)
        if training and self.group_ is not None:
            self._share_buffers()
        self.history.record(f"{prefix}_batch_count", len(iterator))

    def _look_at_left_out(self, left_out: LeftOut) -> None:
        """Record the losses of members on the rows that they leave out."""
        assert self.averaged_ is not None
        tally = Tally()
        with torch.no_grad():
            for X, *targets in left_out:
                raw = self._evaluated(self._run, self.averaged_, X).flatten(0, 1)
                tally.add(*self.criterion_.task_losses(raw, *targets))
        if self.group_ is not None:
            tally.share(self.group_, self.criterion_.task_losses.powers)
        self._record("oob", tally)

    def _record(self, prefix: str, tally: Tally) -> None:
        """Record the objective and the loss of each task, and whether they are the best so far."""
        losses, counts = tally.means()
        observed = torch.where(counts > 0, losses, torch.nan).cpu().numpy()
        check_losses(self, prefix, observed[(counts > 0).cpu().numpy()])
        self.record_[f"{prefix}_loss"].append(observed)
        if prefix == "train":
            weights = self.criterion_.effective_weights(losses, counts / len(tally))
            self.record_["effective_weight"].append(weights.cpu().double().numpy())
        if prefix == "valid" and self.watched_ is not None:
            counts = torch.where(self.watched_.to(counts.device), counts, 0)
        values = {f"{prefix}_loss": self.criterion_.objective(losses, counts)}
        for name, loss in zip(self.task_names_, observed.tolist(), strict=True):
            values[f"{prefix}_loss/{name}"] = loss
        epoch = self.history[-1]
        for name, value in values.items():
            is_best = epoch[f"{name}_best"] = value < self.best_.get(name, float("inf"))
            if is_best:
                self.best_[name] = value
        epoch |= values  # behind the flags, as a task may be called "x_best"
        if prefix == "valid":
            epoch[OBJECTIVE] = values["valid_loss"]


def _plain(criterion: Any) -> MultiTaskLoss:
    """Return the criterion, and not what skorch made of it by `compile`."""
    return criterion if type(criterion) is MultiTaskLoss else criterion._orig_mod


def _is_frozen(module: nn.Module) -> bool:
    params = list(module.parameters())
    return bool(params) and not any(p.requires_grad for p in params)
