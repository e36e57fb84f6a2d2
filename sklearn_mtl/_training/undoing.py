"""Undo a step: networks, losses and optimizers are again what they were before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["undoing"]


def undoing(*owners: nn.Module | torch.optim.Optimizer) -> Callable[[], None]:
    """Keep what owners hold now, and return what puts it back.

    Parameters
    ----------
    *owners : nn.Module or Optimizer
        Of modules, attributes and buffers, and not the weights, which optimizers change: of these,
        attributes, the groups, the state, and the weights.
    """
    kept = [(holder, dict(holder)) for owner in owners for holder in _holders(owner)]
    tensors = [(t, t.detach().clone()) for owner in owners for t in _tensors(owner)]

    def undo() -> None:
        for holder, items in kept:
            holder.clear()
            holder.update(items)
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)

    return undo


def _holders(owner: Any) -> Iterator[dict[Any, Any]]:
    """Dicts whose items a step may replace."""
    if isinstance(owner, nn.Module):
        for part in owner.modules():
            yield from (vars(part), part._buffers)
    else:
        yield from (vars(owner), *owner.param_groups, owner.state, *owner.state.values())


def _tensors(owner: Any) -> Iterator[Tensor]:
    """Tensors that a step may write to."""
    if isinstance(owner, nn.Module):
        yield from owner.buffers()
        return
    for group in owner.param_groups:
        yield from group["params"]
    for state in owner.state.values():
        for value in state.values():
            values = value if isinstance(value, list | tuple) else [value]
            yield from (v for v in values if isinstance(v, Tensor))
