"""An image and a table together, beside each alone.

.. code-block:: bash

   python examples/benchmarks/fusion.py --data DIR --cache FILE

With default settings, networks are trained on the image alone, on the table alone, and on both in a
`MultiInput`, and scored on the same held-out rows, by accuracy and R2:

- *digit scenes*: 1,000 scenes, and 1,000 with other digits, of several seeds. The image knows the
  digit and the brightness; the table knows a distance, and the gain of the camera, a sign. A signal
  is the brightness times the gain, and something that the table knows. With ``holes``, a third of
  the rows lacks the table, and another third the image, in training and test alike.
- *digits*: the handwritten digits of scikit-learn. The image is their upper half, the table says
  how much ink is in each row and column of the lower one; which digit it is, and how much ink it
  has, shall be found.
- *coffee_leaf* (the format is that of ``real_data.py``): photographs of leaves, and how severe an
  expert said the stress is; all else that is known of a leaf shall be found.

Each fit is kept in the cache, and a run goes on where another one has ended. The script fails (exit
code 1) if, in the mean over tasks, both together are not above each alone, with a 95 % interval of
the difference above 0.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_data import half_interval, publish, read_data_set, splits
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import MultiInput, make_digit_scenes

# Of a real set, the column of y that is taken for the table; all others are tasks.
TABLE = {"coffee_leaf": "severity"}
SCENES, DIGITS = "digit scenes", "digits"
WAYS = ("image", "table", "both")


class Data(NamedTuple):
    """Training and test rows."""

    name: str
    tasks: list[Task]
    X: MultiInput
    y: pd.DataFrame
    X_test: MultiInput
    y_test: pd.DataFrame
    test_share: float


def scenes(seed: int, n: int = 1000) -> Data:
    """Digit scenes, and a table that carries a part of the answer."""
    tasks = [
        Task("digit_present", "classification"),
        Task("digit_size", "regression", given=("digit_present", 1)),
        Task("brightness", "regression"),
        Task("distance", "regression"),
        Task("signal", "regression"),
    ]
    parts: list[Any] = []
    for how in ({"random_state": seed}, {"random_state": 1000 + seed, "subset": "test"}):
        images, y = make_digit_scenes(n, size=16, **how)
        rng = np.random.default_rng(how["random_state"])
        table = pd.DataFrame(rng.normal(size=(n, 3)), columns=["near", "far", "offset"])
        table["gain"] = rng.choice([-1.0, 1.0], size=n)
        y["distance"] = table["near"] + 0.5 * table["far"] ** 2
        centred = (y["brightness"] - y["brightness"].mean()) / y["brightness"].std()
        y["signal"] = centred * table["gain"] + 0.5 * table["offset"]
        parts += [MultiInput(image=images, table=table), y[[task.name for task in tasks]]]
    return Data(SCENES, tasks, *parts, 0.0)


def digits(seed: int) -> Data:
    """Handwritten digits in two halves."""
    images, digit = load_digits(return_X_y=True)
    upper, lower = np.split(images.reshape(-1, 1, 8, 8), 2, axis=2)
    table = np.hstack([lower.sum(axis=(1, 2)), lower.sum(axis=(1, 3))])
    y = pd.DataFrame({"digit": digit.astype(str), "ink": images.sum(axis=1)})
    rows = np.arange(len(y))
    train, test = train_test_split(rows, test_size=0.25, random_state=seed, stratify=digit)
    X = MultiInput(image=upper, table=table)
    tasks = [Task("digit", "classification"), Task("ink", "regression")]
    share = len(test) / len(train)
    return Data(DIGITS, tasks, X[train], y.iloc[train], X[test], y.iloc[test], share)


def real(folder: Path, seed: int) -> Data:
    """A real set, of which one column of y is known."""
    data = dataclasses.replace(read_data_set(folder), split=None)
    column = TABLE[data.name]
    table = pd.get_dummies(data.y[column].astype(object).fillna("none"), dtype=float)
    tasks = [
        dataclasses.replace(task, given=None) if (task.given or ("",))[0] == column else task
        for task in data.tasks
        if task.name != column
    ]
    X, y = MultiInput(image=data.X, table=table), data.y[[task.name for task in tasks]]
    train, test = list(splits(data, seed + 1))[seed]
    share = len(test) / len(train)
    return Data(data.name, tasks, X[train], y.iloc[train], X[test], y.iloc[test], share)


def with_holes(X: MultiInput, seed: int) -> MultiInput:
    """A third of the rows without the table, and a third without the image."""
    images, table = X["image"].copy(), X["table"].copy()
    third = np.random.default_rng(seed).integers(3, size=len(X))
    images[third == 1], table.iloc[third == 2] = np.nan, np.nan
    return MultiInput(image=images, table=table)


def score(data: Data, way: str, seed: int) -> dict[str, float]:
    """Fit to what a way knows of the rows, and score."""
    X, X_test = data.X, data.X_test
    if way == "holes":
        X, X_test = (with_holes(part, seed) for part in (X, X_test))
    elif way != "both":
        X, X_test = X[way], X_test[way]
    estimator = MultiTaskCNNEstimator(data.tasks, random_state=seed)
    return estimator.fit(X, data.y).score_tasks(X_test, data.y_test)


def measure(
    name: str, make: Callable[[int], Data], ways: Sequence[str], n_seeds: int, cache: Path | None
) -> tuple[list[str], dict[str, NDArray[np.float64]], float, float]:
    """Return tasks, scores (n_seeds, n_tasks) of each way, the share of tests, and seconds."""
    kept = [] if cache is None or not cache.exists() else cache.read_text().splitlines()
    records = [json.loads(line) for line in kept]
    scores: dict[str, list[list[float]]] = {way: [] for way in ways}
    seconds = 0.0
    for seed in range(n_seeds):
        data = make(seed)
        for way in ways:
            key = {"data": name, "way": way, "seed": seed}
            found = next((r for r in records if key.items() <= r.items()), None)
            if found is None:
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = key | {"scores": score(data, way, seed)}
                found["seconds"] = time.perf_counter() - start
                print(name, way, seed, f"{_mean(found):.4f}", file=sys.stderr)
                if cache is not None:
                    with cache.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
            scores[way].append(list(found["scores"].values()))
            seconds += found["seconds"]
    names = list(found["scores"])
    return names, {w: np.array(s) for w, s in scores.items()}, data.test_share, seconds


def _mean(record: dict[str, Any]) -> float:
    return float(np.mean(list(record["scores"].values())))


def table_of(
    names: list[str], scores: dict[str, NDArray[np.float64]], share: float
) -> tuple[str, bool]:
    """Table of one set, and whether it is as promised."""
    lines = [f"{'task':18s}" + "".join(f"{way:>16s}" for way in scores)]
    lines.append("-" * len(lines[0]))
    for k, name in enumerate(names):
        cells = "".join(f"{rows[:, k].mean():16.3f}" for rows in scores.values())
        lines.append(f"{name:18s}{cells}")
    lines.append("-" * len(lines[0]))
    means = {way: rows.mean(axis=1) for way, rows in scores.items()}
    cells = [f"{m.mean():.3f}±{half_interval(m, share):.3f}" for m in means.values()]
    lines += [f"{'mean':18s}" + "".join(f"{cell:>16s}" for cell in cells), ""]
    passed = True
    for alone in WAYS[:2]:
        gain = means["both"] - means[alone]
        half = half_interval(gain, share)
        passed &= bool(gain.mean() - half > 0)
        lines.append(f"both - {alone}: {gain.mean():+.3f}±{half:.3f}")
    lines.append("passed" if passed else "FAILED: both are not above each alone")
    return "\n".join(lines), passed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 if all is as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="with a folder for the real set")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds, and splits")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="where fits are kept")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error("--seeds must be at least 2")
    torch.set_num_threads(1)
    todo: dict[str, tuple[Callable[[int], Data], Sequence[str]]] = {}
    todo[SCENES] = scenes, (*WAYS, "holes")
    todo[DIGITS] = digits, WAYS
    for name in TABLE if args.data is not None else ():
        todo[name] = (lambda seed, name=name: real(args.data / name, seed)), WAYS
    options = "--data DIR " * (args.data is not None) + f"--seeds {args.seeds}"
    text, passed = [f"$ python examples/benchmarks/fusion.py {options}"], True
    for name, (make, ways) in todo.items():
        *found, seconds = measure(name, make, ways, args.seeds, args.cache)
        shown, is_passed = table_of(*found)
        text.append(f"{name}: {args.seeds} seeds, {seconds:.0f} s of fits\n{shown}")
        passed &= is_passed
    publish("\n\n".join(text), args.output)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
