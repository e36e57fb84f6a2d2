"""Training that goes on: `partial_fit` on streams, and `warm_start`."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _fits import X, Y, make
from _inputs import EVERY_KIND, make_every_kind, make_table
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl.losses import LogProd, Uncertainty
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

TASKS = [Task("a", "classification"), Task("b", "regression"), Task("c", "regression")]


def small(**params: Any) -> MultiTaskCNNEstimator:
    trunk = DenseTrunk(hidden_layer_sizes=(8,))
    return MultiTaskCNNEstimator(**{"trunk": trunk, "max_epochs": 2, "random_state": 0} | params)


def chunks(X: Any, y: Any, size: int = 20) -> list[tuple[Any, Any]]:
    return [(X[k : k + size], y[k : k + size]) for k in range(0, len(X), size)]


def weights_of(estimator: MultiTaskCNNEstimator) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in estimator.module_.parameters()]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))


def steps_of(estimator: MultiTaskCNNEstimator) -> set[int]:
    """How many steps the optimizer has made."""
    return {int(state["step"]) for state in estimator.net_.optimizer_.state.values()}


# -- partial_fit --------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["logprod", "weighted", "masked_mse", "uncertainty"])
def test_a_stream_is_learned(loss: str) -> None:
    X, y = make_table(3000, noise=0.1)
    estimator = MultiTaskCNNEstimator(loss=loss, learning_rate=0.01, random_state=0)
    for rows in chunks(X[:2400], y[:2400], 200):
        estimator.partial_fit(*rows)
    scores = estimator.score_tasks(X[2400:], y[2400:])
    assert scores["y0"] > 0.9
    assert scores["y1"] > 0.9
    assert scores["y2"] > 0.8


def test_a_call_is_one_pass_with_a_constant_rate() -> None:
    X, y = make_table(64)
    rates: list[float] = []

    def optimizer(groups: Any, lr: float, **kwargs: Any) -> Any:
        class Noting(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                rates.extend(group["lr"] for group in self.param_groups[:1])
                return super().step(closure)

        return Noting(groups, lr)

    estimator = small(optimizer=optimizer, weight_decay=0.0, batch_size=16, learning_rate=0.03)
    estimator.partial_fit(X, y)
    assert rates == [0.03] * 4
    estimator.partial_fit(X, y)
    assert rates == [0.03] * 8
    assert estimator.n_iter_ == 2


def test_the_optimizer_goes_on() -> None:
    X, y = make_table(64)
    estimator = small(batch_size=16)
    for n_calls in (1, 2, 3):
        estimator.partial_fit(X, y)
        assert steps_of(estimator) == {4 * n_calls}
        held = {id(p) for group in estimator.net_.optimizer_.param_groups for p in group["params"]}
        assert held == {id(p) for p in estimator.module_.parameters()}


def test_what_the_loss_learns_goes_on() -> None:
    X, y = make_table(64)
    estimator = small(loss=Uncertainty()).partial_fit(X, y)
    (before,) = [p.detach().clone() for p in estimator.net_.criterion_.parameters()]
    estimator.partial_fit(X, y)
    (after,) = estimator.net_.criterion_.parameters()
    assert 0 < (after - before).abs().max() < (before.abs().max() + 1) / 2


def test_counts_and_history_go_on_and_scales_stay() -> None:
    X, y = make_every_kind(90)
    estimator = small(tasks=EVERY_KIND)
    found = []
    for rows in chunks(X, y, 30):
        estimator.partial_fit(*rows)
        found.append(estimator.history_)
    whole = small(tasks=EVERY_KIND).fit(X, y)
    np.testing.assert_array_equal(estimator.n_observed_, whole.n_observed_)
    np.testing.assert_array_equal(estimator.n_applicable_, whole.n_applicable_)
    assert estimator.n_iter_ == 3
    for name, rows in estimator.history_.items():
        assert rows.shape == (3, len(EVERY_KIND))
        np.testing.assert_array_equal(rows[:2], found[1][name])
        assert not np.array_equal(rows[1], rows[2])
    assert len(estimator.net_.history) == 1  # of an endless stream, the last part only
    first = fitted_of(small(tasks=EVERY_KIND).partial_fit(X[:30], y[:30]))
    last = fitted_of(estimator)
    np.testing.assert_array_equal(last.reader.mean_, first.reader.mean_)
    for kind, other in zip(last.encoder.kinds_, first.encoder.kinds_, strict=True):
        raw = np.ones((1, 1, kind.n_outputs))
        np.testing.assert_array_equal(kind.decode(raw), other.decode(raw))


def test_noise_is_that_of_the_last_call() -> None:
    X, y = make_table(60)
    estimator = small().partial_fit(X[:30], y[:30]).partial_fit(X[30:], y[30:])
    residual = estimator.predict(X[30:])[:, 1] - y[30:, 1]
    expected = np.sqrt(np.nanmean(residual**2))
    np.testing.assert_allclose(estimator.noise_std_[1], expected, rtol=1e-5)


def test_a_task_may_be_absent_later() -> None:
    X, y = make_table(60)
    hole = y.copy()
    hole[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"'y1' has no observed value .* kind is not declared"):
        small().partial_fit(X, hole)
    estimator = small().partial_fit(X, y).partial_fit(X, hole)
    assert np.isnan(estimator.history_["train_loss"][1, 1])
    assert np.isnan(estimator.noise_std_[1])
    assert np.isfinite(estimator.history_["train_loss"][1, [0, 2]]).all()
    with pytest.raises(ValueError, match="no observed target"):
        estimator.partial_fit(X, np.full_like(y, np.nan))


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ({"a": ["blue", "green", "red"]}, ["blue", "green", "red"]),
        ({"a": np.array(["red", "blue"])}, ["blue", "green", "red"]),
        (["red"], ["blue", "green", "red"]),
        (pd.Series(["red", "green"]), ["blue", "green", "red"]),
        (None, ["blue", "green"]),
        ([], ["blue", "green"]),
    ],
)
def test_labels_that_are_yet_to_come(classes: Any, labels: list[str]) -> None:
    X, numbers = make_table(60)
    color = np.where(numbers[:, 0] == 1, "green", "blue").astype(object)
    y = pd.DataFrame({"a": color, "b": numbers[:, 1]})
    estimator = small(learning_rate=0.2).partial_fit(X, y, classes=classes)
    assert estimator.classes_.tolist() == labels
    assert estimator.predict_proba(X).shape == (60, len(labels))
    later = y.assign(a="red")
    if "red" in labels:
        for _ in range(20):
            estimator.partial_fit(X, later)
        assert (estimator.predict(X)[:, 0] == "red").all()
    else:
        with pytest.raises(ValueError, match=r"'red' was not seen.*classes=\{'a': \[...\]\}"):
            estimator.partial_fit(X, later)


@pytest.mark.parametrize("known", ["classes", "categories", "type"])
def test_labels_of_an_ordinal_task_that_are_yet_to_come(known: str) -> None:
    X, y = make_table(60)
    levels = ["low", "mid", "high"]
    categories = None if known == "type" else levels
    tasks = [Task("grade", "ordinal", categories=categories), Task("b", "regression")]
    grade = pd.Series(np.where(y[:, 0] == 1, "mid", "low")).astype(object)
    if known == "type":
        grade = grade.astype(pd.CategoricalDtype(levels, ordered=True))
    y = pd.DataFrame({"grade": grade, "b": y[:, 1]})
    classes = {"grade": ["high"]} if known == "classes" else None
    estimator = small(tasks=tasks).partial_fit(X, y, classes=classes)
    assert estimator.classes_.tolist() == ["low", "mid", "high"]
    estimator.partial_fit(X, y.assign(grade="high"))
    assert estimator.n_observed_[0] == 120


def test_a_gate_whose_label_is_yet_to_come() -> None:
    X, y = make_table(60)
    tasks = [Task("a", "classification"), Task("b", "regression", given=("a", [1.0, 2.0]))]
    first = np.column_stack([y[:, 0], np.where(y[:, 0] == 1, y[:, 1], np.nan)])
    later = np.column_stack([np.full(60, 2.0), X[:, 0]])
    estimator = small(tasks=tasks).partial_fit(X, first, classes={"a": [0, 1, 2]})
    assert estimator.partial_fit(X, later).n_applicable_[1] == 60 + (y[:, 0] == 1).sum()
    with pytest.raises(ValueError, match="exists only given"):
        estimator.partial_fit(X, np.column_stack([np.zeros(60), X[:, 0]]))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"z": [0]}, r"classes names \['z'\].*these are \['y0', 'y1'\]"),
        ({"y2": [0]}, r"classes names \['y2'\]"),
        ([0, 1], "there are 2 class tasks"),
        ({"y0": "01"}, "Pass a list of labels"),
        ({"y0": 1}, "Pass a list of labels"),
        ({"y0": pd.DataFrame({"a": [0, 1]})}, "Pass a list of labels"),
        ({"y0": [0, np.nan]}, "a missing value among the labels"),
        ({"y0": ["no"]}, r"Task 'y0': classes=\['no'\].*same type"),
    ],
)
def test_wrong_classes(classes: Any, message: str) -> None:
    X, y = make_table(60)
    y = np.column_stack([y[:, 0], y[:, 0], y[:, 1]])
    with pytest.raises(ValueError, match=message):
        small().partial_fit(X, y, classes=classes)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"early_stopping": True}, "early_stopping=True"),
        ({"class_weight": "balanced"}, "'balanced' is not supported"),
        ({"class_weight": {"y0": "balanced"}}, "'balanced' is not supported"),
    ],
)
def test_what_a_stream_cannot_have(params: dict[str, Any], message: str) -> None:
    assert not hasattr(small(**params), "partial_fit")
    with pytest.raises(AttributeError) as error:
        small(**params).partial_fit(*make_table())
    assert message in f"{error.value} {error.value.__cause__}"


def test_parameters_are_checked_in_a_stream() -> None:
    with pytest.raises(ValueError, match="'learning_rate' parameter"):
        small(learning_rate=-1).partial_fit(*make_table())


BAD = {
    "features": lambda X, y: (X[:, :2], y),
    "not finite": lambda X, y: (np.where(X > 2, np.nan, X), y),
    "lengths": lambda X, y: (X[1:], y),
    "columns": lambda X, y: (X, y[:, :2]),
    "infinite": lambda X, y: (X, np.where(y == 1, np.inf, y)),
    "no y": lambda X, y: (X, None),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("method", ["partial_fit", "fit"])
def test_a_failed_call_leaves_all_as_it_was(case: str, method: str) -> None:
    X, y = make_table()
    estimator = small(warm_start=True).partial_fit(X, y)
    before, state = weights_of(estimator), pickle.dumps(estimator.net_.optimizer_.state_dict())
    known = {name: id(value) for name, value in vars(estimator).items()}
    with pytest.raises(ValueError):  # noqa: PT011  # messages are tested where they are made
        getattr(estimator, method)(*BAD[case](X, y))
    assert same(weights_of(estimator), before)
    assert pickle.dumps(estimator.net_.optimizer_.state_dict()) == state
    assert {name: id(value) for name, value in vars(estimator).items()} == known


def test_a_failure_in_the_middle_leaves_all_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_table()
    estimator = small(batch_size=16).partial_fit(X, y)
    before, history = weights_of(estimator), fitted_of(estimator).history
    observed = estimator.n_observed_.copy()

    def fail(*args: Any) -> None:
        raise RuntimeError("late")

    monkeypatch.setattr(fitted_of(estimator).encoder.__class__, "noise_std", fail)
    with pytest.raises(RuntimeError, match="late"):
        estimator.partial_fit(X, y)
    assert same(weights_of(estimator), before)
    assert fitted_of(estimator).history is history
    np.testing.assert_array_equal(estimator.n_observed_, observed)


def pickled(estimator: MultiTaskCNNEstimator, folder: Path) -> MultiTaskCNNEstimator:
    return pickle.loads(pickle.dumps(estimator))


def saved(estimator: MultiTaskCNNEstimator, folder: Path) -> MultiTaskCNNEstimator:
    estimator.save(folder / "model.safetensors")
    return MultiTaskCNNEstimator.load(folder / "model.safetensors")


def test_a_pickle_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    X, y = make_table()
    estimator = small().partial_fit(X, y)
    copied = pickled(estimator, tmp_path)
    assert same(weights_of(copied.partial_fit(X, y)), weights_of(estimator.partial_fit(X, y)))


@pytest.mark.parametrize("way", [pickled, saved], ids=["pickle", "file"])
def test_what_was_fitted_is_trained_further(way: Callable[..., Any], tmp_path: Path) -> None:
    X, y = make_table(300, noise=0.1)
    estimator = way(small(tasks=TASKS, max_epochs=30, learning_rate=0.01).fit(X, y), tmp_path)
    fitted, n_iter = estimator.score(X, y), estimator.n_iter_
    before = weights_of(estimator)
    estimator.set_params(learning_rate=1e-4).partial_fit(X, y)
    assert estimator.n_iter_ == n_iter + 1
    assert not same(weights_of(estimator), before)
    assert estimator.score(X, y) > fitted - 0.02
    assert len(estimator.history_["train_loss"]) == n_iter + 1


class Summed:
    """A loss of which Python knows an address only, as of the two below."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, losses: Any, counts: Any) -> Any:
        return self.factor * losses.sum()


