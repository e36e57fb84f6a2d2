"""Numbers within bounds, as people hold them: intervals, pairs of columns, text."""

from __future__ import annotations

import itertools
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_mtl import Task, to_intervals
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import CensoredAmount, CensoredTarget, RegressionTarget

INF, NAN = np.inf, np.nan
PAIR = Task("dose", "regression", lower="low", upper="high")
LOW = [1.0, 2.0, NAN, 4.0, NAN, 3.0]
HIGH = [1.0, NAN, 5.0, 6.0, NAN, 3.0]
INTERVALS = [
    *(pd.Interval(1, 1), pd.Interval(2, INF), pd.Interval(-INF, 5), pd.Interval(4, 6)),
    *(None, pd.Interval(3, 3)),
]
TEXT = ["1", ">2", "<= 5", "4 - 6", None, "3.0"]


def encoded(tasks: Any, y: Any) -> tuple[TargetEncoder, Any]:
    encoder = TargetEncoder(tasks)
    return encoder, encoder.fit_encode(y)


AS_HELD: dict[str, tuple[Any, Any]] = {
    "columns": ([PAIR], pd.DataFrame({"low": LOW, "high": HIGH})),
    "columns of polars": ([PAIR], pl.DataFrame({"high": HIGH, "low": LOW}, strict=False)),
    "columns with infinities": (
        [PAIR],
        pd.DataFrame({"low": [1, 2, -INF, 4, NAN, 3], "high": [1, INF, 5, 6, NAN, 3]}),
    ),
    "columns by dict": ({"dose": PAIR}, pd.DataFrame({"low": LOW, "high": HIGH})),
    "an array": ([PAIR], np.column_stack([LOW, HIGH])),
    "an array, by dict": (
        {"dose": Task("dose", "regression", lower="y0", upper="y1")},
        np.column_stack([LOW, HIGH]),
    ),
    "a named end": (
        [Task("low", "regression", lower="low", upper="high")],
        pd.DataFrame({"low": LOW, "high": HIGH}),
    ),
    "objects": (None, pd.DataFrame({"dose": pd.Series(INTERVALS, dtype=object)})),
    "intervals": (None, pd.DataFrame({"dose": pd.arrays.IntervalArray(INTERVALS)})),
    "a list": (None, INTERVALS),
    "declared": ({"y0": "regression"}, INTERVALS),
    "numbers among them": (None, [1.0, *INTERVALS[1:5], 3]),
    "text": (None, to_intervals(TEXT)),
    "Arrow": (None, [pd.Interval(1, 1, "both"), *INTERVALS[1:]]),
}


@pytest.mark.parametrize("held", AS_HELD)
def test_all_ways_say_the_same(held: str) -> None:
    tasks, y = AS_HELD[held]
    if held == "numbers among them":
        tasks = {"y0": "regression"}
    encoder, targets = encoded(tasks, y)
    assert isinstance(encoder.kinds_[0], CensoredTarget)
    rows, codes, weight = encoder.codes_of(0, targets)
    kind = encoder.kinds_[0]
    seen = weight > 0
    assert np.arange(6)[rows][seen].tolist() == [0, 1, 2, 3, 5]
    assert weight[seen].tolist() == [1] * 5
    for end, expected in (("lower", [1, 2, -INF, 4, 3]), ("upper", [1, INF, 5, 6, 3])):
        found = codes[end][seen] * kind.scale_ + kind.center_
        np.testing.assert_allclose(found, expected)
    assert encoder.n_observed_.tolist() == [5]
    columns, _ = encoder.read(y)  # as `score` does
    assert columns[0].seen.sum() == 5


def test_exact_numbers_are_plain_numbers() -> None:
    """However they are held: the kind, and all that is learned, is that of numbers."""
    known, plain = encoded({"y0": "regression"}, LOW[:2] + LOW[3:4])
    for tasks, y in [
        ([PAIR], pd.DataFrame({"low": [1.0, 2.0, 4.0], "high": [1.0, 2.0, 4.0]})),
        (None, to_intervals(["1", "2", "4"])),
        (None, [pd.Interval(v, v, closed="neither") for v in (1, 2, 4)]),
    ]:
        encoder, targets = encoded(tasks, y)
        assert type(encoder.kinds_[0]) is RegressionTarget
        assert targets.reach is None
        assert (targets.values == plain.values).all()
        assert vars(encoder.kinds_[0]) == vars(known.kinds_[0])


