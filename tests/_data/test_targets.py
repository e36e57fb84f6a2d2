"""Targets of every type, hole and gate: what goes in comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _columns import BOOL, NO_SIZE, REAL, WORD, N, gated, inputs, small, words

from sklearn_mtl import Task, kinds
from sklearn_mtl._data.targets import TargetEncoder


def perfect_raw(encoder: TargetEncoder, y: Any) -> np.ndarray:
    """Raw outputs of a network that knows every observed target."""
    encoded = encoder.encode(y)
    parts = []
    for task, codes, width in zip(encoder.tasks_, encoded.values.T, encoder.n_outputs, strict=True):
        part = codes[:, None]
        if task.kind == "classification":
            part = 30 * np.eye(width)[codes.astype(int)]
        elif task.kind == "ordinal":  # steps that are taken, and not
            part = np.where(part > np.arange(width), 60.0, -60.0)
        elif task.kind in ("poisson", "gamma"):
            part = np.log(np.maximum(part, 1e-30)) / encoder.kinds_[len(parts)].spread_
        parts.append(part)
    return np.hstack(parts)


# -- a table of layouts ---------------------------------------------------------------------

WORDS = {
    "flag": ["no", "yes"],
    "color": ["blue", "green", "red"],
    "shape": ["flat", "round"],
    "level": ["low", "mid", "high"],  # the one with an order
}
NUMBERS = {
    "flag": [0.0, 1.0],
    "color": [0.0, 1.0, 2.0],
    "shape": [3.0, 5.0],
    "level": [2.0, 4.0, 10.0],
}
BOOLS = WORDS | {"flag": [False, True], "shape": [False, True]}
GATES = {
    "no gate": {},
    "binary gate": {"part": ("flag", [1])},
    "gate with several labels": {"part": ("color", [0, 2])},
    "chain": {"shape": ("flag", [1]), "depth": ("shape", [0])},
    "every kind": {"level": None, "count": None, "cost": ("level", [1, 2]), "wait": ("flag", [1])},
}
KINDS = {"level": "ordinal", "count": "poisson", "cost": "gamma", "wait": "quantile"}


def truth(
    labels: dict[str, list[Any]], gates: dict[str, Any], holes: bool, ordered: bool = False
) -> tuple[dict[str, list[Any]], list[Task]]:
    """Columns as lists with None where nothing was observed, and their tasks.

    `ordered` says that the container, or the numbers that it holds, order levels.
    """
    rng = np.random.default_rng(1)
    names = ["flag", "color", "amount", *gates]
    codes = {name: np.arange(N) % len(labels[name]) for name in names if name in labels}
    columns: dict[str, list[Any]] = {}
    tasks = []
    refused = {name: np.zeros(N, dtype=bool) for name in names}
    for name in names:
        if name in codes:
            rng.shuffle(codes[name])
            values = [labels[name][code] for code in codes[name]]
        elif name == "count":
            values = rng.poisson(2, size=N).astype(float).tolist()
        else:
            values = rng.normal(size=N).round(3)
            values = (np.abs(values) + 0.5 if name == "cost" else values).tolist()
        gate = None
        if gates.get(name):
            parent, holding = gates[name]
            refused[name] = refused[parent] | ~np.isin(codes[parent], holding)
            gate = (parent, [labels[parent][code] for code in holding])
        hole = refused[name].copy()
        if holes:
            hole[rng.permutation(N)[:5]] = True
        columns[name] = [None if gone else v for v, gone in zip(values, hole, strict=True)]
        kind = KINDS.get(name, "classification" if name in labels else "regression")
        options: dict[str, Any] = {"quantile": 0.8} if kind == "quantile" else {}
        if kind == "ordinal" and not ordered:
            options["categories"] = labels[name]
        tasks.append(Task(name, kind, gate, **options))
    return columns, tasks


def rows_of(columns: dict[str, list[Any]], hole: Any) -> list[list[Any]]:
    filled = [[hole if v is None else v for v in column] for column in columns.values()]
    return [list(row) for row in zip(*filled, strict=True)]


def numpy_float(columns: dict[str, list[Any]], hole: Any) -> np.ndarray:
    return np.array(rows_of(columns, hole), dtype=float)


def numpy_object(columns: dict[str, list[Any]], hole: Any) -> np.ndarray:
    return np.array(rows_of(columns, hole), dtype=object)


def pandas_object(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    return pd.DataFrame(rows_of(columns, hole), columns=list(columns), dtype=object)


def pandas_natural(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    return pd.DataFrame({n: pd.Series(c) for n, c in columns.items()})


def pandas_sentinel(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    return pd.DataFrame({n: [hole if v is None else v for v in c] for n, c in columns.items()})


def pandas_category(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    frame = pandas_natural(columns, hole)
    for name in WORDS.keys() & set(columns):
        frame[name] = frame[name].astype("category")
    return frame


def pandas_ordered(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    frame = pandas_natural(columns, hole)
    for name in WORDS.keys() & set(columns):
        dtype = pd.CategoricalDtype(low_to_high(name), ordered=True)
        frame[name] = frame[name].astype(dtype)
    return frame


def low_to_high(name: str) -> list[str]:
    """Labels for a type that orders them: neither sorted, nor only what was observed."""
    return [*WORDS[name][:: 1 if name == "level" else -1], "never"]


def pandas_nullable(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    return pandas_natural(columns, hole).convert_dtypes()


def pandas_arrow(columns: dict[str, list[Any]], hole: Any) -> pd.DataFrame:
    return pandas_natural(columns, hole).convert_dtypes(dtype_backend="pyarrow")


def polars_natural(columns: dict[str, list[Any]], hole: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


def polars_sentinel(columns: dict[str, list[Any]], hole: Any) -> pl.DataFrame:
    return pl.DataFrame({n: [hole if v is None else v for v in c] for n, c in columns.items()})


def polars_categorical(columns: dict[str, list[Any]], hole: Any) -> pl.DataFrame:
    names = list(WORDS.keys() & set(columns))
    return pl.DataFrame(columns).with_columns(pl.col(names).cast(pl.Categorical))


def polars_enum(columns: dict[str, list[Any]], hole: Any) -> pl.DataFrame:
    casts = [pl.col(name).cast(pl.Enum(low_to_high(name))) for name in WORDS.keys() & set(columns)]
    return pl.DataFrame(columns).with_columns(casts)


class Container(NamedTuple):
    """How the columns of a layout are held."""

    make: Callable[[dict[str, list[Any]], Any], Any]
    labels: dict[str, list[Any]]
    hole: Any = None
    missing_values: Any = None

    def truth(
        self, gates: dict[str, Any], holes: bool
    ) -> tuple[dict[str, list[Any]], list[Task], Any]:
        """Columns as lists, their tasks, and y."""
        ordered = self.labels is NUMBERS or self.make in (pandas_ordered, polars_enum)
        columns, tasks = truth(self.labels, gates, holes, ordered)
        return columns, tasks, self.make(columns, self.hole)


CONTAINERS = {
    "numpy float, NaN": Container(numpy_float, NUMBERS, np.nan),
    "numpy float, sentinel": Container(numpy_float, NUMBERS, -99.0, -99),
    "numpy object, None": Container(numpy_object, WORDS, None),
    "numpy object, NaN": Container(numpy_object, WORDS, np.nan),
    "numpy object, NA": Container(numpy_object, WORDS, pd.NA),
    "numpy object, sentinel": Container(numpy_object, WORDS, "?", "?"),
    "numpy object, NA beside a sentinel": Container(numpy_object, BOOLS, pd.NA, -99),
    "list, None": Container(rows_of, WORDS, None),
    "list, NaN": Container(rows_of, WORDS, np.nan),
    "list of numbers, None": Container(rows_of, NUMBERS, None),
    "list with bools, None": Container(rows_of, BOOLS, None),
    "list, sentinel": Container(rows_of, WORDS, "?", "?"),
    "pandas, natural": Container(pandas_natural, WORDS),
    "pandas, bools": Container(pandas_natural, BOOLS),
    "pandas, number codes": Container(pandas_natural, NUMBERS),
    "pandas, sentinel": Container(pandas_sentinel, NUMBERS, -99.0, -99),
    "pandas object, None": Container(pandas_object, WORDS, None),
    "pandas object, NA": Container(pandas_object, BOOLS, pd.NA),
    "pandas object, sentinel": Container(pandas_object, WORDS, "", ""),
    "pandas category": Container(pandas_category, WORDS),
    "pandas category of numbers": Container(pandas_category, NUMBERS),
    "pandas ordered category": Container(pandas_ordered, WORDS),
    "pandas nullable": Container(pandas_nullable, BOOLS),
    "pandas nullable numbers": Container(pandas_nullable, NUMBERS),
    "pandas arrow": Container(pandas_arrow, BOOLS),
    "polars, natural": Container(polars_natural, WORDS),
    "polars, bools": Container(polars_natural, BOOLS),
    "polars, sentinel": Container(polars_sentinel, NUMBERS, -99.0, -99),
    "polars categorical": Container(polars_categorical, WORDS),
    "polars enum": Container(polars_enum, WORDS),
}
LAYOUTS = [
    pytest.param(container, gates, holes, id=f"{name} - {gate}{' - holes' if holes else ''}")
    for name, container in CONTAINERS.items()
    for gate, gates in GATES.items()
    for holes in (False, True)
    if holes or gate == "no gate"
]


@pytest.mark.parametrize(("container", "gates", "holes"), LAYOUTS)
def test_layout_round_trip(container: Container, gates: dict[str, Any], holes: bool) -> None:
    columns, tasks, y = container.truth(gates, holes)
    est = small(tasks=tasks, missing_values=container.missing_values).fit(inputs(), y)

    # What was observed is counted, and nothing else.
    assert est.n_observed_.tolist() == [
        sum(v is not None for v in column) for column in columns.values()
    ]
    # Labels are those of y.
    class_tasks = [task.name for task in tasks if task.kind in ("classification", "ordinal")]
    for name, classes in zip(class_tasks, est.classes_, strict=True):
        observed = {v for v in columns[name] if v is not None}
        order = container.labels[name].index if KINDS.get(name) == "ordinal" else None
        assert classes.tolist() == sorted(observed, key=order)
    predicted = est.predict(inputs())
    assert predicted.shape == (N, len(tasks))
    assert predicted.dtype == (float if container.labels is NUMBERS else object)
    for name, column in zip(columns, predicted.T, strict=True):
        if name in class_tasks:
            assert set(column) <= set(container.labels[name])
            assert {type(v) for v in column.tolist()} == {type(container.labels[name][0])}
        else:
            assert np.isfinite(column.astype(float)).all()
    # The frame is of y's type, with its names and dtypes.
    frame = est.predict_frame(inputs())
    assert isinstance(frame, pl.DataFrame if isinstance(y, pl.DataFrame) else pd.DataFrame)
    assert list(frame.columns) == list(columns)
    if isinstance(y, (pd.DataFrame, pl.DataFrame)):
        for name in columns:
            dtype = y[name].dtype
            if name in class_tasks:
                assert frame[name].dtype == dtype
            else:
                assert frame[name].dtype in (np.dtype(float), pl.Float64)
    # A network that knows the targets gives them back.
    known = est._fitted.encoder.decode(perfect_raw(est._fitted.encoder, y))
    for (name, column), decoded in zip(columns.items(), known, strict=True):
        for value, back in zip(column, decoded.tolist(), strict=True):
            if value is not None:
                assert back == (value if name in class_tasks else pytest.approx(value, abs=1e-6))


@pytest.mark.parametrize(("container", "gates", "holes"), LAYOUTS[1::5])
def test_blank_predictions_have_the_layout_of_y(
    container: Container, gates: dict[str, Any], holes: bool
) -> None:
    """A network that knows the targets, with 'nan', gives y back with its holes and dtypes."""
    columns, tasks, y = container.truth(gates, holes=False)
    encoder = TargetEncoder(tasks, container.missing_values)
    encoder.fit_encode(y)
    decoded = encoder.decode(perfect_raw(encoder, y), "nan")
    matrix = encoder.matrix(decoded)
    assert matrix.dtype == (float if container.labels is NUMBERS else object)
    frame = encoder.frame(decoded)
    for k, (name, column) in enumerate(columns.items()):
        hole = np.array([v is None for v in column])
        assert (pd.isna(matrix[:, k]) == hole).all()
        blank = frame[name].is_null() if isinstance(frame, pl.DataFrame) else frame[name].isna()
        assert (blank.to_numpy() == hole).all()
        if isinstance(y, (pd.DataFrame, pl.DataFrame)) and container.missing_values is None:
            expected = y[name].to_list()
            for value, back, gone in zip(expected, frame[name].to_list(), hole, strict=True):
                assert gone or back == pytest.approx(value, abs=1e-6)
            if tasks[k].kind in ("classification", "ordinal"):
                assert frame[name].dtype == y[name].dtype


# -- who is wrong -----------------------------------------------------------------------------

# Who is wrong, and what the message must say.
BAD_TARGETS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "unlisted column": (
        {"tasks": [Task("flag", "classification")]},
        words(),
        r"columns without a task \['size'\].*List one task per column",
    ),
    "task without a column": (
        {"tasks": [*gated(None), Task("third", "regression")]},
        words(),
        r"tasks without a column \['third'\]",
    ),
    "name twice": ({"tasks": [Task("flag", "classification")] * 2}, words(), "a name twice"),
    "too few tasks for an array": (
        {"tasks": [Task("flag", "classification")]},
        np.zeros((N, 2)),
        "y has 2 columns, but tasks lists 1",
    ),
    "dict names an unknown column": (
        {"tasks": {"sise": "regression"}},
        words(),
        r"tasks names \['sise'\], which are not columns of y: \['flag', 'size'\]",
    ),
    "dict with an unknown kind": (
        {"tasks": {"size": "ranking"}},
        words(),
        r"Task 'size': kind='ranking' is unknown. Use one of \['classification', 'gamma'",
    ),
    "no tasks": ({"tasks": []}, words(), "List of Task|list of Task"),
    "list of names": ({"tasks": ["flag", "size"]}, words(), "list of Task"),
    "gate is unknown": (
        {"tasks": gated(("flog", "yes"))},
        NO_SIZE,
        r"Task 'size': given=\('flog', 'yes'\) names an unknown task",
    ),
    "gate label is unknown": (
        {"tasks": gated(("flag", "maybe"))},
        NO_SIZE,
        r"Task 'size'.*'flag' has no such label.*\['no', 'yes'\]",
    ),
    "gate on a number": (
        {
            "tasks": [
                Task("flag", "classification", given=("size", 1.5)),
                Task("size", "regression"),
            ]
        },
        words(),
        "Task 'flag'.*'size' is a regression task.*must be a classification",
    ),
    "gate on itself": (
        {"tasks": [Task("flag", "classification", ("flag", "yes")), Task("size", "regression")]},
        words(),
        "circle",
    ),
    "circle of two": (
        {
            "tasks": [
                Task("flag", "classification", given=("other", "a")),
                Task("other", "classification", given=("flag", "yes")),
                Task("size", "regression"),
            ]
        },
        words(other=WORD),
        "circle",
    ),
    "value where the gate does not hold": (
        {"tasks": gated(("flag", "yes"))},
        words(),
        r"Task 'size' exists only given \('flag', 'yes'\).*in 12 rows.*\[0, 2, 4, 6, 8\].*NaN",
    ),
    "infinity": (
        {},
        words(size=[*REAL[:4], np.inf, *REAL[5:-1], -np.inf]),
        r"Column 'size' of y holds infinity in 2 rows, the first \[4, 23\].*NaN",
    ),
    "infinity in objects": (
        {},
        np.array([[1.5, "a"], [np.inf, "b"]] * 12, dtype=object),
        r"Column 'y0' of y holds infinity in 12 rows, the first \[1, 3",
    ),
    "task without a value": (
        {},
        words(size=np.nan)[["size"]],
        "Task 'size' has no observed value.*24 rows. Pass rows with observed targets",
    ),
    "nothing but holes": (
        {},
        words(size=[np.nan] * N, flag=None),
        r"None of the tasks \['flag', 'size'\] has an observed value",
    ),
    "sentinel everywhere": (
        {"missing_values": -1},
        np.full(N, -1.0),
        "Task 'y0' has no observed value",
    ),
    "dates": (
        {},
        words(size=pd.date_range("2020-01-01", periods=N)),
        "Column 'size' of y holds datetime64.*days",
    ),
    "polars dates": (
        {},
        pl.DataFrame({"day": pd.date_range("2020-01-01", periods=N).to_numpy()}),
        "Column 'day' of y holds datetime64",
    ),
    "bytes": ({}, np.array(WORD, dtype="S"), "Column 'y0' of y holds |S1 values.*Decode"),
    "complex": ({}, np.arange(N) * 1j, "Column 'y0' of y holds complex128"),
    "words in a regression": (
        {"tasks": {"flag": "regression"}},
        words(),
        "Task 'flag': the target must hold numbers, got 'no'",
    ),
    "negative counts": (
        {"tasks": {"size": "poisson"}},
        words(),
        r"Task 'size': the target must hold values >= 0, got -1.0 \(in 8 rows\). Declare it",
    ),
    "amounts of 0": (
        {"tasks": {"size": "gamma"}},
        words(size=[0.0, 1.5] * 12),
        r"Task 'size': .* values > 0, got 0.0 \(in 12 rows\). Where 0 stands for 'none', make that",
    ),
    "words as counts": (
        {"tasks": {"flag": "poisson"}},
        words(),
        "Task 'flag': the target must hold numbers, got 'no'",
    ),
    "words as an order": (
        {"tasks": {"flag": "ordinal"}},
        words(),
        r"Task 'flag': the order of the labels \['no', 'yes'\] is not known. Pass categories=",
    ),
    "labels that are no categories": (
        {
            "tasks": [
                Task("flag", "ordinal", categories=["no", "maybe"]),
                Task("size", "regression"),
            ]
        },
        words(),
        r"Task 'flag': y holds labels \['yes'\] that are not among .* \['no', 'maybe'\]",
    ),
    "gate label is no category": (
        {
            "tasks": [
                Task("flag", "ordinal", categories=["no", "maybe", "yes"]),
                Task("size", "regression", given=("flag", "perhaps")),
            ]
        },
        NO_SIZE,
        r"Task 'size'.*'flag' has no such label; its categories are \['no', 'maybe', 'yes'\]",
    ),
    "class_weight of a count": (
        {"tasks": {"size": "poisson"}, "class_weight": {"size": "balanced"}},
        words(size=[0, 2] * 12),
        "Task 'size': class_weight is for classes",
    ),
    "class_weight of an order with a slip": (
        {"tasks": {"size": "ordinal"}, "class_weight": {"size": {9: 2.0}}},
        words(size=[0, 2] * 12),
        r"Task 'size'.*\{9: 2.0\}.*\[0, 2\]",
    ),
    "labels of mixed types": (
        {},
        np.array(["a", 1] * 12, dtype=object),
        r"Task 'y0': labels of mixed types cannot be ordered: 1 of type int, 'a' of type str",
    ),
    "ragged list": ({}, [["a", 1.0]] * 23 + [["b"]], "different lengths"),
    "three dimensions": ({}, np.zeros((N, 2, 2)), r"y has shape \(24, 2, 2\)"),
    "no column": ({}, np.zeros((N, 0)), r"y has shape \(24, 0\)"),
    "frame without a column": ({}, pd.DataFrame(index=range(N)), r"y has shape \(24, 0\)"),
    "column name twice": (
        {},
        pd.DataFrame(np.c_[REAL, REAL], columns=["a", "a"]),
        "y has the column 'a' twice",
    ),
    "class_weight of an unknown task": (
        {"class_weight": {"flog": "balanced"}},
        words(),
        r"class_weight names unknown tasks \['flog'\].*\['flag', 'size'\]",
    ),
    "class_weight of a number": (
        {"class_weight": {"size": "balanced"}},
        words(),
        "Task 'size': class_weight is for classes",
    ),
    "class_weight is no rule": (
        {"class_weight": {"flag": "equal"}},
        words(),
        "Task 'flag': class_weight='equal'.*'balanced'",
    ),
    "class_weight with a slip": (
        {"class_weight": {"flag": {"yess": 2.0}}},
        words(),
        r"Task 'flag'.*'yess'.*\['no', 'yes'\]",
    ),
    "class_weight below zero": (
        {"class_weight": {"flag": {"yes": -1.0}}},
        words(),
        "Task 'flag': class_weight.*>= 0",
    ),
    "class_weight zero everywhere": (
        {"class_weight": {"flag": {"yes": 0, "no": 0}}},
        words(),
        "Task 'flag': class_weight.*not 0 for all labels of y",
    ),
    "class_weight is NaN": (
        {"class_weight": {"flag": {"yes": np.nan}}},
        words(),
        "Task 'flag': class_weight.*>= 0",
    ),
}


@pytest.mark.parametrize("name", BAD_TARGETS)
def test_bad_targets_are_refused(name: str) -> None:
    params, y, message = BAD_TARGETS[name]
    est = small(**params)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        est.fit(inputs(), y)
    assert not hasattr(est, "module_")


# -- another y, through the fitted encoder --------------------------------------------------


def test_validation_labels_must_be_known() -> None:
    y = words()
    bad = y.assign(flag=["no", "perhaps"] * 12)
    with pytest.raises(ValueError, match=r"Task 'flag': label 'perhaps' was not seen in fit"):
        small().fit(inputs(), y, X_val=inputs(), y_val=bad)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (words()[["flag"]], r"y lacks the columns \['size'\]; it has \['flag'\]"),
        (np.zeros((N, 3)), r"y has 3 columns, but .* 2 tasks: \['flag', 'size'\]"),
        (words(flag=[0, 1] * 12), r"Task 'flag': y holds labels like 0, but fit saw \['no'"),
        (words(size="big"), r"Task 'size': the target must hold numbers, got 'big'"),
        (words(size=np.inf), r"Column 'size' of y holds infinity"),
    ],
)
def test_scoring_names_what_does_not_fit(y: Any, message: str) -> None:
    est = small().fit(inputs(), words())
    with pytest.raises(ValueError, match=message):
        est.score(inputs(), y)


@pytest.mark.parametrize(
    ("kind", "fit", "bad", "message"),
    [
        ("poisson", [0, 1, 2] * 8, -1.0, "Task 'y0': the target must hold values >= 0, got -1.0"),
        ("gamma", [3, 1, 2] * 8, 0.0, r"Task 'y0': the target must hold values > 0, got 0.0 \(in"),
        ("ordinal", [3, 1, 2] * 8, "b", r"Task 'y0': y holds labels like 'b', but fit saw \[1, 2"),
    ],
)
def test_scoring_names_what_a_kind_cannot_hold(kind: str, fit: Any, bad: Any, message: str) -> None:
    est = small(tasks={"y0": kind}).fit(inputs(), fit)
    with pytest.raises(ValueError, match=message):
        est.score(inputs(), [bad] * N)


def test_scoring_knows_categories_that_fit_did_not_see() -> None:
    y = np.array(["low", "high"] * 12)
    est = small(tasks=[Task("y0", "ordinal", categories=["low", "mid", "high"])]).fit(inputs(), y)
    assert est.score(inputs(), np.array(["mid", "high"] * 12)) < 1
    again = small(tasks=est.tasks_).fit(inputs(), y, X_val=inputs(), y_val=["mid"] * N)
    assert np.isfinite(again.history_["valid_loss"]).all()


def test_scoring_reads_labels_by_value() -> None:
    est = small().fit(inputs(), words(flag=BOOL))
    expected = est.score_tasks(inputs(), words(flag=BOOL))
    for flag in ([0, 1] * 12, [0.0, 1.0] * 12, pd.array(BOOL, dtype="boolean")):
        assert est.score_tasks(inputs(), words(flag=flag)) == expected
    # An unknown label is a wrong prediction, not an error.
    assert est.score_tasks(inputs(), words(flag=[5, 6] * 12))["flag"] == 0


def test_first_targets_teach_a_copy() -> None:
    """A call that fails later on has changed nothing."""
    encoder = TargetEncoder(gated(("flag", "yes")))
    with pytest.warns(UserWarning, match="Task 'size' has no observed value"):
        encoder.fit_encode(words(size=np.nan), more_comes=True)
    taught, _ = encoder.encode_more(words(size=[np.nan] * (N - 1) + [1.5]), add=True)
    assert taught.unobserved.tolist() == [False, False]
    assert taught.n_observed_.tolist() == [2 * N, 1]
    assert taught.n_applicable_.tolist() == [2 * N, N]
    assert encoder.unobserved.tolist() == [False, True]
    assert encoder.n_observed_.tolist() == [N, 0]


def test_first_targets_say_what_classes_weigh() -> None:
    tasks = [
        Task("flag", "classification"),
        Task("late", "classification", categories=["no", "yes"]),
    ]
    encoder = TargetEncoder(tasks, class_weight="balanced")
    with pytest.warns(UserWarning, match="Task 'late' has no observed value"):
        encoder.fit_encode(words(late=None)[["flag", "late"]], more_comes=True)
    rare = ["no"] * (N - 6) + ["yes"] * 6
    taught, encoded = encoder.encode_more(words(flag=rare, late=rare)[["flag", "late"]], add=True)
    weigh = {"flag": [1.0, 1.0], "late": [N / (2 * (N - 6)), N / (2 * 6)]}
    for weight, expected in zip(encoded.weight.T, weigh.values(), strict=True):
        assert weight[[0, -1]] == pytest.approx(expected)
    assert (taught.encode(words(late=WORDS["flag"] * 12)).weight[0] == encoded.weight[0]).all()


def test_frames_hold_labels_that_the_first_call_declared() -> None:
    y = pd.DataFrame({"flag": pd.Categorical(["no"] * N), "size": REAL})
    encoder = TargetEncoder({"flag": "classification", "size": "regression"})
    encoder.fit_encode(y, classes={"flag": ["no", "yes"]}, more_comes=True)
    yes = encoder.decode(np.array([[-9.0, 9.0, 0.0]]))
    assert encoder.frame(yes)["flag"].tolist() == ["yes"]


def test_the_first_rows_of_a_stream_have_to_know_their_labels() -> None:
    est, y = small(tasks={"flag": "classification", "size": "regression"}), words(flag=None)
    with pytest.raises(ValueError, match=r"Task 'flag' has no observed .*labels are not known"):
        est.partial_fit(inputs(), y)
    with pytest.warns(UserWarning, match="'flag' has no observed"):
        est.fit(inputs(), y)


@pytest.mark.parametrize("scale", [1e-200, 1e-9, 1.0, 1e12, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e6])
def test_numbers_in_any_units_come_back(scale: float, offset: float) -> None:
    """To the rounding of the offset; nothing overflows on the way."""
    y = (np.array(REAL) + offset) * scale
    encoder = TargetEncoder({"y0": "regression"})
    encoded = encoder.fit_encode(y)
    assert encoded.values.mean() == pytest.approx(0, abs=1e-9)
    assert encoded.values.std() == pytest.approx(1, rel=1e-9)
    (back,) = encoder.decode(encoded.values)
    np.testing.assert_allclose(back, y, rtol=1e-12, atol=1e-12 * scale)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3e9, 1e-300])
def test_constant_number_comes_back_exactly(value: float) -> None:
    encoder = TargetEncoder({"y0": "regression"})
    encoded = encoder.fit_encode(np.full(7, value))
    (back,) = encoder.decode(encoded.values)
    np.testing.assert_allclose(back, value, rtol=1e-15)


def test_codes_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    class Logarithm(kinds.RegressionTarget):
        def encode(self, values: Any) -> Any:
            with np.errstate(divide="ignore"):
                return np.log(values.astype(float))

    monkeypatch.setitem(kinds.KINDS, "logarithm", Logarithm)
    with pytest.raises(ValueError, match="Task 'y0': kind='logarithm' makes 0 a code that is not"):
        small(tasks={"y0": "logarithm"}).fit(inputs(), np.arange(N))
