"""What all displays share: matplotlib when it is asked for, axes, colours, and names that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PURPLE",
    "SKY",
    "VERMILION",
    "axes_for",
    "legend_above",
    "one_axes",
    "pyplot",
    "shortened",
    "tall",
    "task_axis",
]

# Of Okabe and Ito, which people see apart whatever their cones; blue is a little lighter, so that
# it is seen on black pages too.
BLUE, ORANGE, GREEN, VERMILION = "#1F86C8", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8C8C8C"


def pyplot(display: str) -> Any:
    """Import `matplotlib.pyplot` for a display, or say which extra brings it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{display} is drawn by matplotlib, which is not installed. Install it: "
            'pip install "sklearn-mtl[plot]".'
        ) from error
    return plt


def one_axes(display: str, ax: Any, size: tuple[float, float]) -> Any:
    """Return the axes to draw on: those of the user, or new ones in a figure of `size` inches."""
    plt = pyplot(display)
    if ax is None:
        _, ax = plt.subplots(figsize=size, layout="constrained")
    elif not hasattr(ax, "get_subplotspec"):
        raise TypeError(f"ax={ax!r} is no axes of matplotlib. Pass one, or None for a new figure.")
    return ax


def axes_for(
    display: str, ax: Any, n: int, panel: tuple[float, float], n_cols: int | None = None
) -> NDArray[Any]:
    """Return `n` axes: those of the user, parts of the only one passed, or those of a new figure.

    Parameters
    ----------
    display : str
    ax : Axes, array-like of Axes or None
    n : int
    panel : tuple of float
        Width and height of each in inches, in a new figure.
    n_cols : int or None
        Side by side; None is for what is near a square, at most 6.
    """
    plt = pyplot(display)
    if n_cols is not None and not (isinstance(n_cols, int | np.integer) and n_cols > 0):
        raise ValueError(f"n_cols={n_cols!r} does not fit. Pass an int from 1, or None.")
    if n < 1:
        raise ValueError(f"There is no task, or none is chosen: {display} has nothing to draw.")
    n_cols = min(n, 6 if n_cols is None else int(n_cols))
    if n > n_cols > 3:  # rather 4 + 4 than 6 + 2
        n_cols = -(-n // -(-n // n_cols))
    n_rows = -(-n // n_cols)
    if isinstance(ax, list | tuple | np.ndarray):
        axes = np.asarray(ax, dtype=object).ravel()
        if len(axes) != n:
            raise ValueError(
                f"ax has {len(axes)} axes, but there are {n} panels. Pass {n}, or one."
            )
        return np.array([one_axes(display, each, panel) for each in axes], dtype=object)
    if ax is None:
        size = (panel[0] * n_cols, panel[1] * n_rows)
        spec = plt.figure(figsize=size, layout="constrained").add_gridspec(n_rows, n_cols)
    else:
        ax = one_axes(display, ax, panel)
        place = ax.get_subplotspec()
        if place is None:
            box = ax.get_position()
            sides = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
            place = ax.figure.add_gridspec(1, 1, **sides)[0]
        ax.set_axis_off()
        spec = place.subgridspec(n_rows, n_cols)
    figure = spec.figure if ax is None else ax.figure
    cells = [divmod(k, n_cols) for k in range(n)]
    axes = np.empty(n, dtype=object)
    axes[:] = [figure.add_subplot(spec[row, column]) for row, column in cells]
    return axes


def shortened(name: Any, width: int = 28) -> str:
    """Return a name that fits: of a long one the beginning and the end, which tell it apart."""
    name = str(name)
    if len(name) <= width:
        return name
    end = width // 2 - 1
    return f"{name[: width - end - 1]}\N{HORIZONTAL ELLIPSIS}{name[-end:]}"


def tall(n_tasks: int, per_task: float = 0.3) -> float:
    """Height in inches of a figure with a line for each task."""
    return 1.3 + per_task * max(n_tasks, 2)


def task_axis(ax: Any, names: list[str]) -> None:
    """Name tasks along the y axis, the first one above."""
    ax.set_yticks(range(len(names)), [shortened(name) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def legend_above(ax: Any, handles: Any = None, n_cols: int = 4) -> Any:
    """Set the legend over the axes, where it hides nothing; it grows to the left, over names."""
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.3}
    look = {"frameon": False, "ncols": n_cols, "handletextpad": 0.4, "columnspacing": 1.2}
    return ax.legend(handles=handles, **place, **look)
