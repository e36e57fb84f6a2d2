"""`ImageReader`: a step of pipelines, from a column of paths to images."""

from __future__ import annotations

import os
from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import _safe_indexing

from sklearn_mtl.datasets.images import ImageFiles

__all__ = ["ImageReader"]


class ImageReader(TransformerMixin, BaseEstimator):
    """Takes the column of a table that holds paths of images, and returns them as `ImageFiles`.

    The first step of a pipeline, where rows of a CSV name photographs. Nothing is learned, and
    images are decoded when the next step reads them. It needs Pillow:
    ``pip install "sklearn-mtl[images]"``.

    Parameters
    ----------
    column : str or int, default=None
        Name, or position, of the column. None if X is a list, a Series or a frame of one column.
    size : int or (int, int), default=224
        Height and width of all; an int means both.
    root : str or Path, default=None
        Folder that relative paths start from; None is the working directory.
    mode : {'RGB', 'L', 'RGBA'}, default='RGB'
        Colours, grey, or colours with transparency.
    resize : {'pad', 'crop', 'stretch'}, default='pad'
        How an image of other proportions gets its size; see :class:`ImageFiles`.
    background : int or (int, int, int), default=0
        Grey, or red, green and blue, from 0 to 255: where an image is padded, and where it is
        transparent, unless `mode` is 'RGBA'.
    cache : int, default=268435456
        Bytes of decoded images to keep in memory, for each X that is read.
    n_jobs : int, default=None
        Threads that decode files. None takes as many as torch computes with, -1 as many as there
        are processors.

    See Also
    --------
    ImageFiles : What it returns.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.datasets import ImageReader
    >>> pipeline = make_pipeline(
    ...     ImageReader("file", size=64, root="photographs"), MultiTaskCNNEstimator()
    ... )
    """

    def __init__(
        self,
        column: str | int | None = None,
        *,
        size: int | tuple[int, int] = 224,
        root: str | os.PathLike[str] | None = None,
        mode: str = "RGB",
        resize: str = "pad",
        background: int | tuple[int, int, int] = 0,
        cache: int = 2**28,
        n_jobs: int | None = None,
    ) -> None:
        self.column = column
        self.size = size
        self.root = root
        self.mode = mode
        self.resize = resize
        self.background = background
        self.cache = cache
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any = None) -> ImageReader:
        """Check the parameters; there is nothing to learn.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns) or (n_samples,)
            Table with the column of paths.
        y : None
            Is not looked at.
        """
        self._files(self._paths(X)[:0])
        return self

    def transform(self, X: Any) -> ImageFiles:
        """Return the images of the rows of X.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns) or (n_samples,)
            Table with the column of paths.

        Returns
        -------
        images : ImageFiles of shape (n_samples, n_channels, height, width)

        Raises
        ------
        ValueError
            If there is no such column, a row has no path, or files are missing, empty or no images.
        """
        return self._files(self._paths(X))

    def _paths(self, X: Any) -> Any:
        if self.column is None:
            return X
        try:
            return _safe_indexing(X, self.column, axis=1)
        except Exception as error:  # of containers that are not ours
            columns = getattr(X, "columns", None)
            known = "" if columns is None else f", but {list(columns)}"
            raise ValueError(f"X has no column {self.column!r}{known}.") from error

    def _files(self, paths: Any) -> ImageFiles:
        return ImageFiles(
            *(paths, self.size),
            root=self.root,
            mode=self.mode,
            resize=self.resize,
            background=self.background,
            cache=self.cache,
            n_jobs=self.n_jobs,
        )

    def __sklearn_tags__(self) -> Any:
        """Say that it takes text, and need not be fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags
