"""Members that leave out folds: what is known of rows that were not trained on, and groups."""

import contextlib
import copy
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from _asserts import assert_alike, pickled
from _inputs import EVERY_KIND, make_every_kind, make_table
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, Freezer
from skorch.utils import noop

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.rows import Samples
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training import calibrate
from sklearn_mtl._training.copies import copied
from sklearn_mtl._training.plan import parameters_of, plan_fit
from sklearn_mtl.kinds import RegressionTarget
from sklearn_mtl.networks import DenseTrunk, Ensemble

X, Y = make_table(90)
OOB = ["oob_prediction_", "oob_decision_function_", "oob_score_"]


def small(*callbacks, **params):
    net_params = {"callbacks": list(callbacks)} if callbacks else None
    defaults = {"trunk": DenseTrunk((8,)), "max_epochs": 3, "random_state": 0}
    return MultiTaskCNNEstimator(**(defaults | {"net_params": net_params} | params))


def by_the_data(*callbacks, **params):
    """Trained until the folds left out say so, in little time."""
    return small(*callbacks, **({"max_epochs": "auto", "learning_rate": 0.02} | params))


def folds_of(estimator, X, y, groups=None, sample_weight=None, hold_out=False):
    samples = Samples(X, y, sample_weight, groups)
    return plan_fit(parameters_of(estimator), samples, hold_out=hold_out)


# -- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("max_epochs", [3, "auto"])
def test_rows_are_predicted_by_the_member_that_left_them_out(max_epochs, monkeypatch):
    """Alone, by what the estimator ends with, but that shares are found without the fold."""
    monkeypatch.setattr(calibrate, "CROSS_FIT_ROWS", 0)
    estimator = by_the_data(max_epochs=max_epochs).fit(X, Y)
    fitted, folds = fitted_of(estimator), folds_of(estimator, X, Y).folds
    raw = fitted.raw(X)[np.arange(len(X)), folds]
    expected = fitted.encoder.matrix(fitted.encoder.decode(raw))
    np.testing.assert_allclose(estimator.oob_prediction_, expected, rtol=1e-6, atol=1e-7)
    proba = fitted.encoder.probabilities(raw)["y0"]
    np.testing.assert_allclose(estimator.oob_decision_function_, proba, rtol=1e-6, atol=1e-7)


def words_and_numbers():
    return pd.DataFrame(
        {"word": np.where(X[:, 0] > 0, "yes", "no"), "size": X[:, 1], "flag": X[:, 2] > 0}
    )


@pytest.mark.parametrize(
    "y",
    [X[:, 0], X[:, 0] > 0, np.where(X[:, 0] > 0, "a", "b"), Y, words_and_numbers()],
    ids=["numbers", "bools", "strings", "matrix", "frame"],
)
def test_predictions_of_rows_left_out_are_laid_out_as_those_of_predict(y):
    estimator = small().fit(X, y)
    predicted = estimator.predict(X)
    assert estimator.oob_prediction_.shape == predicted.shape
    assert estimator.oob_prediction_.dtype == predicted.dtype
    if hasattr(estimator, "classes_"):
        proba, found = estimator.predict_proba(X), estimator.oob_decision_function_
        assert type(found) is type(proba)
        for a, b in zip(np.atleast_3d(found), np.atleast_3d(proba), strict=True):
            assert a.shape == b.shape
    else:
        assert not hasattr(estimator, "oob_decision_function_")


@pytest.mark.parametrize("y", [X[:, 0], words_and_numbers()], ids=["numbers", "frame"])
def test_rows_without_weight_have_holes(y):
    weight = np.ones(90)
    weight[[3, 50]] = 0
    estimator = small().fit(X, y, sample_weight=weight)
    holes = pd.isna(estimator.oob_prediction_)
    assert np.flatnonzero(holes.reshape(90, -1).any(axis=1)).tolist() == [3, 50]
    assert holes.reshape(90, -1)[[3, 50]].all()
    if hasattr(estimator, "oob_decision_function_"):
        for proba in estimator.oob_decision_function_:
            assert np.flatnonzero(np.isnan(proba).all(axis=1)).tolist() == [3, 50]


