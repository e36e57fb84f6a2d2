"""Numbers that move with images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sklearn_mtl import Task
from sklearn_mtl._data.geometry import Geometry, moved_pair

MIRROR = np.array([[[-1.0, 0], [0, 1]]])
QUARTER = np.array([[[0.0, -1], [1, 0]]])  # from the x axis towards the y axis
STAY = np.eye(2)[None]
NONE = np.zeros((1, 2))


def moved(
    x: Any, y: Any, matrix: Any = STAY, shift: Any = NONE, x_of: Any = "x", y_of: Any = "y"
) -> list[float]:
    """One place in an image of 20 x 40 (H, W)."""
    geometries = [Geometry.of(x_of), Geometry.of(y_of)]
    values = [np.array([float(x)]), np.array([float(y)])]
    found = moved_pair(geometries, values, (20, 40), matrix, np.asarray(shift, float))
    return [float(v[0]) for v in found]


def test_places() -> None:
    assert moved(0.25, 0.5) == [0.25, 0.5]
    assert moved(0.25, 0.5, MIRROR) == [0.75, 0.5]
    assert moved(0.25, 0.5, shift=[[4, -2]]) == pytest.approx([0.35, 0.4])
    assert moved(0.5, 0.75, QUARTER) == pytest.approx([0.375, 0.5])  # 5 pixels of 40
    assert moved(10, 10, MIRROR, x_of=("x", 0, 40), y_of=("y", 0, 20)) == [30, 10]
    assert moved(-1, 0, MIRROR, x_of=("x", -1, 1), y_of=("y", -1, 1)) == [1, 0]


def test_places_that_leave_the_image_are_not_observed() -> None:
    assert moved(0.25, 0.5, shift=[[-10, 0]]) == [0, 0.5]
    assert np.isnan(moved(0.25, 0.5, shift=[[-11, 0]])).all()
    assert np.isnan(moved(0.25, 0.5, shift=[[0, 11]])).all()
    assert moved(0.25, np.nan, shift=[[-9, 0]])[0] == pytest.approx(0.025)


def test_only_a_coordinate_that_counts_has_to_be_known() -> None:
    assert moved(0.25, np.nan, MIRROR)[0] == 0.75
    assert np.isnan(moved(0.25, np.nan, MIRROR)[1])
    assert np.isnan(moved(0.25, np.nan, QUARTER)).tolist() == [True, False]
    alone = moved_pair([Geometry.of("x"), None], [np.array([0.25]), None], (20, 40), MIRROR, NONE)
    assert [v.tolist() for v in alone] == [[0.75]]


def test_sizes() -> None:
    values, scale = np.array([3.0, 5.0]), np.array([2.0, 0.5])
    found = {n: Geometry.of(n).resized(values, scale) for n in ("length", "area")}
    np.testing.assert_allclose(found["length"], [6, 2.5])
    np.testing.assert_allclose(found["area"], [12, 1.25])
    for name in ("length", "area"):
        logs = Geometry.of(f"log_{name}").resized(np.log(values), scale)
        np.testing.assert_allclose(np.exp(logs), found[name])


@pytest.mark.parametrize(
    ("given", "before", "mirrored", "turned"),
    [
        ("angle", 30, 150, 120),
        ("angle", 300, 240, 30),
        (("angle", -180, 180), -30, -150, 60),
        (("angle", 0, 180), 30, 150, 120),
        (("angle", 0, 180), 120, 60, 30),
        (("angle", 0, 2 * np.pi), np.pi / 6, 5 * np.pi / 6, 2 * np.pi / 3),
        (("angle", 0, np.pi), np.pi / 6, 5 * np.pi / 6, 2 * np.pi / 3),
    ],
)
def test_directions(given: Any, before: float, mirrored: float, turned: float) -> None:
    geometry, values = Geometry.of(given), np.array([float(before)])
    assert geometry.turned(values, STAY) == pytest.approx([before])
    assert geometry.turned(values, MIRROR) == pytest.approx([mirrored])
    assert geometry.turned(values, 3 * QUARTER) == pytest.approx([turned])


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ("left", "geometry='left' is not understood. Use one of"),
        (3, "geometry=3 is not understood"),
        ((), "is not understood"),
        (("x", 0), r"Pass \('x', low, high\), with low < high"),
        (("x", 1, 0), "with low < high"),
        (("x", 0, np.inf), "with low < high"),
        (("x", "a", "b"), "with low < high"),
        (("length", 0, 1), "'length' has no range"),
        (("angle", 0, 90), "from 0 to 90 is no turn"),
    ],
)
def test_what_is_not_understood(geometry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"Task 'p': .*{message}"):
        Task("p", "regression", geometry=geometry)


def test_kinds_that_hold_no_such_numbers() -> None:
    with pytest.raises(ValueError, match="Task 'p': geometry='x' is of numbers, not of classes"):
        Task("p", "classification", geometry="x")
    with pytest.raises(ValueError, match="kind='poisson' holds no 'length'"):
        Task("p", "poisson", geometry="length")
    with pytest.raises(ValueError, match="kind='gamma' holds no 'x'"):
        Task("p", "gamma", geometry="x")
    assert Task("p", "gamma", geometry="area").geometry == "area"
    assert Task("p", "poisson", geometry="invariant").geometry == "invariant"
    assert Task("p", "quantile", geometry=["x", 0, 9]).geometry == ("x", 0, 9)


def test_values_outside_of_the_range() -> None:
    values = np.array([-0.1, 0, 0.5, 1, 1.1])
    assert Geometry.of("x").is_outside(values).tolist() == [True, False, False, False, True]
    assert not Geometry.of("area").is_outside(values).any()
