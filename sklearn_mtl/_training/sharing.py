"""Steps of a net that several processes train: what each adds up, and what is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl._training.group import Group
from sklearn_mtl._training.groups import align_gradients
from sklearn_mtl._training.listeners import plain_module
from sklearn_mtl._training.random import Draws
from sklearn_mtl.losses import LOSSES, Cells
from sklearn_mtl.networks import BATCH_NORMS

__all__ = ["Sharing", "begin_alike"]


def begin_alike(net: Any, group: Group) -> None:
    """Let a new net begin with the weights of the first process, as modules of users may differ.

    Raises
    ------
    ValueError
        If the network of another process has other shapes.
    """
    if group.size == 1:
        return
    parts = [*net.module.named_parameters(), *net.module.named_buffers()]
    parts += [*net.criterion.named_parameters(), *net.criterion.named_buffers()]
    shapes = group.gather([(name, list(part.shape)) for name, part in parts])
    for rank, others in enumerate(shapes):
        if others != shapes[0]:
            raise ValueError(
                f"The network of process {rank} has other shapes than that of process 0. Pass the "
                "same trunk, and the same loss, in all of them."
            )
    _take_sums(group, [(part, float(group.rank == 0)) for _, part in parts])


def _take_sums(group: Group, parts: Sequence[tuple[Tensor, float]]) -> None:
    """Put in place of tensors their sum over processes, times a factor for each of them."""
    if not parts:
        return
    # Where this process has no share, not even what is not finite is in the sum.
    mine = [
        part.detach().reshape(-1).double() * share
        if share
        else torch.zeros(part.numel(), dtype=torch.float64, device=part.device)
        for part, share in parts
    ]
    sums = group.sum(torch.cat(mine)).split([part.numel() for part, _ in parts])
    with torch.no_grad():
        for (part, _), values in zip(parts, sums, strict=True):
            part.copy_(values.view_as(part))


class Sharing:
    """The part of a net that knows of other processes.

    Each process goes forwards and backwards with its share of the rows of a batch. Losses are
    divided by the counts of the whole batch, and gradients are added up, not averaged: the step is
    that of the whole batch, to rounding, however holes and rows are spread.

    Attributes
    ----------
    group_ : Group or None
        In training, the processes; None if this is the only one.
    own_draws_ : Draws or None
        In training, what the network draws from, which is another for each process. That of
        `draws_` is the same for all.
    seed_ : int
        Of the training.
    stop_asked_ : bool
        Whether a callback has asked for the end, of which the other processes are yet to hear.
    """

    group_: Group | None = None
    own_draws_: Draws | None = None
    seed_ = 0
    stop_asked_ = False
    # Of the net.
    module_: Any
    criterion_: Any
    averaged_: nn.Module | None
    draws_: Draws | None
    tally_: Any
    asked_: bool
    ctrl_c_: Any
    history: Any
    _evaluated: Any
    _set_training: Any
    infer: Any

    def _shared_step(self, batch: tuple[Tensor, Cells]) -> dict[str, Any]:
        """Go forwards and backwards; one message, and one more for rules whose slopes need it."""
        assert self.group_ is not None
        X, cells = batch
        self._set_training(True)
        task_losses, rule = self._plain_criterion().task_losses, self._plain_criterion().combine
        squares: dict[int, Tensor] = {}
        task_losses.held = squares
        try:
            raw, losses = self._evaluated(self._losses_of, X, cells)
        finally:
            task_losses.held = None
        mine, slopes = losses.detach(), None
        if type(rule) in LOSSES.values():
            slopes = rule.slopes(mine, cells.counts)
        if slopes is None:
            total = self.group_.sum(mine.clone()).requires_grad_()
            loss = self._ruled(total, cells)
            losses.backward(torch.zeros_like(total) if total.grad is None else total.grad)
            sums = self._add_up([*squares.values()], mine)
        else:
            losses.backward(slopes.to(losses.dtype))
            *sums, total = self._add_up([*squares.values(), mine], mine)
            loss = self._ruled(total, cells)
        for g, square in zip(squares, sums, strict=True):
            task_losses.learn_noise(g, square, cells.counts)
        self.tally_.add(total.detach(), cells.counts)
        return {"loss": loss.detach(), "y_pred": raw.detach()}

    def _shared_evaluation(self, batch: tuple[Tensor, Cells]) -> dict[str, Any]:
        """Evaluate a batch."""
        assert self.group_ is not None
        X, cells = batch
        self._set_training(False)
        with torch.no_grad():
            raw, losses = self._evaluated(self._losses_of, X, cells)
            total = self.group_.sum(losses.clone())
            loss = self._ruled(total, cells)
        self.tally_.add(total, cells.counts)
        return {"loss": loss, "y_pred": raw}

    def _losses_of(self, X: Any, cells: Cells) -> tuple[Tensor, Tensor]:
        """Return raw outputs, and what this process adds to the losses of a batch."""
        raw = self.infer(X, seen=cells.members)
        return raw, self._plain_criterion().task_losses.compare(raw, cells)

    def _ruled(self, total: Tensor, cells: Cells) -> Tensor:
        """Make one number of the losses, and gradients of what the rule itself learns."""
        rule = self._plain_criterion().combine
        if type(rule) in LOSSES.values() or self.draws_ is None:
            loss = rule(total, cells.counts)
        else:
            with self.draws_.drawing():  # the same in all processes
                loss = rule(total, cells.counts)
        if loss.requires_grad:
            loss.backward()
        return loss

    def _plain_criterion(self) -> Any:
        return getattr(self.criterion_, "_orig_mod", self.criterion_)

    def _add_up(self, others: list[Tensor], like: Tensor) -> list[Tensor]:
        """Add up gradients and others, of the type of `like`, and tell who wants to stop."""
        assert self.group_ is not None
        params = [p for p in self.module_.parameters() if p.requires_grad]
        if any(p.grad is not None and p.grad.layout != torch.strided for p in params):
            raise ValueError(
                "trunk has sparse gradients, which several processes cannot add up. Build its "
                "embeddings with sparse=False, or train in one process."
            )
        there = [float(p.grad is not None) for p in params]
        flags = torch.tensor([*there, float(self.stop_asked_)]).to(like)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
        parts = [*grads, *others, flags]
        flat = torch.cat([part.reshape(-1).to(like.dtype) for part in parts])
        sums = self.group_.sum(flat).split([part.numel() for part in parts])
        *there, stop = sums[-1].tolist()
        if stop:
            self.asked_ = True
            raise KeyboardInterrupt
        for p, grad, n in zip(params, sums, there, strict=False):
            p.grad = grad.view_as(p).to(p.dtype) if n else None
        align_gradients(params)
        return [part.view_as(like) for part, like in zip(sums[len(params) :], others, strict=False)]

    def _renew_draws(self) -> None:
        """Begin an epoch with random numbers of its own, which no state has to be kept of."""
        assert self.group_ is not None
        assert self.own_draws_ is not None
        self.own_draws_.renew(self.seed_, self.group_.rank, len(self.history))

    def _passes_on(self, event: str) -> bool:
        """Take note of a callback that wants to stop; whether all hear of it before they do."""
        pressed = self.ctrl_c_ is not None and self.ctrl_c_.pressed
        if self.group_ is None or pressed or event in ("on_train_begin", "on_train_end"):
            return False
        self.stop_asked_ = True
        return True

    def _agree_to_stop(self) -> None:
        """End the training in all processes, once a callback of one has asked for it."""
        assert self.group_ is not None
        if self.group_.sum(torch.tensor([float(self.stop_asked_)])).item():
            self.asked_ = True
            raise KeyboardInterrupt

    def _share_buffers(self) -> None:
        """Average the statistics of batch norms, and take other buffers from the first process."""
        assert self.group_ is not None
        module, group = plain_module(self), self.group_
        names = {
            f"{name}.{kind}"
            for name, norm in module.named_modules()
            if isinstance(norm, BATCH_NORMS) and norm.training
            for kind in ("running_mean", "running_var")
        }
        modules = [part for part in (module, self.averaged_) if part is not None]
        buffers = [pair for part in modules for pair in part.named_buffers()]
        first = float(group.rank == 0)
        _take_sums(group, [(b, 1 / group.size if name in names else first) for name, b in buffers])