def test_scores_are_those_of_the_predictions():
    """Over the rows in which each target was observed."""
    estimator = small(max_epochs=20).fit(X, Y)
    found = estimator.oob_prediction_
    metrics = [accuracy_score, r2_score, r2_score]
    for k, (name, metric) in enumerate(zip(estimator.task_names_, metrics, strict=True)):
        seen = ~np.isnan(Y[:, k])
        expected = metric(Y[seen, k], found[seen, k])
        assert estimator.oob_score_[name] == pytest.approx(expected, abs=1e-6)


def test_a_task_that_is_hardly_observed_has_no_score_and_no_warning():
    y = Y.copy()
    y[1:, 1] = np.nan
    y[0, 1] = 1.0
    estimator = small(tasks={"y1": "regression"}).fit(X, y)
    assert np.isnan(estimator.oob_score_["y1"])
    assert np.isfinite(estimator.oob_score_["y0"])


@pytest.mark.parametrize(
    "params",
    [{"trunk": DenseTrunk((8,), n_members=1)}, {"trunk": DenseTrunk(())}],
    ids=["one member", "linear"],
)
def test_who_leaves_out_nothing_says_nothing(params):
    estimator = small(**params).fit(X, Y)
    assert [name for name in OOB if hasattr(estimator, name)] == []
    assert "oob_loss" not in estimator.history_


def test_training_that_goes_on_leaves_out_nothing():
    estimator = small(warm_start=True).fit(X, Y)
    assert [name for name in OOB if not hasattr(estimator, name)] == []
    estimator.fit(X, Y)
    assert [name for name in OOB if hasattr(estimator, name)] == []
    estimator.set_params(warm_start=False).fit(X, Y)
    assert [name for name in OOB if not hasattr(estimator, name)] == []
    estimator.partial_fit(X, Y)
    assert [name for name in OOB if hasattr(estimator, name)] == []


def test_few_rows_can_be_fitted():
    """Fewer than folds: a member may leave out nothing."""
    for n in (1, 2, 3, 6):
        estimator = by_the_data().fit(X[:n], X[:n, 0])
        assert np.isfinite(estimator.predict(X)).all()
        assert np.isfinite(estimator.oob_prediction_).all()


def test_copies_keep_what_is_known_of_rows_left_out():
    estimator = by_the_data().fit(X, Y)
    for twin in (pickled(estimator), copy.deepcopy(estimator)):
        for name in OOB:
            assert_alike(getattr(twin, name), getattr(estimator, name))
        np.testing.assert_array_equal(twin.predict(X), estimator.predict(X))
    assert not hasattr(clone(estimator), "oob_score_")


# -- losses of the folds left out ----------------------------------------------------------------


