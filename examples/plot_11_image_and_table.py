"""
An image and a table in one network
===================================

A photograph comes with a line of a table. Neither tells all:
:class:`~sklearn_mtl.datasets.MultiInput` holds both by name, and the network has a trunk for each,
whose features meet. A row may lack one of them: a third of the photographs were not taken.
"""

# %%
# Data
# ----
# Is there a tumour in a scan, and how much of a drug does a patient need? The tumour, a bright
# disc, shows in the image alone; the dose grows with its size, and with the weight and age in the
# table.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import MultiInput
from sklearn_mtl.plotting import SaliencyDisplay

rng = np.random.default_rng(0)
n, side = 900, 24
tumour = rng.random(n) < 0.5
radius = rng.uniform(2, 7, n)
middle = rng.uniform(7, side - 7, (n, 2, 1, 1))
place = np.indices((side, side))[None]
disc = np.hypot(*np.moveaxis(place - middle, 1, 0)) < radius[:, None, None]
scans = rng.normal(0.3, 0.15, (n, side, side)) + 0.4 * (disc & tumour[:, None, None])
table = pd.DataFrame({"weight": rng.normal(70, 15, n), "age": rng.uniform(20, 80, n)})
dose = table["weight"] / 10 + np.where(tumour, radius, 0) * (1.5 - table["age"] / 100)
y = pd.DataFrame({"tumour": np.where(tumour, "yes", "no"), "dose": dose + rng.normal(0, 0.3, n)})

scans[rng.random(n) < 1 / 3] = np.nan  # not taken
taken = ~np.isnan(scans[:, 0, 0])
both = MultiInput(scan=scans.astype("float32"), table=table)
print(both)

# %%
# Three networks
# --------------
# The same tasks from the table, from the scans (of the rows that have one), and from both.

tasks = [Task("tumour", "classification"), Task("dose", "regression")]
train, test = np.arange(600), np.arange(600, n)
mtl = MultiTaskCNNEstimator(tasks, max_epochs=30, random_state=0)
inputs = {
    "table": (table.to_numpy(), np.full(n, True)),
    "scan": (scans.astype("float32"), taken),
    "both": (both, np.full(n, True)),
}
scores = {}
for name, (X, usable) in inputs.items():
    seen, asked = train[usable[train]], test[taken[test]]
    mtl.fit(X[seen], y.iloc[seen])
    scores[name] = mtl.score_tasks(X[asked], y.iloc[asked])
scores = pd.DataFrame(scores).T
print(scores.round(2))

# %%
# The last network was fitted to rows with and without a scan, and predicts both kinds. Without a
# scan, it knows no more than the table does:

for name, rows in (("with a scan", test[taken[test]]), ("without", test[~taken[test]])):
    found = mtl.score_tasks(both[rows], y.iloc[rows])
    print(f"{name}: " + ", ".join(f"{task} {score:.2f}" for task, score in found.items()))

# %%
# What each task looks at
# -----------------------
# :class:`~sklearn_mtl.plotting.SaliencyDisplay` maps the pixels that would change a prediction, and
# has a bar for each column of the table. The tumour is seen in the scan, and the table says next to
# nothing of it where there is one; the dose hangs on both.

rows = [*test[taken[test] & tumour[test]][:3], test[~taken[test]][0]]
display = SaliencyDisplay.from_estimator(mtl, both, rows=rows)
plt.show()

# %%
# What each input knows
# ---------------------

figure, (left, right) = plt.subplots(
    1, 2, figsize=(9, 3.8), layout="constrained", width_ratios=[1, 2]
)
left.imshow(scans[np.flatnonzero(taken & tumour)[0]], cmap="gray")
left.set(title="a scan", xticks=[], yticks=[])
place = np.arange(2)
for k, (name, color) in enumerate(
    zip(scores.index, ("#999999", "#E69F00", "#0072B2"), strict=True)
):
    bars = right.bar(place + 0.27 * (k - 1), scores.loc[name], 0.25, color=color, label=name)
    right.bar_label(bars, fmt="%.2f", fontsize=9)
right.set_xticks(place, ["tumour (accuracy)", "dose (R2)"])
right.set(ylim=(0, 1.15), title="test scores by what the network sees")
right.legend(frameon=False, ncols=3, loc="upper left")
plt.show()
