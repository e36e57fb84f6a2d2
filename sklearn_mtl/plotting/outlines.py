"""Places and boxes that tasks say, drawn into images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from sklearn_mtl._data.geometry import Geometry, pairs_of
from sklearn_mtl._data.tasks import Task
from sklearn_mtl.plotting.axes import ORANGE, SKY

__all__ = ["Outline", "draw_outline", "outlines_of"]


class Outline(NamedTuple):
    """A place, or a box, in an image: which tasks say where it is."""

    tasks: tuple[int, ...]
    x: Geometry
    y: Geometry
    by_size: bool = False

    def corners(self, values: Sequence[float], sides: tuple[int, ...]) -> list[tuple[float, float]]:
        """Return points in pixels: of the place, or of two corners of the box."""
        if len(values) == 2:
            points = [(values[0], values[1])]
        elif self.by_size:
            x, y, width, height = values
            points = [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
        else:
            points = [(values[0], values[1]), (values[2], values[3])]
        return [
            (
                float(self.x.to_pixels(np.array([x]), sides[1])[0] + sides[1] / 2 - 0.5),
                float(self.y.to_pixels(np.array([y]), sides[0])[0] + sides[0] / 2 - 0.5),
            )
            for x, y in points
        ]


def outlines_of(
    tasks: Sequence[Task], geometries: list[Geometry | None], boxes: Sequence[Sequence[str]]
) -> list[Outline]:
    """Boxes, and places that are not part of one."""
    names = [task.name for task in tasks]
    found = []
    for box in boxes:
        known = len(box) == 4 and all(name in names for name in box)
        of = [geometries[names.index(name)] for name in box] if known else []
        kinds = [None if g is None else g.name for g in of]
        if kinds not in (["x", "y", "x", "y"], ["x", "y", "length", "length"]):
            raise ValueError(
                f"boxes holds {box!r}. Pass names of four tasks with the geometry x, y, x, y "
                "(left, top, right, bottom) or x, y, length, length (center, width, height)."
            )
        x, y = of[:2]
        assert x is not None
        assert y is not None
        found.append(Outline(tuple(map(names.index, box)), x, y, kinds[2] == "length"))
    used = {k for outline in found for k in outline.tasks}
    for i, j in pairs_of(geometries):
        x, y = (None if k is None else geometries[k] for k in (i, j))
        if x is None or y is None or i is None or j is None or {i, j} & used:
            continue
        found.append(Outline((i, j), x, y))
    return found


def draw_outline(ax: Any, corners: list[tuple[float, float]], predicted: bool) -> Any:
    """Draw a place or a box."""
    color = ORANGE if predicted else SKY
    if len(corners) == 1:
        look = {"marker": "x"} if predicted else {"marker": "o", "markerfacecolor": "none"}
        style = {"color": color, "linestyle": "", "markersize": 9, "markeredgewidth": 2.2}
        return ax.plot(*corners[0], **(style | look))[0]
    (left, top), (right, bottom) = corners
    xs, ys = [left, right, right, left, left], [top, top, bottom, bottom, top]
    return ax.plot(xs, ys, color=color, linewidth=2, linestyle="--" if predicted else "-")[0]