class Layer:
    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self) -> nn.Module:
        return nn.Linear(3, self.width)


class Momentum:
    def __init__(self, momentum: float) -> None:
        self.momentum = momentum

    def __call__(self, groups: Any, lr: float, **kwargs: Any) -> Any:
        return torch.optim.Adam(groups, lr, betas=(self.momentum, 0.9))


class Counting(Callback):
    """Remembers how often it was called."""

    def __init__(self, first: int) -> None:
        self.n_calls = first

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        self.n_calls += 1


def with_callback(callback: Any) -> Any:
    return {"callbacks": [("mine", callback)]}


def linear(seed: int = 0) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Linear(3, 8)


# What makes one, and what makes another one.
OBJECTS: dict[str, tuple[str, Callable[[], Any], Callable[[], Any]]] = {
    "loss": ("loss", lambda: Summed(1.0), lambda: Summed(2.0)),
    "loss of ours": ("loss", LogProd, lambda: LogProd(decay=0.5)),
    "partial loss": ("loss", lambda: partial(Summed.__call__, Summed(1.0)), LogProd),
    "trunk": ("trunk", lambda: Layer(8), lambda: partial(nn.Linear, 3, 8)),
    "module": ("trunk", linear, lambda: linear(1)),
    "frozen module": ("trunk", linear, lambda: linear().requires_grad_(False)),
    "optimizer": ("optimizer", lambda: Momentum(0.5), lambda: Momentum(0.9)),
    "callback": ("net_params", lambda: with_callback(Counting(0)), lambda: with_callback(None)),
    "freezer": (
        "net_params",
        lambda: with_callback(Freezer("heads.bias")),
        lambda: with_callback(Freezer("heads.weight")),
    ),
    "weights": ("task_weights", lambda: [1, 2, 3], lambda: [1, 2, 4]),
    "labelled weights": (
        "task_weights",
        lambda: pd.Series([1, 2, 3], ["y0", "y1", "y2"]),
        lambda: pd.Series([1, 2, 3], ["y1", "y0", "y2"]),
    ),
}


