"""Do intervals and sets hold as many new targets as they say, and are they narrow?

.. code-block:: bash

   pip install mapie
   python examples/benchmarks/intervals.py --data DIR --cache FILE --output FILE

The sets and halves of `never_worse.py`, split 70/30 at random, whole groups on one side. Official
splits are not kept: of one and the same 50 test rows, coverage says how these came out. Methods:

``ours``
    `predict_interval` and `predict_set` of one fit on all training rows, which leaves out folds by
    itself. It is told of groups, where there are any. Images are trained by `early_stopping` with
    a quarter of the rows held out, as their networks leave out no folds.
``split``
    The same network on three quarters of the training rows (whole groups), and mapie's
    `SplitConformalRegressor` with the absolute error on the others.

Of each task with at least 300 observed targets, those that are conditional included: the share of
new targets inside intervals of 0.9, where they apply; the mean width of ours over that of ``split``
(a geometric mean over splits); and the correlation of width and absolute error. Of classes the
coverage and the mean size of the sets.

What is asked stands in the constants below: of the sets in DIR each task, in the mean over splits;
others are shown. The exit code is 1 if something failed. Half of the sets are 'chosen' on, to find
how scores are made, the others 'unseen'. Every fit is kept in ``--cache`` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from never_worse import FOLDERS, HALVES, Rows, entries, folds
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model, publish
from shipped_data import cut
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit

CONFIDENCE = 0.9
COVERAGE = (0.88, 0.93)
OBSERVED = 300
HELD_OUT = 0.25

Record = dict[str, Any]


# -- methods -------------------------------------------------------------------------------------


def fit(data: DataSet, rows: Rows, seed: int) -> tuple[Any, Any]:
    """Fit on some rows; return the network, and what X goes through before."""
    model = make_model(data, "logprod", None, seed)
    if not isinstance(data.X, pd.DataFrame):
        model.set_params(net__early_stopping=True, net__validation_fraction=HELD_OUT)
    together = {} if data.group is None else {"net__groups": data.group[rows]}
    y = data.y[[task.name for task in data.tasks]]
    model.fit(taken(data.X, rows), y.iloc[rows], **together)
    return model[-1], model[:-1].transform


def ours(data: DataSet, train: Rows, test: Rows, seed: int) -> Record:
    """Coverage, width and correlation of numbers, coverage and size of sets, per task."""
    net, through = fit(data, train, seed)
    out: Record = {}
    for name, new, y in tasks_of(data, test):
        view, X = net.task_view(name), through(taken(data.X, new))
        if hasattr(view, "classes_"):
            held = view.predict_set(X, CONFIDENCE)
            inside = held & (y[:, None] == view.classes_)  # a new label is in no set
            out[name] = {"coverage": inside.any(axis=1).mean(), "size": held.sum(axis=1).mean()}
            out[name]["empty"] = (~held.any(axis=1)).mean()
        else:
            low, high = view.predict_interval(X, CONFIDENCE).T
            error = np.abs(y - view.predict(X))
            out[name] = _of_intervals(low, high, y)
            out[name]["correlation"] = float(np.corrcoef(high - low, error)[0, 1])
    return out


class Flat(RegressorMixin, BaseEstimator):
    """A fitted view that takes images as rows of numbers: mapie tries it on one."""

    def __init__(self, view: Any, shape: tuple[int, ...]) -> None:
        self.view = view
        self.shape = shape

    @property
    def n_features_in_(self) -> int:
        """Number of values in one sample."""
        return int(np.prod(self.shape))

    def fit(self, X: Any, y: Any = None) -> Flat:
        """Do nothing."""
        return self

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Predict the task."""
        return self.view.predict(X.reshape(-1, *self.shape))


