"""Kinds of number: units, ranges, constants and sums."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from _inputs import EVERY_KIND, EnsembleTrunk, make_every_kind
from _observed import (
    EVERY_LOSS,
    MEANS,
    NUMBERS,
    clone_kind,
    decode,
    fitted,
    loss_of,
    optimal,
    small,
    trained,
)

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._training import calibrate
from sklearn_mtl.kinds import KINDS, GammaTarget, PoissonTarget, QuantileTarget, RegressionTarget
from sklearn_mtl.losses import TaskLosses
from sklearn_mtl.networks import DenseTrunk


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1.0, 1e12, 1e200])
@pytest.mark.parametrize("name", NUMBERS)
def test_units_do_not_matter(name: str, unit: float) -> None:
    """Codes are the same, and predictions scale."""
    _, kind, values, weight = fitted(name)
    other = clone_kind(kind).fit(values * unit, weight)
    codes = other.encode(values * unit)
    np.testing.assert_allclose(codes, kind.encode(values), rtol=1e-9, atol=1e-12)
    raw = np.linspace(-30, 30, 7).reshape(-1, 1, 1)
    np.testing.assert_allclose(other.decode(raw) / unit, kind.decode(raw), rtol=1e-9)
    if 1e-20 < unit < 1e20:  # of which the squares are numbers
        predicted, truth = kind.decode(raw / 30), values[:7]
        assert other.metric(unit * truth, unit * predicted) == pytest.approx(
            kind.metric(truth, predicted)
        )


@pytest.mark.parametrize("value", [0.1, 1.0, 3.3e9, 1e-200, 1e200])
@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget, QuantileTarget, RegressionTarget])
def test_a_constant_comes_back_exactly(kind: Any, value: float) -> None:
    """Its loss is 0, and not a rounding error that others would be measured by."""
    values, weight = np.full(7, value), np.linspace(0.1, 1, 7)
    target = kind().fit(values, weight)
    codes = target.encode(values)
    constant = target.constant(codes, weight)
    name = next(name for name, made in KINDS.items() if made is kind)
    assert loss_of(name, target, "likelihood", codes, weight)(constant) == 0
    assert decode(target, *constant) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 1.5])
@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget])
def test_raw_outputs_and_losses_are_of_order_one(kind: Any, sigma: float) -> None:
    """As those of standardised numbers, for lognormal numbers of any spread, in any unit."""
    values = 1e6 * np.exp(sigma * np.random.default_rng(0).normal(size=20_000))
    target, weight = kind().fit(values, np.ones(20_000)), np.ones(20_000)
    codes = target.encode(values)
    assert np.std(np.log(codes) / target.spread_) == pytest.approx(1, rel=0.1)
    name = next(name for name, made in KINDS.items() if made is kind)
    constant = target.constant(codes, weight)
    for family in ("likelihood", "squared"):
        loss = loss_of(name, target, family, codes, weight)(constant)
        assert loss == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_numbers_that_hardly_vary_leave_other_tasks_alone(kind: str) -> None:
    """A spread of a hundredth around the mean: no kind takes over the network."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))
    other = np.tanh(X[:, 0] * X[:, 1]) + X[:, 2] + 0.3 * rng.normal(size=600)
    narrow = 1000 * (1 + 0.01 * (X[:, 3] + 0.5 * rng.normal(size=600)))
    y, scores = np.column_stack([other, narrow]), {}
    for name in ("regression", kind):
        est = MultiTaskCNNEstimator(
            tasks={"y1": name},
            trunk=DenseTrunk((32,)),
            max_epochs=20,
            learning_rate=0.01,
            random_state=0,
        )
        scores[name] = est.fit(X[:400], y[:400]).score_tasks(X[400:], y[400:])
    assert scores["regression"]["y0"] > 0.8
    assert scores[kind]["y0"] > scores["regression"]["y0"] - 0.03
    assert scores[kind]["y1"] > scores["regression"]["y1"] - 0.05  # which has a line underneath


# -- the best constant ----------------------------------------------------------------------


@pytest.mark.parametrize("name", MEANS)
def test_a_constant_closes_the_sum(name: str) -> None:
    """`balance` shifts outputs, of an ensemble too, until the weighted sum is that of y."""
    _, kind, values, weight = fitted(name, weighted=True)
    codes = kind.encode(values)
    raw = np.random.default_rng(2).normal(size=(len(values), 3, 1))
    shift = kind.balance(raw, codes, weight)
    assert shift.shape == (1,)
    if name == "numbers":  # squared error and a bias see to it by themselves
        assert shift == 0
        return
    total = np.average(kind.decode(raw + shift), weights=weight)
    assert total == pytest.approx(np.average(values, weights=weight))


