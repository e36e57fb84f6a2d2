"""Parameters as optimizers take them: groups that are treated alike, and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from inspect import signature
from typing import Any

import torch
from torch import nn

__all__ = ["align_gradients", "check_groups", "spare_vectors"]


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


def spare_vectors(groups: list[dict[str, Any]], module: nn.Module) -> list[dict[str, Any]]:
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
