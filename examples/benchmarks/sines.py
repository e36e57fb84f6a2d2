"""Sines: plain squared errors against products of losses, as in a blog post of 2018.

.. code-block:: bash

   python examples/benchmarks/sines.py --output sines.txt --plot sines.png

A. Piccolboni, "A simple loss function for multi-task learning with Keras implementation, part 2"
(2018), learns five tasks from x, uniform on [0, 1]:

- ``noise``: sin(2 pi x) with normal noise of standard deviation 0.1, 0.2, 0.4, 0.8 and 1.6;
- ``phase``: sin((2 x + i / 5) pi) for i = 0, ..., 4, without noise.

The post has 10 layers of 100 rectified linear units; the first 1/20 of the points for training, the
next 9/20 to stop, the rest to test against the value without noise; Adam with epsilon 1e-3, at most
200 epochs, patience 5. The author's code has 2000 points. The rest is what Keras did at that time:
uniform Glorot weights and zero biases, a learning rate of 1e-3, epsilon added before Adam's bias
correction, batches of 32 rows (the last of an epoch has 4), any decrease counts as progress, and
the weights of the last epoch stay, not the best. One choice is ours: the loss that stops is taken
over all validation rows at once. In Keras it is a mean over batches, the same for squared errors.

Four losses are trained in every repetition, with the same data, initial weights and batches:

- ``plain``: the mean of the five squared errors;
- ``post``: their geometric mean in the batch;
- ``batch``: `LogProd(decay=None)`, the sum of their logarithms in the batch;
- ``running``: `LogProd()`, whose denominators are running means over earlier batches.

The table holds medians, over repetitions, of the test error of ``plain`` over that of another loss:
above 1 the other one is better. The script fails (exit code 1) where these are not what the
documentation says (`CLAIMS`), as they need not be with other options.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_mtl.losses import LogProd, TaskLosses, Weighted

KINDS = ("noise", "phase")
LOSSES = ("plain", "post", "batch", "running")
N_TASKS = 5
CLAIMS = {
    ("noise", "post"): "better",
    ("noise", "batch"): "better",
    ("phase", "post"): "worse",
    ("phase", "running"): "worse",
}
POST = {"noise": (1.64, 1.77, 2.67, 1.80, 0.86), "phase": (0.76, 1.56, 0.72, 0.13, 0.17)}


class GeometricMean(Weighted):
    """Geometric mean of the losses, in the batch and over a data set alike."""

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        """Return the geometric mean."""
        return losses.log().mean().exp()

    objective = forward


def make_loss(name: str) -> Weighted:
    """Build one of `LOSSES`."""
    if name == "plain":
        return Weighted(torch.full((N_TASKS,), 1 / N_TASKS))
    if name == "post":
        return GeometricMean()
    return LogProd(decay=None) if name == "batch" else LogProd()


class Part(NamedTuple):
    """Rows: x (n, 1), targets (n, N_TASKS) and their values without noise."""

    x: Tensor
    y: Tensor
    clean: Tensor


def make_parts(kind: str, n_points: int, seed: int) -> list[Part]:
    """Draw the rows to train, to stop and to test."""
    rng = np.random.default_rng(seed)
    x, i = rng.uniform(size=(n_points, 1)), np.arange(N_TASKS)
    clean = np.sin((2 * x + (i / N_TASKS if kind == "phase" else 0 * i)) * np.pi)
    noise = 0.1 * 2.0**i * rng.normal(size=clean.shape)
    arrays = x, clean + noise * (kind == "noise"), clean
    ends = [n_points // 20, n_points // 2]
    parts = zip(*(np.split(array.astype(np.float32), ends) for array in arrays), strict=True)
    return [Part(*map(torch.from_numpy, part)) for part in parts]


def make_network(seed: int, n_layers: int = 10, width: int = 100) -> nn.Sequential:
    """Build a dense network with uniform Glorot weights and zero biases."""
    widths = [1] + [width] * n_layers + [N_TASKS]
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layer = nn.Linear(n_in, n_out)
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Settings(NamedTuple):
    """How networks are trained."""

    n_points: int = 2000
    max_epochs: int = 200
    patience: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    epsilon: float = 1e-3
    keep_best: bool = False
    cosine: bool = False  # learning rate falls to 0 over max_epochs


def train(
    name: str, learn: Part, stop: Part, seed: int, settings: Settings
) -> tuple[nn.Module, int]:
    """Return a trained network and its number of epochs."""
    network, combine = make_network(seed), make_loss(name)
    task_losses = TaskLosses(["regression"] * N_TASKS, [1] * N_TASKS)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    (group,) = optimizer.param_groups
    if isinstance(combine, LogProd):
        rows = len(learn.y) / math.ceil(len(learn.y) / settings.batch_size)
        combine.start(learn.y.var(dim=0, correction=0), torch.full((N_TASKS,), rows))
    shuffle, n_steps = torch.Generator().manual_seed(seed), 0
    best, best_epoch, best_network = math.inf, 0, network
    for epoch in range(1, settings.max_epochs + 1):
        if settings.cosine:
            phase = math.pi * (epoch - 1) / settings.max_epochs
            group["lr"] = settings.learning_rate * (1 + math.cos(phase)) / 2
        for rows in torch.randperm(len(learn.y), generator=shuffle).split(settings.batch_size):
            n_steps += 1
            group["eps"] = settings.epsilon / math.sqrt(1 - 0.999**n_steps)
            optimizer.zero_grad()
            combine(*task_losses(network(learn.x[rows]), learn.y[rows])).backward()
            optimizer.step()
        with torch.no_grad():
            value = combine.objective(*task_losses(network(stop.x), stop.y)).item()
        if value < best:
            best, best_epoch = value, epoch
            if settings.keep_best:
                best_network = copy.deepcopy(network)
        if epoch - best_epoch >= settings.patience:
            break
    return best_network, epoch


def repeat(kind: str, seed: int, settings: Settings) -> tuple[NDArray[np.float64], list[int]]:
    """Train every loss once; return test errors (n_losses, N_TASKS) and numbers of epochs."""
    learn, stop, test = make_parts(kind, settings.n_points, seed)
    errors, epochs = [], []
    for name in LOSSES:
        network, n_epochs = train(name, learn, stop, seed, settings)
        with torch.no_grad():
            errors.append((network(test.x) - test.clean).square().mean(dim=0).double().numpy())
        epochs.append(n_epochs)
    return np.array(errors), epochs


class Median(NamedTuple):
    """A median and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def median(values: NDArray[np.float64], n_bootstrap: int = 2000) -> Median:
    """Median of values (R, n), with a percentile bootstrap over rows."""
    rows = np.random.default_rng(0).integers(len(values), size=(n_bootstrap, len(values)))
    low, high = np.quantile(np.median(values[rows], axis=(1, 2)), [0.025, 0.975])
    return Median(float(np.median(values)), float(low), float(high))


