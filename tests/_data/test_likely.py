"""What X looks like, where it is read as something else."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _inputs import make_small
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._data.inputs import InputReader, as_input
from sklearn_mtl._data.likely import find_codes, look, looks_flat, shape_says
from sklearn_mtl.networks import DenseTrunk

FIRST, LAST = "channels_first", "channels_last"
RNG = np.random.default_rng(0)
DIGITS = datasets.load_digits().data
SCENES = np.stack([np.kron(RNG.random((2, 2)), np.ones((6, 6))) for _ in range(60)])


def said(X: Any, convolves: bool = True, auto: bool = True, **params: Any) -> list[str]:
    """What is warned of, as it would be in a fit."""
    inputs, rows = as_input(X), np.arange(len(X))
    reader = InputReader(params.get("input_shape"), params.get("data_format", FIRST), "Est")
    reader.fit_names(X).fit(inputs, rows, np.ones(len(X)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        look(reader, inputs, rows, convolves, auto)
    return [str(w.message) for w in caught]


# -- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "data_format", "parts"),
    [
        ((3, 128), FIRST, ["(n, 3, 128)", "3 x 128 pixels", "input_shape=(3, 128) for sequences"]),
        ((9, 50), FIRST, ["input_shape=(9, 50) for sequences of 9", "input_shape=(1, 9, 50) for"]),
        ((1, 16), FIRST, ["input_shape=(1, 16) for sequences of 1"]),
        ((128, 3), FIRST, ["Pass data_format='channels_last' and input_shape=(3, 128)"]),
        ((32, 32, 5), FIRST, ["32 channels", "channels_last' if they have 5", "(32, 32, 5) if"]),
        ((6, 7, 2), FIRST, ["6 channels", "if they have 2"]),
        ((5, 32, 32), LAST, ["32 channels", "channels_first' if they have 5", "(32, 5, 32) if"]),
        ((16, 16, 16, 1), FIRST, ["16 channels", "channels_last' if they have 1"]),
        ((1, 16, 16, 16), LAST, ["16 channels", "channels_first' if they have 1"]),
    ],
)
def test_shapes_of_a_likelier_meaning(shape: Any, data_format: str, parts: list[str]) -> None:
    text = shape_says(shape, data_format)
    assert text is not None
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    ("shape", "data_format"),
    [
        ((784,), FIRST),
        ((28, 28), FIRST),
        ((8, 8), FIRST),
        ((17, 200), FIRST),  # as lines of text, or spectrograms, are
        ((5, 16), FIRST),
        ((3, 32, 32), FIRST),
        ((64, 8, 8), FIRST),
        ((32, 32, 5), LAST),
        ((1, 16, 16, 16), FIRST),
        ((16, 16, 16, 1), LAST),
    ],
)
def test_shapes_of_no_other_meaning(shape: Any, data_format: str) -> None:
    assert shape_says(shape, data_format) is None


WINDOWS = RNG.normal(size=(40, 3, 32))


def test_what_is_settled_is_not_warned_of() -> None:
    assert "sequences of 3 channels" in said(WINDOWS)[0]
    assert not said(WINDOWS, convolves=False)
    for shape in ((3, 32), (1, 3, 32)):
        assert not said(WINDOWS, input_shape=shape)
    assert "flat images" in said(DIGITS)[0]
    assert not said(DIGITS, auto=False)
    for shape in ((64,), (1, 8, 8)):
        assert not said(DIGITS, input_shape=shape)


@pytest.mark.parametrize(
    ("X", "trunk", "n_warnings"),
    [
        (WINDOWS, "auto", 1),
        (WINDOWS, "conv", 1),
        (WINDOWS, "dense", 0),
        (WINDOWS, DenseTrunk((4,)), 0),
        (DIGITS[:60], "auto", 1),
        (DIGITS[:60], "dense", 0),
        (DIGITS[:60], DenseTrunk((4,)), 0),
    ],
)
def test_a_fit_warns_once_and_nothing_else_does(X: Any, trunk: Any, n_warnings: int) -> None:
    est, y = (
        MultiTaskCNNEstimator(trunk=trunk, max_epochs=1, warm_start=True),
        X.reshape(len(X), -1)[:, 9],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est.fit(X, y)
    assert len(caught) == n_warnings
    est.fit(X, y).partial_fit(X, y).predict(X)  # warnings are errors here


# -- flat images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        DIGITS,
        DIGITS / 16,
        RNG.integers(0, 256, size=(50, 100)),
        SCENES.reshape(60, -1),
        SCENES.reshape(60, -1) * 1e-3 - 7,
        np.stack([SCENES, SCENES[::-1], 1 - SCENES], axis=1).reshape(60, -1),  # channels first
        np.stack([SCENES, SCENES[::-1], 1 - SCENES], axis=-1).reshape(60, -1),  # and last
    ],
)
def test_flat_images(X: np.ndarray) -> None:
    assert looks_flat(X.astype(float))


WAVES = np.sin(np.linspace(0, 9, 144) * RNG.random((50, 1)) * 3 + RNG.random((50, 1)))


@pytest.mark.parametrize(
    "X",
    [
        RNG.normal(size=(50, 100)),
        RNG.integers(0, 2, size=(50, 1024)),  # fingerprints
        RNG.integers(0, 256, size=(50, 99)),  # no square
        RNG.integers(0, 256, size=(50, 49)),  # a small one
        RNG.poisson(3, size=(50, 100)),
        RNG.normal(size=(50, 100)) * 10.0 ** RNG.integers(-3, 4, size=100),
        WAVES,
        np.cumsum(RNG.normal(size=(50, 144)), axis=1),
        np.ones((50, 64)),
    ],
)
def test_tables(X: np.ndarray) -> None:
    assert not looks_flat(X.astype(float))


# -- codes ---------------------------------------------------------------------------------------

AGE = RNG.integers(20, 80, size=400).astype(float)


def with_code(values: np.ndarray, *codes: float) -> np.ndarray:
    """A column with some values replaced by each of the codes."""
    values = values.copy()
    for i, code in enumerate(codes):
        values[i :: 40 + i] = code
    return values[:, None]


@pytest.mark.parametrize("code", [-1, -9, -99, 999, 9999, -32768, 2**31 - 1, 500, -777, -999.25])
def test_codes(code: float) -> None:
    assert find_codes(with_code(AGE, code)) == {code: [0]}
    assert find_codes(np.hstack([AGE[:, None], with_code(AGE, code)])) == {code: [1]}


def test_several_codes() -> None:
    assert sorted(find_codes(with_code(AGE, -999, -998))) == [-999, -998]
    assert sorted(find_codes(with_code(AGE, -999, 9999))) == [-999, 9999]


def test_most_of_a_column_may_be_codes() -> None:
    values = np.full((400, 1), -999.0)
    values[::5, 0] = AGE[::5]
    assert list(find_codes(values)) == [-999]


@pytest.mark.parametrize(
    "values",
    [
        RNG.normal(size=400),
        RNG.standard_cauchy(size=400),
        RNG.integers(-1, 6, size=400),
        RNG.integers(0, 100, size=400),  # 99 is one of them
        RNG.integers(0, 2, size=400) * 999,  # a flag
        RNG.poisson(0.2, size=400) * 50,
        np.where(RNG.random(400) < 0.6, 0, RNG.lognormal(3, 1, 400)),  # amounts
        np.repeat([999.0], 400),
        np.where(np.arange(400) == 7, -999, AGE),  # once is an outlier, not a code
        AGE[:7],
    ],
)
def test_numbers(values: np.ndarray) -> None:
    assert not find_codes(np.asarray(values, dtype=float)[:, None])


@pytest.mark.parametrize("load", ["iris", "wine", "breast_cancer", "diabetes", "linnerud"], ids=str)
def test_no_false_alarms(load: str) -> None:
    X = getattr(datasets, f"load_{load}")().data
    assert not said(X)
    assert not said(StandardScaler().fit_transform(X))


def test_columns_and_channels_are_named() -> None:
    frame = pd.DataFrame({"size": AGE, "age": with_code(AGE, -1)[:, 0]})
    (text,) = said(frame)
    assert "X holds -1 again and again" in text
    assert "in columns 'age'. If" in text
    assert "SimpleImputer(missing_values=...) in a Pipeline" in text
    assert "in columns 1. If" in said(frame.to_numpy())[0]
    windows = WINDOWS.copy()
    windows[::4, 2, 20:] = -999
    assert "in channels 2. If" in said(windows, input_shape=(3, 32))[0]


@pytest.mark.parametrize(("code", "n_warnings"), [(-9999, 1), (-1, 0), (255, 0), (-500, 0)])
def test_codes_of_images_are_those_that_no_pixel_is(code: float, n_warnings: int) -> None:
    images = RNG.random((40, 1, 8, 8)) / 4
    images[::3, :, 2:4] = code
    assert len(said(images)) == n_warnings


def test_rows_of_all_of_X_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sklearn_mtl._data.inputs.GLANCE_ELEMENTS", 100)
    ordered = np.sort(with_code(AGE, -999), axis=0)[::-1].copy()
    assert said(ordered)


def test_a_fit_warns_of_codes() -> None:
    with pytest.warns(UserWarning, match="X holds -999 again and again"):
        make_small().fit(with_code(AGE, -999), AGE)