def split(data: DataSet, train: Rows, test: Rows, seed: int) -> Record:
    """Coverage and width of numbers by mapie, per task."""
    from mapie.regression import SplitConformalRegressor

    splitter = ShuffleSplit if data.group is None else GroupShuffleSplit
    groups = None if data.group is None else data.group[train]
    parts = next(splitter(1, test_size=HELD_OUT, random_state=seed).split(train, groups=groups))
    learn, measure = (train[part] for part in parts)
    net, through = fit(data, learn, seed)
    out: Record = {}
    measured = {name: (rows, y) for name, rows, y in tasks_of(data, measure)}
    for name, new, y in tasks_of(data, test):
        view = net.task_view(name)
        if hasattr(view, "classes_") or name not in measured:
            continue
        rows, known = measured[name]
        X, X_new = through(taken(data.X, rows)), through(taken(data.X, new))
        flat = Flat(view, X.shape[1:])
        mapie = SplitConformalRegressor(flat, confidence_level=CONFIDENCE, prefit=True)
        mapie.conformalize(X.reshape(len(X), -1), known)
        _, bounds = mapie.predict_interval(X_new.reshape(len(X_new), -1))
        out[name] = _of_intervals(bounds[:, 0, 0], bounds[:, 1, 0], y)
    return out


def _of_intervals(low: NDArray[Any], high: NDArray[Any], y: NDArray[Any]) -> Record:
    inside = (low <= y) & (y <= high)
    return {"coverage": inside.mean(), "width": (high - low).mean()}


def tasks_of(data: DataSet, rows: Rows) -> Iterator[tuple[str, Rows, NDArray[Any]]]:
    """Yield name, rows and targets of tasks with enough observed targets, where they are."""
    for task in data.tasks:
        column = data.y[task.name]
        seen = rows[column.iloc[rows].notna()]
        if column.notna().sum() >= OBSERVED and len(seen):
            values = column.iloc[seen].to_numpy()
            yield task.name, seen, values if task.kind == "classification" else values.astype(float)


def taken(X: Any, rows: Rows) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


METHODS: dict[str, Callable[..., Record]] = {"ours": ours, "split": split}


def measure(
    name: str, data: DataSet, n_splits: int, rows: int, cache: Path, methods: Sequence[str]
) -> list[Record]:
    """Return the records of each split, a dict from method to that of each task."""
    lines = cache.read_text(encoding="utf-8").splitlines() if cache.exists() else []
    kept = [record for record in map(json.loads, lines) if record["data"] == name]
    out = []
    for seed, (train, test, share) in enumerate(folds(data, n_splits)):
        out.append({"test_share": share})
        for method in methods:
            key = {"data": name, "rows": rows, "split": seed, "method": method}
            found = next((record for record in kept if key.items() <= record.items()), None)
            if found is None:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = key | {"tasks": METHODS[method](data, train, test, seed)}
                with cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"{name} {method} {seed}", file=sys.stderr)
            out[-1][method] = found["tasks"]
    return out


# -- what is asked, and the report ---------------------------------------------------------------


class Line(NamedTuple):
    """What was found of one task, in the mean over splits."""

    data: str
    task: str
    half: str
    asked: bool
    is_class: bool
    coverage: float
    interval: float  # half of that of the coverage
    of_split: float  # coverage
    ratio: float  # of widths; of classes, the mean size of sets
    correlation: float  # of classes, the share of sets that are empty

    @property
    def word(self) -> str:
        """Whether the coverage is as asked."""
        low, high = COVERAGE
        if low <= self.coverage <= high:
            return "passed"
        return "FAILED" if self.asked else "outside"


def lines_of(name: str, half: str, records: Sequence[Record]) -> list[Line]:
    """Sum up the splits of one set."""
    out = []
    for task in dict.fromkeys(task for record in records for task in record["ours"]):
        found = [r for r in records if task in r["ours"]]
        coverage = np.array([r["ours"][task]["coverage"] for r in found], dtype=float)
        both = [r for r in found if task in r.get("split", {})]
        is_class = "size" in found[0]["ours"][task]
        ratios = [r["ours"][task]["width"] / r["split"][task]["width"] for r in both]
        last = "empty" if is_class else "correlation"
        out.append(
            Line(
                name,
                task,
                half,
                name in FOLDERS,
                is_class,
                float(coverage.mean()),
                half_interval(coverage, found[0]["test_share"]),
                _mean([r["split"][task]["coverage"] for r in both]),
                _mean([r["ours"][task]["size"] for r in found])
                if is_class
                else float(np.exp(_mean(np.log(ratios)))),
                _mean([r["ours"][task][last] for r in found]),
            )
        )
    return out


HEADER = ["set", "task", "half", "coverage"]