@pytest.mark.parametrize("case", OBJECTS)
def test_the_optimizer_of_a_pickle_goes_on_with_objects_of_the_user(case: str) -> None:
    """To the last bit as if nothing had happened, although they are other objects then."""
    X, y = make_table(64)
    name, make, _ = OBJECTS[case]
    unbroken, broken = (small(batch_size=16, **{name: make()}) for _ in range(2))
    for n_calls in (1, 2, 3):
        broken = pickle.loads(pickle.dumps(broken))
        for estimator in (unbroken, broken):
            estimator.partial_fit(X, y)
            assert steps_of(estimator) == {4 * n_calls}
        assert same(weights_of(broken), weights_of(unbroken))


@pytest.mark.parametrize("case", OBJECTS)
def test_the_optimizer_begins_anew_with_other_objects(case: str) -> None:
    """And goes on with equal ones."""
    X, y = make_table(64)
    name, make, make_other = OBJECTS[case]
    estimator = small(batch_size=16, **{name: make()}).partial_fit(X, y)
    if name != "net_params":  # the net holds the callback that it was given
        estimator.set_params(**{name: make()}).partial_fit(X, y)
        assert steps_of(estimator) == {8}
    estimator.set_params(**{name: make_other()}).partial_fit(X, y)
    assert steps_of(estimator) == {4}  # the optimizer began anew


