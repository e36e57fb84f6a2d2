"""Training and prediction: the one room that knows skorch.

A skorch net is *held* by the estimator. Here it gets its batches (read by index, never row by
row), its loss (per-task losses, then a combiner), and a record of every task per epoch.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.utils import noop
from torch import Tensor, nn

from sklearn_mtl._batches import Batches, Inputs
from sklearn_mtl._compile import CompiledStep, infer
from sklearn_mtl._recipe import DTYPES, Recipe, resolve_optimizer
from sklearn_mtl._validation import Rows, Source
from sklearn_mtl.losses import LOSSES, Cells, Combiner, TaskLosses
from sklearn_mtl.networks import MultiTaskModule, build_trunk

__all__ = [
    "TaskNet",
    "build_net",
    "plain_module",
    "precision_of",
    "predict_raw",
    "restore",
    "seeded",
    "shift_outputs",
    "train",
]

# Held while torch's global generator is ours, so that fits in threads do not mix their draws.
GENERATOR = threading.RLock()

# What skorch takes besides, and has no effect here: batches come from `Batches`.
NOT_FOR_USERS = {"module", "criterion", "dataset", "iterator_train", "iterator_valid", "warm_start"}

PRINT_LOG = "callbacks__print_log"

# Input values or features, and rows, per chunk when predicting. In larger ones, what is between the
# layers leaves the processor's cache: half as fast; and malloc does not give all memory back.
CHUNK_VALUES, CHUNK_ROWS = 2**19, 2**13


class Tally:
    """Losses per batch and task over an epoch: their mean is one pass over all observed targets."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.counts: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.losses)

    def add(self, losses: Tensor, counts: Tensor) -> None:
        """Add a batch."""
        self.losses.append(losses)
        self.counts.append(counts)

    def means(self) -> tuple[Tensor, Tensor]:
        """Mean losses (0 where there is none) and counts, where the combiner is."""
        counts = torch.stack(self.counts).double()
        sums = (torch.stack(self.losses).double() * counts).sum(dim=0)
        total = counts.sum(dim=0)
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
        for method in self._listeners(method_name):
            method(self, **kwargs)

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
        criterion: Any = getattr(self.criterion_, "_orig_mod", self.criterion_)  # not compiled
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
                isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
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


@contextlib.contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Draw from `seed` inside, and leave torch's global random states as they were found."""
    found = torch.device(device)
    devices = [found] if found.type == "cuda" else []
    with GENERATOR, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
        if devices:
            with torch.cuda.device(found):
                torch.cuda.manual_seed(seed)
        yield


def build_net(
    recipe: Recipe,
    *,
    trunk: Any,
    head_hidden_units: int,
    input_shape: tuple[int, ...],
    kinds: Sequence[str],
    n_outputs: Sequence[int],
    loss_params: Sequence[dict[str, Any]],
    bias: NDArray[np.float64],
    loss: Any,
    task_weights: NDArray[np.float64] | None,
) -> TaskNet:
    """Assemble module, criterion and net; nothing is trained yet."""
    dtype = DTYPES[recipe.precision]
    trunk_module, n_features = build_trunk(trunk, input_shape)
    module = MultiTaskModule(
        trunk_module, n_features, n_outputs, torch.from_numpy(bias), int(head_hidden_units)
    )
    weights = None if task_weights is None else torch.from_numpy(task_weights)
    combine = LOSSES[loss](weights) if isinstance(loss, str) else _combiner(copy.deepcopy(loss))
    _check_combiner(combine, loss, len(kinds), dtype)
    task_losses = TaskLosses(
        kinds, n_outputs, getattr(combine, "family", "likelihood"), loss_params
    )
    optimizer = resolve_optimizer(recipe.optimizer)
    own = {
        "optimizer": optimizer,
        "lr": recipe.learning_rate,
        "max_epochs": recipe.max_epochs,
        "batch_size": recipe.batch_size,
        "device": recipe.device,
        "verbose": recipe.verbose,
        "train_split": None,
    }
    taken = sorted(
        name for name in recipe.net_params if name in own or name.split("__")[0] in NOT_FOR_USERS
    )
    if taken:
        raise ValueError(
            f"net_params sets {taken}, which the estimator sets itself. Use its own parameters "
            "instead, such as learning_rate for 'lr' and early_stopping for 'train_split'."
        )
    if not (recipe.verbose or any(name.startswith(PRINT_LOG) for name in recipe.net_params)):
        own[PRINT_LOG] = None  # it makes the lines of a table that nobody sees
    # LBFGS and others know none: no decay is then what they do anyway.
    if recipe.weight_decay or "weight_decay" in inspect.signature(optimizer).parameters:
        own["optimizer__weight_decay"] = recipe.weight_decay
    if _can_fuse(optimizer, module, recipe.net_params):
        own["optimizer__fused"] = True  # one kernel for all parameters
    if optimizer is torch.optim.LBFGS:  # it flattens gradients by `view`
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net = TaskNet(
        module.to(dtype),
        MultiTaskLoss(task_losses, combine, dtype).to(dtype),
        **(own | recipe.net_params),
    )
    net.amp_dtype = torch.bfloat16 if recipe.precision == "bfloat16" else None
    return net


