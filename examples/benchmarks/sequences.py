"""Sequences: how much weight decay, and what members that leave out rows are worth.

.. code-block:: bash

   pip install aeon
   python examples/benchmarks/sequences.py

Sets are made up, or come with the package aeon, which is not imported:

- ``windows``: 280 windows of 4 sensors and 100 steps: one of three frequencies, an amplitude, and,
  where the frequency is the highest, a slope.
- ``noise``: such windows, and two numbers that have nothing to do with them.
- ``CardanoSentiment``, ``Covid3Month``: a number each, of 107 and 201 short sequences; next to
  nothing is known of it.
- ``BasicMotions``, ``GunPoint``, ``ItalyPowerDemand``, ``JapaneseVowels``: classes.

Each split holds three tenths of the rows out; of the others, at most 400 are trained on. A method
is a number of members, 1 for the convolutional trunk alone, and a weight decay; 5:0.3 is the
default. Scores are the accuracy of classes, and the share of the variance of numbers that is
explained, in the mean over splits, with the worst split in brackets. The script fails (exit code 1)
if one network with the default decay, 0.3, learns the frequencies of ``windows`` less well than
with 3, or if five members leave a number of any set more than 0.05 below its mean, averaged over
splits.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from real_data import publish
from sklearn.model_selection import ShuffleSplit

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import ConvTrunk, Ensemble

NUMBERS = ("CardanoSentiment", "Covid3Month")
CLASSES = ("BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels")
EQUAL = {"JapaneseVowels": "JapaneseVowels_eq"}  # the file in which all are as long
MOST_ROWS, LEAST_SCORE = 400, -0.05


class Method(NamedTuple):
    """A trunk of some members, trained with a weight decay."""

    n_members: int
    decay: float

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.n_members}:{self.decay:g}"

    @classmethod
    def read(cls, text: str) -> Method:
        """Read what `str` wrote."""
        n_members, decay = text.split(":")
        return cls(int(n_members), float(decay))


STRONG, ALONE, FIVE = Method(1, 3.0), Method(1, 0.3), Method(5, 0.3)
METHODS = (STRONG, Method(1, 1.0), ALONE, Method(3, 0.3), FIVE)


class Sequences(NamedTuple):
    """X of shape (n, C, L), and a frame of targets."""

    X: NDArray[np.float32]
    y: pd.DataFrame
    tasks: list[Task]


def windows(seed: int = 0, n: int = 280) -> Sequences:
    """Make up windows of sensors."""
    rng = np.random.default_rng(seed)
    kind, amplitude = rng.integers(3, size=n), rng.uniform(0.5, 1.5, n)
    slope = np.where(kind == 2, rng.normal(size=n), np.nan)
    step, phase = np.linspace(0, 1, 100), rng.uniform(0, 2 * np.pi, (n, 4, 1))
    waves = np.sin(2 * np.pi * np.array([4, 6, 8])[kind][:, None, None] * step + phase)
    X = amplitude[:, None, None] * waves + np.nan_to_num(slope)[:, None, None] * step
    X += rng.normal(size=X.shape)
    y = pd.DataFrame({"frequency": kind, "amplitude": amplitude, "slope": slope})
    tasks = [
        Task("frequency", "classification"),
        Task("amplitude", "regression"),
        Task("slope", "regression", given=("frequency", 2)),
    ]
    return Sequences(X.astype(np.float32), y, tasks)


def noise(seed: int = 0) -> Sequences:
    """Make up numbers beside windows that do not say anything about them."""
    y = pd.DataFrame(np.random.default_rng(seed + 1).normal(size=(280, 2)), columns=["a", "b"])
    return Sequences(windows(seed).X, y, [Task(name, "regression") for name in y])


def read_set(folder: Path, name: str) -> Sequences:
    """Read the two files of a set, a sequence per line: channels and target between colons."""
    parts, targets = [], []
    for part in ("TRAIN", "TEST"):
        lines = (folder / name / f"{EQUAL.get(name, name)}_{part}.ts").read_text().splitlines()
        begin = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data") + 1
        for line in lines[begin:]:
            *channels, target = line.strip().split(":")
            parts.append([np.array(channel.split(","), dtype=np.float32) for channel in channels])
            targets.append(target)
    is_number = name in NUMBERS
    y = pd.DataFrame({"target": np.array(targets, dtype=float if is_number else str)})
    return Sequences(np.array(parts), y, [Task("target", KINDS[is_number])])


KINDS = {True: "regression", False: "classification"}


def folder_of_aeon() -> Path | None:
    """Find the sets that come with aeon; None where it is not installed."""
    found = importlib.util.find_spec("aeon")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "datasets" / "data"


def fitted(data: Sequences, rows: NDArray[np.intp], method: Method, seed: int) -> Any:
    """Train on some rows."""
    trunk = ConvTrunk() if method.n_members == 1 else Ensemble(ConvTrunk(), method.n_members)
    estimator = MultiTaskCNNEstimator(
        data.tasks,
        trunk=trunk,
        weight_decay=method.decay,
        input_shape=data.X.shape[1:],
        random_state=seed,
    )
    return estimator.fit(data.X[rows], data.y.iloc[rows])


def compare(data: Sequences, methods: list[Method], n_splits: int) -> Iterator[pd.DataFrame]:
    """Score all methods on one split after the other: a frame of tasks, and seconds, by method."""
    splitter = ShuffleSplit(n_splits, test_size=0.3, random_state=0)
    for seed, (train, test) in enumerate(splitter.split(data.X)):
        scores = {}
        for method in methods:
            start = time.process_time()
            estimator = fitted(data, train[:MOST_ROWS], method, seed)
            seconds = time.process_time() - start
            found = estimator.score_tasks(data.X[test], data.y.iloc[test])
            scores[str(method)] = {**found, "seconds": seconds}
        yield pd.DataFrame(scores)


def table(name: str, found: list[pd.DataFrame]) -> list[str]:
    """Lay out the scores of a set, a line per task."""
    values = np.stack([frame.to_numpy() for frame in found])
    lines = [f"{name:17s} " + "".join(f"{method:>17s}" for method in found[0].columns)]
    for i, task in enumerate(found[0].index):
        mean, worst = values[:, i].mean(axis=0), values[:, i].min(axis=0)
        shown = (
            [f"{m:17.1f}" for m in mean]
            if task == "seconds"
            else [f"{m:8.3f} ({w:6.3f})" for m, w in zip(mean, worst, strict=True)]
        )
        lines.append(f"  {task:15s} " + "".join(shown))
    return [*lines, ""]


def verdicts(found: dict[str, list[pd.DataFrame]], sets: dict[str, Sequences]) -> list[str]:
    """Say what passed and what failed."""
    means = {name: sum(frames) / len(frames) for name, frames in found.items()}
    lines = []
    if "windows" in means and {str(ALONE), str(STRONG)} <= set(means["windows"]):
        of = means["windows"].loc["frequency"]
        gain = of[str(ALONE)] - of[str(STRONG)]
        lines.append(f"{verdict(gain >= 0)}: windows, decay 0.3 less 3: {gain:+.3f}, asked 0")
    for name, mean in means.items():
        numbers = [task.name for task in sets[name].tasks if task.kind == "regression"]
        if numbers and str(FIVE) in mean:
            least = mean.loc[numbers, str(FIVE)].min()
            passed = verdict(least >= LEAST_SCORE)
            lines.append(
                f"{passed}: {name}, members {FIVE}: {least:+.3f}, asked at least {LEAST_SCORE}"
            )
    return lines


def verdict(passed: bool) -> str:
    """Say it in one word."""
    return "passed" if passed else "FAILED"


def command(args: argparse.Namespace) -> str:
    """Return the command line that prints this."""
    parts = ["$ python examples/benchmarks/sequences.py"]
    parts += ["--sets", *args.sets] if args.sets else []
    parts += [] if args.methods == [*METHODS] else ["--methods", *map(str, args.methods)]
    parts += [] if args.splits == 5 else ["--splits", str(args.splits)]
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", metavar="SET")
    parser.add_argument("--methods", nargs="*", type=Method.read, default=[*METHODS], metavar="M:D")
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    folder = folder_of_aeon()
    shipped = [] if folder is None else [*NUMBERS, *CLASSES]
    names = args.sets or ["windows", "noise", *shipped]
    made: dict[str, Any] = {"windows": windows, "noise": noise}
    if unknown := [name for name in names if name not in (*made, *shipped)]:
        parser.error(f"{unknown} are not there: {[*made, *shipped]} are. Others come with aeon.")
    sets = {n: made[n]() for n in names if n in made}
    sets |= {n: read_set(folder, n) for n in names if folder is not None and n in shipped}
    found, lines = {}, [command(args)]
    lines.append(f"mean (and least) score of {args.splits} splits; members:decay")
    lines.append("")
    for name, data in sets.items():
        found[name] = list(compare(data, args.methods, args.splits))
        lines += table(name, found[name])
        print("\n".join(table(name, found[name])), file=sys.stderr, flush=True)
    lines += verdicts(found, sets)
    publish("\n".join(lines), args.output)
    return int(any(line.startswith("FAILED") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
