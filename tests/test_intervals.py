"""Intervals and sets: how many of the new targets are inside, and what they look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _inputs import make_table
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import (
    MultiTaskCNNEstimator,
    Task,
    predict_interval,
    predict_interval_frame,
    predict_set,
    task_view,
)
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl.kinds import RegressionTarget
from sklearn_mtl.losses import KindLoss
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

LABELS = ["low", "mid", "high", "top"]
N_NEW = 3000


def small(tasks=None, **params):
    defaults = {"trunk": DenseTrunk((16,)), "random_state": 0, "learning_rate": 0.01}
    return MultiTaskCNNEstimator(tasks, **(defaults | params))


def every_kind(n, seed=0):
    """A column of each kind; the amount exists for one class."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    plain = X[:, 0] + rng.normal(size=n)
    grade = np.digitize(X[:, 1] + rng.normal(size=n), [-1, 0, 1])
    label = np.where(X[:, 2] + rng.normal(size=n) > 0, "yes", "no")
    amount = np.exp(X[:, 3] + 0.5 * rng.normal(size=n))
    y = pd.DataFrame(
        {
            "number": plain,
            "quantile": X[:, 0] + rng.exponential(size=n),
            "count": rng.poisson(3 * np.exp(X[:, 3] / 2)).astype(float),
            "label": label,
            "amount": np.where(label == "yes", amount, np.nan),
            "grade": np.array(LABELS)[grade],
        }
    )
    tasks = [
        Task("number", "regression"),
        Task("quantile", "quantile", quantile=0.8),
        Task("count", "poisson"),
        Task("label", "classification"),
        Task("amount", "gamma", given=("label", "yes")),
        Task("grade", "ordinal", categories=LABELS),
    ]
    return X, y, tasks


NUMBERS = ["number", "quantile", "count", "amount"]


@pytest.fixture(scope="module")
def fitted():
    X, y, tasks = every_kind(900)
    return small(tasks).fit(X, y)


@pytest.fixture(scope="module")
def new():
    return every_kind(N_NEW, seed=1)[:2]


def inside(interval, truth):
    return (interval[..., 0] <= truth) & (truth <= interval[..., 1])


# -- coverage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("task", NUMBERS)
def test_as_many_new_numbers_as_asked_for_are_inside(task, level, fitted, new):
    """Of conditional ones, among the rows in which they apply."""
    X, y = new
    found = fitted.predict_interval_frame(X, level)
    found = found[[f"{task}_lower", f"{task}_upper"]].to_numpy()
    seen = y[task].notna()
    # The scores of 450 rows and more say where a level is, up to some hundredths.
    low = level - 0.04
    high = level + (0.09 if task == "count" else 0.04)  # counts are few, and both ends are inside
    assert low < inside(found, y[task])[seen].mean() < high


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_as_many_new_labels_as_asked_for_are_in_their_sets(level, fitted, new):
    X, y = new
    label, grade = fitted.predict_set(X, level)
    labels, grades = fitted.classes_
    held = label[np.arange(N_NEW), np.searchsorted(labels, y["label"])]
    assert level - 0.05 < held.mean() < level + 0.05
    # Sets of ordered classes hold one at least.
    held = grade[np.arange(N_NEW), [list(grades).index(g) for g in y["grade"]]]
    least = (fitted.predict_frame(X)["grade"].to_numpy() == y["grade"]).mean()
    assert level - 0.05 < held.mean() < max(level, least) + 0.08


