"""`SaliencyDisplay`: where in an image, and at which columns of a table, each task looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sklearn_mtl._data.fused import as_inputs
from sklearn_mtl._data.rows import take_rows
from sklearn_mtl._fitted import fitted_of, through
from sklearn_mtl.plotting.axes import BLUE, GREY, axes_for, pyplot, shortened
from sklearn_mtl.plotting.gradients import as_effects, as_maps, mean_gradients
from sklearn_mtl.plotting.pictures import pictures_of
from sklearn_mtl.plotting.reading import choose, chosen_rows, n_rows, said

__all__ = ["SaliencyDisplay"]

FloatArray = NDArray[np.float64]

N_IMAGES = 6  # unless rows are named
N_TASKS = 5  # unless they are named
N_FEATURES = 8  # of a table, those that change predictions most


class SaliencyDisplay:
    """Images, and below each where the tasks look: the pixels that would change a prediction.

    What is mapped is the size of the gradient of the number, or of the logarithm of the probability
    of the predicted class, in the mean over copies of the image with a little noise (SmoothGrad
    [1]_). Of several inputs, such as an image and a table, bars below each map are for the rest:
    how much the prediction changes with each column of the table. It is recommended to make one by
    `from_estimator`. All parameters are stored as attributes.

    Parameters
    ----------
    images : ndarray of shape (n_images, H, W) or (n_images, H, W, 3)
        Grey values or colours from 0 to 1.
    saliency : dict of str to ndarray of shape (n_images, H, W)
        Map of each task.
    y_pred : dict of str to ndarray of shape (n_images,), default=None
        Predictions, to stand below the maps.
    rows : array-like of int of shape (n_images,), default=None
        Numbers of the images, for their titles.
    effects : dict of str to DataFrame of shape (n_images, n_features), default=None
        What stands beside the images: for each task the size of the gradient, times the standard
        deviation of each feature in the training. None if there is nothing.

    Attributes
    ----------
    images_ : list of AxesImage
        The images.
    maps_ : dict of str to list of AxesImage
        Maps of each task, over the images.
    axes_ : ndarray of Axes of shape (n_tasks + 1, n_images)
        Axes of the images, and below of the maps of each task.
    bars_ : dict of str to list of BarContainer
        Bars of each task, of the 8 features that change it most; those of a task have one scale.
    bar_axes_ : ndarray of Axes of shape (n_tasks, n_images), or None
        Axes of the bars.
    figure_ : matplotlib Figure
        Figure that holds them.

    References
    ----------
    .. [1] D. Smilkov, N. Thorat, B. Kim, F. Viegas, M. Wattenberg, "SmoothGrad: removing noise by
       adding noise", 2017, arXiv:1706.03825.

    Examples
    --------
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.datasets import make_digit_scenes
    >>> from sklearn_mtl.plotting import SaliencyDisplay
    >>> X, y = make_digit_scenes(60, size=16, random_state=0)
    >>> estimator = MultiTaskCNNEstimator(max_epochs=2, random_state=0).fit(X, y)
    >>> display = SaliencyDisplay.from_estimator(estimator, X, rows=[0, 1])
    >>> display.axes_.shape
    (4, 2)
    """

    def __init__(
        self,
        images: FloatArray,
        saliency: dict[str, FloatArray],
        *,
        y_pred: dict[str, NDArray[Any]] | None = None,
        rows: Any = None,
        effects: dict[str, pd.DataFrame] | None = None,
    ) -> None:
        self.images = images
        self.saliency = saliency
        self.y_pred = y_pred
        self.rows = rows
        self.effects = effects

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        rows: Any = None,
        tasks: Any = None,
        n_copies: int = 16,
        noise: float = 0.1,
        random_state: int = 0,
        ax: Any = None,
        **kwargs: Any,
    ) -> SaliencyDisplay:
        """Map where a fitted estimator looks, and plot.

        Parameters
        ----------
        estimator : MultiTaskCNNEstimator, Pipeline, search or FrozenEstimator
            Fitted to images, or to several inputs with images among them. X goes through the
            transformers of a pipeline.
        X : array-like of shape (n_samples, ...)
            As the estimator takes it; of volumes, the middle slice is shown. Of several inputs, the
            first one that holds images is, features of tables have a bar each, and all else has one
            bar for the whole input.
        rows : array-like of int, default=None
            Rows to show. None is the first 6.
        tasks : str or list of str, default=None
            Names of the tasks to map. None is the first 5.
        n_copies : int, default=16
            Copies with noise over which the gradient is averaged.
        noise : float, default=0.1
            Standard deviation of the noise, as a share of the range of the values that are shown,
            and of the standard deviation of each feature of a table. 0 gives the plain gradient.
        random_state : int, default=0
            Seed of the noise.
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : SaliencyDisplay
            It holds images and maps, and what was drawn.

        Raises
        ------
        ValueError
            If the estimator was not fitted to images, or a parameter does not fit.
        """
        pyplot(cls.__name__)
        fitted = fitted_of(estimator)
        if not (isinstance(n_copies, int | np.integer) and n_copies > 0 and noise >= 0):
            raise ValueError(
                f"n_copies={n_copies!r} or noise={noise!r} does not fit. Pass a number of copies "
                "from 1, and a noise from 0."
            )
        names = fitted.encoder.names
        shown = choose(names, tasks)[: N_TASKS if tasks is None else None]
        rows = chosen_rows(rows, n_rows(X), N_IMAGES)
        X = through(estimator, take_rows(X, rows))
        inputs = as_inputs(X)
        images = pictures_of(fitted.reader, inputs, len(rows))
        parts = fitted.reader.each(inputs)
        image = next(part for part, reader, _ in parts if len(reader.input_shape_) >= 3)
        predicted = fitted.decode(X)
        maps, effects = {}, {}
        for k in shown:
            generator = torch.Generator().manual_seed(random_state)
            how = (noise, n_copies, generator)
            gradients = mean_gradients(fitted, names[k], inputs, len(rows), *how)
            maps[names[k]] = as_maps(gradients[image])
            effects[names[k]] = as_effects(fitted, inputs, gradients, image)
        display = cls(
            images,
            maps,
            y_pred={names[k]: predicted[k] for k in shown},
            rows=rows,
            effects=effects if len(fitted.reader.names) > 1 else None,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(
        self, ax: Any = None, *, cmap: str = "inferno", alpha: float = 0.75
    ) -> SaliencyDisplay:
        """Show images and maps.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            Axes for each panel, or one to be divided; None makes a new figure.
        cmap : str, default='inferno'
            Colours of the maps.
        alpha : float, default=0.75
            How much a map covers of its image, from 0 to 1.

        Returns
        -------
        display : SaliencyDisplay
            The object itself.
        """
        n, names = len(self.images), list(self.saliency)
        lines = 1 if self.effects is None else 2  # of a task
        axes = axes_for(type(self).__name__, ax, n * (len(names) * lines + 1), (1.6, 1.75), n)
        grid = axes.reshape(-1, n)
        self.axes_ = grid[[0, *range(1, len(grid), lines)]]
        self.bar_axes_ = None if self.effects is None else grid[2::2]
        self.figure_ = axes[0].figure
        gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if self.images.ndim == 3 else {}
        self.images_ = self._row(self.axes_[0], self.images, gray)
        self.maps_: dict[str, list[Any]] = {}
        for name, row in zip(names, self.axes_[1:], strict=True):
            self._row(row, self.images, gray)
            maps = self.saliency[name]
            tops = [max(float(np.quantile(each, 0.995)), 1e-300) for each in maps]
            looks = [{"cmap": cmap, "alpha": alpha, "vmin": 0, "vmax": top} for top in tops]
            self.maps_[name] = [
                each_ax.imshow(each, **look)
                for each_ax, each, look in zip(row, maps, looks, strict=True)
            ]
            row[0].set_ylabel(shortened(name, 20), fontsize="small")
            if self.y_pred is not None:
                for each_ax, predicted in zip(row, self.y_pred[name], strict=True):
                    each_ax.set_xlabel(said(predicted), fontsize="small")
        self.bars_: dict[str, list[Any]] = {}
        if self.effects is not None:
            for name, row in zip(names, grid[2::2], strict=True):
                self.bars_[name] = self._bars(row, self.effects[name])
        for i, each_ax in enumerate(self.axes_[0] if self.rows is not None else ()):
            each_ax.set_title(f"row {self.rows[i]}", fontsize="small", color=GREY)
        return self

    def _row(self, axes: Sequence[Any], images: FloatArray, look: dict[str, Any]) -> list[Any]:
        """Show the images, and no numbers of pixels."""
        for ax in axes:
            ax.set(xticks=[], yticks=[])
        return [ax.imshow(image, **look) for ax, image in zip(axes, images, strict=True)]

    def _bars(self, axes: Sequence[Any], effects: pd.DataFrame) -> list[Any]:
        """Draw a bar for each feature, all of them on one scale."""
        most = effects.mean().nlargest(N_FEATURES).index
        effects = effects.loc[:, effects.columns.isin(most)]
        places, widths = np.arange(effects.shape[1]), effects.to_numpy()
        bars = [ax.barh(places, each, color=BLUE) for ax, each in zip(axes, widths, strict=True)]
        for ax in axes:
            ax.set(xlim=(0, 1.05 * float(widths.max()) or 1), xticks=[], yticks=[])
            ax.invert_yaxis()
        axes[0].set_yticks(places, [shortened(name, 14) for name in effects], fontsize="small")
        return bars
