"""`TaskLosses`: the mean loss of each task over its observed targets, and how many there were."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sklearn_mtl.losses.cells import CELL_LOSSES, CellLoss, KindLoss

__all__ = ["Cells", "TaskLosses"]

# Of bounded targets: what a batch counts in the running estimate of the noise, as the losses of
# earlier batches do in `LogProd`; and the least that it may be, of the first guess 1.
NOISE_RATE, LEAST_NOISE = 0.05, 0.01


class Cells(NamedTuple):
    """Targets of a batch as `TaskLosses` compares them: what does not depend on the network.

    Parameters
    ----------
    target : Tensor of shape (B, n_tasks)
        Class codes, ranks and numbers, 0 where not observed.
    observed : Tensor of bool of shape (B, n_tasks), or None
        None if all are.
    share : Tensor of shape (B, n_tasks)
        Weight of each cell, over the sum of the weights of its task.
    counts : Tensor of shape (n_tasks,)
        Those sums.
    members : Tensor of shape (B, M), default=None
        Share of each member of an ensemble in the loss of a row; None is 1 / M.
    reach : Tensor of shape (B, n_tasks), default=None
        Way from each target to its other bound, 0 where it is exact; None if all are.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import Cells
    >>> target = torch.tensor([[1.0, 0.5], [0.0, torch.nan]])
    >>> cells = Cells.of(target, weight=None, dtype=torch.float32)
    >>> cells.counts.tolist()
    [2.0, 1.0]
    >>> cells.share.tolist()
    [[0.5, 1.0], [0.5, 0.0]]
    """

    target: Tensor
    observed: Tensor | None
    share: Tensor
    counts: Tensor
    members: Tensor | None = None
    reach: Tensor | None = None

    @classmethod
    def of(
        cls,
        target: Tensor,
        weight: Tensor | None,
        dtype: torch.dtype,
        reach: Tensor | None = None,
    ) -> Cells:
        """Prepare targets, with holes, and weights as `TaskLosses` takes them.

        Parameters
        ----------
        target, weight : Tensor
            See `TaskLosses.forward`.
        dtype : torch.dtype
            Of all numbers.
        reach : Tensor, default=None
            See `TaskLosses.forward`.

        Returns
        -------
        cells : Cells
            Without holes.
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
        if reach is not None:
            reach = torch.where(observed, reach, 0).to(dtype)
        target = torch.where(observed, target, 0).to(dtype)
        return cls(target, observed, share, counts, reach=reach)


