"""What one net takes over from another: weights, what the loss has learned, what is frozen."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from skorch import History
from torch import Tensor, nn

from sklearn_mtl._training.listeners import OfOneTraining, plain_module
from sklearn_mtl._training.net import TaskNet
from sklearn_mtl.losses import Combiner

__all__ = [
    "copied",
    "frozen_of",
    "precision_of",
    "restore",
    "rule_of",
    "stream_of",
    "take_learned",
    "toggled_by_user",
]

# Optimizers whose state is not of the shapes of the parameters.
OF_OTHER_SHAPES = (torch.optim.LBFGS, torch.optim.Adafactor)


def copied(net: TaskNet, with_optimizer: bool = False) -> TaskNet:
    """Copy a net that can predict; `with_optimizer`, one that can be trained further."""
    twin: TaskNet = object.__new__(type(net))
    twin.__dict__.update(net.__dict__)
    twin.callbacks_ = [pair for pair in net.callbacks_ if not isinstance(pair[1], OfOneTraining)]
    twin.history_ = History()
    twin.record_ = {name: list(rows) for name, rows in getattr(net, "record_", {}).items()}
    twin.listeners_ = {}
    twin.averaged_ = twin.left_out_ = twin.draws_ = twin.ctrl_c_ = None
    twin.own_draws_ = twin.group_ = None
    memo: dict[int, Any] = {}  # what they share, they share again
    for name, param in {"module": "trunk", "criterion": "loss"}.items():
        if name == "criterion" and not with_optimizer:
            continue
        known = net.__dict__[f"{name}_"]
        averaged = net.averaged_ if name == "module" else None
        try:
            part = copy.deepcopy(known if averaged is None else averaged, memo)
        except Exception as error:  # whatever a user's module does not like
            raise ValueError(
                f"{param} cannot be copied, as callbacks and partial_fit need it: {error}. Let it "
                "keep nothing but parameters, buffers and plain values, no tensors of a forward "
                "pass."
            ) from error
        twin.__dict__[f"{name}_"] = part
        if averaged is not None:  # it requires no gradients
            for p, live in zip(part.parameters(), known.parameters(), strict=True):
                p.requires_grad_(live.requires_grad)
        if net.__dict__.get(name) is known:
            twin.__dict__[name] = part
    del twin.__dict__["optimizer_"]
    twin.module = plain_module(twin)  # what skorch has compiled stands beside it
    if with_optimizer:  # not all optimizers can be copied as they are
        twin.toggled_ = toggled_by_user(net)
        twin.initialize_optimizer()
        twin.optimizer_.load_state_dict(copy.deepcopy(net.optimizer_.state_dict()))
    return twin


def precision_of(net: TaskNet) -> str:
    """Precision in which a trained net computes."""
    if net.amp_dtype_ is not None:
        return "bfloat16"
    return str(net.module_.heads.weight.dtype).removeprefix("torch.")


def rule_of(net: TaskNet) -> Any:
    """Return the rule that combines the task losses of a trained net."""
    return _criterion_of(net).combine


def _criterion_of(net: TaskNet) -> Any:
    """Return the criterion of a trained net as it was before skorch compiled it, if it did."""
    return getattr(net.criterion_, "_orig_mod", net.criterion_)


def frozen_of(net: TaskNet) -> list[str]:
    """Names of the module's parameters that are not trained."""
    return [name for name, p in plain_module(net).named_parameters() if not p.requires_grad]


def toggled_by_user(net: TaskNet) -> dict[str, bool]:
    """Tell which parameters the user has frozen or set free on the module of a trained net.

    What a callback has done in training, or a trunk came with, is their business the next time too.
    """
    flags = {name: p.requires_grad for name, p in plain_module(net).named_parameters()}
    return net.toggled_ | {k: flag for k, flag in flags.items() if flag != net.flags_.get(k, flag)}