def test_intervals_of_normal_noise_are_those_of_its_quantiles():
    """Around a line that is known well, with a standard deviation that is the same everywhere."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 2))
    y = X @ [1.0, -2.0] + 0.5 * rng.normal(size=3000)
    estimator = small().fit(X, y)
    levels = [0.5, 0.8, 0.9, 0.95]
    X_new = rng.normal(size=(500, 2))
    found = estimator.predict_interval(X_new, levels)
    for j, level in enumerate(levels):
        half = norm.ppf((1 + level) / 2) * 0.5
        assert np.median(found[:, 1, j] - found[:, 0, j]) == pytest.approx(2 * half, rel=0.07)
    middle, std = estimator.predict(X_new, return_std=True)
    np.testing.assert_allclose(found.mean(axis=1), middle[:, None] * np.ones(4), atol=0.12)
    assert np.median(std) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize("how", ["with the prediction", "with an input", "around a point"])
def test_intervals_are_wide_where_noise_is_large(how):
    def draw(n, seed):
        rng = np.random.default_rng(seed)
        X = rng.uniform(-2, 2, size=(n, 3))
        size = {
            "with the prediction": np.exp(X[:, 0]),
            "with an input": np.exp(1.5 * X[:, 1]),
            "around a point": 0.1 + np.abs(X[:, 1]),
        }[how]
        return X, 3 * X[:, 0] + size * rng.normal(size=n)

    estimator = MultiTaskCNNEstimator(random_state=0).fit(*draw(1000, 0))
    X, y = draw(N_NEW, 1)
    prediction, std = estimator.predict(X, return_std=True)
    found = estimator.predict_interval(X)
    error, width = np.abs(y - prediction), found[:, 1] - found[:, 0]
    assert np.corrcoef(width, error)[0, 1] > 0.15
    assert np.corrcoef(std, error)[0, 1] > 0.15
    assert 0.86 < inside(found, y).mean() < 0.94


def test_groups_are_new_ones():
    """Rows of a group err alike: what holds for a row of a group that was seen is too narrow."""

    def draw(n_groups, seed):
        rng = np.random.default_rng(seed)
        X = np.repeat(rng.normal(size=(n_groups, 2)), 12, axis=0) + 1e-3 * rng.normal()
        y = X[:, 0] + np.repeat(rng.normal(size=n_groups), 12) + 0.1 * rng.normal(size=len(X))
        return X + 1e-4 * rng.normal(size=X.shape), y, np.repeat(np.arange(n_groups), 12)

    X, y, groups = draw(60, 0)
    X_new, y_new, _ = draw(400, 1)
    told = small(max_epochs=20, learning_rate=0.02).fit(X, y, groups=groups)
    untold = small(max_epochs=20, learning_rate=0.02).fit(X, y)
    assert inside(told.predict_interval(X_new), y_new).mean() > 0.86
    assert inside(untold.predict_interval(X_new), y_new).mean() < 0.86
    # 60 groups stand for 60 rows, however many there are.
    assert fitted_of(told).errors["n"][0] == pytest.approx(60)
    assert fitted_of(untold).errors["n"][0] == pytest.approx(720)


@pytest.mark.parametrize(
    "given", ["rows held out", "X_val", "a network for images", "a single member", "warm start"]
)
def test_validation_rows_do_where_members_leave_out_none(given):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 4))
    y = np.column_stack([X[:, 0] + rng.normal(size=1200), X[:, 1] + rng.normal(size=1200) > 0])
    y[::5, 0] = np.nan
    trunk = ConvTrunk(width=2) if given == "a network for images" else DenseTrunk((8,), n_members=1)
    estimator = small(trunk=trunk, max_epochs=15, validation_fraction=0.4)
    if given == "a network for images":
        X = np.repeat(np.repeat(X.reshape(-1, 1, 2, 2), 4, axis=2), 4, axis=3)
    train, new = np.arange(600), np.arange(600, 1200)
    if given == "rows held out":
        estimator.set_params(early_stopping=True).fit(X[train], y[train])
    elif given == "warm start":
        estimator.set_params(trunk=DenseTrunk((8,)), warm_start=True).fit(X[train], y[train])
        before = fitted_of(estimator).errors
        estimator.fit(X[train], y[train])
        assert before
        assert fitted_of(estimator).errors == {}
        estimator.fit(X[:300], y[:300], X_val=X[300:600], y_val=y[300:600])
    else:
        estimator.fit(X[:300], y[:300], X_val=X[300:600], y_val=y[300:600])
    seen = new[~np.isnan(y[new, 0])]
    found = estimator.predict_interval(X[seen])
    assert found.shape == (len(seen), 2, 2)
    assert 0.82 < inside(found[:, 0], y[seen, 0]).mean() < 0.96
    held = estimator.predict_set(X[new])[np.arange(600), y[new, 1].astype(int)]
    assert 0.82 < held.mean() < 0.97


def test_members_that_learned_rows_by_heart_do_not_mislead():
    """They are near one another on rows that they have seen, and far apart on new ones."""
    shares = []
    for seed in range(5):
        X = np.random.default_rng(seed).normal(size=(2400, 6))
        y = X[:, 0] * X[:, 1] + X[:, 2] * X[:, 3]
        estimator = small(trunk=DenseTrunk((64, 64)), max_epochs=40, learning_rate=0.02)
        estimator.fit(X[:200], y[:200])
        shares.append(inside(estimator.predict_interval(X[400:]), y[400:]).mean())
    assert 0.85 < np.mean(shares) < 0.95


# -- what they look like -------------------------------------------------------------------------


def test_levels_are_the_last_axis(fitted, new):
    X = new[0][:5]
    one, several = fitted.predict_interval(X, 0.8), fitted.predict_interval(X, (0.5, 0.8))
    assert one.shape == (5, 6, 2)
    assert several.shape == (5, 6, 2, 2)
    assert one.tolist() == several[..., 1].tolist() or pd.isna(one[:, 3]).all()
    label, grade = fitted.predict_set(X, [0.5, 0.8, 0.9])
    assert label.shape == (5, 2, 3)
    assert grade.shape == (5, 4, 3)
    assert grade.dtype == bool
    np.testing.assert_array_equal(fitted.predict_set(X, 0.8)[1], grade[..., 1])


def test_more_confidence_is_wider(fitted, new):
    levels = np.linspace(0.02, 0.98, 25)
    found = fitted.predict_interval(new[0][:200], levels)
    prediction = fitted.predict(new[0][:200])
    for k, name in enumerate(fitted.task_names_):
        if name in NUMBERS:
            low, high = found[:, k].astype(float).transpose(1, 0, 2)
            assert (np.diff(low) <= 0).all()
            assert (np.diff(high) >= 0).all()
            assert (low <= prediction[:, k, None].astype(float)).all()
            assert (high >= prediction[:, k, None].astype(float)).all()
    for sets in fitted.predict_set(new[0][:200], levels):
        assert (np.diff(sets.astype(int)) >= 0).all()


def test_counts_and_amounts_are_not_negative(fitted, new):
    found = fitted.predict_interval_frame(new[0], 0.99)
    assert (found[["count_lower", "amount_lower"]] >= 0).to_numpy().all()
    assert (found["number_lower"] < 0).any()


def test_ordered_classes_have_neighbours(fitted, new):
    """The lowest and the highest label of the set, with all between and the predicted one."""
    X = new[0][:300]
    found, grade = fitted.predict_interval(X, 0.9)[:, 5], fitted.predict_set(X, 0.9)[1]
    rank = {label: place for place, label in enumerate(LABELS)}
    low, high = (np.array([rank[label] for label in side]) for side in found.T)
    predicted = np.array([rank[label] for label in fitted.predict(X)[:, 5]])
    assert ((low <= predicted) & (predicted <= high)).all()
    places = np.arange(4)
    expected = (low[:, None] <= places) & (places <= high[:, None])
    np.testing.assert_array_equal(grade, expected)
    assert 1 < grade.sum(axis=1).mean() < 4


def test_classes_without_an_order_have_no_interval(fitted, new):
    assert pd.isna(fitted.predict_interval(new[0][:5])[:, 3]).all()


def test_a_vector_has_no_axis_of_tasks():
    X, y = make_table(80)
    estimator = small(max_epochs=3).fit(X, y[:, 2])
    assert estimator.predict_interval(X).shape == (80, 2)
    assert estimator.predict_interval(X, [0.5, 0.9]).shape == (80, 2, 2)
    assert estimator.predict_interval(X).dtype == np.float64
    assert [found.shape for found in estimator.predict(X, return_std=True)] == [(80,), (80,)]
    estimator = small(max_epochs=3).fit(X, np.where(X[:, 0] > 0, "a", "b"))
    assert estimator.predict_set(X).shape == (80, 2)


def test_standard_deviations_are_those_of_numbers(fitted, new):
    X, y = new
    predicted, std = fitted.predict(X, return_std=True)
    np.testing.assert_array_equal(predicted, fitted.predict(X))
    assert std.shape == predicted.shape
    assert np.isnan(std[:, [3, 5]]).all()
    for k in (0, 1, 2, 4):
        error = (y.iloc[:, k] - predicted[:, k].astype(float)).dropna()
        assert np.sqrt((std[error.index, k] ** 2).mean()) == pytest.approx(error.std(), rel=0.2)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_have_a_pair_of_columns_per_interval(frame):
    X, y, tasks = every_kind(120)
    y = y.astype({"label": object, "grade": object})
    given = frame({name: y[name].tolist() for name in ("grade", "label", "number")})
    estimator = small([tasks[5], tasks[3], tasks[0]], max_epochs=3).fit(X, given)
    found = estimator.predict_interval_frame(X[:7], 0.8)
    assert isinstance(found, frame)
    assert list(found.columns) == ["grade_lower", "grade_upper", "number_lower", "number_upper"]
    array = estimator.predict_interval(X[:7], 0.8)
    assert found["number_upper"].to_list() == array[:, 2, 1].tolist()
    assert found["grade_lower"].to_list() == array[:, 0, 0].tolist()
    found = estimator.predict_interval_frame(X[:7], [0.5, 0.95])
    assert list(found.columns)[-4:] == [
        *("number_lower_0.5", "number_upper_0.5", "number_lower_0.95", "number_upper_0.95"),
    ]


def test_frames_refuse_a_level_twice(fitted, new):
    with pytest.raises(ValueError, match="holds a level twice"):
        fitted.predict_interval_frame(new[0][:3], [0.5, 0.9, 0.5])
    assert fitted.predict_interval(new[0][:3], [0.5, 0.9, 0.5]).shape == (3, 6, 2, 3)


# -- conditional tasks ---------------------------------------------------------------------------


def test_holes_where_a_task_is_predicted_not_to_apply(fitted, new):
    X = new[0][:300]
    estimator = clone(fitted).set_params(max_epochs=3).fit(*every_kind(300)[:2])
    whole = estimator.predict_interval(X, [0.5, 0.9])
    sets = estimator.predict_set(X)
    estimator.conditional_output = "nan"
    found = estimator.predict_interval(X, [0.5, 0.9])
    refused = estimator.predict(X)[:, 3] == "no"
    assert 0 < refused.sum() < 300
    assert pd.isna(found[refused, 4]).all()
    assert (found[~refused, 4] == whole[~refused, 4]).all()
    assert (found[:, :3] == whole[:, :3]).all()
    for a, b in zip(sets, estimator.predict_set(X), strict=True):
        np.testing.assert_array_equal(a, b)
    predicted, std = estimator.predict(X, return_std=True)
    assert (np.isnan(std[:, 4]) == pd.isna(predicted[:, 4])).all()
    assert np.isfinite(std[:, :3]).all()


@pytest.fixture(scope="module")
def spending():
    """Costs exist for those who had any; the others spent 0. Costs of a visit, by class."""

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(n, 3))
        any_cost = rng.random(n) < 1 / (1 + np.exp(-1 - 2 * X[:, 0]))
        cost = np.exp(X[:, 1] / 2 + 0.5 * rng.normal(size=n))
        change = 2 + X[:, 2] + rng.normal(size=n)
        y = pd.DataFrame({"any": np.where(any_cost, "yes", "no").astype(object)})
        y["cost"], y["change"] = (np.where(any_cost, v, np.nan) for v in (cost, change))
        return X, y

    given = ("any", "yes")
    tasks = [
        Task("any", "classification"),
        Task("cost", "gamma", given=given),
        Task("change", "regression", given=given),
    ]
    estimator = small(tasks, conditional_output="expected").fit(*draw(1500, 0))
    return estimator, *draw(N_NEW, 1)


@pytest.mark.parametrize("task", [1, 2])
def test_intervals_of_expected_numbers_hold_those_that_are_0_where_they_do_not_apply(
    spending, task
):
    estimator, X, y = spending
    truth = y.iloc[:, task].fillna(0).to_numpy()
    refused = estimator.predict_proba(X)[:, 0]
    for level in (0.5, 0.8, 0.9, 0.95):
        found = estimator.predict_interval(X, level)[:, task].astype(float)
        share = inside(found, truth).mean()
        # Where 0 alone is more probable than asked for, more than asked for are inside.
        assert level - 0.03 < share < np.maximum(level, refused).mean() + 0.35 * (1 - level)
        predicted = estimator.predict(X)[:, task].astype(float)
        assert inside(found, predicted).all()


def test_intervals_of_expected_numbers_leave_0_out_where_a_task_applies_for_sure(spending):
    estimator, X, _ = spending
    likely = estimator.predict_proba(X)[:, 1]
    low, high = estimator.predict_interval(X, 0.5)[:, 2].astype(float).T
    assert (low[likely > 0.9] > 0).mean() > 0.5
    assert ((low <= 0) & (high >= 0))[likely < 0.8].all()


def test_intervals_of_expected_numbers_grow_with_the_level(spending):
    estimator, X, _ = spending
    levels = np.linspace(0.02, 0.98, 49)
    found = estimator.predict_interval(X[:400], levels)[:, 1:].astype(float)
    assert (np.diff(found[:, :, 0]) <= 1e-9).all()
    assert (np.diff(found[:, :, 1]) >= -1e-9).all()


def test_deviations_of_expected_numbers_are_those_around_them(spending):
    estimator, X, y = spending
    predicted, std = estimator.predict(X, return_std=True)
    for k in (1, 2):
        error = y.iloc[:, k].fillna(0).to_numpy() - predicted[:, k].astype(float)
        assert np.sqrt((std[:, k] ** 2).mean()) == pytest.approx(error.std(), rel=0.1)
        assert np.corrcoef(std[:, k], np.abs(error))[0, 1] > 0.1
    # Views are about those to whom the task applies.
    view = task_view(estimator, "cost")
    seen = y["cost"].notna()
    assert 0.86 < inside(view.predict_interval(X[seen]), y["cost"][seen]).mean() < 0.94


# -- weights, repeated rows, units ---------------------------------------------------------------


def test_a_weight_of_two_is_the_row_twice():
    X, y, tasks = every_kind(200)
    twice = np.arange(200) % 3 == 0
    weight = np.where(twice, 2.0, 1.0)
    rows = np.concatenate([np.arange(200), np.flatnonzero(twice)])
    # In full batches, the order of the rows makes no difference.
    params = {"batch_size": 1000, "max_epochs": 5, "precision": "float64"}
    weighted = small(tasks, **params).fit(X, y, sample_weight=weight)
    repeated = small(tasks, **params).fit(X[rows], y.iloc[rows])
    levels = [0.5, 0.9]
    a, b = (e.predict_interval_frame(X, levels) for e in (weighted, repeated))
    pd.testing.assert_frame_equal(a, b, rtol=1e-4)
    for a, b in zip(weighted.predict_set(X), repeated.predict_set(X), strict=True):
        assert (a == b).mean() > 0.999


def test_units_of_y_are_those_of_intervals():
    X, y = make_table(150)
    y = y[:, 2]
    one = small(max_epochs=5).fit(X, y).predict_interval(X, [0.5, 0.9])
    for scale, shift in [(1e-8, 0), (1e150, 0), (7.0, 1e4)]:
        other = small(max_epochs=5).fit(X, scale * y + shift).predict_interval(X, [0.5, 0.9])
        np.testing.assert_allclose((other - shift) / scale, one, rtol=1e-3, atol=2e-3)


def test_what_is_met_exactly_has_no_width():
    X, _ = make_table(60)
    estimator = small(max_epochs=3).fit(X, np.column_stack([np.full(60, 7.0), X[:, 0]]))
    found, (_, std) = estimator.predict_interval(X), estimator.predict(X, return_std=True)
    np.testing.assert_allclose(found[:, 0], 7.0)
    np.testing.assert_allclose(std[:, 0], 0, atol=1e-6)


def test_few_rows_have_infinite_intervals():
    """For 0.9 there have to be nine: the tenth would be beyond all others once in ten times."""
    X, _ = make_table(60)
    y = np.column_stack([X[:, 0] > 0, X[:, 1], X[:, 1]])
    y[8:, 1], y[9:, 2] = np.nan, np.nan
    estimator = small(max_epochs=2).fit(X, y)
    with pytest.warns(UserWarning, match=r"0\.9 asks for 9 rows .* fewer, .* \{'y1': 8\.0\}"):
        found = estimator.predict_interval(X, [0.5, 0.9])
    with pytest.warns(UserWarning, match="'y1': 8.0"):
        assert np.isinf(estimator.task_view("y1").predict_interval(X)).all()
    with pytest.warns(UserWarning, match="'y0': 60.0"):
        assert estimator.predict_set(X, 0.99).all()
    assert np.isinf(found[:, 1, :, 1]).all()
    assert np.isfinite(found[:, 1, :, 0]).all()
    assert np.isfinite(found[:, 2]).all()


def test_tasks_without_a_target_have_holes():
    X, y = make_table(60)
    y[:, 1] = np.nan
    tasks = [Task("a", "classification"), Task("b", "regression"), Task("c", "regression")]
    with pytest.warns(UserWarning, match="no observed value"):
        estimator = small(tasks, max_epochs=2).fit(X, y)
    found, (_, std) = estimator.predict_interval(X), estimator.predict(X, return_std=True)
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[:, 2]).all()
    assert np.isnan(std[:, 1]).all()


def test_validation_data_without_a_task_say_nothing_of_it():
    X, y = make_table(90)
    y_val = y.copy()
    y_val[:, 1] = np.nan
    estimator = small(trunk=DenseTrunk((4,), n_members=1), max_epochs=2)
    estimator.fit(X, y, X_val=X, y_val=y_val)
    with pytest.warns(UserWarning, match="'y1': 0.0"):
        found = estimator.predict_interval(X)
    assert np.isinf(found[:, 1]).all()
    assert np.isfinite(found[:, 2]).all()
    assert np.isnan(estimator.predict(X, return_std=True)[1][:, 1]).all()


def test_tasks_without_a_target_have_columns_of_holes():
    """Those of numbers and of ordered classes, whether or not their labels were declared."""
    X, y = make_table(60)
    frame = pd.DataFrame({"a": y[:, 0], "b": np.nan, "c": None, "d": np.nan, "e": y[:, 2]})
    tasks = [
        Task("a", "classification"),
        Task("b", "ordinal", categories=[1.0, 2.0, 3.0]),
        Task("c", "ordinal", categories=LABELS),
        Task("d", "poisson"),
        Task("e", "regression"),
    ]
    with pytest.warns(UserWarning, match="no observed value"):
        estimator = small(tasks, max_epochs=2).fit(X, frame)
    found = estimator.predict_interval_frame(X)
    assert list(found) == [f"{task}_{end}" for task in "bcde" for end in ("lower", "upper")]
    assert found[list(found)[:6]].isna().all(axis=None)
    assert found[["e_lower", "e_upper"]].notna().all(axis=None)
    assert pd.isna(estimator.predict_interval(X)[:, :4]).all()


@pytest.mark.parametrize(
    ("kind", "value"),
    [(k, v) for k in ("regression", "quantile", "poisson") for v in (0.0, 3.0, 0.1)]
    + [("gamma", 3.0), ("gamma", 0.1)],  # amounts are above 0
)
@pytest.mark.parametrize("held_out", [False, True])
def test_what_was_always_observed_is_inside(kind, value, held_out):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    estimator = small({"y0": kind}, max_epochs=4)
    if held_out:
        estimator.set_params(trunk=DenseTrunk((8,), n_members=1), early_stopping=True)
        estimator.set_params(validation_fraction=0.4)
    estimator.fit(X, np.full(60, value))
    X_new = 5 * rng.normal(size=(500, 2))
    for level in (0.1, 0.9):
        found = estimator.predict_interval(X_new, level)
        assert inside(found, value).all()
        assert inside(found, estimator.predict(X_new)).all()
        assert (found >= 0).all() or kind in ("regression", "quantile")
    assert np.isfinite(estimator.predict(X_new, return_std=True)[1]).all()


# -- few rows, and weights -----------------------------------------------------------------------


@pytest.mark.parametrize("n", [10, 20])
def test_as_many_are_inside_if_there_are_few_rows(n):
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, X_new = rng.normal(size=(2, 400, 3))
        y, y_new = (x[:, 0] + 0.5 * rng.normal(size=400) for x in (X, X_new))
        count = rng.poisson(3 * np.exp(X / 2)).astype(float)[:, 1]
        count_new = rng.poisson(3 * np.exp(X_new / 2)).astype(float)[:, 1]
        estimator = small({"y0": "regression", "y1": "poisson"}, max_epochs=15, random_state=seed)
        estimator.fit(X[:n], np.column_stack([y, count])[:n])
        found = estimator.predict_interval(X_new)
        shares.append(inside(found, np.column_stack([y_new, count_new])).mean())
    assert 0.87 < np.mean(shares) < 0.97


def test_rows_of_tiny_weight_are_not_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = np.column_stack([X[:, 0] + rng.normal(size=200), X[:, 1] > 0])
    weight = np.where(np.arange(200) < 8, 1.0, 1e-6)
    estimator = small(max_epochs=2).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(fitted_of(estimator).errors["n"], 8, rtol=1e-3)
    with pytest.warns(UserWarning, match=r"'y0': 8\.0"):
        assert np.isinf(estimator.predict_interval(X)[:, 0]).all()
    with pytest.warns(UserWarning, match=r"'y1': 8\.0"):
        assert estimator.predict_set(X).all()


def test_a_weight_of_two_is_the_validation_row_twice():
    X, y = make_table(80)
    X_val, y_val = make_table(30, seed=1)
    twice = np.flatnonzero(np.arange(30) % 4 == 0)
    rows, weight = np.concatenate([np.arange(30), twice]), np.ones(30)
    weight[twice] = 2
    params = {"trunk": DenseTrunk((8,), n_members=1), "max_epochs": 2, "precision": "float64"}
    weighted = small(**params).fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    repeated = small(**params).fit(X, y, X_val=X_val[rows], y_val=y_val[rows])
    for name, value in fitted_of(weighted).errors.items():
        np.testing.assert_allclose(value, fitted_of(repeated).errors[name], rtol=1e-6, err_msg=name)


# -- numbers within bounds -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["regression", "gamma"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_as_many_truths_are_inside_where_some_are_known_within_bounds(kind, share):
    """Also of those that are beyond: the truth of new rows is known here."""
    shares, ratios = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(2000, 3))
        y = X[:, 0] + 0.5 * X[:, 1] + 0.7 * rng.normal(size=2000)
        limit = np.quantile(y, 1 - share) + 0.5 * rng.normal(size=2000)
        beyond = (y > limit) & (share > 0)
        low, high = np.where(beyond, limit, y), np.where(beyond, np.inf, y)
        if kind == "gamma":
            y, low, high = np.exp(y), np.exp(low), np.exp(high)
        bounds = pd.DataFrame({"low": low, "high": high})
        tasks = [Task("y", kind, lower="low", upper="high")]
        estimator = small(tasks, random_state=seed, learning_rate=0.03, max_epochs=12)
        estimator.fit(X[:600], bounds[:600])
        view = task_view(estimator, "y")
        found, (_, std) = view.predict_interval(X[600:]), view.predict(X[600:], return_std=True)
        assert np.isfinite(found).all()
        assert np.isfinite(std).all()
        assert (found >= 0).all() or kind == "regression"
        shares.append(inside(found, y[600:]).mean())
        ratios.append(std.mean() / 0.7)
    assert 0.88 - share / 20 < np.mean(shares) < 0.94
    if kind == "regression":
        assert 0.85 < np.mean(ratios) < 1.15


def test_bounds_of_any_sort_make_intervals():
    """Below, above and between; a truth that is known on one side only makes nothing infinite."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 2))
    y = X[:, 0] + 0.5 * rng.normal(size=1500)
    low, high = y.copy(), y.copy()
    low[0::4], high[0::4] = np.floor(y[0::4]), np.ceil(y[0::4])
    low[1::4], high[1::4] = np.where(y > 1, 1, y)[1::4], np.where(y > 1, np.inf, y)[1::4]
    low[2::4], high[2::4] = np.where(y < 0, -np.inf, y)[2::4], np.where(y < 0, 0, y)[2::4]
    estimator = small([Task("y", "regression", lower="low", upper="high")])
    estimator.fit(X[:500], pd.DataFrame({"low": low, "high": high})[:500])
    found = task_view(estimator, "y").predict_interval(X[500:], [0.5, 0.9])
    for j, level in enumerate((0.5, 0.9)):
        assert level - 0.06 < inside(found[..., j], y[500:]).mean() < level + 0.06


