"""`ColumnInputs`: a step of pipelines, from the columns of one table to several inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Self

from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from sklearn_mtl._data.parts import MultiInput, is_part_name

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
            for name, transformer, _ in self._triples():
                params[name] = transformer
                if hasattr(transformer, "get_params") and not isinstance(transformer, type):
                    nested = transformer.get_params().items()
                    params |= {f"{name}__{key}": value for key, value in nested}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, transformers by their names, and parameters of theirs.

        Raises
        ------
        ValueError
            If there is no such parameter, or a transformer is 'passthrough' and has none.
        """
        if "transformers" in params:
            self.transformers = params.pop("transformers")
        triples = self._triples()
        whole = {name: params.pop(name) for name, _, _ in triples if name in params}
        if whole:
            self.transformers = triples = [(n, whole.get(n, t), c) for n, t, c in triples]
        known = {name: transformer for name, transformer, _ in triples}
        for name in params:
            part = known.get(name.partition("__")[0])
            if part is not None and not hasattr(part, "set_params"):
                raise ValueError(
                    f"{name} cannot be set: the transformer of this part is {part!r}, which has no "
                    "parameters. Pass one that has."
                )
        return super().set_params(**params)

    def fit(self, X: Any, y: Any = None) -> ColumnInputs:
        """Fit the transformers to their columns.

        Parameters
        ----------
        X : {frame, array-like} of shape (n_samples, n_columns)
            Table.
        y : array-like, default=None
            For transformers that look at it.

        Returns
        -------
        self : ColumnInputs
            The fitted transformer.
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
            What each transformer makes of its columns, by their names.

        Raises
        ------
        ValueError
            If `transformers` is no list of triples, or X does not have the columns.
        """
        parts, fitted = {}, []
        X = _table(X)
        for name, transformer, columns in self._steps():
            columns = columns(X) if callable(columns) else columns
            values = _columns_of(X, columns, name)
            if not _is_passthrough(transformer):
                transformer = clone(transformer)
                if hasattr(transformer, "fit_transform"):
                    values = transformer.fit_transform(values, y)
                else:
                    values = transformer.fit(values, y).transform(values)
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
            What each transformer makes of its columns, by their names.

        Raises
        ------
        ValueError
            If X does not have the columns; or if some are chosen by their places, and X has others
            than in `fit`, or another order.
        """
        check_is_fitted(self)
        X, parts = _table(X), {}
        if not all(_are_names(columns) for _, _, columns in self.transformers_):
            validate_data(self, X, reset=False, skip_check_array=True)
        for name, transformer, columns in self.transformers_:
            values = _columns_of(X, columns, name)
            parts[name] = values if _is_passthrough(transformer) else transformer.transform(values)
        return MultiInput(**parts)

    def _triples(self) -> list[tuple[str, Any, Any]]:
        """Return what `transformers` has that is a triple, as parameters are not checked yet."""
        given: Any = self.transformers
        steps = given if isinstance(given, list | tuple) else []
        return [tuple(s) for s in steps if isinstance(s, list | tuple) and len(s) == 3]

    def _steps(self) -> Iterator[tuple[str, Any, Any]]:
        steps = self._triples()
        if not steps or len(steps) < len(self.transformers):
            raise ValueError(
                f"transformers={self.transformers!r} is no list of (name, transformer, columns)."
            )
        names = [name for name, _, _ in steps]
        if bad := [name for name in names if not is_part_name(name)]:
            raise ValueError(
                f"transformers has a part called {bad[0]!r}. Names stand in parameters such as "
                "image__size: pass a text without two underscores."
            )
        if len(set(names)) < len(names) or "transformers" in names:
            raise ValueError(
                f"transformers has the names {names}. Give each part another one, and none of them "
                "'transformers'."
            )
        for name, transformer, columns in steps:
            is_object = hasattr(transformer, "transform") and not isinstance(transformer, type)
            if not (is_object or _is_passthrough(transformer)):
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


def _is_passthrough(transformer: Any) -> bool:
    return isinstance(transformer, str) and transformer == "passthrough"


def _table(X: Any) -> Any:
    """Return a list of rows as an array, and what has columns as it is."""
    if not isinstance(X, list | tuple):
        return X
    return check_array(X, dtype=object, ensure_all_finite=False, input_name="X")


def _columns_of(X: Any, columns: Any, name: str) -> Any:
    try:
        found = _safe_indexing(X, columns, axis=1)
    except Exception as error:  # of containers that are not ours
        known = getattr(X, "columns", None)
        there = "" if known is None else f" It has {list(known)}."
        raise ValueError(
            f"X has no columns {columns!r}, of which part {name!r} is made.{there}"
        ) from error
    if found.shape[1:] == (0,):
        raise ValueError(
            f"Part {name!r} has no columns: {columns!r} are none. Choose some, or leave it out."
        )
    return found
