"""A search on a cluster of Dask.

It starts a cluster on this machine, and ends it: two processes on the loopback. For one that you
have, ``Client("tcp://scheduler:8786")``. Whatever scikit-learn runs by joblib goes there: searches,
`cross_validate`, and `sklearn_mtl.inspection.transfer_report`. Scores are those of a search without
the cluster. Run it by ``pip install "sklearn-mtl[dask]"`` and
``python examples/cluster_search_dask.py``.
"""

import dask
import joblib
import numpy as np
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator

# Workers of Dask give memory back at once, and a network, which soon needs it again, takes twice as
# long with that: let them keep it, as other processes do.
KEPT = {
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**30,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}


def make_data(n=400):
    """Make a class, and a number that is observed in half of the rows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 8))
    number = np.where(rng.random(n) < 0.5, X[:, 1] - X[:, 2], np.nan)
    return X, np.column_stack([X[:, 0] > 0, number])


def make_search(max_epochs=10):
    """Make a search over two learning rates, which is not fitted."""
    estimator = MultiTaskCNNEstimator(max_epochs=max_epochs, random_state=0)
    return GridSearchCV(estimator, {"learning_rate": [0.001, 0.003]}, cv=2)


def main(max_epochs=10):
    """Fit the search on the cluster, and return it."""
    X, y = make_data()
    search = make_search(max_epochs)
    # A thread per worker: each fit has a core, and threads of torch would be in one another's way.
    with dask.config.set(KEPT):
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        )
    # X and y are sent to each worker once, and not with each fit.
    with cluster, Client(cluster), joblib.parallel_config("dask", scatter=[X, y]):
        search.fit(X, y)
    print(search.best_params_, search.cv_results_["mean_test_score"].round(3).tolist())
    return search


if __name__ == "__main__":  # workers import this file
    main()