def take_learned(net: TaskNet, trained: TaskNet) -> None:
    """Put into a new net what another one has learned.

    Its weights, what the user has frozen of them, and what its loss has learned, if that is of the
    same type.
    """
    _take_weights(net, plain_module(trained).state_dict())
    net.toggled_ = toggled_by_user(trained)
    for name, p in net.module.named_parameters():
        p.requires_grad_(net.toggled_.get(name, p.requires_grad))
    net.criterion.task_losses.resume(_criterion_of(trained).task_losses.noise)
    rule, known = net.criterion.combine, rule_of(trained)
    if type(rule) is not type(known):
        return
    absent = np.isnan(net.constant_losses_)
    if isinstance(rule, nn.Module):
        _take_rule(rule, known, torch.from_numpy(absent))
    if hasattr(trained, "constant_losses_"):  # not after `load`
        net.constant_losses_ = np.where(absent, trained.constant_losses_, net.constant_losses_)


def _take_weights(net: TaskNet, weights: Mapping[str, Any]) -> None:
    try:
        net.module.load_state_dict(weights)
    except RuntimeError as error:
        said = str(error).removesuffix(".")
        raise ValueError(f"the fitted weights do not fit the trunk or heads: {said}.") from error


def _take_rule(rule: nn.Module, known: nn.Module, absent: Tensor) -> None:
    """Copy parameters, and of our own rules what they measured in earlier batches.

    Of tasks that are `absent` from the new ones, they keep all that they have measured.
    """
    learned = dict(known.named_parameters())
    with torch.no_grad():
        for name, param in rule.named_parameters():
            if name in learned and learned[name].shape == param.shape:
                param.copy_(learned[name])
    if isinstance(rule, Combiner) and isinstance(known, Combiner):
        rule.resume(known)
        measured = dict(known.named_buffers())
        for name, buffer in rule.named_buffers():
            before = measured.get(name)
            if before is not None and before.shape == buffer.shape == absent.shape:
                buffer[absent.to(buffer.device)] = before.to(buffer)[absent.to(buffer.device)]


def restore(
    net: TaskNet,
    weights: Mapping[str, Any],
    rule: Mapping[str, Any] | None = None,
    frozen: Collection[str] = (),
    stream: Mapping[str, Any] | None = None,
) -> None:
    """Put what a file holds into a new net, which can predict then, or go on with a `stream`."""
    _take_weights(net, weights)
    if rule:
        net.criterion.combine.load_state_dict(rule)
    net.flags_ = {name: p.requires_grad for name, p in net.module.named_parameters()}
    for name, p in net.module.named_parameters():
        p.requires_grad_(name not in frozen)
    net.initialize()
    net.module_.eval()
    if stream:
        net.constant_losses_ = stream["constant_losses"]
        if "noise" in stream:
            net.criterion_.task_losses.resume(torch.from_numpy(stream["noise"]))
        if stream["optimizer"] is not None:
            _take_optimizer(net.optimizer_, stream["optimizer"])


def _take_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Load the state of an optimizer, once it is found to be one of the same options."""
    options = [
        [_options(group) for group in s["param_groups"]] for s in (state, optimizer.state_dict())
    ]
    if options[0] != options[1]:
        raise ValueError("the state of the optimizer has other options than the optimizer")
    optimizer.load_state_dict(state)
    for p, values in optimizer.state.items():
        for name, value in values.items():
            fits = not isinstance(value, Tensor) or value.shape in ((), (1,), p.shape)
            if not (fits or isinstance(optimizer, OF_OTHER_SHAPES)):
                raise ValueError(f"{name} of the optimizer is of shape {tuple(value.shape)}")


def _options(value: Any) -> Any:
    """Return what kinds of values the options of a group are."""
    if isinstance(value, dict):
        return {name: _options(option) for name, option in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_options, value))
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float if is_number else type(value)


def stream_of(net: TaskNet, with_optimizer: bool) -> dict[str, Any]:
    """Return what the next rows of a stream need besides what predicts."""
    optimizer = net.optimizer_.state_dict() if with_optimizer else None
    noise = _criterion_of(net).task_losses.noise.numpy()
    of_bounds = {} if np.isnan(noise).all() else {"noise": noise}
    return {"optimizer": optimizer, "constant_losses": net.constant_losses_, **of_bounds}
