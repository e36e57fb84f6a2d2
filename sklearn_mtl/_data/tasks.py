"""What the columns of y are: `Task`, and inference."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_mtl._data.bounds import are_measured
from sklearn_mtl._data.geometry import Geometry
from sklearn_mtl._data.tables import Column
from sklearn_mtl.kinds import KINDS, Kind
from sklearn_mtl.kinds.bounds import are_bounds
from sklearn_mtl.kinds.censored import censored
from sklearn_mtl.kinds.values import is_hole, plain

__all__ = ["Task", "naming", "resolve_tasks", "warn_together"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Task:
    """One column of y: its name, its kind, and the condition under which it exists.

    Parameters
    ----------
    name : str
        Column name. Matches frames by name and arrays by position.
    kind : str or Kind
        What the column holds, and what is predicted of it; a name, or an object of
        `sklearn_mtl.kinds`, such as one of your own with parameters:

        - 'classification': classes; the most probable one.
        - 'ordinal': classes from low to high; the median one.
        - 'regression': numbers; their mean, by squared error.
        - 'quantile': numbers; a quantile of them, by the pinball loss.
        - 'poisson': counts or rates >= 0; their mean, by the Poisson deviance with a log link.
        - 'gamma': amounts > 0; their mean, by the gamma deviance with a log link.
    given : tuple (task, label) or (task, array-like of labels), default=None
        The target exists only where class task ``task`` takes ``label`` (one of the labels).
        Elsewhere it is *not applicable*: it must be NaN there, and gives no loss. A gate may be
        conditional itself.
    quantile : float in (0, 1), default=None
        Level, for kind 'quantile'; None is 0.5, the median.
    categories : sequence of labels, default=None
        All labels that there can be, for kinds 'classification' and 'ordinal', of the latter from
        low to high. They are `classes_`, in whatever rows they are observed, so that folds,
        validation data and streams may hold labels that the training rows lack; others are
        refused. None takes the labels that are observed, and for 'ordinal' the order of y's type
        (ordered categories of pandas, an Enum of polars), or that of numbers.
    threshold : float in (0, 1), str or callable, default=None
        For kind 'classification' with two classes: the probability of the second label, in sorted
        order, from which on it is predicted, and from which on a gate that it opens holds. A scorer
        of scikit-learn or its name, such as 'f1' or 'balanced_accuracy', or a metric
        ``(y_true, y_pred, sample_weight=...)`` of codes 0 and 1 tunes it on rows that were not
        trained on (`oob_decision_function_`, or validation data). None predicts the most probable
        label.
    calibration : 'sigmoid', default=None
        For kind 'classification': scale and shift the logits of probabilities until these are
        frequencies of rows that were not trained on, whatever ``class_weight`` is. None shrinks
        them, on the same rows, by a slope of at most 1; with class weights they are frequencies of
        weighted rows.
    lower, upper : str, default=None
        Names of two columns of y that hold bounds of the target instead of a column `name`, for
        kinds 'regression' and 'gamma'. Both are the same where it is exact; NaN in one is no bound
        on that side, NaN in both is a hole. An array holds the two side by side. Without, a column
        of `pandas.Interval` says the same.
    geometry : str or tuple (str, low, high), default=None
        What a number says of an image, with which it moves when images are changed at random in
        training (``augment=``, and the shifts of `ConvTrunk`):

        - 'x', 'y': a place, as a share of the width from the left edge, or of the height from the
          upper one; ``('x', 0, 64)`` in pixels of 64. Both count as not observed where the place
          has left the image. The first 'x' belongs to the first 'y', the second to the second.
        - 'length', 'area', 'log_length', 'log_area': a size, or the natural logarithm of one. (The
          sides of a box along the edges are lengths as long as images are not turned.)
        - 'angle': a direction in degrees, from the x axis to the right towards the y axis,
          downwards, from 0 to 360; ``('angle', 0, 180)`` of an axis, which has two ends; with a
          range of 2 pi or pi, in radians. It is a number like others, for which the two ends of the
          range are far apart: choose them where directions are rare.
        - 'invariant': what stays the same, such as a count.

        None stays the same too, and is refused where images are mirrored, turned or scaled.

    See Also
    --------
    sklearn_mtl.kinds : The kinds.

    Examples
    --------
    >>> from sklearn_mtl import Task
    >>> Task("size", "regression", given=("defect", "yes"))
    Task('size', 'regression', given=('defect', 'yes'))
    >>> Task("wait", "quantile", quantile=0.9)
    Task('wait', 'quantile', quantile=0.9)

    The same by an object:

    >>> from sklearn_mtl.kinds import QuantileTarget
    >>> Task("wait", QuantileTarget(0.9))
    Task('wait', QuantileTarget(quantile=0.9))
    """

    name: str
    kind: str | Kind
    given: tuple[str, Any] | None = None
    quantile: float | None = None
    categories: Sequence[Any] | None = None
    threshold: float | str | Callable[..., float] | None = None
    calibration: str | None = None
    lower: str | None = None
    upper: str | None = None
    geometry: str | tuple[str, float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"Task name must be a str, not empty, got {self.name!r}.")
        if isinstance(self.kind, type) and issubclass(self.kind, Kind):
            raise ValueError(
                f"Task {self.name!r}: kind={self.kind.__name__} is a class. Pass an object: "
                f"{self.kind.__name__}(...)."
            )
        if not (isinstance(self.kind, Kind) or (isinstance(self.kind, str) and self.kind in KINDS)):
            raise ValueError(
                f"Task {self.name!r}: kind={self.kind!r} is unknown. Use one of {sorted(KINDS)}, "
                "or an object of sklearn_mtl.kinds."
            )
        if isinstance(self.given, tuple) and len(self.given) == 2:
            gate, labels = self.given
            # Arrays do not compare as one, and NaN in `series.unique()` is no label.
            labels = labels.tolist() if hasattr(labels, "tolist") else labels
            if isinstance(labels, Iterable) and not isinstance(labels, str | bytes):
                labels = _known(labels)
            object.__setattr__(self, "given", (gate, None if is_hole(labels) else labels))
        if self.given is not None and not (
            isinstance(self.given, tuple) and len(self.given) == 2 and self.labels
        ):
            raise ValueError(
                f"Task {self.name!r}: given={self.given!r} is not understood. "
                "Use given=(task, label) or given=(task, [labels])."
            )
        categories: Any = self.categories
        if isinstance(categories, Iterator):  # which can be read once
            object.__setattr__(self, "categories", tuple(categories))
        with naming(self):
            self.make_kind()
            self._check_bounds()
            self._check_geometry()
        if self.categories is not None:  # arrays would not compare as one
            object.__setattr__(self, "categories", tuple(plain(self.categories)))

    def _check_bounds(self) -> None:
        """Refuse one bound without the other, and bounds of what has none."""
        bounds = {"lower": self.lower, "upper": self.upper}
        if self.lower is None and self.upper is None:
            return
        for name, column in bounds.items():
            if not isinstance(column, str) or not column:
                raise ValueError(
                    f"{name}={column!r} is no name of a column. Pass both, lower= and upper=; a "
                    "column of NaN is no bound on that side."
                )
        if self.lower == self.upper:
            raise ValueError(f"lower and upper are both {self.lower!r}. Name two columns.")
        censored(self.make_kind())

    def _check_geometry(self) -> None:
        """Refuse what is not understood, and what the kind cannot hold."""
        if self.geometry is None:
            return
        given: Any = self.geometry
        if isinstance(given, list):
            object.__setattr__(self, "geometry", tuple(given))
        geometry, kind = Geometry.of(given), self.make_kind()
        if kind.is_class:
            raise ValueError(f"geometry={self.geometry!r} is of numbers, not of classes.")
        is_free = kind.bounds == (-np.inf, np.inf)
        is_amount = self.kind_name == "gamma" and geometry.name in ("length", "area")
        if geometry.moves and not (is_free or is_amount):
            raise ValueError(
                f"kind={self.kind_name!r} holds no {geometry.name!r}. Declare it as 'regression', "
                "or pass geometry='invariant' if it stays the same."
            )

    @property
    def kind_name(self) -> str:
        """Name of the kind: that by which it is known, or that of its class."""
        if isinstance(self.kind, str):
            return self.kind
        names = [name for name, kind in KINDS.items() if kind is type(self.kind)]
        return names[0] if names else type(self.kind).__name__

    def make_kind(self) -> Kind:
        """Make the kind, not fitted.

        Returns
        -------
        kind : Kind
            A new one of the name, or a copy of the one that was passed.
        """
        options = ("quantile", "categories", "threshold", "calibration")
        params = {name: getattr(self, name) for name in options}
        params = {name: value for name, value in params.items() if value is not None}
        if isinstance(self.kind, Kind):
            if params:
                raise ValueError(f"pass {', '.join(params)} to {type(self.kind).__name__} instead.")
            return copy.deepcopy(self.kind)
        unknown = [name for name in params if name not in signature(KINDS[self.kind]).parameters]
        if unknown:
            raise ValueError(f"kind={self.kind!r} takes no {unknown[0]}=. Leave it out.")
        return KINDS[self.kind](**params)

    def with_order(self, order: Sequence[Any] | None) -> Task:
        """Return the task with an order of its labels, if its kind needs one and lacks it.

        Parameters
        ----------
        order : sequence of labels, or None
            From low to high; None if it is not known.

        Returns
        -------
        task : Task
            The task itself where nothing is to be added.
        """
        kind = self.make_kind().ordered(order)
        if kind == self.make_kind():
            return self
        return replace(self, kind=kind, quantile=None, categories=None)

    def __repr__(self) -> str:
        options = [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]
        shown = [f"{name}={value!r}" for name, value in options if value is not None]
        return f"Task({', '.join([repr(self.name), repr(self.kind), *shown])})"

    @property
    def labels(self) -> list[Any]:
        """Labels of the gate under which the target exists."""
        labels = None if self.given is None else self.given[1]
        if labels is None:
            return []
        return list(labels) if isinstance(labels, list | tuple) else [labels]


def _known(labels: Iterable[Any]) -> list[Any] | tuple[Any, ...]:
    found = plain(label for label in labels if not is_hole(label))
    return tuple(found) if isinstance(labels, tuple) else found


def _infer_kind(column: Column) -> str:
    """Classification for bools, strings, categories and 0/1 numbers; else regression.

    Intervals that are bins are classes, too; others are numbers within bounds.
    """
    values = column.observed
    if column.categorical:
        return "classification"
    if are_bounds(values) or are_measured(values):
        return "regression"
    zero_one = len(values) > 0 and bool(np.isin(values, (0, 1)).all())
    return "classification" if values.dtype.kind in "bOU" or zero_one else "regression"


def resolve_tasks(
    tasks: Any, names: list[str], columns: list[Column], named: bool
) -> list[tuple[Task, Column]]:
    """Pair every column of y with its task, in output order."""
    inferred = [Task(n, _infer_kind(c)) for n, c in zip(names, columns, strict=True)]
    if tasks is None:
        return list(zip(inferred, columns, strict=True))
    if isinstance(tasks, Mapping):
        unknown = [name for name in tasks if name not in names]
        if unknown:
            mend = "" if named else " Pass a frame whose columns have names, all of them text."
            raise ValueError(f"tasks names {unknown}, which are not columns of y: {names}.{mend}")
        declared = {**{t.name: t for t in inferred}, **tasks}
        listed = [t if isinstance(t, Task) else Task(name, t) for name, t in declared.items()]
        renamed = [t.name for t, name in zip(listed, names, strict=True) if t.name != name]
        if renamed:
            raise ValueError(f"tasks holds {renamed} under another name. Use the name of the task.")
        return list(zip(listed, columns, strict=True))
    listed = list(tasks)
    if not all(isinstance(task, Task) for task in listed) or not listed:
        raise ValueError(
            f"tasks={tasks!r} is not understood. Pass None, a list of Task, such as "
            "[Task('size', 'regression')], or a dict such as {'size': 'regression'}."
        )
    if len({task.name for task in listed}) < len(listed):
        raise ValueError(f"tasks holds a name twice: {[task.name for task in listed]}.")
    if not named:
        if len(listed) != len(columns):
            raise ValueError(
                f"y has {len(columns)} columns, but tasks lists {len(listed)}: "
                f"{[task.name for task in listed]}. List one task per column."
            )
        return list(zip(listed, columns, strict=True))
    by_name = dict(zip(names, columns, strict=True))
    absent = [task.name for task in listed if task.name not in by_name]
    unlisted = [name for name in names if name not in {task.name for task in listed}]
    if absent or unlisted:
        raise ValueError(
            f"tasks and the columns of y differ: tasks without a column {absent}, columns without "
            f"a task {unlisted}. List one task per column, or drop the columns from y."
        )
    return [(task, by_name[task.name]) for task in listed]


@contextmanager
def naming(task: Task) -> Iterator[None]:
    """Put the name of the task before an error."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"Task {task.name!r}: {error}") from error


def warn_together(
    messages: Mapping[str, str], category: type[Warning] = UserWarning, stacklevel: int = 2
) -> None:
    """Warn once of several tasks: with the message of the first one, and the names of the others.

    Parameters
    ----------
    messages : dict of str to str
        By the name of the task; nothing is said if there are none.
    category : type of Warning
    stacklevel : int
        As in `warnings.warn`, seen from the caller.
    """
    if not messages:
        return
    _, *others = messages
    message = next(iter(messages.values()))
    if others:
        shown = ", ".join(map(repr, others[:3]))
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        message += f" The like holds for {shown}{more}."
    warnings.warn(message, category, stacklevel=stacklevel + 1)
