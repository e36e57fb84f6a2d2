"""The question that began this library: what to do with a number that not every row has?

Trains one and the same network, with the same steps, in seventeen ways, and scores it on test rows
where a target was observed: accuracy for classes, R2 for numbers.

.. code-block:: bash

   python examples/benchmarks/strategies.py NAME [NAME ...] [--data DIR]

``separate``
    One network per task, trained on the rows where it was observed.
``separate, 1/T``
    The same, with as many steps for all T networks together as the joint network has.
``impute 0``
    A number that does not exist is learned as if it were the mean of those that do.
``alternate``
    A step on all rows with the losses of the unconditional tasks, then one on rows where a
    conditional target was observed, with the losses of all.
``y / (y + eps)``
    Absent labels are 0, and this is the weight of a conditional number's squared error; eps is
    0.001 standard deviations.
``mask``, ``weighted``, ``uncertainty``, ``logprod``, ``logprod, batch``
    `MaskedMSE`, `Weighted`, `Uncertainty`, `LogProd` with running denominators, and without.
``UW-SO``, ``FAMO``, ``STCH``, ``max-norm``
    Other weights, see `rules.py`; UW-SO with T = 5.
``UPGrad``, ``PCGrad``
    The tasks' gradients are aggregated, instead of their losses, by ``torchjd``.
``UPGrad, same time``
    With as many steps as take about the time of ``logprod``: fewer by a factor of (1 + T) / 2.

But for `MaskedMSE`, classes have the cross-entropy and numbers the squared error. The budget is
the number of gradient steps, with batches of one size: the same for every network, so that
``separate`` takes T times as many as the others. The sets ``digit_scenes`` and ``rare_digits``,
with a digit on a half and a tenth of the scenes, are drawn anew for every seed; others are images
with an official split, read from ``DIR`` as `real_data.py` does. The script fails (exit code 1)
where the mean over tasks of ``logprod`` is below that of ``mask``, or of separate networks with as
many steps in all, and the 95 % interval of the paired difference excludes 0.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_data import half_interval, publish, read_data_set, splits
from sklearn.metrics import accuracy_score, r2_score

from sklearn_mtl import Task
from sklearn_mtl.datasets import make_digit_scenes
from sklearn_mtl.losses import Combiner, LogProd, MaskedMSE, TaskLosses, Uncertainty, Weighted
from sklearn_mtl.networks import ConvTrunk, MultiTaskModule, build_trunk

WIDTH = 100  # of the table, in characters
SCENES = {"digit_scenes": 0.5, "rare_digits": 0.1}  # share of scenes with a digit
SCENE_TASKS = [
    Task("digit_present", "classification"),
    Task("brightness", "regression"),
    Task("digit_size", "regression", given=("digit_present", 1)),
]
Floats = NDArray[np.float64]

# -- data ------------------------------------------------------------------------------------


class Data(NamedTuple):
    """Training and test rows of one data set and seed.

    Attributes
    ----------
    tasks : list of Task
    X, X_test : Tensor of shape (n, C, H, W)
        Standardised per channel.
    labels : ndarray of shape (n, n_tasks)
        Codes of classes and numbers in their unit, NaN where not observed.
    y, y_test : ndarray of shape (n, n_tasks)
        The same with standardised numbers.
    absent : ndarray of bool of shape (n, n_tasks)
        Numbers that do not exist, because the class they are conditional on is another.
    n_outputs : list of int
    """

    tasks: list[Task]
    X: torch.Tensor
    X_test: torch.Tensor
    labels: Floats
    y: Floats
    y_test: Floats
    absent: NDArray[np.bool_]
    n_outputs: list[int]

    @property
    def observed(self) -> NDArray[np.bool_]:
        """Cells with a target."""
        return ~np.isnan(self.y)

    @property
    def conditional(self) -> NDArray[np.bool_]:
        """Tasks that exist only for some rows."""
        return np.array([task.given is not None for task in self.tasks])

    @property
    def numbers(self) -> NDArray[np.bool_]:
        """Tasks that are no classes."""
        return np.array([task.kind == "regression" for task in self.tasks])


def encode(
    tasks: list[Task], X: Any, frame: pd.DataFrame, X_test: Any, frame_test: pd.DataFrame
) -> Data:
    """Standardise images and numbers, and code classes, as the training rows say."""
    mean, std = X.mean(axis=(0, 2, 3), keepdims=True), X.std(axis=(0, 2, 3), keepdims=True)
    images = [torch.from_numpy((part - mean) / std).float() for part in (X, X_test)]
    columns, n_outputs = [], []
    for task in tasks:
        parts = [part[task.name] for part in (frame, frame_test)]
        if task.kind == "classification":
            classes = sorted(parts[0].dropna().unique())
            codes = {label: code for code, label in enumerate(classes)}
            parts = [part.map(codes) for part in parts]
            n_outputs.append(len(classes))
        else:
            n_outputs.append(1)
        columns.append([part.to_numpy(dtype=float) for part in parts])
    labels, y_test = (np.column_stack(part) for part in zip(*columns, strict=True))
    numbers = np.array([task.kind == "regression" for task in tasks])
    shift, scale = np.where(numbers, [np.nanmean(labels, axis=0), np.nanstd(labels, axis=0)], 0)
    scale[~numbers] = 1
    absent = np.column_stack([does_not_exist(task, tasks, frame) for task in tasks]) & numbers
    y, y_test = (labels - shift) / scale, (y_test - shift) / scale
    return Data(tasks, *images, labels, y, y_test, absent, n_outputs)


def does_not_exist(task: Task, tasks: list[Task], frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows where the class that the task is conditional on is another, or does not exist either."""
    if task.given is None:
        return np.zeros(len(frame), dtype=bool)
    gate = next(other for other in tasks if other.name == task.given[0])
    labels = frame[gate.name]
    other = (labels.notna() & ~labels.isin(task.labels)).to_numpy()
    return other | does_not_exist(gate, tasks, frame)


