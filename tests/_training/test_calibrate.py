"""What rows left out say is made of outputs, and of lines."""

import functools

import numpy as np
import pytest
from _fits import make

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._training import calibrate, line
from sklearn_mtl.networks import DenseTrunk


def noise(n=60, d=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=n)


def of_noise(seed):
    X, y = noise(seed=seed)
    trunk = DenseTrunk((16,), n_frequencies=0)  # members that share waves share noise
    estimator = MultiTaskCNNEstimator(trunk=trunk, random_state=seed).fit(X, y)
    return estimator.oob_score_["y0"]


def test_noise_explains_itself_less(monkeypatch):
    """What is made of a fold is found on the others."""
    cross_fitted = np.mean([of_noise(seed) for seed in range(6)])
    monkeypatch.setattr(calibrate, "CROSS_FIT_ROWS", 0)
    assert cross_fitted < np.mean([of_noise(seed) for seed in range(6)]) - 0.01
    assert cross_fitted < 0.05


@pytest.mark.parametrize("output", ["estimate", "nan", "expected"])
def test_rows_left_out_are_predicted_as_all_are(output):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    gate = X[:, 0] + 0.5 * rng.normal(size=150) > 0
    y = np.column_stack([gate, np.where(gate, 5 + X[:, 1], np.nan)])
    tasks = [Task("gate", "classification"), Task("size", "regression", given=("gate", 1))]
    estimator = make(tasks=tasks, trunk=DenseTrunk(), conditional_output=output, max_epochs=20)
    left_out = estimator.fit(X, y).oob_prediction_
    predicted = estimator.predict(X)
    agree = np.isnan(left_out[:, 1]) == np.isnan(predicted[:, 1])
    assert agree.mean() > 0.9
    assert np.isnan(left_out[:, 1]).any() == (output == "nan")
    if output == "expected":
        assert left_out[~gate, 1].mean() < 3
    assert estimator.oob_score_["size"] > 0.3  # always of the estimate


@pytest.mark.parametrize("block", [1, 7])
def test_outputs_are_the_same_in_blocks(monkeypatch, block):
    """Whatever rows and tasks are asked for; lines have shares, and network and line are mixed."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = np.column_stack([X[:, 0] > 0, 2 * X[:, 1] + 0.1 * rng.normal(size=80), X[:, 2]])
    y[rng.random(80) < 0.3, 1] = np.nan
    fits = []
    for rows in (calibrate.BLOCK, block):
        monkeypatch.setattr(calibrate, "BLOCK", rows)
        fits.append(make(tasks=None, trunk=DenseTrunk(), max_epochs=10).fit(X, y))
    np.testing.assert_array_equal(fits[1].oob_prediction_, fits[0].oob_prediction_)
    assert fits[1].oob_score_ == fits[0].oob_score_
    np.testing.assert_array_equal(fits[1].noise_std_, fits[0].noise_std_)


@functools.cache
def ends(loss, task_weights=None):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = np.column_stack([np.sin(2 * X[:, 0]), np.sin(2 * X[:, 1])])
    settings = {"trunk": DenseTrunk((8,), 3), "learning_rate": 0.1, "random_state": 0}
    estimator = MultiTaskCNNEstimator(loss=loss, task_weights=task_weights, **settings)
    return estimator.fit(X, y).n_iter_


@pytest.mark.parametrize("loss", ["logprod", "weighted"])
def test_the_scale_of_an_objective_does_not_say_when_to_end(loss):
    assert ends(loss, (0.01, 0.01)) > 0.6 * ends(loss)  # rounding alone may move it


def test_the_scale_of_a_callable_does_not_say_when_to_end():
    assert ends(lambda losses: 0.01 * losses.sum()) > 0.6 * ends("weighted")


def test_a_task_of_one_group_is_learned():
    """Each place measures a target of its own, and places are the groups."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    truth, place = X[:, 0] + 0.5 * X[:, 1], np.arange(150) % 3
    y = np.where(place[:, None] == np.arange(3), truth[:, None], np.nan)
    estimator = MultiTaskCNNEstimator(max_epochs=30, random_state=0)
    with pytest.warns(UserWarning, match=r"groups has one label for all targets of \['y0', 'y1', "):
        estimator.fit(X, y, groups=place)
    assert not hasattr(estimator, "oob_score_")
    assert estimator.score(X, np.repeat(truth[:, None], 3, axis=1)) > 0.9
    one = MultiTaskCNNEstimator(max_epochs=30, random_state=0)
    with pytest.warns(UserWarning, match=r"groups has one label for all targets of \['y0'\]"):
        one.fit(X, truth, groups=np.zeros(150))
    assert one.score(X, truth) > 0.9


def test_a_task_in_one_fold_is_not_shrunk(monkeypatch):
    """As it may be by chance: the member that leaves it out knows nothing of the task."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 3))
    rare = np.arange(100) < 20
    y = np.column_stack([X[:, 0], np.where(rare, X[:, 1], np.nan)])
    dealt = np.where(rare, 0, 1 + np.arange(100) % 4)
    monkeypatch.setattr("sklearn_mtl._training.dealing.deal_folds", lambda *_: dealt)
    estimator = MultiTaskCNNEstimator(max_epochs=40, random_state=0).fit(X, y)
    assert np.corrcoef(estimator.predict(X[rare])[:, 1], y[rare, 1])[0, 1] > 0.8
    assert estimator.oob_score_["y1"] < 0.1


def test_a_rare_task_is_not_judged_by_a_few_rows_of_a_sample(monkeypatch):
    """It has no line then, and all of its rows say how far it is shrunk."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4))
    y = np.column_stack([X[:, 0], np.where(np.arange(600) < 40, X[:, 1], np.nan)])
    found = []

    def find_lines(plan, net):
        found.append(line.find_lines(plan, net))
        return found[-1]

    monkeypatch.setattr(calibrate, "find_lines", find_lines)
    monkeypatch.setattr(line, "ENOUGH", 100)
    for values, tasks in ((10**6, {0, 1}), (600, {0})):
        monkeypatch.setattr(line, "VALUES", values)
        fit = MultiTaskCNNEstimator(trunk=DenseTrunk((32,)), max_epochs=30, random_state=0).fit(
            X, y
        )
        lines = found[-1]
        assert (lines.place >= 0).sum() == len(lines.X) == min(600, values // 4)
        assert set(lines.tasks) == tasks
        assert fit.score_tasks(X, X[:, :2])["y1"] > 0.5
