"""Mistakes that people make, and what they are told: what, where, and how to mend it.

A row is a name, what is done, what is raised or warned of, and what the message has to say, in this
order. It begins with what is wrong, and has no words of another library.
"""

from __future__ import annotations

import datetime
import re
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _inputs import make_small
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import (
    MultiTaskCNNEstimator,
    embed,
    predict_frame,
    save,
    score_tasks,
    task_view,
)

N = 30
RNG = np.random.default_rng(0)
ROWS, IMAGES, TARGET = RNG.normal(size=(N, 3)), RNG.random((N, 3, 8, 8)), RNG.normal(size=N)
NAMED = pd.DataFrame(ROWS, columns=["length", "width", "weight"])
DAYS = pd.date_range("2024-01-01", periods=N)
PATHS = [f"a/{i}.JPG" for i in range(N)]


class Mistake(NamedTuple):
    """A row of the table."""

    name: str
    make: Callable[[], Any]
    kind: type[Exception]
    says: tuple[str, ...]


def fit(X: Any, y: Any = TARGET, **params: Any) -> Callable[[], Any]:
    """A fit of an estimator that would be fast."""
    return lambda: make_small(**params).fit(X, y)


def then(X: Any, method: str, *args: Any) -> Callable[[], Any]:
    """A good fit, and a call of a method after it."""
    return lambda: getattr(make_small().fit(X, TARGET), method)(*args)


def ragged(*shape: int) -> list[np.ndarray]:
    """Samples that grow along the first axis, from the shape on."""
    return [np.ones((shape[0] + i % 3, *shape[1:])) for i in range(N)]


def objects(items: list[Any]) -> np.ndarray:
    """A column of them, whatever they are."""
    column = np.empty(len(items), dtype=object)
    column[:] = items
    return column


def with_value(value: float, rows: Any = 4, column: Any = "width") -> pd.DataFrame:
    frame = NAMED.copy()
    frame.loc[frame.index[rows], column] = value
    return frame


