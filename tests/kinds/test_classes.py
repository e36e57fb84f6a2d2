"""Kinds of class, and their order."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from _inputs import EVERY_KIND, make_every_kind
from _observed import LEVELS, optimal, small, trained
from scipy.special import expit
from sklearn.metrics import d2_absolute_error_score

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import ClassificationTarget, OrdinalTarget

# -- ordered classes ------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("fault", "categories"),
    [
        *[("is not understood", c) for c in ("low", {"a", "b"}, {"a": 1}, 3, [[1]])],
        ("is empty", []),
        ("holds a label twice", ["a", "a"]),
        *[("holds a missing value", ["a", hole]) for hole in (None, np.nan, pd.NA, pd.NaT)],
    ],
)
@pytest.mark.parametrize("kind", ["ordinal", "classification"])
def test_categories_that_are_no_labels(kind: str, fault: str, categories: Any) -> None:
    with pytest.raises(ValueError, match=rf"Task 'a': categories=.* {fault}.* List each label"):
        Task("a", kind, categories=categories)


@pytest.mark.parametrize("labels", [np.array(["a", "b"]), list(np.array(["a", "b"])), ["a", "b"]])
def test_categories_of_numpy_are_plain(labels: Any) -> None:
    task = Task("a", "classification", categories=labels)
    assert repr(task) == "Task('a', 'classification', categories=('a', 'b'))"
    assert repr(ClassificationTarget(labels)) == "ClassificationTarget(categories=('a', 'b'))"


def test_tuples_are_categories() -> None:
    kind = ClassificationTarget([("a", 1), ("b", 2)])
    assert kind.categories == (("a", 1), ("b", 2))


@pytest.mark.parametrize(
    ("categories", "mend"),
    [(["a", "c"], "List all labels"), ([0, 1], "Pass labels of the same type")],
)
def test_labels_beside_the_categories_say_what_is_wrong(categories: Any, mend: str) -> None:
    with pytest.raises(
        ValueError, match=rf"labels \['b'\].* not among the categories.*{mend}|{mend}"
    ):
        ClassificationTarget(categories).fit(np.array(["a", "b"], dtype=object), np.ones(2))


def test_labels_without_an_order_are_named_by_their_type() -> None:
    with pytest.raises(ValueError, match=r"of type object, have no order.*astype\(str\)"):
        ClassificationTarget().fit(np.array([object(), object()]), np.ones(2))


def test_a_category_that_was_never_observed() -> None:
    """Of y's type, it gets no probability and is never predicted, but distances count it."""
    order = [*LEVELS, "top"]
    kind = OrdinalTarget().fit(np.array(["low", "top", "mid"]), np.ones(3), order)
    declared = OrdinalTarget(order).fit(np.array(["low", "top", "mid"]), np.ones(3))
    assert declared.classes_.tolist() == order
    assert declared.n_outputs == 3
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
    categories = ["mid"] if label == "mid" else None
    tasks = [Task("only", "ordinal", categories=categories), Task("size", "regression")]
    est = small(tasks=tasks)
    with pytest.warns(UserWarning, match=f"Task 'only' has one observed label, {label!r}"):
        est.fit(np.eye(12), y)
    np.testing.assert_array_equal(est.predict_proba(np.eye(12)), np.ones((12, 1)))
    assert set(est.predict_frame(np.eye(12))["only"]) == {label}
    assert est.score_tasks(np.eye(12), y)["only"] == 1


# -- fitted estimators ----------------------------------------------------------------------


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


# -- gates ----------------------------------------------------------------------------------

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


# -- simulated data -------------------------------------------------------------------------


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


# -- how strange a class would be -----------------------------------------------------------


def test_classes_are_strange_where_they_are_improbable() -> None:
    kind = ClassificationTarget().fit(np.arange(3), np.ones(3))
    proba = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(kind.strangeness(proba), [[0.3, 0.8, 0.9]])


def test_neighbours_of_the_median_are_added_by_their_probability() -> None:
    kind = OrdinalTarget().fit(np.arange(4), np.ones(4))
    proba = np.array([[0.1, 0.2, 0.4, 0.3], [1.0, 0.0, 0.0, 0.0], [0.3, 0.0, 0.0, 0.7]])
    expected = [[0.9, 0.7, 0.0, 0.4], [0.0, 1.0, 1.0, 1.0], [0.7, 0.7, 0.7, 0.0]]
    np.testing.assert_allclose(kind.strangeness(proba), expected)


@pytest.mark.parametrize("n_classes", [1, 2, 3, 7])
def test_less_strange_ordered_classes_are_neighbours(n_classes: int) -> None:
    kind = OrdinalTarget().fit(np.arange(n_classes), np.ones(n_classes))
    proba = np.random.default_rng(0).dirichlet(np.ones(n_classes), size=300)
    strange = kind.strangeness(proba)
    median = (proba.cumsum(axis=1)[:, :-1] < 0.5).sum(axis=1)
    assert (strange[np.arange(300), median] == 0).all()
    for threshold in (0.0, 0.3, 0.8, 1.0):
        inside = strange <= threshold
        gaps = np.abs(np.diff(np.pad(inside, [(0, 0), (1, 1)]).astype(int), axis=1)).sum(axis=1)
        assert (gaps == 2).all()  # it begins and ends once
