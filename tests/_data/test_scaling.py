"""Means and scales that are told, and not learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data.inputs import InputReader
from sklearn_mtl._data.scaling import IMAGENET, told_scaling
from sklearn_mtl._fitted import fitted_of

N = 40
PIXELS = np.random.default_rng(0).integers(0, 256, size=(N, 3, 4, 4)).astype(np.uint8)
ROWS = np.random.default_rng(1).normal(size=(N, 3)) * [1, 10, 100] + [0, 5, -300]
MEAN, STD = np.array(IMAGENET)[:, :, None, None]


class Seen(nn.Module):
    """A trunk whose features are its inputs, as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def make(standardize: Any, **params: Any) -> MultiTaskCNNEstimator:
    defaults = {"trunk": Seen(), "max_epochs": 1, "random_state": 0, "precision": "float64"}
    return MultiTaskCNNEstimator(**(defaults | {"standardize": standardize} | params))


def seen(standardize: Any, X: np.ndarray, **params: Any) -> np.ndarray:
    """What reaches the network."""
    y = X.reshape(len(X), -1)[:, 0].astype(float)
    return make(standardize, **params).fit(X, y).embed(X)


# -- what the network sees -----------------------------------------------------------------------


@pytest.mark.parametrize("X", [ROWS, PIXELS, ROWS[:, :, None, None]])
@pytest.mark.parametrize("off", [False, np.False_])
def test_nothing_is_done(X: np.ndarray, off: Any) -> None:
    np.testing.assert_array_equal(seen(off, X), X.reshape(N, -1))


def test_values_of_any_size_pass_where_nothing_is_done() -> None:
    """Squares of which could not be computed."""
    X = ROWS * 1e200
    reader = InputReader(None, "channels_first", "Est", False).fit(X, np.arange(N), np.ones(N))
    np.testing.assert_array_equal(reader.scale_, 1)
    with pytest.raises(ValueError, match="overflow"):
        InputReader(None, "channels_first", "Est").fit(X, np.arange(N), np.ones(N))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, float])
def test_pixels_to_255_are_those_of_imagenet(dtype: Any) -> None:
    """Of any type: the same numbers are the same pixels."""
    found = seen("imagenet", PIXELS.astype(dtype))
    np.testing.assert_allclose(found, ((PIXELS / 255 - MEAN) / STD).reshape(N, -1), rtol=1e-12)


def test_pixels_to_1_are_those_of_imagenet() -> None:
    found = seen("imagenet", PIXELS / 255)
    np.testing.assert_allclose(found, ((PIXELS / 255 - MEAN) / STD).reshape(N, -1), rtol=1e-12)


def test_channels_last() -> None:
    last = np.moveaxis(PIXELS, 1, -1)
    found = seen("imagenet", last, data_format="channels_last")
    np.testing.assert_array_equal(found, seen("imagenet", PIXELS))


def test_training_rows_tell_the_range_of_pixels() -> None:
    """And not those that are predicted later."""
    est = make("imagenet").fit(PIXELS, np.arange(N))
    dark = np.ones_like(PIXELS)
    np.testing.assert_allclose(est.embed(dark), ((1 / 255 - MEAN) / STD + 0 * dark).reshape(N, -1))


@pytest.mark.parametrize(
    ("pair", "mean", "std"),
    [
        ((0, 255), 0, 255),
        ([0.5, [1, 2, 4]], 0.5, [1, 2, 4]),
        ((np.array([1, 2, 3]), np.float32(2)), [1, 2, 3], 2),
        (((1, 2, 3), [[4]][0]), [1, 2, 3], 4),
    ],
)
def test_a_pair_is_in_the_units_of_X(pair: Any, mean: Any, std: Any) -> None:
    np.testing.assert_allclose(seen(pair, ROWS), (ROWS - mean) / std, rtol=1e-12)
    mean, std = (np.broadcast_to(v, 3)[:, None, None] for v in (mean, std))
    np.testing.assert_allclose(
        seen(pair, PIXELS), ((PIXELS - mean) / std).reshape(N, -1), rtol=1e-12
    )


