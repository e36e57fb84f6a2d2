"""
Early stopping and learning curves
==================================

How long should a network learn? Where members of it leave out rows, as they do for tables, these
say when to end, and nothing has to be held out. With any network, ``early_stopping=True`` holds out
rows, or ``X_val`` and ``y_val`` bring them. ``history_`` has the losses of every task and epoch.
"""

# %%
# Data
# ----
# Two tasks of 500 rows: one with little noise, which wants many epochs, and one that is mostly
# noise.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import DenseTrunk
from sklearn_mtl.plotting import TrainingHistoryDisplay

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(1500, 5))
wave = np.sin(4 * X[:, 0]) * X[:, 1]
y = pd.DataFrame(
    {
        "clear": wave + rng.normal(0, 0.1, 1500),
        "noisy": X[:, 2] + rng.normal(0, 2, 1500),
    }
)
train, test = slice(0, 500), slice(500, None)

# %%
# Three ways to end
# -----------------
# The default; validation rows, watched by one task alone; and a number of epochs that is too large.

ways = {
    "rows left out": MultiTaskCNNEstimator(random_state=0),
    "early_stopping": MultiTaskCNNEstimator(
        trunk=DenseTrunk(n_members=1), early_stopping=["clear"], random_state=0
    ),
    "max_epochs=150": MultiTaskCNNEstimator(
        trunk=DenseTrunk(n_members=1), max_epochs=150, weight_decay=0, random_state=0
    ),
}
rows = {}
for name, est in ways.items():
    if name == "max_epochs=150":  # validation rows that are watched, and stop nothing
        est.fit(X[train], y[train], X_val=X[test], y_val=y[test])
    else:
        est.fit(X[train], y[train])
    rows[name] = {"epochs": est.n_iter_, **est.score_tasks(X[test], y[test])}
print(pd.DataFrame(rows).T.round(2))

# %%
# Learning curves
# ---------------
# A picture for each task, by the default fit:

TrainingHistoryDisplay.from_estimator(ways["rows left out"])
plt.show()

# %%
# And the fit that went on for too long: the training loss falls, and that of new rows rises,
# first for the task with much noise.

TrainingHistoryDisplay.from_estimator(ways["max_epochs=150"])
plt.show()
