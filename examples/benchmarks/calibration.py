"""Are the probabilities of classes what they say, and do thresholds find what is rare?

.. code-block:: bash

   python examples/benchmarks/calibration.py --data DIR

Per class task, on new rows, the expected calibration error (ECE): the mean distance between the
probability that is predicted of a class and how often it is observed, over 15 bins of equally many
rows [1]_, and over classes. Of as many rows, even true probabilities are not at 0.

``joint``
    `MultiTaskCNNEstimator` with defaults, one fit for all tasks.
``balanced``
    The same with ``class_weight="balanced"``, whose probabilities are those of other data ...
``calibrated``
    ... and with ``calibration="sigmoid"`` for each task, which are to be frequencies again.
``trees``
    `HistGradientBoostingClassifier` per task.

Then, for tasks of two classes, the balanced accuracy of the most probable class, and of a
``threshold`` that was tuned for it on the rows left out.

Splits are those of `never_worse.py`: 70/30, whole groups on one side. It is asked that the ECE of
``joint`` and of ``calibrated``, mean over the tasks of a set, is not above that of the trees; the
interval is the corrected resampled t of `real_data.half_interval`. The exit code is 1 if one is.

.. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using
   Bayesian Binning", AAAI 2015.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from never_worse import METHODS, entries, folds
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model
from sklearn.metrics import balanced_accuracy_score

from sklearn_mtl import predict_frame

SETS = ["support2", "rand_hie", "tox21:desc"]
BINS = 15

Rows = NDArray[np.intp]
Predictions = dict[str, Any]
Scores = dict[str, list[float]]  # of each method, by split


def with_classes(data: DataSet, names: Sequence[str], **params: Any) -> DataSet:
    """Return the set with these parameters for some tasks."""
    tasks = [
        dataclasses.replace(task, **params) if task.name in names else task for task in data.tasks
    ]
    return dataclasses.replace(data, tasks=tasks)


def joint(data: DataSet, train: Rows, test: Rows, seed: int, **params: Any) -> Predictions:
    """One network for all tasks: labels, their probabilities, and what is predicted, by task."""
    model = make_model(data, "logprod", None, seed)
    model.set_params(**{f"net__{name}": value for name, value in params.items()})
    together = {} if data.group is None else {"net__groups": data.group[train]}
    names = [task.name for task in data.tasks]
    model.fit(data.X.iloc[train], data.y[names].iloc[train], **together)
    inputs, net = model[:-1].transform(data.X.iloc[test]), model[-1]
    classes = [task.name for task in data.tasks if task.kind == "classification"]
    found, labels, proba = predict_frame(net, inputs), net.classes_, net.predict_proba(inputs)
    if len(classes) == 1:
        labels, proba = [labels], [proba]
    parts = zip(classes, labels, proba, strict=True)
    return {name: (labels, proba, found[name].to_numpy()) for name, labels, proba in parts}


def methods(data: DataSet) -> dict[str, Any]:
    """Return functions from training rows, test rows and a seed to predictions."""
    names = [task.name for task in data.tasks if task.kind == "classification"]
    weights = dict.fromkeys(names, "balanced")
    calibrated = with_classes(data, names, calibration="sigmoid")
    return {
        "joint": functools.partial(joint, data),
        "balanced": functools.partial(joint, data, class_weight=weights),
        "calibrated": functools.partial(joint, calibrated, class_weight=weights),
        "trees": lambda *args: METHODS["trees"](data, *args)[0],
    }


def calibration_error(proba: NDArray[Any], is_class: NDArray[Any]) -> float:
    """ECE of the probabilities of a class, both (n,), in bins of equally many rows."""
    order = np.argsort(proba, kind="stable")
    bins = [part for part in np.array_split(order, BINS) if len(part)]
    gaps = [abs(proba[part].mean() - is_class[part].mean()) for part in bins]
    return float(np.average(gaps, weights=[len(part) for part in bins]))


def measure(data: DataSet, n_splits: int) -> tuple[dict[str, Scores], dict[str, Scores], float]:
    """Return ECE and balanced accuracy by task and method, and the ratio of test to training."""
    errors: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    accuracies: dict[str, Scores] = defaultdict(lambda: defaultdict(list))
    classes = [task.name for task in data.tasks if task.kind == "classification"]
    binary = [name for name in classes if data.y[name].nunique() == 2]
    tuned = with_classes(data, binary, threshold="balanced_accuracy")
    for seed, (train, test, ratio) in enumerate(folds(data, n_splits)):
        share = ratio
        for method, fit in methods(data).items():
            found = fit(train, test, seed)
            if method == "joint":
                plain = found
            for name in classes:
                truth, seen = _truth(data, name, test)
                labels, proba, *_ = found[name]
                of_labels = [
                    calibration_error(proba[seen, j], truth == label)
                    for j, label in enumerate(labels)
                ]
                errors[name][method].append(float(np.mean(of_labels)))
        for method, of in {"most probable": data, "threshold": tuned}.items():
            found = plain if of is data else joint(of, train, test, seed)
            for name in binary:
                truth, seen = _truth(data, name, test)
                score = balanced_accuracy_score(truth, found[name][-1][seen])
                accuracies[name][method].append(score)
        print(f"{data.name}, split {seed}", file=sys.stderr)
    return errors, accuracies, share


def _truth(data: DataSet, name: str, test: Rows) -> tuple[Any, NDArray[np.bool_]]:
    y = data.y[name].iloc[test]
    seen = y.notna().to_numpy()
    return y[seen].to_numpy(), seen


def table(scores: dict[str, Scores], columns: Sequence[str]) -> None:
    """Print the mean over splits of each task."""
    width = max(map(len, scores))
    print(" " * width, *(column.rjust(13) for column in columns))
    for name, of in scores.items():
        print(name.ljust(width), *(f"{np.mean(of[column]):13.3f}" for column in columns))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 if a bar was missed."""
    parser = argparse.ArgumentParser(description="Calibration and thresholds on real data.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", nargs="+", default=SETS, metavar="NAME")
    parser.add_argument("--splits", type=int, default=10, metavar="N")
    parser.add_argument("--rows", type=int, default=4000, help="rows to keep, drawn at random")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    sets, missed = entries(args.data, args.rows), 0
    print("$ python examples/benchmarks/calibration.py --data DIR")
    for name in args.sets:
        errors, accuracies, share = measure(sets[name].load(), args.splits)
        print(f"\n{name}: ECE, mean over {args.splits} splits")
        table(errors, ["joint", "balanced", "calibrated", "trees"])
        for method in ("joint", "calibrated"):
            gaps = np.mean([np.subtract(of[method], of["trees"]) for of in errors.values()], axis=0)
            half, failed = half_interval(gaps, share), gaps.mean() > 0
            missed += failed
            word = "FAILED" if failed else "passed"
            print(f"{word}: {method} - trees {gaps.mean():+.4f} ± {half:.4f}, asked at most 0")
        print(f"\n{name}: balanced accuracy")
        table(accuracies, ["most probable", "threshold"])
        print(flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
