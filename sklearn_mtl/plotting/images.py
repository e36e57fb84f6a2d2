"""`PredictionGridDisplay`: images, and what is predicted of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.fused import as_inputs
from sklearn_mtl._data.geometry import Geometry
from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._data.tables import Column
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl._data.tasks import Task
from sklearn_mtl._fitted import fitted_of, through
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.values import are_numbers
from sklearn_mtl.plotting.axes import GREEN, GREY, VERMILION, axes_for, pyplot, shortened
from sklearn_mtl.plotting.outlines import Outline, draw_outline, outlines_of
from sklearn_mtl.plotting.pictures import as_pictures, pictures_of
from sklearn_mtl.plotting.reading import (
    choose,
    chosen_rows,
    encoder_of,
    is_hole,
    n_rows,
    predicted_columns,
    said,
    take_rows_of_y,
)

__all__ = ["PredictionGridDisplay"]

FloatArray = NDArray[np.float64]

N_LINES = 5  # of tasks below an image, unless they are named


class PredictionGridDisplay:
    """Images with what is predicted of them, and what is true.

    Below each image stands a line for each task: the prediction, and the truth in brackets where
    it was observed and differs. Classes are green where they are right, and vermilion where they
    are wrong. Places (tasks with the geometry 'x' and 'y') are drawn into the image: a ring where
    they truly are, a cross where they are predicted. It is recommended to make one by
    `from_estimator` or `from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    images : ndarray of shape (n_images, H, W) or (n_images, H, W, 3)
        Grey values or colours from 0 to 1.
    y_pred : list of ndarray of shape (n_images,)
        Predictions of each task; NaN or None where a target is predicted not to apply.
    tasks : list of Task
        The tasks.
    y_true : list of ndarray of shape (n_images,), default=None
        True targets of each task; NaN or None where not observed.
    rows : array-like of int of shape (n_images,), default=None
        Numbers of the images, for their titles.

    Attributes
    ----------
    images_ : list of AxesImage
        The images.
    texts_ : list of dict of str to Annotation
        Lines below each image, by the name of the task.
    true_places_, places_ : list of list of Artist
        True and predicted places of each image: rings and crosses, or boxes.
    axes_ : ndarray of Axes of shape (n_images,)
        Axes of the images.
    figure_ : matplotlib Figure
        Figure that holds them.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.datasets import make_digit_scenes
    >>> from sklearn_mtl.plotting import PredictionGridDisplay
    >>> X, y = make_digit_scenes(60, size=16, random_state=0)
    >>> estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
    >>> display = PredictionGridDisplay.from_estimator(estimator, X, y, rows=[0, 1, 2])
    >>> len(display.images_)
    3
    """

    def __init__(
        self,
        images: FloatArray,
        y_pred: Sequence[NDArray[Any]],
        tasks: Sequence[Task],
        *,
        y_true: Sequence[NDArray[Any]] | None = None,
        rows: Any = None,
    ) -> None:
        self.images = images
        self.y_pred = y_pred
        self.tasks = tasks
        self.y_true = y_true
        self.rows = rows

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        rows: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> PredictionGridDisplay:
        """Predict images by a fitted estimator, and show them.

        Conditional targets that are predicted not to apply are shown as a dash.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted to images. X goes through the transformers of a pipeline.
        X : array-like of shape (n_samples, ...)
            As the estimator takes it. Of a `MultiInput`, the first part of images is shown; of
            volumes, the middle slice.
        y : array-like or frame of shape (n_samples,) or (n_samples, n_tasks), default=None
            True targets, laid out as in `fit`.
        rows : array-like of int, default=None
            Rows to show. None is the first 12.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each image, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : PredictionGridDisplay
            It holds images and predictions, and what was drawn.

        Raises
        ------
        ValueError
            If the estimator was not fitted to images.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        n = n_rows(X)
        rows = chosen_rows(rows, n)
        inputs = through(estimator, take_rows(X, rows))
        images = pictures_of(fitted.reader, as_inputs(inputs), len(rows))
        encoder = fitted.encoder
        found = fitted.decode(inputs, "nan")
        truth = None if y is None else _truth(encoder, take_rows_of_y(y, rows, n))
        display = cls(images, found, encoder.tasks_, y_true=truth, rows=rows)
        return display.plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        images: Any,
        y_true: Any,
        y_pred: Any,
        *,
        tasks: Any = None,
        rows: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> PredictionGridDisplay:
        """Show images with predictions that are known.

        Parameters
        ----------
        images : array-like of shape (n_samples, H, W), (n_samples, C, H, W) or (n_samples, H, W, C)
            Images.
        y_true : array-like or frame of shape (n_samples,) or (n_samples, n_tasks)
            True targets, NaN where not observed.
        y_pred : array-like, frame or dict of str to array-like
            Predictions, laid out as `y_true`, or by the names of the tasks.
        tasks : None, list of Task or dict of str to str or Task, default=None
            What the columns are, as in `MultiTaskCNNEstimator`; places need a `geometry`. None
            infers it.
        rows : array-like of int, default=None
            Rows to show. None is the first 12.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each image, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : PredictionGridDisplay
            It holds images and predictions, and what was drawn.
        """
        pyplot(cls.__name__)
        encoder = encoder_of(y_true, tasks)
        truth = _truth(encoder, y_true)
        found = predicted_columns(encoder.names, y_pred, len(truth[0]))
        images = np.asarray(images)
        if len(images) != len(truth[0]):
            raise ValueError(
                f"There are {len(images)} images, but y_true has {len(truth[0])} rows."
            )
        rows = chosen_rows(rows, len(images))
        display = cls(
            as_pictures(images[rows]),
            [column[rows] for column in found],
            encoder.tasks_,
            y_true=[column[rows] for column in truth],
            rows=rows,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        tasks: Any = None,
        boxes: Sequence[Sequence[str]] = (),
        n_cols: int | None = None,
    ) -> PredictionGridDisplay:
        """Show the images.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each image, or one to be divided; None makes a new figure.
        tasks : str or list of str, default=None
            Names of the tasks to tell of below the images. None is all but places, at most 5.
        boxes : list of tuple of str, default=()
            Boxes, each of four tasks: ``(left, top, right, bottom)``, or ``(x, y, width, height)``
            around the place (x, y) if the latter two have the geometry 'length'; lengths are in
            units of x and y.
        n_cols : int, default=None
            Images side by side; None is at most 6.

        Returns
        -------
        display : PredictionGridDisplay
            The object itself.
        """
        geometries = [None if t.geometry is None else Geometry.of(t.geometry) for t in self.tasks]
        outlines = outlines_of(self.tasks, geometries, boxes)
        placed = {k for outline in outlines for k in outline.tasks}
        names = [task.name for task in self.tasks]
        if tasks is None:
            lines = [k for k in range(len(names)) if k not in placed][:N_LINES]
        else:
            lines = choose(names, tasks)
        panel = (1.75, 2.05 + 0.17 * len(lines))
        axes = axes_for(type(self).__name__, ax, len(self.images), panel, n_cols)
        self.images_, self.texts_ = [], list[dict[str, Any]]()
        self.true_places_, self.places_ = list[list[Any]](), list[list[Any]]()
        gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if self.images.ndim == 3 else {}
        for i, panel_ax in enumerate(axes):
            self.images_.append(panel_ax.imshow(self.images[i], **gray))
            panel_ax.set(xticks=[], yticks=[], anchor="N")  # lines stand below
            if self.rows is not None:
                panel_ax.set_title(f"row {self.rows[i]}", fontsize="small", color=GREY)
            self._draw_places(panel_ax, i, outlines)
            self.texts_.append(self._write(panel_ax, i, lines, names))
        self.axes_, self.figure_ = axes, axes[0].figure
        return self

    def _draw_places(self, ax: Any, i: int, outlines: list[Outline]) -> None:
        """Draw true and predicted places of an image."""
        sides = self.images.shape[1:3]
        for columns, kept, predicted in (
            (self.y_true or (), self.true_places_, False),
            (self.y_pred, self.places_, True),
        ):
            kept.append([])
            for outline in outlines if columns else ():
                values = [_number(columns[k][i]) for k in outline.tasks]
                if not np.isnan(values).any():
                    kept[-1].append(draw_outline(ax, outline.corners(values, sides), predicted))
        ax.set(xlim=(-0.5, sides[1] - 0.5), ylim=(sides[0] - 0.5, -0.5))

    def _write(self, ax: Any, i: int, lines: list[int], names: list[str]) -> dict[str, Any]:
        """Write a line for each task below an image."""
        texts = {}
        width = ax.get_window_extent().width / ax.figure.dpi * 72
        room = max(16, int(width / 4.4))  # letters of 8 points side by side
        for place, k in enumerate(lines):
            predicted = self.y_pred[k][i]
            true = None if self.y_true is None else self.y_true[k][i]
            is_class = (
                not are_numbers(np.asarray([predicted])) or self.tasks[k].make_kind().is_class
            )
            text, color = _line(names[k], predicted, true, is_class, room)
            at = {"xycoords": "axes fraction", "textcoords": "offset points"}
            look = {"fontsize": 8, "va": "top", "ha": "left"} | ({"color": color} if color else {})
            texts[names[k]] = ax.annotate(text, (0, 0), (0, -4 - 11 * place), **at, **look)
        return texts


def _line(
    name: str, predicted: Any, true: Any, is_class: bool, room: int
) -> tuple[str, str | None]:
    """Return what to say of a task in a line of so many letters, and in which colour."""
    right = is_hole(true) or (is_class and predicted == true)
    width = max(6, (room - 10) // 2)  # of a label
    value = said(predicted, width) + ("" if right else f" ({said(true, width)})")
    text = f"{shortened(name, max(8, room - len(value) - 2))}: {value}"
    if not is_class or is_hole(true):
        return text, None
    return text, GREEN if right else VERMILION


def _number(value: Any) -> float:
    return float("nan") if is_hole(value) else float(value)


def _truth(encoder: TargetEncoder, y: Any) -> list[NDArray[Any]]:
    """Return true targets by task, with holes."""
    columns, _ = encoder.read(y)
    return [_with_holes(column) for column in columns]


def _with_holes(column: Column) -> NDArray[Any]:
    if column.values.dtype.kind == "f" and not are_bounds(column.values):
        return np.where(column.seen, column.values, np.nan)
    values = np.empty(len(column.seen), dtype=object)
    values[:] = list(column.values)
    values[~column.seen] = None
    return values
