"""Training and prediction: a net of skorch is assembled, trained and asked.

The estimator *holds* the net. It gets its batches (read by index, never row by row) and its loss
(per-task losses, then a combiner) here.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from skorch import History
from skorch.callbacks import BatchScoring, EarlyStopping, EpochScoring, LRScheduler
from skorch.utils import noop
from torch import Tensor, nn

from sklearn_mtl._batches import Batches, Inputs
from sklearn_mtl._compile import CompiledStep
from sklearn_mtl._net import CosineSchedule, MultiTaskLoss, Tally, TaskNet, Watch
from sklearn_mtl._recipe import DTYPES, Recipe, resolve_optimizer
from sklearn_mtl._validation import Rows, Source
from sklearn_mtl.losses import LOSSES, Combiner, TaskLosses
from sklearn_mtl.networks import MultiTaskModule, build_trunk, takes_channels_last

__all__ = [
    "TaskNet",
    "Watch",
    "build_net",
    "copied",
    "plain_module",
    "precision_of",
    "predict_raw",
    "restore",
    "seeded",
    "shift_outputs",
    "start_combiner",
    "take_learned",
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
    _check_whose(recipe.net_params.get("callbacks"))
    trunk_module, n_features = build_trunk(trunk, input_shape)
    module = MultiTaskModule(
        trunk_module,
        n_features,
        n_outputs,
        torch.from_numpy(bias),
        int(head_hidden_units),
        takes_channels_last(trunk_module, input_shape),
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
    # Fused optimizers take weights and gradients as they stand in memory, and LBFGS views them.
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


def train(
    net: TaskNet, recipe: Recipe, batches: Batches, valid: Batches | None, watch: Watch | None
) -> None:
    """Train the net in place; the caller holds it back until all went well."""
    if not net.initialized_:
        net.initialize()
        _check_callbacks(net, recipe.is_stream)
    if not recipe.is_stream:
        n_steps = len(batches) * recipe.max_epochs
        own = [callback.initialize() for callback in _callbacks(net, recipe, n_steps)]
        net.callbacks_ += [(type(callback).__name__, callback) for callback in own]
    found = list(net.callbacks_)
    if watch is not None:
        net.callbacks_.append(("Watch", watch))
    if recipe.compile:
        net.compiled = CompiledStep(net)
    try:
        net.partial_fit((batches, valid))
    finally:
        net.tally_, net.compiled, net.callbacks_ = Tally(), None, found
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


def _check_whose(callbacks: Any) -> None:
    """Refuse callbacks of scikit-learn, which have another way in."""
    for found in callbacks if isinstance(callbacks, list | tuple) else ():
        callback = found[-1] if isinstance(found, tuple) else found
        if hasattr(callback, "on_fit_task_begin"):
            raise ValueError(
                f"net_params holds {type(callback).__name__}, a callback of scikit-learn. Pass it "
                "to set_callbacks."
            )


def _check_callbacks(net: TaskNet, is_stream: bool) -> None:
    """Refuse callbacks that take the targets of a batch for one array, or a stream for a fit."""
    for name, callback in net.callbacks_:
        if is_stream and isinstance(callback, LRScheduler):
            raise ValueError(
                f"net_params holds the schedule {name}, which would begin anew with each call of "
                "partial_fit. Leave it out, and set learning_rate between the calls."
            )
        if isinstance(callback, BatchScoring) or (
            isinstance(callback, EpochScoring) and callback.use_caching
        ):
            raise ValueError(
                f"net_params holds the callback {name}, a {type(callback).__name__} of skorch, "
                "which takes the targets of a batch for one array; here they are those of several "
                "tasks. Use a callback of scikit-learn: set_callbacks(ScoringMonitor(scoring=...))."
            )


def copied(net: TaskNet, with_optimizer: bool = False) -> TaskNet:
    """Copy a net that can predict; `with_optimizer`, one that can be trained further."""
    twin: TaskNet = object.__new__(type(net))
    twin.__dict__.update(net.__dict__)
    twin.callbacks_ = [found for found in net.callbacks_ if not isinstance(found[1], Watch)]
    twin.history_ = History()
    twin.record_ = {name: list(rows) for name, rows in net.record_.items()}
    twin.compiled, twin.heard, twin.tally_ = None, None, Tally()
    memo: dict[int, Any] = {}  # what they share, they share again
    for name, param in {"module": "trunk", "criterion": "loss"}.items():
        if name == "criterion" and not with_optimizer:
            continue
        known = net.__dict__[f"{name}_"]
        try:
            part = copy.deepcopy(known, memo)
        except Exception as error:  # whatever a user's module does not like
            raise ValueError(
                f"{param} cannot be copied, as callbacks and partial_fit need it: {error}. Let it "
                "keep nothing but parameters, buffers and plain values, no tensors of a forward "
                "pass."
            ) from error
        twin.__dict__[f"{name}_"] = part
        if net.__dict__.get(name) is known:
            twin.__dict__[name] = part
    del twin.__dict__["optimizer_"]
    if with_optimizer:  # not all optimizers can be copied as they are
        twin.initialize_optimizer()
        twin.optimizer_.load_state_dict(copy.deepcopy(net.optimizer_.state_dict()))
    return twin


def precision_of(net: TaskNet) -> str:
    """Precision in which a trained net computes."""
    if net.amp_dtype is not None:
        return "bfloat16"
    return str(net.module_.heads.weight.dtype).removeprefix("torch.")


def plain_module(net: TaskNet) -> Any:
    """Return the module of a trained net as it was before skorch compiled it, if it did."""
    return getattr(net.module_, "_orig_mod", net.module_)


def take_weights(net: TaskNet, weights: Mapping[str, Any]) -> None:
    """Put weights into a new net."""
    try:
        net.module.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the fitted weights do not fit the trunk or heads: {error}.") from error


def take_learned(net: TaskNet, trained: TaskNet) -> None:
    """Put into a new net what another one has learned, and its loss, if it is of the same type."""
    take_weights(net, plain_module(trained).state_dict())
    rule: Any = net.criterion.combine
    known: Any = getattr(trained.criterion_, "combine", None)
    if isinstance(rule, nn.Module) and type(rule) is type(known):
        found = dict(known.named_parameters())
        with torch.no_grad():
            for name, param in rule.named_parameters():
                if name in found and found[name].shape == param.shape:
                    param.copy_(found[name])


def restore(net: TaskNet, weights: Mapping[str, Any]) -> None:
    """Put weights into a new net, which can predict then."""
    take_weights(net, weights)
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


def start_combiner(net: TaskNet, batches: Batches) -> None:
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
    dtype = next(module.parameters()).dtype
    inputs = Inputs(source, dtype, torch.device(net.device))
    widest = max(math.prod(source.shape), module.n_features)
    n_chunks = math.ceil(len(rows) / min(CHUNK_ROWS, max(1, CHUNK_VALUES // widest)))
    starts = [k * len(rows) // n_chunks for k in range(n_chunks + 1)]  # of nearly equal size
    found: NDArray[np.floating[Any]] | None = None
    with torch.inference_mode():
        for start, stop in itertools.pairwise(starts):
            x = inputs(rows[start:stop])
            result = (module.embed(x) if embed else net.infer(x)).to(dtype).cpu().numpy()
            if found is None:  # at once: small arrays in between would pin the memory of chunks
                found = np.empty((len(rows), *result.shape[1:]), result.dtype)
            found[start:stop] = result
    assert found is not None
    return found


def shift_outputs(net: TaskNet, shift: NDArray[np.float64]) -> None:
    """Add constants (n_outputs,) to the raw outputs."""
    if not np.isfinite(shift).all():
        raise ValueError("Training ended with outputs that are not finite. Lower learning_rate.")
    bias = net.module_.heads.bias
    with torch.no_grad():
        bias += torch.from_numpy(shift).to(bias)
