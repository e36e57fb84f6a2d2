"""Files of fitted estimators: what survives, what is refused, and that nothing in a file is run."""

from __future__ import annotations

import copy
import inspect
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import torch
from _asserts import (
    assert_alike,
    assert_predicts_the_same,
    assert_random_states_untouched,
    pickled,
)
from _inputs import EnsembleTrunk, make_table
from _saved import SMALL, fit_table, make, rewrite, saved_and_loaded
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import EpochScoring
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._files.codec import encode
from sklearn_mtl._fitted import fitted_of
from sklearn_mtl._training.copies import frozen_of, rule_of
from sklearn_mtl.kinds import (
    ClassificationTarget,
    OrdinalTarget,
    QuantileTarget,
    RegressionTarget,
)
from sklearn_mtl.losses import LogProd, MaskedMSE, Uncertainty, Weighted
from sklearn_mtl.networks import ConvTrunk, DenseTrunk


@pytest.fixture(scope="module")
def fitted() -> MultiTaskCNNEstimator:
    """Treat it as read-only."""
    return fit_table()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


# -- what survives -------------------------------------------------------------------------------

N = 30
X = np.random.default_rng(0).normal(size=(N, 3)) * [1, 10, 1e6]
NUMBER = X[:, 0] + 0.1 * np.arange(N)
CODE = np.arange(N) % 3
WORDS = np.array(["low", "high", "mid"])[CODE]
HOLES = np.where(CODE == 2, np.nan, NUMBER)

COLUMNS: dict[str, Any] = {
    "strings": WORDS,
    "objects": WORDS.astype(object),
    "bools": CODE == 0,
    "ints": CODE * 2 - 1,
    "uint8": CODE.astype(np.uint8),
    "floats": np.where(CODE == 2, np.nan, CODE),
    "Int64": pd.array(np.where(CODE == 2, None, CODE), dtype="Int64"),
    "boolean": pd.array(np.where(CODE == 2, None, CODE == 0), dtype="boolean"),
    "string": pd.array(WORDS, dtype="string"),
    "python string": pd.array(WORDS, dtype=pd.StringDtype("python", np.nan)),
    "arrow": pd.array(WORDS, dtype=pd.ArrowDtype(pa.string())),
    "arrow dictionary": pd.arrays.ArrowExtensionArray(pa.array(WORDS).dictionary_encode()),
    "category": pd.Categorical(WORDS),
    "categories of numbers": pd.Categorical(CODE, categories=[2, 0, 1, 7]),
    "ordered": pd.Categorical(WORDS, categories=["low", "mid", "high", "top"], ordered=True),
    "intervals": pd.cut(NUMBER, 3),
    "tuples": pd.Series([("a", i) for i in CODE], dtype=object),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_labels_of_every_type(name, path):
    y = pd.DataFrame({"label": COLUMNS[name], "number": NUMBER})
    estimator = make(tasks={"label": "classification"}).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, X, y)
    assert_alike(fitted_of(loaded).encoder, fitted_of(estimator).encoder)


@pytest.mark.parametrize("name", ["ints", "floats", "ordered", "intervals"])
def test_ordered_labels(name, path):
    y = pd.DataFrame({"label": COLUMNS[name]})
    estimator = make(tasks=[Task("label", "ordinal")]).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, X, y)
    assert_alike(fitted_of(loaded).encoder, fitted_of(estimator).encoder)


@pytest.mark.parametrize("dtype", [pl.String, pl.Categorical, pl.Enum(["low", "mid", "high"])])
def test_polars(dtype, path):
    y = pl.DataFrame(
        {
            "word": pl.Series(WORDS, dtype=dtype),
            "flag": CODE == 0,
            "count": pl.Series(CODE, dtype=pl.Int32),
            "price": pl.Series([Decimal(int(c)) / 4 for c in CODE], dtype=pl.Decimal(9, 2)),
            "small": pl.Series(HOLES, dtype=pl.Float32),
        }
    )
    estimator = make(tasks={"count": "classification", "price": "regression"}).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, X, y)
    assert isinstance(loaded.predict_frame(X), pl.DataFrame)


def test_a_table_of_arrow(path):
    y = pa.table({"word": WORDS, "number": NUMBER})
    estimator = make().fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert loaded.predict_frame(X).equals(estimator.predict_frame(X))


@pytest.mark.parametrize("kind", ["regression", "quantile", "poisson", "gamma"])
def test_numbers_of_every_kind(kind, path):
    y = np.exp(np.column_stack([NUMBER, HOLES]))
    quantile = 0.9 if kind == "quantile" else None
    tasks = [Task("first", kind, quantile=quantile), Task("second", kind)]
    estimator = make(tasks=tasks).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, X, y)
    assert_alike(loaded.noise_std_, estimator.noise_std_)


