"""What holds of every kind: codes and back, the best constant, fitted tasks, kinds of one's own."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from _inputs import EVERY_KIND, make_every_kind
from _observed import (
    EVERY_LOSS,
    EVERY_OBSERVED,
    NUMBERS,
    OBSERVED,
    clone_kind,
    fitted,
    loss_of,
    perfect,
    small,
    trained,
)
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator, Task, task_view
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
from sklearn_mtl.losses import CELL_LOSSES, KindLoss
from sklearn_mtl.networks import DenseTrunk

# -- codes and back -------------------------------------------------------------------------


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
    for copied in (clone_kind(kind), copy.deepcopy(kind)):
        assert copied == kind
        np.testing.assert_array_equal(copied.encode(values), kind.encode(values))
        assert copied.n_outputs == kind.n_outputs
        assert copied.loss_params == kind.loss_params
        assert copied.units == kind.units


# -- links ----------------------------------------------------------------------------------


def extreme_outputs(kind: Kind) -> np.ndarray:
    """Raw outputs (n, 3, n_outputs) of an ensemble, near and far out."""
    sizes = np.array([0, 1e-9, 1, 19.9, 20.1, 50, 1e3, 1e8])
    signs = np.random.default_rng(0).choice([-1, 1], size=(200, 3, kind.n_outputs))
    return np.random.default_rng(1).choice(sizes, size=signs.shape) * signs


def test_kinds_with_observed_values_are_all_kinds() -> None:
    assert {name for name, _, _ in OBSERVED.values()} == KINDS.keys()
    assert all(type(kind) is KINDS[name] for name, kind, _ in OBSERVED.values())


@EVERY_OBSERVED
def test_the_link_of_tensors_is_that_of_arrays(name: str) -> None:
    _, kind, _, _ = fitted(name)
    raw = extreme_outputs(kind)
    values, tensor = kind.link(raw), kind.link(torch.from_numpy(raw))
    assert values.shape == ((200, 3, len(kind.classes_)) if kind.is_class else (200, 3))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(kind.link(raw[:, 0]), values[:, 0])  # of any shape


@EVERY_OBSERVED
def test_predictions_are_the_mean_of_the_link_over_members(name: str) -> None:
    """In the units of y; of classes, what is most probable, or the median."""
    _, kind, _, _ = fitted(name)
    raw = extreme_outputs(kind)
    for part in (raw, raw[:, :1]):
        mean = np.mean([kind.link(part[:, m]) for m in range(part.shape[1])], axis=0)
        if not kind.is_class:
            scale, shift = kind.units
            np.testing.assert_allclose(kind.decode(part), scale * mean + shift, rtol=1e-12)
            continue
        assert kind.units == (1, 0)
        np.testing.assert_allclose(kind.proba(part), mean, rtol=1e-12)
        np.testing.assert_allclose(mean.sum(axis=1), 1, rtol=1e-12)
        ordered = isinstance(kind, OrdinalTarget)
        best = (kind.proba(part).cumsum(axis=1) < 0.5).sum(axis=1) if ordered else mean.argmax(1)
        assert kind.decode(part).tolist() == kind.classes_[best].tolist()


@pytest.mark.parametrize("family", ["likelihood", "squared"])
@EVERY_OBSERVED
def test_losses_may_be_given_by_the_kind_itself(name: str, family: str) -> None:
    """As they are by its name in a bare loop."""
    kind_name, kind, values, weight = fitted(name, weighted=True)
    codes = kind.encode(values)
    assert kind.cell_loss is CELL_LOSSES[kind_name]
    by_name, by_kind = (
        loss_of(each, kind, family, codes, weight) for each in (kind_name, kind.cell_loss)
    )
    for raw in extreme_outputs(kind)[:20, 0]:
        assert by_name(raw) == by_kind(raw)


# -- identity -------------------------------------------------------------------------------

# Each of another class, or of other parameters, than all others.
DIFFERENT = {
    "ClassificationTarget()": (
        ClassificationTarget,
        {"categories": None, "threshold": None, "calibration": None},
    ),
    "ClassificationTarget(categories=('b', 'a'))": (
        lambda: ClassificationTarget(["b", "a"]),
        {"categories": ("b", "a"), "threshold": None, "calibration": None},
    ),
    "OrdinalTarget()": (OrdinalTarget, {"categories": None}),
    "OrdinalTarget(categories=('low', 'mid'))": (
        lambda: OrdinalTarget(["low", "mid"]),
        {"categories": ("low", "mid")},
    ),
    "OrdinalTarget(categories=('mid', 'low'))": (
        lambda: OrdinalTarget(["mid", "low"]),
        {"categories": ("mid", "low")},
    ),
    "RegressionTarget()": (RegressionTarget, {}),
    "QuantileTarget(quantile=0.5)": (QuantileTarget, {"quantile": 0.5}),
    "QuantileTarget(quantile=0.9)": (lambda: QuantileTarget(0.9), {"quantile": 0.9}),
    "PoissonTarget()": (PoissonTarget, {}),
    "GammaTarget()": (GammaTarget, {}),
}


@pytest.mark.parametrize("said", DIFFERENT)
def test_kinds_are_equal_by_class_and_parameters(said: str) -> None:
    make, params = DIFFERENT[said]
    kind = make()
    assert repr(kind) == said
    assert kind.params() == params
    for same in (make(), clone_kind(kind), copy.deepcopy(kind), copy.copy(kind)):
        assert same == kind
        assert (same != kind) is False
        assert hash(same) == hash(kind)
        assert repr(same) == said
        assert same is not kind
    assert all(kind != other() for name, (other, _) in DIFFERENT.items() if name != said)
    assert kind != said
    assert kind != params


@EVERY_OBSERVED
def test_a_fitted_kind_equals_the_one_it_was(name: str) -> None:
    """What it has learned is no parameter, of whatever values."""
    _, kind, values, weight = fitted(name)
    unfitted = OBSERVED[name][1]
    assert not any(attribute.endswith("_") for attribute in vars(unfitted))
    assert kind == unfitted
    assert hash(kind) == hash(unfitted)
    assert repr(kind) == repr(unfitted)
    assert clone_kind(kind) == copy.deepcopy(kind) == unfitted
    assert kind == copy.deepcopy(unfitted).fit(values[:-1], weight[:-1])


def test_kinds_of_one_class_that_derives_from_another_differ() -> None:
    class Own(RegressionTarget):
        pass

    assert Own() != RegressionTarget()
    assert RegressionTarget() != Own()


# -- the best constant ----------------------------------------------------------------------


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


def test_classes_and_quantiles_are_left_as_trained() -> None:
    for name in ("classes", "ordered words", "upper quantile"):
        _, kind, values, weight = fitted(name)
        codes = kind.encode(values)
        shift = kind.balance(perfect(kind, codes) + 0.1, codes, weight)
        assert shift.tolist() == [0] * kind.n_outputs


def test_estimators_with_every_kind_are_cloned_and_pickled() -> None:
    X, y = make_every_kind()
    est = small(tasks=EVERY_KIND)
    assert clone(est).tasks == EVERY_KIND
    assert "Task('wait', 'quantile', quantile=0.7)" in repr(est)
    est.fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(again.predict(X), est.predict(X))
    np.testing.assert_array_equal(clone(est).fit(X, y).predict(X), est.predict(X))


# -- fitted estimators ----------------------------------------------------------------------


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


# -- kinds of one's own ---------------------------------------------------------------------


def expectile_loss(raw: torch.Tensor, target: torch.Tensor, level: Any = 0.5) -> torch.Tensor:
    """Squared error, of which those above and below weigh differently."""
    error = target - raw[..., 0]
    return torch.where(error > 0, 2 * level, 2 * (1 - level)) * error * error


class ExpectileTarget(Kind):
    """Numbers of which an expectile is predicted; one half is the mean. Stands in no dict."""

    cell_loss = KindLoss(expectile_loss, expectile_loss)

    def __init__(self, level: float = 0.5, offset: float = 0.0) -> None:
        self.level = level
        self.offset = offset

    def fit(self, values: Any, weight: Any, order: Any = None) -> Kind:
        reference = RegressionTarget().fit(values, weight)
        self.mean_, self.scale_ = reference.mean_ + self.offset, reference.scale_
        return self

    def encode(self, values: Any) -> Any:
        return (values - self.mean_) / self.scale_

    @property
    def loss_params(self) -> dict[str, float]:
        return {"level": self.level}

    def constant(self, codes: Any, weight: Any) -> Any:
        found = np.average(codes, weights=weight, keepdims=True)
        for _ in range(100):
            mass = weight * np.where(codes > found, self.level, 1 - self.level)
            found = np.average(codes, weights=mass, keepdims=True)
        return found

    @property
    def units(self) -> tuple[float, float]:
        return self.scale_, self.mean_

    def link(self, raw: Any) -> Any:
        return raw[..., 0]

    @property
    def metric(self) -> Any:
        return r2_score


def one_number(n_samples: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """X, and a number with holes and skewed noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, 3))
    y = X[:, 0] + rng.exponential(size=n_samples)
    y[::7] = np.nan
    return X, y


