"""Deep multi-task learning for people who use scikit-learn."""

from sklearn_mtl._estimator import MultiTaskCNNEstimator
from sklearn_mtl._targets import Task

__version__ = "0.1.0"

__all__ = ["MultiTaskCNNEstimator", "Task", "__version__"]