def test_bounds_on_one_side_alone_say_nothing_of_errors():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 2))
    low, high = X[:, 0].copy(), X[:, 0].copy()
    high[40:] = np.inf
    estimator = small([Task("y", "regression", lower="low", upper="high")], max_epochs=2)
    y = pd.DataFrame({"low": low, "high": high})
    estimator.set_params(trunk=DenseTrunk((8,), n_members=1))
    estimator.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    with pytest.warns(UserWarning, match="'y': 0.0"):
        assert np.isinf(estimator.predict_interval(X)).all()


def test_rows_without_weight_do_not_count():
    X, y = make_table(120)
    weight = np.where(np.arange(120) < 60, 1.0, 0.0)
    params = {"max_epochs": 3, "batch_size": 200, "precision": "float64"}
    a = small(**params).fit(X, y, sample_weight=weight)
    b = small(**params).fit(X[:60], y[:60])
    np.testing.assert_allclose(a.predict_interval(X), b.predict_interval(X), rtol=1e-5)


# -- where there are none ------------------------------------------------------------------------


def nothing_left_out():
    X, y = make_table(60)
    return small(trunk=DenseTrunk((4,), n_members=1), max_epochs=2).fit(X, y), X


def test_who_left_out_nothing_says_so():
    estimator, X = nothing_left_out()
    for name in ("predict_interval", "predict_interval_frame", "predict_set"):
        assert not hasattr(estimator, name)
    with pytest.raises(AttributeError, match="Pass X_val and y_val to fit") as error:
        estimator.predict_interval(X)
    assert "early_stopping=True" in str(error.value)
    for function in (predict_interval, predict_interval_frame, predict_set):
        with pytest.raises(ValueError, match="left out no rows"):
            function(estimator, X)
    with pytest.raises(ValueError, match="There are no standard deviations: the fit left out"):
        estimator.predict(X, return_std=True)
    for name, method in [("y2", "predict_interval"), ("y0", "predict_set")]:
        view = estimator.task_view(name)
        assert not hasattr(view, method)
        with pytest.raises(AttributeError, match="the fit left out no rows"):
            getattr(view, method)(X)


