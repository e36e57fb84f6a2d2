"""Synthetic data sets with several targets, for examples and tests of multi-task learning."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

__all__ = ["make_digit_scenes"]

_CELLS = 8  # load_digits has 8x8 images, and every digit in it fills the height
_N_TRAIN_DIGITS = 1347  # three quarters of the 1,797 digits
_BATCH_SIZE = 1024  # bounds the memory for temporaries, does not influence the result

_CONSTRAINTS: dict[str, list[Any]] = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "size": [Interval(Integral, 12, None, closed="left")],
    "noise": [Interval(Real, 0, None, closed="left")],
    "positive_fraction": [Interval(Real, 0, 1, closed="both")],
    "subset": [StrOptions({"train", "test"})],
    "position": ["boolean"],
    "random_state": ["random_state"],
}


def _load_glyphs(subset: str) -> NDArray[np.float32]:
    """Return the handwritten digits of a subset as 8x8 cells of ink between 0 and 1.

    The cut is contiguous because images by one writer tend to follow each other: a shuffled
    split would put the handwriting of most test digits into the training set.
    """
    glyphs = (load_digits().images / 16).astype(np.float32)
    return glyphs[:_N_TRAIN_DIGITS] if subset == "train" else glyphs[_N_TRAIN_DIGITS:]


def _tents(
    x: NDArray[Any], centers: NDArray[Any], width: float | NDArray[Any] = 1.0
) -> NDArray[np.float32]:
    """Evaluate triangular bumps of area 1, with a row of `centers` for each row of `x`.

    With a width of 1 and centers 1 apart these are the weights of linear interpolation. Shapes
    (n, p) and (n, q), or (1, q) for the same centers everywhere, give (n, p, q).
    """
    distance = np.abs(x[:, :, None] - centers[:, None, :]) / width
    return (np.maximum(0, 1 - distance) / width).astype(np.float32)


def _draw_strokes(controls: NDArray[Any]) -> NDArray[np.float32]:
    """Draw quadratic Bezier curves as 8x8 glyphs, with as much ink as the digits have.

    `controls` has shape (n, n_strokes, 3, 2) and holds control points in units of cells.
    """
    t = np.linspace(0, 1, 12)
    bernstein = np.column_stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
    dabs = (bernstein @ controls).reshape(len(controls), -1, 2)
    cells = np.arange(_CELLS)[None] + 0.5
    # The brush is a product of two tents, so one matmul adds up all dabs of a glyph.
    ink = _tents(dabs[..., 0], cells).transpose(0, 2, 1) @ _tents(dabs[..., 1], cells)
    return (0.7 * ink).clip(max=1)


def _place(
    glyphs: NDArray[Any], side: NDArray[Any], corner: NDArray[Any], size: int
) -> NDArray[np.float32]:
    """Draw each glyph `side` pixels high, top left at row and column `corner`, into an image."""
    scale = (_CELLS / side)[:, None]  # cells per pixel
    width = np.maximum(scale, 1)[:, None]  # shrinking averages, so that no cell is skipped
    cells, pixels = np.arange(_CELLS)[None] + 0.5, np.arange(size) + 0.5
    # Interpolation is separable: one matrix (size, 8) for the rows and one for the columns.
    rows, columns = (_tents((pixels - start[:, None]) * scale, cells, width) for start in corner)
    return rows @ glyphs @ columns.transpose(0, 2, 1)


def make_digit_scenes(
    n_samples: int = 1000,
    *,
    size: int = 28,
    noise: float = 0.1,
    positive_fraction: float = 0.5,
    subset: Literal["train", "test"] = "train",
    position: bool = False,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Make noisy grey-level scenes that show a handwritten digit or mere strokes.

    A scene is a shaded background with ink of random brightness, size and place on it. In
    positive scenes the ink is one of scikit-learn's :func:`~sklearn.datasets.load_digits`, in
    negative scenes it is three random strokes that resemble a digit in thickness, extent and
    amount of ink. The targets suit a classifier and regressors that share features: is there a
    digit, how bright is the background and, for positive scenes, how large is the digit, and
    where.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of scenes.
    size : int, default=28
        Height and width of a scene in pixels, at least 12.
    noise : float, default=0.1
        Standard deviation of the Gaussian noise added to every pixel. Without noise,
        intensities are roughly between 0 and 1. The same `random_state` gives the same
        scenes under the noise, whatever its level.
    positive_fraction : float, default=0.5
        Share of the scenes with a digit, between 0 and 1. Their number is exactly
        ``round(n_samples * positive_fraction)``, their order is random.
    subset : {'train', 'test'}, default='train'
        Draw digits from the first 1,347 ('train') or the last 450 ('test') images of
        :func:`~sklearn.datasets.load_digits`. A test scene never shows a training digit.
    position : bool, default=False
        Whether y also says where the digit is. The scenes are the same.
    random_state : int, RandomState instance or None, default=None
        Determines all random choices. Pass an int for reproducible output across multiple
        function calls, and different ints for the two subsets to make them independent.

    Returns
    -------
    X : ndarray of shape (n_samples, 1, size, size), dtype float32
        The scenes, in the order sample, channel, row, column.
    y : DataFrame of shape (n_samples, 3), or (n_samples, 5) with `position`
        The targets, in the columns

        - `digit_present`: int, 1 for a scene with a digit and 0 otherwise;
        - `brightness`: float, mean intensity of the background, that is of the scene without
          ink and noise, between 0.1 and 0.4;
        - `digit_size`: float, height of the digit in pixels, between ``0.45 * size`` and
          ``0.8 * size``; NaN for scenes without a digit;
        - with `position` also `digit_x`, `digit_y`: float, centre of the square that the digit is
          drawn in, in pixels from the left and from the top edge of the scene; NaN for scenes
          without a digit. Digits fill the height of their square, and not always its width.

    See Also
    --------
    sklearn.datasets.load_digits : The handwritten digits.

    Examples
    --------
    >>> from sklearn_mtl.datasets import make_digit_scenes
    >>> X, y = make_digit_scenes(n_samples=4, random_state=0)
    >>> X.shape
    (4, 1, 28, 28)
    >>> y.round(2)
       digit_present  brightness  digit_size
    0              0        0.25         NaN
    1              0        0.36         NaN
    2              1        0.39       19.26
    3              1        0.29       21.07
    """
    params = {
        "n_samples": n_samples,
        "size": size,
        "noise": noise,
        "positive_fraction": positive_fraction,
        "subset": subset,
        "position": position,
        "random_state": random_state,
    }
    # Not the decorator `validate_params`, which would hide the signature from type checkers.
    validate_parameter_constraints(_CONSTRAINTS, params, caller_name="make_digit_scenes")
    rng = check_random_state(random_state)
    digits = _load_glyphs(subset)

    has_digit = rng.permutation(n_samples) < round(n_samples * positive_fraction)
    which = rng.randint(len(digits), size=n_samples)
    # Beta(1/2, 1/2) prefers the ends of its range: long strokes that fill the box of a digit.
    controls = 0.5 + (_CELLS - 1) * rng.beta(0.5, 0.5, size=(n_samples, 3, 3, 2))
    side = size * rng.uniform(0.45, 0.8, size=n_samples)
    # Interpolated ink fades out over half a cell, and that also has to be inside the image.
    margin = np.maximum(side / _CELLS, 1) / 2
    corner = rng.uniform(margin, size - side - margin, size=(2, n_samples))
    contrast = rng.uniform(0.4, 0.6, size=n_samples)
    brightness = rng.uniform(0.1, 0.4, size=n_samples)
    slope = rng.uniform(-0.1, 0.1, size=(n_samples, 2))
    ramp = np.linspace(-1, 1, size)  # has mean 0, so that shading preserves the brightness

    X = np.empty((n_samples, 1, size, size), dtype=np.float32)
    for batch in gen_batches(n_samples, _BATCH_SIZE):
        strokes = _draw_strokes(controls[batch])
        glyphs = np.where(has_digit[batch, None, None], digits[which[batch]], strokes)
        scenes = contrast[batch, None, None] * _place(glyphs, side[batch], corner[:, batch], size)
        scenes += brightness[batch, None, None]
        scenes += slope[batch, 0, None, None] * ramp[:, None] + slope[batch, 1, None, None] * ramp
        scenes += noise * rng.standard_normal(scenes.shape)
        X[batch, 0] = scenes

    y = pd.DataFrame(
        {
            "digit_present": has_digit.astype(np.int64),
            "brightness": brightness,
            "digit_size": np.where(has_digit, side, np.nan),
        }
    )
    if position:
        row, column = np.where(has_digit, corner + side / 2, np.nan)
        y["digit_x"], y["digit_y"] = column, row
    return X, y
