"""One network for all tasks of a real data set, against the best constant per task.

.. code-block:: bash

   python examples/benchmarks/real_data.py --data DIR NAME [NAME ...]

The best constant is the majority class, or the mean, of the training rows; both are scored by
accuracy and R2 on the test rows where a target was observed. The script fails (exit code 1) if
the network's mean over tasks is not above the constant's.

Bring your own sets: ``DIR/NAME`` is a folder with

``meta.json``
    ``{"tasks": [...]}``, one entry per column of Y: ``"name"``; ``"kind"``, one of ``"binary"``,
    ``"multiclass"``, ``"regression"``; for a multi-class task whose Y holds codes 0, 1, ... the
    list ``"classes"`` of their names; for a target that exists only under a condition
    ``"depends_on"``, a class task, and ``"when"``, its label or a list of labels.
    Optionally ``"categorical_features"``, columns of X to encode as categories; columns that do
    not hold numbers always are.
``data.npz``
    ``X``, (n, H, W) or (n, H, W, C) images or an (n, d) matrix; ``Y`` (n, n_tasks), NaN where
    nothing was observed; ``task_names``. Optionally ``split``, strings of which ``train`` and
    ``test`` (or else ``val``) are used, and ``group``.
``X.csv.gz``, ``Y.csv.gz``, ``aux.csv.gz``
    Instead of the archive: tables, with holes and categories in X; the third, which may be
    absent, has the columns ``split`` and ``group``.

Rows are split as ``split`` says; without it, 75/25 at random, whole groups on one side.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.losses import LOSSES
from sklearn_mtl.metrics import masked_score

WIDTH = 100

# -- reading ---------------------------------------------------------------------------------


@dataclass
class DataSet:
    """One data set.

    Attributes
    ----------
    name : str
    X : DataFrame of shape (n, d) or ndarray of shape (n, C, H, W)
    y : DataFrame of shape (n, n_tasks)
        NaN where a target was not observed.
    tasks : list of Task
    categories : list of str
        Columns of X to encode as categories.
    split : ndarray of str of shape (n,) or None
        The official split.
    group : ndarray of shape (n,) or None
        Rows of one group must not be on both sides of a split.
    """

    name: str
    X: Any
    y: pd.DataFrame
    tasks: list[Task]
    categories: list[str]
    split: NDArray[Any] | None
    group: NDArray[Any] | None


def read_data_set(folder: Path) -> DataSet:
    """Read the data set in `folder`."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    archive = folder / "data.npz"
    X, y, extra = _read_archive(archive) if archive.exists() else _read_tables(folder)
    classes = {entry["name"]: entry.get("classes") for entry in meta["tasks"]}
    for name, labels in classes.items():
        if labels is not None and pd.api.types.is_numeric_dtype(y[name]):
            y[name] = y[name].map(dict(enumerate(labels)))
    categories = []
    if isinstance(X, pd.DataFrame):
        declared = meta.get("categorical_features") or []
        numbers = set(X.select_dtypes("number"))
        categories = [c for c in X.columns if c in declared or c not in numbers]
    return DataSet(
        name=folder.name,
        X=X,
        y=y,
        tasks=[_task(entry, classes) for entry in meta["tasks"]],
        categories=categories,
        split=extra.get("split"),
        group=extra.get("group"),
    )