def test_groups_that_take_all_folds_away_are_named():
    X, y = make_table(60)
    y[30:, 2] = np.nan
    groups = np.repeat([0, 1, 2], [30, 15, 15])
    with pytest.warns(UserWarning, match=r"groups has one label for all targets of \['y2'\]"):
        estimator = small(max_epochs=2).fit(X, y, groups=groups)
    with pytest.warns(UserWarning, match=r"groups has one label .* no intervals"):
        small(max_epochs=2).fit(X, y, groups=np.zeros(60))
    with pytest.raises(AttributeError, match="groups= has one label"):
        estimator.predict_interval(X)
    with pytest.raises(ValueError, match=r"groups has one label .* 'y0' needs: threshold"):
        small([Task("y0", "classification", threshold="f1")], max_epochs=2).fit(
            X, y[:, :1], groups=np.zeros(60)
        )
    # Validation data do, and so nothing is wanting.
    estimator.fit(X, y, groups=groups, X_val=X, y_val=y)
    assert hasattr(estimator, "predict_interval")


def test_streams_have_none():
    X, y = make_table(60)
    estimator = small(max_epochs=2).fit(X, y)
    assert hasattr(estimator, "predict_interval")
    estimator.partial_fit(X, y)
    assert not hasattr(estimator, "predict_interval")


