"""`ImageReader`: a step of pipelines, from a column of paths to images."""

from __future__ import annotations

import os
from typing import Any

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import validate_data

from sklearn_mtl.datasets.images import ImageFiles

__all__ = ["ImageReader"]


# Images are no table: they have no names of columns, and `set_output` is not for them.
class ImageReader(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Takes the column of a table that holds paths of images, and returns them as `ImageFiles`.

    The first step of a pipeline, where rows of a CSV name photographs. Nothing is learned from
    them, and images are decoded when the next step reads them. It needs Pillow:
    ``pip install "sklearn-mtl[images]"``.

    Parameters
    ----------
    column : str or int, default=None
        Name, or position, of the column. None if X is a list, a Series or a frame of one column.
        Of a table that is read by a name, other columns may come and go.
    size : int or (int, int), default=224
        Height and width of all; an int means both.
    root : str or Path, default=None
        This and all others are those of :class:`ImageFiles`.
    mode : {'RGB', 'L', 'RGBA'}, default='RGB'
        Colours, grey, or colours with transparency.
    resize : {'pad', 'crop', 'stretch'}, default='pad'
        How an image of other proportions gets its size.
    background : int or (int, int, int), default=0
        What it is padded with.
    cache : int, default=268435456
        Bytes of decoded images to keep in memory. Each table that is transformed has a cache of its
        own, and files may change in between.
    n_jobs : int, default=None
        Threads that decode files.

    Attributes
    ----------
    n_features_in_ : int
        Columns of the table in `fit`, if it was one.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

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

    For a :class:`~sklearn.compose.ColumnTransformer`, whose parts are tables, a second step makes
    rows of the images, in memory:

    >>> import numpy as np
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> def flat(images):
    ...     return np.asarray(images).reshape(len(images), -1)
    >>> rows = make_pipeline(ImageReader(size=64, root="photographs"), FunctionTransformer(flat))
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

        Returns
        -------
        self : ImageReader
            The reader itself.

        Raises
        ------
        ValueError
            If there is no such column, or a parameter is not as described.
        """
        self._files(self._paths(X)[:0])
        validate_data(self, X, skip_check_array=True)
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
            Read when they are needed.

        Raises
        ------
        ValueError
            If there is no such column, or files are missing, empty or no images. Rows without a
            path are refused by the estimator, unless they have other inputs, see `MultiInput`.
        """
        if isinstance(self.column, int) and hasattr(self, "n_features_in_"):
            validate_data(self, X, reset=False, skip_check_array=True)
        return self._files(self._paths(X))

    def _paths(self, X: Any) -> Any:
        if hasattr(X, "toarray"):
            raise TypeError(f"X is a sparse {type(X).__name__}. Pass a table with paths.")
        if hasattr(X, "collect") and not hasattr(X, "__len__"):
            raise ValueError(
                f"X is a {type(X).__name__}, which is not computed yet. Pass X.collect()."
            )
        column: Any = self.column
        if column is None:
            return X
        columns = getattr(X, "columns", ())
        try:
            if isinstance(column, tuple):  # a name of several levels
                return X[column]
            return _safe_indexing(X, column, axis=1)
        except Exception as error:  # of containers that are not ours
            known = f", but {list(columns)}" if len(columns) else ""
            raise ValueError(f"X has no column {column!r}{known}.") from error

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
        """Say that it takes paths and no numbers, and need not be fitted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        tags.requires_fit = False
        return tags
