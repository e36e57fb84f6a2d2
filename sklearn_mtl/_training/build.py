"""From parameters to a net of skorch that is ready to be trained."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._identity import identity
from sklearn_mtl._training.batches import Batches
from sklearn_mtl._training.criterion import MultiTaskLoss, Tally
from sklearn_mtl._training.groups import check_rates
from sklearn_mtl._training.listeners import check_whose
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl._training.random import Draws, float32_by_default
from sklearn_mtl._training.recipe import DTYPES, Recipe, resolve_optimizer
from sklearn_mtl.kinds import Kind
from sklearn_mtl.losses import LOSSES, Combiner, KindLoss, TaskLosses
from sklearn_mtl.networks import (
    MemberHeads,
    MultiTaskModule,
    build_trunk,
    folds_of,
    takes_channels_last,
)

__all__ = ["build_net", "built_by", "start_combiner"]

# What skorch takes besides, and has no effect here: batches come from `Batches`.
NOT_FOR_USERS = {
    *("module", "criterion", "dataset", "iterator_train", "iterator_valid", "warm_start", "history")
}

# Parameters that a net is built by.
BUILT_BY = (
    *("loss", "task_weights", "trunk", "head_hidden_units", "learning_rate", "optimizer"),
    *("weight_decay", "device", "precision", "net_params"),
)

PRINT_LOG, EPOCH_BAR = "callbacks__print_log", "callbacks__epoch_bar"


def build_net(
    parameters: Any,
    recipe: Recipe,
    encoder: TargetEncoder,
    reader: InputReader,
    bias: NDArray[np.float64],
    task_weights: NDArray[np.float64],
    draws: Draws,
) -> TaskNet:
    """Assemble module, criterion and net for what X and y are; nothing is trained yet.

    Parameters
    ----------
    parameters : namespace
        Of the estimator: `trunk`, `head_hidden_units` and `loss` are read.
    recipe : Recipe
        All others, resolved.
    encoder, reader
        Of y and X.
    bias : ndarray of shape (n_outputs,)
        What the outputs begin with.
    task_weights : ndarray of shape (n_tasks,)
        For a loss given by name.
    draws : Draws
        What the first weights come from.
    """
    dtype = DTYPES[recipe.precision]
    check_whose(recipe.net_params.get("callbacks"))
    with draws.drawing(), float32_by_default():
        bias_ = torch.from_numpy(bias)
        module = _module_of(parameters, encoder, reader, bias_, recipe.n_rows)
    n_folds = folds_of(parameters.trunk, reader.input_shape_)
    if n_folds and n_folds != module.n_folds:
        raise ValueError(
            f"trunk={parameters.trunk!r} has n_folds={n_folds}, but its module has "
            f"{module.n_folds} members with weights of their own. Let `build` return a MemberTrunk "
            "or other Members of so many."
        )
    with contextlib.nullcontext() if isinstance(parameters.loss, str) else draws.drawing():
        combine = _rule_of(parameters.loss, task_weights, dtype)
    _silence(module.heads, encoder)
    task_losses = TaskLosses(
        [
            _cell_loss_of(name, kind)
            for name, kind in zip(encoder.names, encoder.kinds_, strict=True)
        ],
        encoder.n_outputs,
        getattr(combine, "family", "likelihood"),
        [kind.loss_params for kind in encoder.kinds_],
    )
    options = _options(recipe, module)
    # Fused optimizers take weights and gradients as they stand in memory, and LBFGS views them.
    module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    criterion = MultiTaskLoss(task_losses, combine, dtype).to(dtype)
    net = TaskNet(module.to(dtype), criterion, **options)
    net.task_names_, net.reader_ = encoder.names, reader
    net.toggled_, net.listeners_ = {}, {}
    net.amp_dtype_ = torch.bfloat16 if recipe.precision == "bfloat16" else None
    return net


def built_by(parameters: Any) -> dict[str, Any]:
    """Return what a change of the parameters that a net is built by can be told by."""
    return {name: identity(getattr(parameters, name)) for name in BUILT_BY}


def _module_of(
    parameters: Any,
    encoder: TargetEncoder,
    reader: InputReader,
    bias: Tensor,
    n_rows: int | None,
) -> MultiTaskModule:
    """Make trunk and heads."""
    trunk, n_features = build_trunk(
        parameters.trunk, reader.input_shape_, reader.two_valued_, n_rows
    )
    channels_last = takes_channels_last(trunk, reader.input_shape_)
    n_hidden = int(parameters.head_hidden_units)
    try:
        return MultiTaskModule(trunk, n_features, encoder.n_outputs, bias, n_hidden, channels_last)
    except (RuntimeError, TypeError, OverflowError) as error:  # no memory, or a size of no int64
        raise ValueError(
            f"Heads of {n_features} features and head_hidden_units={n_hidden} cannot be made: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _silence(heads: Any, encoder: TargetEncoder) -> None:
    """Let the heads of tasks without any target say what they begin with, whatever X is."""
    silent = np.repeat(encoder.unobserved, encoder.n_outputs)
    if silent.any() and not isinstance(heads, MemberHeads):  # whose weights begin with 0
        with torch.no_grad():
            heads.weight[..., torch.from_numpy(silent), :] = 0


def _cell_loss_of(name: str, kind: Kind) -> KindLoss:
    if not hasattr(kind, "cell_loss"):
        raise ValueError(
            f"Task {name!r}: {type(kind).__name__} does not say how a cell is measured. Give the "
            "class an attribute cell_loss, a KindLoss of sklearn_mtl.losses."
        )
    return kind.cell_loss


def _options(recipe: Recipe, module: nn.Module) -> dict[str, Any]:
    """Parameters of skorch's net: ours, and those of the user."""
    optimizer = resolve_optimizer(recipe.optimizer)
    check_rates(module, optimizer)
    own = {
        "optimizer": optimizer,
        "lr": recipe.learning_rate,
        "max_epochs": recipe.max_epochs,
        "batch_size": recipe.batch_size,
        "device": recipe.device,
        "verbose": recipe.verbose,
        "train_split": None,
    }
    if not all(isinstance(name, str) for name in recipe.net_params):
        raise ValueError(f"net_params={recipe.net_params!r} must have names as its keys.")
    taken = sorted(
        name for name in recipe.net_params if name in own or name.split("__")[0] in NOT_FOR_USERS
    )
    if taken:
        raise ValueError(
            f"net_params sets {taken}, which the estimator sets itself. Use its own parameters "
            "instead, such as learning_rate for 'lr' and early_stopping for 'train_split'."
        )
    if not (recipe.verbose or any(name.startswith(PRINT_LOG) for name in recipe.net_params)):
        own[PRINT_LOG] = None  # nobody sees the lines
    if recipe.verbose < 2:
        own[EPOCH_BAR] = None
    # LBFGS and others know none: no decay is then what they do anyway.
    if recipe.weight_decay or "weight_decay" in inspect.signature(optimizer).parameters:
        own["optimizer__weight_decay"] = recipe.weight_decay
    if _can_fuse(optimizer, module, recipe.net_params):
        own["optimizer__fused"] = True  # one kernel for all: a quarter less time for small networks
    return own | recipe.net_params