class Result(NamedTuple):
    """All repetitions of a kind: test errors (R, n_losses, N_TASKS) and epochs (R, n_losses)."""

    errors: NDArray[np.float64]
    epochs: NDArray[np.intp]

    def ratios(self, name: str) -> NDArray[np.float64]:
        """Test errors of the plain loss over those of another (R, N_TASKS)."""
        return self.errors[:, 0] / self.errors[:, LOSSES.index(name)]


def evaluate(kind: str, n_repetitions: int, settings: Settings) -> Result:
    """Repeat with seeds 0, 1, ..."""
    errors, epochs = zip(*(repeat(kind, s, settings) for s in range(n_repetitions)), strict=True)
    return Result(np.array(errors), np.array(epochs))


def report(results: dict[str, Result], settings: Settings, command: str) -> str:
    """Write the table."""
    n_repetitions = len(next(iter(results.values())).errors)
    lines = [
        f"sines: test error of plain / of another loss, above 1 the other is better; "
        f"{settings.n_points} points",
        f"$ {command}",
        f"medians over {n_repetitions} repetitions; [ ]: bootstrap over repetitions, 95 %",
        "",
        "kind   task        in the post     plain" + "".join(f"{name:>20}" for name in LOSSES[1:]),
    ]
    lines.append("-" * len(lines[-1]))
    for kind, result in results.items():
        for task in [*range(N_TASKS), "all"]:
            some = slice(None) if task == "all" else [task]
            cells = [str(median(result.ratios(name)[:, some])) for name in LOSSES[1:]]
            post = f"{POST[kind][task]:11.2f}" if task != "all" else " " * 11
            lines.append(f"{kind:7s}{task!s:12s}{post}{'':10s}{''.join(f'{c:>20}' for c in cells)}")
        for label, values in (
            ("test error", [f"{error:.4f}" for error in np.median(result.errors, axis=(0, 2))]),
            ("epochs", [f"{epochs:.0f}" for epochs in np.median(result.epochs, axis=0)]),
        ):
            cells = "".join(f"{value:>20}" for value in values[1:])
            lines.append(f"{kind:7s}{label:23s}{values[0]:>10}{cells}")
    return "\n".join(lines)


