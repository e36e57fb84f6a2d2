"""Targets of every type, hole and gate: what goes in comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sklearn_mtl import MultiTaskCNNEstimator, Task, kinds
from sklearn_mtl._targets import TargetEncoder
from sklearn_mtl.networks import DenseTrunk

N = 24


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits in milliseconds."""
    defaults = {"trunk": DenseTrunk((4,)), "max_epochs": 1, "random_state": 0}
    return MultiTaskCNNEstimator(**(defaults | params))


def inputs(n_samples: int = N) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_samples, 3))


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


# -- a table of layouts ----------------------------------------------------------------------

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
    known = est._encoder.decode(perfect_raw(est._encoder, y))
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


BOOL, WORD, REAL = [False, True] * 12, ["a", "b"] * 12, np.linspace(-1, 2, N).tolist()
WORD_HOLES, BOOL_HOLES, REAL_HOLES = [*WORD[:-1], None], [*BOOL[:-1], None], [*REAL[:-1], None]
CODE, CODE_HOLES = [3, 7] * 12, [*([3, 7] * 12)[:-1], None]
BIT_HOLES = [0, 1] * 11 + [None, 1]

# One vector each: y, labels in order (None for a number), and the frame's dtype (None: not y's).
VECTORS: dict[str, tuple[Any, list[Any] | None, Any]] = {
    "numpy bool": (np.array(BOOL), [False, True], None),
    "numpy 0/1": (np.array(BOOL, dtype=int), [0, 1], None),
    "numpy uint8 0/1": (np.array(BOOL, dtype=np.uint8), [0, 1], None),
    "numpy 0.0/1.0": (np.array(BOOL, dtype=float), [0.0, 1.0], None),
    "numpy only ones and holes": (np.array([np.nan, 1.0, 0.0] * 8), [0.0, 1.0], None),
    "numpy float": (np.array(REAL), None, None),
    "numpy float16": (np.array(REAL, dtype=np.float16), None, None),
    "numpy ints": (np.arange(N), None, None),
    "numpy -1/1": (np.array([-1, 1] * 12), None, None),
    "numpy 0/1/2": (np.array([0, 1, 2] * 8), None, None),
    "numpy uint64": (np.arange(N, dtype=np.uint64) + 2**63, None, None),
    "numpy U": (np.array(WORD), ["a", "b"], None),
    "numpy object strings": (np.array(WORD, dtype=object), ["a", "b"], None),
    "numpy object bools": (np.array(BOOL_HOLES, dtype=object), [False, True], None),
    "numpy object numbers": (np.array(REAL_HOLES, dtype=object), None, None),
    "numpy object 0/1": (np.array(BIT_HOLES, dtype=object), [0, 1], None),
    "masked array": (np.ma.masked_array(REAL, mask=np.arange(N) == 3), None, None),
    "list of strings": (WORD, ["a", "b"], None),
    "list of strings with None": (WORD_HOLES, ["a", "b"], None),
    "list of bools": (BOOL, [False, True], None),
    "list of numbers with None": (REAL_HOLES, None, None),
    "tuple": (tuple(WORD), ["a", "b"], None),
    "pandas str": (pd.Series(WORD_HOLES, name="v"), ["a", "b"], pd.Series(WORD).dtype),
    "pandas object": (pd.Series(WORD_HOLES, dtype=object), ["a", "b"], np.dtype(object)),
    "pandas string": (pd.Series(WORD_HOLES, dtype="string"), ["a", "b"], pd.StringDtype()),
    "pandas bool": (pd.Series(BOOL), [False, True], np.dtype(bool)),
    "pandas boolean": (pd.Series(BOOL_HOLES, dtype="boolean"), [False, True], pd.BooleanDtype()),
    "pandas Int64 0/1": (pd.Series(BIT_HOLES, dtype="Int64"), [0, 1], pd.Int64Dtype()),
    "pandas Int8 number": (pd.Series(CODE_HOLES, dtype="Int8"), None, None),
    "pandas Float64": (pd.Series(REAL_HOLES, dtype="Float64"), None, None),
    "pandas float32": (pd.Series(REAL, dtype="float32"), None, None),
    "pandas category": (
        pd.Series(WORD_HOLES, dtype="category"),
        ["a", "b"],
        pd.CategoricalDtype(["a", "b"]),
    ),
    "pandas category of ints": (
        pd.Series(pd.Categorical(CODE_HOLES, categories=[3, 5, 7])),
        [3, 7],
        pd.CategoricalDtype([3, 5, 7]),
    ),
    "pandas category of bools": (
        pd.Series(BOOL_HOLES, dtype="category"),
        [False, True],
        pd.CategoricalDtype([False, True]),
    ),
    "polars str": (pl.Series("v", WORD_HOLES), ["a", "b"], pl.String),
    "polars without a name": (pl.Series(WORD_HOLES), ["a", "b"], pl.String),
    "polars bool": (pl.Series("v", BOOL_HOLES), [False, True], pl.Boolean),
    "polars int8 0/1": (pl.Series("v", BIT_HOLES, dtype=pl.Int8), [0, 1], pl.Int8),
    "polars int": (pl.Series("v", CODE_HOLES), None, pl.Float64),
    "polars float32": (pl.Series("v", REAL_HOLES, dtype=pl.Float32), None, pl.Float64),
    "polars categorical": (pl.Series("v", WORD, dtype=pl.Categorical), ["a", "b"], pl.Categorical),
    "polars enum": (
        pl.Series("v", WORD_HOLES, dtype=pl.Enum(["b", "a"])),
        ["a", "b"],
        pl.Enum(["b", "a"]),
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_vector_round_trip(name: str) -> None:
    y, labels, dtype = VECTORS[name]
    est = small().fit(inputs(), y)
    assert [task.kind for task in est.tasks_] == [
        "regression" if labels is None else "classification"
    ]
    assert est.task_names_ == ["v" if getattr(y, "name", None) == "v" else "y0"]
    predicted = est.predict(inputs())
    assert predicted.shape == (N,)
    if labels is None:
        assert not hasattr(est, "classes_")
        assert predicted.dtype.kind == "f"
        assert np.isfinite(predicted).all()
    else:
        assert est.classes_.tolist() == labels
        assert predicted.dtype == est.classes_.dtype
        assert set(predicted.tolist()) <= set(labels)
        assert est.predict_proba(inputs()).shape == (N, len(labels))
    frame = est.predict_frame(inputs())
    assert isinstance(frame, pl.DataFrame if isinstance(y, pl.Series) else pd.DataFrame)
    assert list(frame.columns) == est.task_names_
    if dtype is not None:
        assert frame[est.task_names_[0]].dtype == dtype
    assert 0 <= est.score(inputs(), y) <= 1 or labels is None


def test_masked_cells_are_holes() -> None:
    y = np.ma.masked_array(np.arange(N, dtype=float), mask=np.arange(N) % 3 == 0)
    assert small().fit(inputs(), y).n_observed_.tolist() == [N - 8]


BIG = [2**53, 2**53 + 1] * 11 + [None, 2**53]  # floats would make them one


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(BIG, dtype="Int64"),
        pd.Series(BIG, dtype="int64[pyarrow]"),
        pl.Series(BIG),
        np.array(BIG, dtype=object),
        BIG,
    ],
    ids=["pandas", "arrow", "polars", "object", "list"],
)
def test_integers_with_holes_keep_their_digits(y: Any) -> None:
    est = small(tasks={"y0": "classification"}).fit(inputs(), y)
    assert est.classes_.tolist() == BIG[:2]
    assert est.classes_.dtype == np.int64


