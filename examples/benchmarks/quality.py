"""One joint network against specialists: boosted trees, a network per task, tuned tabular nets.

.. code-block:: bash

   python examples/benchmarks/quality.py --data DIR NAME [NAME ...] --splits 5 --cache FILE

Per data set, split and task: R2 of numbers, AUC of binary classes, accuracy of more classes, on the
test rows where a target was observed. Methods:

``joint``
    `MultiTaskCNNEstimator` with its defaults, one fit for all tasks, told of groups if there are
    any.
``separate``
    The same, fitted to each task alone, on the rows where it was observed.
``joint:head_hidden_units=32``, ``separate:max_epochs=60,loss=weighted``
    The same with other parameters of the estimator.
``hgb``
    `HistGradientBoosting*` per task, defaults. Tables go in as they are, with holes and
    categories; images by their first 40 principal components.
``realmlp``, ``tabm``
    RealMLP and TabM with the tuned defaults of pytabkit, per task (``pip install
    "pytabkit[models]"``), for tables; holes are imputed by medians.
``constant``
    The most frequent class, or the mean, of the training rows.

What is asked: the joint network's mean over tasks is, on tables, not below that of ``hgb`` by more
than 0.01; on images at least 0.05 above it; and anywhere not below those of ``separate`` and
``constant``. RealMLP and TabM are shown beside. ``--bar mean=0.87`` asks for a mean of accuracy and
R2, ``--bar class=0.91`` for the accuracy or R2 of one task. The difference has an interval (Nadeau
and Bengio, see `real_data.half_interval`): the script fails (exit code 1) where all of it is below
what is asked, and says UNDECIDED where it is not, but the mean difference is. Below ``constant``
the mean difference is enough to fail.

Every fit is kept in ``--cache`` and not repeated: delete its lines after changing a model.
``DIR/NAME`` are folders as in `real_data.py`; ``NAME:ARRAY`` reads X from another array of the
archive. Data with groups are split by group, others by their official split, or else at random.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import functools
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from real_data import DataSet, half_interval, make_model, read_data_set, splits
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.preprocessing import FunctionTransformer

from sklearn_mtl import MultiTaskCNNEstimator, Task

Rows = NDArray[np.intp]

# -- methods: a data set, training rows, test rows, a seed -> a prediction per task -----------


def joint(data: DataSet, train: Rows, test: Rows, seed: int, **params: Any) -> dict[str, Any]:
    """One network for all tasks."""
    y = data.y[[task.name for task in data.tasks]]
    return _predictions(_network(data, seed, params), data, y, train, test)


def separate(data: DataSet, train: Rows, test: Rows, seed: int, **params: Any) -> dict[str, Any]:
    """One network per task, on the rows where it was observed."""
    out = {}
    for task in data.tasks:
        alone = dataclasses.replace(data, tasks=[dataclasses.replace(task, given=None)])
        y = data.y[[task.name]]
        rows = train[y[task.name].iloc[train].notna()]
        out |= _predictions(_network(alone, seed, params), alone, y, rows, test)
    return out


def _network(data: DataSet, seed: int, params: dict[str, Any]) -> Any:
    model = make_model(data, "logprod", None, seed)
    return model.set_params(**{f"net__{name}": value for name, value in params.items()})


def _predictions(model: Any, data: DataSet, y: Any, train: Rows, test: Rows) -> dict[str, Any]:
    together = {} if data.group is None else {"net__groups": data.group[train]}
    model.fit(_rows(data.X, train), y.iloc[train], **together)
    inputs, net = model[:-1].transform(_rows(data.X, test)), model[-1]
    out: dict[str, Any] = {}
    classes = [task.name for task in data.tasks if task.kind == "classification"]
    if classes:
        probabilities = net.predict_proba(inputs)
        labels = net.classes_
        if len(classes) == 1:
            probabilities, labels = [probabilities], [labels]
        out |= dict(zip(classes, zip(labels, probabilities, strict=True), strict=True))
    numbers = net.predict(inputs).reshape(len(inputs), -1)
    for name, column in zip(net.task_names_, numbers.T, strict=True):
        out.setdefault(name, column.astype(float) if name not in classes else column)
    return out


def hgb(data: DataSet, train: Rows, test: Rows, seed: int) -> dict[str, Any]:
    """Boosted trees per task."""
    if isinstance(data.X, pd.DataFrame):
        X = data.X.assign(**{c: data.X[c].astype("category") for c in data.categories})
        params: dict[str, Any] = {"categorical_features": "from_dtype", "random_state": seed}
        encode: Any = FunctionTransformer()
    else:
        X, params = data.X.reshape(len(data.X), -1).astype(np.float32), {"random_state": seed}
        size = min(40, len(train), X.shape[1])
        encode = PCA(size, random_state=seed).fit(X[train])
    models = HistGradientBoostingClassifier(**params), HistGradientBoostingRegressor(**params)
    return _per_task(data, encode.transform(X), models, train, test)


def constant(data: DataSet, train: Rows, test: Rows, seed: int) -> dict[str, Any]:
    """The best constant per task."""
    X = np.zeros((len(data.y), 1))
    return _per_task(data, X, (DummyClassifier(), DummyRegressor()), train, test)


def realmlp(data: DataSet, train: Rows, test: Rows, seed: int) -> dict[str, Any]:
    """RealMLP with tuned defaults per task."""
    from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor

    return _pytabkit(data, RealMLP_TD_Classifier, RealMLP_TD_Regressor, train, test, seed)


def tabm(data: DataSet, train: Rows, test: Rows, seed: int) -> dict[str, Any]:
    """TabM with defaults per task."""
    from pytabkit import TabM_D_Classifier, TabM_D_Regressor

    return _pytabkit(data, TabM_D_Classifier, TabM_D_Regressor, train, test, seed)


def _pytabkit(
    data: DataSet, classifier: Any, regressor: Any, train: Rows, test: Rows, seed: int
) -> dict[str, Any]:
    params = {"random_state": seed, "device": "cpu", "n_threads": torch.get_num_threads()}
    impute = SimpleImputer(strategy="median", add_indicator=True)
    fill = SimpleImputer(strategy="constant", fill_value="none")
    numbers = [c for c in data.X.columns if c not in data.categories]
    encode = ColumnTransformer(
        [("numbers", impute, numbers), ("categories", fill, data.categories)],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    X = encode.fit(data.X.iloc[train]).transform(data.X)
    X = X.assign(**{c: X[c].astype("category") for c in data.categories})
    return _per_task(data, X, (classifier(**params), regressor(**params)), train, test)


def _per_task(
    data: DataSet, X: Any, models: tuple[Any, Any], train: Rows, test: Rows
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for task in data.tasks:
        y = data.y[task.name]
        rows = train[y.iloc[train].notna()]
        is_class = task.kind == "classification"
        model = clone(models[0 if is_class else 1])
        target = y.iloc[rows].to_numpy()
        labels, codes = np.unique(target, return_inverse=True)
        model.fit(_rows(X, rows), codes if is_class else target.astype(float))
        inputs = _rows(X, test)
        if is_class:
            out[task.name] = (labels, model.predict_proba(inputs))
        else:
            out[task.name] = np.asarray(model.predict(inputs)).ravel()
    return out


METHODS: dict[str, Callable[..., dict[str, Any]]] = {
    "joint": joint,
    "separate": separate,
    "hgb": hgb,
    "realmlp": realmlp,
    "tabm": tabm,
    "constant": constant,
}
DEFAULT = ["joint", "hgb", "constant"]


def find_method(text: str) -> Callable[..., dict[str, Any]]:
    """Return the method ``NAME``, or ``NAME:PARAMETER=VALUE,...`` of numbers and words."""
    name, colon, given = text.partition(":")
    if name not in METHODS:
        raise ValueError(f"methods are {', '.join(METHODS)}")
    if not colon:
        return METHODS[name]
    if name not in ("joint", "separate"):
        raise ValueError("parameters are those of the networks 'joint' and 'separate'")
    known = set(MultiTaskCNNEstimator().get_params()) - {"tasks", "random_state"}
    params: dict[str, Any] = {}
    for item in given.split(","):
        parameter, equals, value = item.partition("=")
        if not equals or not value or parameter not in known or parameter in params:
            raise ValueError(f"{item!r} is not PARAMETER=VALUE, with one of {sorted(known)}")
        try:
            params[parameter] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            params[parameter] = value
    return functools.partial(METHODS[name], **params)


# -- scores ----------------------------------------------------------------------------------


def task_scores(data: DataSet, test: Rows, predictions: dict[str, Any]) -> dict[str, float]:
    """R2, AUC or accuracy per task, and the accuracy of binary tasks as ``NAME/accuracy``.

    NaN without an observed target, for numbers without two, for AUC without both classes.
    """
    scores = {}
    for task in data.tasks:
        y = data.y[task.name].iloc[test]
        seen = y.notna().to_numpy()
        truth, prediction = y[seen].to_numpy(), predictions[task.name]
        if not isinstance(prediction, tuple):
            scores[task.name] = r2_score(truth, prediction[seen]) if len(truth) > 1 else np.nan
            continue
        labels, proba = prediction
        found = labels[proba[seen].argmax(axis=1)]
        scores[exact_name(data, task)] = accuracy_score(truth, found) if len(truth) else np.nan
        if _metric(data, task) == "AUC":
            both = len(np.unique(truth)) == 2
            scores[task.name] = roc_auc_score(truth, proba[seen, -1]) if both else np.nan
    return {name: float(score) for name, score in scores.items()}


def measure(
    name: str, data: DataSet, methods: Sequence[str], n_splits: int, rows: int | None, cache: Path
) -> dict[str, list[dict[str, Any]]]:
    """Return the kept records per method, in order of the splits; fit what is absent."""
    kept = _read(cache)
    records: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for method in methods:
        for seed, (train, test) in enumerate(splits(data, n_splits)):
            key = {"data": name, "rows": rows, "split": seed, "method": method}
            found = [r for r in kept if key.items() <= r.items()]
            if not found:
                start = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    predictions = find_method(method)(data, train, test, seed)
                seconds = time.perf_counter() - start
                scores = task_scores(data, test, predictions)
                share = len(test) / len(train) if data.split is None else 0.0
                kept_scores = {k: v if np.isfinite(v) else None for k, v in scores.items()}
                found = [key | {"scores": kept_scores, "seconds": seconds, "test_share": share}]
                with cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found[0]) + "\n")
                mean = np.nanmean([scores[task.name] for task in data.tasks])
                print(f"{name} {method} {seed}: {mean:.4f} in {seconds:.0f} s", file=sys.stderr)
            records[method] += found[:1]
    return records


def _read(cache: Path) -> list[dict[str, Any]]:
    if not cache.exists():
        return []
    return [json.loads(line) for line in cache.read_text(encoding="utf-8").splitlines()]


def _rows(X: Any, rows: Rows) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def open_data(folder: Path, name: str, rows: int | None) -> DataSet:
    """Read ``NAME`` or ``NAME:ARRAY``, and keep `rows` of them, drawn at random."""
    name, _, array = name.partition(":")
    data = read_data_set(folder / name)
    if array:
        with np.load(folder / name / "data.npz", allow_pickle=False) as archive:
            names = archive[f"{array}_names"].astype(object)
            data.X = pd.DataFrame(archive[array].astype(float), columns=names)
        data.X, data.categories = data.X.where(np.isfinite(data.X)), []
    if data.group is not None:
        data.split = None
    if rows is not None and rows < len(data.y):
        keep = np.sort(np.random.default_rng(0).permutation(len(data.y))[:rows])
        data.X, data.y = _rows(data.X, keep), data.y.iloc[keep]
        data.split = None if data.split is None else data.split[keep]
        data.group = None if data.group is None else data.group[keep]
    return data


# -- report ----------------------------------------------------------------------------------

Records = dict[str, list[dict[str, Any]]]


def report(data: DataSet, records: Records, bars: dict[str, float], command: str) -> str:
    """Write scores per task and method, and what was asked, as plain text."""
    methods = list(records)
    n_splits = len(records[methods[0]])
    X = f"{data.X.shape[1]} columns"
    if not isinstance(data.X, pd.DataFrame):
        X = f"{'x'.join(map(str, data.X.shape[1:]))} images"
    split = "the official split" if data.split is not None else "random 75/25 splits"
    split += ", by group" if data.split is None and data.group is not None else ""
    others = _specialists(methods)
    header = ["task", "metric", "test", *methods, *(f"joint - {other}" for other in others)]
    names = [task.name for task in data.tasks]
    n_test = np.mean(
        [data.y.iloc[test].notna().sum() for _, test in splits(data, n_splits)], axis=0
    )
    counts = dict(zip(data.y.columns, n_test, strict=True))
    rows = [
        _row([task.name, _metric(data, task), f"{counts[task.name]:.0f}"], _of(records, task.name))
        for task in data.tasks
    ]
    rows.append(_row(["mean over tasks", "", ""], _means(records, names), _share(records)))
    exact = [exact_name(data, task) for task in data.tasks]
    if exact != names:
        rows.append(_row(["mean, accuracy", "", ""], _means(records, exact), _share(records)))
    times = [np.array([r["seconds"] for r in records[m]], dtype=float) for m in methods]
    seconds = ["" if np.isnan(time).all() else f"{np.nanmean(time):.0f}" for time in times]
    rows.append(["seconds per split", "", "", *seconds, *[""] * len(others)])
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in [header, *rows]:
        cells = zip(row, widths, strict=True)
        lines.append(
            "  ".join(c.ljust(w) if j < 2 else c.rjust(w) for j, (c, w) in enumerate(cells))
        )
    rule = "-" * len(lines[0])
    k = 1 + len(data.tasks)
    return "\n".join(
        [
            f"{data.name}: {len(data.y)} rows, {X}; {split}",
            f"$ {command}",
            f"mean over {n_splits} splits and seeds, ± half of the 95 % confidence interval",
            "",
            *[line.rstrip() for line in [lines[0], rule, *lines[1:k], rule, *lines[k:]]],
            "",
            *(text for _, text in verdicts(data, records, bars)),
        ]
    )


def verdicts(data: DataSet, records: Records, bars: dict[str, float]) -> list[tuple[bool, str]]:
    """Whether it is not refuted, and a line, for everything that is asked."""
    names = [task.name for task in data.tasks]
    is_table = isinstance(data.X, pd.DataFrame)
    asked = {"hgb": -0.01 if is_table else 0.05, "separate": 0.0, "constant": 0.0}
    means, share = _means(records, names), _share(records)
    out = []
    for other, least in asked.items():
        if other in means:
            what = f"joint - {other}, mean over tasks"
            ok, line = _verdict(what, means["joint"] - means[other], share, least)
            if other == "constant" and not line.startswith("passed"):  # no excuse by the interval
                ok, line = False, line.replace("UNDECIDED", "FAILED")
            out.append((ok, line))
    for name, least in bars.items():
        exact = [exact_name(data, task) for task in data.tasks if name in ("mean", task.name)]
        what = "accuracy and R2, mean" if name == "mean" else name
        out.append(_verdict(what, _means(records, exact)["joint"], share, least))
    return out


def _verdict(what: str, values: NDArray[Any], share: float, least: float) -> tuple[bool, str]:
    values = values[np.isfinite(values)]
    mean, half = values.mean(), half_interval(values, share)
    passed = bool(mean >= least)
    refuted = not passed and not mean + half >= least
    word = "passed" if passed else "FAILED" if refuted else "UNDECIDED"
    return not refuted, f"{word}: {what} {_cell(values, share, '+' if '-' in what else '')}, " + (
        f"asked at least {least:g}"
    )


def _metric(data: DataSet, task: Task) -> str:
    if task.kind != "classification":
        return "R2"
    return "AUC" if data.y[task.name].nunique() == 2 else "accuracy"


def exact_name(data: DataSet, task: Task) -> str:
    """Name of a task's accuracy, or R2."""
    return f"{task.name}/accuracy" if _metric(data, task) == "AUC" else task.name