def _mean(values: Any) -> float:
    values = np.asarray(values, dtype=float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def table(lines: Sequence[Line], header: Sequence[str]) -> list[str]:
    """Write a row per task."""
    rows = [
        [
            *(line.data, line.task[:20], line.half),
            f"{line.coverage:.3f} ± {line.interval:.3f}",
            *(f"{v:.3f}" for v in (line.of_split, line.ratio, line.correlation)),
            "" if line.word == "passed" else line.word,
        ]
        for line in lines
    ]
    if lines and lines[0].is_class:
        rows = [row[:4] + row[5:] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    out = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    head = "  ".join(c.ljust(w) for c, w in zip(header, widths, strict=True))
    return [line.rstrip() for line in [head, "-" * len(head), *out]]


def summary(lines: Sequence[Line]) -> tuple[list[str], bool]:
    """Write what was asked and what came out, and say whether all was well."""
    asked = [line for line in lines if line.asked]
    failed = [line for line in asked if line.word == "FAILED"]
    low, high = COVERAGE
    out = [
        f"{'FAILED' if failed else 'passed'}: {len(asked) - len(failed)} of {len(asked)} tasks of "
        f"DIR have a coverage from {low} to {high}",
        *(f"  FAILED {r.data} {r.task} {r.coverage:.3f} ± {r.interval:.3f}" for r in failed),
    ]
    numbers = [line for line in lines if not line.is_class]
    names = dict.fromkeys(line.data for line in numbers)
    of_set = {n: _mean(np.log([line.ratio for line in numbers if line.data == n])) for n in names}
    ratios = [ratio for ratio in of_set.values() if np.isfinite(ratio)]
    narrower = sum(ratio <= 0 for ratio in ratios)
    most = narrower > len(ratios) / 2 or not ratios
    if ratios:
        out.append(
            f"{'passed' if most else 'FAILED'}: intervals at most as wide as those of split on "
            f"{narrower} of {len(ratios)} sets, asked most"
        )
    for half in HALVES:
        for what, is_class in (("numbers", False), ("classes", True)):
            part = [line for line in lines if line.half == half and line.is_class == is_class]
            if not part:
                continue
            text = f"{half}, {len(part)} {what}: coverage {_mean([r.coverage for r in part]):.3f}, "
            text += f"{sum(line.word == 'passed' for line in part)} from {low} to {high}"
            if not is_class:
                ratio = np.exp(_mean(np.log([line.ratio for line in part])))
                above = sum(line.correlation > 0.1 for line in part)
                within = sum(low <= line.of_split <= high for line in part)
                text += f" (split {_mean([r.of_split for r in part]):.3f}, {within}); width / split"
                text += f" {ratio:.3f}; correlation above 0.1 in {above}"
            out.append(text)
    return out, most and not failed


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables and what was asked; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description="Are intervals and sets as sure as they say?")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--splits", type=int, default=10, metavar="N")
    parser.add_argument("--image-splits", type=int, default=5, metavar="N", help="0: no images")
    parser.add_argument("--methods", nargs="+", default=[*METHODS], choices=METHODS)
    parser.add_argument("--rows", type=int, default=4000, help="rows to keep, drawn at random")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    if "ours" not in args.methods:
        parser.error("--methods must name ours")
    sets = entries(args.data, args.rows)
    if unknown := [name for name in args.sets or [] if name not in sets]:
        parser.error(f"--sets {unknown} are not known; there are {', '.join(sets)}")
    torch.set_num_threads(1)
    lines: list[Line] = []
    for name in args.sets or sets:
        data = replace(cut(sets[name].load(), args.rows), split=None)
        n_splits = args.splits if isinstance(data.X, pd.DataFrame) else args.image_splits
        records = measure(name, data, n_splits, args.rows, args.cache, args.methods)
        lines += lines_of(name, sets[name].half, records)
    options = [f"--{n} {getattr(args, n.replace('-', '_'))}" for n in ("splits", "image-splits")]
    numbers, classes = ([x for x in lines if x.is_class == k] for k in (False, True))
    said, ok = summary(lines)
    text = [
        f"$ python examples/benchmarks/intervals.py --data DIR --cache FILE {' '.join(options)}",
        f"intervals and sets of {CONFIDENCE}, mean over splits (± half of its 95 % interval)",
        "",
        *table(numbers, [*HEADER, "of split", "width / split", "correlation", ""]),
        "",
        *table(classes, [*HEADER, "size", "empty", ""]),
        "",
        *said,
    ]
    publish("\n".join(text), args.output)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
