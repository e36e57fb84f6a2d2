"""Masked losses per task, and rules that make them one number.

Two small ideas. `TaskLosses` turns raw outputs and targets into the mean loss of each task over
its observed targets, and how many there were. A *combiner* (`LogProd`, `Weighted`, `MaskedMSE`)
turns those into one scalar to minimise. Both are plain `torch.nn.Module` objects:

>>> import torch
>>> from sklearn_mtl.losses import LogProd, TaskLosses
>>> task_losses = TaskLosses(["classification", "regression"], n_outputs=[2, 1])
>>> combine = LogProd()
>>> target = torch.tensor([[1.0, 0.5], [0.0, float("nan")]])
>>> output = torch.zeros(2, 3, requires_grad=True)
>>> losses, counts = task_losses(output, target)
>>> [round(v, 3) for v in losses.tolist()], counts.tolist()
([0.693, 0.25], [2.0, 1.0])
>>> combine(losses, counts).backward()
>>> output.grad[1, 2].item()  # nothing observed there: exactly no gradient
0.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "CELL_LOSSES",
    "LOSSES",
    "CellLoss",
    "Cells",
    "Combiner",
    "KindLoss",
    "LogProd",
    "MaskedMSE",
    "TaskLosses",
    "Uncertainty",
    "Weighted",
]

NO_CODE = -(2**62)  # to be ignored: PyTorch's own is -100, which would pass for a class

CellLoss = Callable[..., Tensor]
Param = float | Tensor


def squared_error(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error of each cell; raw (..., 1), target (...)."""
    error = raw.squeeze(-1) - target
    return error * error  # the gradient of a power costs more


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each cell; raw (..., C) are logits, target (...) class codes."""
    logits, codes = raw.flatten(0, -2), target.flatten().long()
    losses = nn.functional.cross_entropy(logits, codes, reduction="none", ignore_index=NO_CODE)
    return losses.view_as(target)


def brier(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error between probabilities and one-hot label, summed over classes (Brier 1950)."""
    one_hot = nn.functional.one_hot(target.long(), raw.shape[-1])
    return (raw.softmax(dim=-1) - one_hot).square().sum(dim=-1)


def sequential_logit(raw: Tensor, target: Tensor) -> Tensor:
    """Negative log-probability of ordered classes; raw (..., C - 1), target (...) ranks.

    Output c is the log-odds of going beyond class c, given that it was reached.
    """
    return -sequential_log_proba(raw).gather(-1, target.long().unsqueeze(-1))[..., 0]


def sequential_log_proba(raw: Tensor) -> Tensor:
    """Log-probabilities (..., C) of ordered classes; raw (..., C - 1)."""
    pad, log_sigmoid = nn.functional.pad, nn.functional.logsigmoid
    reached = pad(log_sigmoid(raw).cumsum(dim=-1), (1, 0))
    return reached + pad(log_sigmoid(-raw), (0, 1))


