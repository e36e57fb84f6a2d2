"""Gates: the rule for holes, and what is predicted where a target may not apply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _columns import BOOL, NO_SIZE, N, gated, inputs, make_columns, small, words
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.gates import chains, gates_first, holds, resolve_gates
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import ClassificationTarget, RegressionTarget
from sklearn_mtl.kinds.values import as_column


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


# -- the rule for holes -----------------------------------------------------------------------

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


# -- conditional output ---------------------------------------------------------------------


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


@pytest.mark.filterwarnings("ignore:Mismatched null-like values:FutureWarning")  # of pandas 2
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


# -- one by one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gates", "order"),
    [
        ([None, None], [0, 1]),
        ([1, None], [1, 0]),
        ([None, 0, 1, 2], [0, 1, 2, 3]),
        ([3, 0, None, 2], [2, 3, 0, 1]),
        ([2, 2, None, None, 0], [2, 3, 0, 1, 4]),
    ],
)
def test_gates_come_before_what_depends_on_them(gates: Any, order: list[int]) -> None:
    assert gates_first(gates) == order


@pytest.mark.parametrize("gates", [[0], [1, 0], [None, 2, 3, 1]])
def test_gates_in_a_circle(gates: Any) -> None:
    with pytest.raises(ValueError, match=r"given= of the tasks runs in a circle\. Remove one"):
        gates_first(gates)


@pytest.mark.parametrize(
    ("labels", "wanted", "expected"),
    [
        (["a", "b", "c"], "b", [False, True, False]),
        (["a", "b", "c"], ["c", "a"], [True, False, True]),
        ([0, 1, 2], 1.0, [False, True, False]),
        ([0.0, 1.0], [True], [False, True]),
        ([False, True], 1, [False, True]),
        (["1", "2"], 1, [False, False]),
        ([1, 2], "1", [False, False]),
        ([True, "a"], ["a"], [False, True]),
    ],
)
def test_where_a_gate_holds(labels: list[Any], wanted: Any, expected: list[bool]) -> None:
    task = Task("size", "regression", given=("flag", wanted))
    assert holds(task, as_column(labels)).tolist() == expected


def test_a_label_that_is_rare_is_a_warning() -> None:
    """As in a fold without it; all of them unknown are an error where the target was observed."""
    kinds = [ClassificationTarget().fit(np.array(["a", "b"]), np.ones(2)), RegressionTarget()]

    def resolved(labels: Any, size: Any, flag: Any = ("a", "b", None)) -> list[int | None]:
        tasks = [Task("flag", "classification"), Task("size", "regression", given=("flag", labels))]
        return resolve_gates(tasks, kinds, make_columns(flag=flag, size=size))

    assert resolved(["a", "b"], [1.0, 2.0, None]) == [None, 0]
    with pytest.warns(UserWarning, match=r"'flag' has no label \['z'\] here; .* \['a', 'b'\]"):
        assert resolved(["a", "z"], [1.0, None, None]) == [None, 0]
    with pytest.raises(ValueError, match="'flag' has no such label"):
        resolved(["y", "z"], [1.0, None, None])
    with pytest.warns(UserWarning, match=r"'flag' has no such label here"):  # the gate is a hole
        assert resolved(["y", "z"], [None, None, 1.0]) == [None, 0]
    assert resolved(["y", "z"], [None, None, None]) == [None, 0]  # another warning tells


def test_a_label_that_the_gate_does_not_list_is_an_error() -> None:
    """Be it observed or not: no row can have it."""
    flag = Task("flag", "classification", categories=["a", "b", "c"])
    kinds = [flag.make_kind().fit(np.array(["a", "b"]), np.ones(2)), RegressionTarget()]
    columns = make_columns(flag=["a", "b"], size=[None, None])

    def resolved(labels: Any) -> list[int | None]:
        tasks = [flag, Task("size", "regression", given=("flag", labels))]
        return resolve_gates(tasks, kinds, columns)

    assert resolved("c") == [None, 0]
    message = r"'flag' has no such label; its categories are \['a', 'b', 'c'\]"
    with pytest.raises(ValueError, match=message):
        resolved("d")
    with pytest.raises(ValueError, match=r"'flag' has no label \['d'\]; its categories are"):
        resolved(["a", "d"])


def test_probabilities_of_a_chain_are_multiplied() -> None:
    """And all of its gates have to hold; a task without one always applies."""
    tasks = [
        Task("depth", "regression", given=("shape", "a")),
        Task("flag", "classification"),
        Task("shape", "classification", given=("flag", [1, 2])),
    ]
    predicted = [np.zeros(4), np.array([1, 1, 0, 2]), np.array(["a", "b", "a", "a"])]
    share = {(1, "shape"): [0.9, 0.8, 0.2, 0.6], (2, "depth"): [0.5, 0.4, 0.9, 0.5]}
    found = chains(tasks, [2, None, 1], predicted, lambda k, t: np.array(share[k, t.name]))
    assert [hold.tolist() for hold, _ in found] == [
        [True, False, False, True],
        [True] * 4,
        [True, True, False, True],
    ]
    expected = [[0.45, 0.32, 0.18, 0.3], [1] * 4, [0.9, 0.8, 0.2, 0.6]]
    np.testing.assert_allclose([probability for _, probability in found], expected)