def test_what_a_callback_notes_is_no_change() -> None:
    X, y = make_table(64)
    counting = Counting(0)
    estimator = small(batch_size=16, net_params=with_callback(counting))
    for n_calls in (1, 2, 3):
        assert steps_of(estimator.partial_fit(X, y)) == {4 * n_calls}
        assert counting.n_calls == 4 * n_calls


def test_a_lazy_trunk_in_a_stream() -> None:
    X, y = make_table(64)
    estimator = small(batch_size=16, trunk=nn.LazyLinear(8)).partial_fit(X, y).partial_fit(X, y)
    assert steps_of(estimator) == {8}


def test_a_stream_may_be_loaded_and_go_on(tmp_path: Path) -> None:
    X, y = make_table()
    estimator = saved(small().partial_fit(X, y), tmp_path)
    assert estimator.partial_fit(X, y).n_iter_ == 2


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_frames_in_a_stream(kind: str) -> None:
    X, y = make_table(60)
    frame = pd.DataFrame if kind == "pandas" else pl.DataFrame
    names = {"X": ["p", "q", "r"], "y": ["a", "b", "c"]}

    def framed(values: np.ndarray, name: str) -> Any:
        return frame(dict(zip(names[name], values.T, strict=True)))

    estimator = small().partial_fit(framed(X, "X"), framed(y, "y"))
    assert estimator.feature_names_in_.tolist() == names["X"]
    shuffled = framed(y, "y")[["c", "a", "b"]]  # matched by name
    estimator.partial_fit(framed(X, "X"), shuffled)
    assert type(estimator.predict_frame(framed(X, "X"))) is frame
    with pytest.raises(ValueError, match="same order"):
        estimator.partial_fit(framed(X, "X")[["q", "p", "r"]], framed(y, "y"))