def verdicts(results: dict[str, Result]) -> list[str]:
    """Say of each claim whether these results bear it out."""
    lines = []
    for (kind, name), side in CLAIMS.items():
        ratio = median(results[kind].ratios(name))
        passed = ratio.low > 1 if side == "better" else ratio.high < 1
        lines.append(f"{'passed' if passed else 'FAILED'}: {name} is {side} than plain ({kind})")
    return lines


def plot(results: dict[str, Result], path: Path) -> None:
    """Draw the ratios as box plots."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(results), figsize=(9, 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, (kind, result) in zip(axes[0], results.items(), strict=True):
        for j, name in enumerate(LOSSES[1:]):
            places = np.arange(N_TASKS) + 0.25 * (j - 1)
            boxes = axis.boxplot(
                result.ratios(name),
                positions=places,
                widths=0.2,
                patch_artist=True,
                flierprops={"markersize": 2},
                medianprops={"color": "black"},
                boxprops={"facecolor": f"C{j}"},
            )
            boxes["boxes"][0].set_label(name)
        post = axis.scatter(
            np.arange(N_TASKS) - 0.25, POST[kind], marker="x", color="crimson", zorder=3
        )
        post.set_label("one run in the post")
        axis.axhline(1, color="black", linewidth=0.8)
        axis.set_xticks(range(N_TASKS), range(N_TASKS))
        axis.set(yscale="log", xlabel="task", title=kind)
    axes[0, 0].set_ylabel("test error of plain / of the other")
    axes[0, 0].legend(fontsize=8, ncols=2)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description="Plain squared errors against products of losses.")
    parser.add_argument("--repetitions", type=int, default=50, metavar="N")
    for name, default in Settings._field_defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        else:
            parser.add_argument(option, type=type(default), default=default, metavar="N")
    parser.add_argument("--n-threads", type=int, default=1, metavar="N", help="threads of torch")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the box plots here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if it is not what the documentation says."""
    parser = make_parser()
    args = parser.parse_args(argv)
    torch.set_num_threads(args.n_threads)
    settings = Settings(*(getattr(args, name) for name in Settings._fields))
    results = {kind: evaluate(kind, args.repetitions, settings) for kind in KINDS}
    command = "python examples/benchmarks/sines.py"
    for name in ("repetitions", *Settings._fields):
        value = getattr(args, name)
        if value != parser.get_default(name):
            command += f" --{name.replace('_', '-')}" + (f" {value}" if value is not True else "")
    lines = verdicts(results)
    table = "\n".join([report(results, settings, command), "", *lines])
    print(table)
    if args.output is not None:
        args.output.write_text(table + "\n", encoding="utf-8")
    if args.plot is not None:
        plot(results, args.plot)
    return int(any(line.startswith("FAILED") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
