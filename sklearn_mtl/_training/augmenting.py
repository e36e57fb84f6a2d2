"""Batches of images that are changed at random, with the targets that move with them."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_mtl._data.decoding import TargetDecoder
from sklearn_mtl._data.encoded import EncodedTargets
from sklearn_mtl._data.geometry import Geometry, moved_pair, pairs_of
from sklearn_mtl.augmentation import Augment, Moves
from sklearn_mtl.networks import Fused
from sklearn_mtl.networks.conv import Shift

__all__ = ["Augmenter", "augmenter_of", "resting"]

FloatArray = NDArray[np.float64]


class Moving(NamedTuple):
    """A task whose targets move: its position, and how codes become values."""

    k: int
    geometry: Geometry
    scale: float
    center: float


class Images(NamedTuple):
    """Where images stand in samples: they are the samples, or a part of flat ones.

    Attributes
    ----------
    shape : tuple of int
        (C, H, W).
    part : str or None
        Its name.
    start : int
        Where its values begin in a row.
    """

    shape: tuple[int, ...]
    part: str | None = None
    start: int = 0

    @property
    def columns(self) -> slice:
        """Where the values stand."""
        return slice(self.start, self.start + math.prod(self.shape))

    def of(self, X: Tensor) -> Tensor:
        """Return the images of samples."""
        return X if self.part is None else X[:, self.columns].unflatten(1, self.shape)

    def missing(self, X: Tensor) -> Tensor | None:
        """Tell samples that lack their image; None if they have nothing else."""
        return None if self.part is None else X[:, self.start].isnan()

    def replaced(self, X: Tensor, images: Tensor) -> Tensor:
        """Return samples with other images; those that are missing stay so."""
        missing = self.missing(X)
        if missing is None:
            return images
        X = X.clone()
        part = X[:, self.columns]
        part.copy_(torch.where(missing.unsqueeze(1), part, images.flatten(1)))
        return X


class _Some:
    """Draws for all of n rows, as a generator does, and returns what is drawn for some."""

    def __init__(self, rng: np.random.Generator, n: int, places: NDArray[np.intp]) -> None:
        self.rng, self.n, self.places = rng, n, places

    def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> FloatArray:
        """Draw numbers, the first axis of which is that of the rows."""
        return self.rng.uniform(low, high, (self.n, *shape[1:]))[self.places]

    def integers(self, low: int, high: int, shape: tuple[int, ...], endpoint: bool) -> Any:
        """Draw whole numbers, the first axis of which is that of the rows."""
        return self.rng.integers(low, high, (self.n, *shape[1:]), endpoint=endpoint)[self.places]


class Augmenter:
    """Changes batches of images, and the targets that move with them.

    Parameters
    ----------
    augment : Augment
        Whose `shift` may be that of the trunk, see `shift_like`.
    moving : list of Moving
        Of observed tasks.
    pairs : list of tuple of (int or None)
        Positions of the tasks that are x and y of one place.
    images : Images
    """

    def __init__(
        self,
        augment: Augment,
        moving: list[Moving],
        pairs: list[tuple[int | None, int | None]],
        images: Images,
    ) -> None:
        self.augment, self.moving, self.images = augment, moving, images
        self.sides = (images.shape[1], images.shape[2])
        self.acts = True  # there is something to change
        by_task = {m.k: m for m in moving}
        self.pairs = [tuple(None if k is None else by_task.get(k) for k in pair) for pair in pairs]

    def __call__(
        self,
        X: Tensor,
        target: Tensor,
        weight: Tensor,
        rng: np.random.Generator,
        places: NDArray[np.intp] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Change images (n, C, H, W), their encoded targets and weights (n, n_tasks).

        Where `places` says which of all rows the images are, targets and weights are of all, and
        the images are changed as they would be among all.
        """
        if not self.acts:
            return X, target, weight
        moves = self.augment.draw(len(target), self.sides, rng)
        mine: Moves = moves
        draws: Any = rng
        if places is not None:
            mine, draws = Moves(*(part[places] for part in moves)), _Some(rng, len(target), places)
        moved = self.augment.move(self.images.of(X), mine)
        X = self.images.replaced(X, self.augment.recolor(moved, draws))
        if self.moving:
            before, missing = (target, weight), self.images.missing(X)
            target, weight = self._moved(target, weight, moves)
            if missing is not None and places is not None:
                raise ValueError(
                    "augment, and the geometry of tasks, change images that are a part of X, which "
                    "may be missing in rows that other processes read. Train in one process, or "
                    "leave geometry and augment out."
                )
            if missing is not None:  # there, nothing has moved
                target, weight = (
                    old.where(missing.unsqueeze(1), new)
                    for old, new in zip(before, (target, weight), strict=True)
                )
        return X, target, weight

    def shift_like(self, layers: Sequence[Shift]) -> None:
        """Shift images as these layers of a trunk do, unless the user has said how far."""
        if self.augment.shift is None:
            shares = [np.divide(layer.reach, self.sides).max() for layer in layers]
            self.augment = copy.copy(self.augment).set_params(shift=float(max(shares, default=0)))
        self.acts = any(self.augment.get_params().values())

    def _moved(self, target: Tensor, weight: Tensor, moves: Moves) -> tuple[Tensor, Tensor]:
        ks = [moving.k for moving in self.moving]
        codes = target[:, ks].cpu().double().numpy()
        seen = (weight[:, ks] > 0).cpu().numpy()
        values = {
            m.k: np.where(seen[:, i], codes[:, i] * m.scale + m.center, np.nan)
            for i, m in enumerate(self.moving)
        }
        size = np.sqrt(np.abs(np.linalg.det(moves.matrix)))
        for m in self.moving:
            if m.geometry.name == "angle":
                values[m.k] = m.geometry.turned(values[m.k], moves.matrix)
            elif not m.geometry.is_place:
                values[m.k] = m.geometry.resized(values[m.k], size)
        for pair in self.pairs:
            places = [None if m is None else values[m.k] for m in pair]
            geometries = [None if m is None else m.geometry for m in pair]
            found = moved_pair(geometries, places, self.sides, *moves)
            values |= {m.k: v for m, v in zip(filter(None, pair), found, strict=True)}
        moved = np.stack([(values[m.k] - m.center) / m.scale for m in self.moving], axis=1)
        lost = torch.from_numpy(np.isnan(moved)).to(weight.device)
        target, weight = target.clone(), weight.clone()
        target[:, ks] = torch.from_numpy(np.nan_to_num(moved)).to(target)
        weight[:, ks] = weight[:, ks].masked_fill(lost, 0)
        return target, weight


