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
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.utils import noop
from torch import Tensor, nn

from sklearn_mtl.losses import LOSSES, Combiner, TaskLosses
from sklearn_mtl.networks import DenseTrunk, MultiTaskModule, build_trunk

__all__ = [
    "DTYPES",
    "Batches",
    "Recipe",
    "TaskNet",
    "auto_batch_size",
    "auto_max_epochs",
    "auto_precision",
    "auto_weight_decay",
    "build_net",
    "device_or_cpu",
    "plain_module",
    "precision_of",
    "predict_raw",
    "resolve_device",
    "restore",
    "seeded",
    "shift_outputs",
    "train",
]

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.float32}

# Held while torch's global generator is ours, so that fits in threads do not mix their draws.
GENERATOR = threading.RLock()

# What skorch takes besides, and has no effect here: batches come from `Batches`.
NOT_FOR_USERS = {"module", "criterion", "dataset", "iterator_train", "iterator_valid", "warm_start"}

# Input values and rows per chunk when predicting; larger ones are no faster, and take memory.
CHUNK_VALUES, CHUNK_ROWS = 2**22, 2**13


# What this room asks of X: rows by index, as finite and standardised arrays.
Reader = Callable[[NDArray[np.intp]], NDArray[Any]]


class Recipe(NamedTuple):
    """How to train: resolved parameters."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Any
    weight_decay: float
    device: str
    precision: str
    verbose: int
    net_params: dict[str, Any]
    patience: int | None = None  # epochs without improvement; None does not stop early
    tol: float = 0.0


class Batches:
    """Rows of X read by index, with their targets and weights: data set and loader in one.

    Batches are of nearly equal size: no last batch of one row, on which batch statistics fail.

    Parameters
    ----------
    read : callable
        ``read(rows)`` returns the samples of increasing `rows` as an array.
    values, weight : ndarray of shape (n_samples, n_tasks)
        Encoded targets and the weight of each cell.
    rows : ndarray of int
        Rows to iterate over.
    recipe : Recipe
        Batch size and precision.
    shuffle_seed : int, optional
        Shuffles the rows anew in every pass; None keeps them in order.
    """

    def __init__(
        self,
        read: Reader,
        values: NDArray[np.float64],
        weight: NDArray[np.float64],
        rows: NDArray[np.intp],
        recipe: Recipe,
        shuffle_seed: int | None = None,
    ) -> None:
        dtype = DTYPES[recipe.precision]
        self.read, self.rows, self.batch_size = read, rows, recipe.batch_size
        # Weights up to one: a task's common factor changes nothing, and none overflows float32.
        largest = weight[rows].max(axis=0)
        weight = weight[rows] / np.where(largest > 0, largest, 1)
        self.targets = torch.from_numpy(values[rows]).to(dtype)
        self.weight = torch.from_numpy(weight).to(dtype)
        self.generator = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.stop = threading.Event()

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Read the batches, in a new random order each time if there is a seed."""
        order = np.arange(len(self.rows))
        if self.generator is not None:
            order = self.generator.permutation(order)
        for part in np.array_split(order, len(self)):
            if self.stop.is_set():
                raise KeyboardInterrupt
            part.sort()  # files and memory are read forwards
            index = torch.from_numpy(part)
            X = torch.from_numpy(self.read(self.rows[part])).to(self.targets.dtype)
            yield X, (self.targets[index], self.weight[index])