@pytest.mark.parametrize("labels", ["yes", ["yes"], ("yes",), {"yes"}, np.array(["yes"])])
def test_chains_of_gates(labels, path):
    first = np.where(CODE > 0, "yes", "no").astype(object)
    second = np.where(CODE > 0, NUMBER > 0, None)
    third = np.where((CODE > 0) & (NUMBER > 0), NUMBER, np.nan)
    y = pd.DataFrame({"a": first, "b": second, "c": third})
    tasks = [
        Task("c", "regression", given=("b", True)),
        Task("a", "classification"),
        Task("b", "classification", given=("a", labels)),
    ]
    estimator = make(tasks=tasks, class_weight={"a": {"yes": 2.0}, "b": "balanced"}).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, X, y)
    assert_alike(loaded.n_applicable_, estimator.n_applicable_)
    assert_alike(fitted_of(loaded).encoder, fitted_of(estimator).encoder)
    with pytest.raises(ValueError, match="exists only given"):
        loaded.score(X, y.assign(c=1.0))


@pytest.mark.parametrize(
    ("shape", "params"),
    [
        ((2, 9), {"input_shape": (2, 9)}),
        ((8, 8), {}),
        ((8, 8), {"precision": "float64"}),
        ((8, 8), {"precision": "bfloat16"}),
        ((3, 6, 9), {}),
        ((6, 9, 3), {"data_format": "channels_last"}),
        ((2, 5, 6, 7), {"precision": "bfloat16"}),
        ((54,), {"input_shape": torch.Size([6, 9])}),
        ((3, 6, 6), {"trunk": "dense", "precision": "bfloat16"}),
        ((6, 6), {"optimizer": "LBFGS", "batch_size": N}),
    ],
)
def test_images_in_every_precision(shape, params, path):
    params = {"trunk": ConvTrunk(width=2, n_features=4, max_shift=0.2)} | params
    images = np.random.default_rng(0).integers(0, 256, size=(N, *shape)).astype(np.uint8)
    estimator = make(**params).fit(images, NUMBER)
    loaded = saved_and_loaded(estimator, path)
    assert_predicts_the_same(loaded, estimator, images, NUMBER)
    assert loaded.predict(images).ndim == 1
    assert loaded.module_.heads.weight.dtype is estimator.module_.heads.weight.dtype
    assert loaded.net_.amp_dtype_ is estimator.net_.amp_dtype_
    readers = [fitted_of(e).reader for e in (loaded, estimator)]
    for reader in readers:
        assert reader.sample_shape_ == shape
    assert_alike(readers[0].mean_, readers[1].mean_)
    assert_alike(readers[0].scale_, readers[1].scale_)


@pytest.mark.parametrize("trunk", [SMALL, EnsembleTrunk(3)], ids=["dense", "ensemble"])
def test_heads_with_hidden_units(trunk, path):
    estimator = make(trunk=trunk, head_hidden_units=3).fit(X, NUMBER)
    loaded = saved_and_loaded(estimator, path, trunk=None if trunk is SMALL else trunk)
    assert loaded.head_hidden_units == 3
    assert_predicts_the_same(loaded, estimator, X, NUMBER)
    with pytest.raises(ValueError, match="do not fit the trunk or heads"):
        estimator.set_params(head_hidden_units=0).save(path)


@pytest.mark.parametrize("n_rows", [N, 600])
def test_automatic_precision_is_that_of_the_fit(n_rows, path):
    rows = np.arange(n_rows) % N
    estimator = make(batch_size=100).fit(X[rows], NUMBER[rows])
    loaded = saved_and_loaded(estimator, path)
    expected = torch.float64 if n_rows == N else torch.float32
    assert loaded.module_.heads.weight.dtype is expected
    assert_predicts_the_same(loaded, estimator, X, NUMBER)


def test_fitted_attributes(path):
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    estimator = make(early_stopping=True, max_epochs=3).fit(
        frame, pd.DataFrame({"word": WORDS, "holes": HOLES})
    )
    loaded = saved_and_loaded(estimator, path)
    assert list(vars(loaded)) == list(vars(estimator))
    assert_alike(fitted_of(loaded).state(), fitted_of(estimator).state())
    for name in ("net_", "_fitted"):  # compared by what they do
        vars(loaded).pop(name), vars(estimator).pop(name)
    assert {"classes_", "feature_names_in_", "n_iter_"} <= set(vars(loaded))
    assert_alike(vars(loaded), vars(estimator))


OUT_OF_BAG = ["oob_decision_function_", "oob_prediction_", "oob_score_"]