def test_what_says_nothing_is_a_hole() -> None:
    everything = [pd.Interval(-INF, INF), pd.Interval(0, INF), pd.Interval(1, 2), pd.Interval(3, 3)]
    _, targets = encoded({"y0": "regression"}, everything)
    assert targets.weight[:, 0].tolist() == [0, 1, 1, 1]
    encoder, targets = encoded({"y0": "gamma"}, everything)
    assert isinstance(encoder.kinds_[0], CensoredAmount)
    assert targets.weight[:, 0].tolist() == [0, 0, 1, 1]
    _, targets = encoded(
        [Task("dose", "gamma", lower="a", upper="b")],
        pd.DataFrame({"a": [0.0, 0.0, 1.0], "b": [NAN, 2.0, 1.0]}),
    )
    assert targets.weight[:, 0].tolist() == [0, 1, 1]


def test_bins_are_classes_and_overlapping_intervals_numbers() -> None:
    bins = list(pd.cut([1.0, 2.0, 3.0], 3))
    assert encoded(None, bins * 2)[0].tasks_ == [Task("y0", "classification")]
    cut = pd.Series(pd.cut([1.0, 2.0, 3.0] * 2, [-INF, 1.5, INF]))
    assert encoded(None, cut)[0].tasks_ == [Task("y0", "classification")]
    assert encoded({"y0": "regression"}, bins * 2)[0].kinds_[0].center_ == pytest.approx(2, abs=0.1)
    assert encoded(None, [*bins, pd.Interval(1, 3)])[0].tasks_ == [Task("y0", "regression")]


FROM, TO = pd.Timestamp("2021-03-01"), pd.Timestamp("2021-03-04")
DATES = pd.Interval(FROM, TO)
HOURS = pd.Interval(pd.Timedelta("1h"), pd.Timedelta("3h"))


@pytest.mark.parametrize(
    "held",
    [
        [pd.Interval(5, INF), pd.Interval(-INF, 3), pd.Interval(3, 4)],
        [pd.Interval(-INF, 0), pd.Interval(0, 1), pd.Interval(1, INF)],
        to_intervals(["2-4", "5-7", "8-9"]),
        [1.0, pd.Interval(3, 4), pd.Interval(5, 6)],
        [pd.Interval(0, 1), 3, None],
        [pd.Interval(0, 1), Decimal("2.5")],
    ],
    ids=["limits", "the whole line", "ranges", "a number", "a whole number", "a decimal"],
)
def test_what_pandas_does_not_cut_is_measured(held: Any) -> None:
    """Bins are half open and finite, or of a type that says so; nothing else is a class unsaid."""
    encoder, targets = encoded(None, held)
    assert [task.kind for task in encoder.tasks_] == ["regression"]
    assert np.isfinite(targets.values).all()
    declared, _ = encoded({encoder.names[0]: "regression"}, held)
    assert vars(declared.kinds_[0]).keys() == vars(encoder.kinds_[0]).keys()


def test_bins_of_a_type_are_classes_to_infinity() -> None:
    cut = pd.Series(pd.cut([1.0, 2.0, 3.0] * 2, [-INF, 1.5, 2.5, INF]))
    assert encoded(None, cut)[0].tasks_ == [Task("y0", "classification")]


def test_intervals_are_classes_where_they_are_declared() -> None:
    """Also where they overlap, or are of dates: labels are compared one by one."""
    for held in ([pd.Interval(1, 3), pd.Interval(2, 4)] * 3, [DATES, pd.Interval(FROM, FROM)] * 3):
        encoder, targets = encoded({"y0": "classification"}, held)
        assert targets.values[:, 0].tolist() in ([0, 1] * 3, [1, 0] * 3)
        assert list(encoder.decode(np.array([[2.0, 0.0]]))[0]) == [encoder.kinds_[0].classes_[0]]


OF_DATES: dict[str, list[Any]] = {
    "dates": [DATES, pd.Interval(FROM, FROM + pd.Timedelta("9D"))],
    "durations": [HOURS, pd.Interval(pd.Timedelta("2h"), pd.Timedelta("9h"))],
    "an index": list(pd.IntervalIndex.from_arrays([FROM, FROM], [TO, TO.ceil("9D")])),
    "dates among intervals of numbers": [pd.Interval(1, 3), DATES, pd.Interval(2, 5)],
    "dates after exact intervals": [pd.Interval(1, 1), DATES],
    "dates among numbers": [1.0, DATES, 2.5],
    "durations among dates": [DATES, HOURS],
    "time zones": [DATES, pd.Interval(FROM.tz_localize("UTC"), TO.tz_localize("UTC"))],
}


