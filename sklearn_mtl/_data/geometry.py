"""Numbers that are places, sizes or directions in an image, and move with it: `Geometry`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Geometry", "moved_pair", "pairs_of"]

FloatArray = NDArray[np.float64]

# Names, and the ranges that they have by default.
PLACES = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
ANGLE = (0.0, 360.0)
# Power of the scale by which sizes grow; of logarithms, what is added.
SIZES = {"length": 1, "area": 2, "log_length": 1, "log_area": 2}
INVARIANT = "invariant"
NAMES = [*PLACES, *SIZES, "angle", INVARIANT]

# Ranges of directions: a whole turn, or half of one for axes, which have two ends.
TURNS = {360.0: 1, 180.0: 2, 2 * math.pi: 1, math.pi: 2}


class Geometry(NamedTuple):
    """What a number says of an image.

    Attributes
    ----------
    name : str
    low, high : float
        Of places, the values at the left or upper edge, and at the other one; of directions, the
        values between which a turn goes.
    """

    name: str
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, given: Any) -> Self:
        """Read what a user has given.

        Raises
        ------
        ValueError
            If it is not understood.
        """
        name, *span = given if isinstance(given, list | tuple) and given else (given,)
        if not isinstance(name, str) or name not in NAMES:
            raise ValueError(f"geometry={given!r} is not understood. Use one of {NAMES}.")
        ranges = PLACES | {"angle": ANGLE}
        if span and name not in ranges:
            raise ValueError(f"geometry={given!r}: {name!r} has no range. Pass {name!r}.")
        low, high = span if len(span) == 2 else ranges.get(name, (0.0, 1.0))
        if len(span) not in (0, 2) or not _are_ends(low, high):
            raise ValueError(
                f"geometry={given!r} is not understood. Pass ({name!r}, low, high), with low < "
                "high: the values at the two ends."
            )
        out = cls(name, float(low), float(high))
        if name == "angle" and not any(math.isclose(high - low, t, rel_tol=1e-3) for t in TURNS):
            raise ValueError(
                f"geometry={given!r}: from {low!r} to {high!r} is no turn. Directions go through "
                "360 degrees or 2 pi, axes through 180 or pi."
            )
        return out

    @property
    def example(self) -> str:
        """What a user may write for another range."""
        return (
            "('angle', -180, 180)" if self.name == "angle" else f"({self.name!r}, 0, 64) in pixels"
        )

    @property
    def moves(self) -> bool:
        """Whether it changes with the image."""
        return self.name != INVARIANT

    @property
    def is_place(self) -> bool:
        """Whether it is a coordinate."""
        return self.name in PLACES

    def is_outside(self, values: FloatArray) -> NDArray[np.bool_]:
        """Tell which values cannot be; a little more than the ends are rounding errors."""
        if not (self.is_place or self.name == "angle"):
            return np.zeros(len(values), dtype=bool)
        slack = 1e-6 * (self.high - self.low)
        return (values < self.low - slack) | (values > self.high + slack)

    def resized(self, values: FloatArray, scale: FloatArray) -> FloatArray:
        """Sizes in images that are scaled."""
        power = SIZES[self.name]
        if self.name.startswith("log_"):
            return values + power * np.log(scale)
        return values * scale**power

    def turned(self, values: FloatArray, matrix: FloatArray) -> FloatArray:
        """Directions, from the x axis towards the y axis, that is downwards, in moved images."""
        span = self.high - self.low
        halves = next(n for turn, n in TURNS.items() if math.isclose(span, turn, rel_tol=1e-3))
        angle = (values - self.low) / span * (2 * np.pi / halves)
        start = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        x, y = np.einsum("nij,nj->in", matrix, start)
        return self.low + (np.arctan2(y, x) * halves / (2 * np.pi) % 1) * span

    def to_pixels(self, values: FloatArray, side: int) -> FloatArray:
        """Places, from the center of a side of the image."""
        return ((values - self.low) / (self.high - self.low) - 0.5) * side

    def from_pixels(self, pixels: FloatArray, side: int) -> FloatArray:
        """Places in the units of the user."""
        return self.low + (pixels / side + 0.5) * (self.high - self.low)


def pairs_of(geometries: Sequence[Geometry | None]) -> list[tuple[int | None, int | None]]:
    """Positions of what is x and y of one place, in their order; None for one that is alone."""
    x, y = ([k for k, g in enumerate(geometries) if g is not None and g.name == n] for n in "xy")
    return list(itertools.zip_longest(x, y))


def moved_pair(
    geometries: Sequence[Geometry | None],
    places: Sequence[FloatArray | None],
    sides: tuple[int, int],
    matrix: FloatArray,
    shift: FloatArray,
) -> list[FloatArray]:
    """Places (x, y) in moved images; NaN where they have left it, or one that counts is unknown.

    Parameters
    ----------
    geometries, places
        Of x and of y; None for one that is not a target.
    sides : tuple of int
        H and W.
    matrix : ndarray of shape (n, 2, 2)
    shift : ndarray of shape (n, 2)
    """
    n = len(shift)
    pixels = np.full((n, 2), np.nan)
    for axis, (geometry, values) in enumerate(zip(geometries, places, strict=True)):
        if geometry is not None and values is not None:
            pixels[:, axis] = geometry.to_pixels(values, sides[1 - axis])
    # What has no part in a coordinate need not be known.
    parts = np.where(matrix == 0, 0.0, matrix * pixels[:, None, :])
    found = parts.sum(axis=2) + shift
    left = (np.abs(found) > np.array(sides[::-1]) / 2).any(axis=1)  # by what is known
    found = np.where(left[:, None], np.nan, found)
    return [
        geometry.from_pixels(found[:, axis], sides[1 - axis])
        for axis, geometry in enumerate(geometries)
        if geometry is not None
    ]


def _are_ends(low: Any, high: Any) -> bool:
    if not all(isinstance(v, int | float | np.number) for v in (low, high)):
        return False
    return low < high and math.isfinite(high - low)