def own(level: float = 0.5, offset: float = 0.0, **options: Any) -> MultiTaskCNNEstimator:
    return trained(tasks=[Task("y0", ExpectileTarget(level, offset))], max_epochs=20, **options)


@EVERY_LOSS
def test_a_kind_of_ones_own_learns_as_a_kind_of_the_library(
    loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half is the mean: the same network, but for the rounding of other sums.

    First steps from heads of 0, which are as long for the smallest gradient, amplify it.
    """
    X, y = one_number()
    monkeypatch.setattr(ExpectileTarget, "shrink", RegressionTarget.shrink)  # in closed form
    monkeypatch.setattr(ExpectileTarget, "least_squares", True)  # with a line underneath
    est = own(loss=loss).fit(X, y)
    expected = trained(tasks={"y0": "regression"}, max_epochs=20, loss=loss).fit(X, y)
    np.testing.assert_allclose(est.predict(X), expected.predict(X), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(est.history_["train_loss"], expected.history_["train_loss"])
    assert est.score(X, y) == pytest.approx(expected.score(X, y))
    assert est.score(X, y) > 0.4
    assert est.tasks_[0].kind_name == "ExpectileTarget"


def test_the_parameters_of_a_kind_of_ones_own_tell() -> None:
    X, y = one_number()
    low, high = (own(level).fit(X, y).predict(X) for level in (0.1, 0.9))
    assert (low < high).mean() > 0.99
    above = np.nanmean(y > high)
    assert above < np.nanmean(y > low) - 0.3
    # Beside others of its class, each with its own.
    levels = [0.1, 0.9, 0.5]
    tasks = [Task(f"y{k}", ExpectileTarget(level)) for k, level in enumerate(levels)]
    several = trained(tasks=tasks, max_epochs=20).fit(X, np.column_stack([y] * 3)).predict(X)
    assert (several[:, 0] < several[:, 2]).mean() > 0.9
    assert (several[:, 2] < several[:, 1]).mean() > 0.9


def test_a_kind_of_ones_own_in_a_stream() -> None:
    X, y = one_number()
    task = Task("y0", ExpectileTarget(0.5, offset=0.5))
    est, twin = small(tasks=[task]), small(tasks=[Task("y0", ExpectileTarget())])
    plain = small(tasks={"y0": "regression"})
    for each in (est, twin, plain):
        for rows in (slice(0, 100), slice(100, 200)):
            each.partial_fit(X[rows], y[rows])
        assert each.n_iter_ == 2
    np.testing.assert_allclose(twin.predict(X), plain.predict(X), rtol=1e-9, atol=1e-12)
    # The first call decides, and the object of the user has learned nothing.
    assert est._fitted.encoder.kinds_[0].mean_ == pytest.approx(np.nanmean(y[:100]) + 0.5)
    assert vars(task.kind) == {"level": 0.5, "offset": 0.5}


def test_a_kind_of_ones_own_is_cloned_and_pickled() -> None:
    X, y = one_number()
    est = own(0.9).fit(X, y)
    assert clone(est).tasks == est.tasks == [Task("y0", ExpectileTarget(0.9))]
    assert "Task('y0', ExpectileTarget(level=0.9, offset=0.0))" in repr(est)
    np.testing.assert_array_equal(clone(est).fit(X, y).predict(X), est.predict(X))
    for again in (pickle.loads(pickle.dumps(est)), copy.deepcopy(est)):
        assert again.tasks_ == est.tasks_
        np.testing.assert_array_equal(again.predict(X), est.predict(X))
        assert again.score_tasks(X, y) == est.score_tasks(X, y)
        view = task_view(again, "y0")
        np.testing.assert_array_equal(view.predict(X), est.predict(X))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_kinds_of_ones_own_are_searched(n_jobs: int | None) -> None:
    """A task list is a parameter, and so are the parameters of its kinds."""
    X, y = one_number(120)
    y = np.nan_to_num(y)
    levels = [0.05, 0.5, 0.95]
    grid = {"tasks": [[Task("y0", ExpectileTarget(level))] for level in levels]}
    search = GridSearchCV(own(), grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y)
    assert [found.kind.level for (found,) in search.cv_results_["param_tasks"]] == levels
    # Scored by the variance that is explained, of which the mean explains most.
    assert search.best_params_ == {"tasks": [Task("y0", ExpectileTarget(0.5))]}
    assert search.best_estimator_.tasks_[0].kind == ExpectileTarget(0.5)
    expected = own().fit(X, y)
    np.testing.assert_array_equal(search.predict(X), expected.predict(X))


def test_a_kind_of_ones_own_as_onnx(tmp_path: Path) -> None:
    """By its link and units alone."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs")
    X, y = one_number()
    est = own(0.9, offset=0.5).fit(X, y)
    est.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(out, est.predict(X), rtol=1e-4, atol=1e-4)