def draw_scenes(share: float, n_train: int, seed: int) -> Data:
    """Draw digit scenes, with other digits for the test."""
    draw = functools.partial(make_digit_scenes, size=20, positive_fraction=share)
    train = draw(n_train, random_state=seed)
    return encode(SCENE_TASKS, *train, *draw(2000, subset="test", random_state=1000 + seed))


def read_split(folder: Path, pool: int, seed: int) -> Data:
    """Read images with an official split, and take the mean of `pool` x `pool` pixels."""
    found = read_data_set(folder)
    if found.split is None or isinstance(found.X, pd.DataFrame):
        raise ValueError(f"{folder.name} must hold images, with an official split")
    X = torch.nn.functional.avg_pool2d(torch.from_numpy(found.X).float(), pool).numpy()
    train, test = next(splits(found, 1))
    return encode(found.tasks, X[train], found.y.iloc[train], X[test], found.y.iloc[test])


# -- strategies ------------------------------------------------------------------------------


class Phase(NamedTuple):
    """What steps learn: targets, weights of cells, and the rule that combines the tasks."""

    y: Floats
    weight: Floats
    rule: Any


def separate(data: Data) -> list[list[Phase]]:
    """One network per task."""
    only = np.eye(len(data.tasks))
    return [[Phase(data.y, data.observed * task, Weighted())] for task in only]


def impute(data: Data) -> list[list[Phase]]:
    """0, which is the mean, where a number does not exist."""
    y = np.where(data.absent, 0, data.y)
    return [[Phase(y, 1.0 * ~np.isnan(y), Weighted())]]


def alternate(data: Data) -> list[list[Phase]]:
    """Unconditional tasks on all rows, all tasks on rows with a conditional target."""
    positive = data.observed[:, data.conditional].any(axis=1, keepdims=True)
    return [
        [
            Phase(data.y, 1.0 * (data.observed & ~data.conditional), Weighted()),
            Phase(data.y, 1.0 * (data.observed & positive), Weighted()),
        ]
    ]


def vanish(data: Data) -> list[list[Phase]]:
    """Labels of 0 where there is none, with a weight that vanishes there."""
    label = np.where(data.observed, data.labels, 0)
    weight = label / (label + 0.001 * np.nanstd(data.labels, axis=0))
    weighed = data.numbers & data.conditional
    return [[Phase(data.y, np.where(weighed, weight, data.observed), Weighted())]]


def together(rule: Callable[[], Any]) -> Callable[[Data], list[list[Phase]]]:
    """Observed cells, and a rule."""
    return lambda data: [[Phase(data.y, 1.0 * data.observed, rule())]]


def other_rule(name: str, *args: Any) -> Any:
    """Make a rule of `rules.py`."""
    import rules

    return getattr(rules, name)(*args)


def aggregator(name: str) -> Any:
    """Look up a rule that combines gradients."""
    from torchjd import aggregation

    return getattr(aggregation, name)()