def test_tasks_of_one_sort_lack_the_other():
    X, _ = make_table(60)
    classes = small(max_epochs=2).fit(X, X[:, :2] > 0)
    with pytest.raises(AttributeError, match="Use predict_set"):
        classes.predict_interval(X)
    with pytest.raises(ValueError, match=r"is a number\. Use predict_proba"):
        classes.predict(X, return_std=True)
    numbers = small(max_epochs=2).fit(X, X[:, :2])
    with pytest.raises(AttributeError, match="Use predict_interval"):
        numbers.predict_set(X)


@pytest.mark.parametrize(
    "confidence",
    [0, 1, 90, -0.1, 1.5, True, "0.9", None, [], [0.5, 1.0], [0.5, "a"], [[0.5]], np.nan, {0.9}],
    ids=repr,
)
def test_confidence_is_between_0_and_1(confidence, fitted, new):
    for method in (fitted.predict_interval, fitted.predict_interval_frame, fitted.predict_set):
        with pytest.raises(ValueError, match=r"confidence=.* is no level between 0 and 1") as error:
            method(new[0][:3], confidence)
        assert "Pass 0.9, or [0.5, 0.9]." in str(error.value)


@pytest.mark.parametrize("confidence", [np.float32(0.5), np.array([0.5, 0.9]), (0.5,), [0.9, 0.5]])
def test_levels_may_be_of_numpy(confidence, fitted, new):
    found = fitted.predict_interval(new[0][:3], confidence)
    assert found.shape[3:] == np.shape(confidence)


