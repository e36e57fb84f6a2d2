"""Labels of class tasks: their weights, and those that are declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _columns import inputs, small

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


def test_balanced_weights_count_a_weight_of_two_as_the_row_twice() -> None:
    y, repeat = np.array([0.0, 0, 1, 0, 1]), np.array([1, 2, 3, 1, 1])
    weighted = TargetEncoder(class_weight="balanced").fit_encode(y, repeat)
    repeated = TargetEncoder(class_weight="balanced").fit_encode(np.repeat(y, repeat))
    np.testing.assert_allclose(
        np.repeat(weighted.weight[:, 0] / repeat, repeat), repeated.weight[:, 0]
    )
