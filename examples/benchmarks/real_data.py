"""Real data sets of one's own for the benchmarks: reading, splitting, and the model for them.

``DIR/NAME`` is a folder with

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
(Where there are both, `quality.py` goes by the groups.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_mtl import MultiTaskCNNEstimator, Task

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


# -- splits, and the model -------------------------------------------------------------------


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


def publish(text: str, output: Path | None) -> None:
    """Print what was found, and write it to a file if there is one."""
    print(text, flush=True)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")


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
