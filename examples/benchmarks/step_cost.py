"""What a loss costs: one training step with each, against the same step with `mse_loss`.

A dense network 20-64-64-3, a batch of 128 rows, Adam, one thread. The steps take turns, and every
ratio is that of one turn; printed are medians, for three numbers without and with holes (NaN in
the target). The last column has a class and a number instead, still against `mse_loss` on three
numbers; there, ``by hand`` is ``cross_entropy + mse_loss`` without holes. ``with a vector`` is
`mse_loss` in a network that has three more parameters to learn, as 'uncertainty' has. The script
fails (exit code 1) if a loss on three numbers costs more than 1.3 times `mse_loss`.

    python examples/benchmarks/step_cost.py
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from real_data import publish
from torch import Tensor, nn

from sklearn_mtl.losses import LOSSES, Combiner, LogProd, TaskLosses

BOUND = 1.3
N_ROWS, N_STEPS = 128, 20  # of a batch, in a turn
Loss = Callable[[Tensor, Tensor], Tensor]


def step(loss: Loss, target: Tensor, combine: nn.Module | None = None) -> Callable[[], None]:
    """Make a training step of a fresh network."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    )
    X = torch.randn(N_ROWS, 20)
    learned = [] if combine is None else list(combine.parameters())
    optimizer = torch.optim.Adam([*net.parameters(), *learned])

    def run() -> None:
        optimizer.zero_grad()
        loss(net(X), target).backward()
        optimizer.step()

    return run


def masked(combine: Combiner, kinds: list[str], target: Tensor) -> Callable[[], None]:
    """Make a step with one of our losses."""
    n_outputs = [2 if kind == "classification" else 1 for kind in kinds]
    task_losses = TaskLosses(kinds, n_outputs, combine.family)
    combine.start(torch.ones(len(kinds)), (~target.isnan()).sum(dim=0).float())
    return step(lambda output, target: combine(*task_losses(output, target)), target, combine)


def by_hand(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and squared error as one would write them without holes."""
    entropy = nn.functional.cross_entropy(output[:, :2], target[:, 0].long())
    return entropy + nn.functional.mse_loss(output[:, 2], target[:, 1])


class Offset(nn.Module):
    """Squared error, and a vector that is learned beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(3))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return their sum."""
        return nn.functional.mse_loss(output, target) + self.vector.sum()


def steps() -> dict[tuple[str, str], Callable[[], None]]:
    """Make all steps, by row and column of the table."""
    numbers = torch.randn(N_ROWS, 3)
    holes = numbers.where(torch.rand(N_ROWS, 3) < 0.7, torch.nan)
    mixed = torch.stack([(numbers[:, 0] > 0).float(), numbers[:, 1]], dim=1)
    forms = dict(LOSSES)
    forms["logprod, decay=None"] = partial(LogProd, decay=None)
    offset = Offset()
    found = {
        ("mse_loss", "numbers"): step(nn.functional.mse_loss, numbers),
        ("with a vector", "numbers"): step(offset, numbers, offset),
        ("by hand", "class, number"): step(by_hand, mixed),
    }
    for name, form in forms.items():
        found[name, "numbers"] = masked(form(), ["regression"] * 3, numbers)
        found[name, "with holes"] = masked(form(), ["regression"] * 3, holes)
        found[name, "class, number"] = masked(form(), ["classification", "regression"], mixed)
    return found


def measure(n_turns: int) -> dict[tuple[str, str], np.ndarray]:
    """Seconds of every step, (n_turns,)."""
    found = steps()
    seconds = {key: np.empty(n_turns) for key in found}
    for turn in range(-2, n_turns):  # two turns to warm up
        for key, run in found.items():
            start = time.perf_counter()
            for _ in range(N_STEPS):
                run()
            if turn >= 0:
                seconds[key][turn] = (time.perf_counter() - start) / N_STEPS
    return seconds


def main() -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=300, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure(args.turns)
    base = seconds["mse_loss", "numbers"]
    columns = ["numbers", "with holes", "class, number"]
    lines = [
        "cost of a training step, in steps with mse_loss",
        "$ python examples/benchmarks/step_cost.py",
        f"dense 20-64-64-3, batch of {N_ROWS}, Adam, 1 thread; mse_loss: {np.median(base):.2e} s",
        "",
        f"{'loss':20s}" + "".join(f"{column:>15s}" for column in columns),
    ]
    lines.append("-" * len(lines[-1]))
    missed = []
    for name in dict.fromkeys(row for row, _ in seconds):
        cells = []
        for column in columns:
            ratio = np.median(seconds.get((name, column), np.nan) / base)
            cells.append(f"{ratio:15.2f}" if np.isfinite(ratio) else " " * 15)
            if column != "class, number" and ratio > BOUND:
                missed.append(f"{name}, {column}: {ratio:.2f}")
        lines.append(f"{name:20s}{''.join(cells)}".rstrip())
    verdict = f"FAILED: above {BOUND}: {'; '.join(missed)}"
    lines += ["", verdict if missed else f"passed: no loss on numbers costs more than {BOUND}"]
    publish("\n".join(lines), args.output)
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