def test_nothing_before_a_fit():
    with pytest.raises(NotFittedError):
        small().predict_interval(np.zeros((3, 2)))


# -- pipelines, searches, views, files -----------------------------------------------------------


def test_functions_take_pipelines_and_searches():
    X, y, tasks = every_kind(150)
    X = pd.DataFrame(X, columns=list("abcd"), index=np.arange(150) + 7)
    estimator = small(tasks, max_epochs=2)
    pipeline = make_pipeline(StandardScaler(), estimator).fit(X, y)
    scaled = pipeline[:-1].transform(X)
    expected = pipeline[-1].predict_interval(scaled, 0.8)
    assert (predict_interval(pipeline, X, 0.8).astype(str) == expected.astype(str)).all()
    assert predict_interval_frame(pipeline, X, 0.8).index.equals(X.index)
    for a, b in zip(predict_set(pipeline, X), pipeline[-1].predict_set(scaled), strict=True):
        np.testing.assert_array_equal(a, b)
    search = GridSearchCV(estimator, {"learning_rate": [0.01]}, cv=2).fit(X, y)
    assert predict_interval(search, X, [0.5, 0.9]).shape == (150, 6, 2, 2)
    _, std = pipeline.predict(X, return_std=True)
    assert std.shape == (150, 6)