def _can_fuse(optimizer: Any, module: nn.Module, net_params: dict[str, Any]) -> bool:
    """Whether an optimizer of torch has a fused form that can do what is asked."""
    chosen = {"optimizer__fused", "optimizer__foreach", "optimizer__differentiable"}
    return (
        optimizer.__module__.startswith("torch.optim")
        and "fused" in inspect.signature(optimizer).parameters
        and not chosen & set(net_params)
        and not any(getattr(part, "sparse", False) for part in module.modules())
    )


class PresentTasks(nn.Module):
    """A rule that knows losses only: it is given those of the tasks observed in the batch."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Call the rule, unless there is nothing to say."""
        present = counts > 0
        return self.rule(losses[present]) if present.any() else 0 * losses.sum()


def _combiner(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Find out what a user's loss takes: losses and counts, or losses alone."""
    try:
        signature = inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss)
    except (TypeError, ValueError):  # a class, or a function without a signature
        return loss
    params = signature.parameters.values()
    needed = [p for p in params if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    alone = len(needed) == 1 and needed[0].kind is not needed[0].VAR_POSITIONAL
    return PresentTasks(loss) if alone and "counts" not in signature.parameters else loss


def _check_combiner(combine: Any, loss: Any, n_tasks: int, dtype: torch.dtype) -> None:
    """Try the loss on two vectors, so that a wrong one fails here and by its name."""
    if isinstance(loss, type):
        raise ValueError(f"loss={loss.__name__} is a class. Pass an object: {loss.__name__}().")
    if isinstance(loss, (nn.modules.loss._Loss, TaskLosses)):
        raise ValueError(
            f"loss={loss!r} compares predictions with targets, but loss= combines task losses. "
            "Use 'weighted' or 'masked_mse', or a callable (losses, counts) -> scalar."
        )
    counts = torch.ones(n_tasks, dtype=dtype)
    losses = counts.clone().requires_grad_()
    trial = copy.deepcopy(combine)
    trial = trial.eval().to(dtype) if isinstance(trial, nn.Module) else trial
    try:
        if isinstance(trial, Combiner):
            trial.start(counts, counts, counts)
        value = trial(losses, counts)
    except Exception as error:  # whatever a user's callable raises
        given = "losses" if isinstance(combine, PresentTasks) else "losses and counts"
        raise ValueError(
            f"loss={loss!r} fails for {n_tasks} tasks, called with {given} of shape "
            f"({n_tasks},): {error}."
        ) from error
    if not isinstance(value, Tensor) or value.ndim or not value.requires_grad:
        raise ValueError(
            f"loss={loss!r} must return a differentiable scalar tensor, got {value!r}."
        )


def train(net: TaskNet, recipe: Recipe, batches: Batches, valid: Batches | None) -> None:
    """Train the net in place; the caller holds it back until all went well."""
    _start_combiner(net, batches)  # before the optimizer looks for what there is to learn
    net.initialize()
    for callback in _callbacks(net, recipe, n_steps=len(batches) * recipe.max_epochs):
        net.callbacks_.append((type(callback).__name__, callback.initialize()))
    if recipe.compile:
        net.compiled = CompiledStep(net)
    try:
        net.partial_fit((batches, valid))
    finally:
        net.tally_, net.compiled = Tally(), None
    if not all(torch.isfinite(p).all() for p in net.module_.parameters()):
        raise ValueError(
            "Training ended with non-finite weights. Lower learning_rate "
            f"(learning_rate={recipe.learning_rate}), or check X and y for extreme values."
        )
    if net.interrupted_:
        warnings.warn(
            f"Training was interrupted in epoch {len(net.record_['train_loss'])} of "
            f"{recipe.max_epochs}; the weights so far are kept.",
            ConvergenceWarning,
            stacklevel=3,
        )


def precision_of(net: TaskNet) -> str:
    """Precision in which a trained net computes."""
    if net.amp_dtype is not None:
        return "bfloat16"
    return str(net.module_.heads.weight.dtype).removeprefix("torch.")


def plain_module(net: TaskNet) -> Any:
    """Return the module of a trained net as it was before skorch compiled it, if it did."""
    return getattr(net.module_, "_orig_mod", net.module_)


def restore(net: TaskNet, weights: dict[str, Any]) -> None:
    """Put weights into a new net, which can predict then."""
    try:
        net.module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the fitted weights do not fit the trunk or heads: {error}.") from error
    net.initialize()
    net.module_.eval()


def _callbacks(net: TaskNet, recipe: Recipe, n_steps: int) -> list[Any]:
    """Our schedule, unless the user brings one, and early stopping, if asked for."""
    callbacks: list[Any] = []
    if not any(isinstance(callback, LRScheduler) for _, callback in net.callbacks_):
        callbacks.append(CosineSchedule(n_steps))
    if recipe.patience is not None:
        callbacks.append(
            EarlyStopping(
                "valid_objective",
                patience=recipe.patience,
                threshold=recipe.tol,
                threshold_mode="abs",
                load_best=True,
                sink=print if recipe.verbose else noop,
            )
        )
    return callbacks


def _start_combiner(net: TaskNet, batches: Batches) -> None:
    """Tell the combiner the constant predictor's losses and the expected counts per batch."""
    combine, task_losses = net.criterion.combine, net.criterion.task_losses
    if not isinstance(combine, Combiner):
        return
    net.criterion.to(batches.device)
    constant = net.module.heads.bias.detach().to(batches.device).expand(len(batches.targets), -1)
    losses, counts = task_losses(constant, batches.targets, batches.weight)
    combine.start(losses, counts / len(batches), task_losses.powers)


def predict_raw(
    net: TaskNet, source: Source, rows: Rows, embed: bool = False
) -> NDArray[np.floating[Any]]:
    """Raw outputs (n, O) or (n, M, O), or the representation (n, F), of `rows`."""
    module = net.module_.eval()  # all of its parts, whatever they were set to since
    inputs = Inputs(source, next(module.parameters()).dtype, torch.device(net.device))
    widest = max(math.prod(source.shape), module.n_features)
    chunk = min(CHUNK_ROWS, max(1, CHUNK_VALUES // widest))
    found: NDArray[np.floating[Any]] | None = None
    with torch.inference_mode():
        for start in range(0, len(rows), chunk):
            x = inputs(rows[start : start + chunk])
            result = (module.embed(x) if embed else net.infer(x)).cpu().numpy()
            if found is None:  # at once: small arrays in between would pin the memory of chunks
                found = np.empty((len(rows), *result.shape[1:]), result.dtype)
            found[start : start + chunk] = result
    assert found is not None
    return found


def shift_outputs(net: TaskNet, shift: NDArray[np.float64]) -> None:
    """Add constants (n_outputs,) to the raw outputs."""
    if not np.isfinite(shift).all():
        raise ValueError("Training ended with outputs that are not finite. Lower learning_rate.")
    bias = net.module_.heads.bias
    with torch.no_grad():
        bias += torch.from_numpy(shift).to(bias)
