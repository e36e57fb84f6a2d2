"""Kinds of target: codes and back, the best constant, metrics, and fitted tasks of every kind."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _inputs import EVERY_KIND, EnsembleTrunk, lbfgs, make_every_kind
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import (
    accuracy_score,
    d2_absolute_error_score,
    d2_pinball_score,
    d2_tweedie_score,
    r2_score,
)

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._targets import TargetEncoder
from sklearn_mtl.kinds import (
    KINDS,
    ClassificationTarget,
    GammaTarget,
    Kind,
    OrdinalTarget,
    PoissonTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.losses import LOSSES, TaskLosses
from sklearn_mtl.networks import DenseTrunk

RNG = np.random.default_rng(0)
LEVELS = ["low", "mid", "high"]  # not in the order of the alphabet

# Each kind with observed values: name in `KINDS`, kind, values.
OBSERVED: dict[str, tuple[str, Kind, np.ndarray]] = {
    "classes": ("classification", ClassificationTarget(), np.array(list("abacabbbbc"))),
    "ordered words": ("ordinal", OrdinalTarget(LEVELS), np.array(LEVELS)[[0, 1, 1, 2, 2, 2, 2, 0]]),
    "ordered numbers": ("ordinal", OrdinalTarget(), np.array([5, 1, 1, 2, 9, 5, 5, 5, 2, 2])),
    "two ordered classes": ("ordinal", OrdinalTarget(), np.array([0, 1, 1, 1, 1, 0, 1, 1])),
    "numbers": ("regression", RegressionTarget(), RNG.normal(3, 2, size=31)),
    "median": ("quantile", QuantileTarget(), RNG.normal(3, 2, size=31)),
    "upper quantile": ("quantile", QuantileTarget(0.9), RNG.exponential(size=31)),
    "lower quantile": ("quantile", QuantileTarget(0.25), RNG.exponential(size=30) - 5),
    "counts": ("poisson", PoissonTarget(), RNG.poisson(1.3, size=31)),
    "rates": ("poisson", PoissonTarget(), RNG.poisson(1.3, size=31) / RNG.uniform(1, 9, size=31)),
    "amounts": ("gamma", GammaTarget(), RNG.gamma(2, 1000, size=31)),
}
EVERY_OBSERVED = pytest.mark.parametrize("name", OBSERVED)
NUMBERS = [
    name for name, (kind, _, _) in OBSERVED.items() if kind not in ("classification", "ordinal")
]
MEANS = ["numbers", "counts", "rates", "amounts"]


def fitted(name: str, weighted: bool = False) -> tuple[str, Kind, np.ndarray, np.ndarray]:
    """Name in `KINDS`, fitted kind, values and weights."""
    kind_name, kind, values = OBSERVED[name]
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2, size=len(values)) if weighted else np.ones(len(values))
    return kind_name, clone_kind(kind).fit(values, weight), values, weight


def clone_kind(kind: Kind) -> Kind:
    return pickle.loads(pickle.dumps(kind))


def loss_of(kind_name: str, kind: Kind, family: str, codes: np.ndarray, weight: np.ndarray) -> Any:
    """Mean loss of a constant raw output."""
    losses = TaskLosses([kind_name], [kind.n_outputs], family, [kind.loss_params])
    target, mass = (torch.from_numpy(part).unsqueeze(-1) for part in (codes, weight))

    def loss(raw: np.ndarray) -> float:
        output = torch.from_numpy(np.asarray(raw, dtype=float)).expand(len(codes), -1)
        return losses(output, target, mass)[0].item()

    return loss


def decode(kind: Kind, *raw: float) -> Any:
    """Prediction of one row."""
    return kind.decode(np.array(raw, dtype=float).reshape(1, 1, -1)).tolist()[0]


# -- codes and back --------------------------------------------------------------------------


def perfect(kind: Kind, codes: np.ndarray) -> np.ndarray:
    """Raw outputs (n, 1, n_outputs) of a network that knows the codes."""
    if isinstance(kind, OrdinalTarget):
        steps = np.where(codes[:, None] > np.arange(kind.n_outputs), 60.0, -60.0)
        return steps[:, None, :]
    if isinstance(kind, ClassificationTarget):
        return 60 * np.eye(kind.n_outputs)[codes.astype(int)][:, None, :]
    if isinstance(kind, (PoissonTarget, GammaTarget)):
        codes = np.log(np.maximum(codes, 1e-30)) / kind.spread_
    return codes[:, None, None]


@EVERY_OBSERVED
def test_a_network_that_knows_the_codes_gives_the_values_back(name: str) -> None:
    _, kind, values, _ = fitted(name)
    back = kind.decode(perfect(kind, kind.encode(values)))
    if name in NUMBERS:
        np.testing.assert_allclose(back, values, rtol=1e-12, atol=1e-9 * kind.scale_)
    else:
        assert back.tolist() == values.tolist()
    assert kind.metric(kind.measured(values), kind.measured(back)) == pytest.approx(1, abs=1e-8)


@EVERY_OBSERVED
def test_a_copy_of_a_kind_is_the_same(name: str) -> None:
    _, kind, values, _ = fitted(name)
    copied = clone_kind(kind)
    np.testing.assert_array_equal(copied.encode(values), kind.encode(values))
    assert copied.n_outputs == kind.n_outputs
    assert copied.loss_params == kind.loss_params


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
        est = MultiTaskCNNEstimator(tasks={"y1": name}, random_state=0)
        scores[name] = est.fit(X[:400], y[:400]).score_tasks(X[400:], y[400:])
    assert scores["regression"]["y0"] > 0.8
    assert scores[kind]["y0"] > scores["regression"]["y0"] - 0.03
    assert scores[kind]["y1"] > scores["regression"]["y1"] - 0.03


# -- the best constant -----------------------------------------------------------------------


@pytest.mark.parametrize("family", ["likelihood", "squared"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_no_constant_is_better_than_the_best(name: str, weighted: bool, family: str) -> None:
    kind_name, kind, values, weight = fitted(name, weighted)
    codes = kind.encode(values)
    loss, constant = loss_of(kind_name, kind, family, codes, weight), kind.constant(codes, weight)
    assert constant.shape == (kind.n_outputs,)
    found = minimize(loss, constant + 0.5, method="Nelder-Mead", options={"fatol": 1e-10})
    assert loss(constant) <= found.fun * (1 + 1e-7)
    away = [loss(constant + step) for step in (-0.3, 0.3)]
    if name != "classes":  # whose logits have a common shift without an effect
        assert loss(constant) < min(away)


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_what_the_best_constant_predicts(name: str, weighted: bool) -> None:
    """The weighted mean, quantile, or class frequencies."""
    _, kind, values, weight = fitted(name, weighted)
    raw = kind.constant(kind.encode(values), weight).reshape(1, 1, -1)
    if isinstance(kind, ClassificationTarget):
        mass = np.array([weight[values == label].sum() for label in kind.classes_])
        np.testing.assert_allclose(kind.proba(raw)[0], mass / mass.sum(), rtol=1e-12)
    elif isinstance(kind, QuantileTarget):
        ordered = values.argsort()
        share = weight[ordered].cumsum() / weight.sum()
        (predicted,) = kind.decode(raw)
        assert predicted == pytest.approx(values[ordered][(share < kind.quantile).sum()])
    else:
        np.testing.assert_allclose(kind.decode(raw), np.average(values, weights=weight))


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


def test_classes_and_quantiles_are_left_as_trained() -> None:
    for name in ("classes", "ordered words", "upper quantile"):
        _, kind, values, weight = fitted(name)
        codes = kind.encode(values)
        shift = kind.balance(perfect(kind, codes) + 0.1, codes, weight)
        assert shift.tolist() == [0] * kind.n_outputs


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


# -- numbers and their range -----------------------------------------------------------------


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


# -- metrics ---------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_OBSERVED
def test_metrics_are_those_of_scikit_learn(name: str, weighted: bool) -> None:
    kind_name, kind, values, weight = fitted(name, weighted)
    predicted = np.roll(values, 1)
    if name in NUMBERS:
        predicted = predicted + 0.1
    options = {"sample_weight": weight} if weighted else {}
    actual = kind.metric(kind.measured(values), kind.measured(predicted), **options)
    if kind_name == "ordinal":
        known = LEVELS if name == "ordered words" else sorted(set(values.tolist()))
        ranks = {label: rank for rank, label in enumerate(known)}
        values, predicted = ([ranks[v] for v in part.tolist()] for part in (values, predicted))
    expected = {
        "classification": lambda: accuracy_score(values, predicted, **options),
        "ordinal": lambda: d2_absolute_error_score(values, predicted, **options),
        "regression": lambda: r2_score(values, predicted, **options),
        "quantile": lambda: d2_pinball_score(values, predicted, alpha=kind.quantile, **options),
        "poisson": lambda: d2_tweedie_score(values, predicted, power=1, **options),
        "gamma": lambda: d2_tweedie_score(values, predicted, power=2, **options),
    }
    assert actual == pytest.approx(expected[kind_name](), rel=1e-9)


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


# -- ordered classes -------------------------------------------------------------------------


def test_probabilities_and_median_by_hand() -> None:
    kind = OrdinalTarget(LEVELS).fit(np.array(LEVELS), np.ones(3))
    # P(y > low) = 3/4, and two of three of these go on to high
    raw = np.log([[[3.0, 2.0]], [[9.0, 2.0]], [[1 / 3, 2.0]]])
    np.testing.assert_allclose(
        kind.proba(raw), [[1 / 4, 1 / 4, 1 / 2], [1 / 10, 3 / 10, 3 / 5], [3 / 4, 1 / 12, 1 / 6]]
    )
    raw[0, 0, 0] += 1e-9  # next to a tie, on either side
    assert kind.decode(raw).tolist() == ["high", "high", "low"]
    raw[0, 0, 0] -= 2e-9
    assert kind.decode(raw).tolist() == ["mid", "high", "low"]
    members = np.log([[[3.0, 2.0], [1 / 3, 2.0]]])  # probabilities are averaged, not logits
    np.testing.assert_allclose(kind.proba(members), [[1 / 2, 1 / 6, 1 / 3]])


def test_the_median_has_the_smallest_expected_distance() -> None:
    kind = OrdinalTarget().fit(np.arange(5), np.ones(5))
    raw = np.random.default_rng(0).normal(size=(200, 1, 4)) * 2
    distance = np.abs(np.arange(5)[:, None] - np.arange(5))
    best = (kind.proba(raw) @ distance).argmin(axis=1)
    np.testing.assert_array_equal(kind.decode(raw), best)


def ordered(dtype: str) -> Any:
    """The labels low, mid, high, low, ... of a type that orders them."""
    labels = [*LEVELS, None] * 3
    if dtype == "pandas":
        return pd.Series(pd.Categorical(labels, categories=[*LEVELS, "never"], ordered=True))
    if dtype == "arrow":
        return pd.Series(pd.array(labels, dtype="string[pyarrow]")).astype(
            pd.CategoricalDtype([*LEVELS, "never"], ordered=True)
        )
    return pl.Series(labels, dtype=pl.Enum([*LEVELS, "never"]))


@pytest.mark.parametrize("dtype", ["pandas", "arrow", "polars"])
def test_the_order_is_that_of_the_type(dtype: str) -> None:
    encoder = TargetEncoder({"y0": "ordinal"})
    codes = encoder.fit_encode(ordered(dtype)).values[:, 0]
    (kind,) = encoder.kinds_
    assert codes.tolist() == [0, 1, 2, 0] * 3
    assert kind.classes_.tolist() == LEVELS
    assert kind.categories_.tolist() == [*LEVELS, "never"]
    # What the task says goes before what the type says.
    encoder = TargetEncoder([Task("y0", "ordinal", categories=LEVELS[::-1])])
    assert encoder.fit_encode(ordered(dtype)).values[:3, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("labels", "known"),
    [([1, 2, 3], [3, 2, 1]), ([True, False], [True, False]), ([0.5, 0.25], [0.5, 0.25])],
)
def test_the_order_of_categories_that_are_no_strings(labels: list[Any], known: list[Any]) -> None:
    y = pd.Series(pd.Categorical(labels * 2, categories=known, ordered=True))
    encoder = TargetEncoder({"y0": "ordinal"})
    codes = encoder.fit_encode(y).values[:, 0]
    assert codes.tolist() == [known.index(label) for label in labels] * 2
    assert encoder.classes[0].tolist() == known


def test_intervals_are_ordered() -> None:
    y = pd.Series(pd.cut([5.0, 1.0, 3.0, np.nan], [0, 2, 4, 6]))
    assert TargetEncoder({"y0": "ordinal"}).fit_encode(y).values[:, 0].tolist() == [2, 0, 1, 0]


def test_numbers_order_themselves() -> None:
    for values in ([10, 9, 2], [10.0, 9.0, 2.0], np.array([10, 9, 2], dtype=object)):
        encoder = TargetEncoder({"y0": "ordinal"})
        assert encoder.fit_encode(values).values[:, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize("values", [["a", "b"], pd.Series(["a", "b"], dtype="category")])
def test_strings_have_no_order(values: Any) -> None:
    """An unordered category neither: that of the alphabet would be a guess."""
    message = r"Task 'y0': the order of the labels \['a', 'b'\] is not known. Pass categories="
    with pytest.raises(ValueError, match=message):
        TargetEncoder({"y0": "ordinal"}).fit_encode(values)


def test_labels_that_are_no_categories() -> None:
    message = r"labels \['high', 'low'\] that are not among the categories \['mid', 'tall'\]"
    with pytest.raises(ValueError, match=message):
        OrdinalTarget(["mid", "tall"]).fit(np.array(LEVELS), np.ones(3))
    with pytest.raises(ValueError, match=r"labels \[1, 2\] that are not among .* \['1', '2'\]"):
        OrdinalTarget(["1", "2"]).fit(np.array([1, 2]), np.ones(2))


@pytest.mark.parametrize("categories", [LEVELS, tuple(LEVELS), np.array(LEVELS), pd.Index(LEVELS)])
def test_categories_of_any_sequence(categories: Any) -> None:
    task = Task("y0", "ordinal", categories=categories)
    assert TargetEncoder([task]).fit_encode(LEVELS).values[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("categories", ["low", [], ["a", "a"], {"a", "b"}, {"a": 1}, 3, [[1]]])
def test_categories_that_are_no_order(categories: Any) -> None:
    with pytest.raises(ValueError, match=r"Task 'a': categories=.* is not understood. List each"):
        Task("a", "ordinal", categories=categories)


def test_a_category_that_was_never_observed() -> None:
    """It gets no probability and is never predicted, but distances count it."""
    kind = OrdinalTarget([*LEVELS, "top"]).fit(np.array(["low", "top", "mid"]), np.ones(3))
    assert kind.classes_.tolist() == ["low", "mid", "top"]
    assert kind.n_outputs == 2
    assert kind.encode(np.array(["top", "high", "?"])).tolist() == [2, -1, -1]
    truth = np.array(["low", "high", "top"])
    predicted = np.array(["mid", "mid", "top"])
    assert kind.measured(truth).tolist() == [0, 2, 3]
    expected = d2_absolute_error_score([0, 2, 3], [1, 1, 3])
    assert kind.metric(kind.measured(truth), kind.measured(predicted)) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"label '\?' has no rank among the categories \['low'"):
        kind.check(np.array(["low", "?"]))


def test_numbers_that_were_never_observed_stand_between_others() -> None:
    """As a rare level of a test fold: it is wrong, by as many ranks as it is away."""
    kind = OrdinalTarget().fit(np.array([1, 2, 4, 4]), np.ones(4))
    kind.check(np.array([0, 3, 9]))
    assert kind.measured(np.array([0, 1, 2, 3, 4, 9])).tolist() == [-0.5, 0, 1, 1.5, 2, 2.5]


@pytest.mark.parametrize("label", ["mid", 3.0, True])
def test_one_observed_label_of_an_order(label: Any) -> None:
    """No output, a probability of one, a warning."""
    y = pd.DataFrame({"only": [label] * 12, "size": np.arange(12.0)})
    categories = ["low", "mid"] if label == "mid" else None
    tasks = [Task("only", "ordinal", categories=categories), Task("size", "regression")]
    est = small(tasks=tasks)
    with pytest.warns(UserWarning, match=f"Task 'only' has one observed label, {label!r}"):
        est.fit(np.eye(12), y)
    np.testing.assert_array_equal(est.predict_proba(np.eye(12)), np.ones((12, 1)))
    assert set(est.predict_frame(np.eye(12))["only"]) == {label}
    assert est.score_tasks(np.eye(12), y)["only"] == 1


# -- tasks -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "quantile", "quantile": 0}, "quantile=0 is out of range. Pass a level in (0, 1)"),
        ({"kind": "quantile", "quantile": 1.0}, "quantile=1.0 is out of range"),
        ({"kind": "quantile", "quantile": 90}, "quantile=90 is out of range"),
        ({"kind": "quantile", "quantile": float("nan")}, "quantile=nan is out of range"),
        ({"kind": "regression", "quantile": 0.5}, "kind='regression' takes no quantile="),
        ({"kind": "ordinal", "quantile": 0.5}, "kind='ordinal' takes no quantile="),
        ({"kind": "classification", "categories": ["a"]}, "takes no categories=. Leave it out"),
        ({"kind": "quantile", "categories": ["a"]}, "kind='quantile' takes no categories="),
    ],
)
def test_options_that_do_not_fit_a_task(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"Task 'a': .*{re.escape(message)}"):
        Task("a", **arguments)


SAID = [
    "Task('a', 'poisson')",
    "Task('a', 'quantile', quantile=0.9)",
    "Task('a', 'ordinal', categories=('low', 'mid'))",
    "Task('a', 'gamma', given=('flag', ['x', 'y']))",
    "Task('a', 'ordinal', given=('flag', 1), categories=(1, 2))",
]


@pytest.mark.parametrize("said", SAID)
def test_a_task_says_how_to_make_it(said: str) -> None:
    task = eval(said)
    assert repr(task) == said
    assert task == eval(said)
    assert task == pickle.loads(pickle.dumps(task))
    assert all(task != eval(other) for other in SAID if other != said)


def test_every_kind_makes_itself() -> None:
    for name, kind in KINDS.items():
        assert type(Task("a", name).make_kind()) is kind
    assert Task("a", "quantile", quantile=0.9).make_kind().quantile == 0.9
    assert Task("a", "quantile").make_kind().quantile == 0.5
    assert Task("a", "ordinal", categories=[2, 1]).make_kind().categories == (2, 1)


def test_kinds_are_not_guessed() -> None:
    """Counts, and ordered categories, are what they were before unless someone says more."""
    counts = TargetEncoder()
    counts.fit_encode(np.array([0.0, 3.0, 2.0]))
    words = TargetEncoder()
    words.fit_encode(ordered("pandas"))
    assert counts.tasks_ == [Task("y0", "regression")]
    assert words.tasks_ == [Task("y0", "classification")]
    assert words.classes[0].tolist() == sorted(LEVELS)


def test_estimators_with_every_kind_are_cloned_and_pickled() -> None:
    X, y = make_every_kind()
    est = small(tasks=EVERY_KIND)
    assert clone(est).tasks == EVERY_KIND
    assert "Task('wait', 'quantile', quantile=0.7)" in repr(est)
    est.fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))
    np.testing.assert_array_equal(clone(est).fit(X, y).predict(X), est.predict(X))


# -- fitted estimators -----------------------------------------------------------------------


def small(**params: Any) -> MultiTaskCNNEstimator:
    """An estimator that fits in milliseconds, on full batches of float64."""
    defaults = {"trunk": DenseTrunk((4,)), "max_epochs": 2, "batch_size": 1000, "random_state": 0}
    return MultiTaskCNNEstimator(**(defaults | params))


def trained(**params: Any) -> MultiTaskCNNEstimator:
    """No weight decay, and steps enough to learn."""
    defaults = {"trunk": DenseTrunk((16,)), "max_epochs": 60, "learning_rate": 0.03}
    return small(**(defaults | {"weight_decay": 0.0} | params))


def optimal(**params: Any) -> MultiTaskCNNEstimator:
    """Linear heads at their optimum."""
    linear = {"trunk": DenseTrunk(()), "loss": "weighted", "optimizer": lbfgs, "max_epochs": 3}
    return trained(**(linear | {"learning_rate": 1.0, "batch_size": 10_000} | params))


EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES)


@EVERY_LOSS
def test_every_kind_learns(loss: str) -> None:
    """Beside the others, better than its constant."""
    X, y = make_every_kind(300)
    est = trained(tasks=EVERY_KIND, loss=loss).fit(X, y)
    scores = est.score_tasks(X, y)
    assert list(scores) == [task.name for task in EVERY_KIND]
    assert scores.pop("color") < 0.6  # of noise
    if loss == "masked_mse":
        del scores["amount"]  # trained by a squared error, and scored by a deviance
    assert min(scores.values()) > 0.1
    first, last = est.history_["train_loss"][[0, -1]]
    assert (last < first).all()


def test_scores_by_hand() -> None:
    X, y = make_every_kind(200)
    est = trained(tasks=EVERY_KIND, max_epochs=20).fit(X, y)
    weight = np.random.default_rng(0).uniform(0.5, 2, size=len(X))
    scores, predicted = est.score_tasks(X, y, weight), est.predict(X)
    rank = np.array([np.nan, 1, 2, 0])  # of 3, 1, 2
    metrics = {
        "count": (d2_tweedie_score, {"power": 1}),
        "level": (d2_absolute_error_score, {}),
        "amount": (d2_tweedie_score, {"power": 2}),
        "wait": (d2_pinball_score, {"alpha": 0.7}),
        "color": (accuracy_score, {}),
        "size": (r2_score, {}),
    }
    assert list(scores) == list(metrics)
    for k, (name, (metric, options)) in enumerate(metrics.items()):
        seen = ~np.isnan(y[:, k])
        truth, guess = y[seen, k], predicted[seen, k]
        if name == "level":
            truth, guess = rank[truth.astype(int)], rank[guess.astype(int)]
        expected = metric(truth, guess, sample_weight=weight[seen], **options)
        assert scores[name] == pytest.approx(expected, rel=1e-9)
    assert est.score(X, y, weight) == pytest.approx(np.mean(list(scores.values())))


def test_classes_and_probabilities_stand_in_order() -> None:
    X, y = make_every_kind(200)
    est = trained(tasks=EVERY_KIND).fit(X, y)
    assert [classes.tolist() for classes in est.classes_] == [[3, 1, 2], [0, 1, 2]]
    level, color = est.predict_proba(X)
    for proba in (level, color):
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
        assert (proba > 0).all()
    median = est.classes_[0][(level.cumsum(axis=1) < 0.5).sum(axis=1)]
    np.testing.assert_array_equal(est.predict(X)[:, 1], median)
    # The scale is learned, and not just some classes: class 3 is where X[:, 0] is low.
    assert np.corrcoef(level @ [0, 1, 2], X[:, 0])[0, 1] > 0.5


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@EVERY_LOSS
def test_predictions_have_the_sums_of_the_training_rows(loss: str, weighted: bool) -> None:
    """For counts and amounts, over the rows in which each was observed."""
    X, y = make_every_kind(120)
    rng = np.random.default_rng(0)
    weight = rng.choice([0.0, 0.5, 1.0, 2.0], size=y.shape) if weighted else np.ones(y.shape)
    est = small(tasks=EVERY_KIND, loss=loss, max_epochs=5, learning_rate=0.05)
    predicted = est.fit(X, y, weight if weighted else None).predict(X)
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


@EVERY_LOSS
def test_early_stopping_with_every_kind(loss: str) -> None:
    X, y = make_every_kind(200)
    est = trained(tasks=EVERY_KIND, loss=loss, early_stopping=True, n_iter_no_change=2, tol=0.05)
    est.fit(X, y)
    assert est.n_iter_ < 60
    assert np.isfinite(est.history_["valid_loss"]).all()
    assert est.score(X, y) > 0


@EVERY_LOSS
def test_inputs_far_from_all_others(loss: str) -> None:
    """Predictions stay finite, and counts and amounts positive."""
    X, y = make_every_kind(100)
    est = trained(tasks=EVERY_KIND, loss=loss, max_epochs=30).fit(X, y)
    far = np.vstack([s * size * np.eye(3) for s in (1, -1) for size in (1e2, 1e5, 1e10)])
    predicted = est.predict(far)
    assert np.isfinite(predicted).all()
    assert (predicted[:, [0, 2]] > 0).all()
    for proba in est.predict_proba(far):
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-9)


def test_noise_is_known_of_squared_errors_only() -> None:
    X, y = make_every_kind()
    noise = small(tasks=EVERY_KIND).fit(X, y).noise_std_
    assert np.isnan(noise).tolist() == [True] * 5 + [False]


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


def test_class_weights_of_an_order() -> None:
    X, y = make_every_kind(200)
    rare = np.where(y[:, 1] == 2, 2.0, 1.0)
    tasks = [Task("level", "ordinal")]
    plain, balanced, given = (
        trained(tasks=tasks, class_weight=class_weight, max_epochs=40).fit(X, rare)
        for class_weight in (None, "balanced", {"level": {2: 9.0}})
    )
    p = [est.predict_proba(X)[:, 1].mean() for est in (plain, balanced, given)]
    assert p[0] + 0.05 < p[1] < p[2]
    mass = TargetEncoder(tasks, class_weight="balanced").fit_encode(rare).weight[:, 0]
    assert mass[rare == 1].sum() == pytest.approx(mass[rare == 2].sum())


# -- gates -----------------------------------------------------------------------------------

SEVERITY = ["low", "high", "very high"]
GATED = [
    Task("severity", "ordinal", categories=SEVERITY),
    Task("cost", "gamma", given=("severity", ["high", "very high"])),
    Task("days", "poisson", given=("severity", "very high")),
    Task("wait", "quantile", given=("severity", "very high"), quantile=0.8),
    Task("grade", "ordinal", given=("severity", ["high", "very high"])),
    Task("color", "classification", given=("severity", ["high", "very high"])),
    Task("size", "regression", given=("severity", "low")),
]


@pytest.fixture(scope="module")
def gated() -> tuple[MultiTaskCNNEstimator, np.ndarray, pd.DataFrame]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    severity = np.digitize(X[:, 0] + 0.5 * rng.normal(size=200), [-0.3, 0.5])
    up, top, low = severity > 0, severity == 2, severity == 0
    y = pd.DataFrame(
        {
            "severity": np.array(SEVERITY)[severity],
            "cost": np.where(up, rng.gamma(3, 100, size=200), np.nan),
            "days": np.where(top, rng.poisson(3, size=200), np.nan),
            "wait": np.where(top, rng.normal(size=200), np.nan),
            "grade": np.where(up, rng.integers(1, 4, size=200), np.nan),
            "color": np.where(up, np.array(["red", "blue"])[rng.integers(2, size=200)], None),
            "size": np.where(low, X[:, 1], np.nan),
        }
    )
    return trained(tasks=GATED).fit(X, y), X, y


def test_an_order_is_a_gate(gated: Any) -> None:
    est, _, y = gated
    up, top = (y["severity"] != "low").sum(), (y["severity"] == "very high").sum()
    assert est.n_applicable_.tolist() == [200, up, top, top, up, up, 200 - up]
    with pytest.raises(ValueError, match=r"Task 'cost' exists only given .*the first"):
        small(tasks=GATED).fit(gated[1], y.assign(cost=1.0))


def test_expected_values_by_hand(gated: Any) -> None:
    """Means are multiplied with the probability that they apply; all else is left alone."""
    est, X, _ = gated
    estimate, severity = est.predict_frame(X), est.predict_proba(X)[0]
    expected = clone_fitted(est, "expected").predict_frame(X)
    chance = {
        "cost": severity[:, 1:].sum(axis=1),
        "days": severity[:, 2],
        "size": severity[:, 0],
    }
    for name in estimate:
        if name in chance:
            np.testing.assert_allclose(expected[name], estimate[name] * chance[name], rtol=1e-12)
            assert (expected[name] != estimate[name]).all()
        else:
            assert expected[name].tolist() == estimate[name].tolist()


def test_blanks_where_an_order_says_no(gated: Any) -> None:
    est, X, y = gated
    estimate, blank = est.predict_frame(X), clone_fitted(est, "nan").predict_frame(X)
    severity = estimate["severity"]
    for task in GATED[1:]:
        holds = severity.isin(task.labels)
        assert 0 < holds.sum() < 200
        assert blank[task.name].notna().tolist() == holds.tolist()
        assert blank.loc[holds, task.name].tolist() == estimate.loc[holds, task.name].tolist()
    assert blank["severity"].tolist() == severity.tolist()
    assert set(severity) <= set(y["severity"])


def clone_fitted(est: MultiTaskCNNEstimator, output: str) -> MultiTaskCNNEstimator:
    return pickle.loads(pickle.dumps(est)).set_params(conditional_output=output)


@pytest.mark.parametrize("kind", ["poisson", "gamma", "quantile"])
def test_a_number_is_no_gate(kind: str) -> None:
    tasks = [Task("a", kind), Task("b", "regression", given=("a", 1.0))]
    with pytest.raises(ValueError, match=f"'a' is a {kind} task. A gate must be a class"):
        TargetEncoder(tasks).fit_encode(np.ones((4, 2)))


# -- simulated data --------------------------------------------------------------------------


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


def test_an_order_follows_a_latent_scale() -> None:
    """Steps on a latent scale: the true probabilities come back, with an error of about 0.01."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 2))
    cuts = np.array([-1.5, 0.0, 1.0])
    above = expit(X @ [1.5, -1.0] - cuts[:, None]).cumprod(axis=0)  # P(y > c)
    truth = -np.diff(above, axis=0, prepend=1, append=0).T
    y = (rng.random(5000) < above).sum(axis=0)
    est = optimal(tasks={"y0": "ordinal"}).fit(X, y)
    proba = est.predict_proba(X)
    assert np.abs(proba - truth).mean() < 0.01
    assert np.abs(proba - truth).max() < 0.1
    # The latent scale orders the predictions.
    latent = X @ [1.5, -1.0]
    assert np.corrcoef(latent, proba @ np.arange(4))[0, 1] > 0.95
    assert (np.diff(est.predict(X)[latent.argsort()]) < 0).mean() < 0.02


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


