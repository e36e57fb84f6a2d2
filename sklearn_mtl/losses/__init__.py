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

from sklearn_mtl.losses.balancing import LogProd, Uncertainty
from sklearn_mtl.losses.cells import CELL_LOSSES, CENSORED, CellLoss, KindLoss
from sklearn_mtl.losses.combiners import Combiner, LossRule, MaskedMSE, Weighted
from sklearn_mtl.losses.task_losses import Cells, TaskLosses

__all__ = [
    "CELL_LOSSES",
    "CENSORED",
    "LOSSES",
    "CellLoss",
    "Cells",
    "Combiner",
    "KindLoss",
    "LogProd",
    "LossRule",
    "MaskedMSE",
    "TaskLosses",
    "Uncertainty",
    "Weighted",
]

LOSSES: dict[str, type[Combiner]] = {
    "logprod": LogProd,
    "weighted": Weighted,
    "masked_mse": MaskedMSE,
    "uncertainty": Uncertainty,
}
