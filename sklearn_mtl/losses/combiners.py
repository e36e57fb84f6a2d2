"""Rules that make one number of the losses of all tasks: their base, and weighted sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

__all__ = ["Combiner", "LossLike", "LossRule", "MaskedMSE", "Weighted"]


class LossRule(Protocol):
    """Any callable that makes one number of the losses of all tasks: a type for `loss`.

    Deriving from it is not needed: a function is one, and so is a `Combiner`, which is told more.

    Examples
    --------
    >>> from torch import Tensor, tensor
    >>> from sklearn_mtl.losses import LossRule
    >>> def worst_task(losses: Tensor, counts: Tensor) -> Tensor:
    ...     return losses[counts > 0].max()
    >>> rule: LossRule = worst_task  # as type checkers see it
    >>> rule(tensor([1.0, 3.0]), tensor([8.0, 0.0])).item()
    1.0
    """

    def __call__(self, losses: Tensor, counts: Tensor, /) -> Tensor:
        """Return the scalar to minimise.

        Parameters
        ----------
        losses : Tensor of shape (n_tasks,)
            Mean loss of each task in a mini-batch, 0 for a task without a target.
        counts : Tensor of shape (n_tasks,)
            Sums of the weights of their observed targets.
        """


# What may be passed as `loss`: a name, a rule, or a callable of the losses alone.
LossLike = str | LossRule | Callable[[Tensor], Tensor]


class Combiner(nn.Module):
    """Base of the rules that make one number of the losses of all tasks.

    Called with the losses and counts of a mini-batch, as `TaskLosses` returns them, it gives the
    scalar to minimise; `objective` is what that amounts to for losses over a whole data set. The
    loss of a task without a target is 0.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import Combiner
    >>> class Largest(Combiner):
    ...     def forward(self, losses, counts):
    ...         return losses.max()
    >>> Largest()(torch.tensor([0.3, 2.0]), torch.tensor([8.0, 4.0]))
    tensor(2.)
    """

    family = "likelihood"
    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        if weights is not None:
            try:
                weights = torch.as_tensor(weights).detach().clone()
                fits = weights.ndim == 1 and bool(((weights >= 0) & (weights < torch.inf)).all())
            except (TypeError, ValueError, RuntimeError):  # torch makes no tensor of numbers of it
                fits = False
            if not fits:
                raise ValueError(
                    f"weights must be finite numbers >= 0, one per task, got {weights}."
                )
        self.register_buffer("weights", weights)

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Say what to expect before the first batch, so that rare tasks are not misjudged.

        The module may be moved to a device afterwards: what it keeps are buffers or parameters.

        Parameters
        ----------
        reference : Tensor of shape (n_tasks,)
            Loss of the best constant predictor; where it is 0, 1 is taken.
        counts : Tensor of shape (n_tasks,)
            Expected sum of weights in a batch.
        powers : Tensor of shape (n_tasks,), optional
            Exponents of the losses in a product of them (`TaskLosses.powers`), 1 by default.
        """

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the objective for mean losses over a whole data set.

        Parameters
        ----------
        losses : Tensor of shape (n_tasks,)
            Mean losses, 0 for a task without a target.
        counts : Tensor of shape (n_tasks,)
            Sums of the weights of their observed targets.

        Returns
        -------
        objective : Tensor of shape ()
            What is to be small.
        """
        return self(losses, counts)

    def slopes(self, losses: Tensor, counts: Tensor) -> Tensor | None:
        """Return the derivatives by the losses of a batch, where these have no say in them.

        Several processes then need not tell one another of losses before they go backwards.

        Parameters
        ----------
        losses : Tensor of shape (n_tasks,)
            What this process adds to the losses; they may keep large ones from overflowing.
        counts : Tensor of shape (n_tasks,)
            Those of the whole batch.

        Returns
        -------
        slopes : Tensor of shape (n_tasks,), or None
            None if they depend on the losses.
        """
        return None

    def resume(self, other: Combiner) -> None:
        """Take over the buffers that another rule of this type has learned in an earlier training.

        Called after `start`. Parameters are taken over anyway.

        Parameters
        ----------
        other : Combiner
            The rule of that training.
        """

    def extra_repr(self) -> str:
        """Show what was set."""
        return "" if self.weights is None else f"weights={self.weights.tolist()}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take tensors for what has none before `start`, and none for what has none in the state.

        The weights are an argument of the constructor: they have to be there in both, or in none.
        """
        for name, buffer in list(self._buffers.items()):
            if name == "weights":
                continue
            there = prefix + name in state_dict
            if buffer is None and there:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
            elif not there:
                self._buffers[name] = None
        for name, parameter in list(self._parameters.items()):
            if parameter is None and prefix + name in state_dict:
                setattr(self, name, nn.Parameter(torch.empty_like(state_dict[prefix + name])))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _weighted(self, values: Tensor) -> Tensor:
        return values if self.weights is None else values * self.weights


class Weighted(Combiner):
    r"""Weighted sum of the task losses.

    .. math:: \sum_k w_k L_k

    The losses are cross-entropies for classes, and squared errors, deviances or pinball losses for
    numbers.

    After `start`, a batch is divided by the *expected* count of each task instead of its own:
    the mean over the batches of an epoch is then exactly the objective, however unevenly a rare
    task falls.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import Weighted
    >>> losses, counts = torch.tensor([0.3, 2.0]), torch.tensor([8.0, 4.0])
    >>> Weighted(torch.tensor([1.0, 0.5]))(losses, counts)
    tensor(1.3000)
    """

    factor: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__(weights)
        self.register_buffer("factor", None)  # weight of one observed target, after `start`

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Remember the expected counts."""
        self.factor = self._weighted(1 / torch.where(counts > 0, counts.detach(), 1))

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the objective's unbiased estimate from one batch."""
        return losses.dot(self._factors(counts).to(losses.dtype))

    def slopes(self, losses: Tensor, counts: Tensor) -> Tensor | None:
        """Return the weights of the losses."""
        return self._factors(counts)

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the weighted sum over tasks with observed targets."""
        return self._weighted(losses).sum()

    def _factors(self, counts: Tensor) -> Tensor:
        """Weights of the tasks in a batch, 0 for those without a target."""
        if self.factor is not None:
            return counts * self.factor
        return self._weighted((counts > 0).to(counts.dtype))


class MaskedMSE(Weighted):
    """Squared error throughout: `Weighted` over Brier scores and squared errors.

    The "L2 everywhere" with a {0, 1} mask: class heads take the squared error between one-hot
    label and predicted probabilities, those of ordered classes the ranked probability score, and
    counts and amounts the squared error of their mean. What differs from `Weighted` is the
    `family`, which the losses are made with: ``TaskLosses(..., family=MaskedMSE.family)``.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import MaskedMSE
    >>> MaskedMSE()(torch.tensor([0.3, 2.0]), torch.tensor([8.0, 4.0]))
    tensor(2.3000)
    """

    family = "squared"