def augmenter_of(
    parameters: Any,
    encoder: TargetDecoder,
    targets: EncodedTargets,
    input_shape: Any,
) -> Augmenter | None:
    """Return what changes the images in training; None if nothing does but their trunk.

    Raises
    ------
    ValueError
        If samples are no images, or targets cannot move as images do.
    """
    geometries = [Geometry.of(t.geometry) if t.geometry else None for t in encoder.tasks_]
    moving = _moving(encoder, geometries, targets)
    augment = parameters.augment
    if augment is None and not moving:
        return None
    if augment is not None:
        augment._validate_params()
    shapes = input_shape.values() if isinstance(input_shape, Mapping) else [input_shape]
    if augment is None and all(len(shape) == 1 for shape in shapes):  # rows, which nothing moves
        return None
    images = _images_in(input_shape)
    input_shape = images.shape
    if augment is None and len(input_shape) in (2, 4):
        raise ValueError(
            f"Task {encoder.names[moving[0].k]!r}: numbers with a geometry move with images (C, H, "
            f"W), but samples have the shape {input_shape}. Leave geometry out; with positions as "
            "targets, take trunk=ConvTrunk(max_shift=0)."
        )
    augment = Augment() if augment is None else augment
    if len(input_shape) != 3:
        raise ValueError(
            f"augment changes images (C, H, W), but samples have the shape {input_shape}. Pass "
            "input_shape= to say how to read a row as an image, or augment=None."
        )
    for task, kind, geometry in zip(encoder.tasks_, encoder.kinds_, geometries, strict=True):
        if geometry is None and augment.turns and not kind.is_class:
            raise ValueError(
                f"Task {task.name!r}: augment={parameters.augment!r} changes images in ways by "
                "which numbers may change. Say what this one is: Task(..., geometry='x'), 'y', "
                "'length', ..., or 'invariant' if it stays."
            )
    pairs = pairs_of(geometries)
    if augment.rotation and any(None in pair for pair in pairs):
        names = [encoder.names[k] for pair in pairs for k in pair if k is not None]
        raise ValueError(
            f"augment turns images, for which places need both coordinates, in pairs: {names} are "
            "not as many of geometry 'x' as of 'y'. Declare the others, or rotation=0."
        )
    return Augmenter(augment, moving, pairs, images)