MISTAKES_X = [
    # Two inputs
    Mistake(
        "dict of inputs",
        fit({"scan": IMAGES, "chart": ROWS}),
        ValueError,
        ("X is a dict of the inputs 'scan', 'chart'", "MultiInput(**X)"),
    ),
    Mistake(
        "list of inputs",
        fit([IMAGES, ROWS]),
        ValueError,
        ("X is a list", "(30, 3, 8, 8), (30, 3)", "MultiInput(image="),
    ),
    Mistake(
        "inputs of one shape",
        fit((ROWS, ROWS)),
        ValueError,
        ("X is a list of 2 arrays of 30 rows", "MultiInput(image="),
    ),
    Mistake(
        "dict of columns",
        fit({"a": ROWS[:, 0], "b": ROWS[:, 1].tolist()}),
        ValueError,
        ("X is a dict of columns", "pd.DataFrame(X)"),
    ),
    Mistake(
        "list of dicts",
        fit(NAMED.to_dict("records")),
        ValueError,
        ("X is a list of dicts", "pd.DataFrame(X)"),
    ),
    # Files of images
    *(
        Mistake(
            f"paths in {what}",
            fit(held),
            ValueError,
            ("X holds paths of images, such as 'a/0.JPG'", "ImageFiles(X, size=64)"),
        )
        for what, held in [
            ("a list", PATHS),
            ("a list of Path", [Path(path) for path in PATHS]),
            ("an array", np.array(PATHS)),
            ("an array of objects", np.array([None, *PATHS[:-1]], dtype=object)),
            ("a series", pd.Series(PATHS)),
        ]
    ),
    *(
        Mistake(
            f"paths in {what}",
            fit(held),
            ValueError,
            (f"Column {label!r} of X holds paths of images", f"ImageReader({label!r}, size=64)"),
        )
        for what, label, held in [
            ("a frame", "file", NAMED.assign(file=PATHS)),
            ("a frame of one column", "file", pd.DataFrame({"file": PATHS})),
            ("a frame of Path", "file", pd.DataFrame({"file": [Path(path) for path in PATHS]})),
            ("a column of an array", 1, np.array([["1", path] for path in PATHS], dtype=object)),
        ]
    ),
    # Samples of different shapes
    Mistake(
        "images of different sizes",
        fit(ragged(9, 8, 3)),
        ValueError,
        (
            "Samples of X differ in size",
            "(9, 8, 3) in row 0",
            "(10, 8, 3) in row 1",
            "Resize, crop",
            "load_images of sklearn_mtl.datasets",
            "ImageFiles",
        ),
    ),
    Mistake(
        "sequences of different lengths",
        fit(ragged(5)),
        ValueError,
        ("Samples of X differ in length", "(6,) in row 1", "Crop or pad", "SequencePad"),
    ),
    Mistake(
        "lists of different lengths",
        fit([[1.0] * (2 + i % 2) for i in range(N)]),
        ValueError,
        ("Samples of X differ in length", "(2,) in row 0", "(3,) in row 1", "Crop or pad"),
    ),
    Mistake(
        "gray among color",
        fit([np.ones((8, 8, 3) if i else (8, 8)) for i in range(N)]),
        ValueError,
        ("Samples of X differ in size", "(8, 8) in row 0", "(8, 8, 3) in row 1"),
    ),
    Mistake(
        "a sample that is uneven itself",
        fit([[[1.0, 2.0], [1.0]] for _ in range(N)]),
        ValueError,
        ("Row 0 of X holds parts of different lengths", "Pass one array"),
    ),
    Mistake(
        "object array of images of different sizes",
        fit(objects(ragged(9, 8))),
        ValueError,
        ("Samples of X differ in size", "(9, 8) in row 0"),
    ),
    Mistake(
        "object array of images",
        fit(objects(list(IMAGES))),
        ValueError,
        ("X is a column of arrays", "np.stack(X)"),
    ),
    Mistake(
        "series of vectors",
        fit(pd.Series(list(ROWS))),
        ValueError,
        ("X is a column of arrays", "np.stack(X)"),
    ),
    Mistake(
        "column of lists",
        fit(NAMED.assign(code=[[1.0, 2.0]] * N)),
        ValueError,
        ("Column 'code' of X holds lists", "np.stack"),
    ),
    Mistake(
        "polars column of arrays",
        fit(pl.DataFrame({"code": pl.Series([[1.0, 2.0]] * N, dtype=pl.Array(pl.Float64, 2))})),
        ValueError,
        ("Column 'code' of X holds lists", "np.stack"),
    ),
    # Dates
    Mistake(
        "dates",
        fit(NAMED.assign(when=DAYS)),
        ValueError,
        ("Column 'when' of X holds dates", "days"),
    ),
    Mistake(
        "dates of a time zone",
        fit(NAMED.assign(when=DAYS.tz_localize("UTC"), then=DAYS)),
        ValueError,
        ("Columns 'when', 'then' of X hold dates", "days"),
    ),
    Mistake(
        "dates of the standard library",
        fit(NAMED.assign(when=[datetime.date(2024, 1, 1)] * N)),
        ValueError,
        ("Column 'when' of X holds dates", "days"),
    ),
    Mistake(
        "durations",
        fit(NAMED.assign(took=DAYS - DAYS[0])),
        ValueError,
        ("Column 'took' of X holds dates or durations", "Make numbers"),
    ),
    Mistake(
        "periods",
        fit(NAMED.assign(when=DAYS.to_period())),
        ValueError,
        ("Column 'when' of X holds dates", "days"),
    ),
    Mistake(
        "dates in polars, beside numbers",
        fit(pl.DataFrame({"a": TARGET, "when": DAYS.to_list()})),
        ValueError,
        ("Column 'when' of X holds dates", "days"),
    ),
    Mistake(
        "array of dates",
        fit(DAYS.to_numpy()[:, None]),
        ValueError,
        ("Column 0 of X holds dates", "days"),
    ),
    # Text and objects
    Mistake(
        "text",
        fit(NAMED.assign(hue="red", shop="A")),
        ValueError,
        ("Columns 'hue', 'shop' of X hold text", "OneHotEncoder in a ColumnTransformer"),
    ),
    Mistake(
        "many columns of text",
        fit(pd.DataFrame([list("abcdefgh")] * N, columns=list("ABCDEFGH"))),
        ValueError,
        ("Columns 'A', 'B', 'C', 'D', 'E' and 3 more of X hold text",),
    ),
    Mistake(
        "categories",
        fit(NAMED.assign(hue=pd.Categorical(["red", "blue"] * 15))),
        ValueError,
        ("Column 'hue' of X holds text", "OneHotEncoder"),
    ),
    Mistake(
        "text in an object array",
        fit(np.array([[1.5, "b"]] * N, dtype=object)),
        ValueError,
        ("Column 1 of X holds text", "OneHotEncoder"),
    ),
    Mistake(
        "numbers that became text",
        fit(np.array([["1.5", "b"]] * N)),
        ValueError,
        ("Column 1 of X holds text", "Column 0 of X holds numbers as text", "to_numeric"),
    ),
    Mistake(
        "words",
        fit([f"word {i}" for i in range(N)]),
        ValueError,
        ("X holds text, such as 'word 0'", "Pass one array"),
    ),
    Mistake(
        "numbers beside pd.NA",
        fit(pd.DataFrame({"a": objects([1.0, pd.NA] * 15)})),
        ValueError,
        ("Column 'a' of X holds numbers and holes as objects", "impute"),
    ),
    Mistake(
        "objects",
        fit(NAMED.assign(thing=[object()] * N)),
        TypeError,
        ("Column 'thing' of X holds no numbers", "drop them"),
    ),
    Mistake(
        "complex numbers",
        fit(ROWS + 1j),
        ValueError,
        ("Complex data not supported: X holds complex128", "real and imaginary"),
    ),
    Mistake(
        "structured array",
        fit(np.zeros(N, dtype=[("a", float), ("b", int)])),
        ValueError,
        ("X is a structured array with the fields 'a', 'b'", "pd.DataFrame(X)"),
    ),
    Mistake(
        "columns of one name",
        fit(pd.DataFrame(ROWS, columns=["a", "b", "a"])),
        ValueError,
        ("X has columns of the same name: 'a'", "Rename"),
    ),
    # No arrays at all
    Mistake(
        "lazy frame",
        fit(pl.from_pandas(NAMED).lazy()),
        ValueError,
        ("X is a LazyFrame, which is not computed", "X.collect()"),
    ),
    Mistake("None", fit(None), ValueError, ("X is None", "Pass one array")),
    Mistake("name of a file", fit("X.npy"), ValueError, ("X is 'X.npy'", "Pass one array")),
    Mistake(
        "generator", fit(row for row in ROWS), ValueError, ("X is a generator", "Pass one array")
    ),
    Mistake(
        "a number that is too large",
        fit(objects([10**400] * N)[:, None]),
        ValueError,
        ("X holds a number that float64 cannot", "another unit"),
    ),
    Mistake(
        "torch dataset",
        fit(torch.utils.data.TensorDataset(torch.zeros(N, 3), torch.zeros(N))),
        ValueError,
        ("X is a TensorDataset", "Pass an array of its rows"),
    ),
    Mistake(
        "data loader",
        fit(torch.utils.data.DataLoader(torch.zeros(N, 3))),
        ValueError,
        ("X is a DataLoader", "Pass one array"),
    ),
    # Nothing there
    Mistake("no rows", fit(ROWS[:0], TARGET[:0]), ValueError, ("X has 0 sample(s)", "(0, 3)")),
    Mistake("no columns", fit(ROWS[:, :0]), ValueError, ("X has 0 feature(s)", "(30, 0)")),
    Mistake(
        "no pixels", fit(IMAGES[:, :, :0]), ValueError, ("X has 0 feature(s)", "(30, 3, 0, 8)")
    ),
    Mistake("empty list", fit([], []), ValueError, ("X has 0 sample(s)", "(0,)")),
    Mistake("empty frame", fit(pd.DataFrame()), ValueError, ("X has 0 sample(s)", "(0, 0)")),
    Mistake("one column", fit(TARGET), ValueError, ("X has the shape (30,)", "reshape(-1, 1)")),
    Mistake(
        "a series", fit(NAMED["width"]), ValueError, ("X has the shape (30,)", "reshape(-1, 1)")
    ),
    Mistake(
        "six axes", fit(np.zeros((N, 1, 1, 2, 2, 2))), ValueError, ("X has 6 dim", "input_shape=")
    ),
    # Holes
    Mistake(
        "NaN",
        fit(with_value(np.nan, [4, 6])),
        ValueError,
        ("X contains NaN in 2 of the 30 rows", "[4, 6]", "'width'", "SimpleImputer in a Pipeline"),
    ),
    Mistake(
        "None among numbers",
        fit([[1.0, None]] * N),
        ValueError,
        ("X contains NaN in 30", "column(s) 1", "SimpleImputer"),
    ),
    Mistake(
        "infinity",
        fit(with_value(-np.inf)),
        ValueError,
        ("X contains infinity in 1 of the 30 rows", "[4]", "'width'", "Clip"),
    ),
    Mistake(
        "NaN in images",
        fit(np.where(IMAGES > 0.999, np.nan, IMAGES)),
        ValueError,
        ("X contains NaN in", "Impute these values first"),
    ),
    Mistake(
        "NaN in X_val",
        lambda: make_small().fit(NAMED, TARGET, X_val=with_value(np.nan), y_val=TARGET),
        ValueError,
        ("X_val contains NaN in 1", "'width'", "SimpleImputer"),
    ),
    Mistake(
        "text in X_val",
        lambda: make_small().fit(NAMED, TARGET, X_val=NAMED.assign(width="wide"), y_val=TARGET),
        ValueError,
        ("Column 'width' of X_val holds text", "OneHotEncoder"),
    ),
    # Lengths
    Mistake(
        "too few targets", fit(ROWS, TARGET[:-1]), ValueError, ("X and y have incons", "30 and 29")
    ),
    Mistake(
        "too few targets of X_val",
        lambda: make_small().fit(ROWS, TARGET, X_val=ROWS, y_val=TARGET[1:]),
        ValueError,
        ("X_val and y_val have inconsistent", "30 and 29"),
    ),
    # Later
    Mistake(
        "fewer features",
        then(NAMED, "predict", torch.zeros(N, 2)),
        ValueError,
        ("X has 2 features", "is expecting 3 features as input", "'length', 'width', 'weight'"),
    ),
    Mistake(
        "images turned",
        then(IMAGES, "predict", np.moveaxis(IMAGES, 1, -1)),
        ValueError,
        ("X has samples of shape (8, 8, 3)", "(3, 8, 8)", "same layout"),
    ),
    Mistake(
        "one image",
        then(IMAGES, "predict", IMAGES[0]),
        ValueError,
        ("X has samples of shape (8, 8)", "(3, 8, 8)", "X[None] if it is one sample"),
    ),
    Mistake("nothing to predict", then(ROWS, "predict", ROWS[:0]), ValueError, ("X has 0 sample",)),
    # A trunk by name
    Mistake(
        "unknown trunk",
        fit(IMAGES, trunk="resnet18"),
        ValueError,
        (
            "trunk='resnet18' is unknown",
            "'conv'",
            "TimmTrunk('resnet18')",
            "nn.Module",
        ),
    ),
    # More of the same kinds
    Mistake(
        "dict of one input",
        then(ROWS, "predict", {"chart": ROWS}),
        ValueError,
        ("X is a dict, which holds one input. Pass X['chart']",),
    ),
    Mistake(
        "samples of a torch dataset",
        fit([{"scan": image, "age": 3} for image in IMAGES]),
        ValueError,
        ("X is a list of dicts that hold arrays", "np.stack([sample['scan'] for sample in X])"),
    ),
    Mistake(
        "a row that is missing",
        fit([*ROWS[1:].tolist(), None]),
        ValueError,
        ("Samples of X differ in length", "() in row 29"),
    ),
    Mistake(
        "a sign for missing values",
        fit(NAMED.assign(age=["31", "?", "40"] * 10)),
        ValueError,
        ("Column 'age' of X holds numbers and text", "errors='coerce'", "impute"),
    ),
    Mistake(
        "commas for points",
        fit(NAMED.assign(age="31,5")),
        ValueError,
        ("Column 'age' of X holds text",),
    ),
    Mistake("a numpy matrix", fit(np.matrix(ROWS)), ValueError, ("X is a matrix", "np.asarray(X)")),
    Mistake(
        "a sparse tensor",
        fit(torch.ones(N, 3).to_sparse()),
        ValueError,
        ("X is a tensor of torch.float32 on cpu", "scipy.sparse"),
    ),
    Mistake(
        "pictures of different sizes in lists",
        fit([[[0.0] * (4 + i % 2)] * 3 for i in range(N)]),
        ValueError,
        ("Samples of X differ in size", "(3, 4) in row 0, (3, 5) in row 1", "Resize, crop or pad"),
    ),
    Mistake(
        "pixels that are scaled, for ImageNet",
        fit(IMAGES * 2 - 1, standardize="imagenet"),
        ValueError,
        ("standardize='imagenet' is for pixels", "-0.99", "standardize=False"),
    ),
    Mistake(
        "gray images for ImageNet",
        fit(IMAGES[:, :1], standardize="imagenet"),
        ValueError,
        ("standardize='imagenet' is for images of three channels", "(1, 8, 8)", "(mean, std)"),
    ),
    Mistake(
        "std of 0",
        fit(ROWS, standardize=(0, [1, 1, 0])),
        ValueError,
        ("standardize=(0, [1, 1, 0]) does not fit X", "3 numbers, one per feature", "above 0"),
    ),
    Mistake(
        "shape with the number of samples",
        fit(IMAGES, input_shape=(N, 3, 8, 8)),
        ValueError,
        ("input_shape=(30, 3, 8, 8) does not fit X", "shape of one sample"),
    ),
    Mistake(
        "volumes with channels last",
        fit(RNG.normal(size=(N, 8, 8, 8, 2)), trunk="auto", max_epochs=1),
        UserWarning,
        ("X of shape (n, 8, 8, 8, 2) is read as samples of 8 channels", "channels_last"),
    ),
    Mistake(
        "images with channels first after all",
        fit(RNG.normal(size=(N, 2, 8, 8)), trunk="auto", max_epochs=1, data_format="channels_last"),
        UserWarning,
        ("X of shape (n, 2, 8, 8) is read as samples of 8 channels", "channels_first"),
    ),
    # Read as something else
    Mistake(
        "windows of sensors",
        fit(RNG.normal(size=(N, 6, 50)), trunk="auto", max_epochs=1),
        UserWarning,
        ("X of shape (n, 6, 50) is read as images", "input_shape=(6, 50) for sequences"),
    ),
    Mistake(
        "many channels last",
        fit(RNG.normal(size=(N, 12, 12, 6)), trunk="auto", max_epochs=1),
        UserWarning,
        ("X of shape (n, 12, 12, 6) is read as samples of 12 channels", "'channels_last'"),
    ),
    Mistake(
        "flat images",
        fit(RNG.integers(0, 256, size=(N, 144)), trunk="auto", max_epochs=1),
        UserWarning,
        ("X of shape (n, 144) looks like flat images", "input_shape=", "trunk='dense'"),
    ),
    Mistake(
        "a code for missing values",
        fit(with_value(-999, [4, 6, 9])),
        UserWarning,
        ("X holds -999", "'width'", "SimpleImputer(missing_values=...)"),
    ),
]

