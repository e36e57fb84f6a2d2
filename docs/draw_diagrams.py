"""Draw what pages of the guide tell, and no code on them draws: ways of X, and of a model.

`draw_pictures.py` calls these functions. Each returns a figure that can be read at 360 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

BLUE, ORANGE, GREEN, GRAY, LIGHT = "#0072B2", "#D55E00", "#009E73", "#555555", "#CCCCCC"


def canvas(height: float) -> tuple[Figure, Axes]:
    """Return a figure of 5.6 inches by `height`, with axes in tenths of an inch."""
    figure = plt.figure(figsize=(5.6, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 56), ylim=(0, 10 * height))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, color: str, text: str) -> None:
    """Draw a box around (x, y), with text in it."""
    corner = (x - width / 2, y - height / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.8", "facecolor": "white"}
    axes.add_patch(FancyBboxPatch(corner, width, height, edgecolor=color, lw=1.5, **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=10, color="black")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GRAY, "lw": 1.2})


def pixels(axes: Axes, x: float, y: float, values: np.ndarray, size: float) -> None:
    """Draw gray cells, the middle of which is (x, y)."""
    n_rows, n_columns = values.shape
    for i, j in np.ndindex(n_rows, n_columns):
        corner = (x + (j - n_columns / 2) * size, y + (n_rows / 2 - i - 1) * size)
        color = str(round(float(values[i, j]), 2))
        axes.add_patch(Rectangle(corner, size, size, facecolor=color, edgecolor="white", lw=0.4))


def draw_inputs() -> Figure:
    """Draw how each kind of X reaches the trunk, and the heads."""
    figure, axes = canvas(4.2)
    rng = np.random.default_rng(1)
    image = rng.uniform(0.3, 0.95, size=(5, 5))
    kinds = [
        ("(n, d)", "dense"),
        ("(n, C, H, W)", "2-D convolutions"),
        ("(n, C, D, H, W)", "3-D convolutions"),
        ("(n, C, L)", "1-D convolutions"),
        ("MultiInput", "fusion"),
    ]
    for k, (shape, trunk) in enumerate(kinds):
        y = 36 - 8 * k
        if k == 0:
            pixels(axes, 4.5, y, rng.uniform(0.3, 0.95, size=(1, 6)), 1.2)
        elif k == 1:
            pixels(axes, 4.5, y, image, 1.1)
        elif k == 2:
            for shift in (1.0, 0.0, -1.0):
                pixels(axes, 4.5 + shift, y + shift, image[::-1], 0.9)
        elif k == 3:
            steps = np.linspace(0, 3 * np.pi, 60)
            axes.plot(1 + 0.75 * steps, y + 1.6 * np.sin(steps), color=GRAY, lw=1.2)
        else:
            pixels(axes, 2.6, y, image, 0.9)
            pixels(axes, 6.8, y, rng.uniform(0.3, 0.95, size=(1, 3)), 1.1)
        axes.text(9, y, shape, va="center", fontsize=9, color=GRAY)
        box(axes, 28, y, 13.5, 4.6, BLUE, trunk)
        arrow(axes, (19.4, y), (21.0, y))
        arrow(axes, (35, y), (40.2, 20 + 1.2 * (2 - k)))
    axes.add_patch(Rectangle((40.6, 14), 2.2, 12, facecolor=LIGHT, edgecolor=GRAY))
    axes.text(41.7, 28.2, "features", ha="center", fontsize=9.5, color=GRAY)
    for k, head in enumerate(("class", "number", "number")):
        y = 28 - 8 * k
        box(axes, 51, y, 8.6, 4.6, ORANGE, head)
        arrow(axes, (43.2, 20 + 1.2 * (1 - k)), (46.5, y))
    for x, title in ((7, "X"), (28, "trunk"), (51, "heads")):
        axes.text(x, 40.4, title, ha="center", va="center", fontsize=11, weight="bold")
    return figure


def draw_holes() -> Figure:
    """Draw which cells of y teach, and what would be left of complete rows."""
    figure, axes = canvas(3.0)
    cells: Sequence[Sequence[str]] = [
        ("yes", "0.7", "5 px"),
        ("no", "0.3", "-"),
        ("yes", "", "8 px"),
        ("", "0.5", ""),
        ("no", "0.9", "-"),
        ("yes", "0.4", ""),
    ]
    names = ("defect", "brightness", "size")
    for j, name in enumerate(names):
        axes.text(9.5 + 9 * j, 27.3, name, ha="center", fontsize=10, weight="bold")
    for i, row in enumerate(cells):
        y = 23.6 - 3.8 * i
        for j, value in enumerate(row):
            learned = value not in ("", "-")
            corner = (5.2 + 9 * j, y - 1.7)
            color = "#D6E9F5" if learned else "white"
            edge = BLUE if learned else LIGHT
            axes.add_patch(Rectangle(corner, 8.6, 3.4, facecolor=color, edgecolor=edge))
            text = value if learned else {"": "NaN", "-": "does not exist"}[value]
            small = 7.5 if value == "-" else 10
            shade = "black" if learned else GRAY
            style = {"ha": "center", "va": "center", "fontsize": small, "color": shade}
            axes.text(9.5 + 9 * j, y, text, **style)
        if "" not in row and "-" not in row:
            axes.text(34, y, "a complete row", va="center", color=GRAY)
    counts = [sum(row[j] not in ("", "-") for row in cells) for j in range(3)]
    axes.text(
        44.5,
        12.5,
        f"Blue cells are learned:\n{counts[0]}, {counts[1]} and {counts[2]} targets\n"
        f"of {len(cells)} rows, none of\nwhich is dropped.",
        ha="center",
        va="center",
        fontsize=10,
    )
    return figure


def draw_saving() -> Figure:
    """Draw the files that a fitted estimator can become, what is in them, and who reads them."""
    figure, axes = canvas(3.3)
    box(axes, 7, 16, 11.6, 6, BLUE, "fitted\nestimator")
    ways = [
        ("save", ".safetensors", "weights, and JSON:\nno code in it", "load,\nin Python", GREEN),
        (
            "joblib, pickle",
            ".joblib",
            "everything, pipelines\ntoo: it is a program",
            "joblib,\nin Python",
            ORANGE,
        ),
        ("to_onnx", ".onnx", "the graph from X\nto predictions", "any ONNX\nruntime", GREEN),
    ]
    for k, (how, suffix, holds, reader, color) in enumerate(ways):
        y = 26.5 - 10.5 * k
        arrow(axes, (13.2, 16 + 2 * (1 - k)), (19.6, y))
        axes.text(28.5, y + 4.6, how, ha="center", va="center", fontsize=9.5, color=GRAY)
        box(axes, 28.5, y, 17, 6.8, color, "")
        axes.text(28.5, y + 1.9, suffix, ha="center", va="center", fontsize=10, weight="bold")
        axes.text(28.5, y - 1.2, holds, ha="center", va="center", fontsize=8.5)
        arrow(axes, (37.4, y), (42.4, y))
        box(axes, 49, y, 12.4, 5.4, GRAY, reader)
    return figure