OF_ROWS: dict[str, Any] = {
    "number": NUMBER,
    "label": WORDS,
    "numbers": np.column_stack([CODE > 0, NUMBER, HOLES]),
    "labels and numbers": pd.DataFrame({"word": WORDS, "flag": CODE > 0, "number": NUMBER}),
    "label of one row": pd.DataFrame({"word": np.where(np.arange(N) > 0, "a", "b"), "x": NUMBER}),
    "tuples": pd.DataFrame({"tuple": pd.Series([("a", i) for i in CODE], dtype=object)}),
    "long": pd.DataFrame({f"{i}": np.roll(WORDS, i) for i in range(40)} | {"number": NUMBER}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", OF_ROWS)
def test_what_members_say_of_rows_left_out(name, held_out, path):
    """With holes where early stopping has held rows out."""
    y = OF_ROWS[name]
    tasks = {"word": "classification"} if name == "label of one row" else None
    estimator = make(tasks=tasks, early_stopping=held_out and name != "label of one row")
    estimator.fit(X, y)
    found = {n: v for n, v in vars(estimator).items() if n.startswith("oob_")}
    assert sorted(found) == (OUT_OF_BAG[1:] if name == "number" else OUT_OF_BAG)
    assert len(found["oob_prediction_"]) == N
    holes = pd.isna(found["oob_prediction_"]).any()
    assert holes == estimator.early_stopping
    loaded = saved_and_loaded(estimator, path)
    assert_alike({n: vars(loaded)[n] for n in found}, found)
    loaded.set_params(early_stopping=False).partial_fit(X, y)
    assert not any(hasattr(loaded, n) for n in OUT_OF_BAG)


def test_scores_that_are_nan_survive(path):
    y = np.column_stack([NUMBER, HOLES])
    weight = np.ones(y.shape)
    weight[1:, 1] = 0  # a single target has no share that is explained
    estimator = make().fit(X, y, sample_weight=weight)
    assert np.isnan(estimator.oob_score_["y1"])
    assert_alike(saved_and_loaded(estimator, path).oob_score_, estimator.oob_score_)


def test_requests_of_metadata(path):
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = make().set_fit_request(sample_weight=True).fit(X, NUMBER)
        loaded = saved_and_loaded(estimator, path)
        expected = str(estimator.get_metadata_routing())
        assert "True" in expected
        assert str(loaded.get_metadata_routing()) == expected


# Every parameter, with a value that is not the default.
PARAMS: dict[str, list[Any]] = {
    "tasks": [{"y0": "classification"}, (Task("a", "regression"), Task("b", "poisson"))],
    "loss": [
        "weighted",
        "uncertainty",
        LogProd(decay=0.9),
        LogProd(decay=None),
        LogProd(torch.tensor([1.0, 2.0])),
        MaskedMSE(),
        Uncertainty(),
        Uncertainty(torch.tensor([1.0, 2.0]), floor=1e-3),
    ],
    "task_weights": [
        "n_observed",
        [1.0, np.float32(2)],
        np.array([1, 2], dtype=">i2"),
        {"y0": 3},
        pd.Series({"y1": 0.5}),
    ],
    "class_weight": ["balanced", {"y0": {0: 1.0, 1: 3}}],
    "missing_values": [-1, float("nan"), "none", np.int64(-1)],
    "conditional_output": ["nan"],
    "input_shape": [(3,), [1, 3], (np.int64(3),)],
    "data_format": ["channels_last"],
    "augment": [None],  # of images: see test_augmentation.py
    "standardize": [False, np.False_, (0.5, [1, 2.0, 3]), [np.zeros(3), np.float32(2)]],
    "trunk": ["auto", "dense", DenseTrunk([5, 4]), DenseTrunk(np.array([5])), DenseTrunk(())],
    "head_hidden_units": [2, np.int64(3)],
    "max_epochs": [2, "auto"],
    "batch_size": [7],
    "learning_rate": [0.1 + 0.2],
    "optimizer": ["SGD", torch.optim.Adam],
    "weight_decay": [1e-300],
    "early_stopping": [True, np.True_],
    "validation_fraction": [0.3],
    "n_iter_no_change": [3],
    "tol": [0.0],
    "warm_start": [True],
    "random_state": [None, np.int32(3), np.random.RandomState(7)],
    "verbose": [1],
    "device": ["auto"],
    "precision": ["bfloat16"],
    "net_params": [
        {"optimizer__betas": (0.8, 0.9)},
        {"callbacks": None},
        {"use_caching": False},
    ],
}


def test_every_parameter_is_tested():
    others = {"checkpoint", "checkpoint_every"}  # which no file holds
    assert {*PARAMS} | others == set(MultiTaskCNNEstimator().get_params(deep=False))


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in PARAMS.items() for v in values]
)
def test_parameters(name, value, path, capsys):
    y = np.column_stack([CODE > 0, np.abs(NUMBER)])
    estimator = make(**{name: value}).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    if isinstance(estimator.trunk, str):  # a name may stand for something else one day
        assert_alike(loaded.trunk, DenseTrunk())
        estimator.set_params(trunk=DenseTrunk())
    assert_alike(loaded.get_params(), estimator.get_params())
    assert_predicts_the_same(loaded, estimator, X, y)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"random_state": np.random.RandomState(3)},
        {"loss": LogProd(torch.tensor([1.0, 0.5]), decay=0.5), "early_stopping": True},
        {"loss": Uncertainty(), "learning_rate": 0.1},
        {"trunk": "auto", "optimizer": "SGD", "net_params": {"optimizer__momentum": 0.9}},
    ],
)
def test_a_clone_learns_the_same(params, path):
    y = np.column_stack([CODE > 0, NUMBER])
    estimator = make(**params).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    again, expected = (clone(e).fit(X, y) for e in (loaded, estimator))
    assert_predicts_the_same(again, expected, X, y)
    assert_alike(again.history_, expected.history_)