class Tally:
    """Sums of per-task losses over an epoch: its mean is one pass over all observed targets."""

    def __init__(self) -> None:
        self.sums: Tensor | float = 0.0
        self.counts: Tensor | float = 0.0
        self.n_batches = 0

    def add(self, losses: Tensor, counts: Tensor) -> None:
        """Add a batch."""
        self.sums = self.sums + losses.detach().double() * counts.double()
        self.counts = self.counts + counts.double()
        self.n_batches += 1

    def means(self) -> tuple[Tensor, Tensor]:
        """Mean losses (0 where there is none) and counts, where the combiner is."""
        sums, counts = torch.as_tensor(self.sums), torch.as_tensor(self.counts)
        return sums / torch.where(counts > 0, counts, 1), counts


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

    def objective(self, losses: Tensor, counts: Tensor) -> float:
        """Return the scalar for mean losses over a whole data set."""
        rule = _at_rest(self.combine)
        losses, counts = losses.to(self.dtype), counts.to(self.dtype)
        with torch.no_grad():
            return float((rule.objective if isinstance(rule, Combiner) else rule)(losses, counts))

    def effective_weights(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Differentiate the batch's scalar by each task's mean loss."""
        rule = _at_rest(self.combine)
        losses = losses.to(self.dtype, copy=True).requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            (gradient,) = torch.autograd.grad(rule(losses, counts.to(self.dtype)), losses)
        return gradient


def _at_rest(rule: Any) -> Any:
    """Copy a rule: looking must not change what it has learned."""
    rule = copy.deepcopy(rule)
    return rule.eval() if isinstance(rule, nn.Module) else rule


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

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Raw outputs in full precision."""
        x = x.to(self.device, non_blocking=True)
        if self.amp_dtype is None:
            return self.module_(x, **fit_params)
        with torch.autocast(torch.device(self.device).type, dtype=self.amp_dtype):
            return self.module_(x, **fit_params).float()

    def get_loss(self, y_pred: Tensor, y_true: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Combine the task losses of a batch, and tally them."""
        targets, weight = (part.to(self.device, non_blocking=True) for part in y_true)
        losses, counts = self.criterion_.task_losses(y_pred, targets, weight)
        self.tally_.add(losses, counts)
        return self.criterion_.combine(losses, counts)

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

    def run_single_epoch(self, iterator: Any, training: bool, prefix: str, **kwargs: Any) -> None:
        """Run an epoch, and record the loss of each task."""
        if iterator is None:
            return
        self.tally_ = Tally()
        try:
            super().run_single_epoch(iterator, training, prefix, **kwargs)
        finally:
            if self.tally_.n_batches:  # none if it was interrupted at once
                self._record(prefix, *self.tally_.means())

    def _record(self, prefix: str, losses: Tensor, counts: Tensor) -> None:
        seen = torch.where(counts > 0, losses, torch.nan)
        self.record_[f"{prefix}_loss"].append(seen.cpu().numpy())
        if prefix == "train":
            weights = self.criterion_.effective_weights(losses, counts / self.tally_.n_batches)
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


class Cosine:
    """Learning-rate factor: linear warm-up over the first steps, then a cosine to zero."""

    def __init__(self, n_steps: int) -> None:
        self.n_steps, self.n_warm_up = n_steps, math.ceil(n_steps / 20)

    def __call__(self, step: int) -> float:
        if step < self.n_warm_up:
            return (step + 1) / self.n_warm_up
        progress = (step - self.n_warm_up) / max(1, self.n_steps - self.n_warm_up)
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


def resolve_device(device: str) -> str:
    """'auto' is CUDA where there is one, else the CPU."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a torch device. Use 'auto', 'cpu' or 'cuda'."
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but torch finds no CUDA here. Use 'auto' or 'cpu'.")
    return device


def device_or_cpu(device: str) -> str:
    """Return a device that works here: the one asked for, else the CPU."""
    try:
        found = resolve_device(device)
        torch.empty(0, device=found)
    except (ValueError, RuntimeError, AssertionError):  # torch has several ways to say no
        return "cpu"
    return found


def resolve_optimizer(optimizer: Any) -> Any:
    """Find a name in `torch.optim`; a class is taken as it is."""
    if not isinstance(optimizer, str):
        return optimizer
    found = getattr(torch.optim, optimizer, None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(
            f"optimizer={optimizer!r} is not in torch.optim. Use a name such as 'AdamW' or 'SGD', "
            "or pass a class."
        )
    return found


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
    # LBFGS and others know none: no decay is then what they do anyway.
    if recipe.weight_decay or "weight_decay" in inspect.signature(optimizer).parameters:
        own["optimizer__weight_decay"] = recipe.weight_decay
    if optimizer is torch.optim.LBFGS:  # it flattens gradients by `view`
        module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    net = TaskNet(
        module.to(dtype),
        MultiTaskLoss(task_losses, combine, dtype).to(dtype),
        **(own | recipe.net_params),
    )
    net.amp_dtype = torch.bfloat16 if recipe.precision == "bfloat16" else None
    return net


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
    trial = _at_rest(combine)
    trial = trial.to(dtype) if isinstance(trial, nn.Module) else trial
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
    net.partial_fit((batches, valid))
    net.tally_ = Tally()
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
        cosine = Cosine(n_steps)
        callbacks.append(LRScheduler("LambdaLR", lr_lambda=cosine, step_every="batch"))
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
    constant = net.module.heads.bias.detach().expand(len(batches.targets), -1)
    losses, counts = task_losses(constant, batches.targets, batches.weight)
    combine.start(losses, counts / len(batches), task_losses.powers)


def predict_raw(
    net: TaskNet, read: Reader, rows: NDArray[np.intp], sample_size: int, embed: bool = False
) -> NDArray[np.float64]:
    """Raw outputs (n, O) or (n, M, O), or the representation (n, F), of `rows`."""
    module = net.module_.eval()
    dtype = next(module.parameters()).dtype
    out = []
    with torch.inference_mode():
        chunk = max(1, min(CHUNK_VALUES / sample_size, CHUNK_ROWS))
        for part in np.array_split(rows, math.ceil(len(rows) / chunk)):
            x = torch.from_numpy(read(part)).to(dtype)
            result = module.embed(x.to(net.device)) if embed else net.infer(x)
            out.append(result.cpu().double().numpy())
    return np.concatenate(out)


def shift_outputs(net: TaskNet, shift: NDArray[np.float64]) -> None:
    """Add constants (n_outputs,) to the raw outputs."""
    if not np.isfinite(shift).all():
        raise ValueError("Training ended with outputs that are not finite. Lower learning_rate.")
    bias = net.module_.heads.bias
    with torch.no_grad():
        bias += torch.from_numpy(shift).to(bias)


def auto_batch_size(n_rows: int, images: bool) -> int:
    """About twice the square root of the rows, a power of two from 64 to 512; of images, half."""
    size = (1 if images else 2) * math.sqrt(n_rows)
    return int(min(max(2 ** round(math.log2(size)), 64), 256 if images else 512))


def auto_max_epochs(n_rows: int, images: bool) -> int:
    """800 over the square root of the rows, from 12 to 30; of images, 2250 and from 30 to 60.

    With `auto_batch_size`, that is 150 steps for 300 rows and 400 to 600 for 1,000 to 6,000; 300,
    and 1,000 to 2,800, for images. Noisy tables are learned by heart in more; images, of which a
    `ConvTrunk` sees other shifts each time, still gain.
    """
    per_root, least, most = (2250, 30, 60) if images else (800, 12, 30)
    return round(min(max(per_root / math.sqrt(n_rows), least), most))


def auto_weight_decay(optimizer: Any, n_rows: int, images: bool) -> float:
    """3 for AdamW, whose decay is decoupled from the gradient; 0 for other optimizers.

    Found on noisy tables and on images (see the benchmarks): without it, noise is learned by heart.
    With more than 1,111 images it is 100 over the square root of their number.
    """
    if optimizer not in ("AdamW", torch.optim.AdamW):
        return 0.0
    return min(100 / math.sqrt(n_rows), 3.0) if images else 3.0


def auto_precision(trunk: Any, input_shape: tuple[int, ...], full_batch: bool) -> str:
    """float64 for a dense trunk that sees all rows at once, else float32.

    There float64 costs nothing, and a repeated row equals a weight of 2 to the last digits.
    """
    dense = isinstance(trunk, DenseTrunk) or (
        isinstance(trunk, str) and (trunk == "dense" or (trunk == "auto" and len(input_shape) == 1))
    )
    return "float64" if dense and full_batch else "float32"