def ranked_probability(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error of the probabilities to be above each class, summed (Epstein 1969)."""
    proba = nn.functional.logsigmoid(raw).cumsum(dim=-1).exp()
    rank = torch.arange(raw.shape[-1], device=raw.device)
    above = (target.unsqueeze(-1) > rank).to(raw.dtype)
    return (proba - above).square().sum(dim=-1)


def pinball(raw: Tensor, target: Tensor, quantile: Param = 0.5) -> Tensor:
    """Pinball loss of a quantile (Koenker and Bassett 1978); raw (..., 1), target (...)."""
    error = target - raw.squeeze(-1)
    return torch.maximum(quantile * error, (quantile - 1) * error)


def poisson_deviance(raw: Tensor, target: Tensor, spread: Param = 1.0) -> Tensor:
    """Poisson deviance of each cell over `spread` squared; target (...) >= 0.

    The mean is that of `log_mean`. Targets are in units of their overall mean.
    """
    mean = log_mean(raw, spread)
    ratio = mean - torch.where(target > 0, target, 1).log()
    deviance = torch.where(target > 0, target * (ratio.expm1() - ratio), mean.exp())
    return 2 * deviance / spread**2


def gamma_deviance(raw: Tensor, target: Tensor, spread: Param = 1.0) -> Tensor:
    """Gamma deviance of each cell over `spread` squared; target (...) > 0.

    The mean is that of `log_mean`. Targets are in units of their overall mean.
    """
    ratio = torch.where(target > 0, target, 1).log() - log_mean(raw, spread)  # 0 is under a mask
    return 2 * (ratio.expm1() - ratio) / spread**2


def squared_error_of_mean(raw: Tensor, target: Tensor, spread: Param = 1.0) -> Tensor:
    """Squared error over the variance of lognormal numbers of mean 1; target (...).

    The mean is that of `log_mean`. Targets are in units of their overall mean.
    """
    variance = torch.as_tensor(spread, dtype=raw.dtype, device=raw.device).square().expm1()
    return (log_mean(raw, spread).exp() - target).square() / variance


def log_mean(raw: Tensor, spread: Param = 1.0) -> Tensor:
    """Logarithm of the mean: `spread` times raw (..., 1).

    Beyond ±20 it grows logarithmically: the mean stays finite.
    """
    x = spread * raw.squeeze(-1)
    within = x.clamp(-20, 20)
    return within + x.sign() * (x - within).abs().log1p()


class KindLoss(NamedTuple):
    """How a kind of task is measured, in each family of losses.

    Attributes
    ----------
    likelihood, squared : callable
        ``(raw, target, **params)`` to the loss of each cell, >= 0, and 0 for a perfect fit; raw
        (..., T, n_outputs) and target (..., T) for T tasks, params (T,). Masked cells hold 0.
    power : float
        Exponent of the loss in a product of losses: 1 where it measures a squared scale, as a
        squared error or a deviance, 2 where it measures a scale itself. ``power * log(loss)`` is
        then twice the logarithm of a scale for every kind, as in the profile likelihood.
    """

    likelihood: CellLoss
    squared: CellLoss
    power: float = 1.0


CELL_LOSSES: dict[str, KindLoss] = {
    "classification": KindLoss(cross_entropy, brier),
    "ordinal": KindLoss(sequential_logit, ranked_probability),
    "regression": KindLoss(squared_error, squared_error),
    "quantile": KindLoss(pinball, pinball, power=2.0),  # squared errors have no quantiles
    "poisson": KindLoss(poisson_deviance, squared_error_of_mean),
    "gamma": KindLoss(gamma_deviance, squared_error_of_mean),
}


class Cells(NamedTuple):
    """Targets of a batch as `TaskLosses` compares them: what does not depend on the network.

    Attributes
    ----------
    target : Tensor of shape (B, n_tasks)
        Class codes, ranks and numbers, 0 where not observed.
    observed : Tensor of bool of shape (B, n_tasks), or None
        None if all are.
    share : Tensor of shape (B, n_tasks)
        Weight of each cell, over the sum of the weights of its task.
    counts : Tensor of shape (n_tasks,)
        Those sums.
    """

    target: Tensor
    observed: Tensor | None
    share: Tensor
    counts: Tensor

    @classmethod
    def of(cls, target: Tensor, weight: Tensor | None, dtype: torch.dtype) -> Cells:
        """Prepare targets, with holes, and weights as `TaskLosses` takes them.

        Parameters
        ----------
        target, weight : Tensor
            See `TaskLosses.forward`.
        dtype : torch.dtype
            Of all numbers.
        """
        observed = target == target  # NaN is not itself
        if weight is None:
            weight = observed.to(dtype)
        elif weight.shape in (target.shape, (len(target), 1)):
            observed = observed & (weight > 0)
            weight = torch.where(observed, weight, 0).to(dtype)
        else:
            raise ValueError(
                f"weight of shape {tuple(weight.shape)}: expected {tuple(target.shape)}, or "
                f"({len(target)}, 1) for a weight per row."
            )
        counts = weight.sum(dim=0)
        share = weight / counts.clamp_min(torch.finfo(dtype).tiny)
        # Fill first, then compute: selecting afterwards leaves a NaN in the gradient.
        return cls(torch.where(observed, target, 0).to(dtype), observed, share, counts)


class TaskLosses(nn.Module):
    """Mean loss of each task over its observed targets.

    Parameters
    ----------
    kinds : sequence of str
        One per task, of the keys of `CELL_LOSSES`: 'classification', 'ordinal', 'regression',
        'quantile', 'poisson', 'gamma'.
    n_outputs : sequence of int
        Raw outputs per task, in the order of `kinds`: the number of classes, one fewer for
        'ordinal', 1 for numbers.
    family : {'likelihood', 'squared'}, default='likelihood'
        Cross-entropies, squared errors and deviances; or squared errors of probabilities and means
        throughout. Quantiles take the pinball loss in both.
    params : sequence of dict, optional
        Numbers that each task's loss takes as keyword arguments, e.g. ``{"quantile": 0.9}``.

    Attributes
    ----------
    powers : Tensor of shape (n_tasks,)
        Exponent of each loss in a product of losses, see `KindLoss`.
    """

    powers: Tensor
    tasks: Any  # orders of columns: tensors, or None where they stay as they are
    columns: Any
    task_of: Any
    back: Any

    def __init__(
        self,
        kinds: Sequence[str],
        n_outputs: Sequence[int],
        family: str = "likelihood",
        params: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if family not in ("likelihood", "squared"):
            raise ValueError(f"family={family!r} is unknown. Use 'likelihood' or 'squared'.")
        self.n_tasks, self.n_outputs = len(kinds), sum(n_outputs)
        # Tasks of one kind and width are computed together: kernels do not grow with tasks.
        starts = [sum(n_outputs[:k]) for k in range(len(n_outputs))]
        params = params or [{}] * len(kinds)
        names = [tuple(sorted(given)) for given in params]
        groups: dict[tuple[str, int, tuple[str, ...]], list[int]] = {}
        for k, key in enumerate(zip(kinds, n_outputs, names, strict=True)):
            if key[0] not in CELL_LOSSES:
                raise ValueError(f"kind={key[0]!r} has no loss. Use one of {sorted(CELL_LOSSES)}.")
            groups.setdefault(key, []).append(k)
        self._groups: list[tuple[CellLoss, tuple[int, int], tuple[str, ...]]] = []
        for g, ((kind, width, given), members) in enumerate(groups.items()):
            shape = (len(members), width)
            self._groups.append((getattr(CELL_LOSSES[kind], family), shape, given))
            for name in given:
                values = torch.tensor([params[k][name] for k in members], dtype=torch.float64)
                self.register_buffer(f"param_{name}_{g}", values, persistent=False)
        self._lengths = [n for _, (n, _), _ in self._groups]
        self._widths = [n * width for _, (n, width), _ in self._groups]
        tasks = [k for members in groups.values() for k in members]
        columns = [starts[k] + i for k in tasks for i in range(n_outputs[k])]
        task_of = [k for k in range(self.n_tasks) for _ in range(n_outputs[k])]
        self._keep_order("tasks", tasks, self.n_tasks)
        self._keep_order("columns", columns, len(columns))
        self._keep_order("task_of", task_of, self.n_tasks)
        self._keep_order("back", torch.tensor(tasks).argsort().tolist(), self.n_tasks)
        powers = torch.tensor([CELL_LOSSES[kind].power for kind in kinds])
        self.register_buffer("powers", powers, persistent=False)

    def forward(
        self, output: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute losses and counts.

        Parameters
        ----------
        output : Tensor of shape (B, n_outputs) or (B, M, n_outputs)
            Raw outputs; the loss is averaged over M ensemble members. Half precision is raised to
            float32 first.
        target : Tensor of shape (B, n_tasks)
            Class codes, ranks and numbers, which are taken to be valid for their kind.
        weight : Tensor of shape (B, n_tasks) or (B, 1), optional
            Weight of each cell or row, by default 1. Not observed is where it is not positive, or
            where `target` is NaN.

        Returns
        -------
        losses : Tensor of shape (n_tasks,)
            Weighted mean over observed targets; 0, with zero gradient, where there are none.
        counts : Tensor of shape (n_tasks,)
            Sum of weights.
        """
        self._check_shapes(output, target)
        half = output.dtype in (torch.bfloat16, torch.float16)
        cells = Cells.of(target, weight, torch.float32 if half else output.dtype)
        return self.compare(output, cells), cells.counts

    def compare(self, output: Tensor, cells: Cells) -> Tensor:
        """Return the losses alone, for targets that were prepared once.

        Parameters
        ----------
        output : Tensor of shape (B, n_outputs) or (B, M, n_outputs)
            Raw outputs, as in `forward`.
        cells : Cells
            Targets and weights of the same rows.

        Returns
        -------
        losses : Tensor of shape (n_tasks,)
        """
        target, share = cells.target, cells.share
        self._check_shapes(output, target)
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()
        if cells.observed is not None:
            filled = _take(cells.observed, self.task_of)
            output = torch.where(filled if output.ndim == 2 else filled.unsqueeze(1), output, 0)
        if output.ndim > target.ndim:
            target = target.unsqueeze(1).expand(-1, output.shape[1], -1)
        # Columns in the order of the groups, one split, and the order of the tasks again.
        raws = _split(_take(output, self.columns), self._widths)
        targets = _split(_take(target, self.tasks), self._lengths)
        found = []
        for g, (cell_loss, shape, names) in enumerate(self._groups):
            given = {name: getattr(self, f"param_{name}_{g}").to(output.dtype) for name in names}
            raw = raws[g].unsqueeze(-1) if shape[1] == 1 else raws[g].unflatten(-1, shape)
            found.append(cell_loss(raw, targets[g], **given))
            if found[g].shape != targets[g].shape:
                raise ValueError(
                    f"the loss {getattr(cell_loss, '__name__', cell_loss)} of raw outputs of shape "
                    f"{tuple(raw.shape)} has "
                    f"shape {tuple(found[g].shape)}, expected {tuple(targets[g].shape)}."
                )
        cell = _take(found[0] if len(found) == 1 else torch.cat(found, dim=-1), self.back)
        if cell.ndim > share.ndim:
            cell = cell.mean(dim=1)
        return (cell * share).sum(dim=0)

    def _check_shapes(self, output: Tensor, target: Tensor) -> None:
        if output.shape[-1] != self.n_outputs or target.shape != (len(output), self.n_tasks):
            raise ValueError(
                f"output of shape {tuple(output.shape)} and target of shape {tuple(target.shape)}: "
                f"expected (B, {self.n_outputs}) and (B, {self.n_tasks})."
            )

    def _keep_order(self, name: str, positions: list[int], n_columns: int) -> None:
        """Keep which of so many columns to take, or None for all as they are."""
        if positions == list(range(n_columns)):
            setattr(self, name, None)
        else:
            index = torch.tensor(positions, dtype=torch.long)
            self.register_buffer(name, index, persistent=False)


def _split(values: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return (values,) if len(sizes) == 1 else values.split_with_sizes(sizes, -1)


def _take(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values.index_select(-1, index)


class Combiner(nn.Module):
    """Base of the rules that make one number of the losses of all tasks.

    Called with the losses and counts of a mini-batch, as `TaskLosses` returns them, it gives the
    scalar to minimise; `objective` is what that amounts to for losses over a whole data set. The
    loss of a task without a target is 0.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.
    """

    family = "likelihood"
    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        if weights is not None:
            weights = torch.as_tensor(weights).detach().clone()
            if weights.ndim != 1 or not ((weights >= 0) & (weights < torch.inf)).all():
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
        """Return the scalar objective for mean losses over a whole data set."""
        return self(losses, counts)

    def extra_repr(self) -> str:
        """Show what was set."""
        return "" if self.weights is None else f"weights={self.weights.tolist()}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take tensors for what has none before `start`."""
        for name, buffer in list(self._buffers.items()):
            if buffer is None and prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
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
    the sum over batches is then exactly the objective, however unevenly a rare task falls.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.
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
    """

    family = "squared"


class _Scaled(Weighted):
    """Rules by which a task's loss is measured by a scale of its own, down to a floor."""

    powers: Tensor | None
    lowest: Any  # a tensor, None before the first loss

    def __init__(self, weights: Tensor | None, floor: float) -> None:
        super().__init__(weights)
        if not 0 <= floor < float("inf"):
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
    """

    running: Any  # tensors, None before the first batch
    n_batches: Any
    decay: Any

    def __init__(
        self, weights: Tensor | None = None, decay: float | None = 0.95, floor: float = 0.1
    ) -> None:
        super().__init__(weights, floor)
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"decay={decay!r} must be in [0, 1), or None.")
        self.decay = decay
        self.register_buffer("running", None)  # mean losses of earlier batches, R_k
        self.register_buffer("n_batches", None)  # how many there were, without `start`

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Start the denominators at the constant predictor's losses."""
        super().start(reference, counts, powers)
        self.running, self.n_batches = _positive(reference), None

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the surrogate of one batch; in training mode, update the denominators."""
        if self.decay is None:
            return self.objective(losses, counts)
        now = losses.detach()
        scales = self._scales(now, counts).add_(now, alpha=1e-12)  # no ratio overflows
        factors = self._factors(counts).div_(scales)
        return losses.dot(factors.to(losses.dtype))

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
    For numbers, :math:`p_k = 1`, it is the formula of [1]_; for classes, theirs is
    :math:`e^{-s_k} L_k + s_k / 2`, which is the same but for a constant, with :math:`s_k` larger by
    :math:`\log 2`.

    References
    ----------
    .. [1] A. Kendall, Y. Gal and R. Cipolla, "Multi-task learning using uncertainty to weigh losses
       for scene geometry and semantics", CVPR 2018.
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


LOSSES: dict[str, type[Combiner]] = {
    "logprod": LogProd,
    "weighted": Weighted,
    "masked_mse": MaskedMSE,
    "uncertainty": Uncertainty,
}