def _read_archive(path: Path) -> tuple[Any, pd.DataFrame, dict[str, NDArray[Any]]]:
    """Read X, y and the split columns of an archive; images become channels first."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    X = arrays["X"]
    if X.ndim == 2:
        X = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    elif X.ndim == 3:
        X = X[:, None]
    else:
        X = np.ascontiguousarray(np.moveaxis(X, -1, 1))
    return X, pd.DataFrame(arrays["Y"], columns=arrays["task_names"].astype(object)), arrays


def _read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, NDArray[Any]]]:
    """Read X, y and the split columns of a folder of tables."""
    X, y = (pd.read_csv(folder / f"{part}.csv.gz") for part in "XY")
    aux = folder / "aux.csv.gz"
    extra = {}
    if aux.exists():
        extra = {name: column.to_numpy() for name, column in pd.read_csv(aux).items()}
    return X, y, extra


def _task(entry: dict[str, Any], classes: dict[str, list[str] | None]) -> Task:
    """Declare the task of one entry of the list ``"tasks"``."""
    kind = "regression" if entry["kind"] == "regression" else "classification"
    if "depends_on" not in entry:
        return Task(entry["name"], kind)
    gate, when = entry["depends_on"], entry["when"]
    labels = when if isinstance(when, list) else [when]
    named = classes[gate]
    if named is not None:  # codes of the gate's classes become names, as in Y
        labels = [named[label] if isinstance(label, int) else label for label in labels]
    return Task(entry["name"], kind, given=(gate, labels if len(labels) > 1 else labels[0]))


# -- one data set, one loss ------------------------------------------------------------------


def splits(data: DataSet, n_seeds: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield training and test rows for every seed; an official split is the same for all."""
    if data.split is not None:
        held_out = "test" if "test" in data.split else "val"
        train, test = (np.flatnonzero(data.split == part) for part in ("train", held_out))
        yield from [(train, test)] * n_seeds
        return
    splitter = ShuffleSplit if data.group is None else GroupShuffleSplit
    for seed in range(n_seeds):
        yield next(splitter(1, test_size=0.25, random_state=seed).split(data.y, groups=data.group))


def make_model(data: DataSet, loss: str, max_epochs: int | None, seed: int) -> Pipeline:
    """Build the joint model: tables are imputed and encoded, images go in as they are."""
    net = MultiTaskCNNEstimator(data.tasks, loss=loss, random_state=seed)
    if max_epochs is not None:
        net.set_params(max_epochs=max_epochs)
    encode: Any = "passthrough"
    if isinstance(data.X, pd.DataFrame):
        one_hot = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=0.01, sparse_output=False
        )
        impute = SimpleImputer(strategy="median", add_indicator=True)
        numbers = [c for c in data.X.columns if c not in data.categories]
        encode = ColumnTransformer(
            [("numbers", impute, numbers), ("categories", one_hot, data.categories)]
        )
    return Pipeline([("encode", encode), ("net", net)])


def constant_scores(tasks: Sequence[Task], train: pd.DataFrame, test: pd.DataFrame) -> list[float]:
    """Score, per task, the majority class or the mean of the training targets."""
    scores = []
    for task in tasks:
        is_class = task.kind == "classification"
        metric, min_samples = (accuracy_score, 1) if is_class else (r2_score, 2)
        constant = train[task.name].mode()[0] if is_class else train[task.name].mean()
        prediction = np.full(len(test), constant)
        scores.append(
            masked_score(
                metric, test[task.name], prediction, min_samples=min_samples, name=task.name
            )
        )
    return scores


def auc_scores(net: MultiTaskCNNEstimator, inputs: Any, test: pd.DataFrame) -> list[float]:
    """Area under the ROC curve of each binary task; NaN for the others."""
    names = [task.name for task in net.tasks_ if task.kind == "classification"]
    auc = dict.fromkeys(net.task_names_, np.nan)
    if names:
        probabilities = net.predict_proba(inputs)
        probabilities = [probabilities] if len(names) == 1 else probabilities
        for name, proba in zip(names, probabilities, strict=True):
            if proba.shape[1] == 2 and test[name].nunique() == 2:
                auc[name] = masked_score(roc_auc_score, test[name], proba[:, 1])
    return list(auc.values())


@dataclass
class Result:
    """Scores of one data set and loss; arrays have shape (n_seeds, n_tasks)."""

    data: DataSet
    loss: str
    joint: NDArray[np.float64]
    constant: NDArray[np.float64]
    auc: NDArray[np.float64]
    n_train: NDArray[np.float64]
    n_test: NDArray[np.float64]
    fit_seconds: float
    test_share: float  # test rows per training row; 0 where all seeds share one split

    @property
    def passed(self) -> bool:
        """Whether the joint model's mean over tasks is above the constant's."""
        return bool(np.nanmean(self.joint) > np.nanmean(self.constant))


