"""Images that are changed at random, and targets that move with them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._data.rows import Samples
from sklearn_mtl._files.codec import _unpack_augment
from sklearn_mtl._training.plan import parameters_of, plan_fit
from sklearn_mtl.augmentation import Augment, Moves
from sklearn_mtl.kinds import RegressionTarget
from sklearn_mtl.networks import ConvTrunk

SIDES = (40, 56)

MIXTURES = [
    Augment(),
    Augment(shift=0.1, flip="horizontal"),
    Augment(flip="vertical", shift=0.2),
    Augment(flip="both", shift=0),
    Augment(rotation=180, shift=0),
    Augment(scale=0.3, shift=0.1),
    Augment(rotation=30, scale=0.2, flip="both", shift=0.1),
]


def spots(n: int = 60, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    """Images of one spot each, and their places in pixels from the center."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-6, 6, (n, 2))
    axes = [np.arange(side) + 0.5 - side / 2 for side in SIDES]
    rows, columns = (
        (axes[1 - axis] - places[:, axis, None]) ** 2 / (2 * 2.0**2) for axis in (1, 0)
    )
    images = np.exp(-rows[:, :, None] - columns[:, None, :])
    return torch.from_numpy(images[:, None]), places


def centers(images: torch.Tensor) -> np.ndarray:
    """Places of the spots, by their centers of mass."""
    pixels = images[:, 0].numpy()
    axes = [np.arange(side) + 0.5 - side / 2 for side in SIDES]
    mass = pixels.sum(axis=(1, 2))
    return np.column_stack(
        [(pixels.sum(axis=1) @ axes[1]) / mass, (pixels.sum(axis=2) @ axes[0]) / mass]
    )


@pytest.mark.parametrize("augment", MIXTURES, ids=str)
def test_content_goes_where_the_moves_say(augment: Augment) -> None:
    images, places = spots()
    moves = augment.draw(len(images), SIDES, np.random.default_rng(1))
    expected = np.einsum("nij,nj->ni", moves.matrix, places) + moves.shift
    found = centers(augment.move(images, moves))
    inside = (np.abs(expected) < np.array([56, 40]) / 2 - 8).all(axis=1)
    assert inside.mean() > 0.6
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.05)


def test_inverted_moves_lead_back() -> None:
    moves = MIXTURES[-1].draw(20, SIDES, np.random.default_rng(0))
    points = np.random.default_rng(1).normal(size=(20, 2))
    there = np.einsum("nij,nj->ni", moves.matrix, points) + moves.shift
    back = moves.inverted()
    again = np.einsum("nij,nj->ni", back.matrix, there) + back.shift
    np.testing.assert_allclose(again, points, atol=1e-12)


def test_pixels_of_images_that_are_but_mirrored_and_shifted_stay_as_they_are() -> None:
    images = torch.rand(1, 2, 4, 6)
    moves = Moves(np.array([[[-1.0, 0], [0, 1]]]), np.array([[2.0, -1.0]]))
    moved = Augment(flip="horizontal").move(images, moves)
    flipped = images.flip(3)
    assert torch.equal(moved[:, :, :-1, 2:], flipped[:, :, 1:, :-2])
    assert torch.equal(moved[:, :, :-1, 0], flipped[:, :, 1:, 0])  # the edge is repeated


def test_interpolation_agrees_with_whole_pixels() -> None:
    images = torch.rand(8, 3, 10, 12, dtype=torch.float64)
    augment = Augment(flip="both", shift=0.2)
    moves = augment.draw(8, (10, 12), np.random.default_rng(0))
    turning = Augment(flip="both", shift=0.2, rotation=1e-9)
    torch.testing.assert_close(augment.move(images, moves), turning.move(images, moves))


@pytest.mark.parametrize(
    ("flip", "signs"),
    [
        (None, {(1, 1)}),
        ("horizontal", {(1, 1), (-1, 1)}),
        ("vertical", {(1, 1), (1, -1)}),
        ("both", {(1, 1), (-1, 1), (1, -1), (-1, -1)}),
    ],
)
def test_flips_that_are_asked_for(flip: Any, signs: set[tuple[int, int]]) -> None:
    matrix = Augment(flip=flip).draw(200, SIDES, np.random.default_rng(0)).matrix
    assert {(m[0, 0], m[1, 1]) for m in matrix} == signs
    assert not matrix[:, 0, 1].any()