@pytest.mark.parametrize("kind", [None, "regression", "gamma", "quantile"])
@pytest.mark.parametrize("held", OF_DATES)
def test_intervals_of_dates_are_refused_by_name(held: str, kind: str | None) -> None:
    values = OF_DATES[held]
    row = next(i for i, v in enumerate(values) if v in (DATES, HOURS))
    what = "durations" if values[row] == HOURS else "dates"
    for y in (values, pd.DataFrame({"seen": pd.Series(values, dtype=object)})):
        name = "seen" if isinstance(y, pd.DataFrame) else "y0"
        message = f"Task {name!r}: row {row} of y holds {values[row]!r}, an interval of {what}. "
        with pytest.raises(ValueError, match=re.escape(message) + "Pass numbers for both ends"):
            encoded(None if kind is None else {name: kind}, y)


@pytest.mark.parametrize("held", OF_DATES)
def test_text_beside_intervals_of_dates(held: str) -> None:
    with pytest.raises(ValueError, match=r"Row \d holds Interval\(.*, an interval of d\w+. Pass"):
        to_intervals(OF_DATES[held])


def test_classes_of_dates_and_numbers() -> None:
    with pytest.raises(ValueError, match=r"Task 'y0': labels such as Interval.* have no order"):
        encoded({"y0": "classification"}, [DATES, pd.Interval(1, 2)])


def test_infinity_is_no_measurement() -> None:
    for value in (pd.Interval(INF, INF), pd.Interval(-INF, -INF)):
        with pytest.raises(ValueError, match=r"Task 'y0': row 1 of y holds .*, infinity. Use NaN"):
            encoded({"y0": "regression"}, [pd.Interval(1, 2), value])
    with pytest.raises(ValueError, match="Row 1 holds '>1e999', a number that float64 cannot"):
        to_intervals(["2", ">1e999"])


def test_names_of_an_array_are_the_tasks_alone() -> None:
    """Columns without names are known by their places: y0, y1, ... may be names of tasks."""
    y = np.column_stack([[0.0, 1, 0], [1.0, 2, 3], [1.0, 2, NAN], [1.0, 2, 4]])
    for names in itertools.permutations(["y0", "y1", "y2", "y3"], 3):
        first, pair, last = names
        tasks = [
            Task(first, "classification"),
            Task(pair, "regression", lower="y3", upper="y0"),
            Task(last, "regression"),
        ]
        encoder, targets = encoded(tasks, y)
        assert encoder.names == list(names)
        assert encoder.bounded.tolist() == [False, True, False]
        assert targets.reach[:, 1].tolist() == [0, 0, INF]
        assert targets.values[:, 2] == pytest.approx((y[:, 3] - 7 / 3) / y[:, 3].std())
        columns, _ = encoder.read(y)
        assert columns[2].values.tolist() == [1, 2, 4]
        frame = pd.DataFrame(y, columns=["a", "b", "c", "d"])
        assert encoder.read(frame)[0][2].values.tolist() == [1, 2, 4]
        column, _ = encoder.read_task(1, y[:, 1:3])
        assert column.seen.all()
        unnamed = pd.DataFrame(y)  # whose columns are called 0, 1, ...
        assert encoded(tasks, unnamed)[0].bounded.tolist() == [False, True, False]


def test_bounds_belong_to_one_task() -> None:
    both = [PAIR, Task("high", "regression")], [PAIR, Task("b", "gamma", lower="low", upper="b")]
    for tasks, taken in zip(both, ("high", "low"), strict=True):
        y = pd.DataFrame({"low": LOW, "high": HIGH, "b": LOW})
        with pytest.raises(ValueError, match=f"'dose' and {tasks[1].name!r} both take .*{taken!r}"):
            encoded(tasks, y)


