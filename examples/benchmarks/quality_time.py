"""Quality against time: what a second of training buys, for one task and for many.

.. code-block:: bash

   python examples/benchmarks/quality_time.py --data DIR NAME --cache FILE --plot FILE

Fits with growing budgets, of the same training rows: ``max_epochs`` of one joint network and of a
network per task, ``max_iter`` of boosted trees per task, ``n_epochs`` of RealMLP per task (``pip
install "pytabkit[models]"``). Stars are defaults; for the networks that is the number of epochs
that the data ask for. Seconds are those of all tasks together, one thread, training alone; run it
on a quiet machine. Scores are as in `quality.py`, means over tasks and splits.

For 1, 3 and 12 tasks (``--tasks``): the first of the data set's in an order drawn at random.
``NAME`` (default: mulan/osales, 639 rows, 401 features) is a folder as in `real_data.py`. Every fit
is kept in ``--cache``. There is no bar: the script shows a trade.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from quality import _per_task, _rows, find_method, open_data, task_scores
from real_data import DataSet, splits
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer

DEFAULT = 0  # the budget that is a method's default
BUDGETS: dict[str, tuple[int, ...]] = {
    "joint": (2, 5, 12, 30, 80, DEFAULT),
    "separate": (2, 5, 12, 30, 80, DEFAULT),
    "hgb": (5, 15, 40, 200, DEFAULT),
    "realmlp": (8, 64, DEFAULT),
}
LABELS = {
    "joint": "one network for all tasks",
    "separate": "a network per task",
    "hgb": "boosted trees per task",
    "realmlp": "RealMLP per task",
}


def predictions(
    method: str, budget: int, data: DataSet, train: Any, test: Any, seed: int
) -> dict[str, Any]:
    """Fit and predict."""
    if method in ("joint", "separate"):
        name = method if budget == DEFAULT else f"{method}:max_epochs={budget}"
        return find_method(name)(data, train, test, seed)
    if method == "hgb":
        params: dict[str, Any] = {"categorical_features": "from_dtype", "random_state": seed}
        if budget != DEFAULT:
            params["max_iter"] = budget
        X = data.X.assign(**{c: data.X[c].astype("category") for c in data.categories})
        models = HistGradientBoostingClassifier(**params), HistGradientBoostingRegressor(**params)
        return _per_task(data, X, models, train, test)
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    params = {"random_state": seed, "device": "cpu", "n_threads": torch.get_num_threads()}
    if budget != DEFAULT:
        params["n_epochs"] = budget
    numbers = [c for c in data.X.columns if c not in data.categories]
    encode = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median"), numbers),
            ("categories", SimpleImputer(strategy="constant", fill_value="-"), data.categories),
        ],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    X = encode.fit(_rows(data.X, train)).transform(data.X)
    X = X.assign(**{c: X[c].astype("category") for c in data.categories})
    models = RealMLP_TD_Classifier(**params), RealMLP_TD_Regressor(**params)
    return _per_task(data, X, models, train, test)


def measure(
    name: str,
    data: DataSet,
    sizes: Sequence[int],
    methods: Sequence[str],
    n_splits: int,
    cache: Path,
) -> pd.DataFrame:
    """Return one row per size, method, budget and split; fit what is not in the cache."""
    kept = (
        [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]
        if cache.exists()
        else []
    )
    order = np.random.default_rng(0).permutation(len(data.tasks))
    records = []
    for size in sizes:
        tasks = [dataclasses.replace(data.tasks[k], given=None) for k in order[:size]]
        part = dataclasses.replace(data, tasks=tasks)
        for seed, (train, test) in enumerate(splits(part, n_splits)):
            train = train[part.y[[t.name for t in tasks]].iloc[train].notna().any(axis=1)]
            for method, budget in ((m, b) for m in methods for b in BUDGETS[m]):
                key = {
                    "data": name,
                    "size": size,
                    "split": seed,
                    "method": method,
                    "budget": budget,
                }
                found = [r for r in kept if key.items() <= r.items()]
                if not found:
                    start = time.perf_counter()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        predicted = predictions(method, budget, part, train, test, seed)
                    seconds = time.perf_counter() - start
                    scores = task_scores(part, test, predicted)
                    mean = float(np.nanmean([scores[task.name] for task in tasks]))
                    found = [key | {"score": mean, "seconds": seconds}]
                    with cache.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found[0]) + "\n")
                    print(*key.values(), f"{mean:.4f} in {seconds:.1f} s", file=sys.stderr)
                records += found[:1]
    return pd.DataFrame(records)


def report(found: pd.DataFrame) -> str:
    """Return the table of means over splits."""
    means = found.groupby(["size", "method", "budget"], sort=False)[["score", "seconds"]].mean()
    lines = [f"{'tasks':>5}  {'method':26} {'budget':>8} {'score':>8} {'seconds':>9}"]
    for (size, method, budget), row in means.iterrows():
        text = "default" if budget == DEFAULT else str(budget)
        label = LABELS[method]
        lines.append(f"{size:5}  {label:26} {text:>8} {row['score']:8.3f} {row['seconds']:9.2f}")
    return "\n".join(lines)


def draw(found: pd.DataFrame, path: Path) -> None:
    """Draw scores against seconds, a panel per number of tasks."""
    import matplotlib.pyplot as plt

    sizes = found["size"].unique()
    figure, axes = plt.subplots(
        1,
        len(sizes),
        figsize=(4 * len(sizes), 3.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, size in zip(axes[0], sizes, strict=True):
        for color, method in zip(("C0", "C1", "C2", "C3"), LABELS, strict=True):
            part = found[(found["size"] == size) & (found["method"] == method)]
            if part.empty:
                continue
            means = part.groupby("budget")[["seconds", "score"]].mean()
            curve = means.drop(index=DEFAULT).sort_index()
            ax.plot(curve["seconds"], curve["score"], ".-", color=color, label=LABELS[method])
            star = means.loc[DEFAULT]
            ax.plot(star["seconds"], star["score"], "*", color=color, markersize=14, mec="black")
        ax.set(
            xscale="log",
            xlabel="seconds of training",
            title="1 task" if size == 1 else f"{size} tasks",
        )
        ax.grid(alpha=0.3)
    low = found.groupby(["size", "method", "budget"])["score"].mean()
    axes[0, 0].set(
        ylabel="mean score", ylim=(max(low.min(), low.max() - 0.8) - 0.02, low.max() + 0.03)
    )
    axes[0, -1].legend(loc="lower right", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and draw it."""
    parser = argparse.ArgumentParser(description="Quality against time.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("name", nargs="?", default="mulan/osales", metavar="NAME")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 3, 12])
    parser.add_argument("--methods", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--splits", type=int, default=3, metavar="N")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--n-threads", type=int, default=1, help="threads of torch")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.n_threads)
    data = open_data(args.data, args.name, None)
    if max(args.tasks) > len(data.tasks) or min(args.tasks) < 1:
        parser.error(f"--tasks {args.tasks}: {args.name} has {len(data.tasks)} tasks")
    found = measure(args.name, data, args.tasks, args.methods, args.splits, args.cache)
    print(f"$ python examples/benchmarks/quality_time.py --data DIR {args.name} --cache FILE\n")
    print(report(found))
    if args.plot is not None:
        draw(found, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
