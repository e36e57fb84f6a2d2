"""skorch's criterion: per-task losses, then one number; and their means over an epoch."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._training.group import Group
from sklearn_mtl.losses import LOSSES, Cells, Combiner, TaskLosses
from sklearn_mtl.networks.draws import DrawsFrom, Generators

__all__ = ["MultiTaskLoss", "Tally"]


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

    def copy(self) -> Tally:
        """Return another one of the same batches."""
        twin = copy.copy(self)
        twin.batches = list(self.batches)
        return twin

    def add(self, losses: Tensor, counts: Tensor) -> None:
        """Add a batch."""
        self.n_batches += 1
        self.batches.append((losses, counts))
        if len(self.batches) == 64:
            self._sum()

    def _sum(self) -> None:
        losses, counts = (torch.stack(t).double() for t in zip(*self.batches, strict=True))
        sums = torch.stack([losses * counts, counts]).sum(dim=1)
        self.sums = sums if self.sums is None else self.sums + sums
        self.batches.clear()

    def share(self, group: Group, like: Tensor) -> None:
        """Take in the batches of other processes; `like` is a tensor of losses."""
        if self.batches:
            self._sum()
        if self.sums is None:
            self.sums = torch.zeros(2, len(like), dtype=torch.float64, device=like.device)
        self.sums = group.sum(self.sums)

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
        losses, counts = losses.to(self.dtype, copy=True), counts.to(self.dtype)
        with torch.enable_grad(), _at_rest(self.combine) as rule:
            slopes = rule.slopes(losses, counts) if type(rule) in LOSSES.values() else None
            if slopes is None:
                losses.requires_grad_()
                (slopes,) = torch.autograd.grad(rule(losses, counts), losses)
        return slopes.to(self.dtype)


@contextlib.contextmanager
def _at_rest(rule: Any) -> Iterator[Any]:
    """Look at a rule without changing what it has learned, or the random state."""
    if type(rule) in LOSSES.values():  # ours change nothing in evaluation mode: no copy is needed
        training = rule.training
        try:
            yield rule.eval()
        finally:
            rule.train(training)
    else:
        rule = copy.deepcopy(rule)
        with DrawsFrom(Generators(0)):
            yield rule.eval() if isinstance(rule, nn.Module) else rule
