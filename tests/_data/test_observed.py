"""What was observed of each task, and what is said of tasks without a target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _columns import make_columns

from sklearn_mtl import Task
from sklearn_mtl._data.observed import (
    NOT_TRAINED,
    fit_kind,
    heard,
    refuse_unknown,
    require_observed,
    warn_of_unobserved,
)
from sklearn_mtl._data.targets import TargetEncoder
from sklearn_mtl.kinds import UnobservedTarget

TREE, HEIGHT = Task("tree", "classification"), Task("height", "regression")
KNOWN = Task("tree", "classification", categories=["fir", "ash"])
HOLES = [None, None]


def fit_one(task: Task, cells: Any, labels: Any = ()) -> Any:
    (column,) = make_columns(y=cells)
    return fit_kind(task, column, np.ones(len(cells)), np.array(labels, dtype=object))


@pytest.mark.parametrize(
    ("task", "labels", "classes"),
    [(TREE, [], []), (KNOWN, [], ["ash", "fir"]), (TREE, ["fir", "ash"], ["ash", "fir"])],
)
def test_a_class_without_a_target_knows_the_labels_that_it_was_told(
    task: Task, labels: Any, classes: Any
) -> None:
    kind = fit_one(task, HOLES, labels)
    assert isinstance(kind, UnobservedTarget)
    assert kind.is_known == bool(classes)
    assert kind.classes_.tolist() == classes
    assert not isinstance(fit_one(task, ["ash", None], labels), UnobservedTarget)


def test_one_warning_names_all() -> None:
    columns = make_columns(a=HOLES, b=[1.0, None], c=HOLES)
    tasks = [Task(name, "regression") for name in "abc"]
    with pytest.warns(UserWarning, match=r"The tasks \['a', 'c'\] have no observed value") as said:
        warn_of_unobserved(tasks, columns, NOT_TRAINED)
    assert len(said) == 1
    with pytest.warns(UserWarning, match="Task 'c' has no observed value .* in 2 rows"):
        warn_of_unobserved(tasks[1:], columns[1:], NOT_TRAINED)
    warn_of_unobserved(tasks[1:2], columns[1:2], NOT_TRAINED)


def test_something_has_to_be_observed() -> None:
    require_observed([TREE, HEIGHT], make_columns(tree=HOLES, height=[None, 1.0]))
    with pytest.raises(ValueError, match=r"None of the tasks \['tree', 'height'\] has an observed"):
        require_observed([TREE, HEIGHT], make_columns(tree=HOLES, height=HOLES))


def test_targets_of_tasks_that_were_not_observed_are_not_heard() -> None:
    columns = make_columns(tree=["fir", None], height=[None, 1.0])
    kinds = [UnobservedTarget(TREE.make_kind()), HEIGHT.make_kind()]
    assert [c.seen.tolist() for c in heard(kinds, columns)] == [[False, False], [False, True]]
    assert columns[0].seen.any()


def test_the_first_rows_of_a_stream_say_what_heads_have_to_be() -> None:
    numbers = [UnobservedTarget(HEIGHT.make_kind())]
    refuse_unknown([HEIGHT], [HEIGHT], numbers)
    refuse_unknown({"height": "regression"}, [HEIGHT], numbers)
    for declared in (None, {"tree": "classification"}):
        with pytest.raises(ValueError, match=r"kind is not declared. Pass tasks=\{'height': kind"):
            refuse_unknown(declared, [HEIGHT], numbers)
    refuse_unknown([KNOWN], [KNOWN], [fit_one(KNOWN, HOLES)])
    with pytest.raises(ValueError, match=r"labels are not known. List them, Task\('tree', 'class"):
        refuse_unknown([TREE], [TREE], [fit_one(TREE, HOLES)])


@pytest.mark.parametrize("cells", [[np.nan, np.nan], [None, None]])
def test_kinds_that_nobody_declares(cells: Any) -> None:
    """A column of numbers without one is not taken for zeros and ones."""
    encoder = TargetEncoder()
    y = np.column_stack([np.array(cells, dtype=float), [1.5, 2.5]])
    with pytest.warns(UserWarning, match="'y0' has no observed value"):
        encoder.fit_encode(y)
    assert [task.kind for task in encoder.tasks_] == ["regression", "regression"]