def test_losses_of_rows_left_out_by_hand():
    """Of a squared error, by each row's own member of the averaged module."""
    seen = []

    class Note(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(copy.deepcopy(net.averaged_))

    number = X[:, 0] + X[:, 1]
    settings = {"loss": "weighted", "precision": "float64", "batch_size": 30}
    estimator = by_the_data(Note(), **settings).fit(X[:83], number[:83])
    folds = folds_of(estimator, X[:83], number[:83]).folds
    z = torch.from_numpy((X[:83] - X[:83].mean(axis=0)) / X[:83].std(axis=0))
    codes = (number[:83] - number[:83].mean()) / number[:83].std()
    losses = estimator.history_["oob_loss"][:, 0]
    assert len(losses) == len(seen) == estimator.n_iter_
    for module, loss in zip(seen[::10], losses[::10], strict=True):
        raw = module(z, by_member=True).detach().numpy()[np.arange(83), folds, 0]
        assert loss == pytest.approx(np.mean((raw - codes) ** 2), rel=1e-9)


@pytest.mark.parametrize("monitor", ["oob_loss", "oob_loss/y2"])
def test_callbacks_may_watch_rows_left_out(monitor):
    stopping = EarlyStopping(monitor, patience=2, threshold=0, sink=noop)
    estimator = by_the_data(stopping, learning_rate=0.1).fit(X, Y)
    found = estimator.net_.history[:, monitor]
    assert len(found) == np.argmin(found) + 1 + 2 < by_the_data(learning_rate=0.1).fit(X, Y).n_iter_


@pytest.mark.parametrize("params", [{"max_epochs": 3}, {"trunk": DenseTrunk(())}], ids=str)
def test_callbacks_that_watch_rows_which_are_not_there(params):
    estimator = by_the_data(EarlyStopping("oob_loss"), **params)
    with pytest.raises(ValueError, match=r"Those of folds left out ask for max_epochs='auto'"):
        estimator.fit(X, Y)


def test_advice_on_watching_rows_left_out_can_be_followed():
    """An ensemble has them of rows, and of images it has not; a dense trunk has them of both."""
    images = X[:, :, None, None]
    stopping = EarlyStopping("oob_loss", patience=1, sink=noop)
    trunk = Ensemble(DenseTrunk((4,), n_members=1), 2)
    with pytest.raises(ValueError, match="DenseTrunk of several members; or, if X is rows of n"):
        by_the_data(stopping, trunk=trunk).fit(images, Y)
    for inputs, advised in ((images, DenseTrunk((4,), n_members=2)), (X, trunk)):
        assert "oob_loss" in by_the_data(stopping, trunk=advised).fit(inputs, Y).history_


def test_a_row_that_weighs_nothing_has_no_prediction_and_no_score():
    """It counts where another of its targets weighs something."""
    label = np.where(X[:, 0] > 0.5, "a", np.where(X[:, 0] < -0.5, "b", "x"))
    params = {"class_weight": {"label": {"x": 0}}, "max_epochs": 40}
    alone = by_the_data(**params).fit(X, pd.DataFrame({"label": label}))
    pair = by_the_data(**params).fit(X, pd.DataFrame({"label": label, "number": X[:, 1]}))
    known, predicted = label != "x", alone.oob_prediction_[:, 0]
    np.testing.assert_array_equal(pd.notna(predicted), known)
    right = predicted[known] == label[known]
    assert alone.oob_score_["label"] == pytest.approx(right.mean())
    assert pair.oob_score_["label"] == pytest.approx((pair.oob_prediction_[:, 0] == label).mean())


def test_lines_that_are_printed_have_the_loss_of_rows_left_out():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        by_the_data(verbose=1).fit(X, Y)
    head = out.getvalue().splitlines()[0].split()
    assert {"oob_loss", "y1", "train_loss"} <= set(head)


def test_validation_data_do_not_say_when_to_stop():
    """Without `early_stopping` they fill the history, and no more."""
    alone = by_the_data().fit(X, Y)
    watched = by_the_data().fit(X, Y, X_val=X[:20], y_val=-(Y[:20] ** 2) % 2)
    np.testing.assert_array_equal(watched.predict(X), alone.predict(X))
    np.testing.assert_array_equal(watched.history_["oob_loss"], alone.history_["oob_loss"])
    assert np.isfinite(watched.history_["valid_loss"]).all()


def test_early_stopping_watches_validation_data_instead():
    estimator = by_the_data(early_stopping=True, n_iter_no_change=2).fit(X, Y)
    assert set(estimator.history_) == {"train_loss", "valid_loss", "effective_weight"}
    losses = estimator.net_.history[:, "valid_loss"]
    assert len(losses) <= np.argmin(losses) + 1 + 2
    holes = np.isnan(estimator.oob_prediction_).all(axis=1)
    assert holes.sum() == 9  # held out for validation: no member was trained on them


def test_who_looks_at_an_epoch_sees_averages():
    """Copies for callbacks of scikit-learn are made of them."""
    alike = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            twin = copied(net).module_
            pairs = zip(twin.parameters(), net.averaged_.parameters(), strict=True)
            alike.append(all(torch.equal(a, b) for a, b in pairs))
            alike.append(all(p.requires_grad for p in twin.parameters()))
            alike.append(not torch.equal(twin.heads.weight, net.module_.heads.weight))

    by_the_data(Look()).fit(X, Y)
    assert len(alike) > 9
    assert all(alike)


def test_two_fits_at_once_are_as_alone():
    expected = [by_the_data(random_state=seed).fit(X, Y).predict(X) for seed in (0, 1)]
    barrier = threading.Barrier(2)

    def fit(seed):
        barrier.wait(60)
        return by_the_data(random_state=seed).fit(X, Y).predict(X)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(fit, (0, 1)))
    np.testing.assert_array_equal(found, expected)