@pytest.mark.parametrize("weight", [[1.0] * 10, [1e-4] + [1.0] * 9], ids=["plain", "light"])
def test_one_event(weight: list[float]) -> None:
    """However little it weighs, predictions have its sum."""
    counts, mass = np.array([3.0] + [0.0] * 9), np.array(weight)
    kind = PoissonTarget().fit(counts, mass)
    assert decode(kind, *kind.constant(kind.encode(counts), mass)) == pytest.approx(
        np.average(counts, weights=mass)
    )


def test_no_event_at_all() -> None:
    """Half an event, so that there is a logarithm."""
    counts, mass = np.zeros(9), np.ones(9)
    kind = PoissonTarget().fit(counts, mass)
    raw = kind.constant(kind.encode(counts), mass)
    assert decode(kind, *raw) == pytest.approx(0.05)
    assert decode(kind, *raw + kind.balance(np.ones((9, 1, 1)), counts, mass) - raw + 1) < 0.06


# -- numbers and their range ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            PoissonTarget,
            [0, 2, -1],
            "must hold values >= 0, got -1 (in 1 rows). Declare it as 'reg",
        ),
        (
            GammaTarget,
            [1.5, 0.0, -2.0],
            "must hold values > 0, got 0.0 (in 2 rows). Where 0 stands",
        ),
        (PoissonTarget, ["a", "b"], "must hold numbers, got 'a'"),
        (GammaTarget, ["a", "b"], "must hold numbers, got 'a'"),
        (QuantileTarget, ["a", "b"], "must hold numbers, got 'a'"),
    ],
)
def test_numbers_out_of_range(kind: Any, values: list[Any], message: str) -> None:
    for call in (lambda v: kind().fit(v, np.ones(len(v))), lambda v: kind().check(v)):
        with pytest.raises(ValueError, match=re.escape(message)):
            call(np.array(values))


@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget])
def test_nothing_to_check(kind: Any) -> None:
    kind().check(np.array([]))


# -- metrics --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget, QuantileTarget, RegressionTarget])
def test_scores_of_a_constant_truth(kind: Any) -> None:
    """1 where it is met and 0 where it is not."""
    metric, truth = kind().metric, np.full(5, 2.5)
    assert metric(truth, truth) == 1
    assert metric(truth, truth + np.arange(5)) == 0


def test_all_zeros_are_never_met_exactly() -> None:
    assert PoissonTarget().metric(np.zeros(3), np.full(3, 1e-9)) == 0


def test_the_mean_scores_zero() -> None:
    for name in MEANS:
        _, kind, values, weight = fitted(name, weighted=True)
        mean = np.full(len(values), np.average(values, weights=weight))
        assert kind.metric(values, mean, sample_weight=weight) == pytest.approx(0, abs=1e-12)