def test_a_combiner_keeps_what_it_has_learned(path):
    losses, counts = torch.tensor([2.0, 1.0]), torch.ones(2)
    for combine in (LogProd(decay=0.5), Weighted(), Uncertainty()):
        combine.start(losses, counts, torch.tensor([1.0, 2.0]))
        estimator = make(loss=combine).fit(X, np.column_stack([NUMBER, HOLES]))
        loaded = saved_and_loaded(estimator, path)
        assert_alike(loaded.loss, combine)
        assert_alike(loaded.loss(losses, counts), combine(losses, counts))


def test_the_net_is_ready(fitted, path):
    loaded = saved_and_loaded(fitted, path)
    assert loaded.net_.initialized_
    assert loaded.module_ is loaded.net_.module_
    assert not loaded.module_.training
    x = torch.zeros(2, 3, dtype=torch.float64)
    assert_alike(loaded.net_.infer(x).detach(), fitted.net_.infer(x).detach())
    X, y = make_table(30)
    assert_predicts_the_same(pickled(loaded), fitted, X, y)


def test_saving_again_gives_the_same_file(fitted, path):
    fitted.save(path)
    first = path.read_bytes()
    MultiTaskCNNEstimator.load(path).save(str(path))
    assert path.read_bytes() == first
    assert list(path.parent.iterdir()) == [path]


def test_random_states_are_left_alone(path):
    estimator = make(trunk="conv", input_shape=(1, 3), random_state=np.random.RandomState(0))
    estimator.fit(X, NUMBER)
    state = estimator.random_state.get_state()[1].copy()
    with assert_random_states_untouched():
        saved_and_loaded(estimator, path)
    assert_array_equal(estimator.random_state.get_state()[1], state)


def test_the_file_can_go_after_loading(path):
    """Nothing is left that reads it."""
    y = np.column_stack([CODE > 0, NUMBER])
    estimator = make(loss=LogProd(torch.tensor([1.0, 0.5]))).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert_alike(loaded.loss, estimator.loss)
    assert_predicts_the_same(loaded, estimator, X, y)


def test_a_device_that_is_not_there_is_the_cpu(path):
    estimator = make().fit(X, NUMBER)
    estimator.set_params(device="cuda:99")
    loaded = saved_and_loaded(estimator, path)
    assert loaded.device == "cuda:99"
    assert loaded.net_.device == "cpu"
    assert_alike(loaded.predict(X), estimator.predict(X))


class WithExtra(MultiTaskCNNEstimator):
    """A subclass with a parameter of its own."""

    def __init__(self, tasks=None, *, extra=1, trunk="auto", max_epochs=1):
        super().__init__(tasks, trunk=trunk, max_epochs=max_epochs)
        self.extra = extra


def test_a_subclass_loads_as_itself(path):
    estimator = WithExtra(extra="more").fit(X, NUMBER)
    # The parent's other parameters are attributes here, as they are no parameters.
    estimator.save(path)
    loaded = WithExtra.load(path)
    assert type(loaded) is WithExtra
    assert loaded.extra == "more"
    assert_alike(loaded.predict(X), estimator.predict(X))
    with pytest.raises(ValueError, match=r"takes no \['extra'"):
        MultiTaskCNNEstimator.load(path)


# -- what was learned besides the weights --------------------------------------------------------


def learned(estimator: MultiTaskCNNEstimator) -> dict[str, Any]:
    """All that a training leaves: weights, what the loss has learned, what is frozen."""
    return {
        "module": {**estimator.module_.state_dict()},
        "rule": {**rule_of(estimator.net_).state_dict()},
        "frozen": frozen_of(estimator.net_),
        **fitted_of(estimator).state(),
    }


