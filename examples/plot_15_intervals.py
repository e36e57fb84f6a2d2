"""
Intervals, and numbers that are known within bounds
===================================================

An assay tries doses up to 10. Where none was enough, all that is known is that it takes *more than
10*. To drop such rows, or to take 10 for the truth, makes predictions too low. ``y`` can hold the
bound itself; and :meth:`~sklearn_mtl.MultiTaskCNNEstimator.predict_interval` says between which
bounds nine of ten new targets are.
"""

# %%
# Data
# ----
# Made up, so that the truth is known. The laboratory's file has text such as ``">10"``, of which
# :func:`~sklearn_mtl.to_intervals` makes bounds.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, to_intervals

rng = np.random.default_rng(0)


def make_assay(n):
    """Return compounds, the doses that they need, and what the laboratory wrote down."""
    X = rng.uniform(-1, 1, size=(n, 3))
    dose = 7 + 4 * np.sin(2 * X[:, 0]) + 2 * X[:, 1] + rng.normal(0, 0.8 + 0.6 * X[:, 2], n)
    return X, dose, [f"{d:.2f}" if d < 10 else ">10" for d in dose]


X_train, _, written = make_assay(1500)
X_test, dose, _ = make_assay(2000)
print(written[:6], f"{np.mean([w == '>10' for w in written]):.0%} of the doses are above 10")

# %%
# Three ways to read it
# ---------------------
# Bounds, rows with a bound left out, or the bound taken for the truth.

bounds = to_intervals(written)
exact = np.array([w != ">10" for w in written])
number = np.array([float(w.strip(">")) for w in written])
tasks = {"dose": "regression"}
models = {}
for name, rows, target in (
    ("bounds", np.full(len(exact), True), bounds),
    ("left out", exact, number),
    ("taken for 10", np.full(len(exact), True), number),
):
    y = pd.DataFrame({"dose": np.asarray(target)[rows]})
    models[name] = MultiTaskCNNEstimator(tasks, random_state=0).fit(X_train[rows], y)
means = pd.DataFrame({name: model.predict(X_test)[:, 0] for name, model in models.items()})
high = dose > 10
table = pd.DataFrame(
    {
        "mean error": (means.sub(dose, axis=0)).mean(),
        "mean error above 10": means.sub(dose, axis=0)[high].mean(),
    }
)
print(table.round(2))

# %%
# How sure
# --------
# The errors of rows that members of the network left out say how large those of new rows are.

low, top = models["bounds"].predict_interval(X_test, confidence=0.9)[:, 0].T
print(f"inside: {np.mean((low <= dose) & (dose <= top)):.1%} of the true doses")

figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for axis, name in zip(axes, ("taken for 10", "bounds"), strict=True):
    axis.scatter(means[name], dose, s=5, alpha=0.5, color="#0072B2", linewidth=0)
    axis.axline((5, 5), slope=1, color="black", linewidth=1)
    axis.axhline(10, color="#D55E00", linestyle="--", linewidth=1, label="highest dose tried")
    axis.set(xlabel="predicted dose", title=f">10 as {name}")
order = np.argsort(means["bounds"])[::25]
axes[1].vlines(
    means["bounds"].iloc[order],
    low[order],
    top[order],
    color="grey",
    alpha=0.6,
    label="90 % interval",
)
axes[0].set_ylabel("true dose")
axes[1].legend(frameon=False)
plt.show()
