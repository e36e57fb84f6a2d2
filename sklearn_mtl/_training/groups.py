"""Parameters as optimizers take them: groups that are treated alike, and gradients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from inspect import signature
from typing import Any

import torch
from torch import nn

from sklearn_mtl.networks import Pretrained

__all__ = ["align_gradients", "check_groups", "check_rates", "grouped"]


def check_groups(prefix: str, groups: Sequence[Any], optimizer: Any, names: list[str]) -> None:
    """Refuse groups of no parameters, and options that the optimizer does not have.

    Parameters
    ----------
    prefix : str
        Of the parameters of the optimizer.
    groups : sequence of tuple
        What the user passed as `param_groups`: patterns of names, and options.
    optimizer : type
        Class of the optimizer.
    names : list of str
        Of the parameters.
    """
    params = signature(optimizer).parameters if groups else {}
    options = set(params) - {"params"}
    is_open = any(p.kind is p.VAR_KEYWORD for p in params.values())
    for group in groups:
        if not (isinstance(group, list | tuple) and len(group) == 2 and hasattr(group[1], "keys")):
            raise ValueError(
                f"{prefix}__param_groups holds {group!r}. Pass a list of pairs (pattern, "
                '{option: value}), such as [("heads.*", {"lr": 0.01})].'
            )
        pattern, chosen = group
        if not any(fnmatch(name, pattern) for name in names):
            raise ValueError(
                f"{prefix}__param_groups: no parameter matches {pattern!r}. The names are {names}."
            )
        if (unknown := sorted(set(chosen) - options)) and not is_open:
            raise ValueError(
                f"{prefix}__param_groups: {unknown} are no options of {optimizer.__name__}, which "
                f"has {sorted(options)}."
            )


def check_rates(module: nn.Module, optimizer: Any) -> None:
    """Refuse optimizers that have one learning rate, where pretrained weights have their own."""
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.LBFGS) and _rates(module):
        raise ValueError(
            f"optimizer={optimizer.__name__!r} has one learning rate for all parameters, but the "
            "trunk has another one for pretrained weights. Set trunk__relative_rate=1, or take "
            "another optimizer, such as 'AdamW'."
        )


def grouped(
    groups: list[dict[str, Any]], module: nn.Module, options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Split groups of parameters by what they are in the network.

    Parameters
    ----------
    groups : list of dict
        As the optimizer takes them.
    module : nn.Module
        The network.
    options : mapping
        Of the optimizer: what holds for groups that say nothing else.
    """
    groups = _slow_pretrained(groups, module, options["lr"])
    return _spare_vectors(groups, module) if options.get("weight_decay") else groups


def _slow_pretrained(
    groups: list[dict[str, Any]], module: nn.Module, rate: Any
) -> list[dict[str, Any]]:
    """Split groups by learning rate: that of pretrained weights is a share of `rate`.

    Groups with a rate of their own, by the user's word, stay as they are.
    """
    rates, split = _rates(module), []
    for group in groups if rates else []:
        parts: dict[float, list[Any]] = {1.0: []}
        for p in group["params"]:
            parts.setdefault(rates.get(id(p), 1.0), []).append(p)
        if "lr" in group or len(parts) == 1:
            split.append(group)
            continue
        split += [
            group | {"params": params} | ({"lr": rate * share} if share != 1 else {})
            for share, params in parts.items()
            if params
        ]
    return split or groups


def _rates(module: nn.Module) -> dict[int, float]:
    """Learning rates of parameters, by their ids, where they are not 1."""
    return {
        id(p): part.relative_rate
        for part in module.modules()
        if isinstance(part, Pretrained) and part.relative_rate != 1
        for p in part.parameters()
    }


def _spare_vectors(groups: list[dict[str, Any]], module: nn.Module) -> list[dict[str, Any]]:
    """Split groups by what has weight decay: matrices, unless a part of the network spares them.

    Groups with a weight decay of their own, by the user's word, stay as they are.
    """
    spared, split = _spared(module), []
    for group in groups:
        if "weight_decay" in group:
            split.append(group)
            continue
        params = group["params"]
        vectors = [p for p in params if p.ndim <= 1 or id(p) in spared]
        matrices = [p for p in params if p.ndim > 1 and id(p) not in spared]
        split += [
            group | {"params": matrices},
            group | {"params": vectors, "weight_decay": 0.0},
        ]
    return split


def _spared(module: nn.Module) -> set[int]:
    """Ids of the parameters that parts of a network want no weight decay on."""
    spared = set()
    for part in module.modules():
        if callable(name_them := getattr(part, "no_weight_decay", None)):
            names = set(name_them())
            spared |= {id(p) for name, p in part.named_parameters() if name in names}
    return spared


def align_gradients(params: Any) -> None:
    """Put gradients in the memory order of their parameters, as autograd does.

    Fused optimizers on a CPU take both as they stand in memory.
    """
    for p in params:
        grad = p.grad
        if grad is None or not grad.layout == p.layout == torch.strided:
            continue
        if grad.stride() != p.stride():
            p.grad = torch.empty_like(p).copy_(grad)