def _rule_of(loss: Any, task_weights: NDArray[np.float64], dtype: torch.dtype) -> Any:
    """Return the rule that combines the task losses, tried on two vectors."""
    if isinstance(loss, str):
        combine: Any = LOSSES[loss](torch.from_numpy(task_weights))
    else:
        combine = _combiner(copy.deepcopy(loss))
    _check_combiner(combine, loss, len(task_weights), dtype)
    return combine


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


def start_combiner(net: TaskNet, batches: Batches) -> None:
    """Tell the combiner the constant predictor's losses and the expected counts per batch."""
    combine, task_losses = net.criterion.combine, net.criterion.task_losses
    net.criterion.to(batches.device)
    bias = net.module.heads.bias.detach().to(batches.device)
    constant = bias if bias.ndim == 1 else bias[0]
    looked_at = [
        task_losses(constant.expand(len(part.targets), -1), *part)
        for part in batches.targets.parts()
    ]
    losses, counts = looked_at[0]
    if len(looked_at) > 1:
        tally = Tally()
        for of_part in looked_at:
            tally.add(*of_part)
        losses, counts = (total.to(losses.dtype) for total in tally.means())
    # Of tasks without a target, NaN.
    net.constant_losses_ = torch.where(counts > 0, losses, torch.nan).cpu().double().numpy()
    if isinstance(combine, Combiner):
        combine.start(losses, counts / len(batches), task_losses.powers)
