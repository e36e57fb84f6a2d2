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
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import make_digit_scenes

X_train, y_train = make_digit_scenes(2000, subset="train", random_state=0)
X_test, y_test = make_digit_scenes(1000, subset="test", random_state=1)
print(f"X: {X_train.shape}, {X_train.dtype}")
print(y_train.head(), "\n")

# %%
# Fit
# ---
# One line of scikit-learn. ``loss="logprod"``, the default, balances the tasks by itself.

estimator = MultiTaskCNNEstimator(
    tasks=[
        Task("digit_present", "classification"),
        Task("brightness", "regression"),
        Task("digit_size", "regression", given=("digit_present", 1)),
    ],
    random_state=0,
)
estimator.fit(X_train, y_train)

# %%
# Score
# -----
# Each task is scored on the test scenes where it was observed. Beside it stands what the best
# constant reaches: the majority class, or the mean of the training targets (an R2 of about 0).

prediction = pd.DataFrame(estimator.predict(X_test), columns=estimator.task_names_)
scores = estimator.score_tasks(X_test, y_test)


def baseline(task):
    """Score of the best constant."""
    seen = y_test[task.name].notna()
    true, train = y_test.loc[seen, task.name], y_train[task.name]
    if task.kind == "classification":
        return np.mean(true == train.mode()[0])
    return 1 - np.mean((true - train.mean()) ** 2) / np.var(true)


table = pd.DataFrame(
    {
        "kind": [task.kind for task in estimator.tasks_],
        "observed": estimator.n_observed_,
        "metric": ["accuracy" if t.kind == "classification" else "R2" for t in estimator.tasks_],
        "test score": [scores[task.name] for task in estimator.tasks_],
        "best constant": [baseline(task) for task in estimator.tasks_],
    },
    index=estimator.task_names_,
)
print(table.round(3).to_string(), "\n")
print(f"score (mean over tasks): {estimator.score(X_test, y_test):.3f}")

# %%
# Look
# ----
# Test scenes with what the network says about them, the first of the wrong ones among them. The
# size is given where a digit is predicted, and in brackets the true one.

figure = plt.figure(figsize=(11, 7.5), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
wrong = np.flatnonzero(prediction["digit_present"] != y_test["digit_present"])
shown = [*wrong[:4], *np.setdiff1d(y_test.index, wrong)[:20]]
for axis, i in zip(top.subplots(3, 8).flat, shown, strict=False):
    present, _, size = prediction.loc[i]
    true_size = y_test["digit_size"][i]
    axis.imshow(X_test[i, 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(
        (f"digit, {size:.0f} px" if present else "no digit")
        + ("" if np.isnan(true_size) else f" ({true_size:.0f})"),
        fontsize=9,
        color="crimson" if i in wrong else "black",
    )
for axis in top.axes:
    axis.set_axis_off()
top.suptitle(
    f"Predictions for test scenes, the true size in brackets (red: {len(wrong)} of {len(y_test)} "
    "classes are wrong)",
    fontsize=11,
)

left, middle, right = bottom.subplots(1, 3)
positive = y_test["digit_present"] == 1
probability = estimator.predict_proba(X_test)[:, 1]
bins = np.linspace(0, 1, 21)
left.hist(
    [probability[~positive], probability[positive]],
    bins,
    stacked=True,
    color=["#b5b5b5", "#1f77b4"],
    label=["no digit", "digit"],
)
left.set(xlabel="predicted probability of a digit", ylabel="test scenes")
left.set_title(f"digit_present: accuracy {scores['digit_present']:.3f}", fontsize=10)
left.legend(frameon=False, fontsize=9)
for axis, name in ((middle, "brightness"), (right, "digit_size")):
    axis.scatter(y_test[name], prediction[name], s=6, alpha=0.4, linewidth=0)
    ends = [y_test[name].min(), y_test[name].max()]
    axis.plot(ends, ends, color="black", linewidth=1, label="prediction = truth")
    axis.set(xlabel=f"true {name}", ylabel="predicted")
    axis.legend(frameon=False, fontsize=9)
    axis.set_title(f"{name}: R2 {scores[name]:.3f}", fontsize=10)
figure.savefig("quickstart.png", dpi=120)
print("figure: quickstart.png")
plt.show()