def test_views_have_those_of_their_task(fitted, new):
    X = new[0][:50]
    whole, (_, std) = fitted.predict_interval(X, [0.5, 0.9]), fitted.predict(X, return_std=True)
    for k in (0, 1, 2, 4):
        view = task_view(fitted, fitted.task_names_[k])
        np.testing.assert_array_equal(view.predict_interval(X, [0.5, 0.9]), whole[:, k])
        np.testing.assert_array_equal(view.predict_interval(X), whole[:, k, :, 1])
        predicted, deviation = view.predict(X, return_std=True)
        np.testing.assert_array_equal(predicted, view.predict(X))
        np.testing.assert_array_equal(deviation, std[:, k])
    view, sets = task_view(fitted, "grade"), fitted.predict_set(X)[1]
    order = [LABELS.index(label) for label in view.classes_]  # sorted, as text
    np.testing.assert_array_equal(view.predict_set(X), sets[:, order])
    found = fitted.predict_interval(X, [0.5, 0.9])[:, 5]
    np.testing.assert_array_equal(view.predict_interval(X, [0.5, 0.9]), found)
    np.testing.assert_array_equal(view.predict_interval(X, 0.9), found[..., 1])
    np.testing.assert_array_equal(
        task_view(fitted, "label").predict_set(X), fitted.predict_set(X)[0]
    )