LEARNING = {
    "logprod": {"loss": "logprod"},
    "logprod, weighted": {"loss": "logprod", "task_weights": [1.0, 3.0]},
    "LogProd": {"loss": LogProd(decay=0.5)},
    "LogProd, weighted": {"loss": LogProd(torch.tensor([1.0, 2.0]))},
    "LogProd of batches": {"loss": LogProd(decay=None)},
    "uncertainty": {"loss": "uncertainty", "learning_rate": 0.1},
    "Uncertainty": {"loss": Uncertainty(), "learning_rate": 0.1},
    "weighted": {"loss": "weighted"},
    "masked_mse": {"loss": "masked_mse"},
}


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", LEARNING)
def test_training_goes_on_as_without_the_file(name, go_on, path):
    """To the last bit: not from other denominators, or variances, than those of the fit."""
    y = np.column_stack([CODE > 0, HOLES])
    estimator = make(warm_start=True, max_epochs=3, batch_size=10, **LEARNING[name]).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert_alike(learned(loaded), learned(estimator))
    before = copy.deepcopy(learned(loaded))
    for _ in range(2):
        getattr(estimator, go_on)(X, y)
        getattr(loaded, go_on)(X, y)
        assert_alike(learned(loaded), learned(estimator))
    assert_predicts_the_same(loaded, estimator, X, y)
    assert not torch.equal(before["module"]["heads.bias"], loaded.module_.heads.bias)


@pytest.mark.parametrize("loss", ["logprod", "uncertainty"])
def test_what_the_loss_has_learned_is_not_what_it_starts_with(loss, path):
    """Or the test above would say nothing."""
    y = np.column_stack([CODE > 0, HOLES])
    estimator = make(loss=loss, max_epochs=9, batch_size=10, learning_rate=0.1).fit(X, y)
    name = {"logprod": "running", "uncertainty": "log_variance"}[loss]
    loaded = saved_and_loaded(estimator, path)
    found = rule_of(loaded.net_).state_dict()[name]
    start = rule_of(make(loss=loss, learning_rate=1e-12).fit(X, y).net_).state_dict()[name]
    assert_alike(found, rule_of(estimator.net_).state_dict()[name])
    assert (found - start).abs().min() > 1e-3
    # One step of a training that goes on moves it a little; one from the start would be there.
    loaded.set_params(warm_start=True, max_epochs=1, batch_size=N, learning_rate=1e-12).fit(X, y)
    after = rule_of(loaded.net_).state_dict()[name]
    assert ((after - found).abs() < 0.2 * (start - found).abs()).all()


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_what_is_frozen_stays_frozen(go_on, path):
    y = np.column_stack([CODE > 0, HOLES])
    estimator = make(trunk=DenseTrunk((5, 4)), warm_start=True).fit(X, y)
    names = [name for name, _ in estimator.module_.named_parameters() if "trunk" in name][1:]
    for name, parameter in estimator.module_.named_parameters():
        parameter.requires_grad_(name not in names)
    loaded = saved_and_loaded(estimator, path)
    before = copy.deepcopy(dict(loaded.module_.named_parameters()))
    for _ in range(2):
        assert frozen_of(loaded.net_) == names
        getattr(estimator, go_on)(X, y)
        getattr(loaded, go_on)(X, y)
        assert_alike(learned(loaded), learned(estimator))
    for name, parameter in loaded.module_.named_parameters():
        assert torch.equal(parameter, before[name]) == (name in names)
    assert [p.requires_grad for p in before.values()].count(False) == len(names) > 1


def test_what_is_frozen_is_told_by_the_file(path):
    """And not by the trunk that is passed to go with it."""
    trunk = small_trunk()
    trunk[0].weight.requires_grad_(False)
    estimator = make(trunk=trunk).fit(X, NUMBER)
    loaded = saved_and_loaded(estimator, path, trunk=small_trunk())
    assert frozen_of(loaded.net_) == frozen_of(estimator.net_) == ["trunk.0.weight"]
    trunk[0].weight.requires_grad_(True)
    make(trunk=trunk).fit(X, NUMBER).save(path)
    trunk[0].weight.requires_grad_(False)
    assert frozen_of(MultiTaskCNNEstimator.load(path, trunk=trunk).net_) == []
    assert not trunk[0].weight.requires_grad


def test_names_of_features_survive(path):
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    estimator = make(warm_start=True).fit(frame, NUMBER)
    loaded = saved_and_loaded(estimator, path)
    assert_alike(loaded.feature_names_in_, np.array(["p", "q", "r"], dtype=object))
    assert_alike(loaded.predict(frame), estimator.predict(frame))
    moved = frame[["q", "p", "r"]]
    for method in (loaded.predict, loaded.embed, lambda X: loaded.fit(X, NUMBER)):
        with pytest.raises(ValueError, match="feature names should match"):
            method(moved)
    with pytest.warns(UserWarning, match="X does not have valid feature names, but MultiTaskCNN"):
        loaded.predict(X)
    nameless = saved_and_loaded(make().fit(X, NUMBER), path)
    assert not hasattr(nameless, "feature_names_in_")
    with pytest.warns(UserWarning, match="X has feature names, but MultiTaskCNN"):
        nameless.predict(frame)