def test_images_in_a_stream() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(256, size=(40, 1, 8, 8), dtype=np.uint8), rng.normal(size=(40, 2))
    estimator = small(trunk=ConvTrunk(width=4)).partial_fit(X, y).partial_fit(X[:9], y[:9])
    assert estimator.predict(X).shape == (40, 2)
    with pytest.raises(ValueError, match="samples of shape"):
        estimator.partial_fit(X[:, :, :4], y)


def test_weights_in_a_stream() -> None:
    X, y = make_table(60)
    weight = np.where(np.arange(60) < 40, 1.0, 0.0)
    weighted = small().partial_fit(X, y).partial_fit(X, y, sample_weight=weight)
    dropped = small().partial_fit(X, y).partial_fit(X[:40], y[:40])
    np.testing.assert_allclose(weighted.predict(X), dropped.predict(X), rtol=1e-5)


class Seeing(Callback):
    """Notes the order of rows."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_batch_begin(self, net: Any, batch: Any = None, **kwargs: Any) -> None:
        self.seen.extend(batch[0][:, 0].tolist())


def test_calls_draw_other_shuffles_but_the_same_ones_for_a_seed() -> None:
    X, y = make_table(64)

    def orders() -> list[list[float]]:
        seeing = Seeing()
        estimator = small(batch_size=16, net_params={"callbacks": [("see", seeing)]})
        for _ in range(3):
            estimator.partial_fit(X, y)
        return np.array(seeing.seen).reshape(3, 64).tolist()

    first, second, third = orders()
    assert sorted(first) == sorted(second) == sorted(third)
    assert first != second != third
    assert orders() == [first, second, third]


@pytest.mark.parametrize(
    "params",
    [
        {"learning_rate": 0.5},
        {"loss": "weighted"},
        {"optimizer": "SGD"},
        {"weight_decay": 100.0},
        {"task_weights": [1, 0, 0]},
        {"net_params": {"optimizer__betas": (0.5, 0.9)}},
        {"batch_size": 7},
    ],
    ids=lambda params: next(iter(params)),
)
def test_changed_parameters_take_effect(params: dict[str, Any]) -> None:
    X, y = make_table(60)
    stays = small(batch_size=16).partial_fit(X, y).partial_fit(X, y)
    changed = small(batch_size=16).partial_fit(X, y).set_params(**params).partial_fit(X, y)
    assert not np.array_equal(stays.predict(X), changed.predict(X))
    if "task_weights" in params:
        assert changed.task_weights_.tolist() == params["task_weights"]


def test_a_stream_cannot_get_another_network() -> None:
    X, y = make_table(60)
    estimator = small().partial_fit(X, y).set_params(head_hidden_units=3)
    with pytest.raises(ValueError, match="trunk or head_hidden_units were changed"):
        estimator.partial_fit(X, y)


def test_task_weights_are_those_in_use() -> None:
    X, y = make_table(60)
    estimator = small(task_weights="n_observed").partial_fit(X, y)
    first = estimator.task_weights_
    hole = np.where(np.arange(3) == 1, np.nan, y)
    estimator.partial_fit(X, hole)
    np.testing.assert_array_equal(estimator.task_weights_, first)
    used = estimator.net_.criterion_.combine.weights
    np.testing.assert_allclose(used, first, rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "classes"),
    [
        (pd.Series([0, 1] * 15, dtype="int8"), [0, 1, 300]),
        (pd.Series([False, True] * 15), [0, 1, 2]),
        (pd.Series(["b", "c"] * 15, dtype="category"), ["a"]),
        (pl.Series(["b", "c"] * 15, dtype=pl.Enum(["b", "c"])), ["a"]),
        (pl.Series([0, 1] * 15, dtype=pl.Int8), [300]),
    ],
    ids=["int8", "bool", "category", "enum", "Int8"],
)
def test_labels_that_the_type_of_y_cannot_hold(column: Any, classes: list[Any]) -> None:
    X, frame = make_table(30)[0], {"c": column}
    y = pl.DataFrame(frame) if isinstance(column, pl.Series) else pd.DataFrame(frame)
    estimator = small(tasks={"c": "classification"}, learning_rate=0.2)
    estimator.partial_fit(X, y, classes=classes)
    later = type(y)({"c": [classes[-1]] * 30})
    for _ in range(20):
        estimator.partial_fit(X, later)
    assert set(estimator.predict_frame(X)["c"]) == {classes[-1]}


def test_labels_that_are_declared_too_late() -> None:
    X, y = make_table(60)
    estimator = small().partial_fit(X, y, classes={"y0": [0, 1, 2]})
    estimator.partial_fit(X, y, classes={"y0": [2, 0]})
    for classes in ({"y0": [0, 3]}, {"z": [0]}, {"y0": ["no"]}):
        with pytest.raises(ValueError, match=r"classes|labels like"):
            estimator.partial_fit(X, y, classes=classes)


def test_history_of_validation_data_stays() -> None:
    X, y = make_table(60)
    estimator = small().fit(X, y, X_val=X, y_val=y)
    before = estimator.history_["valid_loss"]
    rows = estimator.partial_fit(X, y).history_["valid_loss"]
    np.testing.assert_array_equal(rows[:2], before)
    assert np.isnan(rows[2]).all()


@pytest.mark.parametrize("optimizer", ["LBFGS", "SGD", "NAdam", "Adadelta"])
def test_other_optimizers_in_a_stream(optimizer: str) -> None:
    X, y = make_table(60)
    estimator = small(optimizer=optimizer)
    before = [weights_of(estimator.partial_fit(X, y)) for _ in range(3)]
    assert not same(before[0], before[1])
    assert not same(before[1], before[2])


def test_schedules_of_the_user_are_refused() -> None:
    schedule = LRScheduler("StepLR", step_size=2, gamma=0.1)
    estimator = small(net_params={"callbacks": [("rate", schedule)]})
    with pytest.raises(ValueError, match="the schedule rate, which would begin anew"):
        estimator.partial_fit(*make_table(60))


# -- features of two values, which have no waves ------------------------------------------------


def with_flag(n_samples: int = 60) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_table(n_samples)
    X[:, 1] = X[:, 1] > 0
    return X, y


def n_waved(estimator: MultiTaskCNNEstimator) -> int:
    return estimator.module_.trunk.embedding.frequency.shape[-2]


def test_rows_without_weight_do_not_say_how_many_values_a_feature_takes() -> None:
    X, y = with_flag()
    X[5, 1] = 7.0
    weight = np.ones(len(X))
    assert n_waved(small().fit(X, y, weight)) == 3
    weight[5] = 0
    estimator = small().fit(X, y, weight)
    assert n_waved(estimator) == 2
    assert fitted_of(estimator).reader.two_valued_ == (1,)
    assert np.isfinite(estimator.predict(X)).all()


def test_in_a_stream_a_third_value_may_come() -> None:
    X, y = with_flag()
    estimator = small().partial_fit(X, y)
    assert fitted_of(estimator).reader.two_valued_ == ()
    assert n_waved(estimator) == n_waved(estimator.partial_fit(X, y)) == 3


@pytest.mark.parametrize("way", [pickled, saved], ids=["pickle", "file"])
@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_training_goes_on_without_these_waves(
    go_on: str, way: Callable[..., Any], tmp_path: Path
) -> None:
    """On rows with further values too, and in a new net, which another loss wants."""
    X, y = with_flag()
    known = small(warm_start=True).fit(X, y)
    estimator = way(known, tmp_path)
    np.testing.assert_array_equal(estimator.predict(X), known.predict(X))
    X[:, 1] = np.arange(len(X))
    for loss in ("logprod", "weighted"):
        before = weights_of(estimator)
        getattr(estimator.set_params(loss=loss), go_on)(X, y)
        assert n_waved(estimator) == 2
        assert fitted_of(estimator).reader.two_valued_ == (1,)
        assert not same(weights_of(estimator), before)
    assert n_waved(estimator.set_params(warm_start=False).fit(X, y)) == 3


# -- warm_start ---------------------------------------------------------------------------------


def test_warm_start_goes_on_from_the_weights() -> None:
    X, y = make_table(300, noise=0.1)
    warm = small(warm_start=True, max_epochs=8, learning_rate=0.01)
    losses = [warm.fit(X, y).history_["train_loss"].mean(axis=1) for _ in range(3)]
    assert [len(loss) for loss in losses] == [8, 8, 8]  # of one fit
    assert warm.n_iter_ == 8
    assert losses[1][0] < losses[0][1]
    assert losses[2][-1] < losses[0][-1]


def test_the_first_warm_fit_is_an_ordinary_one() -> None:
    X, y = make_table()
    assert same(weights_of(small(warm_start=True).fit(X, y)), weights_of(small().fit(X, y)))


def test_without_steps_warm_start_changes_nothing() -> None:
    X, y = make_table()
    estimator = small(warm_start=True, optimizer="SGD").fit(X, y)
    before = estimator.predict(X)
    estimator.set_params(learning_rate=1e-300, weight_decay=0.0).fit(X, y)
    np.testing.assert_array_equal(estimator.predict(X), before)


def test_warm_start_on_other_rows_keeps_scales_and_labels() -> None:
    X, y = make_every_kind(90)
    estimator = small(tasks=EVERY_KIND, warm_start=True).fit(X, y)
    mean, classes = fitted_of(estimator).reader.mean_, estimator.classes_
    estimator.fit(X[:50] + 5, y[:50])
    np.testing.assert_array_equal(fitted_of(estimator).reader.mean_, mean)
    for found, known in zip(estimator.classes_, classes, strict=True):
        np.testing.assert_array_equal(found, known)
    np.testing.assert_array_equal(
        estimator.n_observed_, small(tasks=EVERY_KIND).fit(X[:50], y[:50]).n_observed_
    )


def test_a_new_loss_and_rate_for_a_warm_start() -> None:
    X, y = make_table()
    estimator = small(warm_start=True).fit(X, y)
    estimator.set_params(loss="weighted", learning_rate=1e-3, batch_size=16).fit(X, y)
    assert type(estimator.net_.criterion_.combine).__name__ == "Weighted"
    estimator.set_params(early_stopping=True).fit(X, y, X_val=X, y_val=y)
    assert "valid_loss" in estimator.history_


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"tasks": {"y0": "regression"}}, "tasks was changed from None"),
        ({"missing_values": -1}, "missing_values was changed from None to -1"),
        ({"class_weight": "balanced"}, "class_weight was changed"),
        ({"input_shape": (1, 3)}, "input_shape was changed"),
        ({"data_format": "channels_last"}, "data_format was changed"),
        ({"trunk": DenseTrunk(hidden_layer_sizes=(9,))}, "trunk or head_hidden_units were changed"),
        ({"head_hidden_units": 3}, "trunk or head_hidden_units were changed"),
    ],
)
def test_what_a_warm_start_cannot_change(params: dict[str, Any], message: str) -> None:
    X, y = make_table()
    estimator = small(warm_start=True).fit(X, y)
    before = estimator.predict(X)
    known = estimator.get_params()
    estimator.set_params(**params)
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.set_params(**known).predict(X), before)
    assert np.isfinite(estimator.set_params(**params, warm_start=False).fit(X, y).predict(X)).all()


@pytest.mark.parametrize(
    "tasks", [None, TASKS, {"y0": "classification"}, {"y1": Task("y1", "quantile", quantile=0.9)}]
)
def test_equal_tasks_are_the_same_tasks(tasks: Any, tmp_path: Path) -> None:
    X, y = make_table()
    estimator = small(warm_start=True, tasks=tasks).fit(X, y)
    for way in (pickled, saved):
        assert way(estimator, tmp_path).fit(X, y).n_iter_ == 2


def test_a_warm_start_keeps_what_the_loss_has_learned() -> None:
    X, y = make_table(60)
    estimator = small(warm_start=True, loss="uncertainty", learning_rate=0.05).fit(X, y)
    (before,) = [p.detach().clone() for p in estimator.net_.criterion_.parameters()]
    (after,) = estimator.set_params(learning_rate=1e-12).fit(X, y).net_.criterion_.parameters()
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("name", ["tasks", "class_weight"])
def test_a_change_in_place_is_noticed(name: str) -> None:
    X, y = make_table(60)
    values: dict[str, Any] = {"tasks": list(TASKS), "class_weight": {"y0": {0: 1.0}}}
    estimator = small(warm_start=True, **{name: values[name]}).fit(X, y)
    if name == "tasks":
        values[name][0] = Task("a", "ordinal")
    else:
        values[name]["y0"][0] = 9.0
    with pytest.raises(ValueError, match=f"{name} was changed"):
        estimator.fit(X, y)


def test_a_list_is_the_same_shape_as_a_tuple() -> None:
    X, y = make_table(60)
    estimator = small(warm_start=True, input_shape=(3,)).fit(X, y)
    assert estimator.set_params(input_shape=[3]).fit(X, y).n_iter_ == 2


@pytest.mark.parametrize(
    ("name", "first", "later"),
    [
        ("class_weight", {"y0": {0: 1, 1: 2}}, {"y0": {1.0: 2.0, 0.0: 1.0}}),
        ("class_weight", {"y0": {0: 1, 1: 2}}, {"y0": {np.int64(0): np.float64(1), True: 2}}),
        ("tasks", TASKS, tuple(TASKS)),
        ("tasks", {"y1": "regression", "y2": "quantile"}, {"y2": "quantile", "y1": "regression"}),
        ("missing_values", -1, -1.0),
        ("missing_values", float("nan"), np.nan),
        ("input_shape", [3], (np.int64(3),)),
    ],
    ids=str,
)
def test_equal_values_are_no_change(name: str, first: Any, later: Any, tmp_path: Path) -> None:
    X, y = make_table(64)
    estimator = small(warm_start=True, batch_size=16, **{name: first}).fit(X, y)
    for way in (pickled, saved):
        twin = way(estimator, tmp_path).set_params(**{name: later})
        assert twin.fit(X, y).n_iter_ == 2
        assert twin.partial_fit(X, y).n_iter_ == 3
        assert steps_of(twin.set_params(**{name: first}).partial_fit(X, y)) == {8}


def test_a_label_that_a_warm_start_does_not_know() -> None:
    X, y = make_table()
    estimator = small(warm_start=True, tasks={"y0": "classification"}).fit(X, y)
    y[0, 0] = 7
    with pytest.raises(ValueError, match=r"'y0': label 7\.0 was not seen"):
        estimator.fit(X, y)


def test_a_clone_is_cold() -> None:
    X, y = make_table()
    estimator = small(warm_start=True).fit(X, y)
    estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        clone(estimator).predict(X)


def test_streams_that_share_callbacks_go_on_each():
    """What a callback noted for the one says nothing of the other."""
    shared = {"callbacks": [EarlyStopping("train_loss", patience=50)]}
    a, b, alone = make(net_params=shared), make(net_params=shared), make()
    for _ in range(3):
        for est in (a, b, alone):
            est.partial_fit(X, Y)
    np.testing.assert_array_equal(a.predict(X), alone.predict(X))
    np.testing.assert_array_equal(b.predict(X), alone.predict(X))


def test_a_stream_goes_on_after_a_call_that_failed():
    """As if that call had never been."""

    class Failing(Callback):
        fails = False

        def on_train_end(self, net, **kwargs):
            if Failing.fails:
                raise RuntimeError("on purpose")

    callbacks = [EarlyStopping("train_loss", patience=50), Failing()]
    est, alone = make(net_params={"callbacks": callbacks}), make()
    est.partial_fit(X, Y)
    Failing.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        est.partial_fit(X, Y)
    Failing.fails = False
    est.partial_fit(X, Y)
    alone.partial_fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(est.predict(X), alone.predict(X))
