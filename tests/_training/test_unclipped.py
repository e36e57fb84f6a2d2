"""Lines over inputs that are not clipped: where rows left out ask for them, and nowhere else."""

import copy
import functools
import pickle

import joblib
import numpy as np
import pytest
import torch
from _fits import make

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._training import calibrate, line
from sklearn_mtl.networks import DenseTrunk, MemberTrunk


def countries(n=200, seed=0):
    """Growth = births - deaths + migration, of few giants; and noise, a class and a bent number."""
    rng = np.random.default_rng(seed)
    size = rng.lognormal(sigma=2, size=n)
    births, deaths = size * rng.uniform(0.5, 1.5, n), size * rng.uniform(0.3, 1.2, n)
    X = np.column_stack([births, deaths, size * rng.normal(scale=0.5, size=n)])
    y = np.column_stack(
        [X @ [1, -1, 1], rng.normal(size=n), births > deaths, np.sin(2 * np.log(size))]
    )
    return X, y


def new_countries():
    """Others, within the range of those."""
    (known, _), (X, y) = countries(), countries(400, seed=1)
    inside = ((known.min(axis=0) < X) & (known.max(axis=0) > X)).all(axis=1)
    return X[inside], y[inside]


def new_countries_with(y):
    """Others, with a column for each one of y."""
    X, truth = new_countries()
    return X, np.column_stack([truth, *[truth[:, 0]] * (y.shape[1] - truth.shape[1])])


def fit():
    return MultiTaskCNNEstimator(random_state=0, max_epochs=30).fit(*countries())


fitted = functools.cache(fit)


def bounds_of(estimator):
    return estimator.module_.trunk.bounds


def scores(estimator, X, y):
    return np.array([*estimator.score_tasks(X, y).values()])


