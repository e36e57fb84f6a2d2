"""Rules by which every task is measured by a scale of its own, so that nobody tunes weights."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_mtl.losses.combiners import Combiner, Weighted

__all__ = ["LogProd", "Uncertainty"]


def _is_in(value: Any, low: float, high: float) -> bool:
    """Tell numbers in [low, high) from all else."""
    return isinstance(value, Real) and bool(low <= value < high)  # type: ignore[operator]


class _Scaled(Weighted):
    """Rules by which a task's loss is measured by a scale of its own, down to a floor."""

    powers: Tensor | None
    lowest: Any  # a tensor, None before the first loss

    def __init__(self, weights: Tensor | None, floor: float) -> None:
        super().__init__(weights)
        if not _is_in(floor, 0, float("inf")):
            raise ValueError(f"floor={floor!r} must be a finite number >= 0.")
        self.floor = floor
        self.register_buffer("powers", None)  # exponents, 1 without `start`
        self.register_buffer("lowest", None)  # floor under the losses

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Measure losses by those of the constant predictor."""
        self.powers = powers
        self.lowest = self._floor_of(_positive(reference))
        super().start(reference, counts, powers)

    def _weighted(self, values: Tensor) -> Tensor:
        return super()._weighted(values if self.powers is None else values * self.powers)

    def extra_repr(self) -> str:
        """Show what was set."""
        return ", ".join(filter(None, [super().extra_repr(), f"floor={self.floor}"]))

    def _floor_of(self, reference: Tensor) -> Tensor:
        return (reference * self.floor).clamp_min(_smallest(reference))

    def _above_zero(self, losses: Tensor) -> Tensor:
        """Losses plus the floor."""
        return losses + (_smallest(losses) if self.lowest is None else self.lowest)


class LogProd(_Scaled):
    r"""Product of the task losses, as a sum of logarithms.

    With an unknown noise variance per task, the profile likelihood asks to minimise

    .. math:: \sum_k w_k p_k \log L_k

    so that tasks are balanced by themselves: multiplying a task's loss by a constant changes
    nothing [1]_. The exponents :math:`p_k` are 1, but for losses that measure a scale and not its
    square, see `KindLoss`.

    The logarithm of a *batch's* loss would be another objective, whose minimiser is not the
    conditional mean when few targets are observed; so the gradient weights :math:`w_k p_k / L_k`
    take their denominators from *earlier* batches: it is `Weighted` with weights
    :math:`w_k p_k / R_k`, where :math:`R_k \leftarrow d R_k + (1 - d) L_{kb}` after every batch in
    which task k was observed. A task without an observed target adds 0, and keeps its weight.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.
    decay : float in [0, 1) or None, default=0.95
        Decay d of the running denominators per batch; a small one brings back the bias of single
        batches. None keeps no denominators: the logarithms of the batch's own losses, as in [1]_
        and [2]_.
    floor : float, default=0.1
        Times the loss of the constant predictor, this is added to each loss and denominator: at
        least a tenth of a target's variance is taken to be noise. Weights grow at most 11 times,
        and a task that is all but solved fades, instead of disturbing the others with ever finer
        corrections (see the benchmarks). With ``decay=None`` only after `start`.

    Notes
    -----
    The value in a batch stays near :math:`\sum_k w_k p_k` whatever is learned. To follow the
    training, look at the losses or at `objective`. Nor does its gradient shrink as the losses fall:
    let the learning rate do so.

    Without `start`, the first ``1 / (1 - decay)`` batches of a task are measured by the mean of its
    losses so far, their own included, so that one lucky batch is not taken for the scale. Their
    mean is also what the floor refers to. The exponents are 1; pass ``weights=task_losses.powers``
    if there are quantiles.

    References
    ----------
    .. [1] A. Piccolboni, "A simple loss function for multi-task learning with Keras
       implementation", 2018.
    .. [2] S. Chennupati et al., "MultiNet++: Multi-stream feature aggregation and geometric loss
       strategy for multi-task learning", CVPR Workshops, 2019.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import LogProd
    >>> losses, counts = torch.tensor([0.5, 2.0], requires_grad=True), torch.tensor([8.0, 4.0])
    >>> combine = LogProd(decay=None)
    >>> combine(losses, counts).backward()
    >>> losses.grad  # one over the loss: the task with less noise counts more
    tensor([2.0000, 0.5000])
    """

    running: Any  # tensors, None before the first batch
    n_batches: Any
    decay: Any

    def __init__(
        self, weights: Tensor | None = None, decay: float | None = 0.95, floor: float = 0.1
    ) -> None:
        super().__init__(weights, floor)
        if decay is not None and not _is_in(decay, 0, 1):
            raise ValueError(f"decay={decay!r} must be in [0, 1), or None.")
        self.decay = decay
        self.register_buffer("running", None)  # mean losses of earlier batches, R_k
        self.register_buffer("n_batches", None)  # how many there were, without `start`

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Start the denominators at the constant predictor's losses."""
        super().start(reference, counts, powers)
        self.running, self.n_batches = _positive(reference), None

    def resume(self, other: Combiner) -> None:
        """Go on from the denominators of another one."""
        if isinstance(other, LogProd) and isinstance(other.running, Tensor):
            fits = isinstance(self.running, Tensor) and self.running.shape == other.running.shape
            if fits:
                self.running = other.running.detach().to(self.running, copy=True)

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the surrogate of one batch; in training mode, update the denominators."""
        if self.decay is None:
            return self.objective(losses, counts)
        now = losses.detach()
        factors = self._over(self._scales(now, counts), now, counts)
        return losses.dot(factors.to(losses.dtype))

    def slopes(self, losses: Tensor, counts: Tensor) -> Tensor | None:
        """Return the weights over the denominators, which are of earlier batches."""
        if self.decay is None or self.factor is None:
            return None
        return self._over(self.running + self.lowest, losses, counts)

    def _over(self, scales: Tensor, losses: Tensor, counts: Tensor) -> Tensor:
        return self._factors(counts).div_(scales.add_(losses, alpha=1e-12))  # no ratio overflows

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the weighted sum of logarithms over tasks with observed targets."""
        return self._weighted(torch.where(counts > 0, self._above_zero(losses), 1).log()).sum()

    def extra_repr(self) -> str:
        """Show what was set."""
        return f"{super().extra_repr()}, decay={self.decay}"

    def _scales(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Denominators of a batch; in training mode, take its losses in for the next."""
        seen = counts / losses > 0  # not in a batch that overflowed
        if self.factor is None:
            return self._bare_scales(losses, seen)
        running = self.running
        scales = running + self.lowest
        if self.training:
            running.lerp_(torch.where(seen, losses.to(running.dtype), running), 1 - self.decay)
        return scales

    def _bare_scales(self, losses: Tensor, seen: Tensor) -> Tensor:
        """Denominators without `start`: at first a plain mean, the batch's own losses included."""
        if self.running is None:
            before, lowest, n_batches = (torch.zeros_like(losses) for _ in range(3))
        else:
            before, lowest, n_batches = self.running, self.lowest, self.n_batches
        n_batches = n_batches + seen
        share = (1 / n_batches.clamp_min(1)).clamp_min(1 - self.decay)
        running = before.lerp(torch.where(seen, losses.to(before.dtype), before), share)
        early = n_batches * (1 - self.decay) < 1.001  # at most 1, but for rounding
        lowest = torch.where(early, self._floor_of(running), lowest)
        if self.training:
            self.running, self.lowest, self.n_batches = running, lowest, n_batches
        return torch.where(early, running, before) + lowest


class Uncertainty(_Scaled):
    r"""Weighted sum with learned weights (homoscedastic uncertainty).

    .. math:: \sum_k w_k \frac{p_k}{2} \left( e^{-s_k} L_k + s_k \right)

    with a learned logarithm :math:`s_k` of each task's noise variance [1]_ (of its scale, where
    :math:`p_k = 2`). At the optimum, :math:`e^{s_k} = L_k`, this is half of `LogProd` plus a
    constant, with half its gradient: `LogProd` solves for the variances that are learned here.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default. Without them, `start` says how many tasks there are.
    floor : float, default=0.1
        Times the loss of the constant predictor, this is added to each loss, as in `LogProd`. Only
        after `start`.

    Attributes
    ----------
    log_variance : Parameter of shape (n_tasks,)
        :math:`s_k`, for the optimizer. They start at the logarithms of the constant predictor's
        losses, without `start` at 0. A batch without a target of a task does not move its own.

    Notes
    -----
    In a loop of your own, an optimizer with weight decay would pull the logarithms towards 0, as if
    each variance were 1. Give them a group without::

        torch.optim.AdamW(
            [{"params": module.parameters()}, {"params": combine.parameters(), "weight_decay": 0.0}]
        )

    The estimator does so by itself.

    For numbers, :math:`p_k = 1`, it is the formula of [1]_; for classes, theirs is
    :math:`e^{-s_k} L_k + s_k / 2`, which is the same but for a constant, with :math:`s_k` larger by
    :math:`\log 2`.

    References
    ----------
    .. [1] A. Kendall, Y. Gal and R. Cipolla, "Multi-task learning using uncertainty to weigh losses
       for scene geometry and semantics", CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import Uncertainty
    >>> combine = Uncertainty()
    >>> combine.start(torch.ones(2), torch.tensor([8.0, 4.0]))  # learned variances begin at 1
    >>> combine.log_variance.shape
    torch.Size([2])
    """

    log_variance: Any  # None before `start`

    def __init__(self, weights: Tensor | None = None, floor: float = 0.1) -> None:
        super().__init__(weights, floor)
        zeros = None if self.weights is None else nn.Parameter(0.0 * self.weights)
        self.register_parameter("log_variance", zeros)

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Start the variances at the constant predictor's losses."""
        super().start(reference, counts, powers)
        s = _positive(reference).log()
        if self.log_variance is None:
            self.log_variance = nn.Parameter(s)
        else:  # an optimizer may hold it
            with torch.no_grad():
                self.log_variance.copy_(s)

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the estimate from one batch, at the present variances."""
        terms = self._terms(losses)
        return terms.dot(self._factors(counts).to(terms.dtype))

    def slopes(self, losses: Tensor, counts: Tensor) -> Tensor | None:
        """Return the weights over the variances as they are."""
        return self._factors(counts) * (-self.log_variance.detach()).exp()

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the weighted sum over tasks with observed targets, at the best variances."""
        seen = counts > 0
        logs = torch.where(seen, self._above_zero(losses), 1).log()
        return self._weighted(logs + seen).sum()

    def _weighted(self, values: Tensor) -> Tensor:
        return 0.5 * super()._weighted(values)

    def _terms(self, losses: Tensor) -> Tensor:
        s = self.log_variance
        if s is None:
            raise ValueError(
                "Uncertainty does not know how many tasks there are. "
                "Pass weights=torch.ones(n_tasks), or call start before you make the optimizer."
            )
        return torch.addcmul(s, self._above_zero(losses), (-s).exp())


def _positive(reference: Tensor) -> Tensor:
    """Losses to compare with: a constant target leaves none, and its own scale is 1."""
    return torch.where(reference > 0, reference.detach(), 1)


def _smallest(values: Tensor) -> float:
    """Return a number to divide by, whose inverse leaves room for weights and counts."""
    return min(1024 * torch.finfo(values.dtype).tiny, 1e-7)