STRATEGIES: dict[str, Callable[[Data], list[list[Phase]]]] = {
    "separate": separate,
    "separate, 1/T": separate,
    "impute 0": impute,
    "alternate": alternate,
    "y / (y + eps)": vanish,
    "mask": together(MaskedMSE),
    "weighted": together(Weighted),
    "uncertainty": together(Uncertainty),
    "logprod": together(LogProd),
    "logprod, batch": together(lambda: LogProd(decay=None)),
    "UW-SO": together(lambda: other_rule("UWSO", 5)),
    "FAMO": together(lambda: other_rule("FAMO")),
    "STCH": together(lambda: other_rule("STCH")),
    "max-norm": together(lambda: other_rule("MaxNorm")),
    "UPGrad": together(lambda: aggregator("UPGrad")),
    "UPGrad, same time": together(lambda: aggregator("UPGrad")),
    "PCGrad": together(lambda: aggregator("PCGrad")),
}

# -- one loop for all ------------------------------------------------------------------------


class Budget(NamedTuple):
    """What every network may use."""

    epochs: float  # over all rows; they say how many steps there are
    width: int
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 3.0

    def n_steps(self, n_rows: int) -> int:
        """Gradient steps of a network."""
        return round(self.epochs * math.ceil(n_rows / self.batch_size))


def batches(rows: NDArray[np.intp], size: int, seed: int) -> Iterator[torch.Tensor]:
    """Yield rows in random order, again and again."""
    rng = np.random.default_rng(seed)
    while True:
        parts = np.array_split(rng.permutation(rows), math.ceil(len(rows) / size))
        yield from map(torch.from_numpy, parts)


def cosine(step: int, n_steps: int) -> float:
    """Learning-rate factor: a linear warm-up over a twentieth of the steps, then a cosine."""
    warm = math.ceil(n_steps / 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, n_steps - warm)))


def train(data: Data, phases: list[Phase], budget: Budget, seed: int) -> MultiTaskModule:
    """Train one network, with the phases in turn."""
    torch.manual_seed(seed)
    n_steps = budget.n_steps(len(data.X))
    trunk, n_features = build_trunk(ConvTrunk(width=budget.width), data.X.shape[1:])
    bias = torch.tensor(constant_outputs(data)).float()
    module = MultiTaskModule(trunk, n_features, data.n_outputs, bias)
    kinds = [task.kind for task in data.tasks]
    steps = []
    for y, weight, rule in phases:
        targets, weights = torch.tensor(y).float(), torch.tensor(weight).float()
        task_losses = TaskLosses(kinds, data.n_outputs, getattr(rule, "family", "likelihood"))
        rows = np.flatnonzero(weight.any(axis=1))
        if isinstance(rule, Combiner):
            losses, counts = task_losses(bias.expand(len(y), -1), targets, weights)
            per_batch = budget.batch_size / len(rows)
            rule.start(torch.where(losses > 0, losses, 1), counts * per_batch, task_losses.powers)
        draw = batches(rows, budget.batch_size, seed)
        steps.append((targets, weights, rule, task_losses, draw))
    own = [p for _, _, rule in phases if isinstance(rule, Combiner) for p in rule.parameters()]
    params = list(module.parameters())
    matrices, vectors = ([p for p in params if (p.ndim > 1) == m] for m in (True, False))
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": budget.weight_decay},
            {"params": vectors + own, "weight_decay": 0.0},
        ],
        lr=budget.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, n_steps))
    for step in range(n_steps):
        targets, weights, rule, task_losses, draw = steps[step % len(steps)]
        rows = next(draw)
        features = module.trunk(data.X[rows])
        if hasattr(rule, "see"):
            rule.see(module.trunk, data.X[rows], features)
        losses, counts = task_losses(module.heads(features), targets[rows], weights[rows])
        optimizer.zero_grad()
        if isinstance(rule, Combiner):
            rule(losses, counts).backward()
        else:
            aggregate(losses[counts > 0], features, module.trunk, rule)
        optimizer.step()
        schedule.step()
        if hasattr(rule, "learn"):
            with torch.no_grad():
                outputs = module.heads(module.trunk(data.X[rows]))
                rule.learn(*task_losses(outputs, targets[rows], weights[rows]))
    return module.eval()


def aggregate(losses: torch.Tensor, features: torch.Tensor, trunk: Any, rule: Any) -> None:
    """Set the gradients of the heads, and those of the trunk as the rule combines them."""
    from torchjd.autojac import jac_to_grad, mtl_backward

    mtl_backward(list(losses), features, retain_graph=True, parallel_chunk_size=1)
    jac_to_grad(trunk.parameters(), rule)