def test_frozen_heads_are_left_alone():
    """They stay at the constants that they start with."""
    estimator = small(Freezer("heads.*")).fit(X, X[:, 0])
    assert not estimator.module_.heads.weight.any()
    assert not estimator.module_.heads.bias.any()
    np.testing.assert_allclose(estimator.oob_prediction_, X[:, 0].mean())


# -- how good they are ---------------------------------------------------------------------------


def noisy_table(n_samples, seed):
    """A mean, a count, an amount and a quantile, all of which are mostly noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 6))
    y = np.column_stack(
        [
            X[:, 0] + rng.normal(size=n_samples),
            rng.poisson(np.exp(0.5 + 0.4 * X[:, 1])),
            rng.gamma(2.0, np.exp(0.4 * X[:, 2])),
            X[:, 3] + rng.normal(size=n_samples),
        ]
    )
    return X, y


def test_noise_is_that_of_new_rows():
    """A quarter more or less, for every kind of number; residuals of training rows are smaller."""
    names = ["mean", "count", "amount", "wait"]
    kinds = ["regression", "poisson", "gamma", "quantile"]
    tasks = [Task(n, kind) for n, kind in zip(names, kinds, strict=True)]
    X, y = noisy_table(600, seed=0)
    new, truth = noisy_table(3000, seed=1)
    estimator = MultiTaskCNNEstimator(tasks=tasks, random_state=0).fit(X, y)
    error = np.sqrt(np.mean((estimator.predict(new) - truth) ** 2, axis=0))
    np.testing.assert_allclose(estimator.noise_std_, error, rtol=0.25)


def test_noise_is_not_learned_by_heart():
    """New rows are predicted about as well as by the mean, unlike by thirty epochs of one net."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(300, 10)), rng.normal(size=(2000, 10))
    y, truth = (0.1 * Z[:, 0] + rng.normal(size=len(Z)) for Z in (X, new))
    estimator = MultiTaskCNNEstimator(random_state=0).fit(X, y)
    assert estimator.score(new, truth) > -0.02
    plain = MultiTaskCNNEstimator(trunk=DenseTrunk(n_members=1), max_epochs=30, random_state=0)
    assert plain.fit(X, y).score(new, truth) < -0.1


def test_what_is_linear_is_learned_from_few_rows():
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(100, 5)), rng.normal(size=(2000, 5))
    slope = rng.normal(size=5)
    estimator = MultiTaskCNNEstimator(random_state=0).fit(X, X @ slope)
    assert estimator.score(new, new @ slope) > 0.97


# -- groups --------------------------------------------------------------------------------------


