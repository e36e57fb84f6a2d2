"""
Calibration and thresholds by a view of one task
================================================

Scikit-learn's tools for probabilities want a classifier of one target.
:meth:`~sklearn_mtl.MultiTaskCNNEstimator.task_view` hands out one task of a fitted network as such
a classifier. Nothing that is done with it trains the network again.
"""

# %%
# Data
# ----
# Does a customer cancel, and how much does one spend? One in eight cancels. The network is told to
# count rare labels more, ``class_weight="balanced"``: that finds more of them, and makes their
# probabilities too high.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split

from sklearn_mtl import MultiTaskCNNEstimator

rng = np.random.default_rng(0)
n = 6000
X = pd.DataFrame(rng.normal(size=(n, 5)), columns=["visits", "age", "calls", "delay", "discount"])
risk = 1.2 * X["calls"] + np.abs(X["delay"]) - 0.8 * X["visits"] - 3.2
y = pd.DataFrame(
    {
        "cancels": np.where(rng.random(n) < expit(risk), "yes", "no"),
        "spends": np.exp(1 + 0.5 * X["visits"] + rng.normal(0, 0.3, n)),
    }
)
X_train, X_rest, y_train, y_rest = train_test_split(X, y, test_size=0.6, random_state=0)
X_more, X_test, y_more, y_test = train_test_split(X_rest, y_rest, test_size=0.5, random_state=0)

est = MultiTaskCNNEstimator(
    {"cancels": "classification", "spends": "gamma"}, class_weight="balanced", random_state=0
).fit(X_train, y_train)

# %%
# Calibrate
# ---------
# A view is a fitted classifier. ``FrozenEstimator`` says that it is not to be fitted again, so that
# one calibrator learns from rows that the network has not seen.

view = est.task_view("cancels")
calibrated = CalibratedClassifierCV(FrozenEstimator(view)).fit(X_more, y_more["cancels"])

# %%
# Choose a threshold
# ------------------
# From which probability on is it worth a call? Here, where the balanced accuracy is best.

tuned = TunedThresholdClassifierCV(calibrated, cv="prefit", refit=False)
tuned.fit(X_more, y_more["cancels"])
print(f"from a probability of {tuned.best_threshold_:.2f} on")

# %%
# Look
# ----
# Displays of scikit-learn take the view, too. Left: with balanced weights, a customer of whom the
# network says 50 % cancels in fewer than 20 % of the cases; the calibrated ones keep their word.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
for model, name in ((view, "network, balanced"), (calibrated, "calibrated")):
    CalibrationDisplay.from_estimator(
        model, X_test, y_test["cancels"], n_bins=8, strategy="quantile", name=name, ax=left
    )
left.set_title("What is predicted, and what happens")
ConfusionMatrixDisplay.from_estimator(
    tuned, X_test, y_test["cancels"], ax=right, cmap="Blues", colorbar=False
)
right.set_title("Confusion matrix at the threshold")
plt.show()
