"""Undo a step: networks, losses and optimizers are again what they were before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._training.listeners import plain_module

__all__ = ["undoing", "undoing_step"]


def undoing_step(net: Any, *optimizers: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what undoes a step of a net, or an evaluation, that is yet to come."""
    modules = [plain_module(net), net.criterion_]
    if net.averaged_ is not None:
        modules.append(net.averaged_)
    put_back = undoing(*modules, *optimizers)
    tally, trains = net.tally_.copy(), net.module_.training

    def undo() -> None:
        put_back()
        net.tally_ = tally
        if trains:
            for group in net.optimizer_.param_groups:
                for param in group["params"]:
                    param.grad = None

    return undo


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
