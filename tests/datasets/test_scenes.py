"""Tests of the synthetic data sets."""

import time

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl.datasets import make_digit_scenes, scenes


def noiseless_ink(n_samples, **kwargs):
    """Return what is drawn on the background of scenes without noise, and the targets."""
    X, y = make_digit_scenes(n_samples, noise=0, **kwargs)
    scenes = X[:, 0].astype(np.float64)
    # The background is a plane, and ink is kept off the corners but for its faintest fringe.
    size = scenes.shape[-1]
    ramp = np.linspace(-1, 1, size)
    brightness = y["brightness"].to_numpy()
    down = (scenes[:, -1, 0] - scenes[:, 0, 0]) / 2
    right = (scenes[:, 0, -1] - scenes[:, 0, 0]) / 2
    plane = (
        brightness[:, None, None]
        + down[:, None, None] * ramp[:, None]
        + right[:, None, None] * ramp
    )
    return scenes - plane, y


@pytest.mark.parametrize("size", [12, 28, 33, 64])
def test_shapes_dtypes_and_columns(size):
    X, y = make_digit_scenes(10, size=size, random_state=0)
    assert X.shape == (10, 1, size, size)
    assert X.dtype == np.float32
    assert np.isfinite(X).all()
    assert isinstance(y, pd.DataFrame)
    assert y.shape == (10, 3)
    assert y.dtypes.to_dict() == {
        "digit_present": np.dtype("int64"),
        "brightness": np.dtype("float64"),
        "digit_size": np.dtype("float64"),
    }
    assert_array_equal(y.index, np.arange(10))


def test_defaults():
    X, y = make_digit_scenes()
    assert X.shape == (1000, 1, 28, 28)
    assert y["digit_present"].sum() == 500


@pytest.mark.parametrize(
    ("n_samples", "fraction", "n_positive"),
    [(101, 0.3, 30), (7, 1 / 3, 2), (20, 0, 0), (20, 1, 20), (1, 1.0, 1)],
)
def test_number_of_positives_is_exact(n_samples, fraction, n_positive):
    for seed in range(5):
        _, y = make_digit_scenes(n_samples, positive_fraction=fraction, random_state=seed)
        assert set(y["digit_present"]) <= {0, 1}
        assert y["digit_present"].sum() == n_positive


def test_positives_are_in_random_order():
    _, first = make_digit_scenes(200, random_state=0)
    _, second = make_digit_scenes(200, random_state=1)
    assert (first["digit_present"] != second["digit_present"]).sum() > 50
    assert 25 <= first["digit_present"][:100].sum() <= 75


def test_size_is_missing_exactly_for_negatives():
    _, y = make_digit_scenes(300, positive_fraction=0.4, random_state=0)
    assert_array_equal(y["digit_size"].isna(), y["digit_present"] == 0)
    assert not y[["digit_present", "brightness"]].isna().any(axis=None)


def test_values_are_in_the_documented_ranges():
    X, y = make_digit_scenes(2000, size=40, noise=0, random_state=0)
    assert y["brightness"].between(0.1, 0.4).all()
    assert np.ptp(y["brightness"]) > 0.29
    assert y["digit_size"].dropna().between(0.45 * 40, 0.8 * 40).all()
    assert np.ptp(y["digit_size"].dropna()) > 0.34 * 40
    assert (X > 0).mean() > 0.99
    assert (X < 1).mean() > 0.99


@pytest.mark.parametrize("noise", [0, 0.1])
def test_same_seed_same_bits(noise):
    X, y = make_digit_scenes(50, noise=noise, random_state=3)
    X_again, y_again = make_digit_scenes(50, noise=noise, random_state=3)
    assert_array_equal(X, X_again)
    pd.testing.assert_frame_equal(y, y_again, check_exact=True)
    X_other, y_other = make_digit_scenes(50, noise=noise, random_state=4)
    assert not np.isclose(X, X_other).all(axis=(1, 2, 3)).any()
    assert not np.isclose(y["brightness"], y_other["brightness"]).any()