def test_true_learns() -> None:
    assert told_scaling(True, (3,), 0, 1) is told_scaling(np.True_, (3,), 0, 1) is None
    found = seen(True, ROWS)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), 1)


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("standardize", "X", "message"),
    [
        ("imagenet", ROWS, r"three channels, but samples of X are of shape \(3,\)"),
        ("imagenet", PIXELS[:, :1], r"shape \(1, 4, 4\), channels first. Pass standardize=\(mean"),
        ("imagenet", PIXELS - 100.0, "but X holds values from -100 to 155. Pass"),
        ("imagenet", PIXELS * 2.0, "but X holds values from 0 to 510"),
        ({"mean": 0}, ROWS, "standardize={'mean': 0} does not fit X. Pass a pair"),
        ((1, 2, 3), ROWS, r"standardize=\(1, 2, 3\) does not fit X. Pass a pair \(mean, std\)"),
        ((0,), ROWS, "does not fit X. Pass a pair"),
        ((0, 0), ROWS, "std above 0"),
        ((0, -1), ROWS, "std above 0"),
        ((0, np.nan), ROWS, "finite"),
        (([1, 2], 1), ROWS, "or 3 numbers, one per feature"),
        (([1, 2], 1), PIXELS, "or 3 numbers, one per channel"),
        (([[1, 2, 3]], 1), ROWS, "does not fit X"),
        (("a", "b"), ROWS, "does not fit X"),
        ((None, None), ROWS, "does not fit X"),
    ],
)
def test_what_does_not_fit_X(standardize: Any, X: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(standardize).fit(X, np.arange(N))


@pytest.mark.parametrize("standardize", ["Imagenet", None, 1, 0.5])
def test_values_of_no_meaning(standardize: Any) -> None:
    with pytest.raises(ValueError, match=r"'standardize' parameter .*'imagenet'"):
        make(standardize).fit(ROWS, np.arange(N))


# -- later ---------------------------------------------------------------------------------------

TOLD = [False, ([0, 5, -300], (1.0, 10, 100)), np.False_]


@pytest.mark.parametrize("standardize", TOLD)
def test_files_keep_it(standardize: Any, tmp_path: Path) -> None:
    est = make(standardize, trunk="dense").fit(ROWS, ROWS[:, :2])
    est.save(tmp_path / "model")
    again = MultiTaskCNNEstimator.load(tmp_path / "model")
    assert again.standardize == standardize
    np.testing.assert_array_equal(again.predict(ROWS), est.predict(ROWS))
    again.set_params(warm_start=True).fit(ROWS, ROWS[:, :2])
    np.testing.assert_array_equal(fitted_of(again).reader.mean_, fitted_of(est).reader.mean_)


@pytest.mark.parametrize("standardize", [False, "imagenet", (7, 255.0)])
def test_graphs_have_it(standardize: Any, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs the graphs")
    est = make(standardize, precision="float32").fit(PIXELS, np.arange(N))
    est.to_onnx(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"X": PIXELS.astype(np.float32)})
    np.testing.assert_allclose(found, est.predict(PIXELS), rtol=1e-4)


@pytest.mark.parametrize("go_on", ["fit", "partial_fit"])
def test_it_cannot_be_changed_in_between(go_on: str) -> None:
    est = make((0, 10.0), warm_start=True, trunk="dense").fit(ROWS, ROWS[:, 0])
    est.set_params(standardize=[0, 10])  # the same
    getattr(est, go_on)(ROWS * 2, ROWS[:, 0])
    np.testing.assert_array_equal(fitted_of(est).reader.scale_, 10)
    for other in (True, False, (0, 11.0)):
        est.set_params(standardize=other)
        with pytest.raises(ValueError, match=r"standardize was changed from \(0, 10.0\) to"):
            getattr(est, go_on)(ROWS, ROWS[:, 0])


def test_what_the_user_changes_later_changes_nothing() -> None:
    pair: list[Any] = [[0, 5, -300], 10.0]
    est = make(pair, warm_start=True, trunk="dense").fit(ROWS, ROWS[:, 0])
    pair[0][1] = 6
    with pytest.raises(ValueError, match="standardize was changed"):
        est.fit(ROWS, ROWS[:, 0])


# -- what it is for ------------------------------------------------------------------------------


class Backbone(nn.Sequential):
    """Frozen, with batch statistics of another data set; made for pixels as ImageNet's."""

    def __init__(self) -> None:
        norm = nn.BatchNorm2d(4, affine=False)
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3), norm, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        norm.running_mean += 0.5
        self.requires_grad_(False)


def test_a_frozen_backbone_gets_what_it_was_trained_on_and_stays() -> None:
    backbone = Backbone()
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    est = make("imagenet", trunk=backbone, max_epochs=3, precision="float32", device="cpu")
    est.fit(PIXELS, PIXELS.mean(axis=(1, 2, 3)))
    for name, value in est.module_.trunk.state_dict().items():
        assert torch.equal(value, state[name]), name
    pixels = torch.tensor((PIXELS / 255 - MEAN) / STD, dtype=torch.float32)
    expected = backbone.eval()(pixels).numpy()
    np.testing.assert_allclose(est.embed(PIXELS), expected, rtol=1e-4, atol=1e-5)
