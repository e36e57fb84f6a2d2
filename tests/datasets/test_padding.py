"""Sequences of unequal length: what they become, and that the padding says nothing."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.datasets import MultiInput, SequencePad
from sklearn_mtl.networks import Ensemble, Fusion, SequenceTrunk

N = 60


def make_sequences(n_channels: int = 2) -> tuple[list[np.ndarray], pd.DataFrame]:
    """Waves of 5 to 40 steps; their frequency and whether they are loud do not need the length."""
    rng = np.random.default_rng(0)
    lengths, frequency, loud = (
        rng.integers(5, 41, size=N),
        rng.uniform(0.5, 2, size=N),
        rng.random(N),
    )
    X = [
        (1 + (a > 0.5)) * np.sin(f * np.arange(n) + np.arange(n_channels)[:, None]) + 3
        for n, f, a in zip(lengths, frequency, loud, strict=True)
    ]
    return X, pd.DataFrame({"loud": loud > 0.5, "frequency": frequency})


def small(length: int, **params: Any) -> MultiTaskCNNEstimator:
    trunk = SequenceTrunk(width=4, n_features=16)
    return MultiTaskCNNEstimator(
        **{"max_epochs": 3, "random_state": 0} | params, trunk=trunk, input_shape=(3, length)
    )


def test_what_sequences_become() -> None:
    X = [np.array([[1, 2, 3], [4, 5, 6]]), np.array([[9], [7]])]
    pad = SequencePad()
    padded = pad.fit_transform(X)
    assert (pad.length_, pad.fill_.tolist()) == (3, [15 / 4, 22 / 4])
    assert padded[0].tolist() == [[1, 2, 3], [4, 5, 6], [1, 1, 1]]
    assert padded[1].tolist() == [[9, 3.75, 3.75], [7, 5.5, 5.5], [1, 0, 0]]
    assert padded.dtype == np.float64
    turned = SequencePad(channels="last").fit_transform([x.T for x in X])
    np.testing.assert_array_equal(turned, padded)
    longer = SequencePad(5).fit(X[:1]).transform([x.astype(np.float32) for x in X])
    assert longer.shape == (2, 3, 5)
    assert longer.dtype == np.float32
    lists = SequencePad().fit_transform([[1, 2], [3]])
    np.testing.assert_array_equal(lists, [[[1, 2], [1, 1]], [[3, 2], [1, 0]]])


def expected_failures(pad: SequencePad) -> dict[str, str]:
    any_length = "sequences have steps, in any number, and no features"
    return {
        "check_n_features_in_after_fitting": any_length,
        "check_n_features_in": any_length,
        "check_transformer_general": any_length,
        "check_estimators_empty_data_messages": "the message speaks of steps, and not of features",
    }


@parametrize_with_checks([SequencePad()], expected_failed_checks=expected_failures)
def test_manners_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_sequences_are_no_table() -> None:
    """They have no names, and pass where others are asked for frames."""
    X, _ = make_sequences()
    pad = clone(SequencePad(50))
    assert not hasattr(pad, "set_output")
    assert not hasattr(pad, "get_feature_names_out")
    assert "SequencePad" in pad._repr_html_()
    expected = pad.fit_transform(X)
    with config_context(transform_output="pandas"):
        np.testing.assert_array_equal(pad.fit_transform(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pad)).transform(X), expected)
    column = pd.Series(X, index=range(7, 7 + N), name="wave")
    for held in (column, column.to_frame(), np.array([*X, None], dtype=object)[:-1], tuple(X)):
        np.testing.assert_array_equal(pad.transform(held), expected)
    flat = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    table = pd.DataFrame({"wave": X, "age": np.arange(N)})
    waves = make_pipeline(pad, flat)
    both = ColumnTransformer([("w", waves, "wave"), ("a", "passthrough", ["age"])])
    np.testing.assert_array_equal(both.fit_transform(table)[:, :-1], expected.reshape(N, -1))


def test_predictions_do_not_depend_on_the_padding() -> None:
    X, y = make_sequences()
    pad = SequencePad().fit(X)
    est = small(pad.length_).fit(pad.transform(X), y)
    expected = est.predict(pad.transform(X))
    other = pad.transform(X)
    behind = np.broadcast_to(other[:, -1:] == 0, other[:, :-1].shape)
    other[:, :-1][behind] = np.random.default_rng(0).normal(1e3, 1e3, size=behind.sum())
    np.testing.assert_array_equal(est.predict(other), expected)
    alone = np.concatenate([est.predict(pad.transform([x])) for x in X])
    np.testing.assert_allclose(alone.astype(float), expected.astype(float), rtol=1e-5)


def test_the_same_network_says_the_same_of_longer_padding() -> None:
    """Means and scales stay, too: only the shape is told."""
    X, y = make_sequences()
    est = small(40).fit(SequencePad(40).fit_transform(X), y)
    expected = est.predict(SequencePad(40).fit_transform(X))
    reader = est._fitted.reader
    reader.input_shape_ = reader.sample_shape_ = (3, 75)
    found = est.predict(SequencePad(75).fit_transform(X))
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=1e-5)


@pytest.mark.parametrize("trunk", ["sequence", SequenceTrunk(4, 16)])
def test_a_fit_does_not_see_the_padding(trunk: Any) -> None:
    """Neither how long it is nor what it holds: means and scales are those of the steps."""
    X, y = make_sequences()
    steps = np.concatenate(X, axis=1)
    found = []
    for length, behind in [(40, 0.0), (40, 50.0), (44, -7.0)]:
        padded = SequencePad(length).fit_transform(X)
        outside = np.broadcast_to(padded[:, -1:] == 0, padded[:, :-1].shape)
        padded[:, :-1][outside] = behind
        est = small(length).set_params(trunk=trunk).fit(padded, y)
        reader = est._fitted.reader
        np.testing.assert_allclose(reader.mean_[:-1, 0], steps.mean(axis=1))
        np.testing.assert_allclose(reader.scale_[:-1, 0], steps.std(axis=1))
        found.append(est.predict(padded).astype(float))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("several", [False, True])
def test_a_channel_that_is_no_mask_is_told_of(several: bool) -> None:
    """Each sequence would end at its second step; where the mask has other numbers, all is well."""
    waves = np.random.default_rng(0).normal(size=(20, 3, 30))
    waves[1::2, -1] = np.where(np.arange(30) < 12, 0.7, -2)
    X: Any = MultiInput(wave=waves) if several else waves
    trunk: Any = Ensemble(SequenceTrunk(4, 8), 2)
    shape: Any = (3, 30)
    if several:
        trunk, shape = Fusion({"wave": SequenceTrunk(4, 8)}), {"wave": shape}
    est = MultiTaskCNNEstimator(trunk=trunk, input_shape=shape, max_epochs=1)
    with pytest.warns(UserWarning, match=r"more than once in 10 of 20 .*trunk='conv'") as told:
        est.fit(X, waves[:, 0].mean(axis=1))
    assert len(told) == 1


def test_sequences_beside_a_table_do_not_see_the_padding() -> None:
    X, y = make_sequences()
    padded, table = SequencePad(60).fit_transform(X), np.arange(N)[:, None] % 7
    outside = np.broadcast_to(padded[:, -1:] == 0, (N, 2, 60))
    est = MultiTaskCNNEstimator(
        trunk=Fusion({"wave": SequenceTrunk(4, 8)}),
        input_shape={"wave": (3, 60)},
        max_epochs=1,
        random_state=0,
    ).fit(MultiInput(wave=padded, table=table), y)
    reader = est._fitted.reader.readers_["wave"]
    np.testing.assert_allclose(reader.scale_[:-1, 0], np.concatenate(X, axis=1).std(axis=1))
    expected = est.predict(MultiInput(wave=padded, table=table))
    padded[:, :2][outside] = 77
    np.testing.assert_array_equal(est.predict(MultiInput(wave=padded, table=table)), expected)


def test_a_module_of_ones_own_may_read_the_mask() -> None:
    X, y = make_sequences()
    padded = SequencePad(60).fit_transform(X)
    module = SequenceTrunk(4, 16).build((3, 60))
    scales = []
    for reads in (False, True):
        module.reads_mask = reads
        est = small(60).set_params(trunk=module).fit(padded, y)
        scales.append(est._fitted.reader.scale_[:-1, 0])
    np.testing.assert_allclose(scales[1], np.concatenate(X, axis=1).std(axis=1))
    assert (scales[0] < 0.9 * scales[1]).all()


def test_it_learns_in_pipelines_and_splits() -> None:
    X, y = make_sequences()
    pipeline = make_pipeline(SequencePad(40), small(40, max_epochs=80, batch_size=16))
    assert pipeline.fit(X, y).score(X, y) > 0.8
    brief = make_pipeline(SequencePad(40), small(40, batch_size=16))
    assert np.isfinite(cross_validate(brief, X, y, cv=2)["test_score"]).all()


def test_files_and_names(tmp_path: Path) -> None:
    X, y = make_sequences()
    padded = SequencePad().fit_transform(X)
    est = small(padded.shape[2]).fit(padded, y)
    est.save(tmp_path / "a.safetensors")
    again = MultiTaskCNNEstimator.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.predict(padded), est.predict(padded))
    named = MultiTaskCNNEstimator(trunk="sequence", input_shape=padded.shape[1:], max_epochs=1)
    assert named.fit(padded, y).predict(padded).shape == (N, 2)


def test_graphs_end_where_sequences_do(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs")
    X, y = make_sequences()
    padded = SequencePad().fit_transform(X).astype(np.float32)
    est = small(padded.shape[2]).fit(padded, y)
    est.to_onnx(tmp_path / "a.onnx")
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for rows in (padded, padded[:1]):
        found = session.run(["frequency"], {"X": rows})[0]
        np.testing.assert_allclose(
            found.ravel(), est.predict(rows)[:, 1].astype(float), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "X holds no sequences"),
        ([[1.0], []], "Row 1 of X is float64 of the shape (0,)"),
        ([["a"]], "Row 0 of X is <U1"),
        ([1.0, 2.0], "Row 0 of X is a number, and no sequence. Reshape your data"),
        ([np.array([1j])], "Complex data not supported: row 0 of X"),
        (pd.DataFrame({"a": [1.0], "b": [2.0]}), "X is a DataFrame"),
        ([np.zeros((2, 3, 4))], "Row 0 of X is float64 of the shape (2, 3, 4)"),
        ([[[1, 2], [3]]], "Row 0 of X is no array"),
        ([np.ones((2, 5)), np.ones((3, 5))], "Row 1 of X has 3 channels, others have 2"),
        ([np.ones(3), [1.0, np.nan]], "Row 1 of X holds NaN or infinity"),
    ],
)
def test_what_is_no_list_of_sequences(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SequencePad().fit(X)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"length": 0}, "length=0"),
        ({"length": 2.5}, "length=2.5"),
        ({"channels": "middle"}, "channels='middle'"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequencePad(**params).fit([[1.0]])


def test_sequences_that_are_longer_than_those_of_fit() -> None:
    pad = SequencePad().fit([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"1 sequences of more than 2 steps.*\[1\].*length=5"):
        pad.transform([[1.0], [1.0] * 5])
    with pytest.raises(ValueError, match="Row 0 of X has 2 channels, others have 1"):
        pad.transform([np.ones((2, 2))])


def test_masked_steps_are_holes_and_tensors_are_read() -> None:
    masked = np.ma.array([1.0, 2.0, 999.0], mask=[0, 0, 1])
    with pytest.raises(ValueError, match="Row 0 of X holds NaN or infinity"):
        SequencePad().fit([masked])
    tensor = torch.ones(3, requires_grad=True)
    assert SequencePad().fit_transform([tensor])[0, 0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="X is a NoneType"):
        SequencePad().fit(None)
