"""
Does sharing pay? Ask the data
==============================

One network for all tasks may be better than a network for each, or worse: tasks that have nothing
in common compete for the same features. :func:`~sklearn_mtl.inspection.transfer_report` fits both
on the same folds, and says for each task which one wins, with an interval.
"""

# %%
# Data
# ----
# Made up, so that we know: three assays measure the same hidden curve with different noise, and few
# rows have the third one. A fourth task has nothing to do with the others.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import ShuffleSplit

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.inspection import transfer_report

rng = np.random.default_rng(0)
n = 500
X = rng.uniform(-1, 1, size=(n, 6))
hidden = np.sin(3 * X[:, 0] + 2 * X[:, 1]) + X[:, 2] ** 2
other = np.sin(4 * X[:, 3] * X[:, 4])
y = pd.DataFrame(
    {
        "precise": hidden + rng.normal(0, 0.2, n),
        "noisy": hidden + rng.normal(0, 0.8, n),
        "rare": np.where(rng.random(n) < 0.15, hidden + rng.normal(0, 0.2, n), np.nan),
        "unrelated": other + rng.normal(0, 0.2, n),
    }
)

# %%
# The report
# ----------
# One row per task: the score of the joint network, that of a network of its own, and their
# difference, with a 95 % interval that knows that folds share training rows.

est = MultiTaskCNNEstimator(random_state=0)
report = transfer_report(est, X, y, cv=ShuffleSplit(3, test_size=0.3, random_state=0))
print(report.round(3).to_string())

# %%
# Look
# ----
# Right of the line sharing helps. 'undecided' is an honest answer: the interval holds 0.

report.plot()
plt.show()