def test_decimals_are_numbers() -> None:
    y = pd.Series([Decimal("1.5"), None, Decimal("2.25")] * 8)
    est = small().fit(inputs(), y)
    assert est.tasks_ == [Task("y0", "regression")]
    assert est._encoder.kinds_[0].mean_ == pytest.approx(1.875)


def test_labels_that_a_frame_need_not_have() -> None:
    """Column labels that are no strings come back in `predict_frame`; names are y0, y1."""
    columns = [5, ("a", 1)]
    y = pd.DataFrame(np.c_[REAL, REAL[::-1]])
    y.columns = pd.Index(columns, tupleize_cols=False)
    est = small().fit(inputs(), y)
    assert est.task_names_ == ["y0", "y1"]
    assert list(est.predict_frame(inputs()).columns) == columns


def test_frame_keeps_the_index_of_X() -> None:
    X = pd.DataFrame(inputs(), columns=list("abc"), index=np.arange(N) + 100)
    frame = small().fit(X, np.array(REAL)).predict_frame(X)
    pd.testing.assert_index_equal(frame.index, X.index)


def test_frame_from_a_list() -> None:
    X = inputs().tolist()
    assert small().fit(X, WORD).predict_frame(X).shape == (N, 1)


# -- which task is which ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["frame", "array", "polars"])
def test_inference(kind: str) -> None:
    frame = pd.DataFrame(
        {
            "bit": [0.0, 1.0, np.nan] * 8,
            "number": REAL,
            "word": WORD,
            "count": [0, 1, 2] * 8,
            "bool": BOOL,
        }
    )
    y = {"frame": frame, "array": frame.to_numpy(dtype=object), "polars": pl.from_pandas(frame)}
    est = small().fit(inputs(), y[kind])
    names = [f"y{k}" for k in range(5)] if kind == "array" else list(frame)
    kinds = ["classification", "regression", "classification", "regression", "classification"]
    assert est.task_names_ == names
    assert est.tasks_ == [Task(n, k) for n, k in zip(names, kinds, strict=True)]