class Certain(ClassificationTarget):
    """Classes, whose probabilities are squared."""

    def link(self, raw: Any) -> Any:
        return super().link(2 * raw)


def test_a_kind_of_class_of_ones_own_behind_gates() -> None:
    """Derived from classification: it has probabilities, and may be a gate."""
    X, y = make_every_kind(200)
    level, size = y[:, 1], np.where(y[:, 1] == 3, y[:, 5], np.nan)
    both = np.column_stack([level, size])
    size_task = Task("size", "regression", given=("level", 3))
    trunk = DenseTrunk((4,), n_members=1)
    fits = [
        small(tasks=[Task("level", kind), size_task], trunk=trunk).fit(X, both)
        for kind in (Certain(), "classification")
    ]
    for est in fits:
        est.set_params(conditional_output="expected")
    certain, plain = fits
    np.testing.assert_array_equal(certain.predict(X)[:, 0], plain.predict(X)[:, 0])
    odds, sure = plain.predict_proba(X), certain.predict_proba(X)
    np.testing.assert_allclose(sure, odds**2 / (odds**2).sum(axis=1, keepdims=True), rtol=1e-9)
    ratio = certain.predict(X)[:, 1] / plain.predict(X)[:, 1]
    np.testing.assert_allclose(ratio, sure[:, 2] / odds[:, 2], rtol=1e-9)