def test_bits_do_not_depend_on_the_batches(monkeypatch):
    X, y = make_digit_scenes(50, random_state=0)
    monkeypatch.setattr(scenes, "_BATCH_SIZE", 7)
    X_batched, y_batched = make_digit_scenes(50, random_state=0)
    assert_array_equal(X, X_batched)
    pd.testing.assert_frame_equal(y, y_batched, check_exact=True)


def test_random_state_instance_moves_on():
    rng = np.random.RandomState(5)
    X_first, _ = make_digit_scenes(20, random_state=rng)
    X_second, _ = make_digit_scenes(20, random_state=rng)
    X_int, _ = make_digit_scenes(20, random_state=5)
    assert_array_equal(X_first, X_int)
    assert not np.isclose(X_first, X_second).all(axis=(1, 2, 3)).any()


def test_global_random_state_is_used_only_without_seed():
    np.random.seed(0)  # noqa: NPY002 - the global state is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    position = np.random.get_state()[2]  # noqa: NPY002
    make_digit_scenes(20, random_state=0)
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert np.random.get_state()[2] == position  # noqa: NPY002
    X_first, _ = make_digit_scenes(20)
    np.random.seed(0)  # noqa: NPY002
    X_again, _ = make_digit_scenes(20, random_state=None)
    assert_array_equal(X_first, X_again)


