"""Classes from low to high: does it help to say so?

.. code-block:: bash

   python examples/benchmarks/ordered_classes.py --data DIR NAME TASK

``NAME`` is a folder in the format of ``real_data.py``, ``TASK`` a multi-class task whose
``"classes"`` in ``meta.json`` go from low to high. The joint network of all tasks is fitted with
the task declared as 'classification' and as 'ordinal', with the same seeds and splits. Both are
measured alike, by their probabilities:

- log loss;
- ranked probability score: squared error of the cumulative probabilities, summed over thresholds;
- rank error: mean distance in ranks to the median class;
- accuracy of the most probable class.

The script fails (exit code 1) if declaring the order makes the ranked probability score worse, by
more than its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model, publish, read_data_set, splits

from sklearn_mtl import Task

METRICS = ("log loss", "ranked prob. score", "rank error", "accuracy")
KINDS = ("classification", "ordinal")


def declare(data: DataSet, name: str, kind: str, categories: list[Any]) -> DataSet:
    """Return the data set with one task of another kind."""
    order = categories if kind == "ordinal" else None
    tasks = [
        Task(name, kind, task.given, categories=order) if task.name == name else task
        for task in data.tasks
    ]
    return replace(data, tasks=tasks)


def measure(proba: NDArray[np.float64], rank: NDArray[np.intp]) -> list[float]:
    """Measure probabilities (n, n_categories) against the true ranks (n,)."""
    at_most = proba.cumsum(axis=1)[:, :-1]
    truth = rank[:, None] <= np.arange(at_most.shape[1])
    right = proba[np.arange(len(rank)), rank]
    return [
        -np.log(np.maximum(right, 1e-12)).mean(),
        ((at_most - truth) ** 2).sum(axis=1).mean(),
        np.abs((at_most < 0.5).sum(axis=1) - rank).mean(),
        (proba.argmax(axis=1) == rank).mean(),
    ]


def evaluate(
    data: DataSet, name: str, categories: list[Any], n_seeds: int, n_rows: int | None = None
) -> tuple[Any, float]:
    """Measure both kinds on the test rows of every seed: (n_seeds, n_kinds, n_metrics)."""
    names, results, shares = [task.name for task in data.tasks], [], []
    for seed, (train, test) in enumerate(splits(data, n_seeds)):
        train = np.sort(np.random.default_rng(seed).permutation(train)[:n_rows])
        rows = data.X.iloc if hasattr(data.X, "iloc") else data.X
        label = data.y[name].iloc[test]
        seen = label.notna().to_numpy()
        rank = np.array([categories.index(value) for value in label[seen]])
        row = []
        for kind in KINDS:
            model = make_model(declare(data, name, kind, categories), "logprod", None, seed)
            model.fit(rows[train], data.y[names].iloc[train])
            net, inputs = model[-1], model[:-1].transform(rows[test])
            found = net.task_view(name)
            proba = np.zeros((len(rank), len(categories)))
            columns = [categories.index(value) for value in found.classes_]
            proba[:, columns] = found.predict_proba(inputs)[seen]
            row.append(measure(proba, rank))
        results.append(row)
        shares.append(len(test) / len(train) if data.split is None else 0.0)
    return np.array(results), float(np.mean(shares))


def report(results: Any, share: float, head: str) -> tuple[str, bool]:
    """Write the table, and tell whether the order did no harm."""
    lines = [head, "", f"{'':20s}{'classes':>10s}{'ordered':>10s}{'difference':>20s}"]
    lines.append("-" * len(lines[-1]))
    for k, metric in enumerate(METRICS):
        plain, ordered = results[:, 0, k], results[:, 1, k]
        half = half_interval(ordered - plain, share)
        difference = f"{(ordered - plain).mean():+.4f} ± {half:.4f}"
        lines.append(f"{metric:20s}{plain.mean():10.4f}{ordered.mean():10.4f}{difference:>20s}")
    gain = results[:, 1, 1] - results[:, 0, 1]
    passed = bool(gain.mean() <= half_interval(gain, share))
    verdict = "passed: the order does no harm" if passed else "FAILED: the order makes it worse"
    return "\n".join([*lines, "", verdict]), passed


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if the order does harm."""
    parser = argparse.ArgumentParser(description="Ordered classes, declared or not.")
    parser.add_argument("name", metavar="NAME", help="folder of DIR")
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="splits and model seeds")
    parser.add_argument("--rows", type=int, metavar="N", help="training rows; default: all")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the table here")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error(f"--seeds must be 2 or more, got {args.seeds}")
    torch.set_num_threads(1)
    data = read_data_set(args.data / args.name)
    meta = json.loads((args.data / args.name / "meta.json").read_text(encoding="utf-8"))
    known = {entry["name"]: entry.get("classes") for entry in meta["tasks"]}
    if not known.get(args.task):
        parser.error(f"{args.task} has no list of classes in meta.json")
    results, share = evaluate(data, args.task, known[args.task], args.seeds, args.rows)
    command = f"python examples/benchmarks/ordered_classes.py --data DIR {args.name} {args.task}"
    command += "" if args.seeds == 5 else f" --seeds {args.seeds}"
    command += "" if args.rows is None else f" --rows {args.rows}"
    what = "splits and model seeds" if data.split is None else "model seeds, one split"
    head = (
        f"{args.name}, {args.task}: {len(known[args.task])} ordered classes, in one network with "
        f"{len(data.tasks) - 1} other tasks\n$ {command}\n"
        f"mean over {args.seeds} {what}, ± half of the 95 % confidence interval"
    )
    table, passed = report(results, share, head)
    publish(table, args.output)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