def evaluate(data: DataSet, loss: str, n_seeds: int = 1, max_epochs: int | None = None) -> Result:
    """Fit the joint model once per seed, and score it and the constant on the test rows."""
    names = [task.name for task in data.tasks]
    y = data.y[names]
    scores, seconds, shares = [], [], []
    for seed, (train, test) in enumerate(splits(data, n_seeds)):
        model = make_model(data, loss, max_epochs, seed)
        start = time.perf_counter()
        model.fit(_rows(data.X, train), y.iloc[train])
        seconds.append(time.perf_counter() - start)
        inputs, net, y_test = model[:-1].transform(_rows(data.X, test)), model[-1], y.iloc[test]
        scores.append(
            [
                list(net.score_tasks(inputs, y_test).values()),
                constant_scores(data.tasks, y.iloc[train], y_test),
                auc_scores(net, inputs, y_test),
                y.iloc[train].count(),
                y_test.count(),
            ]
        )
        shares.append(len(test) / len(train) if data.split is None else 0.0)
    joint, constant, auc, n_train, n_test = np.array(scores, dtype=float).swapaxes(0, 1)
    return Result(
        data=data,
        loss=loss,
        joint=joint,
        constant=constant,
        auc=auc,
        n_train=n_train,
        n_test=n_test,
        fit_seconds=float(np.mean(seconds)),
        test_share=float(np.mean(shares)),
    )


def _rows(X: Any, rows: NDArray[np.intp]) -> Any:
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def half_interval(values: NDArray[np.float64], test_share: float) -> float:
    """Half of the 95 % confidence interval of the mean over seeds.

    The corrected resampled t interval: random splits of one data set overlap, so the variance of
    their mean is not s^2 / n but s^2 (1 / n + n_test / n_train) [1]_.

    Parameters
    ----------
    values : ndarray of shape (n_seeds,)
    test_share : float
        n_test / n_train, or 0 if all seeds share one split.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52,
       2003.
    """
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 2:
        return float("nan")
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) * np.sqrt(1 / n + test_share))


# -- printing --------------------------------------------------------------------------------

HEADER = ["task", "kind", "given", "train", "test", "metric", "joint", "const.", "gain", "AUC"]
TEXT_COLUMNS = ("task", "kind", "given", "metric")


def report(result: Result, command: str) -> str:
    """Write the result as a plain text table."""
    data, n_seeds = result.data, len(result.joint)
    split = "official" if data.split is not None else "random 75/25"
    split += ", by group" if data.split is None and data.group is not None else ""
    X = f"{data.X.shape[1]} columns"
    if not isinstance(data.X, pd.DataFrame):
        X = f"{'x'.join(map(str, data.X.shape[1:]))} {data.X.dtype} images"
    lines = [
        f"{data.name}, loss={result.loss!r}",
        f"$ {command}",
        f"{len(data.y)} rows, {X}; split: {split}; fit: {result.fit_seconds:.1f} s "
        f"on {torch.get_num_threads()} thread(s)",
    ]
    if n_seeds > 1:
        what = "splits and model seeds" if data.split is None else "model seeds, one split"
        lines.append(f"mean over {n_seeds} {what}, ± half of the 95 % confidence interval")
    rows = [_task_row(result, k) for k in range(len(data.tasks))]
    lines += ["", *_align([HEADER, *rows, _mean_row(result)]), ""]
    joint, constant = np.nanmean(result.joint), np.nanmean(result.constant)
    verdict = "passed: above" if result.passed else "FAILED: not above"
    lines.append(f"{verdict} the best constant, {joint:.3f} against {constant:.3f}")
    return "\n".join(lines)


def _task_row(result: Result, k: int) -> list[str]:
    """Cells of one task."""
    task = result.data.tasks[k]
    is_class = task.kind == "classification"
    kind = f"{result.data.y[task.name].nunique()}-class" if is_class else "number"
    given = f"{task.given[0]}={'|'.join(map(str, task.labels))}" if task.given else ""
    return [
        _clip(task.name, 18),
        kind,
        _clip(given, 14),
        f"{result.n_train[:, k].mean():.0f}",
        f"{result.n_test[:, k].mean():.0f}",
        "acc." if is_class else "R2",
        *_score_cells(result, result.joint[:, k], result.constant[:, k], result.auc[:, k]),
    ]