def constant_outputs(data: Data) -> list[float]:
    """Raw outputs of the best constant: log frequencies of classes, 0 for numbers."""
    outputs = []
    for column, is_number in zip(data.y.T, data.numbers, strict=True):
        codes = column[~np.isnan(column)].astype(int)
        outputs += [0.0] if is_number else np.log(np.bincount(codes) / len(codes)).tolist()
    return outputs


def evaluate(data: Data, strategy: str, budget: Budget, seed: int) -> list[float]:
    """Test scores of a strategy, one per task."""
    raws = []
    networks = STRATEGIES[strategy](data)
    if strategy == "separate, 1/T":
        budget = budget._replace(epochs=budget.epochs / len(networks))
    if strategy == "UPGrad, same time":
        budget = budget._replace(epochs=2 * budget.epochs / (1 + len(data.tasks)))
    for phases in networks:
        module = train(data, phases, budget, seed)
        with torch.inference_mode():
            raws.append(module(data.X_test).split(data.n_outputs, dim=1))
    scores = []
    for k, is_number in enumerate(data.numbers):
        raw = raws[k if len(networks) > 1 else 0][k].numpy()
        seen = ~np.isnan(data.y_test[:, k])
        predicted = raw[:, 0] if is_number else raw.argmax(axis=1)
        score = r2_score if is_number else accuracy_score
        scores.append(float(score(data.y_test[seen, k], predicted[seen])))
    return scores


