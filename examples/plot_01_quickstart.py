"""
A class, a number, and a number that exists only for positives
==============================================================

Somebody trains one network with three outputs. Is there a digit in the image (a class)? How bright
is the scene (a number)? How large is the digit (a number that exists *only where there is one*)?

The third target has holes: a scene without a digit has no digit size. They are simply NaN in ``y``,
and :class:`~sklearn_mtl.Task` says why: ``given=("digit_present", 1)``.
"""

# %%
# Data
# ----
# Handwritten digits at random size, place and contrast on a shaded, noisy background; scribbles
# where there is no digit. Training and test scenes are drawn from different digits.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import make_digit_scenes
from sklearn_mtl.plotting import ConditionalTargetDisplay, PredictionGridDisplay, TaskScoresDisplay

X_train, y_train = make_digit_scenes(1000, size=24, subset="train", random_state=0)
X_test, y_test = make_digit_scenes(500, size=24, subset="test", random_state=1)
print(f"X: {X_train.shape}, {X_train.dtype}")
print(y_train.head(), "\n")

# %%
# Fit
# ---
# One line of scikit-learn. ``loss="logprod"``, the default, balances the tasks by itself, and
# ``verbose=1`` prints a line per epoch: the time left; the objective, a sum of logarithms that
# falls below 0; the share of the losses that is explained, 1 at best; and the loss of each task.

estimator = MultiTaskCNNEstimator(
    tasks=[
        Task("digit_present", "classification"),
        Task("brightness", "regression"),
        Task("digit_size", "regression", given=("digit_present", 1)),
    ],
    conditional_output="nan",
    max_epochs=30,
    random_state=0,
    verbose=1,
)
estimator.fit(X_train, y_train)

# %%
# Predict
# -------
# A frame like *y*, with a hole where no digit is predicted, and a score for each task, on the test
# scenes where it was observed: accuracy of classes, R2 of numbers.

print(estimator.predict_frame(X_test[:5]).round(2), "\n")
print({name: round(score, 3) for name, score in estimator.score_tasks(X_test, y_test).items()})

# %%
# Look
# ----
# Scores beside those of the best constant, and what the third task is about: the further to the
# right, the surer is the network that there is a digit, and the height is the size it would have.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
TaskScoresDisplay.from_estimator(estimator, X_test, y_test, ax=left)
ConditionalTargetDisplay.from_estimator(estimator, X_test, y_test, ax=right)

# %%
# Test scenes with what the network says about them, the truth in brackets, and some of the wrong
# ones among them.

wrong = np.flatnonzero(estimator.predict(X_test)[:, 0] != y_test["digit_present"])
shown = [*wrong[:2], *np.setdiff1d(y_test.index, wrong)[:10]]
grid = PredictionGridDisplay.from_estimator(estimator, X_test, y_test, rows=shown)
grid.figure_.savefig("quickstart.png", dpi=120)
print("figure: quickstart.png")
plt.show()
