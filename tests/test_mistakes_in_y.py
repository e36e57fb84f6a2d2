"""Mistakes in y, tasks, weights and validation data: what is wrong, where, and how to mend it.

A row is a name, the mistake, what it ends with (an error or a warning), and what that has to say. A
mistake that is silent, or ends with the words of another library, is a fault of ours.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.networks import DenseTrunk

N = 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3))
NUMBER = X[:, 0] + 0.1 * RNG.normal(size=N)
LABEL = np.where(X[:, 1] > 0, "yes", "no")
BOTH = pd.DataFrame({"label": LABEL, "number": NUMBER})
GRADES = np.array(["low", "mid", "high"])[np.arange(N) % 3]


class Mistake(NamedTuple):
    """A mistake, and what is said of it."""

    make: Callable[[], Any]
    raises: type[Exception]
    says: str


def small(tasks: Any = None, **params: Any) -> MultiTaskCNNEstimator:
    defaults: dict[str, Any] = {
        "max_epochs": 1,
        "random_state": 0,
        "trunk": DenseTrunk((4,), n_members=2),
    }
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


def fit(y: Any, tasks: Any = None, weight: Any = None, **params: Any) -> Any:
    return small(tasks, **params).fit(X, y, sample_weight=weight)


def column(values: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(values, dtype=object)})


def with_one(value: Any, among: Any = NUMBER) -> pd.DataFrame:
    values = list(among)
    values[7] = value
    return column(values)


CLASS = [Task("a", "classification")]
GATED = [Task("label", "classification"), Task("number", "regression", given=("label", "yes"))]
HELD = BOTH.assign(number=BOTH["number"].where(BOTH["label"] == "yes"))

OF_Y = {
    "text of numpy": Mistake(
        lambda: fit(np.array(["a", "b", np.nan, "a"] * 10)),
        ValueError,
        r"'y0' of y holds the text 'nan' in 10 rows.*missing_values='nan'",
    ),
    "a matrix of text": Mistake(
        lambda: fit(np.column_stack([LABEL, np.where(X[:, 0] > 0, np.nan, NUMBER)])),
        ValueError,
        r"'y1' of y holds the text 'nan'.*y as a frame",
    ),
    "numbers of a matrix of text": Mistake(
        lambda: fit(np.column_stack([LABEL, NUMBER])),
        UserWarning,
        r"'y1': 40 of 40 labels are numbers written as text.*pd\.to_numeric",
    ),
    "a stray cell": Mistake(
        lambda: fit(with_one("<0.1", [f"{v:.3f}" for v in NUMBER])),
        UserWarning,
        r"'a': 40 of 40 labels are numbers written as text.*errors='coerce'",
    ),
    "an empty label": Mistake(
        lambda: fit(with_one("", LABEL)),
        UserWarning,
        r"'a' has the label '' in 1 of 40 rows.*missing_values=''",
    ),
    "NA for not observed": Mistake(
        lambda: fit(with_one("NA", LABEL)), UserWarning, r"the label 'NA'.*missing_values='NA'"
    ),
    "None as text": Mistake(
        lambda: fit(with_one("None", LABEL)), UserWarning, r"the label 'None'.*categories="
    ),
    "numbers as classes": Mistake(
        lambda: fit(NUMBER, [Task("y0", "classification")]),
        UserWarning,
        r"'y0' has 40 different labels in 40 rows.*Task\('y0', 'regression'\)",
    ),
    "names of rows": Mistake(
        lambda: fit([f"patient {i}" for i in range(N)]),
        UserWarning,
        r"40 different labels in 40 rows.*drop the column",
    ),
    "several of these": Mistake(
        lambda: fit(
            pd.DataFrame({"a": NUMBER, "b": NUMBER}), {"a": "classification", "b": "classification"}
        ),
        UserWarning,
        r"'a' has 40.*The like holds for 'b'",
    ),
    "lists in cells": Mistake(
        lambda: fit(with_one([1.0, 2.0])),
        ValueError,
        r"'a' of y holds \[1.0, 2.0\] in row 7.*one value",
    ),
    "sets as labels": Mistake(
        lambda: fit(with_one(frozenset("ab"), LABEL), CLASS),
        ValueError,
        r"in row 7, of type frozenset",
    ),
    "dicts in cells": Mistake(
        lambda: fit(with_one({"q": 1})), ValueError, r"holds \{'q': 1\} in row 7"
    ),
    "rows of different lengths": Mistake(
        lambda: fit([[1.0, 2.0]] * (N - 1) + [[1.0]]), ValueError, r"y is a list.*different lengths"
    ),
    "a cube": Mistake(lambda: fit(np.zeros((N, 2, 2))), ValueError, r"y has shape \(40, 2, 2\)"),
    "no column": Mistake(lambda: fit(np.zeros((N, 0))), ValueError, r"y has shape \(40, 0\)"),
    "sparse": Mistake(
        lambda: fit(sparse.bsr_matrix(NUMBER[:, None])), (TypeError, ValueError), r"y.*toarray"
    ),
    "too large a number": Mistake(
        lambda: fit(with_one(10**400)), ValueError, r"'a' of y holds a number that float64 cannot"
    ),
    "infinity": Mistake(lambda: fit(with_one(np.inf)), ValueError, r"infinity in 1 rows.*\[7\]"),
    "dates": Mistake(
        lambda: fit(np.arange(N).astype("datetime64[D]")), ValueError, r"datetime64\[D\] values"
    ),
    "durations": Mistake(
        lambda: fit(pd.Series(pd.to_timedelta(np.arange(N), "h"))), ValueError, r"timedelta64"
    ),
    "complex numbers": Mistake(lambda: fit(NUMBER + 1j), ValueError, r"complex128 values"),
    "labels of mixed types": Mistake(
        lambda: fit(column([1, "a", 2.5, "b"] * 10)), ValueError, r"'a'.*mixed|'a'.*types"
    ),
    "dates of days as labels": Mistake(
        lambda: fit(column([datetime.date(2020, 1, 1 + i % 28) for i in range(N)])),
        UserWarning,
        r"'a' has 28 different labels in 40 rows",
    ),
    "nothing observed": Mistake(
        lambda: fit(np.full(N, np.nan)), ValueError, r"no observed (value|target)"
    ),
    "too few rows": Mistake(
        lambda: small().fit(X, NUMBER[:-1]), ValueError, r"(inconsistent|different) numbers of"
    ),
    "None": Mistake(lambda: small().fit(X, None), ValueError, r"requires y to be passed"),
    "a dict of columns": Mistake(
        lambda: fit({"label": LABEL, "number": NUMBER}),
        TypeError,
        r"y is a dict.*pd\.DataFrame\(y\)",
    ),
    "a name of a column": Mistake(lambda: fit("number"), TypeError, r"y is the text 'number'"),
    "an iterator": Mistake(lambda: fit(iter(NUMBER)), TypeError, r"y is a .*iterator. Pass a list"),
    "records": Mistake(
        lambda: fit(BOTH.to_records(index=False)), TypeError, r"y is an array of the fields.*frame"
    ),
    "a name that is there twice": Mistake(
        lambda: fit(pd.DataFrame(np.c_[NUMBER, NUMBER], columns=["a", "a"])),
        ValueError,
        r"y has the column 'a' twice",
    ),
    "codes of more digits than floats have": Mistake(
        lambda: fit(column([2**80 + i % 2 for i in range(N)]), CLASS),
        ValueError,
        r"'a' of y holds whole numbers.*cannot tell apart. Pass text",
    ),
    "labels with spaces": Mistake(
        lambda: fit(with_one("yes ", LABEL)), UserWarning, r"'a' has the labels.*'yes '.*strip"
    ),
    "few numbers as text": Mistake(
        lambda: small().fit(X[:8], [f"{v:.2f}" for v in NUMBER[:8]]),
        UserWarning,
        r"'y0': 8 of 8 labels are numbers written as text",
    ),
    "few numbers as classes": Mistake(
        lambda: small([Task("y0", "classification")]).fit(X[:8], NUMBER[:8]),
        UserWarning,
        r"'y0' has 8 different labels in 8 rows",
    ),
    "text of numpy in a score": Mistake(
        lambda: fit(LABEL).score(X, np.where(X[:, 0] > 0, "nan", LABEL)),
        ValueError,
        r"'y0' of y holds the text 'nan'.*missing_values='nan'",
    ),
    "text of numpy in a stream": Mistake(
        lambda: small().partial_fit(X, LABEL).partial_fit(X, np.where(X[:, 0] > 0, "nan", LABEL)),
        ValueError,
        r"'y0' of y holds the text 'nan'",
    ),
    "masked text that became text": Mistake(
        lambda: fit(with_one("--", LABEL)), UserWarning, r"the label '--' in 1 of 40 rows"
    ),
    "a missing value as text": Mistake(
        lambda: fit(np.where(NUMBER < 0, 0.25, NUMBER), missing_values="0.25"),
        UserWarning,
        r"'y0' of y holds 0.25, which is not missing_values='0.25'",
    ),
    "a missing value as a number": Mistake(
        lambda: fit(np.where(NUMBER < 0, "-9", LABEL), missing_values=[-9]),
        UserWarning,
        r"holds '-9', which is not missing_values=-9.*missing_values='-9'",
    ),
    "missing values by column": Mistake(
        lambda: fit(NUMBER, missing_values={"y0": -1}), ValueError, r"'missing_values' parameter"
    ),
    "lists of missing values": Mistake(
        lambda: fit(NUMBER, missing_values=[[-1], [-9]]), ValueError, r"missing_values holds \[-1\]"
    ),
    "codes among numbers": Mistake(
        lambda: fit(np.where(X[:, 2] > 0.5, -999.0, NUMBER)),
        UserWarning,
        r"'y0' holds -999 again and again.*missing_values=-999",
    ),
    "codes beside flags": Mistake(
        lambda: fit(np.where(X[:, 2] > 0.5, -1, X[:, 0] > 0)),
        UserWarning,
        r"'y0' holds -1 beside 0 and 1.*missing_values=-1",
    ),
    "two codes": Mistake(
        lambda: fit(np.where(X[:, 2] > 0, 1, 2)),
        UserWarning,
        r"'y0' holds 1 and 2 only.*Task\('y0', 'classification'\); if not, 'regression'",
    ),
    "two levels": Mistake(
        lambda: Task("wait", "quantile", quantile=[0.1, 0.9]),
        ValueError,
        r"Task 'wait': quantile=\[0.1, 0.9\] is not one level. Make a task of each",
    ),
    "decimal commas": Mistake(
        lambda: fit([f"{v:.1f}".replace(".", ",") for v in NUMBER]),
        UserWarning,
        r"labels are numbers written as text.*decimal=','",
    ),
    "dicts as rows": Mistake(
        lambda: fit(BOTH.to_dict("records")),
        TypeError,
        r"y is a list of dicts. Pass a frame of them: pd\.DataFrame\(y\)",
    ),
    "columns side by side": Mistake(
        lambda: fit([LABEL, NUMBER]), ValueError, r"y is a list of 2 columns. Pass one row"
    ),
    "a frame that is not read yet": Mistake(
        lambda: fit(pl.DataFrame({"a": NUMBER}).lazy()), TypeError, r"LazyFrame.*y\.collect\(\)"
    ),
    "rows in another order": Mistake(
        lambda: small().fit(pd.DataFrame(X), BOTH.sample(frac=1, random_state=0)),
        UserWarning,
        r"X and y have the same index in another order.*y\.loc\[X\.index\]",
    ),
    "files of dates": Mistake(
        lambda: fit(column([datetime.date(2020, 1, 1 + i % 2) for i in range(N)])).save("never"),
        TypeError,
        r"datetime\.date\(2020, 1, 1\).*a label of y.*astype\(str\)",
    ),
    "a single label": Mistake(
        lambda: fit(["a"] * N), UserWarning, r"has one observed label, 'a'.*other labels"
    ),
}

OF_TASKS = {
    "a task without a column": Mistake(
        lambda: fit(BOTH, [Task("label", "classification"), Task("size", "regression")]),
        ValueError,
        r"tasks without a column \['size'\], columns without a task \['number'\]",
    ),
    "names of an array": Mistake(
        lambda: fit(NUMBER, {"size": "regression"}),
        ValueError,
        r"\['size'\], which are not columns of y: \['y0'\]. Pass a frame whose columns have names",
    ),
    "a name beside a number": Mistake(
        lambda: fit(pd.DataFrame({0: NUMBER, "size": NUMBER}), {"size": "regression"}),
        ValueError,
        r"\['y0', 'y1'\]. Pass a frame whose columns have names, all of them text",
    ),
    "names without kinds": Mistake(
        lambda: fit(BOTH, ["label", "number"]),
        ValueError,
        r"\['label', 'number'\] is not understood.*\[Task\('size', 'regression'\)\]",
    ),
    "an unknown kind": Mistake(
        lambda: Task("a", "classify"), ValueError, r"kind='classify' is unknown. Use one of"
    ),
    "a kind of an unknown column": Mistake(
        lambda: fit(BOTH, {"size": "regression"}), ValueError, r"\['size'\].*not columns of y"
    ),
    "text as numbers": Mistake(
        lambda: fit(BOTH, {"label": "regression"}), ValueError, r"Task 'label'.*'(yes|no)'"
    ),
    "a gate that is no class": Mistake(
        lambda: fit(BOTH, {"number": Task("number", "regression", given=("number", 1))}),
        ValueError,
        r"'number'.*given",
    ),
    "a gate that is not there": Mistake(
        lambda: fit(BOTH, {"number": Task("number", "regression", given=("kind", "yes"))}),
        ValueError,
        r"'number'.*'kind'",
    ),
    "a label that is not there": Mistake(
        lambda: fit(BOTH, {"number": Task("number", "regression", given=("label", "perhaps"))}),
        (ValueError, UserWarning),
        r"'number'.*'perhaps'",
    ),
    "zeros where there is nothing": Mistake(
        lambda: fit(HELD.fillna({"number": 0.0}), GATED),
        ValueError,
        r"'number'.*(NaN|not applicable)",
    ),
    "given without a label": Mistake(
        lambda: Task("a", "regression", given="label"), ValueError, r"given=\(task, label\)"
    ),
    "a quantile of 90": Mistake(
        lambda: Task("a", "quantile", quantile=90), ValueError, r"'a'.*quantile"
    ),
    "counts below zero": Mistake(
        lambda: fit(NUMBER, [Task("y0", "poisson")]), ValueError, r"'y0'.*(>= 0|negative)"
    ),
    "amounts of zero": Mistake(
        lambda: fit(np.arange(N), [Task("y0", "gamma")]), ValueError, r"'y0'.*> 0"
    ),
    "text without an order": Mistake(
        lambda: fit(GRADES, [Task("y0", "ordinal")]), ValueError, r"'y0'.*categories="
    ),
    "one list for two columns": Mistake(
        lambda: fit(np.column_stack([NUMBER, NUMBER]), CLASS),
        ValueError,
        r"y has 2 columns, but tasks lists 1",
    ),
}

OF_WEIGHTS = {
    "dates as weights": Mistake(
        lambda: fit(NUMBER, weight=np.arange(N).astype("datetime64[D]")),
        ValueError,
        r"sample_weight holds datetime64\[D\] values. Pass weights >= 0",
    ),
    "text as weights": Mistake(
        lambda: fit(NUMBER, weight=np.ones(N).astype(str)),
        ValueError,
        r"sample_weight holds <U32 values",
    ),
    "complex weights": Mistake(
        lambda: fit(NUMBER, weight=np.ones(N) + 1j), ValueError, r"sample_weight.*complex"
    ),
    "text among weights": Mistake(
        lambda: fit(NUMBER, weight=["1"] + [1.0] * (N - 1)),
        ValueError,
        r"sample_weight holds '1(\.0)?' at position 0",
    ),
    "masked weights": Mistake(
        lambda: fit(NUMBER, weight=np.ma.masked_less(np.arange(N), 9)),
        ValueError,
        r"sample_weight is an array with masked values. Pass 0",
    ),
    "negative weights": Mistake(
        lambda: fit(NUMBER, weight=-np.ones(N)), ValueError, r"sample_weight holds negative"
    ),
    "weights of other rows": Mistake(
        lambda: fit(NUMBER, weight=np.ones(N - 1)), ValueError, r"sample_weight has shape \(39,\)"
    ),
    "a weight that is a name": Mistake(
        lambda: fit(NUMBER, weight="balanced"), ValueError, r"sample_weight is of type str"
    ),
    "weights by name of the row": Mistake(
        lambda: fit(NUMBER, weight=dict(enumerate(np.ones(N)))),
        ValueError,
        r"sample_weight is of type dict. Pass an array",
    ),
    "sparse weights": Mistake(
        lambda: fit(NUMBER, weight=sparse.csr_matrix(np.ones((N, 1)))),
        ValueError,
        r"sample_weight is of type csr_matrix. Pass its toarray",
    ),
    "weights with a hole": Mistake(
        lambda: fit(NUMBER, weight=pd.Series([np.nan] + [1.0] * (N - 1))),
        ValueError,
        r"sample_weight holds.*at 1 positions, the first \[0\]",
    ),
    "weights of a task's classes as a list": Mistake(
        lambda: fit(BOTH, class_weight={"label": [1, 2]}),
        ValueError,
        r"'label': class_weight=\[1, 2\] is not understood. Use 'balanced' or a dict",
    ),
    "weights of classes as text": Mistake(
        lambda: fit(LABEL, class_weight={"yes": "2", "no": "1"}),
        ValueError,
        r"class_weight=.* holds '2' at position 0",
    ),
    "weights of tasks as text": Mistake(
        lambda: fit(BOTH, task_weights={"label": "2"}), ValueError, r"task_weights holds '2'"
    ),
    "weights of tasks as dates": Mistake(
        lambda: fit(BOTH, task_weights=np.array(["2020", "2021"], "M8[Y]")),
        ValueError,
        r"task_weights holds datetime64",
    ),
    "weights of labels of two tasks": Mistake(
        lambda: fit(pd.DataFrame({"a": LABEL, "b": GRADES}), class_weight={"yes": 10.0, "no": 1.0}),
        ValueError,
        r"there are 2 class tasks: \['a', 'b'\].*class_weight=\{'a': \{'yes'",
    ),
    "weights of labels of numbers": Mistake(
        lambda: fit(NUMBER, class_weight={1: 10.0}),
        ValueError,
        r"none of the tasks \['y0'\] is a class task",
    ),
    "a weight of an unknown label": Mistake(
        lambda: fit(LABEL, class_weight={"perhaps": 10.0}), ValueError, r"class_weight.*'perhaps'"
    ),
    "weights of an unknown task": Mistake(
        lambda: fit(BOTH, class_weight={"kind": "balanced"}),
        ValueError,
        r"unknown tasks \['kind'\]",
    ),
    "balanced numbers": Mistake(
        lambda: fit(BOTH, class_weight={"number": "balanced"}), ValueError, r"is for classes"
    ),
    "weights of tasks by an unknown name": Mistake(
        lambda: fit(BOTH, task_weights={"kind": 2.0}), ValueError, r"task_weights.*'kind'"
    ),
    "too few weights of tasks": Mistake(
        lambda: fit(BOTH, task_weights=[1.0]), ValueError, r"task_weights.*2"
    ),
}


def validated(y_val: Any, **params: Any) -> Any:
    return small(early_stopping=True, **params).fit(X, BOTH, X_val=X, y_val=y_val)


OF_VALIDATION = {
    "an unseen label": Mistake(
        lambda: validated(BOTH.replace({"label": {"yes": "perhaps"}})),
        ValueError,
        r"y_val: Task 'label': label 'perhaps' was not seen",
    ),
    "other columns": Mistake(
        lambda: validated(BOTH.rename(columns={"label": "class"})),
        ValueError,
        r"y_val: y lacks the columns \['label'\]",
    ),
    "text for numbers": Mistake(
        lambda: validated(BOTH.assign(number="1")), ValueError, r"y_val: Task 'number'"
    ),
    "text of numpy": Mistake(
        lambda: validated(BOTH.replace({"label": {"yes": "nan"}})),
        ValueError,
        r"y_val: Column 'label' of y holds the text 'nan'",
    ),
    "sparse": Mistake(
        lambda: validated(sparse.bsr_matrix(np.ones((N, 2)))), TypeError, r"y_val is a sparse"
    ),
    "dates": Mistake(
        lambda: validated(BOTH.assign(number=pd.date_range("2020", periods=N))),
        ValueError,
        r"y_val: Column 'number' of y holds datetime64",
    ),
    "negative weights": Mistake(
        lambda: small().fit(X, BOTH, X_val=X, y_val=BOTH, sample_weight_val=-np.ones(N)),
        ValueError,
        r"sample_weight_val holds negative",
    ),
    "no y_val": Mistake(
        lambda: small().fit(X, BOTH, X_val=X), ValueError, r"X_val was passed without y_val"
    ),
    "nothing observed": Mistake(
        lambda: validated(BOTH.assign(label=None, number=np.nan)),
        ValueError,
        r"y_val holds no observed target",
    ),
}

MISTAKES = {
    f"{part}: {name}": mistake
    for part, mistakes in {
        "y": OF_Y,
        "tasks": OF_TASKS,
        "weights": OF_WEIGHTS,
        "validation": OF_VALIDATION,
    }.items()
    for name, mistake in mistakes.items()
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name: str) -> None:
    make, raises, says = MISTAKES[name]
    kinds = raises if isinstance(raises, tuple) else (raises,)
    warned = all(issubclass(kind, Warning) for kind in kinds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error" if not warned else "always", UserWarning)
        if warned:
            with pytest.warns(raises, match=f"(?s){says}"):
                make()
        else:
            with pytest.raises(raises, match=f"(?s){says}"):
                make()