def test_ranges_are_those_of_the_parameters() -> None:
    moves = Augment(shift=0.1, scale=0.25, rotation=20).draw(4000, SIDES, np.random.default_rng(0))
    size = np.sqrt(np.linalg.det(moves.matrix))
    angle = np.degrees(np.arctan2(moves.matrix[:, 1, 0], moves.matrix[:, 0, 0]))
    assert 1 / 1.25 <= size.min() < 0.802
    assert 1.248 < size.max() <= 1.25
    assert np.abs(np.log(size).mean()) < 0.01
    assert -20 <= angle.min() < -19.9
    assert 19.9 < angle.max() <= 20
    assert [*np.abs(moves.shift).max(axis=0)] == [5, 4]  # whole pixels of 56 and 40
    assert (moves.shift == moves.shift.round()).all()


def test_pixels_change_as_the_parameters_say() -> None:
    images = torch.randn(500, 3, 8, 8, dtype=torch.float64)

    def changed(**params: float) -> torch.Tensor:
        return Augment(**params).recolor(images, np.random.default_rng(0))

    assert changed() is images
    added = changed(brightness=0.5) - images
    assert torch.allclose(added, added[:, :1, :1, :1])
    assert 0.48 < added.abs().max() <= 0.5
    colored = changed(color=0.5) - images
    assert torch.allclose(colored, colored[:, :, :1, :1])
    assert not torch.allclose(colored, colored[:, :1])
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    factor = (changed(contrast=1.0) - mean) / (images - mean)
    assert torch.allclose(factor, factor[:, :1, :1, :1])
    assert 0.5 <= factor.min() < 0.52
    assert 1.95 < factor.max() <= 2