def test_partial_dict_and_full_list_say_the_same() -> None:
    y = pd.DataFrame({"grade": [1, 2, 3] * 8, "size": REAL})
    partial = small(tasks={"grade": "classification"}).fit(inputs(), y)
    full = small(
        tasks=[Task("grade", "classification"), Task("size", "regression")],
    ).fit(inputs(), y)
    assert partial.tasks_ == full.tasks_
    assert partial.classes_.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(partial.predict(inputs()), full.predict(inputs()))


def test_list_order_is_the_output_order_and_frames_match_by_name() -> None:
    y = pd.DataFrame({"a": WORD, "b": REAL, "c": BOOL})
    tasks = [Task("c", "classification"), Task("a", "classification"), Task("b", "regression")]
    est = small(tasks=tasks, max_epochs=20).fit(inputs(), y)
    assert est.task_names_ == ["c", "a", "b"]
    assert est.classes_[0].tolist() == [False, True]
    assert est.classes_[1].tolist() == ["a", "b"]
    predicted = est.predict(inputs())
    assert set(predicted[:, 1]) <= {"a", "b"}
    assert list(est.predict_frame(inputs()).columns) == ["c", "a", "b"]
    # Scores do not depend on the order of the columns, and surplus columns are ignored there.
    scores = est.score_tasks(inputs(), y)
    assert list(scores) == ["c", "a", "b"]
    assert scores == est.score_tasks(inputs(), y[["b", "c", "a"]].assign(more=1))
    # An array is matched by position, in the order of the list.
    assert scores == est.score_tasks(inputs(), y[["c", "a", "b"]].to_numpy(dtype=object))


def test_arrays_match_by_position() -> None:
    y = np.c_[np.array(REAL), np.arange(N) % 3]
    est = small(tasks=[Task("size", "regression"), Task("grade", "classification")])
    est.fit(inputs(), y)
    assert est.task_names_ == ["size", "grade"]
    assert est.classes_.tolist() == [0.0, 1.0, 2.0]
    assert list(est.predict_frame(inputs()).columns) == ["size", "grade"]


def words(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"flag": ["no", "yes"] * 12, "size": REAL} | columns)