# -- found by breaking it ------------------------------------------------------------------------


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
            tasks, class_weight=class_weight, conditional_output="expected", random_state=0
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


def test_inputs_out_of_all_bounds_are_refused() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    est = small(tasks={"y0": "poisson"}, precision="float32").fit(X, np.arange(60) % 4)
    assert np.isfinite(est.predict(X * 1e6)).all()
    X[[7, 9]] = 1e300
    with pytest.raises(ValueError, match=r"not finite in 2 rows of X, the first \[7, 9\]"):
        est.predict(X)


@pytest.mark.parametrize("first", [2**63 - 10, 2**60])
def test_large_labels_are_the_same_in_either_type_of_integer(first: int) -> None:
    labels = first + np.arange(24, dtype=np.uint64) % 3
    est = small(tasks={"y0": "classification"}).fit(np.eye(24), labels)
    score = est.score(np.eye(24), labels)
    assert score == est.score(np.eye(24), labels.astype(np.int64)) > 0
    assert est.score(np.eye(24), labels.astype(np.int64) + 3) == 0


def test_labels_of_64_bits_beside_holes() -> None:
    labels = [None if i % 5 == 0 else 2**63 + 5 + i % 3 for i in range(24)]
    y = pl.Series("y", labels, dtype=pl.UInt64)
    est = small(tasks={"y": "classification"}).fit(np.eye(24), y)
    assert est.classes_.tolist() == [2**63 + 5, 2**63 + 6, 2**63 + 7]
    assert est.predict_frame(np.eye(24))["y"].dtype == pl.UInt64


def test_huge_weights_are_weights() -> None:
    X, y = make_every_kind(60)
    fits = [small(tasks=EVERY_KIND).fit(X, y, np.full(60, w)).predict(X) for w in (1.0, 1e308)]
    np.testing.assert_array_equal(*fits)


@pytest.mark.parametrize("unit", [1e-200, 1e-9, 1e9])
@pytest.mark.parametrize("kind", [PoissonTarget, GammaTarget])
def test_the_unit_of_a_truth_does_not_matter_to_its_score(kind: Any, unit: float) -> None:
    metric, truth = kind().metric, np.array([1.0, 2.0, 4.0])
    guess = np.array([1.5, 2.0, 3.0])
    assert metric(truth * unit, guess * unit) == pytest.approx(metric(truth, guess), rel=1e-9)
    same = np.full(3, 0.3) * unit  # constant, and met but for rounding
    assert metric(same, same * (1 + 1e-15)) == 1
    assert metric(same, same * 1.01) == 0