# -- fitted estimators ----------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_LOSS
def test_predictions_of_rows_left_out_have_the_sums_of_the_targets(
    loss: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For counts and amounts, over the rows in which each was observed; together, not by fold."""
    monkeypatch.setattr(calibrate, "CROSS_FIT_ROWS", 0)
    X, y = make_every_kind(120)
    rng = np.random.default_rng(0)
    weight = rng.choice([0.0, 0.5, 1.0, 2.0], size=y.shape) if weighted else np.ones(y.shape)
    est = small(tasks=EVERY_KIND, loss=loss, max_epochs=5, learning_rate=0.05)
    est.fit(X, y, weight if weighted else None)
    predicted = np.nan_to_num(est.oob_prediction_)  # of rows without weight there is none
    for k in (0, 2):
        mass = np.where(np.isnan(y[:, k]), 0, weight[:, k])
        assert mass @ predicted[:, k] == pytest.approx(mass @ np.nan_to_num(y[:, k]), rel=1e-9)


def test_sums_are_those_of_the_rows_that_were_trained_on() -> None:
    """Not of those held out for early stopping; ensembles and float32 as well."""
    X, y = make_every_kind(120)
    y[60:, 0] = 50.0
    est = small(
        tasks=EVERY_KIND, trunk=EnsembleTrunk(3), batch_size=16, max_epochs=3, early_stopping=True
    )
    est.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    seen = ~np.isnan(y[:60, 0])
    predicted = est.predict(X[:60])[seen, 0]
    assert predicted.sum() == pytest.approx(y[:60, 0][seen].sum(), rel=1e-5)


def test_noise_is_known_of_numbers() -> None:
    X, y = make_every_kind()
    noise = small(tasks=EVERY_KIND).fit(X, y).noise_std_
    is_class = [task.kind in ("classification", "ordinal") for task in EVERY_KIND]
    assert np.isnan(noise).tolist() == is_class
    assert sum(is_class) == 2


@pytest.mark.parametrize("kind", ["poisson", "gamma"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_constant_task_leaves_the_others_alone(kind: str, precision: str) -> None:
    """Its loss of 0 is no unit to measure by: others learn as beside a constant number."""
    X = np.random.default_rng(0).normal(size=(100, 3))
    y = np.column_stack([np.sin(2 * X[:, 0]) + X[:, 1], np.full(100, 3.7)])
    scores = {}
    for name in (kind, "regression"):
        tasks = [Task("number", "regression"), Task("constant", name)]
        est = trained(tasks=tasks, trunk=DenseTrunk((16,)), precision=precision, max_epochs=40)
        scores[name] = est.fit(X, y).score_tasks(X, y)["number"]
    assert scores[kind] == pytest.approx(scores["regression"], abs=0.05)


def test_counts_that_are_all_zero() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.column_stack([np.zeros(60), X[:, 0]])
    est = trained(tasks=[Task("count", "poisson"), Task("size", "regression")]).fit(X, y)
    assert 0 < est.predict(X)[:, 0].max() < 1
    assert est.score_tasks(X, y)["count"] == 0
    assert est.score_tasks(X, y)["size"] > 0.9


# -- simulated data -------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_a_quantile_covers_its_share(level: float) -> None:
    """Of 1,000 rows: 0.9 within three standard errors, for skewed errors that grow with X."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 2))
    y = X[:, 0] + rng.exponential(size=2000) * np.exp(0.5 * X[:, 1])
    est = trained(tasks=[Task("y0", "quantile", quantile=level)], max_epochs=80)
    predicted = est.fit(X[:1000], y[:1000]).predict(X)
    covered = (y <= predicted)[1000:]
    assert covered.mean() == pytest.approx(
        level, abs=3 * np.sqrt(level * (1 - level) / 1000) + 0.01
    )
    # Where errors are small as where they are large.
    for half in (X[1000:, 1] < 0, X[1000:, 1] > 0):
        assert covered[half].mean() == pytest.approx(level, abs=0.07)


@EVERY_LOSS
def test_means_come_back(loss: str) -> None:
    """Counts and amounts of a log-linear mean, beside each other."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    mean = np.exp(np.column_stack([1 + 0.5 * X[:, 0], 6 - 0.4 * X[:, 1]]))
    y = np.column_stack([rng.poisson(mean[:, 0]), rng.gamma(4, mean[:, 1] / 4)])
    y[rng.random(y.shape) < 0.3] = np.nan
    tasks = [Task("count", "poisson"), Task("cost", "gamma")]
    steps = {"optimizer": "AdamW", "learning_rate": 0.1, "max_epochs": 120}
    params = steps if loss == "logprod" else {}  # whose weights follow the steps
    est = optimal(tasks=tasks, loss=loss, **params).fit(X, y)
    error = np.log(est.predict(X) / mean)
    assert np.abs(error).mean(axis=0).max() < 0.03


# -- found by breaking it ---------------------------------------------------------------------


def test_expected_amounts_do_not_feel_class_weights() -> None:
    """Balanced weights make the gate's probabilities too large, but not the expectation."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    some = np.arange(600) % 10 == 0
    y = pd.DataFrame(
        {"any": np.where(some, "y", "n"), "amount": np.where(some, 1 + X[:, 0] ** 2, np.nan)}
    )
    tasks = [Task("any", "classification"), Task("amount", "gamma", given=("any", "y"))]
    for class_weight in (None, "balanced", {"any": {"y": 30.0}}):
        est = MultiTaskCNNEstimator(
            tasks,
            trunk=DenseTrunk((16,)),
            max_epochs=20,
            learning_rate=0.02,
            class_weight=class_weight,
            conditional_output="expected",
            random_state=0,
        ).fit(X, y)
        total = est.predict_frame(X)["amount"].sum()
        assert total == pytest.approx(y["amount"].sum(), rel=0.15)
        shown = est.predict_proba(X)[:, 1].mean()
        assert shown == pytest.approx(0.1, abs=0.02) if class_weight is None else shown > 0.4


@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget])
@pytest.mark.parametrize("truth", [[0.3, 0.1 + 0.2], [1e8, 1e8 * (1 + 1e-9)]])
def test_scores_of_a_truth_that_is_constant_but_for_rounding(kind: Any, truth: list[float]) -> None:
    metric = kind().metric
    assert metric(np.array(truth), np.array(truth)) == 1
    assert metric(np.array(truth), np.array([1.0, 2.0])) == 0
    assert metric.func.__name__ == "d2_deviance"  # named in warnings


