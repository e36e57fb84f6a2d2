"""A search on a cluster of Ray.

It starts Ray on this machine, and ends it. For a cluster that you have, ``ray.init("auto")``.
Whatever scikit-learn runs by joblib goes there: searches, `cross_validate`, and
`sklearn_mtl.inspection.transfer_report`. Scores are those of a search without the cluster. Run it
by ``pip install "sklearn-mtl[ray]"`` and ``python examples/cluster_search_ray.py``.
"""

import joblib
import numpy as np
import ray
from ray.util.joblib import register_ray
from sklearn.model_selection import GridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator


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
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    register_ray()
    try:
        with joblib.parallel_config("ray", n_jobs=2):
            search.fit(X, y)
    finally:
        ray.shutdown()
    print(search.best_params_, search.cv_results_["mean_test_score"].round(3).tolist())
    return search


if __name__ == "__main__":
    main()