class TaskLosses(nn.Module):
    """Mean loss of each task over its observed targets.

    Parameters
    ----------
    kinds : sequence of str or KindLoss
        One per task: a key of `CELL_LOSSES` ('classification', 'ordinal', 'regression',
        'quantile', 'poisson', 'gamma'), or losses: `CENSORED`, or of your own.
    n_outputs : sequence of int
        Raw outputs per task, in the order of `kinds`: the number of classes, one fewer for
        'ordinal', 1 for numbers.
    family : {'likelihood', 'squared'}, default='likelihood'
        Cross-entropies, squared errors and deviances; or squared errors of probabilities and means
        throughout. Quantiles take the pinball loss in both.
    params : sequence of dict, optional
        Numbers that each task's loss takes as keyword arguments, e.g. ``{"quantile": 0.9}``.
        Tasks with bounded targets, `CENSORED`, need `scale`: a first guess of the standard
        deviation of the noise, which is learned in training.

    Attributes
    ----------
    powers : Tensor of shape (n_tasks,)
        Exponent of each loss in a product of losses, see `KindLoss`.

    Examples
    --------
    >>> import torch
    >>> from sklearn_mtl.losses import TaskLosses
    >>> task_losses = TaskLosses(["classification", "regression"], n_outputs=[2, 1])
    >>> target = torch.tensor([[1.0, 0.5], [0.0, torch.nan]])
    >>> losses, counts = task_losses(torch.zeros(2, 3), target)
    >>> losses, counts
    (tensor([0.6931, 0.2500]), tensor([2., 1.]))
    """

    powers: Tensor
    tasks: Any  # orders of columns: tensors, or None where they stay as they are
    columns: Any
    task_of: Any
    back: Any

    def __init__(
        self,
        kinds: Sequence[str | KindLoss],
        n_outputs: Sequence[int],
        family: str = "likelihood",
        params: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if family not in ("likelihood", "squared"):
            raise ValueError(f"family={family!r} is unknown. Use 'likelihood' or 'squared'.")
        self.n_tasks, self.n_outputs = len(kinds), sum(n_outputs)
        # Tasks of one kind and width are computed together: kernels do not grow with tasks.
        starts = list(itertools.accumulate(n_outputs, initial=0))
        params = params or [{}] * len(kinds)
        names = [tuple(sorted(given)) for given in params]
        measures = [_losses_of(kind) for kind in kinds]
        groups: dict[tuple[KindLoss, int, tuple[str, ...]], list[int]] = {}
        for k, key in enumerate(zip(measures, n_outputs, names, strict=True)):
            groups.setdefault(key, []).append(k)
        self._groups: list[tuple[CellLoss, tuple[int, int], tuple[str, ...]]] = []
        self._noise: dict[int, CellLoss] = {}
        # Where several processes have parts of a batch: expected squares, to be summed first.
        self.held: dict[int, Tensor] | None = None
        for g, ((kind, width, given), members) in enumerate(groups.items()):
            shape = (len(members), width)
            self._groups.append((getattr(kind, family), shape, given))
            if kind.noise is not None:
                self._noise[g] = kind.noise
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
        powers = torch.tensor([kind.power for kind in measures])
        self.register_buffer("powers", powers, persistent=False)

    def forward(
        self,
        output: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        reach: Tensor | None = None,
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
        reach : Tensor of shape (B, n_tasks), optional
            Of tasks with bounded targets: the way from the target to its other bound. 0, the
            default, is exact; infinite, upwards or downwards, is no other bound.

        Returns
        -------
        losses : Tensor of shape (n_tasks,)
            Weighted mean over observed targets; 0, with zero gradient, where there are none.
        counts : Tensor of shape (n_tasks,)
            Sum of weights.
        """
        self._check_shapes(output, target)
        half = output.dtype in (torch.bfloat16, torch.float16)
        cells = Cells.of(target, weight, torch.float32 if half else output.dtype, reach)
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
            Mean loss of each task, 0 for a task without a target.
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
        reaches = self._reaches(cells, targets) if self._noise else {}
        losses = []
        for g, (cell_loss, shape, names) in enumerate(self._groups):
            given = {name: getattr(self, f"param_{name}_{g}").to(output.dtype) for name in names}
            given |= {"reach": reaches[g]} if g in reaches else {}
            raw = raws[g].unsqueeze(-1) if shape[1] == 1 else raws[g].unflatten(-1, shape)
            losses.append(cell_loss(raw, targets[g], **given))
            if losses[g].shape != targets[g].shape:
                raise ValueError(
                    f"the loss {getattr(cell_loss, '__name__', cell_loss)} of raw outputs of shape "
                    f"{tuple(raw.shape)} has "
                    f"shape {tuple(losses[g].shape)}, expected {tuple(targets[g].shape)}."
                )
            if g in reaches and self.training and output.requires_grad:
                self._learn_noise(g, raw.detach(), targets[g], given, cells)
        cell = _take(losses[0] if len(losses) == 1 else torch.cat(losses, dim=-1), self.back)
        return _mean(cell, share, cells.members)

    def _reaches(self, cells: Cells, targets: Sequence[Tensor]) -> dict[int, Tensor]:
        """Way to the other bound, for the groups of tasks that may have one."""
        if cells.reach is None:
            return {g: torch.zeros_like(targets[g]) for g in self._noise}
        parts = _split(_take(cells.reach, self.tasks), self._lengths)
        reaches = {g: parts[g] for g in self._noise}
        members = [target.ndim > cells.reach.ndim for target in targets]
        return {
            g: reach.unsqueeze(1).expand_as(targets[g]) if members[g] else reach
            for g, reach in reaches.items()
        }

    def _learn_noise(
        self, g: int, raw: Tensor, target: Tensor, given: dict[str, Tensor], cells: Cells
    ) -> None:
        """Let the scales of a group follow a batch, or hold what they follow."""
        at = slice(sum(self._lengths[:g]), sum(self._lengths[: g + 1]))
        share = _take(cells.share, self.tasks)[:, at]
        with torch.no_grad():
            square = _mean(self._noise[g](raw, target, **given), share, cells.members)
        if self.held is None:
            self.learn_noise(g, square, cells.counts)
        else:
            self.held[g] = square

    def learn_noise(self, g: int, square: Tensor, counts: Tensor) -> None:
        """Let the scales of a group follow the expected squares of a batch.

        Parameters
        ----------
        g : int
            Number of the group of tasks, a key of `held`.
        square : Tensor of shape (n,)
            Expected squares of these tasks.
        counts : Tensor of shape (n_tasks,)
            Of all tasks.
        """
        at = slice(sum(self._lengths[:g]), sum(self._lengths[: g + 1]))
        counts = _take(counts, self.tasks)[at]
        with torch.no_grad():
            seen = (counts > 0) & (square < torch.inf)
            step = torch.where(seen, square - 1, 0).clamp_max(1 / NOISE_RATE) * NOISE_RATE
            scale = getattr(self, f"param_scale_{g}")
            factor = (1 + step.to(scale.dtype)).sqrt()
            # Not in place: the losses of the batch are still to be differentiated.
            setattr(self, f"param_scale_{g}", (scale * factor).clamp_min(LEAST_NOISE))

    @property
    def noise(self) -> Tensor:
        """Noise that was learned of each task (n_tasks,), NaN for those without bounds."""
        found = torch.full((self.n_tasks,), torch.nan, dtype=torch.float64)
        for g in self._noise:
            found[self._tasks_of(g)] = getattr(self, f"param_scale_{g}").double().cpu()
        return found

    def resume(self, noise: Tensor) -> None:
        """Go on from noise that was learned before.

        Parameters
        ----------
        noise : Tensor of shape (n_tasks,)
            NaN where it is not known.
        """
        for g in self._noise:
            scale = getattr(self, f"param_scale_{g}")
            known = noise[self._tasks_of(g)].to(scale)
            setattr(self, f"param_scale_{g}", torch.where(known.isfinite(), known, scale))

    def _tasks_of(self, g: int) -> list[int]:
        """Positions of the tasks of a group."""
        order = range(self.n_tasks) if self.tasks is None else self.tasks.tolist()
        return list(order[sum(self._lengths[:g]) : sum(self._lengths[: g + 1])])

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


def _mean(cell: Tensor, share: Tensor, members: Tensor | None) -> Tensor:
    """Mean over members and rows, of each task."""
    if cell.ndim > share.ndim:
        if members is None:
            cell = cell.mean(dim=1)
        else:  # as einsum would, in a third of its calls
            cell = torch.bmm(cell.transpose(1, 2), members.unsqueeze(2)).squeeze(2)
    return (cell * share).sum(dim=0)


def _losses_of(kind: str | KindLoss) -> KindLoss:
    if isinstance(kind, KindLoss):
        return kind
    if kind not in CELL_LOSSES:
        raise ValueError(f"kind={kind!r} has no loss. Use one of {sorted(CELL_LOSSES)}.")
    return CELL_LOSSES[kind]


def _split(values: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    return (values,) if len(sizes) == 1 else values.split_with_sizes(sizes, -1)


def _take(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values.index_select(-1, index)
