"""
Search: which settings, judged by which task
============================================

A network with several tasks has several scores, and the settings that are best for one task need
not be best for another. :func:`~sklearn_mtl.metrics.task_scorer` makes a scorer of one task, on the
rows where it was observed, and :func:`~sklearn_mtl.metrics.task_scorers` several, by any of which a
search may refit.
"""

# %%
# Data
# ----
# Parcels, made up. Is one late? That is chance, more likely with snow and with stops. How many
# hours is it on the road? A function with the waves of the rush hours, and with little noise, that
# nobody wrote down for a third of the parcels. By how many hours is it late? That exists only for
# those that are, and is linear in snow, with much noise.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.metrics import task_scorer, task_scorers
from sklearn_mtl.networks import DenseTrunk

rng = np.random.default_rng(0)
n = 300
X = pd.DataFrame(
    {
        "hour": rng.uniform(0, 24, n),
        "distance": rng.gamma(3, 100, n),
        "weight": rng.gamma(2, 2, n),
        "snow": rng.normal(size=n),
        "stops": rng.poisson(6, n),
    }
)
late = rng.logistic(size=n) < X["snow"] + (X["stops"] - 6) / 3
road = X["distance"] / 70 + 2 * np.sin(X["hour"] * np.pi / 3) + rng.normal(0, 0.3, n)
y = pd.DataFrame(
    {
        "late": np.where(late, "yes", "no"),
        "road": road.where(rng.random(n) < 2 / 3),
        "delay": (3 + X["snow"] + rng.gamma(2, 1, n)).where(late),
    }
)
network = MultiTaskCNNEstimator(
    [
        Task("late", "classification"),
        Task("road", "regression"),
        Task("delay", "regression", given=("late", "yes")),
    ],
    trunk=DenseTrunk((64,), n_members=3),
    random_state=0,
)
print(y.head(), "\n")

# %%
# One search, several judges
# --------------------------
# A grid over the loss and over a parameter of the trunk: how fast the waves are into which it turns
# each feature. ``refit`` names the judge; what is best for it trains the final network.

judges = task_scorers({"late": ["roc_auc", "neg_log_loss"], "road": "r2", "delay": "r2"})
grid = {"loss": ["logprod", "weighted"], "trunk__frequency_scale": [0.1, 0.3, 1.0]}
search = GridSearchCV(network, grid, scoring=judges, refit="road_r2", cv=3).fit(X, y)
scores = pd.DataFrame(search.cv_results_["params"])
for key in judges:
    scores[key] = search.cv_results_[f"mean_test_{key}"]
print(scores.round(3).to_string(), "\n")
print("The row that is best for each:")
print(scores[list(judges)].idxmax().to_string())

# %%
# Fast waves find the rush hours: ``road`` gains 0.2. The other two lose some. Between the losses,
# the differences are small. Epochs are nothing to search for: in each fit the data say when to end.

# %%
# Few epochs for many, many epochs for few
# ----------------------------------------
# A halving search gives all settings a few epochs, the better third three times as many, and so on.
# Its resource is ``max_epochs``: where that is a number, each fit takes as many, and its learning
# rate falls to 0.

halving = HalvingGridSearchCV(
    network,
    {"trunk__frequency_scale": [0.1, 0.3, 1.0], "learning_rate": [5e-4, 2e-3, 8e-3]},
    scoring=task_scorer("road", "r2"),
    resource="max_epochs",
    min_resources=4,
    max_resources=36,
    cv=3,
).fit(X, y)
rounds = pd.DataFrame(halving.cv_results_)
print(rounds.groupby("n_resources")["mean_test_score"].agg(["size", "max"]).round(3), "\n")
print(halving.best_params_)

# %%
# Two searches
# ------------
# Several scores at once, by Optuna, are in :doc:`the guide </guide/tools>`.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for key, color in (("late_roc_auc", "C0"), ("road_r2", "C1"), ("delay_r2", "C2")):
    for loss, style in (("logprod", "o-"), ("weighted", "s--")):
        line = scores[scores["loss"] == loss]
        label = key if loss == "logprod" else None
        left.plot(line["trunk__frequency_scale"], line[key], style, color=color, label=label)
left.set(xscale="log", xlabel="trunk__frequency_scale", ylabel="score", title="Grid")
left.text(0.1, 0.05, "dashed: weighted, else logprod")
left.set_ylim(0, 1)
left.legend(frameon=False, loc="center left", bbox_to_anchor=(0, 0.5))
for _, line in rounds.groupby(["param_learning_rate", "param_trunk__frequency_scale"]):
    right.plot(line["n_resources"], line["mean_test_score"], "o-", color="C1", alpha=0.6)
right.set(xlabel="max_epochs", ylabel="road_r2", title="Halving", xticks=[4, 12, 36])
plt.show()