def documented() -> list[str]:
    """Names of the fitted attributes in the docstring."""
    doc = inspect.getdoc(MultiTaskCNNEstimator)
    section = doc.partition("\nAttributes\n")[2].partition("\nSee Also\n")[0]
    return re.findall(r"^(\w+) :", section, flags=re.MULTILINE)


@pytest.mark.parametrize("train", ["fit", "partial_fit"])
@pytest.mark.parametrize("columns", [["word"], ["word", "flag"], []], ids=str)
def test_documented_attributes_exist(columns, train, path):
    """After a training, and after loading, with the same values."""
    names = documented()
    assert len(names) == 17
    assert {"tasks_", "classes_", "noise_std_", "module_"} <= set(names)
    absent = {"thresholds_"}
    absent |= {"classes_", "oob_decision_function_"} if not columns else set()
    absent |= set(OUT_OF_BAG) if train == "partial_fit" else set()
    y = pd.DataFrame({"word": WORDS, "flag": CODE > 0, "holes": HOLES})[[*columns, "holes"]]
    frame = pd.DataFrame(X, columns=["p", "q", "r"])
    estimator = getattr(make(), train)(frame, y)
    loaded = saved_and_loaded(estimator, path)
    for name in names:
        if name in absent:
            assert not hasattr(estimator, name)
            assert not hasattr(loaded, name)
            continue
        found, expected = getattr(loaded, name), getattr(estimator, name)
        if name == "net_":
            assert type(found) is type(expected)
            assert found.module_ is loaded.module_
            found, expected = found.module_, expected.module_
        assert_alike(found, expected)
    assert (type(loaded.classes_) is list) == (len(columns) > 1) if columns else True
    public = {name for name in vars(estimator) if name.endswith("_")}
    assert public | {"history_", "module_"} == set(names) - absent


def test_tasks_with_kinds_that_are_objects(path):
    tasks = [Task("a", QuantileTarget(0.9)), Task("b", OrdinalTarget(["high", "low", "mid"]))]
    y = pd.DataFrame({"a": HOLES, "b": WORDS})
    estimator = make(tasks=tasks).fit(X, y)
    loaded = saved_and_loaded(estimator, path)
    assert loaded.tasks_ == estimator.tasks_ == loaded.tasks == tasks
    assert_predicts_the_same(loaded, estimator, X, y)


OTHER_LOSSES = [
    "weighted",
    "uncertainty",
    Uncertainty(),
    Uncertainty(torch.ones(3)),
    LogProd(),
    LogProd(torch.ones(3), decay=0.5),
]


@pytest.mark.parametrize("loss", OTHER_LOSSES, ids=str)
def test_a_loss_that_was_changed_after_fit(loss, fitted, path):
    """A training goes on from what is of the same type, and starts all else anew."""
    estimator = copy.copy(fitted).set_params(loss=loss, warm_start=True)
    loaded = saved_and_loaded(estimator, path)
    again = saved_and_loaded(loaded, path)
    for other in (loaded, again):
        assert_alike(other.loss, loss)
        assert_predicts_the_same(other, fitted, *make_table(30))
    for other in (estimator, loaded, again):
        other.fit(*make_table(30))
        assert_alike(learned(other), learned(estimator))


# -- trunks that are no data ---------------------------------------------------------------------


def small_trunk() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4))


class OwnSpec(BaseEstimator):
    """A spec of a user."""

    def __init__(self, width: int = 4) -> None:
        self.width = width

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Linear(*input_shape, self.width)


@pytest.mark.parametrize("trunk", [small_trunk(), small_trunk, OwnSpec(), EnsembleTrunk(3)])
def test_a_trunk_of_the_user(trunk, path):
    estimator = make(trunk=trunk).fit(X, NUMBER)
    before = copy.deepcopy(trunk.state_dict()) if isinstance(trunk, nn.Module) else None
    loaded = saved_and_loaded(estimator, path, trunk=trunk)
    assert loaded.trunk is trunk
    assert_predicts_the_same(loaded, estimator, X, NUMBER)
    if before is not None:
        assert_alike({**trunk.state_dict()}, {**before})
    with pytest.raises(ValueError, match=r"was a module or a callable. Pass .*load\(path, trunk="):
        MultiTaskCNNEstimator.load(path)
    with pytest.raises(
        ValueError,
        match=r"(?s)this trunk, of type Linear: the fitted weights do not.*[^.]\. Pass the trunk",
    ):
        MultiTaskCNNEstimator.load(path, trunk=nn.Linear(3, 7))
    with pytest.raises(
        ValueError, match=r"with this trunk, of type Linear: trunk fails on a batch"
    ):
        MultiTaskCNNEstimator.load(path, trunk=nn.Linear(9, 7))