TABLE = pd.DataFrame({"wet": np.where(ROWS[:, 0] > 0, "yes", "no"), "age": TARGET})


@cache
def held(how: str = "pipeline") -> Any:
    """A fitted pipeline, or a search over one."""
    pipeline = make_pipeline(StandardScaler(), make_small())
    if how == "search":
        pipeline = GridSearchCV(pipeline, {"multitaskcnnestimator__max_epochs": [1]}, cv=2)
    return pipeline.fit(NAMED, TABLE)


def dumped(load: Callable[[str], Any]) -> Any:
    """Load a file that joblib has written."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.joblib")
        joblib.dump(held(), path)
        return load(path)


def module(X: Any, task: str | None = "age") -> Any:
    return held()[-1].as_module(task)(X)


TENSOR = torch.tensor(ROWS, dtype=torch.float32)
# Pipelines, searches, modules, views and files
MISTAKES_AFTER_FIT = [
    Mistake(
        "a module of no task",
        lambda: module(TENSOR, "agee"),
        ValueError,
        ("task='agee' is not a task", "['wet', 'age']"),
    ),
    Mistake(
        "a module of several tasks",
        lambda: module(TENSOR, ["wet", "age"]),  # type: ignore[arg-type]
        ValueError,
        ("task=['wet', 'age'] is not a task", "['wet', 'age']"),
    ),
    Mistake(
        "a module of an array",
        lambda: module(ROWS),
        TypeError,
        ("X is of type ndarray", "torch.tensor("),
    ),
    Mistake(
        "a module of a frame",
        lambda: module(NAMED),
        TypeError,
        ("X is of type DataFrame", "torch.tensor("),
    ),
    Mistake(
        "a module of two rows in one",
        lambda: module(TENSOR.reshape(-1, 6)),
        ValueError,
        ("X has 6 features", "3 features"),
    ),
    Mistake(
        "a module of a single sample",
        lambda: module(TENSOR[0]),
        ValueError,
        ("X has samples of shape ()", "(3,)", "X[None]"),
    ),
    Mistake(
        "arguments that change places",
        lambda: predict_frame(NAMED, held()),
        TypeError,
        ("DataFrame has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "a class",
        lambda: embed(MultiTaskCNNEstimator, NAMED),
        TypeError,
        ("MultiTaskCNNEstimator has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "a module where an estimator is asked for",
        lambda: predict_frame(held()[-1].module_, NAMED),
        TypeError,
        ("MultiTaskModule has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "a path where an estimator is asked for",
        lambda: predict_frame("model.joblib", NAMED),
        TypeError,
        ("str has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "a view of a name, and its estimator",
        lambda: task_view("age", held()),  # type: ignore[arg-type]
        TypeError,
        ("str has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "a regressor",
        lambda: score_tasks(LinearRegression().fit(ROWS, TARGET), ROWS, TARGET),
        TypeError,
        ("LinearRegression has no tasks", "Pass a fitted MultiTaskCNNEstimator"),
    ),
    Mistake(
        "an unfitted pipeline",
        lambda: predict_frame(make_pipeline(StandardScaler(), make_small()), NAMED),
        NotFittedError,
        ("This Pipeline instance is not fitted yet",),
    ),
    Mistake(
        "scores of other rows",
        lambda: score_tasks(held(), NAMED, TABLE[:20]),
        ValueError,
        ("X and y have inconsistent numbers of samples, 30 and 20", "one row of y"),
    ),
    Mistake(
        "scores of a part of y",
        lambda: score_tasks(held(), NAMED, TABLE[["age"]]),
        ValueError,
        ("y lacks the columns ['wet']", "['age']"),
    ),
    Mistake(
        "a file of a pipeline",
        lambda: save(held(), "model.safetensors"),
        TypeError,
        ("The transformers of a Pipeline", "joblib.dump", "pipeline[-1].save(path)"),
    ),
    Mistake(
        "a file of a search over pipelines",
        lambda: save(held("search"), "model.safetensors"),
        TypeError,
        ("The transformers of a GridSearchCV", "search.best_estimator_[-1].save(path)"),
    ),
    Mistake(
        "a pickle where a file of save is asked for",
        lambda: dumped(MultiTaskCNNEstimator.load),
        ValueError,
        ("", "model.joblib is a pickle", "joblib.load(path)", "may run code"),
    ),
    Mistake(
        "a display of classes for a number",
        lambda: RocCurveDisplay.from_estimator(task_view(held(), "age"), NAMED, TABLE["wet"]),
        ValueError,
        ("Expected 'estimator' to be a binary classifier. Got age instead",),
    ),
]

MISTAKES = MISTAKES_X + MISTAKES_AFTER_FIT

# Words of other libraries, or that help nobody.
FOREIGN = re.compile("HistGradientBoosting|inhomogeneous|could not be promoted|setting an array")


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_told(mistake: Mistake) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if issubclass(mistake.kind, Warning):
            mistake.make()
            texts = [str(w.message) for w in caught if issubclass(w.category, mistake.kind)]
        else:
            with pytest.raises(mistake.kind) as raised:
                mistake.make()
            texts = [str(raised.value)]
    wanted = ".*".join(map(re.escape, mistake.says))
    assert any(re.match(wanted, text, re.DOTALL) for text in texts), texts
    assert not FOREIGN.search(" ".join(texts))
