"""Pictures of targets, trainings and predictions, as displays in scikit-learn's manner.

Each display is made by `from_estimator`, also of pipelines and searches, or by a similar method,
which computes and plots; `plot` draws it again, on other axes. matplotlib is imported when
something is drawn; the extra ``[plot]`` brings it. Colours are those of Okabe and Ito.

>>> import numpy as np
>>> from sklearn_mtl.plotting import TargetsDisplay
>>> y = np.array([[1, 2.5], [0, np.nan], [1, 0.5]])
>>> display = TargetsDisplay.from_targets(y)
>>> display.counts_[:, 0].tolist()  # observed
[3, 2]
"""

from sklearn_mtl.plotting.conditional import ConditionalTargetDisplay
from sklearn_mtl.plotting.errors import TaskErrorsDisplay
from sklearn_mtl.plotting.history import TrainingHistoryDisplay
from sklearn_mtl.plotting.images import PredictionGridDisplay
from sklearn_mtl.plotting.saliency import SaliencyDisplay
from sklearn_mtl.plotting.scores import TaskScoresDisplay
from sklearn_mtl.plotting.targets import TargetsDisplay
from sklearn_mtl.plotting.transfer import TransferDisplay
from sklearn_mtl.plotting.weights import TaskWeightsDisplay

__all__ = [
    "ConditionalTargetDisplay",
    "PredictionGridDisplay",
    "SaliencyDisplay",
    "TargetsDisplay",
    "TaskErrorsDisplay",
    "TaskScoresDisplay",
    "TaskWeightsDisplay",
    "TrainingHistoryDisplay",
    "TransferDisplay",
]