def gated(gate: Any, flag: str = "classification") -> list[Task]:
    return [Task("flag", flag), Task("size", "regression", given=gate)]


NO_SIZE = words(size=[np.nan, 1.5] * 12)

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
        words(size=np.nan),
        "Task 'size' has no observed value.*24 rows.*Drop the column",
    ),
    "sentinel everywhere": (
        {"missing_values": -1},
        np.full(N, -1.0),
        "Task 'y0' has no observed value",
    ),
    "dates": (
        {},
        words(size=pd.date_range("2020-01-01", periods=N)),
        "Column 'size' of y holds datetime64.*convert",
    ),
    "polars dates": (
        {},
        pl.DataFrame({"day": pd.date_range("2020-01-01", periods=N).to_numpy()}),
        "Column 'day' of y holds datetime64",
    ),
    "bytes": ({}, np.array(WORD, dtype="S"), "Column 'y0' of y holds |S1 values.*convert"),
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
    "gate label is a category that was not observed": (
        {
            "tasks": [
                Task("flag", "ordinal", categories=["no", "maybe", "yes"]),
                Task("size", "regression", given=("flag", "maybe")),
            ]
        },
        NO_SIZE,
        r"Task 'size'.*'flag' has no such label; its observed labels are \['no', 'yes'\]",
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
        r"Task 'y0': labels of mixed types \['int', 'str'\]",
    ),
    "ragged list": ({}, [["a", 1.0]] * 23 + [["b"]], "different lengths"),
    "three dimensions": ({}, np.zeros((N, 2, 2)), r"y has shape \(24, 2, 2\)"),
    "no column": ({}, np.zeros((N, 0)), r"y has shape \(24, 0\)"),
    "frame without a column": ({}, pd.DataFrame(index=range(N)), r"y has shape \(24, 0\)"),
    "column name twice": (
        {},
        pd.DataFrame(np.c_[REAL, REAL], columns=["a", "a"]),
        "unique column names.*'a'",
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
        "Task 'flag': class_weight.*not all 0",
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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, "regression"), TypeError, "name must be a str, not empty, got 3"),
        (("a", "ranking"), ValueError, "Task 'a': kind='ranking' is unknown"),
        (("a", "regression", "flag"), ValueError, "Task 'a': given='flag' is not understood"),
        (("a", "regression", ("flag",)), ValueError, "is not understood"),
        (("a", "regression", ("flag", [])), ValueError, "is not understood"),
    ],
)
def test_bad_task(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        Task(*arguments)


@pytest.mark.parametrize(
    "labels", ["yes", ["yes"], ("yes",), {"yes"}, frozenset(["yes"]), np.array(["yes"])]
)
def test_gate_labels_may_come_in_any_collection(labels: Any) -> None:
    est = small(tasks=gated(("flag", labels))).fit(inputs(), NO_SIZE)
    assert est.n_applicable_.tolist() == [24, 12]


@pytest.mark.parametrize(("flag", "label"), [(BOOL, 1), (BOOL, True), ([0.0, 1.0] * 12, True)])
def test_gate_labels_are_compared_by_value(flag: list[Any], label: Any) -> None:
    y = NO_SIZE.assign(flag=flag)
    est = small(tasks=gated(("flag", label))).fit(inputs(), y)
    assert est.n_applicable_.tolist() == [24, 12]


# -- the rule for holes ----------------------------------------------------------------------

CHAIN = [
    Task("flag", "classification"),
    Task("shape", "classification", given=("flag", 1)),
    Task("depth", "regression", given=("shape", "a")),
]
nan = np.nan

# flag, shape, depth, and whether shape and depth count as applicable.
HOLES = [
    (1, "a", 1.0, True, True),  # all observed
    (1, "b", nan, True, False),  # depth not applicable
    (0, None, nan, False, False),  # shape not applicable, hence depth neither
    (nan, None, nan, False, False),  # nothing known
    (nan, "a", 2.0, True, True),  # gate missing: the value is used, and tells
    (1, None, 3.0, True, True),  # shape applicable but missing; depth's value is used
    (1, None, nan, True, False),  # shape missing, so that nothing is known of depth
    (1, "a", nan, True, True),  # depth applicable but missing
    (0, None, nan, False, False),
]


def chain_frame(rows: list[tuple[Any, ...]] = HOLES) -> pd.DataFrame:
    return pd.DataFrame([row[:3] for row in rows], columns=["flag", "shape", "depth"])


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_counts_of_observed_and_applicable_targets(order: list[int]) -> None:
    encoder = TargetEncoder([CHAIN[k] for k in order])
    encoded = encoder.fit_encode(chain_frame())
    shape, depth = (sum(row[k] for row in HOLES) for k in (3, 4))
    assert encoder.n_observed_.tolist() == [[7, 4, 3][k] for k in order]
    assert encoder.n_applicable_.tolist() == [[9, shape, depth][k] for k in order]
    seen = chain_frame().notna().to_numpy()[:, order]
    np.testing.assert_array_equal(encoded.weight > 0, seen)
    assert np.isfinite(encoded.values).all()
    assert (encoded.values[~seen] == 0).all()


@pytest.mark.parametrize(
    ("row", "task"),
    [
        ((0, "a", nan), "shape"),  # refused by its gate
        ((1, "b", 1.0), "depth"),
        ((0, None, 1.0), "depth"),  # its gate is missing, but refused further up the chain
    ],
)
def test_value_where_a_gate_up_the_chain_does_not_hold(row: tuple[Any, ...], task: str) -> None:
    encoder = TargetEncoder(CHAIN)
    with pytest.raises(ValueError, match=rf"Task '{task}' exists only .* 1 rows, the first \[9\]"):
        encoder.fit_encode(chain_frame([*HOLES, row]))
    encoder.fit_encode(chain_frame())
    with pytest.raises(ValueError, match=rf"Task '{task}' exists only .* 1 rows, the first \[9\]"):
        encoder.read(chain_frame([*HOLES, row]))


def test_cells_of_weight_zero_are_not_observed() -> None:
    """Neither their labels, nor their values where a gate does not hold, nor their gates."""
    y = chain_frame([*HOLES, (0, "c", 9.0)])
    weight = np.ones((10, 3))
    weight[9, 1:] = 0
    encoder = TargetEncoder(CHAIN)
    encoder.fit_encode(y, weight)
    assert encoder.n_observed_.tolist() == [8, 4, 3]
    assert encoder.kinds_[1].classes_.tolist() == ["a", "b"]
    assert encoder.kinds_[2].mean_ == pytest.approx(2.0)
    np.testing.assert_array_equal(encoder.encode(y, weight).weight[9], [1, 0, 0])
    with pytest.raises(ValueError, match="Task 'shape' exists only"):
        encoder.encode(y)


def test_scores_leave_out_cells_of_weight_zero() -> None:
    """A value where a gate does not hold may be switched off there, as in `fit`."""
    y, weight = words(), np.ones((N, 2))
    weight[::2, 1] = 0
    est = small(tasks=gated(("flag", "yes"))).fit(inputs(), y, sample_weight=weight)
    scores = est.score_tasks(inputs(), y, sample_weight=weight)
    assert scores == est.score_tasks(inputs(), y.assign(size=[np.nan, 1] * 12 * y["size"]))


@settings(max_examples=60, deadline=None)
@given(gates=st.lists(st.integers(-1, 3), max_size=4), seed=st.integers(0, 10**6))
def test_holes_of_an_arbitrary_tree_of_gates(gates: list[int], seed: int) -> None:
    """Targets blanked where their gates refuse are accepted, and counted."""
    gates = [-1, *(min(gate, k) for k, gate in enumerate(gates))]  # a gate stands further left
    rng, n = np.random.default_rng(seed), 60
    y = rng.integers(3, size=(n, len(gates))).astype(float)
    y[rng.random(y.shape) < 0.2] = np.nan
    tasks, refused, known = [], np.zeros(y.shape, dtype=bool), np.ones(y.shape, dtype=bool)
    for k, gate in enumerate(gates):
        labels = [[0, 1, 2], [1], [0, 2]][rng.integers(3)]
        tasks.append(Task(f"t{k}", "classification", None if gate < 0 else (f"t{gate}", labels)))
        if gate >= 0:
            assume(np.isin(labels, y[:, gate]).all())
            known[:, k] = ~np.isnan(y[:, gate])
            refused[:, k] = refused[:, gate] | (known[:, k] & ~np.isin(y[:, gate], labels))
            y[refused[:, k], k] = np.nan
    seen = ~np.isnan(y)
    assume((np.nanmax(y, axis=0, initial=-1) > np.nanmin(y, axis=0, initial=3)).all())
    order = rng.permutation(len(tasks))
    encoder = TargetEncoder([tasks[k] for k in order])
    encoder.fit_encode(pd.DataFrame(y, columns=[task.name for task in tasks]))
    assert encoder.n_observed_.tolist() == seen.sum(axis=0)[order].tolist()
    applicable = ~refused & (known | seen)
    assert encoder.n_applicable_.tolist() == applicable.sum(axis=0)[order].tolist()
    # One value where a gate says no is refused.
    for k in range(len(tasks)):
        if refused[:, k].any():
            bad, row = y.copy(), np.flatnonzero(refused[:, k])[0]
            bad[row, k] = y[seen[:, k], k][0]
            with pytest.raises(ValueError, match=rf"'t{k}' exists only .* the first \[{row}\]"):
                encoder.read(pd.DataFrame(bad, columns=[task.name for task in tasks]))


# -- conditional output ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def chained() -> tuple[MultiTaskCNNEstimator, np.ndarray]:
    """A fitted chain color > shape > depth, with a second leaf, predictions of every kind."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(200, 3))
    color = np.digitize(X[:, 0], [-0.5, 0.5])  # 0, 1, 2
    shape = np.where(color == 1, None, np.where(X[:, 1] > 0, "round", "flat"))
    depth = np.where(shape == "round", X[:, 2] + 3, np.nan)
    width = np.where(color == 2, X[:, 2] - 3, np.nan)
    names = np.array(["blue", "green", "red"])[color]
    y = pd.DataFrame({"color": names, "shape": shape, "depth": depth, "width": width})
    tasks = [
        Task("depth", "regression", given=("shape", "round")),
        Task("color", "classification"),
        Task("width", "regression", given=("color", "red")),
        Task("shape", "classification", given=("color", ["blue", "red"])),
    ]
    est = small(tasks=tasks, max_epochs=60, learning_rate=1e-2, weight_decay=0.0).fit(X, y)
    return est, X


def test_conditional_output_by_hand(chained: tuple[MultiTaskCNNEstimator, np.ndarray]) -> None:
    est, X = chained
    estimate = est.predict(X)
    color, shape = est.predict_proba(X)  # blue, green, red; flat, round
    coloured, rounded = color[:, [0, 2]].sum(axis=1), shape[:, 1]
    depth, width = (estimate[:, k].astype(float) for k in (0, 2))
    assert np.isfinite(depth).all()
    assert np.isfinite(width).all()
    np.testing.assert_array_equal(estimate[:, 1], np.take(est.classes_[0], color.argmax(axis=1)))
    np.testing.assert_array_equal(estimate[:, 3], np.take(est.classes_[1], shape.argmax(axis=1)))

    expected = est.set_params(conditional_output="expected").predict(X)
    np.testing.assert_allclose(expected[:, 0].astype(float), depth * coloured * rounded)
    np.testing.assert_allclose(expected[:, 2].astype(float), width * color[:, 2])
    np.testing.assert_array_equal(expected[:, [1, 3]], estimate[:, [1, 3]])

    blank = est.set_params(conditional_output="nan").predict(X)
    est.set_params(conditional_output="estimate")
    is_coloured = np.isin(estimate[:, 1], ["blue", "red"])
    holds = {
        0: is_coloured & (estimate[:, 3] == "round"),
        1: np.ones(len(X), bool),
        2: estimate[:, 1] == "red",
        3: is_coloured,
    }
    for k, hold in holds.items():
        assert hold.any()
        assert k == 1 or not hold.all()
        np.testing.assert_array_equal(blank[hold, k], estimate[hold, k])
        assert pd.isna(blank[~hold, k]).all()
        hole = None if k == 3 else float
        assert all(v is None if hole is None else isinstance(v, hole) for v in blank[~hold, k])


def test_conditional_output_acts_on_predict_alone(
    chained: tuple[MultiTaskCNNEstimator, np.ndarray],
) -> None:
    """Scores are of the estimate, and probabilities are P(label | gate), whatever it says."""
    est, X = chained
    estimate = est.predict_frame(X)
    y, proba = masked(estimate), est.predict_proba(X)
    est.set_params(conditional_output="nan")
    try:
        assert est.score_tasks(X, y) == dict.fromkeys(est.task_names_, 1.0)
        for one, other in zip(est.predict_proba(X), proba, strict=True):
            np.testing.assert_array_equal(one, other)
        pd.testing.assert_frame_equal(est.predict_frame(X), y, check_dtype=False)
    finally:
        est.set_params(conditional_output="estimate")


def masked(frame: pd.DataFrame) -> pd.DataFrame:
    """Predictions as a y: blank where the gates do not hold."""
    shape = frame["shape"].where(frame["color"] != "green")
    return pd.DataFrame(
        {
            "depth": frame["depth"].where(shape == "round"),
            "color": frame["color"],
            "width": frame["width"].where(frame["color"] == "red"),
            "shape": shape,
        }
    )


# -- classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["a", 1.0, True, 3])
def test_one_observed_label(label: Any) -> None:
    """It fits, warns, and predicts the label."""
    hole = None if isinstance(label, str) else np.nan
    y = pd.DataFrame({"only": [label, hole] * 12, "size": REAL}, dtype=object)
    est = small(tasks=[Task("only", "classification"), Task("size", "regression")])
    with pytest.warns(UserWarning, match=rf"Task 'only' has one observed label, {label!r}"):
        est.fit(inputs(), y)
    assert est.classes_.tolist() == [label]
    assert set(est.predict_frame(inputs())["only"]) == {label}
    np.testing.assert_array_equal(est.predict_proba(inputs()), np.ones((N, 1)))


def test_class_weights_exactly() -> None:
    y = pd.DataFrame({"a": ["x", "x", "x", "y", None, "x"], "b": [1, 0, 0, 0, 0, np.nan]})
    weight = TargetEncoder(class_weight="balanced").fit_encode(y).weight
    x, z = 5 / (2 * 4), 5 / (2 * 1)
    np.testing.assert_allclose(weight[:, 0], [x, x, x, z, 0, x])
    np.testing.assert_allclose(weight[:, 1], [z, x, x, x, x, 0])
    weight = TargetEncoder(class_weight={"b": {1: 3.0}}).fit_encode(y).weight
    np.testing.assert_allclose(weight[:, 0], [1, 1, 1, 1, 0, 1])
    np.testing.assert_allclose(weight[:, 1], [3, 1, 1, 1, 1, 0])
    both = {"a": "balanced", "b": {0: 0.5, 1: 2.0, 7: 9.0}}  # 7: a label of other folds
    weight = TargetEncoder(class_weight=both).fit_encode(y, [2, 1, 1, 1, 1, 1]).weight
    x, z = 6 / (2 * 5), 6 / (2 * 1)
    np.testing.assert_allclose(weight[:, 0], [2 * x, x, x, z, 0, x])
    np.testing.assert_allclose(weight[:, 1], [4, 0.5, 0.5, 0.5, 0.5, 0])


@pytest.mark.parametrize("labels", [["0.25", "0.75"], ["1", "2"], [0.25, 0.75], [False, True]])
def test_class_weights_of_labels_that_look_like_ints(labels: list[Any]) -> None:
    encoder = TargetEncoder({"y0": "classification"}, class_weight={"y0": {labels[0]: 4.0}})
    weight = encoder.fit_encode(np.array([*labels, *labels])).weight
    assert weight[:, 0].tolist() == [4, 1, 4, 1]


def test_class_weight_changes_predictions_of_its_task() -> None:
    X, y = inputs(60), (inputs(60)[:, 0] > 1).astype(float)
    plain = small(max_epochs=20).fit(X, y).predict_proba(X)[:, 1]
    balanced = small(max_epochs=20, class_weight="balanced").fit(X, y).predict_proba(X)[:, 1]
    assert balanced.mean() > plain.mean() + 0.1


def test_balanced_weights_count_a_weight_of_two_as_the_row_twice() -> None:
    y, repeat = np.array([0.0, 0, 1, 0, 1]), np.array([1, 2, 3, 1, 1])
    weighted = TargetEncoder(class_weight="balanced").fit_encode(y, repeat)
    repeated = TargetEncoder(class_weight="balanced").fit_encode(np.repeat(y, repeat))
    np.testing.assert_allclose(
        np.repeat(weighted.weight[:, 0] / repeat, repeat), repeated.weight[:, 0]
    )


# -- another y, through the fitted encoder ---------------------------------------------------


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
    with pytest.raises(ValueError, match="label 'mid' was not seen in fit"):
        small(tasks=est.tasks_).fit(inputs(), y, X_val=inputs(), y_val=["mid"] * N)


def test_scoring_reads_labels_by_value() -> None:
    est = small().fit(inputs(), words(flag=BOOL))
    expected = est.score_tasks(inputs(), words(flag=BOOL))
    for flag in ([0, 1] * 12, [0.0, 1.0] * 12, pd.array(BOOL, dtype="boolean")):
        assert est.score_tasks(inputs(), words(flag=flag)) == expected
    # An unknown label is a wrong prediction, not an error.
    assert est.score_tasks(inputs(), words(flag=[5, 6] * 12))["flag"] == 0


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


def test_zeros_where_the_gate_does_not_hold_are_told_as_such() -> None:
    """And not as values that a gamma task cannot hold: the gate is asked first."""
    y = pd.DataFrame({"buys": ["yes", "no"] * 12, "spend": [3.5, 0.0] * 12})
    tasks = [Task("buys", "classification"), Task("spend", "gamma", given=("buys", "yes"))]
    message = (
        r"'spend' exists only given \('buys', 'yes'\), .* 12 rows, the first \[1, 3, 5, 7, 9\]"
    )
    with pytest.raises(ValueError, match=message):
        small(tasks=tasks).fit(inputs(), y)
    est = small(tasks=tasks).fit(inputs(), y.replace({"spend": 0.0}, np.nan))
    with pytest.raises(ValueError, match=message):
        est.score(inputs(), y)


def test_a_dict_may_hold_tasks() -> None:
    y = pd.DataFrame({"a": [0, 1] * 12, "b": REAL, "c": np.arange(24)})
    task = Task("b", "quantile", quantile=0.9)
    est = small(tasks={"b": task, "c": "poisson"}).fit(inputs(), y)
    assert est.tasks_ == [Task("a", "classification"), task, Task("c", "poisson")]
    with pytest.raises(ValueError, match=r"tasks holds \['b'\] under another name"):
        small(tasks={"c": task}).fit(inputs(), y)


def test_codes_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    class Logarithm(kinds.RegressionTarget):
        def encode(self, values: Any) -> Any:
            with np.errstate(divide="ignore"):
                return np.log(values.astype(float))

    monkeypatch.setitem(kinds.KINDS, "logarithm", Logarithm)
    with pytest.raises(ValueError, match="Task 'y0': kind='logarithm' makes 0 a code that is not"):
        small(tasks={"y0": "logarithm"}).fit(inputs(), np.arange(N))