def test_cutout_covers_a_square() -> None:
    covered = Augment(cutout=0.5).recolor(torch.ones(300, 2, 8, 12), np.random.default_rng(0)) == 0
    assert torch.equal(covered[:, 0], covered[:, 1])
    assert covered.any(dim=(1, 2, 3)).all()
    assert covered[:, 0].sum(dim=(1, 2)).max() == 16
    assert covered[:, 0].any(dim=0).all()  # anywhere


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"shift": 0.6}, "shift"),
        ({"flip": "left"}, "flip"),
        ({"rotation": -1}, "rotation"),
        ({"scale": -0.1}, "scale"),
        ({"cutout": 2}, "cutout"),
        ({"contrast": "much"}, "contrast"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    X, y = images_of_spots(40)
    with pytest.raises(ValueError, match=f"'{message}' parameter of Augment"):
        estimator(augment=Augment(**params)).fit(X, y)


# -- with the estimator --------------------------------------------------------------------------

GEOMETRIES = [
    Task("x", "regression", geometry="x"),
    Task("y", "regression", geometry="y"),
    Task("radius", "gamma", geometry="length"),
]
STAYING = [Task(t.name, t.kind, geometry="invariant") for t in GEOMETRIES]


def images_of_spots(n: int = 240, side: int = 16) -> tuple[np.ndarray, pd.DataFrame]:
    """Noisy images of spots, with places as shares of the side, and radii."""
    rng = np.random.default_rng(0)
    x, y, radius = rng.uniform(0.2, 0.8, n), rng.uniform(0.2, 0.8, n), rng.uniform(0.06, 0.12, n)
    axis = (np.arange(side) + 0.5) / side
    square = (axis - x[:, None])[:, None] ** 2 + (axis - y[:, None])[:, :, None] ** 2
    X = np.exp(-square / (2 * radius[:, None, None] ** 2)) + 0.05 * rng.normal(size=square.shape)
    return X[:, None].astype(np.float32), pd.DataFrame({"x": x, "y": y, "radius": radius})


def estimator(**params: Any) -> MultiTaskCNNEstimator:
    fixed = {"trunk": ConvTrunk(8, 32), "max_epochs": 2, "random_state": 0}
    return MultiTaskCNNEstimator(**{"tasks": GEOMETRIES} | fixed | params)


def test_targets_move_with_images() -> None:
    X, y = images_of_spots()
    augment = Augment(flip="both", rotation=180, scale=0.1)
    blind, aware = (
        estimator(tasks=tasks, augment=augment, max_epochs=40)
        .fit(X[:200], y[:200])
        .score_tasks(X[200:], y[200:])
        for tasks in (STAYING, GEOMETRIES)
    )
    assert max(blind["x"], blind["y"]) < 0.3
    assert min(aware["x"], aware["y"]) > 0.95


def test_search_over_parameters_and_clone() -> None:
    X, y = images_of_spots(60)
    model = estimator(augment=Augment(), max_epochs=1)
    found = GridSearchCV(model, {"augment__scale": [0, 0.2]}, cv=2).fit(X, y)
    assert len(set(found.cv_results_["mean_test_score"])) == 2
    assert clone(model).augment.get_params() == model.augment.get_params()
    with pytest.raises(ValueError, match="augment__scale cannot be set: augment is None"):
        estimator().set_params(augment__scale=0.1)


def test_a_seed_decides() -> None:
    X, y = images_of_spots(60)
    augment = Augment(flip="both", rotation=20, cutout=0.2)
    first, again = (estimator(augment=augment).fit(X, y).predict(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = estimator(augment=augment, random_state=1).fit(X, y).predict(X)
    assert not np.allclose(first, other)


def test_predictions_are_of_images_as_they_are() -> None:
    X, y = images_of_spots(60)
    fitted = estimator(augment=Augment(rotation=90)).fit(X, y)
    found = fitted.predict(X)
    np.testing.assert_array_equal(found, fitted.set_params(augment=None).predict(X))
    np.testing.assert_array_equal(found[:7], fitted.predict(X[:7]))


def test_shifts_of_the_trunk_rest_and_come_back() -> None:
    X, y = images_of_spots(60, side=24)
    plain = [Task(t.name, t.kind) for t in GEOMETRIES]
    trunk = ConvTrunk(8, 32, max_shift=0.2)
    still = estimator(tasks=plain, trunk=trunk, augment=Augment(shift=0)).fit(X, y)
    none = estimator(tasks=plain, trunk=ConvTrunk(8, 32, max_shift=0)).fit(X, y)
    np.testing.assert_allclose(still.predict(X), none.predict(X), rtol=1e-5)
    shifted = estimator(tasks=plain, trunk=trunk).fit(X, y)
    assert not np.allclose(shifted.predict(X), none.predict(X), rtol=1e-3)
    assert repr(still.net_.module_) == repr(shifted.net_.module_)


def test_places_move_with_shifts_of_the_trunk() -> None:
    X, y = images_of_spots(60, side=24)
    asked = estimator(augment=Augment(shift=0.1)).fit(X, y)
    default = estimator().fit(X, y)
    np.testing.assert_array_equal(asked.predict(X), default.predict(X))


class Wrapped(BaseEstimator):
    """A spec of one's own around another one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def build(self, input_shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(self.inner.build(input_shape), nn.Tanh())


def test_shifts_are_those_of_the_trunk_unless_told() -> None:
    """Whatever it is: a spec, a module, or what makes one of these."""
    X, y = images_of_spots(60, side=24)
    spec = ConvTrunk(8, 32, max_shift=0.2)
    module = spec.build((1, 24, 24))
    for trunk in (spec, module, lambda: spec.build((1, 24, 24)), Wrapped(spec)):
        params = {"trunk": trunk, "weight_decay": 0.01}
        told = estimator(augment=Augment(shift=0.2), **params).fit(X, y)
        for augment in (None, Augment()):
            found = estimator(augment=augment, **params).fit(X, y)
            np.testing.assert_allclose(found.predict(X), told.predict(X), rtol=1e-4)
        other = estimator(augment=Augment(shift=0), **params).fit(X, y)
        assert not np.allclose(other.predict(X), told.predict(X), rtol=1e-4)
    assert module[0].reach == (4, 4)


def test_trunks_that_stay_and_images_of_unequal_sides() -> None:
    """Pixels are those that the layer has, whatever share of a side that is."""
    X, y = images_of_spots(60, side=24)
    X = X[:, :, :19]
    still = estimator(trunk=ConvTrunk(8, 32, max_shift=0)).fit(X, y)
    blind = estimator(trunk=ConvTrunk(8, 32, max_shift=0), tasks=STAYING).fit(X, y)
    np.testing.assert_array_equal(still.predict(X), blind.predict(X))
    trunk = ConvTrunk(8, 32, max_shift=0.16)  # 3 of 19, and of 24
    told = estimator(trunk=trunk, augment=Augment(shift=0.16)).fit(X, y)
    np.testing.assert_array_equal(estimator(trunk=trunk).fit(X, y).predict(X), told.predict(X))


def test_places_are_pairs_by_their_order_whatever_is_observed() -> None:
    X, y = images_of_spots(80)
    tasks = [Task(f"{n}{k}", "regression", geometry=n) for k in (1, 2) for n in "xy"]
    y = pd.DataFrame({"x1": y["x"], "y1": y["y"], "x2": y["x"], "y2": y["y"]})
    for hidden in ([], ["x1", "y2"]):
        z = y.copy()
        z[hidden] = np.nan
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tasks without targets
            model = estimator(tasks=tasks, augment=Augment(rotation=20))
            plan = plan_fit(parameters_of(model), Samples(X, z, None, None))
        named = [
            [None if m is None else model.tasks[m.k].name for m in pair]
            for pair in plan.augmenter.pairs
        ]
        expected = [["x1", "y1"], ["x2", "y2"]]
        assert named == [[None if n in hidden else n for n in pair] for pair in expected]


def test_ranges_are_checked_whatever_the_trunk_is() -> None:
    X, y = images_of_spots(60)
    with pytest.raises(ValueError, match=r"such as \('x', 0, 64\) in pixels"):
        estimator(trunk="dense", input_shape=None).fit(X, y * 16)


def test_streams_are_changed_too() -> None:
    X, y = images_of_spots(60)
    found = [
        estimator(augment=augment).partial_fit(X, y).predict(X)
        for augment in (None, Augment(flip="both"))
    ]
    assert not np.allclose(*found)


def test_file_keeps_it(tmp_path: Any) -> None:
    X, y = images_of_spots(60)
    fitted = estimator(augment=Augment(flip="both", scale=0.1)).fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model")
    assert loaded.augment.get_params() == fitted.augment.get_params()
    assert loaded.tasks_ == fitted.tasks_
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"tasks": [Task("x", "regression"), *GEOMETRIES[1:]], "augment": Augment(scale=0.1)},
            r"Task 'x': augment=Augment\(scale=0.1\) changes images in ways",
        ),
        (
            {"tasks": [STAYING[0], *GEOMETRIES[1:]], "augment": Augment(rotation=5)},
            r"need both coordinates, in pairs: \['y'\]",
        ),
        (
            {"tasks": [Task("x", "regression", geometry=("x", -0.5, 0.5)), *GEOMETRIES[1:]]},
            r"Task 'x': geometry=\('x', -0.5, 0.5\) goes from -0.5 to 0.5, and y holds 0\.",
        ),
    ],
)
def test_targets_that_cannot_move(params: dict[str, Any], message: str) -> None:
    X, y = images_of_spots(60)
    with pytest.raises(ValueError, match=message):
        estimator(**params).fit(X, y)


def test_rows_are_refused() -> None:
    X, y = images_of_spots(60)
    with pytest.raises(ValueError, match=r"augment changes images \(C, H, W\), but samples have"):
        estimator(augment=Augment(), trunk="dense").fit(X.reshape(60, -1), y)
    with pytest.raises(ValueError, match="'augment' parameter of MultiTaskCNNEstimator"):
        estimator(augment="flip").fit(X, y)


def test_places_that_are_bounds_are_refused() -> None:
    X, y = images_of_spots(60)
    y["x"] = pd.IntervalIndex.from_arrays(y["x"], y["x"] + 0.01, closed="both")
    with pytest.raises(ValueError, match="Task 'x': geometry='x' is of numbers, and some"):
        estimator().fit(X, y)


class Decades(RegressionTarget):
    """A kind whose codes are no linear function of the numbers."""

    def encode(self, values: Any) -> Any:
        return np.log10(values)


def test_kinds_with_codes_of_their_own_are_refused() -> None:
    X, y = images_of_spots(60)
    tasks = [*GEOMETRIES[:2], Task("radius", Decades(), geometry="length")]
    with pytest.raises(ValueError, match="Task 'radius': geometry='length' is for kinds"):
        estimator(tasks=tasks).fit(X, y)


@pytest.mark.parametrize("shape", [(1, 256), (1, 4, 8, 8)])
def test_numbers_do_not_move_with_sequences_and_volumes(shape: tuple[int, ...]) -> None:
    X, y = images_of_spots(60)
    with pytest.raises(ValueError, match="Task 'x': numbers with a geometry move with images"):
        estimator(input_shape=shape).fit(X.reshape(60, *shape), y)


@pytest.mark.parametrize(
    "params",
    [{"rotation": 1e9}, {"flip": "x"}, {"shift": np.nan}, {"shift": Augment(shift=0.1)}],
    ids=str,
)
def test_files_with_another_augment_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Augment"):
        _unpack_augment(params)


def test_set_params_of_what_is_no_augment() -> None:
    with pytest.raises(ValueError, match="augment__rotation cannot be set: augment is 'turn'"):
        estimator(augment="turn").set_params(augment__rotation=3)
