"""Sparse X: the numbers of dense X, bit for bit, and the memory of the matrix."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from _inputs import make_small
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import get_tags

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.model_selection import cross_val_predict_tasks
from sklearn_mtl.networks import DenseTrunk

N = 120
CONTAINERS = [
    getattr(sp, f"{layout}_{kind}")
    for layout in ("csr", "csc", "coo", "lil", "dok", "bsr", "dia")
    for kind in ("matrix", "array")
]
MEMBERS = DenseTrunk((8,), n_members=3, n_frequencies=2)


def make_counts() -> tuple[np.ndarray, np.ndarray]:
    """Mostly zeros, a flag, a column of nothing; a class, and a number with holes."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((N, 6)) < 0.3, rng.normal(size=(N, 6)), 0)
    X[:, 2], X[:, 4] = X[:, 2] != 0, 0
    number = np.where(rng.random(N) < 0.2, np.nan, X[:, 0] - X[:, 1])
    return X, np.column_stack([X[:, 0] > 0, number])


X, Y = make_counts()
S = sp.csr_array(X)


def assert_same(one: MultiTaskCNNEstimator, other: MultiTaskCNNEstimator) -> None:
    """All that a fit leaves, and what it predicts of sparse and dense rows."""
    for name, values in one.history_.items():
        np.testing.assert_array_equal(other.history_[name], values)
    for name in ("oob_prediction_", "noise_std_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(other, name, 0), getattr(one, name, 0))
    for estimator in (one, other):
        np.testing.assert_array_equal(estimator.predict(S), one.predict(X))
        np.testing.assert_array_equal(estimator.predict_proba(S), one.predict_proba(X))
        np.testing.assert_array_equal(estimator.embed(S), one.embed(X))
        assert estimator.score(S, Y) == one.score(X, Y)
        assert estimator.predict_frame(S).equals(one.predict_frame(X))


@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("container", CONTAINERS)
def test_fit_is_that_of_dense_rows(container: Any) -> None:
    """Out of bag, two-valued columns and lines underneath included."""
    dense, sparse = (make_small(trunk=MEMBERS).fit(rows, Y) for rows in (X, container(X)))
    assert_same(dense, sparse)
    assert sparse._fitted.reader.two_valued_ == dense._fitted.reader.two_valued_ == (2, 4)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64, np.float32])
def test_of_every_type(dtype: Any) -> None:
    counts = np.rint(4 * np.abs(X)).astype(dtype)
    dense, sparse = (make_small().fit(rows, Y) for rows in (counts, sp.csc_array(counts)))
    np.testing.assert_array_equal(sparse.predict(sp.csc_array(counts)), dense.predict(counts))


@pytest.mark.parametrize("groups", [None, np.arange(N) % 17])
def test_weights_groups_and_validation_data(groups: Any) -> None:
    weight = np.random.default_rng(1).random((N, 2))
    given = {"sample_weight": weight, "groups": groups, "y_val": Y[:30]}
    dense, sparse = (
        make_small(trunk=MEMBERS).fit(rows, Y, X_val=rows[:30], **given) for rows in (X, S)
    )
    assert_same(dense, sparse)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_on_and_on(early_stopping: bool) -> None:
    params = {"warm_start": True, "early_stopping": early_stopping}
    dense, sparse = (make_small(**params).fit(rows, Y).fit(rows, Y) for rows in (X, S))
    assert_same(dense, sparse)


def test_streams_may_change_between_sparse_and_dense() -> None:
    streams = [(X, X), (S, S), (S, X), (X, sp.coo_matrix(X))]
    first, *others = (make_small().partial_fit(a, Y).partial_fit(b, Y) for a, b in streams)
    for other in others:
        assert_same(first, other)


def test_input_shape_reads_flat_images() -> None:
    dense, sparse = (
        make_small(trunk="conv", input_shape=(1, 2, 3), max_epochs=1).fit(rows, Y)
        for rows in (X, S)
    )
    assert_same(dense, sparse)