def test_pairs_beside_others() -> None:
    y = pd.DataFrame({"a": [0, 1, 0], "low": [1.0, 2, 3], "high": [1.0, 2, NAN], "b": [1.0, 2, 4]})
    tasks = [Task("b", "regression"), PAIR, Task("a", "classification")]
    encoder, targets = encoded(tasks, y)
    assert encoder.names == ["b", "dose", "a"]
    assert encoder.bounded.tolist() == [False, True, False]
    assert (targets.reach[:, [0, 2]] == 0).all()
    assert encoder.read(y.assign(other="text"))[0][1].seen.all()
    array = y[["b", "low", "high", "a"]].to_numpy()
    found, again = encoded(tasks, array)
    assert (again.values == targets.values).all()
    assert found.names == encoder.names
    by_dict = encoded({"dose": PAIR}, y)[0]
    assert by_dict.names == ["a", "dose", "b"]


# -- text ----------------------------------------------------------------------------------------


def test_text() -> None:
    for text, low, high in [
        *(("<0.1", -INF, 0.1), (" <= 0.1 ", -INF, 0.1), ("≤.1", -INF, 0.1)),
        *((">5", 5, INF), (">=5.", 5, INF), ("≥ 5e2", 500, INF)),
        *(("3.2", 3.2, 3.2), ("=3.2", 3.2, 3.2), ("-3", -3, -3), ("> -3", -3, INF)),
        *(("2-4", 2, 4), ("2 to 4", 2, 4), ("2 - 4", 2, 4), ("-4 - -2", -4, -2)),
        *((7, 7, 7), (True, 1, 1), (np.float32(0.5), 0.5, 0.5), (pd.Interval(1, 2), 1, 2)),
    ]:
        (found,) = to_intervals([text])
        assert (found.left, found.right, found.closed) == (low, high, "both")


