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
    "Combiner",
    "KindLoss",
    "LogProd",
    "MaskedMSE",
    "TaskLosses",
    "Weighted",
]

CellLoss = Callable[..., Tensor]
Param = float | Tensor


def squared_error(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error of each cell; raw (..., 1), target (...)."""
    return (raw[..., 0] - target).square()


def cross_entropy(raw: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each cell; raw (..., C) are logits, target (...) class codes."""
    log_proba = raw.log_softmax(dim=-1)
    return -log_proba.gather(-1, target.long().unsqueeze(-1))[..., 0]


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
    error = target - raw[..., 0]
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
    x = spread * raw[..., 0]
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

    order: Tensor
    powers: Tensor

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
        self.n_tasks = len(kinds)
        # Tasks of one kind and width are computed together: kernels do not grow with tasks.
        starts = [sum(n_outputs[:k]) for k in range(len(n_outputs))]
        params = params or [{}] * len(kinds)
        names = [tuple(sorted(given)) for given in params]
        groups: dict[tuple[str, int, tuple[str, ...]], list[int]] = {}
        for k, key in enumerate(zip(kinds, n_outputs, names, strict=True)):
            if key[0] not in CELL_LOSSES:
                raise ValueError(f"kind={key[0]!r} has no loss. Use one of {sorted(CELL_LOSSES)}.")
            groups.setdefault(key, []).append(k)
        self._groups: list[tuple[CellLoss, int, tuple[str, ...]]] = []
        for g, ((kind, width, given), tasks) in enumerate(groups.items()):
            self._groups.append((getattr(CELL_LOSSES[kind], family), width, given))
            for name in given:
                values = torch.tensor([params[k][name] for k in tasks], dtype=torch.float64)
                self.register_buffer(f"param_{name}_{g}", values, persistent=False)
            columns = [starts[k] + i for k in tasks for i in range(width)]
            self.register_buffer(f"tasks_{g}", torch.tensor(tasks), persistent=False)
            index = torch.tensor(columns, dtype=torch.long)  # empty for a single ordered class
            self.register_buffer(f"columns_{g}", index, persistent=False)
        order = [k for tasks in groups.values() for k in tasks]
        self.register_buffer("order", torch.tensor(order).argsort(), persistent=False)
        powers = torch.tensor([CELL_LOSSES[kind].power for kind in kinds])
        self.register_buffer("powers", powers, persistent=False)

    def forward(
        self, output: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute losses and counts.

        Parameters
        ----------
        output : Tensor of shape (B, n_outputs) or (B, M, n_outputs)
            Raw outputs; the loss is averaged over M ensemble members.
        target : Tensor of shape (B, n_tasks)
            Class codes, ranks and numbers.
        weight : Tensor of shape (B, n_tasks), optional
            Weight of each cell, 0 where not observed. By default 1 where `target` is not NaN.

        Returns
        -------
        losses : Tensor of shape (n_tasks,)
            Weighted mean over observed targets; 0, with zero gradient, where there are none.
        counts : Tensor of shape (n_tasks,)
            Sum of weights.
        """
        if weight is None:
            weight = (~target.isnan()).to(output.dtype)
        # Fill first, then compute: selecting afterwards leaves a NaN in the gradient.
        target = torch.where(weight > 0, target, 0)
        output = output.unsqueeze(1) if output.ndim == 2 else output
        cells = []
        for g, (cell_loss, width, names) in enumerate(self._groups):
            tasks, columns = getattr(self, f"tasks_{g}"), getattr(self, f"columns_{g}")
            raw = output.index_select(-1, columns).unflatten(-1, (len(tasks), width))
            known = target.index_select(-1, tasks).unsqueeze(1).expand(raw.shape[:-1])
            given = {name: getattr(self, f"param_{name}_{g}").to(raw.dtype) for name in names}
            cells.append(cell_loss(raw, known, **given).mean(dim=1))
        cell = torch.cat(cells, dim=-1).index_select(-1, self.order)
        counts = weight.sum(dim=0)
        sums = (cell * weight).sum(dim=0)
        return sums / torch.where(counts > 0, counts, 1), counts


class Combiner(nn.Module):
    """Base of the rules that make one number of the losses of all tasks.

    Called with the losses and counts of a mini-batch, it returns the scalar to minimise;
    `objective` is the same for losses over a whole data set.

    Parameters
    ----------
    weights : Tensor of shape (n_tasks,), optional
        Task weights, 1 by default.
    """

    family = "likelihood"
    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", None if weights is None else torch.as_tensor(weights))

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Say what to expect before the first batch, so that rare tasks are not misjudged.

        Parameters
        ----------
        reference : Tensor of shape (n_tasks,)
            Loss of the best constant predictor, > 0.
        counts : Tensor of shape (n_tasks,)
            Expected sum of weights in a batch.
        powers : Tensor of shape (n_tasks,), optional
            Exponents of the losses in a product of them (`TaskLosses.powers`), 1 by default.
        """

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the scalar objective for mean losses over a whole data set."""
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take tensors for buffers that have none before `start`."""
        for name, buffer in list(self._buffers.items()):
            if buffer is None and prefix + name in state_dict:
                self._buffers[name] = torch.empty_like(state_dict[prefix + name])
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
    """

    expected: Tensor | None

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__(weights)
        self.register_buffer("expected", None)

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Remember the expected counts."""
        self.expected = torch.where(counts > 0, counts, 1)

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the objective's unbiased estimate from one batch."""
        if self.expected is not None:
            losses = losses * (counts / self.expected)
        return self._weighted(losses).sum()

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the weighted sum over tasks with observed targets."""
        return self._weighted(losses).sum()


class MaskedMSE(Weighted):
    """Squared error throughout: `Weighted` over Brier scores and squared errors.

    The "L2 everywhere" with a {0, 1} mask: class heads take the squared error between one-hot
    label and predicted probabilities, those of ordered classes the ranked probability score, and
    counts and amounts the squared error of their mean.
    """

    family = "squared"


class LogProd(Weighted):
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
    decay : float in [0, 1), default=0.95
        Decay d of the running denominators per batch.
    floor : float, default=1e-6
        Weights stop growing when a task's loss falls below `floor` times the loss of the constant
        predictor.

    References
    ----------
    .. [1] A. Piccolboni, "A simple loss function for multi-task learning with Keras
       implementation", 2018; the geometric mean of losses is also used in S. Chennupati et al.,
       "MultiNet++", CVPR Workshops 2019.
    """

    running: Any  # tensors, None before the first batch
    lowest: Any
    powers: Tensor | None

    def __init__(
        self, weights: Tensor | None = None, decay: float = 0.95, floor: float = 1e-6
    ) -> None:
        super().__init__(weights)
        self.decay, self.floor = decay, floor
        self.register_buffer("running", None)  # mean losses of earlier batches, R_k
        self.register_buffer("lowest", None)  # floor under them
        self.register_buffer("powers", None)  # exponents, 1 without `start`

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Start the denominators at the constant predictor's losses."""
        super().start(reference, counts, powers)
        self.powers = powers
        self.running = reference.clone()
        self.lowest = (reference * self.floor).clamp_min(_smallest(reference))

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the surrogate of one batch; in training mode, update the denominators."""
        past = losses.detach()
        if self.expected is None:  # no start: each task is measured by its own first batch
            self._meet(past)
        value = super().forward(losses / self.running.clamp_min(self.lowest), counts)
        if self.training:
            moved = self.decay * self.running + (1 - self.decay) * past
            self.running = torch.where(counts > 0, moved, self.running)
        return value

    def _weighted(self, values: Tensor) -> Tensor:
        return super()._weighted(values if self.powers is None else values * self.powers)

    def _meet(self, losses: Tensor) -> None:
        """Start the denominators of tasks that have had no loss before."""
        smallest = _smallest(losses)
        if self.running is None or self.lowest is None:
            self.running, self.lowest = torch.zeros_like(losses), torch.full_like(losses, smallest)
        new = (self.running == 0) & (losses > 0)
        self.running = torch.where(new, losses, self.running)
        self.lowest = torch.where(new, (losses * self.floor).clamp_min(smallest), self.lowest)

    def objective(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the weighted sum of logarithms over tasks with observed targets."""
        lowest = _smallest(losses) if self.expected is None else self.lowest
        logs = torch.where(counts > 0, losses.clamp_min(lowest), 1).log()
        return self._weighted(logs).sum()


def _smallest(values: Tensor) -> float:
    """Return a number to divide by, whose inverse leaves room for weights and counts."""
    info = torch.finfo(values.dtype)
    return info.tiny / info.eps


LOSSES: dict[str, type[Combiner]] = {
    "logprod": LogProd,
    "weighted": Weighted,
    "masked_mse": MaskedMSE,
}