def _images_in(input_shape: Any) -> Images:
    """Find the images that are changed: of several parts, the one that holds some."""
    if not isinstance(input_shape, Mapping):
        return Images(input_shape)
    starts = itertools.accumulate(map(math.prod, input_shape.values()), initial=0)
    places = zip(input_shape.items(), starts, strict=False)
    found = [Images(shape, name, start) for (name, shape), start in places if len(shape) == 3]
    if len(found) != 1:
        raise ValueError(
            "augment, and the geometry of tasks, are for one image, but of the parts of X, "
            f"{[images.part for images in found] or 'none'} are images (C, H, W). Leave them out."
        )
    return found[0]


def _moving(
    encoder: TargetDecoder, geometries: list[Geometry | None], targets: EncodedTargets
) -> list[Moving]:
    """Observed tasks whose targets move; those that cannot are refused."""
    moving = []
    for k, geometry in enumerate(geometries):
        if geometry is None or not geometry.moves or encoder.unobserved[k]:
            continue
        task = encoder.tasks_[k]
        if encoder.bounded[k]:
            raise ValueError(
                f"Task {task.name!r}: geometry={task.geometry!r} is of numbers, and some are known "
                "within bounds only. Leave geometry out, or the bounds."
            )
        scale, center = encoder.kinds_[k].units
        codes = targets.cells(k).values
        values = codes * scale + center
        if not np.allclose(encoder.kinds_[k].encode(values), codes, rtol=1e-6, atol=1e-9):
            raise ValueError(
                f"Task {task.name!r}: geometry={task.geometry!r} is for kinds that encode numbers "
                f"by scale and center, which {encoder.kinds_[k]!r} does not. Leave geometry out."
            )
        outside = geometry.is_outside(values)
        if outside.any():
            raise ValueError(
                f"Task {task.name!r}: geometry={task.geometry!r} goes from {geometry.low:g} to "
                f"{geometry.high:g}, and y holds {values[outside][0]:g} (in {outside.sum()} rows). "
                f"Pass the values at the two ends, such as {geometry.example}."
            )
        moving.append(Moving(k, geometry, scale, center))
    return moving


@contextlib.contextmanager
def resting(module: nn.Module, augmenter: Augmenter | None) -> Iterator[None]:
    """Let shifts of the trunk itself rest while images are changed before it.

    They become those of the augmenter, unless the user has said how far it shifts.
    """
    within = [module]
    if augmenter is not None and (part := augmenter.images.part) is not None:
        fused = [m for m in module.modules() if isinstance(m, Fused)]  # none in a trunk of your own
        within = [m.trunk_of(part) for m in fused] or within
    found = [m for w in within for m in w.modules() if isinstance(m, Shift)] if augmenter else []
    layers = [layer for layer in found if len(layer.reach) == 2]
    reaches = [layer.reach for layer in layers]
    if augmenter is not None:
        augmenter.shift_like(layers)
    for layer in layers:
        layer.reach = (0, 0)
    try:
        yield
    finally:
        for layer, reach in zip(layers, reaches, strict=True):
            layer.reach = reach