def test_what_a_kind_of_ones_own_has_to_say() -> None:
    """The base says what is missing, and what need not be."""
    bare, ones = Kind(), np.ones(3)
    for call in (
        lambda: bare.fit(ones, ones),
        lambda: bare.encode(ones),
        lambda: bare.constant(ones, ones),
        lambda: bare.link(ones),
        lambda: bare.metric,
    ):
        with pytest.raises(NotImplementedError):
            call()
    assert bare.check(ones) is None
    assert bare.ordered(["a", "b"]) is bare
    assert bare.loss_params == {}
    assert bare.units == (1, 0)
    assert bare.balance(np.ones((3, 1, 1)), ones, ones).tolist() == [0]
    assert np.isnan(bare.noise_std(np.ones((3, 1, 1)), ones, ones))
    assert bare.measured(ones) is ones
    assert not hasattr(bare, "cell_loss")


# -- found by breaking it -------------------------------------------------------------------


def test_inputs_out_of_all_bounds_are_refused() -> None:
    X = np.random.default_rng(0).normal(size=(60, 3))
    est = small(tasks={"y0": "poisson"}, precision="float32").fit(X, np.arange(60) % 4)
    assert np.isfinite(est.predict(X * 1e6)).all()
    X[[7, 9]] = 1e300
    with pytest.raises(ValueError, match=r"not finite in 2 rows of X, the first \[7, 9\]"):
        est.predict(X)