def _of(records: Records, name: str) -> dict[str, NDArray[Any]]:
    """Scores of a task per method, each of shape (n_splits,)."""
    return {
        method: np.array([r["scores"][name] for r in kept], dtype=float)  # None is NaN
        for method, kept in records.items()
    }


def _means(records: Records, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    scores = [_of(records, name) for name in names]
    return {method: np.nanmean([s[method] for s in scores], axis=0) for method in records}


def _share(records: Records) -> float:
    return float(np.mean([r["test_share"] for kept in records.values() for r in kept]))


def _row(
    labels: list[str], scores: dict[str, NDArray[Any]], share: float | None = None
) -> list[str]:
    cells = [_cell(values, share) for values in scores.values()]
    gains = [scores["joint"] - scores[other] for other in _specialists(scores)]
    return [*labels, *cells, *(_cell(gain, share, "+") for gain in gains)]


def _specialists(methods: Iterable[str]) -> list[str]:
    """Methods whose difference to the joint network is of interest."""
    return [method for method in methods if method not in ("joint", "constant")]


def _cell(values: NDArray[Any], share: float | None, sign: str = "") -> str:
    values = values[np.isfinite(values)]
    half = float("nan") if share is None else half_interval(values, share)
    mean = f"{values.mean():{sign}z.3f}" if len(values) else ""
    return mean + (f"±{half:.3f}" if np.isfinite(half) else "")


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per data set; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="One joint network against specialists.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="folders of DIR")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--methods", nargs="+", default=DEFAULT, metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument("--splits", type=int, default=5, metavar="N")
    parser.add_argument("--rows", type=int, help="rows to keep, drawn at random; default: all")
    parser.add_argument("--bar", nargs="*", default=[], metavar="TASK=SCORE", help="see above")
    parser.add_argument("--cache", type=Path, required=True, metavar="FILE")
    parser.add_argument("--n-threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    args = parser.parse_args(argv)
    folders = [args.data / name.partition(":")[0] for name in args.names]
    if absent := [folder.name for folder in folders if not (folder / "meta.json").exists()]:
        parser.error(f"no meta.json in the folders {absent} of --data {args.data}")
    if args.splits < 1:
        parser.error(f"--splits must be 1 or more, got {args.splits}")
    torch.set_num_threads(args.n_threads)
    for method in args.methods:
        try:
            find_method(method)
        except ValueError as error:
            parser.error(f"{method!r} is not a method: {error}.")
    methods = list(dict.fromkeys(args.methods))
    try:
        bars = {name: float(least) for name, least in (bar.split("=") for bar in args.bar)}
    except ValueError:
        parser.error(f"--bar takes TASK=SCORE, got {args.bar}")
    tables, passed = [], True
    for name in args.names:
        data = open_data(args.data, name, args.rows)
        if unknown := set(bars) - {"mean", *(task.name for task in data.tasks)}:
            parser.error(f"--bar names {sorted(unknown)}, which are no tasks of {name}")
        records = measure(name, data, methods, args.splits, args.rows, args.cache)
        if "joint" not in records:
            print(
                f"{name}: fits are kept, and without 'joint' no table is printed", file=sys.stderr
            )
            continue
        records = {"joint": records.pop("joint"), **records}
        tables.append(report(data, records, bars, command_line(args, parser, name)))
        print(tables[-1], end="\n\n", flush=True)
        passed &= all(ok for ok, _ in verdicts(data, records, bars))
    if args.output is not None:
        args.output.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    return 0 if passed else 1


def command_line(args: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> str:
    """Return the command that prints one table, for any folder DIR."""
    parts = ["python examples/benchmarks/quality.py --data DIR --cache FILE", name]
    for option in ("methods", "splits", "rows", "bar", "n_threads"):
        value = getattr(args, option)
        if value != parser.get_default(option):
            text = shlex.join(value) if isinstance(value, list) else str(value)
            parts.append(f"--{option.replace('_', '-')} {text}")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