def test_amounts_that_float32_cannot_hold() -> None:
    codes = GammaTarget().fit(np.array([1.0, 1e-60, 3.0]), np.ones(3)).encode(np.array([1e-60]))
    assert np.float32(codes[0]) > 0
    codes = PoissonTarget().fit(np.array([1.0, 1e-60, 3.0]), np.ones(3)).encode(np.array([1e-60]))
    assert codes[0] == 0


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1e9])
@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget])
def test_the_unit_of_a_truth_does_not_matter_to_its_score(kind: Any, unit: float) -> None:
    metric, truth = kind().metric, np.array([1.0, 2.0, 4.0])
    guess = np.array([1.5, 2.0, 3.0])
    assert metric(truth * unit, guess * unit) == pytest.approx(metric(truth, guess), rel=1e-9)
    same = np.full(3, 0.3) * unit  # constant, and met but for rounding
    assert metric(same, same * (1 + 1e-15)) == 1
    assert metric(same, same * 1.01) == 0


@pytest.mark.parametrize("family", ["likelihood", "squared"])
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("regression", lambda rng: 1e6 + rng.standard_t(2.1, size=4000)),
        ("poisson", lambda rng: rng.poisson(0.003, size=8000).astype(float)),  # 2.0 over the spread
        ("poisson", lambda rng: rng.poisson(40, size=4000).astype(float)),
        ("poisson", lambda rng: rng.poisson(rng.gamma(0.2, 10, size=4000)).astype(float)),
        ("gamma", lambda rng: 1e-9 + rng.gamma(0.1, size=4000)),  # 6.8 over the spread
        ("gamma", lambda rng: rng.gamma(9.0, size=4000)),
        ("gamma", lambda rng: np.exp(3 * rng.normal(size=4000))),
    ],
)
def test_the_loss_of_the_best_constant_is_one(kind: str, values: Any, family: str) -> None:
    """Whatever the tails are, so that `weighted` does not count one task more than another."""
    rng = np.random.default_rng(0)
    observed = values(rng)
    weight = rng.uniform(0.5, 2, size=len(observed))
    target = KINDS[kind]().fit(observed, weight)
    codes = target.encode(observed)
    raw = torch.from_numpy(target.constant(codes, weight)).expand(len(codes), 1)
    task_losses = TaskLosses([target.cell_loss], [1], family, [target.loss_params])
    losses, _ = task_losses(
        raw, torch.from_numpy(codes)[:, None], torch.from_numpy(weight)[:, None]
    )
    # Of the overall mean: Poisson and gamma deviances are least there, squared errors too.
    assert losses.item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_the_unit_of_equal_values_is_that_of_float32(kind: str) -> None:
    """There is no deviance to measure by; and none that float32 could tell from rounding."""
    for values in (np.full(9, 3.0), 3 + 1e-9 * np.arange(9)):
        target = KINDS[kind]().fit(values, np.ones(9))
        assert target.loss_params == {"spread": 1e-3, "unit": 1e-6}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["regression", "quantile", "gamma", "poisson"])
@pytest.mark.parametrize("unit", [1e-310, 1e-300, 1e-170, 1.0, 3e9, 1e200, 1e300])
def test_units_say_nothing_about_constants_and_scores(kind, unit):
    """A constant is predicted to its last digits; scores are those of targets of order one."""
    rng = np.random.default_rng(0)
    X, b = rng.normal(size=(50, 3)), rng.normal(size=50)
    trunk = DenseTrunk((8,), n_members=2)
    tasks = [Task("a", kind), Task("b", "regression")]
    estimator = MultiTaskCNNEstimator(tasks, trunk=trunk, max_epochs=2, random_state=0)
    constant = estimator.fit(X, np.column_stack([np.full(50, unit), b])).predict(X)[:, 0]
    np.testing.assert_allclose(constant / unit, 1, rtol=1e-12)
    if unit > 1e-300:  # denormal numbers have fewer digits
        scores = [
            estimator.fit(X, y).score_tasks(X, y)["a"]
            for y in (np.column_stack([u * (2 + np.tanh(X[:, 0])), b]) for u in (1.0, unit))
        ]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_what_is_no_number_among_numbers_is_named() -> None:
    with pytest.raises(ValueError, match="must hold numbers, got 'b'"):
        GammaTarget().check(np.array([1.5, "b", 2.5], dtype=object))
