"""Images changed at random in training: `Augment`."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from sklearn_mtl._addresses import page_template
from sklearn_mtl.networks.conv import rearranged

__all__ = ["Augment"]

FloatArray = NDArray[np.float64]


class Moves(NamedTuple):
    """Where the content of each image goes: ``p' = matrix @ p + shift``, in pixels.

    Points are (x, y), from the center of the image to the right and downwards.

    Attributes
    ----------
    matrix : ndarray of shape (n, 2, 2)
    shift : ndarray of shape (n, 2)
    """

    matrix: FloatArray
    shift: FloatArray

    def inverted(self) -> Moves:
        """Return where the content comes from."""
        back = np.linalg.inv(self.matrix).astype(np.float64)
        return Moves(back, -np.einsum("nij,nj->ni", back, self.shift))


class Augment(BaseEstimator):
    """Images (C, H, W) changed at random in training, anew for every batch.

    Each parameter can be searched, as in ``augment__rotation``. Targets that have a `geometry`, see
    `Task`, move with the image. A number says how far a change goes: each image draws from
    the range up to it, in both directions; 0 is no such change.

    Parameters
    ----------
    shift : float in [0, 0.5], default=None
        Largest shift, as a share of each side, rounded down to whole pixels. Edges are repeated.
        None is `max_shift` of a `ConvTrunk`, 0.1 by default, or what layers `Shift` of
        ``sklearn_mtl.networks.conv`` in another trunk do; 0 without any.
    flip : {'horizontal', 'vertical', 'both'}, default=None
        Mirror half of the images: left and right, or top and bottom, or each of the two.
    rotation : float in [0, 180], default=0
        Largest angle, in degrees.
    scale : float >= 0, default=0
        Largest share by which images are made larger, or smaller: 0.1 is from 1 / 1.1 to 1.1.
    brightness : float >= 0, default=0
        Largest number that is added to all pixels. As is so for `color` and `cutout`, pixels are
        those that the network sees: standardized ones, unless ``standardize=False``.
    color : float >= 0, default=0
        The same, drawn for each channel.
    contrast : float >= 0, default=0
        Largest share by which differences to the mean of the image grow, or shrink.
    cutout : float in [0, 1], default=0
        Side of a square that is filled with 0, as a share of the shorter side of the image; its
        center may be anywhere [1]_.

    References
    ----------
    .. [1] T. DeVries and G. W. Taylor, "Improved Regularization of Convolutional Neural Networks
       with Cutout", arXiv:1708.04552, 2017.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator, Task
    >>> from sklearn_mtl.augmentation import Augment
    >>> estimator = MultiTaskCNNEstimator(
    ...     tasks=[
    ...         Task("kind", "classification"),
    ...         Task("x", "regression", geometry="x"),
    ...         Task("n_spots", "poisson", geometry="invariant"),
    ...     ],
    ...     augment=Augment(flip="horizontal"),
    ... )
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "shift": [None, Interval(Real, 0, 0.5, closed="both")],
        "flip": [None, StrOptions({"horizontal", "vertical", "both"})],
        "rotation": [Interval(Real, 0, 180, closed="both")],
        "scale": [Interval(Real, 0, None, closed="left")],
        "brightness": [Interval(Real, 0, None, closed="left")],
        "color": [Interval(Real, 0, None, closed="left")],
        "contrast": [Interval(Real, 0, None, closed="left")],
        "cutout": [Interval(Real, 0, 1, closed="both")],
    }

    _doc_link_module = "sklearn_mtl"

    @property
    def _doc_link_template(self) -> str:
        return page_template(own=False)

    def __init__(
        self,
        shift: float | None = None,
        flip: str | None = None,
        rotation: float = 0.0,
        scale: float = 0.0,
        brightness: float = 0.0,
        color: float = 0.0,
        contrast: float = 0.0,
        cutout: float = 0.0,
    ) -> None:
        self.shift = shift
        self.flip = flip
        self.rotation = rotation
        self.scale = scale
        self.brightness = brightness
        self.color = color
        self.contrast = contrast
        self.cutout = cutout

    @property
    def turns(self) -> bool:
        """Whether images are changed in other ways than shifts, by which numbers may change."""
        return bool(self.flip or self.rotation or self.scale)

    def draw(self, n: int, sides: tuple[int, int], rng: np.random.Generator) -> Moves:
        """Draw where the content of `n` images of `sides` (H, W) goes.

        They are mirrored, then turned and scaled around their center, then shifted.

        Parameters
        ----------
        n : int
            Number of images.
        sides : tuple of int
            Height and width.
        rng : numpy.random.Generator
            Draws the numbers.

        Returns
        -------
        moves : Moves
            ``matrix`` (n, 2, 2) and ``shift`` (n, 2): the content at ``p``, which is (x, y) in
            pixels from the center, goes to ``matrix @ p + shift``.
        """
        scale = (1 + self.scale) ** rng.uniform(-1, 1, n) if self.scale else np.ones(n)
        angle = np.radians(rng.uniform(-self.rotation, self.rotation, n) if self.rotation else 0)
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        matrix = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], axis=1)
        for axis, name in enumerate(("horizontal", "vertical")):
            if self.flip in (name, "both"):
                matrix[:, :, axis] *= rng.choice([-1, 1], n)[:, None]
        shift = np.zeros((n, 2))
        for axis, side in enumerate(reversed(sides)):  # whole pixels
            reach = int((self.shift or 0) * side + 1e-9)
            if reach:
                shift[:, axis] = rng.integers(-reach, reach, n, endpoint=True)
        return Moves(matrix, shift)

    def move(self, X: Tensor, moves: Moves) -> Tensor:
        """Move images (n, C, H, W), and repeat their edges.

        What is but mirrored and shifted keeps its pixels as they are; else they are interpolated.

        Parameters
        ----------
        X : Tensor of shape (n, C, H, W)
            Images.
        moves : Moves
            As `draw` returns them.

        Returns
        -------
        moved : Tensor of shape (n, C, H, W)
            X itself where nothing moves.
        """
        if self.rotation or self.scale:
            return _interpolated(X, moves.inverted())
        rows, columns = (
            _places(moves.matrix[:, axis, axis], moves.shift[:, axis], X.shape[3 - axis])
            for axis in (1, 0)
        )
        if not (self.flip or moves.shift.any()):
            return X
        return rearranged(X, [rows.to(X.device), columns.to(X.device)])

    def recolor(self, X: Tensor, rng: Any) -> Tensor:
        """Change the pixels of images, where they are.

        Parameters
        ----------
        X : Tensor of shape (n, C, H, W)
            Images, standardised.
        rng : numpy.random.Generator
            Draws the numbers.

        Returns
        -------
        changed : Tensor of shape (n, C, H, W)
            X itself where nothing is asked for.
        """
        n, n_channels, *sides = X.shape

        def drawn(reach: float, n_values: int) -> Tensor:
            values = rng.uniform(-reach, reach, (n, n_values, 1, 1))
            return torch.from_numpy(values).to(X)

        if self.contrast:
            mean = X.mean(dim=(1, 2, 3), keepdim=True)
            X = mean + (X - mean) * (drawn(1, 1) * math.log1p(self.contrast)).exp()
        if self.brightness:
            X = X + drawn(self.brightness, 1)
        if self.color:
            X = X + drawn(self.color, n_channels)
        side = round(self.cutout * min(sides))
        if side:
            covered = [
                np.arange(size) - rng.integers(1 - side, size, (n, 1), endpoint=False)
                for size in sides
            ]
            rows, columns = ((place >= 0) & (place < side) for place in covered)
            hole = torch.from_numpy(rows[:, None, :, None] & columns[:, None, None, :])
            X = X.masked_fill(hole.to(X.device), 0)
        return X


def _places(sign: FloatArray, shift: FloatArray, size: int) -> Tensor:
    """Pixels (n, size) that come to stand at each place of one axis."""
    places = (np.arange(size) - shift[:, None]).clip(0, size - 1)
    places = np.where(sign[:, None] < 0, size - 1 - places, places)
    return torch.from_numpy(places.astype(np.intp))


def _interpolated(X: Tensor, back: Moves) -> Tensor:
    """Images whose content comes from where `back` says."""
    half = np.array([X.shape[3], X.shape[2]]) / 2  # what is 1 for torch
    matrix = back.matrix * half / half[:, None]
    theta = np.concatenate([matrix, (back.shift / half)[:, :, None]], axis=2)
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(theta).to(X), list(X.shape), align_corners=False
    )
    return torch.nn.functional.grid_sample(X, grid, padding_mode="border", align_corners=False)
