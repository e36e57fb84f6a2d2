"""The denominators of 'logprod': which estimate of a task's loss should weigh it?

.. code-block:: bash

   python examples/benchmarks/denominators.py --data DIR NAME [NAME ...]

The gradient of a sum of logarithms of losses is the sum of the tasks' gradients, each divided by
its loss. With mini-batches that loss has to be estimated. The forms compared, with the same splits,
initial weights and batches:

=============== ==================================================================================
batch           the batch's own loss: its logarithm, the form of the paper and the post
decay D         running mean of the losses of earlier batches, with decay D
counted         decay 0.95, each batch weighted by its number of observed targets
epoch           mean loss over the previous epoch
plain classes   decay 0.95, but cross-entropies enter as they stand, times 2, as in the likelihood
weighted        no denominators, for comparison
=============== ==================================================================================

``NAME`` is a folder in the format of ``real_data.py``, or ``digits-P`` for digit scenes of which P
percent show a digit. Scores are means over tasks of accuracy and R2 on held-out rows. The script
fails (exit code 1) if a form beats the default, pooled over the data sets, at a joint level of
5 %.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model, read_data_set, splits
from torch import Tensor

from sklearn_mtl import Task
from sklearn_mtl._training.recipe import auto_batch_size
from sklearn_mtl.datasets import make_digit_scenes
from sklearn_mtl.losses import LogProd, Weighted

DEFAULT = "decay 0.95"
GROUPS = ("all tasks", "classes", "numbers", "conditional")
N_SCENES = 1500, 2000  # training, test
JOINT = 1.4  # times a 95 % interval for seven forms at once (Bonferroni)


class Counted(LogProd):
    """Running means in which every target of earlier batches counts alike."""

    def start(self, reference: Tensor, counts: Tensor, powers: Tensor | None = None) -> None:
        """Start with one expected batch of the constant predictor."""
        super().start(reference, counts, powers)
        self.register_buffer("sums", reference * counts)
        self.register_buffer("counts", counts.clone())

    def _scales(self, losses: Tensor, counts: Tensor) -> Tensor:
        scales = self.sums / self.counts + self.lowest
        if self.training:
            self.sums.lerp_(losses * counts, 1 - self.decay)
            self.counts.lerp_(counts, 1 - self.decay)
        return scales


class Epoch(LogProd):
    """Mean losses over the previous epoch."""

    def __init__(self, n_batches: int) -> None:
        super().__init__()
        self.n_batches_, self.seen = n_batches, 0

    def _scales(self, losses: Tensor, counts: Tensor) -> Tensor:
        scales = self.running + self.lowest
        if self.training:
            if self.seen % self.n_batches_ == 0:
                self.sums, self.counts = torch.zeros_like(losses), torch.zeros_like(counts)
            self.seen += 1
            self.sums, self.counts = self.sums + losses * counts, self.counts + counts
            if self.seen % self.n_batches_ == 0:
                self.running = torch.where(self.counts > 0, self.sums / self.counts, self.running)
        return scales


class PlainClasses(LogProd):
    """Cross-entropies as they stand, twice, as 2 n L goes with n log L in the likelihood."""

    def __init__(self, is_class: Sequence[bool]) -> None:
        super().__init__()
        self.register_buffer("is_class", torch.tensor(is_class))

    def _scales(self, losses: Tensor, counts: Tensor) -> Tensor:
        return torch.where(self.is_class, 0.5, super()._scales(losses, counts))


# Each makes a loss for the tasks' being classes, and the number of batches in an epoch.
FORMS: dict[str, Callable[[list[bool], int], Weighted]] = {
    "batch": lambda is_class, n: LogProd(decay=None),
    "decay 0.9": lambda is_class, n: LogProd(decay=0.9),
    DEFAULT: lambda is_class, n: LogProd(),
    "decay 0.99": lambda is_class, n: LogProd(decay=0.99),
    "counted": lambda is_class, n: Counted(),
    "epoch": lambda is_class, n: Epoch(n),
    "plain classes": lambda is_class, n: PlainClasses(is_class),
    "weighted": lambda is_class, n: Weighted(),
}


def read(name: str, folder: Path | None, pool: int) -> DataSet:
    """Read a data set, or say how to draw digit scenes."""
    if name.startswith("digits-"):
        tasks = [
            Task("digit_present", "classification"),
            Task("brightness", "regression"),
            Task("digit_size", "regression", given=("digit_present", 1)),
        ]
        return DataSet(name, None, None, tasks, [], None, None)
    data = read_data_set(folder / name)
    data.X = pooled_pixels(data.X, pool)
    return data


def pooled_pixels(X: Any, pool: int) -> Any:
    """Means of squares of pixels; tables stay as they are."""
    if X.ndim == 2:
        return X
    images = torch.from_numpy(X).float()
    shape = images.shape[:-2]
    images = torch.nn.functional.avg_pool2d(images.flatten(0, -3).unsqueeze(1), pool)
    return images.unflatten(0, shape).squeeze(len(shape)).numpy()


def rounds(data: DataSet, n_seeds: int, pool: int) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield training and test data for every seed."""
    if data.X is not None:
        names = [task.name for task in data.tasks]
        rows = data.X.iloc if hasattr(data.X, "iloc") else data.X
        for train, test in splits(data, n_seeds):
            yield rows[train], data.y[names].iloc[train], rows[test], data.y[names].iloc[test]
        return
    share = float(data.name.removeprefix("digits-")) / 100
    for seed in range(n_seeds):
        X, y = make_digit_scenes(
            N_SCENES[0], subset="train", positive_fraction=share, random_state=seed
        )
        X_test, y_test = make_digit_scenes(
            N_SCENES[1], subset="test", positive_fraction=share, random_state=1000 + seed
        )
        yield pooled_pixels(X, pool), y, pooled_pixels(X_test, pool), y_test