@pytest.mark.parametrize("noise", [0.05, 0.3])
def test_noise_is_gaussian_and_lies_on_the_same_scenes(noise):
    X, y = make_digit_scenes(200, noise=noise, random_state=0)
    X_clean, y_clean = make_digit_scenes(200, noise=0, random_state=0)
    pd.testing.assert_frame_equal(y, y_clean, check_exact=True)
    added = (X - X_clean).ravel() / noise
    assert_allclose(added.mean(), 0, atol=0.02)
    assert_allclose(added.std(), 1, atol=0.02)
    assert_allclose((np.abs(added) < 1).mean(), 0.6827, atol=0.01)
    assert_allclose((np.abs(added) < 2).mean(), 0.9545, atol=0.01)
    other = make_digit_scenes(200, noise=noise, random_state=1)[0]
    other -= make_digit_scenes(200, noise=0, random_state=1)[0]
    assert abs(np.corrcoef(added, other.ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("size", [12, 28, 33, 64])
def test_brightness_is_the_mean_of_the_background(size):
    X, y = make_digit_scenes(300, size=size, noise=0, random_state=0)
    # The background without the ink: its rim is a plane, known from the four corners.
    corners = X[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert_allclose(corners.mean(axis=1), y["brightness"], atol=0.02)
    assert np.isclose(corners.mean(axis=1), y["brightness"], atol=1e-6).mean() > 0.9
    # Brightness is no mere offset of the whole picture: with the ink the mean is higher.
    assert (X.mean(axis=(1, 2, 3)) > y["brightness"] + 0.01).all()
    # Shading goes across and down, in either direction.
    for slope in (corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]):
        assert slope.min() < -0.15
        assert slope.max() > 0.15


# With few pixels, rounding to whole rows weighs more.
@pytest.mark.parametrize(("size", "correlation"), [(12, 0.9), (28, 0.97), (64, 0.99)])
def test_digit_size_is_the_height_of_the_ink(size, correlation):
    ink, y = noiseless_ink(300, size=size, positive_fraction=1, random_state=0)
    peak = ink.max(axis=2)
    inked = peak > 0.4 * peak.max(axis=1, keepdims=True)
    height = size - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)
    assert np.corrcoef(height, y["digit_size"])[0, 1] > correlation
    assert_allclose((height / y["digit_size"]).mean(), 1, atol=0.03)


@pytest.mark.parametrize("size", [12, 28, 64])
def test_position_is_the_centre_of_the_box(size):
    """Digits fill its height, and are in the middle of its width on average."""
    ink, y = noiseless_ink(300, size=size, positive_fraction=1, position=True, random_state=0)
    peak = ink.max(axis=2)
    inked = peak > 0.4 * peak.max(axis=1, keepdims=True)
    middle = (inked.argmax(axis=1) + size - inked[:, ::-1].argmax(axis=1)) / 2
    assert_allclose(middle, y["digit_y"], atol=0.06 * size)
    mass = ink.sum(axis=1) @ (np.arange(size) + 0.5) / ink.sum(axis=(1, 2))
    assert_allclose(mass, y["digit_x"], atol=0.16 * size)
    assert abs((mass - y["digit_x"]).mean()) < 0.02 * size


def test_position_is_known_where_there_is_a_digit():
    """And asking for it does not change the scenes."""
    X, y = make_digit_scenes(100, random_state=0)
    same, more = make_digit_scenes(100, position=True, random_state=0)
    assert_array_equal(X, same)
    pd.testing.assert_frame_equal(more.iloc[:, :3], y)
    assert more.columns.tolist()[3:] == ["digit_x", "digit_y"]
    for name in ("digit_x", "digit_y"):
        assert_array_equal(more[name].isna(), more["digit_present"] == 0)


@pytest.mark.parametrize("positive_fraction", [0, 1])
@pytest.mark.parametrize(("size", "fringe"), [(12, 0.3), (28, 0.16), (64, 0.08)])
def test_ink_is_inside_the_image_and_gets_everywhere(size, fringe, positive_fraction):
    ink, _ = noiseless_ink(1500, size=size, positive_fraction=positive_fraction, random_state=0)
    edge = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], axis=1)
    # Full ink has an intensity of 0.4 or more; only what fades out may touch the edge.
    assert edge.max() < fringe
    assert np.median(edge.max(axis=1)) < 0.01
    # Apart from the corners, there is ink everywhere in some scene.
    reach = (ink > 0.1).any(axis=0)
    near, middle = slice(size // 8, -(size // 8)), slice(size // 4, -(size // 4))
    assert reach[near, middle].all()
    assert reach[middle, near].all()


def test_contrast_is_random():
    ink, _ = noiseless_ink(500, positive_fraction=1, size=64, random_state=0)
    peak = ink.max(axis=(1, 2))
    assert_allclose(np.percentile(peak, [2, 98]), [0.4, 0.6], atol=0.03)


@pytest.mark.parametrize("subset", ["train", "test"])
def test_digits_come_from_their_subset(subset):
    """Find the drawn digit among all 1,797 by the best match."""
    images = (load_digits().images / 16).astype(np.float32)
    ink, y = noiseless_ink(12, subset=subset, positive_fraction=1, random_state=0)
    pixels, cells = np.arange(28) + 0.5, np.arange(8) + 0.5
    found = set()
    for drawn, side in zip(ink, y["digit_size"], strict=True):
        # Shift every candidate so that its ink has the same center of mass.
        total = images.sum(axis=(1, 2))
        corner = np.stack(
            [
                drawn.sum(axis=1) @ pixels / drawn.sum()
                - images.sum(axis=2) @ cells / total * side / 8,
                drawn.sum(axis=0) @ pixels / drawn.sum()
                - images.sum(axis=1) @ cells / total * side / 8,
            ]
        )
        candidates = scenes._place(images, np.full(len(images), side), corner, 28)
        cosine = (candidates * drawn).sum(axis=(1, 2)) / (
            np.linalg.norm(candidates, axis=(1, 2)) * np.linalg.norm(drawn)
        )
        assert cosine.max() > 0.999
        assert (cosine.argmax() < 1347) == (subset == "train")
        found.add(cosine.argmax())
    assert len(found) > 8


def test_subsets_are_disjoint_and_complete():
    train, test = scenes._load_glyphs("train"), scenes._load_glyphs("test")
    assert (len(train), len(test)) == (1347, 450)
    assert_array_equal(np.concatenate([train, test]), load_digits().images / 16)
    assert len({glyph.tobytes() for glyph in train} & {glyph.tobytes() for glyph in test}) == 0


def test_every_digit_fills_the_height():
    # This is why the side of the 8x8 box is the height of the digit.
    for subset in ("train", "test"):
        glyphs = scenes._load_glyphs(subset)
        assert (glyphs[:, [0, -1]].max(axis=2) > 0.25).all()


def test_place_reproduces_a_glyph_at_its_own_size():
    glyph = scenes._load_glyphs("train")[:1]
    image = scenes._place(glyph, np.array([8.0]), np.array([[3.0], [5.0]]), 20)
    assert_array_equal(image[0, 3:11, 5:13], glyph[0])
    assert_allclose(image.sum(), glyph.sum(), rtol=1e-6)


@pytest.mark.parametrize("side", [4.0, 5.7, 8.0, 13.3, 16.0])
def test_place_scales_the_amount_of_ink_with_the_area(side):
    glyph = scenes._load_glyphs("train")[:1]
    image = scenes._place(glyph, np.array([side]), np.array([[4.2], [3.1]]), 24)
    assert_allclose(image.sum(), glyph.sum() * (side / 8) ** 2, rtol=0.03)
    assert image.max() <= glyph.max() + 1e-6


def test_a_straight_stroke_is_straight():
    controls = np.array([[[[2.5, 1.0], [2.5, 4.0], [2.5, 7.0]]]])
    stroke = scenes._draw_strokes(controls)
    assert stroke.shape == (1, 8, 8)
    assert_array_equal(stroke[0].argmax(axis=0)[1:7], 2)
    assert (stroke[0, 2, 1:7] > 0.5).all()
    assert_array_equal(stroke[0, 4:], 0)


def test_strokes_look_like_digits_to_a_summary():
    """No distribution of intensities tells digits and strokes apart, nor does a linear model."""

    def summarize(X):
        pixels = X.reshape(len(X), -1)
        percentiles = np.percentile(pixels, [0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100], axis=1)
        return np.column_stack([pixels.mean(axis=1), pixels.std(axis=1), percentiles.T])

    X, y = make_digit_scenes(2000, random_state=0)
    X_test, y_test = make_digit_scenes(1000, subset="test", random_state=1)
    linear = make_pipeline(StandardScaler(), LogisticRegression())
    trees = HistGradientBoostingClassifier(max_iter=50, max_depth=3)
    for model in (linear, trees):
        model.fit(summarize(X), y["digit_present"])
        assert model.score(summarize(X_test), y_test["digit_present"]) < 0.65
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3))
    linear.fit(X.reshape(len(X), -1), y["digit_present"])
    assert linear.score(X_test.reshape(len(X_test), -1), y_test["digit_present"]) < 0.8