def leaking(n_groups=40, size=6):
    """Rows of a group are alike, and share a number that nothing says."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), size)
    X = rng.normal(size=(n_groups, 4))[groups] + 0.05 * rng.normal(size=(len(groups), 4))
    return X, rng.normal(size=n_groups)[groups], groups


@pytest.mark.parametrize("n_frequencies", [0, 16], ids=["no waves", "waves"])
def test_groups_that_leak_are_noticed(n_frequencies):
    X, y, groups = leaking()
    trunk = DenseTrunk((64,), n_frequencies=n_frequencies)
    rows = by_the_data(trunk=trunk).fit(X, y)
    whole = by_the_data(trunk=trunk).fit(X, y, groups=groups)
    assert rows.oob_score_["y0"] > 0.5
    assert whole.oob_score_["y0"] < 0.2
    assert whole.n_iter_ < rows.n_iter_
    assert whole.noise_std_[0] > 1.3 * rows.noise_std_[0]


@pytest.mark.parametrize("label", [lambda g: g, lambda g: [f"p{k:02}" for k in g], pd.Series])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_a_group_stay_together(early_stopping, label):
    X, y, groups = leaking()
    plan = folds_of(
        small(early_stopping=early_stopping), X, y, label(groups), hold_out=early_stopping
    )
    for group in range(40):
        assert len(np.unique(plan.folds[groups[plan.rows] == group])) <= 1
    if early_stopping:
        assert not np.isin(groups[plan.rows], groups[plan.held_out]).any()
        assert len(plan.rows) + len(plan.held_out) == len(X)
        estimator = small(early_stopping=True).fit(X, y, groups=label(groups))
        assert estimator.history_["valid_loss"].shape == (3, 1)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (np.zeros(89), r"groups has shape \(89,\), expected \(90,\): one label per row"),
        (np.zeros((90, 1)), r"groups has shape \(90, 1\)"),
        ([np.nan] + [1.0] * 89, "groups holds missing labels"),
        ([None] + ["a"] * 89, "groups holds missing labels"),
        (np.array([1] + ["a"] * 89, dtype=object), "groups holds labels that cannot be ordered"),
    ],
    ids=["short", "column", "NaN", "None", "mixed"],
)
def test_groups_that_are_none(groups, message):
    estimator = small()
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, Y, groups=groups)
    assert not hasattr(estimator, "net_")


def test_a_search_passes_groups_on_where_metadata_are_routed():
    """They are asked for by default; else they are for the splits alone."""
    X, y, groups = leaking(12)
    alone, grouped = small().fit(X, y), small().fit(X, y, groups=groups)
    assert not np.array_equal(alone.oob_prediction_, grouped.oob_prediction_)
    for routed, expected in [(False, alone), (True, grouped)]:
        with sklearn.config_context(enable_metadata_routing=routed):
            search = GridSearchCV(small(), {"loss": ["logprod"]}, cv=GroupKFold(2))
            best = search.fit(X, y, groups=groups).best_estimator_
        np.testing.assert_array_equal(best.oob_prediction_, expected.oob_prediction_)


def test_pipelines_pass_groups_on():
    X, y, groups = leaking(12)
    expected = small().fit(X, y, groups=groups).oob_prediction_
    pipeline = make_pipeline(StandardScaler(), small())
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(pipeline).fit(X, y, groups=groups)
    named = clone(pipeline).fit(X, y, multitaskcnnestimator__groups=groups)
    for fitted in (routed, named):
        np.testing.assert_allclose(fitted[-1].oob_prediction_, expected, rtol=1e-4, atol=1e-4)


def test_every_kind_is_known_of_rows_left_out():
    X, y = make_every_kind(120)
    estimator = by_the_data(tasks=EVERY_KIND).fit(X, y)
    assert estimator.oob_prediction_.shape == y.shape
    assert set(estimator.oob_score_) == {task.name for task in EVERY_KIND}
    assert np.isfinite(list(estimator.oob_score_.values())).all()


class WithoutMetric(RegressionTarget):
    """A kind whose metric is not there."""

    @property
    def metric(self):
        raise NotImplementedError("none")


def test_a_fit_is_not_lost_to_a_metric_that_fails():
    tasks = [Task("y0", "classification"), Task("own", WithoutMetric()), Task("y2", "regression")]
    with pytest.warns(UndefinedMetricWarning, match="Task 'own': rows left out cannot be scored"):
        estimator = small(tasks=tasks, max_epochs=2).fit(X, Y)
    assert np.isnan(estimator.oob_score_["own"])
    assert np.isfinite(estimator.oob_score_["y2"])
    with pytest.raises(NotImplementedError):
        estimator.score(X, Y)
