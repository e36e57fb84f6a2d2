"""
A table with categories, dates and holes
========================================

Rows of a table hold numbers, categories, dates and holes. The network wants numbers, so one
``ColumnTransformer`` in front of it encodes and imputes; holes in *y* stay: a target that was not
measured is NaN. The settings are the defaults, and no task has a weight to tune.
"""

# %%
# Data
# ----
# Used cars, made up. What a car is offered for, whether it is sold, and, only where it is, after
# how many days. The mileage of every tenth car is not known, nor the price of every third.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from sklearn_mtl import MultiTaskCNNEstimator, Task, score_tasks
from sklearn_mtl.plotting import TaskErrorsDisplay

rng = np.random.default_rng(0)
n = 2000
TODAY = pd.Timestamp("2026-01-01")
X = pd.DataFrame(
    {
        "brand": rng.choice(["Astra", "Borea", "Cirrus", "Dromos"], n, p=[0.5, 0.3, 0.19, 0.01]),
        "fuel": rng.choice(["petrol", "diesel", "electric"], n),
        "registered": TODAY - pd.to_timedelta(rng.integers(0, 15 * 365, n), unit="D"),
        "mileage": rng.gamma(4, 20_000, n).round(-2),
        "power": rng.normal(100, 25, n).round(),
    }
)
age = (TODAY - X["registered"]).dt.days / 365
value = X["brand"].map({"Astra": 1, "Borea": 1.3, "Cirrus": 1.6, "Dromos": 4})
log_price = 9 + np.log(value) - 0.12 * age - X["mileage"] / 200_000 + X["power"] / 150
wanted = np.where(X["fuel"] == "electric", np.sign(8 - age), 0.3) - X["mileage"] / 150_000
sold = np.where(rng.logistic(size=n) < 1 + 3 * wanted, "yes", "no")
y = pd.DataFrame(
    {
        "log price": (log_price + rng.normal(0, 0.2, n)).where(rng.random(n) < 2 / 3),
        "sold": sold,
        "log days": (3.5 - 0.9 * wanted + rng.normal(0, 0.4, n)).where(sold == "yes"),
    }
)
X.loc[rng.random(n) < 0.1, "mileage"] = np.nan
print(pd.concat([X, y], axis=1).head().round(2).to_string())

# %%
# The recipe
# ----------
# One transformer, one network. Dates become numbers: the days that have gone by. ``add_indicator``
# tells the network which numbers were imputed, and ``min_frequency`` keeps rare categories
# together, so that new ones are known at once. Numbers need no scaling: the network standardises
# its inputs, and clips outliers softly.


def days_since(dates):
    """Days from each date to today."""
    return (TODAY - dates).apply(lambda column: column.dt.days)


categories = OneHotEncoder(
    handle_unknown="infrequent_if_exist", min_frequency=0.02, sparse_output=False
)
encode = make_column_transformer(
    (categories, ["brand", "fuel"]),
    (FunctionTransformer(days_since), ["registered"]),
    (SimpleImputer(strategy="median", add_indicator=True), ["mileage", "power"]),
)
tasks = [
    Task("log price", "regression"),
    Task("sold", "classification"),
    Task("log days", "regression", given=("sold", "yes")),
]
model = make_pipeline(encode, MultiTaskCNNEstimator(tasks, random_state=0))
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
model.fit(X_train, y_train)

# %%
# What came out
# -------------
# Scores are those of the rows where a target was observed: R2 of numbers, accuracy of classes.
# Before any test there is ``oob_score_``: the network is an ensemble, each member leaves out a
# fifth of the training rows, and is scored on these. That also told how long to train.

network = model[-1]
scores = {"left out": network.oob_score_, "test": score_tasks(model, X_test, y_test)}
print(pd.DataFrame({"observed": network.n_observed_} | scores, index=network.task_names_).round(2))
print(f"epochs: {network.n_iter_}")

# %%
# Intervals come from the same rows. Nine of ten new cars should be inside:

TaskErrorsDisplay.from_estimator(model, X_test, y_test)
plt.show()