class ToldRows(OwnSpec):
    """Of a width that does not depend on what it is told."""

    def build(self, input_shape: tuple[int, ...], n_rows: int | None = None) -> nn.Module:
        self.told = n_rows
        return super().build(input_shape)


def test_a_trunk_that_asks_for_rows_is_told_of_none_where_nothing_is_trained(path):
    fit, again = ToldRows(), ToldRows()
    estimator = make(trunk=fit).fit(X, NUMBER)
    assert fit.told == len(X)
    loaded = saved_and_loaded(estimator, path, trunk=again)
    assert again.told is None
    assert_predicts_the_same(loaded, estimator, X, NUMBER)


def test_waves_of_a_file_are_told_of_no_rows(fitted, path, monkeypatch):
    told = []
    build = DenseTrunk.build
    monkeypatch.setattr(
        *(DenseTrunk, "build"),
        lambda *args, n_rows=None, **kw: told.append(n_rows) or build(*args, **kw),
    )
    saved_and_loaded(fitted, path)
    assert {*told} == {None}


def test_a_trunk_that_is_not_needed(fitted, path):
    with pytest.raises(ValueError, match=r"holds its own: DenseTrunk.*Leave trunk out"):
        saved_and_loaded(fitted, path, trunk=small_trunk)


def test_a_trunk_with_a_state_that_is_no_tensor(path):
    class Stateful(nn.Linear):
        def get_extra_state(self):
            return {"anything": object()}

        def set_extra_state(self, state):
            pass

    estimator = make(trunk=Stateful(3, 4)).fit(X, NUMBER)
    with pytest.raises(TypeError, match=r"'trunk._extra_state' of type dict"):
        estimator.save(path)


@pytest.mark.parametrize("trunk", ["auto", DenseTrunk((5,)), DenseTrunk((4, 4))])
def test_a_trunk_that_was_changed_after_fit(trunk, path):
    estimator = make().fit(X, NUMBER).set_params(trunk=trunk)
    with pytest.raises(ValueError, match="do not fit the trunk"):
        estimator.save(path)
    assert not path.exists()


def test_a_trunk_of_the_same_shape_that_was_changed_after_fit(path):
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.Tanh())
    plain = DenseTrunk((4,), n_members=1, n_frequencies=0)
    estimator = make(trunk=trunk).fit(X, NUMBER).set_params(trunk=plain)
    with pytest.raises(ValueError, match=r"trunk=DenseTrunk.* was changed after fit"):
        estimator.save(path)


@pytest.mark.parametrize("changed", [{"loss": "weighted"}, {"optimizer": "SGD"}, {"tasks": None}])
def test_other_parameters_may_change_after_fit(changed, fitted, path):
    estimator = copy.copy(fitted).set_params(**changed)
    loaded = saved_and_loaded(estimator, path)
    assert_alike(loaded.get_params(), estimator.get_params())
    assert_predicts_the_same(loaded, fitted, *make_table(30))


# -- what is refused -----------------------------------------------------------------------------


def worst(losses: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    return losses.max()


class OwnLogProd(LogProd):
    """A loss of a user, which may hold and do more."""


class OwnSGD(torch.optim.SGD):
    """An optimizer of a user."""


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"loss": worst}, r"^loss holds <function worst"),
        ({"loss": OwnLogProd()}, "^loss holds .* of type OwnLogProd"),
        ({"optimizer": OwnSGD}, r"^optimizer holds <class '.*OwnSGD'>"),
        (
            {"net_params": {"callbacks": [EpochScoring("train_loss", name="x")]}},
            r"^net_params\['callbacks'\]\[0\] holds .*EpochScoring",
        ),
        ({"net_params": {"predict_nonlinearity": abs}}, r"^net_params\['predict_nonlinearity'\]"),
        (
            {"trunk": DenseTrunk((Decimal(4),))},
            r"^trunk\['dense'\]\['hidden_layer_sizes'\]\[0\] hold",
        ),
        ({"random_state": np.random.RandomState(np.random.PCG64(0))}, "^random_state holds"),
    ],
)
def test_what_is_no_data_is_refused_by_name(params, said, path):
    path.write_bytes(b"an older file")
    estimator = make(max_epochs=1).fit(X, np.column_stack([NUMBER, HOLES])).set_params(**params)
    with pytest.raises(TypeError, match=said):
        estimator.save(path)
    assert path.read_bytes() == b"an older file"
    assert list(path.parent.iterdir()) == [path]


def half(y_true: Any, y_pred: Any, sample_weight: Any = None) -> float:
    """A metric of a user, by which a threshold is tuned."""
    return float(np.mean(np.asarray(y_true) == y_pred) + 0.5)


class OwnTarget(RegressionTarget):
    """A kind of a user, not in `KINDS`."""