def _mean_row(result: Result) -> list[str]:
    """Cells of the mean over tasks; AUC over the binary ones."""
    joint, constant = (np.nanmean(scores, axis=1) for scores in (result.joint, result.constant))
    binary = np.isfinite(result.auc).any(axis=0)
    auc = np.nanmean(result.auc[:, binary], axis=1) if binary.any() else result.auc[:, 0]
    return ["mean over tasks", *[""] * 5, *_score_cells(result, joint, constant, auc)]


def _score_cells(
    result: Result,
    joint: NDArray[np.float64],
    constant: NDArray[np.float64],
    auc: NDArray[np.float64],
) -> list[str]:
    """Cells of scores, each of shape (n_seeds,)."""
    return [
        _mean(joint) + _plus_minus(joint, result.test_share),
        _mean(constant),
        _mean(joint - constant, sign="+") + _plus_minus(joint - constant, result.test_share),
        _mean(auc),
    ]


def _mean(values: NDArray[np.float64], sign: str = "") -> str:
    values = values[np.isfinite(values)]
    return f"{values.mean():{sign}z.3f}" if len(values) else ""


def _plus_minus(values: NDArray[np.float64], test_share: float) -> str:
    half = half_interval(values, test_share)
    return f"±{half:.3f}" if np.isfinite(half) else ""


def _clip(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _align(rows: list[list[str]]) -> list[str]:
    """Pad cells to columns: text to the left, numbers to the right; a rule above and below."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if name in TEXT_COLUMNS else cell.rjust(width)
            for name, cell, width in zip(HEADER, row, widths, strict=True)
        ]
        lines.append((" " * gap).join(cells).rstrip())
    rule = "-" * (sum(widths) + gap * (len(widths) - 1))
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


# -- command line ----------------------------------------------------------------------------


def make_parser() -> argparse.ArgumentParser:
    """Build the command line."""
    parser = argparse.ArgumentParser(description="Joint networks on real data sets.")
    parser.add_argument("names", nargs="+", metavar="NAME", help="folders of DIR, one per data set")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--loss", nargs="+", default=["logprod"], choices=sorted(LOSSES))
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="splits and model seeds")
    parser.add_argument("--max-epochs", type=int, help="default: the estimator's")
    parser.add_argument("--n-threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the tables here")
    return parser


def command_line(args: argparse.Namespace, parser: argparse.ArgumentParser, name: str) -> str:
    """Return the command that prints the tables of one data set, for any folder DIR."""
    parts = ["python examples/benchmarks/real_data.py --data DIR", name]
    for option in ("loss", "seeds", "max_epochs", "n_threads"):
        value = getattr(args, option)
        if value != parser.get_default(option):
            text = " ".join(value) if isinstance(value, list) else str(value)
            parts.append(f"--{option.replace('_', '-')} {text}")
    return " ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per data set and loss; return 1 if one of them failed."""
    parser = make_parser()
    args = parser.parse_args(argv)
    absent = [name for name in args.names if not (args.data / name / "meta.json").exists()]
    if absent:
        parser.error(f"no meta.json in the folders {absent} of --data {args.data}")
    if args.seeds < 1:
        parser.error(f"--seeds must be 1 or more, got {args.seeds}")
    torch.set_num_threads(args.n_threads)
    tables, failed = [], []
    for name in args.names:
        data = read_data_set(args.data / name)
        for loss in args.loss:
            result = evaluate(data, loss, args.seeds, args.max_epochs)
            tables.append(report(result, command_line(args, parser, name)))
            print(tables[-1], end="\n\n", flush=True)
            if not result.passed:
                failed.append(f"{name} (loss={loss!r})")
    if args.output is not None:
        args.output.write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    if failed:
        print(f"FAILED: not above the best constant on {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