def test_an_identity_of_heavy_tails_is_learned(monkeypatch):
    """Growth is, out of sample; noise, class and bent number are not touched."""
    X, y = new_countries()
    now = fitted()
    monkeypatch.setattr(calibrate, "unclipped", lambda *_: None)
    before = fit()
    assert bounds_of(before) is None
    assert scores(before, X, y)[0] < 0.95
    assert scores(now, X, y)[0] > 0.999
    assert now.oob_score_["y0"] > 0.999
    assert now.noise_std_[0] < 0.05 * before.noise_std_[0]
    np.testing.assert_allclose(now.predict(X)[:, 1:], before.predict(X)[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(now.oob_prediction_[:, 1:], before.oob_prediction_[:, 1:])


def flags(rng):
    return rng.integers(0, 3, size=(150, 4)).astype(float), [1, 2, -1, 0]


def normals(rng):
    return rng.normal(size=(150, 4)), [0, 0, 0, 0]


def tails(rng):
    return rng.standard_t(2, size=(150, 4)), [0, 0, 0, 0]


@pytest.mark.parametrize("inputs", [flags, normals, tails])
def test_nothing_else_changes_a_bit(monkeypatch, inputs):
    """Inputs that are hardly clipped, though their line is exact; and noise, of heavy tails too."""
    rng = np.random.default_rng(0)
    X, slope = inputs(rng)
    y = np.column_stack([X @ slope + (not any(slope)) * rng.normal(size=150), rng.normal(size=150)])
    fits = [make(tasks=None, trunk=DenseTrunk(), max_epochs=5).fit(X, y)]
    monkeypatch.setattr(calibrate, "unclipped", lambda *_: None)
    fits.append(make(tasks=None, trunk=DenseTrunk(), max_epochs=5).fit(X, y))
    now, before = fits
    assert now.module_.state_dict().keys() == before.module_.state_dict().keys()
    for estimator in fits:
        assert bounds_of(estimator) is None
    np.testing.assert_array_equal(now.predict(X), before.predict(X))
    np.testing.assert_array_equal(now.oob_prediction_, before.oob_prediction_)


def test_inputs_that_are_hardly_clipped_are_not_looked_at_again(monkeypatch):
    """Nor are there other lines where nothing is clipped."""
    reads, read = [], line._read
    monkeypatch.setattr(line, "_read", lambda *args: reads.append(args) or read(*args))
    rng = np.random.default_rng(0)
    rare = (rng.random((150, 4)) < 0.03).astype(float)  # far from their means, but of two values
    for n_fits, X in enumerate([flags(rng)[0], rare], start=1):
        make(tasks=None, max_epochs=1).fit(X, X @ [1, 2, -1, 0])
        assert len(reads) == n_fits
    rare[0, 0] = 0.5
    make(tasks=None, max_epochs=1).fit(rare, rare @ [1, 2, -1, 0])
    assert len(reads) == 4
    found, ridges = [], line._ridges
    monkeypatch.setattr(line, "_ridges", lambda *args: found.append(args) or ridges(*args))
    X, y = countries(60)
    spec = DenseTrunk((8,), n_members=2, n_frequencies=0)
    assert bounds_of(make(tasks=None, trunk=spec, max_epochs=1).fit(X, y[:, 0])) is None
    assert len(found) == 1


class Own(MemberTrunk):
    """Makes its features itself."""

    def forward(self, x):
        return super().forward(x)[..., : 8 + 3]


class OwnSpec:
    n_folds = 2

    def build(self, input_shape):
        return Own(input_shape, DenseTrunk()._embedding(3, (0, 1, 2), None)[0], 3, [8], 2)


def test_trunks_that_make_their_features_themselves_see_what_they_saw():
    X, y = countries()
    estimator = make(tasks=None, trunk=OwnSpec()).fit(X, y[:, 0])
    assert bounds_of(estimator) is None
    assert np.isfinite(estimator.predict(X)).all()


def test_predictions_end_one_range_beyond_the_data():
    X, _ = countries()
    low, high = X.min(axis=0), X.max(axis=0)
    estimator, spread = fitted(), high - low
    far = np.tile(np.median(X, axis=0), (4, 1))
    far[:, 0] = [high[0] + 0.9 * spread[0], high[0] + spread[0], 1e6 * spread[0], 1e12]
    growth = estimator.predict(far)[:, 0].astype(float)
    np.testing.assert_allclose(growth[0], far[0] @ [1, -1, 1], rtol=0.01)
    np.testing.assert_allclose(growth[1:], far[1] @ [1, -1, 1], rtol=0.01)
    bounds = np.stack([2 * low - high, 2 * high - low])
    reader = estimator._fitted.reader
    np.testing.assert_allclose(
        bounds_of(estimator).numpy(), (bounds - reader.mean_) / reader.scale_, rtol=1e-5
    )
    for value in (np.nan, np.inf, -np.inf):
        far[0, 0] = value
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            estimator.predict(far)


def test_predictions_are_linear_in_the_representation():
    X, _ = countries(50, seed=2)
    estimator, module = fitted(), fitted().module_
    n_members, n_features = module.n_folds, module.n_features
    embedded = estimator.embed(X)
    assert embedded.shape == (50, n_members * n_features)
    weight = module.heads.weight.detach().double().numpy()
    members = embedded.reshape(50, n_members, n_features)
    raw = np.einsum("nmf,mfo->no", members, weight) / n_members
    raw += module.heads.bias.detach().double().numpy().mean(axis=0)
    np.testing.assert_allclose(estimator._fitted.raw(X).mean(axis=1), raw, rtol=1e-4, atol=1e-4)
    assert not weight[:, -3:, 1:].any()  # of other tasks
    assert not weight[:, -6:-3, 0].any() or weight[:, -3:, 0].any()


def through_a_file(estimator, folder):
    estimator.save(folder / "fit.safetensors")
    return MultiTaskCNNEstimator.load(folder / "fit.safetensors")


def through_a_pickle(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator, folder):
    joblib.dump(estimator, folder / "fit.joblib")
    return joblib.load(folder / "fit.joblib")


@pytest.mark.parametrize(
    "way", [through_a_file, through_a_pickle, through_joblib, lambda fit, _: copy.deepcopy(fit)]
)
def test_copies_predict_the_same(way, tmp_path):
    X, _ = countries(50, seed=2)
    again = way(fitted(), tmp_path)
    np.testing.assert_array_equal(again.predict(X), fitted().predict(X))
    np.testing.assert_array_equal(again.embed(X), fitted().embed(X))
    assert again.module_.n_features == fitted().module_.n_features
    state = fitted().module_.state_dict()
    fresh = make(max_epochs=1, trunk=DenseTrunk(), tasks=None).fit(*countries(60, seed=3))
    fresh.module_.load_state_dict(state)
    assert torch.equal(bounds_of(fresh), state["trunk.bounds"])


def test_graphs_predict_the_same(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="runs the graphs")
    X, _ = countries(50, seed=2)
    X[0, 0] = 1e6
    fitted().to_onnx(tmp_path / "fit.onnx")
    session = runtime.InferenceSession(tmp_path / "fit.onnx")
    found = session.run(None, {"X": X.astype(np.float32)})
    expected = fitted().predict(X)[:, 0].astype(float)
    np.testing.assert_allclose(found[0].ravel(), expected, rtol=1e-3, atol=1e-3)
    module = fitted().as_module("y0")
    np.testing.assert_allclose(
        module(torch.from_numpy(X)).detach().numpy().ravel(), expected, rtol=1e-3, atol=1e-3
    )


def test_rows_left_out_are_predicted_by_what_predicts():
    """And so are intervals and noise found."""
    (X, y), estimator = countries(), fitted()
    left_out = estimator.oob_prediction_[:, 0].astype(float)
    np.testing.assert_allclose(estimator.predict(X)[:, 0], left_out, rtol=1e-3, atol=1e-3)
    assert estimator.oob_score_["y0"] == pytest.approx(estimator.score_tasks(X, y)["y0"], abs=1e-3)
    low, high = estimator.predict_interval(X, 0.9)[:, 0].astype(float).T
    assert (high - low).max() < 0.01 * y[:, 0].std()


def test_many_predictions_by_lines_are_made_when_asked_for(monkeypatch):
    monkeypatch.setattr(line, "KEPT", 0)
    (X, _), made, kept = countries(), fit(), fitted()
    np.testing.assert_allclose(made.predict(X), kept.predict(X), rtol=1e-5)
    np.testing.assert_allclose(made.oob_prediction_, kept.oob_prediction_, rtol=1e-5)


@pytest.mark.parametrize("standardize", [True, False])
def test_inputs_may_be_of_any_size(standardize):
    """Also constants and flags; rows without weight say nothing of the bounds."""
    (X, y), (new, truth) = countries(), new_countries()
    weight = np.ones(200)
    weight[0], y[0, 0] = 0, 1e9

    def wide(X):
        flag = np.arange(len(X)) % 2
        return np.column_stack([X * [1e6, 1, 1], np.full(len(X), 7.0), flag, 1 - flag])

    params = {"max_epochs": 2, "random_state": 0, "standardize": standardize}
    X = wide(X)
    estimator = MultiTaskCNNEstimator(**params).fit(X, y[:, 0], sample_weight=weight)
    assert estimator.score(wide(new), truth[:, 0]) > 0.999
    low, high = X[1:].min(axis=0), X[1:].max(axis=0)
    bounds, reader = np.stack([2 * low - high, 2 * high - low]), estimator._fitted.reader
    expected = (bounds - reader.mean_) / reader.scale_
    np.testing.assert_allclose(bounds_of(estimator).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_holes_and_tasks_of_few_folds():
    """Of which each has a line of its own, or none."""
    X, y = countries()
    rng = np.random.default_rng(0)
    holes = rng.random((200, 4)) < [0.4, 0.2, 0, 0.9]
    y = np.column_stack([np.where(holes, np.nan, y), np.where(np.arange(200) < 2, y[:, 0], np.nan)])
    estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
    assert estimator.score_tasks(*new_countries_with(y))["y0"] > 0.999
    assert np.isfinite(estimator.predict(X).astype(float)).all()


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on(method):
    X, y = countries()
    estimator = copy.deepcopy(fitted()).set_params(warm_start=True, max_epochs=3)
    before = bounds_of(estimator).clone()
    for _ in range(3):
        getattr(estimator, method)(X, y)
    assert torch.equal(bounds_of(estimator), before)
    assert scores(estimator, *new_countries())[0] > 0.97


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on_with_inputs_of_any_size(method):
    """One step of a weight moves no prediction far, of tasks without such a line neither."""
    (X, y), (new, truth) = countries(), new_countries()
    sizes = [1e6, 1, 1]
    estimator = MultiTaskCNNEstimator(standardize=False, max_epochs=2, random_state=0)
    estimator.fit(X * sizes, y).set_params(warm_start=True)
    getattr(estimator, method)(X * sizes, y)
    assert bounds_of(estimator) is not None
    now = scores(estimator, new * sizes, truth)
    assert now[0] > 0.97
    assert (now > -0.5).all()


def test_a_weight_of_two_is_the_row_twice():
    """For the choice of inputs: rows that are equal count as one that weighs more."""
    _, y = countries(40)
    rng = np.random.default_rng(0)
    twice = np.repeat(np.arange(40), rng.integers(1, 3, size=40))
    before, now = rng.lognormal(sigma=2, size=(2, 40))
    weight, truth, found = np.bincount(twice).astype(float), y[:, 0], set()
    for scale in np.linspace(0.1, 1, 30):
        errors = (scale * now, before, truth, np.ones(40), np.arange(40))
        *parts, _, groups = errors
        weighed = calibrate._is_much_less(*parts, weight, groups)
        repeated = calibrate._is_much_less(*(part[twice] for part in errors))
        scaled = calibrate._is_much_less(*parts, 1e-3 * weight, groups)
        assert weighed == repeated == scaled
        found.add(weighed)
    assert found == {True, False}


@pytest.mark.parametrize(
    ("ratio", "rows", "expected"),
    [(0.5, 60, True), (0.85, 60, False), (1.5, 60, False), (0.5, 1, False)],
)
def test_much_is_to_be_gained_and_not_in_one_row(ratio, rows, expected):
    rng = np.random.default_rng(0)
    truth, before = rng.normal(size=60), rng.uniform(0.1, 0.2, size=60)
    now = before.copy()
    now[:rows] *= ratio
    if rows == 1:  # which had nearly all errors
        before[0], now = 50, np.append(20, before[1:] + 1e-9)
    args = truth, np.ones(60), np.arange(60)
    assert calibrate._is_much_less(now, before, *args) == expected
    assert not calibrate._is_much_less(1e-6 * now, 1e-6 * before, *args)  # is all but exact


@pytest.mark.parametrize("heavy", ["a weight", "equal rows"])
def test_not_even_a_row_that_weighs_more_has_it_alone(heavy):
    rng = np.random.default_rng(0)
    truth, weight, groups = 3 * rng.normal(size=60), np.ones(60), np.arange(60)
    before, now = np.full(60, 0.1), np.full(60, 0.1)
    if heavy == "a weight":
        weight[:2] = 10
    else:
        groups = np.repeat(np.arange(6), 10)
    one = groups == 0
    before[one], now[one] = 50, 20
    assert not calibrate._is_much_less(now, before, truth, weight, groups)
    now[groups == 1] *= 0.1
    assert calibrate._is_much_less(now, before, truth, weight, groups)


def test_equal_rows_are_one_in_fits_too(monkeypatch):
    X, y = countries(60)
    asked, is_much_less = [], calibrate._is_much_less
    monkeypatch.setattr(
        calibrate, "_is_much_less", lambda *args: asked.append(args) or is_much_less(*args)
    )
    make(tasks=None, trunk=DenseTrunk()).fit(np.tile(X, (2, 1)), np.tile(y[:, 0], 2))
    groups = asked[0][-1]
    np.testing.assert_array_equal(groups[:60], groups[60:])
    assert len(np.unique(groups)) == 60


def test_bounds_that_a_trunk_has_are_kept():
    """Also where rows left out would ask for others."""
    trunk = copy.deepcopy(fitted().module_.trunk)
    trunk.bounds.clamp_(-0.1, 0.1)
    estimator = make(tasks=None, trunk=trunk, learning_rate=1e-6).fit(*countries())
    assert torch.equal(bounds_of(estimator), trunk.bounds)
    assert estimator.module_.n_features == fitted().module_.n_features


def test_a_network_that_sees_them_can_be_a_trunk():
    """Its lines are then over all that its heads see, and nothing is added."""
    trunk = fitted().module_.trunk
    (X, y), (new, truth) = countries(), new_countries()
    again = MultiTaskCNNEstimator(trunk=trunk, random_state=0, max_epochs=1, learning_rate=1e-6)
    again.fit(X, y)
    assert torch.equal(bounds_of(again), bounds_of(fitted()))
    assert again.module_.n_features == fitted().module_.n_features
    assert scores(again, new, truth)[0] > 0.999