TASK_OF_A_USER: dict[str, tuple[Task, str]] = {
    "threshold": (
        Task("c", "classification", threshold=half),
        r"Task 'c': threshold=<function half.* is a function, .* cannot hold\. Fit with the name "
        r"of a scorer of .*, such as 'f1', or with the number that was found, 0\.\d+, or pickle",
    ),
    "threshold of a kind": (
        Task("c", ClassificationTarget(threshold=half)),
        r"Task 'c': threshold=<function half",
    ),
    "kind": (
        Task("c", OwnTarget()),
        r"Task 'c': OwnTarget is a kind of your own, .*KINDS\['\.\.\.'\] = OwnTarget, wherever",
    ),
}


@pytest.mark.parametrize("declared", ["list", "dict"])
@pytest.mark.parametrize("what", TASK_OF_A_USER)
def test_tasks_that_are_no_data_are_refused_by_name(what, declared, path):
    """As they were fitted, and as they were set after that."""
    task, said = TASK_OF_A_USER[what]
    tasks = {"c": task} if declared == "dict" else [task]
    y = pd.DataFrame({"c": (X[:, 0] > 0).astype(float)})
    fitted = make(tasks=tasks, max_epochs=1).fit(X, y)
    plain = make(tasks=[Task("c", "classification")], max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match=said):
        fitted.save(path)
    with pytest.raises(TypeError, match=said):  # what was fitted is still of it
        fitted.set_params(tasks=None).save(path)
    with pytest.raises(TypeError, match=said.split(" or with")[0]):
        plain.set_params(tasks=tasks).save(path)
    assert not path.exists()


def test_attributes_of_the_user_are_written_or_refused(path):
    estimator = make().fit(X, NUMBER)
    estimator.note_ = {"unit": "mm", "at": (1, None)}
    assert saved_and_loaded(estimator, path).note_ == estimator.note_
    estimator.handle_ = lambda: 0
    with pytest.raises(TypeError, match=r"^handle_ holds"):
        estimator.save(path)


def test_an_estimator_that_is_not_fitted(path):
    with pytest.raises(NotFittedError):
        MultiTaskCNNEstimator().save(path)
    assert not path.exists()


# -- attacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net_params",
    [
        {"compile": True, "compile__options": {"cpp.cxx": ("/tmp/a-program",)}},
        {"compile__backend": "eager"},
        {"callbacks__print_log": "x"},
        {"torch_load_kwargs": {"weights_only": False}},
    ],
)
def test_options_that_may_run_programs_are_in_no_file(net_params, tmp_path):
    X, y = np.eye(12), np.arange(12.0)
    est = MultiTaskCNNEstimator(trunk=DenseTrunk((4,)), max_epochs=1, random_state=0).fit(X, y)
    path = tmp_path / "model"
    with pytest.raises(ValueError, match=r"net_params holds .* Leave them out, or pickle"):
        est.set_params(net_params=net_params).save(path)
    est.set_params(net_params=None).save(path)

    def change(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        header["params"]["net_params"] = encode(net_params, "net_params", tensors)

    rewrite(path, change)
    with pytest.raises(ValueError, match=r"cannot be loaded: .*net_params holds"):
        MultiTaskCNNEstimator.load(path)


@pytest.mark.parametrize("train", ["module", "trunk", "forward"])
def test_a_module_in_training_mode_is_saved(train, tmp_path):
    """The mode says nothing of what was learned."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    est = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, X[:, 0])
    before = est.predict(X)
    if train == "forward":
        est.net_.forward(X, training=True)
    else:
        (est.module_ if train == "module" else est.module_.trunk).train()
    est.save(tmp_path / "m")
    np.testing.assert_array_equal(MultiTaskCNNEstimator.load(tmp_path / "m").predict(X), before)


class Short(MultiTaskCNNEstimator):
    """A subclass with parameters of its own choice."""

    def __init__(self, width=8, random_state=None, trunk_made=False):
        super().__init__(max_epochs=2, trunk=DenseTrunk((width,)), random_state=random_state)
        if trunk_made:
            self.trunk = nn.Linear(3, width)
        self.width = width
        self.trunk_made = trunk_made


@pytest.mark.parametrize("trunk_made", [False, True])
def test_a_subclass_may_list_fewer_parameters(trunk_made, tmp_path):
    """Those of its bases are in the file too, and a trunk of its own is asked for."""
    X = np.random.default_rng(0).normal(size=(40, 3))
    est = Short(5, 0, trunk_made).fit(X, X[:, 0])
    est.save(tmp_path / "m")
    again = Short.load(tmp_path / "m", trunk=nn.Linear(3, 5) if trunk_made else None)
    assert (again.width, again.max_epochs, again.trunk_made) == (5, 2, trunk_made)
    np.testing.assert_array_equal(again.predict(X), est.predict(X))