def test_huge_weights_are_weights() -> None:
    X, y = make_every_kind(60)
    fits = [small(tasks=EVERY_KIND).fit(X, y, np.full(60, w)).predict(X) for w in (1.0, 1e308)]
    np.testing.assert_array_equal(*fits)


def test_parameters_may_be_arrays() -> None:
    """Which do not compare as one."""

    class Binned(RegressionTarget):
        def __init__(self, edges: Any) -> None:
            self.edges = edges

    assert Binned(np.arange(3)) == Binned(np.arange(3))
    assert Binned(np.arange(3)) != Binned(np.arange(4))
    assert Binned([0, 1]) == Binned([0, 1]) != Binned(None)
    assert Task("a", Binned(np.arange(3))) == Task("a", Binned(np.arange(3)))


@pytest.mark.parametrize(
    "edges", [[[1], [1, 2]], {"a": np.arange(3)}, float("nan"), np.arange(3), None]
)
def test_kinds_compare_whatever_their_parameters_are(edges: Any) -> None:
    class Binned(RegressionTarget):
        def __init__(self, edges: Any) -> None:
            self.edges = edges

    assert Binned(edges) == Binned(copy.deepcopy(edges)) != Binned("other")


def test_kinds_in_a_dict_of_tasks_are_cloned() -> None:
    """scikit-learn looks into dicts for what has parameters."""
    estimator = MultiTaskCNNEstimator({"r": QuantileTarget(0.9)})
    assert clone(estimator).tasks == {"r": QuantileTarget(0.9)}
    categories = MultiTaskCNNEstimator({"r": OrdinalTarget(["low", "high"])})
    assert clone(categories).tasks == categories.tasks


def test_an_order_leaves_the_other_parameters_of_a_kind_alone() -> None:
    class Shaded(OrdinalTarget):
        def __init__(self, alpha: float = 1.0) -> None:
            super().__init__()
            self.alpha = alpha

    shaded = Shaded(3.0)
    ordered = shaded.ordered(("b", "a"))
    assert (ordered.alpha, ordered.categories) == (3.0, ("b", "a"))
    assert (shaded.alpha, shaded.categories) == (3.0, None)
    assert ordered.ordered(("a", "b")) is ordered


def test_a_kind_has_to_say_how_it_is_measured() -> None:
    class Unmeasured(Kind):
        def fit(self, values: Any, weight: Any, order: Any = None) -> Kind:
            return self

        def encode(self, values: Any) -> Any:
            return values.astype(float)

        def constant(self, codes: Any, weight: Any) -> Any:
            return np.zeros(1)

    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(
        ValueError, match="Task 'a': Unmeasured does not say how a cell is measured"
    ):
        MultiTaskCNNEstimator([Task("a", Unmeasured())]).fit(X, X[:, 0])