@pytest.mark.parametrize("how", ["estimator", "pipeline", "search", "frozen", "file"])
def test_views_offer_what_the_estimator_does(how, tmp_path):
    X, y, tasks = every_kind(80)
    estimator = small(tasks, max_epochs=1)
    if how == "pipeline":
        estimator = make_pipeline(StandardScaler(), estimator)
    if how == "search":
        estimator = GridSearchCV(estimator, {"learning_rate": [0.01]}, cv=2)
    estimator.fit(X, y)
    if how == "frozen":
        estimator = FrozenEstimator(estimator)
    if how == "file":
        estimator.save(tmp_path / "m.safetensors")
        estimator = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors")
    intervals = predict_interval_frame(estimator, X)
    for task in tasks:
        view = task_view(estimator, task.name)
        has = f"{task.name}_lower" in intervals
        assert hasattr(view, "predict_interval") == has == (task.name != "label")
        assert hasattr(view, "predict_set") == (task.name in ("label", "grade"))
        if has:
            found = view.predict_interval(X)
            assert found[:, 1].tolist() == intervals[f"{task.name}_upper"].tolist()
    with pytest.raises(AttributeError, match=r"task 'label' is a class without an order"):
        task_view(estimator, "label").predict_interval(X)


@pytest.mark.parametrize("rule", ["estimate", "nan", "expected"])
@pytest.mark.parametrize("labels", ["categories", "enum", "integers"])
def test_frames_of_intervals_have_the_types_of_labels(labels, rule):
    X, y, _ = every_kind(90)
    given = ("label", "yes")
    frame = pd.DataFrame({"label": y["label"].astype(object)})
    applies = y["label"] == "yes"
    if labels == "integers":
        frame["grade"] = y["grade"].map(LABELS.index).where(applies).astype("Int64")
        frame["rank"] = y["grade"].map(LABELS.index)
    else:
        dtype = pd.CategoricalDtype(LABELS, ordered=True)
        frame["grade"] = y["grade"].where(applies).astype(dtype)
        frame["rank"] = y["grade"].astype(dtype)
    if labels == "enum":
        columns = {
            name: frame[name].astype(object).where(frame[name].notna(), None) for name in frame
        }
        frame = pl.DataFrame({name: column.tolist() for name, column in columns.items()})
        frame = frame.with_columns(pl.col("grade", "rank").cast(pl.Enum(LABELS)))
    tasks = [Task("label", "classification"), Task("grade", "ordinal", given=given)]
    estimator = small([*tasks, Task("rank", "ordinal")], max_epochs=2, conditional_output=rule)
    estimator.fit(X, frame)
    predicted, found = estimator.predict_frame(X), estimator.predict_interval_frame(X, [0.5, 0.8])
    for name in ("grade", "rank"):
        for end in ("lower", "upper"):
            for level in (0.5, 0.8):
                assert found[f"{name}_{end}_{level}"].dtype == predicted[name].dtype
    array = estimator.predict_interval(X, 0.8)
    held = [None if pd.isna(v) else v for v in found["grade_upper_0.8"].to_list()]
    assert held == [None if pd.isna(v) else v for v in array[:, 1, 1].tolist()]


def test_files_keep_them(fitted, new, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    again = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors")
    X, levels = new[0][:100], [0.3, 0.9, 0.99]
    pd.testing.assert_frame_equal(
        again.predict_interval_frame(X, levels), fitted.predict_interval_frame(X, levels)
    )
    for a, b in zip(again.predict_set(X, levels), fitted.predict_set(X, levels), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        again.predict(X, return_std=True)[1], fitted.predict(X, return_std=True)[1]
    )


def test_predictions_stay_as_they_were(fitted, new):
    """What is measured after a fit is measured, and changes nothing."""
    estimator = small(every_kind(10)[2], max_epochs=3).fit(*every_kind(100)[:2])
    before = estimator.predict_frame(new[0][:20])
    estimator.predict_interval(new[0][:20])
    pd.testing.assert_frame_equal(estimator.predict_frame(new[0][:20]), before)


def error_and_its_size(raw: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error; the second output learns the logarithm of the first one's."""
    error = raw[..., 0] - target
    size = (error.detach().abs() + 0.1).log()
    return error.square() + (raw[..., 1] - size).square()


class SizedTarget(RegressionTarget):
    """Numbers, and how large their errors are."""

    cell_loss = KindLoss(error_and_its_size, error_and_its_size)
    n_outputs = 2
    scale_output = 1

    def constant(self, codes: Any, weight: Any) -> Any:
        return np.zeros(2)

    def shrink(self, raw: Any, codes: Any, weight: Any) -> Any:
        slope, shift = super().shrink(raw, codes, weight)
        return slope, np.array([shift[0], 0.0])


class UnsizedTarget(SizedTarget):
    """The same, without a word on which output tells of errors."""

    scale_output = 0


def test_a_kind_says_which_output_tells_of_errors() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 2))
    std = np.exp(X[:, 1])
    y = 3 * X[:, 0] + std * rng.normal(size=1200)
    alike = []
    for kind in (SizedTarget(), UnsizedTarget()):
        est = MultiTaskCNNEstimator([Task("y", kind)], random_state=0).fit(X[:800], y[:800])
        low, high = est.predict_interval(X[800:], 0.9).reshape(400, 2).T
        assert 0.85 < ((low <= y[800:]) & (y[800:] <= high)).mean() < 0.95
        alike.append(np.corrcoef(np.log(high - low), np.log(std[800:]))[0, 1])
    assert alike[0] > 0.85
    assert alike[0] > alike[1] + 0.05