def test_targets_do_not_give_each_other_away():
    _, y = make_digit_scenes(3000, random_state=0)
    assert (y.corr().loc["brightness", ["digit_present", "digit_size"]].abs() < 0.1).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_samples": 0}, r"'n_samples'.*must be an int in the range \[1, inf\).*Got 0"),
        ({"n_samples": 10.0}, r"'n_samples'.*must be an int.*Got 10\.0"),
        ({"size": 11}, r"'size'.*must be an int in the range \[12, inf\).*Got 11"),
        ({"noise": -0.1}, r"'noise'.*must be a float in the range \[0.0, inf\).*Got -0\.1"),
        ({"noise": np.inf}, r"'noise'.*Got inf"),
        ({"noise": np.nan}, r"'noise'.*Got nan"),
        ({"positive_fraction": 1.01}, r"'positive_fraction'.*range \[0.0, 1.0\].*Got 1\.01"),
        ({"positive_fraction": -0.5}, r"'positive_fraction'.*Got -0\.5"),
        ({"subset": "valid"}, r"'subset'.*must be a str among \{.*\}.*Got 'valid'"),
        ({"subset": None}, r"'subset'.*Got None"),
        ({"random_state": "seed"}, r"'random_state'.*Got 'seed'"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        make_digit_scenes(**params)


def test_parameters_after_the_first_are_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        make_digit_scenes(10, 28)


def test_many_scenes_take_seconds():
    start = time.perf_counter()
    make_digit_scenes(20_000, random_state=0)
    assert time.perf_counter() - start < 20  # about 1.5 s on one core; a loop takes minutes