def test_repeated_rows_share_a_fold() -> None:
    """Whatever zeros are stored, and in whatever order."""
    twice = sp.csr_array(sp.vstack([S, S]))
    twice.data[-1] += 0.5
    whole = twice.toarray()
    messy = sp.coo_array(  # each number in two halves, with zeros
        (np.tile(whole.ravel() / 2, 2), np.tile(np.indices(whole.shape).reshape(2, -1), 2))
    )
    dense, sparse = (
        make_small(trunk=MEMBERS).fit(rows, np.vstack([Y, Y])) for rows in (whole, messy)
    )
    np.testing.assert_array_equal(sparse.oob_prediction_, dense.oob_prediction_)


def test_views_nets_files_and_searches(tmp_path: Any) -> None:
    estimator = make_small().fit(S, Y)
    view = estimator.task_view("y0")
    np.testing.assert_array_equal(view.predict_proba(S), estimator.predict_proba(X))
    assert get_tags(estimator).input_tags.sparse
    assert get_tags(view).input_tags.sparse
    np.testing.assert_array_equal(estimator.net_.predict(S), estimator.net_.predict(X))
    estimator.save(tmp_path / "m.safetensors")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(S), estimator.predict(X))
    search = {
        name: GridSearchCV(make_small(), {"max_epochs": [1, 3]}, cv=3).fit(rows, Y)
        for name, rows in {"dense": X, "sparse": S}.items()
    }
    for score in ("mean_test_score", "std_test_score"):
        found = [search[name].cv_results_[score] for name in ("dense", "sparse")]
        np.testing.assert_array_equal(*found)
    frames = [cross_val_predict_tasks(make_small(), rows, Y, cv=3) for rows in (X, S)]
    pd.testing.assert_frame_equal(*(pd.DataFrame(f) for f in frames))


def test_behind_encoders() -> None:
    """What one-hot and tf-idf columns come as."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"town": rng.choice(list("abcdefghij"), N), "rent": rng.normal(size=N)})
    encode = make_column_transformer(
        (OneHotEncoder(), ["town"]), ("passthrough", ["rent"]), sparse_threshold=1
    )
    assert sp.issparse(encode.fit_transform(frame))
    pipeline = make_pipeline(encode, make_small()).fit(frame, Y)
    assert pipeline.predict(frame).shape == Y.shape
    texts = [" ".join(rng.choice(["red", "green", "blue", "grey"], 5)) for _ in range(N)]
    pipeline = make_pipeline(TfidfVectorizer(), make_small()).fit(texts, Y)
    assert np.isfinite(pipeline.predict(texts)).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (sp.csr_array(np.where(X > 1, np.nan, X)), "X contains NaN"),
        (sp.csr_array(np.where(X > 1, -np.inf, X)), "infinity"),
        (sp.csr_array(X + 1j), "Complex data not supported: X holds complex128"),
        (sp.csr_array((0, 6)), r"0 sample\(s\)"),
        (sp.csr_array((6, 0)), r"0 feature\(s\)"),
        (sp.coo_array(X[0]), r"X is a sparse array of the shape \(6,\)"),
        (sp.coo_array(X.reshape(N, 2, 3)), r"sparse array of the shape \(120, 2, 3\).*input_shape"),
        (S[:, :4], "X has 4 features"),
        (S[:7], "inconsistent numbers of samples"),
    ],
)
def test_refused(rows: Any, message: str) -> None:
    estimator = make_small().fit(S, Y)
    with pytest.raises(ValueError, match=message):
        estimator.score(rows, Y)


def test_memory_is_that_of_the_matrix_and_of_batches() -> None:
    n, d = 20_000, 2_000  # 320 MB, were it dense
    rows = sp.random_array((n, d), density=0.001, rng=0, format="csc")
    y = np.column_stack([rows[:, [0]].toarray()[:, 0] > 0, rows.sum(axis=1)])
    tracemalloc.start()
    estimator = make_small(max_epochs=1, batch_size=500).fit(rows, y)
    estimator.predict(rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
