"""Labels of class tasks: their weights, and those that are declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _columns import inputs, small

from sklearn_mtl._data.labels import declared_labels
from sklearn_mtl._data.targets import TargetEncoder


def test_class_weights_exactly() -> None:
    y = pd.DataFrame({"a": ["x", "x", "x", "y", None, "x"], "b": [1, 0, 0, 0, 0, np.nan]})
    weight = TargetEncoder(class_weight="balanced").fit_encode(y).weight
    x, z = 5 / (2 * 4), 5 / (2 * 1)
    np.testing.assert_allclose(weight[:, 0], [x, x, x, z, 0, x])
    np.testing.assert_allclose(weight[:, 1], [z, x, x, x, x, 0])
    weight = TargetEncoder(class_weight={"b": {1: 3.0}}).fit_encode(y).weight
    np.testing.assert_allclose(weight[:, 0], [1, 1, 1, 1, 0, 1])
    np.testing.assert_allclose(weight[:, 1], [3, 1, 1, 1, 1, 0])
    both = {"a": "balanced", "b": {0: 0.5, 1: 2.0, 7: 9.0}}  # 7: a label of other folds
    weight = TargetEncoder(class_weight=both).fit_encode(y, [2, 1, 1, 1, 1, 1]).weight
    x, z = 6 / (2 * 5), 6 / (2 * 1)
    np.testing.assert_allclose(weight[:, 0], [2 * x, x, x, z, 0, x])
    np.testing.assert_allclose(weight[:, 1], [4, 0.5, 0.5, 0.5, 0.5, 0])


@pytest.mark.parametrize("labels", [["0.25", "0.75"], ["1", "2"], [0.25, 0.75], [False, True]])
def test_class_weights_of_labels_that_look_like_ints(labels: list[Any]) -> None:
    encoder = TargetEncoder({"y0": "classification"}, class_weight={"y0": {labels[0]: 4.0}})
    weight = encoder.fit_encode(np.array([*labels, *labels])).weight
    assert weight[:, 0].tolist() == [4, 1, 4, 1]


def test_class_weight_changes_predictions_of_its_task() -> None:
    X, y = inputs(60), (inputs(60)[:, 0] > 1).astype(float)
    plain = small(max_epochs=20).fit(X, y).predict_proba(X)[:, 1]
    balanced = small(max_epochs=20, class_weight="balanced").fit(X, y).predict_proba(X)[:, 1]
    assert balanced.mean() > plain.mean() + 0.1


def test_rows_of_classes_that_weigh_nothing_are_as_those_without_a_target() -> None:
    X, y = inputs(60), np.where(inputs(60)[:, 0] > 1, "a", "b")
    fit = small(class_weight={"a": 0}, warm_start=True).fit(X, y)
    assert (fit.predict(X) == "b").all()
    for more in (fit.fit, fit.partial_fit):
        with pytest.raises(ValueError, match="y holds no target of non-zero weight"):
            more(X[y == "a"], y[y == "a"])


def test_balanced_weights_count_a_weight_of_two_as_the_row_twice() -> None:
    y, repeat = np.array([0.0, 0, 1, 0, 1]), np.array([1, 2, 3, 1, 1])
    weighted = TargetEncoder(class_weight="balanced").fit_encode(y, repeat)
    repeated = TargetEncoder(class_weight="balanced").fit_encode(np.repeat(y, repeat))
    np.testing.assert_allclose(
        np.repeat(weighted.weight[:, 0] / repeat, repeat), repeated.weight[:, 0]
    )


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (None, ["a", "b"], {}),
        (["x", "y"], ["a"], {"a": ["x", "y"]}),
        ({"b": np.array([1, 2])}, ["a", "b"], {"b": [1, 2]}),
        (
            {"a": ("x",), "b": pd.Series([True, False])},
            ["a", "b"],
            {"a": ["x"], "b": [True, False]},
        ),
        ({}, [], {}),
    ],
)
def test_labels_are_declared_by_task(classes: Any, names: list[str], expected: Any) -> None:
    found = declared_labels(classes, names, None)
    assert {name: labels.tolist() for name, labels in found.items()} == expected


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["x"], ["a", "b"], r"there are 2 class tasks: \['a', 'b'\]\. Pass a dict"),
        (["x"], [], r"there are 0 class tasks"),
        (
            {"c": ["x"]},
            ["a"],
            r"classes names \['c'\], which are not class tasks; these are \['a'\]",
        ),
        ({"a": "xy"}, ["a"], r"classes holds 'xy' for 'a'\. Pass a list of labels"),
        ({"a": [["x"]]}, ["a"], r"classes holds \[\['x'\]\] for 'a'"),
        ({"a": 3}, ["a"], r"classes holds 3 for 'a'"),
        ({"a": ["x", None]}, ["a"], r"a missing value among the labels \['x', None\] of 'a'"),
        ({"a": [1.0, np.nan]}, ["a"], r"a missing value among the labels"),
        ({"a": [1, -9]}, ["a"], r"a missing value among the labels \[1, -9\] of 'a'\. Leave it"),
    ],
)
def test_declared_labels_that_are_refused(classes: Any, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        declared_labels(classes, names, -9)


def test_class_weights_are_named_by_task() -> None:
    """By the position of the class; None where nothing was said, and for numbers."""
    y = pd.DataFrame({"a": ["x", "y", "x"], "size": [1.0, 2.0, 3.0], "b": [0, 1, 1]})
    for spec, expected in (
        (None, [None, None, None]),
        ({"b": {1: 2.0}}, [None, None, [1, 2]]),
        ("balanced", [[0.75, 1.5], None, [1.5, 0.75]]),
    ):
        encoder = TargetEncoder(class_weight=spec)
        encoder.fit_encode(y)
        found = [None if w is None else w.tolist() for w in encoder._class_weights]
        assert found == expected
