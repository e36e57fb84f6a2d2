"""skorch's net: with a record of every task per epoch, and few calls between the batches."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn

from sklearn_mtl._batches import Batches
from sklearn_mtl._compile import CompiledStep, align_gradients, infer
from sklearn_mtl.losses import LOSSES, Cells, Combiner, TaskLosses

__all__ = ["CosineSchedule", "MultiTaskLoss", "Tally", "TaskNet", "Watch"]


class Tally:
    """Losses per task over an epoch: their mean is one pass over all observed targets.

    Sums are made of many batches at once, which costs less, and yet soon: small tensors that stay
    keep the memory of batches, which lies between them, from being used again.
    """

    def __init__(self) -> None:
        self.n_batches = 0
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.sums: Tensor | None = None  # of losses, and counts

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.n_batches

    def add(self, losses: Tensor, counts: Tensor) -> None:
        """Add a batch."""
        self.n_batches += 1
        self.batches.append((losses, counts))
        if len(self.batches) == 64:
            self._sum()

    def _sum(self) -> None:
        losses, counts = (torch.stack(t).double() for t in zip(*self.batches, strict=True))
        sums = torch.stack([losses * counts, counts]).sum(dim=1)
        self.sums = sums if self.sums is None else self.sums.add_(sums)
        self.batches.clear()

    def means(self) -> tuple[Tensor, Tensor]:
        """Mean losses (0 where there is none) and counts, where the combiner is."""
        if self.batches:
            self._sum()
        assert self.sums is not None
        sums, total = self.sums
        return sums / torch.where(total > 0, total, 1), total


class MultiTaskLoss(nn.Module):
    """skorch's criterion: per-task losses, then one number."""

    def __init__(
        self,
        task_losses: TaskLosses,
        combine: Callable[[Tensor, Tensor], Tensor],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.task_losses, self.combine, self.dtype = task_losses, combine, dtype

    def forward(self, output: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return the scalar to minimise, and the losses of the tasks."""
        losses = self.task_losses.compare(output, cells)
        return self.combine(losses, cells.counts), losses.detach()

    def objective(self, losses: Tensor, counts: Tensor) -> float:
        """Return the scalar for mean losses over a whole data set."""
        losses, counts = losses.to(self.dtype), counts.to(self.dtype)
        with torch.no_grad(), _at_rest(self.combine) as rule:
            return float((rule.objective if isinstance(rule, Combiner) else rule)(losses, counts))

    def effective_weights(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Differentiate the batch's scalar by each task's mean loss."""
        losses = losses.to(self.dtype, copy=True).requires_grad_()
        with torch.enable_grad(), _at_rest(self.combine) as rule:
            (gradient,) = torch.autograd.grad(rule(losses, counts.to(self.dtype)), losses)
        return gradient


@contextlib.contextmanager
def _at_rest(rule: Any) -> Iterator[Any]:
    """Let look at a rule without a change of what it has learned, or of the random state."""
    if type(rule) in LOSSES.values():  # which do not, in evaluation mode
        training = rule.training
        try:
            yield rule.eval()
        finally:
            rule.train(training)
    else:
        rule = copy.deepcopy(rule)
        with torch.random.fork_rng(devices=[]):
            yield rule.eval() if isinstance(rule, nn.Module) else rule


class TaskNet(NeuralNet):
    """skorch's net with per-task losses in a record of its own.

    Attributes
    ----------
    record_ : dict of str to list of ndarray of shape (n_tasks,)
        Per epoch: 'train_loss', 'valid_loss' (NaN where a task had no observed target) and
        'effective_weight'.
    interrupted_ : bool
        Whether Ctrl-C stopped the training.
    """

    amp_dtype: torch.dtype | None = None
    compiled: CompiledStep | None = None  # while training, if asked for
    built_by: Any = None  # parameters of a net for a stream, whose optimizer goes on
    heard: dict[str, list[Callable[..., Any]]] | None = None  # who listens to what, in an epoch
    walked = False  # whether all modules were set to training or not, in this epoch
    is_alone = False  # whether nobody but our own schedule acts between batches of this epoch

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to a training under way."""
        return super().__getstate__() | {"compiled": None, "heard": None}

    def task_history(self) -> dict[str, NDArray[np.float64]]:
        """Return the record as arrays of shape (n_epochs, n_tasks)."""
        n_epochs, n_tasks = len(self.record_["train_loss"]), self.criterion_.task_losses.n_tasks
        history = {}
        for name, rows in self.record_.items():
            if rows or name != "valid_loss":
                history[name] = np.full((n_epochs, n_tasks), np.nan)
                if rows:  # an interrupted epoch has no validation: its row stays NaN
                    history[name][: len(rows)] = rows
        return history

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """Weight decay shrinks weight matrices, not biases (class frequencies) or norm scales.

        Nor what a part of the network names in `no_weight_decay()`, as models of timm do.
        """
        (groups,), kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if not kwargs.get("weight_decay"):
            return (groups,), kwargs
        own = [group for group in groups if set(group) > {"params"}]  # the user's
        rest = [p for group in groups if set(group) == {"params"} for p in group["params"]]
        named = _named_vectors(self.module_)
        vectors = [p for p in rest if p.ndim <= 1 or id(p) in named]
        matrices = [p for p in rest if p.ndim > 1 and id(p) not in named]
        spared = {"params": vectors, "weight_decay": 0.0}
        return ([*own, {"params": matrices}, spared],), kwargs

    def get_split_datasets(self, X: Any, y: Any = None, **split_params: Any) -> Any:
        """X is the pair (training batches, validation batches or None)."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the data set, which is its own loader."""
        return dataset

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Call those that listen; most callbacks have no use for single batches."""
        getattr(self, method_name)(self, **kwargs)
        methods = self._listeners(method_name)
        for method in methods:
            method(self, **kwargs)
        if methods and method_name == "on_grad_computed":
            align_gradients(self.module_.parameters())

    def _listeners(self, method_name: str) -> list[Callable[..., Any]]:
        """Methods of callbacks that do something then; in an epoch, they are looked up once."""
        if self.heard is not None and method_name in self.heard:
            return self.heard[method_name]
        silent = getattr(Callback, method_name)
        methods = [getattr(callback, method_name) for _, callback in self.callbacks_]
        found = [method for method in methods if getattr(method, "__func__", method) is not silent]
        if self.heard is not None:
            self.heard[method_name] = found
        return found

    def _set_training(self, training: bool = True) -> None:
        """Walk through the modules only where something may have changed since the last step."""
        roots = self.module_.training == self.criterion_.training == training
        if not (roots and self.walked and self.is_alone):
            super()._set_training(training)
            self.walked = True

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Raw outputs in full precision."""
        return infer(self.module_, x.to(self.device, non_blocking=True), self.amp_dtype)

    def get_loss(self, y_pred: Tensor, y_true: Cells, *args: Any, **kwargs: Any) -> Tensor:
        """Combine the task losses of a batch, and tally them."""
        criterion = self.criterion_
        if type(criterion) is not MultiTaskLoss:  # but what skorch made of it by its own `compile`
            criterion = criterion._orig_mod
        loss, losses = criterion(y_pred, y_true)
        self.tally_.add(losses, y_true.counts)
        return loss

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Make a step of the optimizer, in one compiled function if possible."""
        compiled = self.compiled
        if (
            compiled is not None
            and compiled.is_ready()
            and compiled.updates
            and not self._listeners("on_grad_computed")
            and (step := self._run_compiled(compiled, batch, update=True))
        ):
            return step
        return super().train_step(batch, **fit_params)

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Make the gradients, by a compiled function if possible."""
        compiled = self.compiled
        if (
            compiled is not None
            and compiled.learned
            and (step := self._run_compiled(compiled, batch, update=False))
        ):
            return step
        return super().train_step_single(batch, **fit_params)

    def _run_compiled(self, compiled: CompiledStep, batch: Any, update: bool) -> dict[str, Tensor]:
        """Return nothing where it cannot be compiled, and do not try again."""
        self._set_training(True)
        x, cells = batch
        found = compiled(x, cells, update)
        if found is None:
            self.compiled = None
            return {}
        loss, losses, output = found
        self.tally_.add(losses, cells.counts)
        return {"loss": loss, "y_pred": output}

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        """Forget the gradients, as `zero_grad` does at ten times the price."""
        for group in self.optimizer_.param_groups:
            for param in group["params"]:
                param.grad = None

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Train; a KeyboardInterrupt (of a user, or a stopping callback) ends it in good order."""
        self.record_: dict[str, list[NDArray[np.float64]]] = {
            "train_loss": [],
            "valid_loss": [],
            "effective_weight": [],
        }
        self.interrupted_ = False
        try:
            with _stop_after_batch(X[0]):
                super().fit_loop(X, y, epochs, **params)
        except KeyboardInterrupt:
            self.interrupted_ = not any(
                callback.stopped
                if isinstance(callback, Watch)
                else isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
                for _, callback in self.callbacks_
            )
        return self

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **kwargs: Any
    ) -> None:
        """Run an epoch, and record the loss of each task."""
        if iterator is None:
            return
        self.tally_ = tally = Tally()
        self.heard, self.walked = {}, False
        events = ("on_batch_begin", "on_batch_end", "on_grad_computed")
        others = [method for event in events for method in self._listeners(event)]
        self.is_alone = all(
            type(getattr(method, "__self__", None)) is CosineSchedule for method in others
        )
        if self.compiled is not None:
            self.compiled.start_epoch(self)
        rows = self.history[-1]["batches"]
        try:
            for batch in iterator:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **kwargs)
                # As skorch does it, but for History's own slow look-ups.
                rows[-1][f"{prefix}_loss"] = step["loss"].item()
                rows[-1][f"{prefix}_batch_size"] = len(batch[0])
                self.notify("on_batch_end", batch=batch, training=training, **step)
        finally:
            self.heard = None
            if len(tally):  # none if it was interrupted at once
                self._record(prefix, *tally.means())
        self.history.record(f"{prefix}_batch_count", len(iterator))

    def _record(self, prefix: str, losses: Tensor, counts: Tensor) -> None:
        seen = torch.where(counts > 0, losses, torch.nan)
        self.record_[f"{prefix}_loss"].append(seen.cpu().numpy())
        if prefix == "train":
            weights = self.criterion_.effective_weights(losses, counts / len(self.tally_))
            self.record_["effective_weight"].append(weights.cpu().double().numpy())
        else:
            objective = self.criterion_.objective(losses, counts)
            self.history.record(f"{prefix}_objective", objective)


def _named_vectors(module: nn.Module) -> set[int]:
    """Ids of the parameters that parts of a network want no weight decay on."""
    found = set()
    for part in module.modules():
        if callable(name_them := getattr(part, "no_weight_decay", None)):
            names = set(name_them())
            found |= {id(p) for name, p in part.named_parameters() if name in names}
    return found


@contextlib.contextmanager
def _stop_after_batch(batches: Batches) -> Iterator[None]:
    """Let a first Ctrl-C finish the batch; a second one interrupts at once."""
    default = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not default
    ):
        yield
        return

    def stop(signum: int, frame: Any) -> None:
        batches.stop.set()
        signal.signal(signal.SIGINT, default)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default)


class CosineSchedule(Callback):
    """Learning rate per step: a linear warm-up over the first 5 %, then a cosine to zero."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Take the rates of the optimizer for the highest ones, and set those of the first step."""
        self.step_ = 0
        self.peaks_ = [group["lr"] for group in net.optimizer_.param_groups]
        self._set(net)

    def on_batch_end(
        self, net: NeuralNet, batch: Any = None, training: bool | None = None, **kwargs: Any
    ) -> None:
        """Record the rate of the step, as skorch's schedules do, and set that of the next one."""
        if training:
            net.history[-1]["batches"][-1]["event_lr"] = net.optimizer_.param_groups[0]["lr"]
            self.step_ += 1
            self._set(net)

    def _set(self, net: NeuralNet) -> None:
        factor = self.factor(self.step_)
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=False):
            group["lr"] = peak * factor

    def factor(self, step: int) -> float:
        """Return the share of the highest rate, from 0 to 1."""
        n_warm_up = math.ceil(self.n_steps / 20)
        if step < n_warm_up:
            return (step + 1) / n_warm_up
        progress = (step - n_warm_up) / max(1, self.n_steps - n_warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


class Watch(Callback):
    """Tell somebody of epochs, who may want the training to end.

    It stands behind all other callbacks. An epoch that another one ended, or Ctrl-C, is told of in
    the end. What those who are told draw at random changes nothing in the training.

    Parameters
    ----------
    begin : callable
        Called without arguments when an epoch begins.
    end : callable
        Called with the net when it has ended; returns whether the training shall end.
    """

    def __init__(self, begin: Callable[[], None], end: Callable[[NeuralNet], bool]) -> None:
        self.begin, self.end = begin, end
        self.stopped = self.is_open = False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Say so."""
        self.is_open = True
        with _own_random_state(net):
            self.begin()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Say so, and end the training as skorch's own callbacks do."""
        self.is_open = False
        with _own_random_state(net):
            self.stopped = self.end(net)
        if self.stopped:
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Tell of an epoch that was not told of."""
        if self.is_open:
            self.is_open = False
            with _own_random_state(net):
                self.end(net)


def _own_random_state(net: NeuralNet) -> Any:
    """Leave torch's random states as they are, those of GPUs only where there is one in use."""
    return torch.random.fork_rng(None if str(net.device).startswith("cuda") else [])
