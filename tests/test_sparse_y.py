"""Sparse y: cells that are not stored were not observed, and zeros that are stored were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.model_selection import GridSearchCV, KFold, cross_validate

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.inspection import transfer_report
from sklearn_mtl.metrics import task_scorer
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import DenseTrunk

N = 90
rng = np.random.default_rng(0)
X = rng.normal(size=(N, 4))
Y = np.column_stack([X[:, 0] > 0, np.where(X[:, 1] > 0, X[:, 1], 0.0), X[:, 2] - X[:, 3]])
Y[rng.random(Y.shape) < 0.6] = np.nan
OBSERVED = np.nonzero(np.isfinite(Y))
LAYOUTS = ["csr", "csc", "coo", "lil", "dok"]


def stored(layout: str = "csr", kind: str = "array") -> Any:
    """The observed cells, zeros among them."""
    cells = getattr(sp, f"coo_{kind}")((Y[OBSERVED], OBSERVED), shape=Y.shape)
    if layout != "lil":
        return cells.asformat(layout)
    rows = getattr(sp, f"lil_{kind}")(Y.shape)
    for row, column, value in zip(*OBSERVED, Y[OBSERVED], strict=True):
        rows.rows[row].append(int(column))
        rows.data[row].append(float(value))
    return rows


def make(**params: Any) -> MultiTaskCNNEstimator:
    return MultiTaskCNNEstimator(
        trunk=DenseTrunk((8,), n_members=3), max_epochs=2, random_state=0, **params
    )


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_y_with_holes(layout: str, kind: str) -> None:
    y = stored(layout, kind)
    assert y.nnz == len(Y[OBSERVED])
    assert (Y[OBSERVED] == 0).any()
    sparse, dense = make().fit(X, y), make().fit(X, Y)
    assert sparse.tasks_ == dense.tasks_
    assert sparse.tasks_[0].kind == "classification"
    np.testing.assert_array_equal(sparse.n_observed_, np.isfinite(Y).sum(axis=0))
    np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))
    assert sparse.score(X, y) == dense.score(X, Y)
    np.testing.assert_array_equal(sparse.oob_prediction_, dense.oob_prediction_)


@pytest.mark.parametrize("layout", ["csr", "coo", "dok"])
def test_one_task_may_be_a_vector(layout: str) -> None:
    rows = np.flatnonzero(np.isfinite(Y[:, 2]))
    y = sp.coo_array((Y[rows, 2], (rows,)), shape=(N,)).asformat(layout)
    sparse, dense = make().fit(X, y), make().fit(X, Y[:, 2])
    assert sparse.predict(X).shape == (N,)
    np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))


def test_none_of_no_tasks() -> None:
    with pytest.raises(ValueError, match=r"y has shape \(90, 0\)"):
        make().fit(X, sp.csr_array((N, 0)))


def test_it_goes_where_y_does() -> None:
    y = stored()
    tasks = [Task("a", "classification"), Task("b", "quantile"), Task("c", "regression")]
    for tool in (
        lambda y: GridSearchCV(make(), {"loss": ["weighted"]}, cv=3).fit(X, y).best_score_,
        lambda y: task_scorer("b", "r2")(make(tasks=tasks).fit(X, y), X, y),
        lambda y: make().partial_fit(X, y).partial_fit(X, y).predict(X),
        lambda y: make(early_stopping=True).fit(X, y, X_val=X, y_val=y).predict(X),
        lambda y: np.column_stack(
            list(cross_val_predict_tasks(make(), X, y, cv=KFold(3)).values())
        ),
        lambda y: transfer_report(make(), X, y, cv=3)["joint"].to_numpy(),
    ):
        np.testing.assert_array_equal(tool(y), tool(Y))


def test_whole_numbers_and_flags_are_read_as_such() -> None:
    flags = sp.csr_array((np.array([True, False]), np.array([0, 0]), [0, 1, 2, 2]), shape=(3, 1))
    estimator = make().fit(X[:3], flags)
    assert estimator.n_observed_.tolist() == [2]
    assert estimator.classes_.tolist() == [0, 1]


def test_it_stays_as_it_was_passed() -> None:
    """Cells in any order; those that are stored twice are added up, as scipy does."""
    cells = np.array([1.0, 2.0, 4.0]), (np.array([2, 0, 2]), np.array([0, 0, 0]))
    y = sp.coo_array(cells, shape=(3, 1))
    assert make().fit(X[:3], y).n_observed_.tolist() == [2]
    np.testing.assert_array_equal(y.data, [1, 2, 4])
    np.testing.assert_array_equal(y.coords[0], [2, 0, 2])


@pytest.mark.parametrize("layout", ["bsr", "dia"])
def test_layouts_that_do_not_tell_zeros_from_holes_are_refused(layout: str) -> None:
    with pytest.raises(TypeError, match=f"y is a sparse {layout}_array.*csr_array of the observed"):
        make().fit(X, stored().asformat(layout))


def test_frames_of_sparse_columns_say_what_absent_cells_are() -> None:
    """A hole where the fill value is NaN; zeros are zeros. scikit-learn's checks take them."""
    for fill, filled in ((np.nan, Y), (0.0, np.nan_to_num(Y))):
        frame = pd.DataFrame(filled, columns=["a", "b", "c"]).astype(pd.SparseDtype(float, fill))
        sparse, dense = make().fit(X, frame), make().fit(X, filled)
        np.testing.assert_array_equal(sparse.n_observed_, np.isfinite(filled).sum(axis=0))
        np.testing.assert_array_equal(sparse.predict(X), dense.predict(X))
        scores = [cross_validate(make(), X, y, cv=3)["test_score"] for y in (frame, filled)]
        np.testing.assert_array_equal(*scores)