def test_text_keeps_its_index_and_name() -> None:
    y = pd.Series(["<1", None, "", NAN, pd.NA, "2"], index=list("abcdef"), name="ic50")
    found = to_intervals(y)
    assert found.index.equals(y.index)
    assert found.name == "ic50"
    assert found.isna().tolist() == [False, True, True, True, True, False]
    assert to_intervals(pl.Series("x", ["<1"])).name == "x"
    assert len(to_intervals([])) == 0


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["1", ">5mg"], ValueError, "Row 1 holds '>5mg', which is no number behind"),
        (["<0,1"], ValueError, "write decimals with a point"),
        (["n.d."], ValueError, "make None of what was not measured"),
        (["~5"], ValueError, "Row 0 holds '~5'"),
        (["4-2"], ValueError, "a range that ends below its beginning"),
        ([(1, 2)], ValueError, "neither text nor a number"),
        (pd.DataFrame({"a": ["<5"]}), TypeError, "values is a DataFrame of shape (1, 1)"),
        (np.array([["<5", "2"]]), TypeError, "values is a ndarray of shape (1, 2)"),
        ("<5", TypeError, "values='<5' is no column"),
        (5, TypeError, "values=5 is no column"),
    ],
)
def test_text_that_is_no_number(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        to_intervals(values)


# -- mistakes ------------------------------------------------------------------------------------

FRAME = pd.DataFrame({"low": [1.0, 2.0, 3.0], "high": [1.0, 5.0, NAN]})


@pytest.mark.parametrize(
    ("tasks", "y", "message"),
    [
        (
            [PAIR],
            FRAME.assign(high=[1.0, 1.5, NAN]),
            "Task 'dose': 'low' is above 'high' in 1 rows, the first [1], with 2 and 1.5. Swap",
        ),
        ([PAIR], FRAME.assign(low=INF), "Column 'low' of y holds infinity"),
        ([PAIR], FRAME.assign(low=["<1", "2", "3"]), "column 'low' of y holds '<1'. Bounds are nu"),
        ([PAIR], FRAME[["low"]], "Task 'dose': y has no column 'high'; it has ['low']"),
        ([PAIR], FRAME.assign(dose=1.0), "y has a column of this name beside 'low' and 'high'"),
        ([PAIR], FRAME.assign(other=1.0), "columns without a task ['other']"),
        ([PAIR], np.ones((3, 3)), "of which 1 take two columns, lower= and upper=: 2 in all"),
        ([PAIR], FRAME.assign(high=NAN), "known by its lower bounds alone"),
        (
            [Task("dose", "gamma", lower="low", upper="high")],
            FRAME.assign(low=-1.0),
            "Task 'dose': the target must hold values > 0, got bounds -1 and 1 (in 3 rows)",
        ),
        (
            {"y0": "regression"},
            [pd.Interval(1, 2), "3", pd.Interval(1, 5)],
            "Task 'y0': row 1 of y holds '3' beside intervals of numbers",
        ),
        (
            {"y0": "regression"},
            list(pd.interval_range(pd.Timestamp("2020-01-01"), periods=3)),
            "an interval of dates",
        ),
        ({"y0": "quantile"}, INTERVALS, "Task 'y0': QuantileTarget takes no bounds"),
        ({"y0": "poisson"}, INTERVALS, "Task 'y0': PoissonTarget takes no bounds"),
    ],
)
def test_mistakes_in_bounds(tasks: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        encoded(tasks, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lower": "a"}, "upper=None is no name of a column. Pass both"),
        ({"upper": "a"}, "lower=None is no name of a column. Pass both"),
        ({"lower": "a", "upper": 1}, "upper=1 is no name of a column"),
        ({"lower": 0.5, "upper": 3.0}, "lower=0.5 is no name of a column"),
        ({"lower": "a", "upper": "a"}, "lower and upper are both 'a'. Name two columns."),
    ],
)
def test_mistakes_in_tasks(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Task 'dose': {message}")):
        Task("dose", "regression", **options)
    with pytest.raises(ValueError, match="takes no bounds"):
        Task("dose", "classification", lower="a", upper="b")


def test_bounds_after_exact_numbers() -> None:
    """What was fitted on exact numbers scores bounds, and does not learn from them."""
    encoder, _ = encoded({"y0": "regression"}, [1.0, 2.0, 4.0])
    columns, _ = encoder.read(INTERVALS)
    assert columns[0].seen.sum() == 5
    with pytest.raises(
        ValueError, match=r"Task 'y0': y holds the bounds 2 and inf, but all values"
    ):
        encoder.encode(INTERVALS)
    with pytest.raises(ValueError, match="first call of partial_fit"):
        encoder.encode_more(INTERVALS, add=True)
    bounded, _ = encoded({"y0": "regression"}, INTERVALS)
    assert (bounded.encode([1.0, 2.0]).reach == 0).all()


# -- values that mean *not observed* -------------------------------------------------------------


@pytest.mark.parametrize("missing", [-9, [-9, 99], {-9.0}, (99.0, -9)], ids=repr)
@pytest.mark.parametrize("dtype", [object, "interval"])
def test_missing_values_are_looked_for_in_intervals(missing: Any, dtype: Any) -> None:
    """As in a pair of columns: from -9 to -9 is a hole, and an end of -9 is no bound."""
    given = [(1, 1), (-9, -9), (2, INF), (-9, 5), (4, 6), (-INF, -9), (3, 3)]
    intervals = [pd.Interval(float(low), float(high)) for low, high in given]
    held = intervals if dtype is object else pd.arrays.IntervalArray(intervals)
    column = pd.DataFrame({"dose": pd.Series(held, dtype=object if dtype is object else None)})
    pair = pd.DataFrame({"low": [g[0] for g in given], "high": [g[1] for g in given]})
    found = TargetEncoder({"dose": "regression"}, missing).fit_encode(column)
    expected = TargetEncoder([PAIR], missing).fit_encode(pair)
    assert found.weight.ravel().tolist() == [1, 0, 1, 1, 1, 0, 1]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_values_are_looked_for_in_exact_numbers_that_stand_among_intervals() -> None:
    y = [pd.Interval(2, INF), pd.Interval(-9, -9), -9, 1.0, 2.0, pd.Interval(0, 3)]
    encoder = TargetEncoder({"y0": "regression"}, -9)
    assert encoder.fit_encode(y).weight.ravel().tolist() == [1, 0, 0, 1, 1, 1]
    column, _ = encoder.read_task(0, y)
    assert column.seen.tolist() == [True, False, False, True, True, True]


def test_text_that_spells_a_missing_value_is_a_hole() -> None:
    y = to_intervals(["-9", "<1", "2.5", "3", "=-9"]).to_frame("dose")
    encoder = TargetEncoder({"dose": "regression"}, -9)
    assert encoder.fit_encode(y).weight.ravel().tolist() == [0, 1, 1, 1, 0]


def test_exact_intervals_and_holes_alone_are_numbers() -> None:
    y = pd.DataFrame({"dose": [pd.Interval(v, v) for v in (1.0, -9.0, 2.0, 5.0)]})
    encoder = TargetEncoder(None, -9)
    assert encoder.fit_encode(y).weight.ravel().tolist() == [1, 0, 1, 1]
    assert encoder.kinds_ == [RegressionTarget()]
