"""`ColumnInputs`: a step of pipelines, from the columns of one table to several inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted, validate_data

from sklearn_mtl._data.parts import MultiInput

__all__ = ["ColumnInputs"]


class ColumnInputs(TransformerMixin, BaseEstimator):
    """Makes a `MultiInput` of columns of a table, each part by a transformer.

    As :class:`sklearn.compose.ColumnTransformer`, but what the transformers return stays apart: a
    part of X may be images. The first step of a pipeline where a table names photographs, and has
    columns of its own.

    Parameters
    ----------
    transformers : list of tuple (name, transformer, columns)
        Name of the part; transformer, such as an :class:`ImageReader`, a pipeline or
        'passthrough'; and its columns: names or positions in a list, a single one, a slice, a mask,
        or a callable of X such as :func:`sklearn.compose.make_column_selector`. A single column
        that is not in a list goes to the transformer as a Series. Parameters of transformers can be
        searched, as ``image__size``.

    Attributes
    ----------
    transformers_ : list of tuple (name, transformer, columns)
        Fitted.
    n_features_in_ : int
        Columns of the table in `fit`. Where all are chosen by name, others may come and go.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if all are strings.

    See Also
    --------
    MultiInput : What it returns.

    Examples
    --------
    >>> from sklearn.impute import SimpleImputer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_mtl import MultiTaskCNNEstimator
    >>> from sklearn_mtl.datasets import ColumnInputs, ImageReader
    >>> inputs = ColumnInputs(
    ...     [
    ...         ("image", ImageReader(size=64, root="photographs"), "file"),
    ...         ("table", SimpleImputer(), ["age", "weight"]),
    ...     ]
    ... )
    >>> pipeline = make_pipeline(inputs, MultiTaskCNNEstimator())
    """

    def __init__(self, transformers: list[tuple[str, Any, Any]]) -> None:
        self.transformers = transformers

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; `deep`, the transformers and theirs too, as ``image__size``."""
        params: dict[str, Any] = super().get_params(deep=False)
        if deep:
            for name, transformer, _ in self.transformers:
                params[name] = transformer
                if hasattr(transformer, "get_params"):
                    nested = transformer.get_params().items()
                    params |= {f"{name}__{key}": value for key, value in nested}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, transformers by their names, and parameters of theirs."""
        if "transformers" in params:
            self.transformers = params.pop("transformers")
        whole = {name: params.pop(name) for name, _, _ in self.transformers if name in params}
        if whole:
            self.transformers = [(n, whole.get(n, t), c) for n, t, c in self.transformers]
        return super().set_params(**params)

    def fit(self, X: Any, y: Any = None) -> ColumnInputs:
        """Fit the transformers to their columns.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns)
            Table.
        y : array-like, default=None
            For transformers that look at it.
        """
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> MultiInput:
        """Fit the transformers to their columns, and return the parts.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns)
            Table.
        y : array-like, default=None
            For transformers that look at it.

        Returns
        -------
        parts : MultiInput of n_samples rows

        Raises
        ------
        ValueError
            If `transformers` is no list of triples, or X does not have the columns.
        """
        parts, fitted = {}, []
        for name, transformer, columns in self._steps():
            columns = columns(X) if callable(columns) else columns
            values = _columns_of(X, columns, name)
            if transformer != "passthrough":
                transformer = clone(transformer)
                values = transformer.fit_transform(values, y)
            parts[name] = values
            fitted.append((name, transformer, columns))
        found = MultiInput(**parts)
        validate_data(self, X, skip_check_array=True)
        self.transformers_ = fitted
        return found

    def transform(self, X: Any) -> MultiInput:
        """Return the parts.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns)
            Table.

        Returns
        -------
        parts : MultiInput of n_samples rows

        Raises
        ------
        ValueError
            If X does not have the columns; or if some are chosen by their places, and X has others
            than in `fit`, or another order.
        """
        check_is_fitted(self)
        if not all(_are_names(columns) for _, _, columns in self.transformers_):
            validate_data(self, X, reset=False, skip_check_array=True)
        parts = {}
        for name, transformer, columns in self.transformers_:
            values = _columns_of(X, columns, name)
            parts[name] = values if transformer == "passthrough" else transformer.transform(values)
        return MultiInput(**parts)

    def _steps(self) -> Iterator[tuple[str, Any, Any]]:
        steps = self.transformers if isinstance(self.transformers, list | tuple) else ()
        if not steps or not all(isinstance(s, tuple | list) and len(s) == 3 for s in steps):
            raise ValueError(
                f"transformers={self.transformers!r} is no list of (name, transformer, columns)."
            )
        names = [name for name, _, _ in steps]
        if len(set(names)) < len(names) or "transformers" in names:
            raise ValueError(
                f"transformers has the names {names}. Give each part another one, and none of them "
                "'transformers'."
            )
        for name, transformer, columns in steps:
            if transformer != "passthrough" and not hasattr(transformer, "transform"):
                raise ValueError(
                    f"transformers has {transformer!r} for {name!r}. Pass an object with `fit` and "
                    "`transform`, or 'passthrough'."
                )
            yield name, transformer, columns

    def __sklearn_tags__(self) -> Any:
        """Say that it takes text, and holes where its transformers do."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        return tags


def _are_names(columns: Any) -> bool:
    """Tell columns that are found by names, each by its own, wherever they stand."""
    if isinstance(columns, str):
        return True
    return isinstance(columns, Iterable) and all(isinstance(name, str) for name in columns)


def _columns_of(X: Any, columns: Any, name: str) -> Any:
    try:
        return _safe_indexing(X, columns, axis=1)
    except Exception as error:  # of containers that are not ours
        known = getattr(X, "columns", None)
        there = "" if known is None else f" It has {list(known)}."
        raise ValueError(
            f"X has no columns {columns!r}, of which part {name!r} is made.{there}"
        ) from error