def measure(
    read: Callable[[int], Data], name: str, budget: Budget, n_seeds: int, cache: Path | None
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Scores (n_seeds, n_tasks) and mean CPU seconds of every strategy; finished fits are kept."""
    found: dict[str, Any] = json.loads(cache.read_text()) if cache and cache.exists() else {}
    results: dict[str, list[tuple[list[float], float]]] = {name: [] for name in STRATEGIES}
    for seed in range(n_seeds):
        data = read(seed)
        for strategy, fits in results.items():
            key = f"{name} | {strategy} | seed {seed} | {len(data.X)} rows | {tuple(budget)}"
            if key not in found:
                start = time.process_time()
                scores = evaluate(data, strategy, budget, seed)
                found[key] = scores, time.process_time() - start
                print(f"{key}: {np.mean(scores):.3f}", file=sys.stderr, flush=True)
                if cache:
                    cache.write_text(json.dumps(found, indent=0))
            fits.append(found[key])
    scores = {strategy: np.array([fit[0] for fit in fits]) for strategy, fits in results.items()}
    return scores, {s: float(np.mean([fit[1] for fit in fits])) for s, fits in results.items()}


# -- printing --------------------------------------------------------------------------------


def cell(values: Floats, sign: str = "") -> str:
    """Mean and half of its 95 % interval, without the zero before the point."""
    return f"{values.mean():{sign}z.3f}±{half_interval(values, 0.0):.3f}".replace("0.", ".")


def table(data: Data, scores: dict[str, Floats], seconds: dict[str, float]) -> list[str]:
    """Strategies by tasks, folded to the width of a page."""
    means = {strategy: values.mean(axis=1) for strategy, values in scores.items()}
    columns = [["", *scores]]
    for k, task in enumerate(data.tasks):
        name = task.name + (" *" if task.given else "")
        columns.append([name, *(cell(values[:, k]) for values in scores.values())])
    columns.append(["mean", *map(cell, means.values())])
    for other in ("separate", "mask"):
        gains = (cell(mean - means[other], "+") for mean in means.values())
        columns.append([f"- {other}", *gains])
    columns.append(["s", *(f"{seconds[strategy]:.0f}" for strategy in scores)])
    widths = [max(map(len, column)) for column in columns]
    blocks = [[0]]
    for j in range(1, len(columns)):
        if sum(widths[i] + 2 for i in [*blocks[-1], j]) > WIDTH + 2:
            blocks.append([0])
        blocks[-1].append(j)
    lines = []
    for block in blocks:
        rows = [
            "  ".join(
                columns[j][i].rjust(widths[j]) if j else columns[j][i].ljust(widths[j])
                for j in block
            )
            for i in range(len(scores) + 1)
        ]
        lines += ["", rows[0], "-" * len(rows[0]), *(row.rstrip() for row in rows[1:])]
    return lines


def lost(scores: dict[str, Floats]) -> list[str]:
    """Those that beat 'logprod' by their mean over tasks, beyond the interval."""
    means = {strategy: values.mean(axis=1) for strategy, values in scores.items()}
    gains = {strategy: mean - means["logprod"] for strategy, mean in means.items()}
    return [s for s, gain in gains.items() if gain.mean() > half_interval(gain, 0.0)]


def plot(results: dict[str, tuple[Data, dict[str, Floats]]], path: Path) -> None:
    """Draw the conditional tasks and the mean over tasks of every set."""
    from matplotlib.figure import Figure

    panels = []
    for name, (data, scores) in results.items():
        for k in np.flatnonzero(data.conditional):
            score = "R2" if data.numbers[k] else "accuracy"
            columns = [values[:, k] for values in scores.values()]
            panels.append((f"{name}\n{data.tasks[k].name} ({score})", columns))
        columns = [values.mean(axis=1) for values in scores.values()]
        panels.append((f"{name}\nmean over tasks", columns))
    n_columns = min(5, len(panels))
    n_rows = math.ceil(len(panels) / n_columns)
    figure = Figure(figsize=(2.4 * n_columns, 3.2 * n_rows), layout="constrained")
    axes = np.ravel(figure.subplots(n_rows, n_columns, sharey=True))
    for ax, (title, columns) in zip(axes, panels, strict=False):
        means = [column.mean() for column in columns]
        halves = [half_interval(column, 0.0) for column in columns]
        for i, strategy in enumerate(STRATEGIES):
            color = "C1" if strategy.startswith("logprod") else "C0"
            ax.errorbar(means[i], i, xerr=halves[i], fmt="o", color=color, markersize=4)
        ax.set_yticks(range(len(STRATEGIES)), list(STRATEGIES))
        ax.set_title(title, fontsize=8)
        ax.tick_params(labelsize=8)
        ax.grid(axis="x", alpha=0.4)
    axes[0].invert_yaxis()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    figure.savefig(path, dpi=90)


# -- command line ----------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME", help="of digit scenes, or in DIR")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--scenes", type=int, default=1000, metavar="N", help="training scenes")
    parser.add_argument("--epochs", type=int, default=16, help="over all rows")
    parser.add_argument("--width", type=int, default=8, help="channels of the trunk's first stage")
    parser.add_argument("--pool", type=int, default=2, help="pixels per side to average, in DIR")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FILE",
        help="keeps finished fits; delete it after changing a model",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture")
    return parser


def command_line(args: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    """Return the command that prints the tables, for any folder DIR."""
    parts = ["python examples/benchmarks/strategies.py", *args.names]
    parts += ["--data DIR"] if args.data else []
    for option in ("seeds", "scenes", "epochs", "width", "pool"):
        if getattr(args, option) != parser.get_default(option):
            parts.append(f"--{option} {getattr(args, option)}")
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per data set; return 1 if the claim fails."""
    parser = make_parser()
    args = parser.parse_args(argv)
    folders = [name for name in args.names if name not in SCENES]
    absent = [n for n in folders if not args.data or not (args.data / n / "meta.json").exists()]
    if absent:
        parser.error(f"no meta.json in the folders {absent} of --data {args.data}")
    if args.seeds < 2:
        parser.error(f"--seeds must be 2 or more, got {args.seeds}")
    torch.set_num_threads(1)
    budget = Budget(args.epochs, args.width)
    results, failed = {}, []
    lines = [
        f"$ {command_line(args, parser)}",
        f"mean over {args.seeds} seeds ± half of its 95 % interval; * exists only for "
        "some rows; s: CPU seconds",
    ]
    for name in args.names:
        read: Callable[[int], Data] = (
            functools.partial(draw_scenes, SCENES[name], args.scenes)
            if name in SCENES
            else functools.partial(read_split, args.data / name, args.pool)
        )
        scores, seconds = measure(read, name, budget, args.seeds, args.cache)
        data = read(0)
        results[name] = data, scores
        shape = "x".join(map(str, data.X.shape[1:]))
        lines += [
            "",
            "",
            f"{name}: {len(data.X)} training rows of {shape}, {budget.n_steps(len(data.X))} steps",
        ]
        lines += table(data, scores, seconds)
        better = lost(scores)
        if better:
            lines += ["", f"better than logprod in the mean: {', '.join(better)}"]
        failed += [f"{name}: {other}" for other in ("separate, 1/T", "mask") if other in better]
    verdict = "passed: in the mean over tasks, logprod is not below mask and separate, 1/T"
    lines += ["", f"FAILED: logprod is beaten on {', '.join(failed)}" if failed else verdict]
    text = "\n".join(lines)
    publish(text, args.output)
    if args.plot is not None:
        plot(results, args.plot)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
