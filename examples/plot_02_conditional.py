"""
Conditional targets, from end to end
====================================

Some targets exist for some rows only: a part without a defect has no size of its defect, and a
defect that is no crack has no length of its crack. ``given=`` declares that. Data that contradict
it are refused, a task learns from the rows to which it applies, and predictions have holes where it
is predicted not to.
"""

# %%
# Data
# ----
# Measurements of 1,500 parts, made up. Half of the parts have a defect, a scratch or a crack.
# Cracks have a length, and nobody measured a third of them: such a hole is *missing*, the others
# *do not apply*.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.plotting import ConditionalTargetDisplay, TargetsDisplay

rng = np.random.default_rng(0)
n = 1500
X = pd.DataFrame(rng.normal(size=(n, 5)), columns=["echo", "phase", "heat", "load", "age"])
defect = X["echo"] + 0.5 * X["heat"] ** 2 + rng.normal(0, 0.4, n) > 0.5
crack = defect & (X["phase"] + rng.normal(0, 0.4, n) > 0)
length = np.exp(1 + 0.5 * X["load"] + 0.3 * X["echo"] + rng.normal(0, 0.2, n))
y = pd.DataFrame(
    {
        "defect": np.where(defect, "yes", "no"),
        "kind": np.select([crack, defect], ["crack", "scratch"], None),
        "length": length.where(crack & (rng.random(n) < 2 / 3)),
    }
)
print(y.head(), "\n")

# %%
# Declare
# -------
# The tasks are a tree, and the estimator prints it, with the rows to which each applies.

tasks = [
    Task("defect", "classification"),
    Task("kind", "classification", given=("defect", "yes")),
    Task("length", "gamma", given=("kind", "crack")),
]
est = MultiTaskCNNEstimator(tasks, conditional_output="nan", random_state=0)
est.fit(X[:1000], y[:1000])
print(est.tasks_)

# %%
# A table that gives a sound part a defect of some kind is refused, by row:

try:
    MultiTaskCNNEstimator(tasks).fit(X, y.assign(kind=y["kind"].fillna("scratch")))
except ValueError as error:
    print(error)

# %%
# Predict
# -------
# Predictions have the layout of *y*. ``conditional_output="estimate"`` would say how long a crack
# *would be*, of every part; ``"expected"`` multiplies that by the probability that there is one.

X_new, y_new = X[1000:], y[1000:]
print(est.predict_frame(X_new.head()), "\n")
print({name: round(score, 2) for name, score in est.score_tasks(X_new, y_new).items()})

# %%
# Look
# ----
# Left: what *y* holds, task by task. Right: the further to the right, the surer is the network that
# there is a crack; the height is how long it would be.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
TargetsDisplay.from_targets(y, tasks=tasks, ax=left)
ConditionalTargetDisplay.from_estimator(est, X_new, y_new, task="length", ax=right)
plt.show()