def evaluate(
    data: DataSet,
    n_seeds: int,
    max_epochs: int | None,
    pool: int,
    known: dict[str, Any],
    save: Callable[[], None],
) -> tuple[NDArray[np.float64], float]:
    """Score every form and seed: (n_forms, n_seeds, n_tasks), and test rows per training row."""
    is_class = [task.kind == "classification" for task in data.tasks]
    share = 0.0
    for seed, (X, y, X_test, y_test) in enumerate(rounds(data, n_seeds, pool)):
        if data.X is not None and data.split is None:
            share += len(y_test) / len(y) / n_seeds
        n_batches = math.ceil(len(y) / auto_batch_size(len(y), [np.shape(X)[1:]]))
        for form, make in FORMS.items():
            key = f"{data.name}|{seed}|{form}|{max_epochs}|{pool}"
            if key not in known:
                model = make_model(data, make(is_class, n_batches), max_epochs, seed).fit(X, y)
                scores = model[-1].score_tasks(model[:-1].transform(X_test), y_test)
                known[key] = list(scores.values())
                save()
    scores = [
        [known[f"{data.name}|{s}|{f}|{max_epochs}|{pool}"] for s in range(n_seeds)] for f in FORMS
    ]
    return np.array(scores, dtype=float), share


def grouped(data: DataSet, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the tasks of each group: (..., n_groups)."""
    is_class = np.array([task.kind == "classification" for task in data.tasks])
    conditional = np.array([task.given is not None for task in data.tasks]) & ~is_class
    return np.stack(
        [
            np.nanmean(scores[..., tasks], axis=-1) if tasks.any() else scores[..., 0] * np.nan
            for tasks in (is_class | True, is_class, ~is_class, conditional)
        ],
        axis=-1,
    )


def table(data: DataSet, scores: NDArray[np.float64], share: float) -> list[str]:
    """Write means per group, and differences to the default with their intervals."""
    groups = grouped(data, scores)
    base = groups[list(FORMS).index(DEFAULT)]
    rows = []
    for form, values in zip(FORMS, groups, strict=True):
        cells = [f"{form:14s}{values[:, 0].mean():8.3f}"]
        for g in range(len(GROUPS)):
            gain = values[:, g] - base[:, g]
            half = half_interval(gain, share)
            text = f"{gain.mean():+.3f}±{half:.3f}" if np.isfinite(half) else ""
            cells.append(f"{'' if form == DEFAULT else text:>16s}")
        rows.append("".join(cells).rstrip())
    head = f"{'':14s}{'mean':>8s}" + "".join(f"{group:>16s}" for group in GROUPS)
    return [head, "-" * len(head), *rows]


def pooled(gains: NDArray[np.float64], halves: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over data sets, weighted by inverse variance, and half of its 95 % interval."""
    halves = np.maximum(halves, 1e-3)  # seeds may agree by chance
    weights = halves**-2 / (halves**-2).sum()
    return float(weights @ gains), float(np.sqrt((halves**-2).sum()) ** -1)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 if a form beats the default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="folder of DIR, or digits-P")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="splits and model seeds")
    parser.add_argument("--max-epochs", type=int, help="default: the estimator's")
    parser.add_argument("--pool", type=int, default=2, metavar="N", help="pixels per pixel")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FILE",
        help="keep scores, to go on later; delete it after changing a model",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(f"--seeds must be 2 or more, got {args.seeds}")
    if args.data is None and not all(name.startswith("digits-") for name in args.names):
        parser.error("--data DIR is needed for data sets other than digits-P")
    torch.set_num_threads(1)
    known = json.loads(args.cache.read_text()) if args.cache and args.cache.exists() else {}

    def save() -> None:
        if args.cache:
            args.cache.write_text(json.dumps(known))

    lines, gains, halves = [], [], []
    for name in args.names:
        data = read(name, args.data, args.pool)
        scores, share = evaluate(data, args.seeds, args.max_epochs, args.pool, known, save)
        lines += [name, "", *table(data, scores, share), ""]
        means = grouped(data, scores)[..., 0]
        gain = means - means[list(FORMS).index(DEFAULT)]
        gains.append(gain.mean(axis=1))
        halves.append([half_interval(row, share) for row in gain])
        print("\n".join(lines[-len(FORMS) - 5 :]), flush=True)
    lines.append(f"all data sets, difference to {DEFAULT!r}, weighted by precision")
    better = []
    for f, form in enumerate(FORMS):
        if form != DEFAULT:
            mean, half = pooled(np.array(gains)[:, f], np.array(halves)[:, f])
            lines.append(f"{form:14s}{mean:+.4f} ± {half:.4f}")
            better += [form] if mean > JOINT * half else []
    verdict = f"FAILED: better than the default: {', '.join(better)}"
    lines += ["", verdict if better else "passed: no form is better than the default"]
    command = "$ python examples/benchmarks/denominators.py --data DIR " + " ".join(args.names)
    command += "" if args.seeds == 5 else f" --seeds {args.seeds}"
    command += "" if args.max_epochs is None else f" --max-epochs {args.max_epochs}"
    head = [
        "logprod: mean over tasks of accuracy and R2, and differences to the default",
        command,
        f"{args.seeds} splits or seeds each, ± half of the 95 % confidence interval",
        "",
    ]
    text = "\n".join(head + lines)
    print("\n".join(lines[-len(FORMS) - 2 :]))
    if args.output is not None:
        args.output.write_text(text + "\n", encoding="utf-8")
    return int(bool(better))


if __name__ == "__main__":
    sys.exit(main())
