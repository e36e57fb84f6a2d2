"""
A table with categories and holes
=================================

Rows of a table hold numbers, categories and holes. The network wants numbers, so one
``ColumnTransformer`` in front of it encodes and imputes; holes in *y* stay: a target that was not
measured is NaN. The settings are the defaults, and no task has a weight to tune.
"""

# %%
# Data
# ----
# Used cars, made up, so that the best possible scores are known. What a car is offered for, whether
# it is sold, and, only where it is, after how many days. The mileage of every tenth car is not
# known, nor the price of every third.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.metrics import masked_score

rng = np.random.default_rng(0)
n = 2000
X = pd.DataFrame(
    {
        "brand": rng.choice(["Astra", "Borea", "Cirrus", "Dromos"], n, p=[0.5, 0.3, 0.19, 0.01]),
        "fuel": rng.choice(["petrol", "diesel", "electric"], n),
        "age": rng.uniform(0, 15, n).round(1),
        "mileage": rng.gamma(4, 20_000, n).round(-2),
        "power": rng.normal(100, 25, n).round(),
    }
)
value = X["brand"].map({"Astra": 1, "Borea": 1.3, "Cirrus": 1.6, "Dromos": 4})
log_price = 9 + np.log(value) - 0.12 * X["age"] - X["mileage"] / 200_000 + X["power"] / 150
wanted = np.where(X["fuel"] == "electric", np.sign(8 - X["age"]), 0.3) - X["mileage"] / 150_000
log_days = 3.5 - 0.9 * wanted
sold = np.where(rng.logistic(size=n) < 1 + 3 * wanted, "yes", "no")
y = pd.DataFrame(
    {
        "log price": (log_price + rng.normal(0, 0.2, n)).where(rng.random(n) < 2 / 3),
        "sold": sold,
        "log days": (log_days + rng.normal(0, 0.4, n)).where(sold == "yes"),
    }
)
X.loc[rng.random(n) < 0.1, "mileage"] = np.nan
print(X.head(), "\n")
print(y.head(), "\n")

# %%
# The recipe
# ----------
# One transformer, one network. ``add_indicator`` tells the network which numbers were imputed, and
# ``min_frequency`` keeps rare categories together, so that new ones are known at once. Numbers need
# no scaling: the network standardises its inputs, and clips outliers softly.

encode = make_column_transformer(
    (
        OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=0.02, sparse_output=False
        ),
        ["brand", "fuel"],
    ),
    (SimpleImputer(strategy="median", add_indicator=True), ["age", "mileage", "power"]),
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
# Scores are those of the rows where a target was observed: R2 of numbers, accuracy of classes. The
# best possible are those of the formulas that made the data, which know every mileage. Before any
# test there is ``oob_score_``: the network is an ensemble, each member leaves out a fifth of the
# training rows, and is scored on these. That also told how long to train, ``n_iter_`` epochs.

network, inputs = model[-1], model[:-1].transform(X_test)
scores = network.score_tasks(inputs, y_test)
truth = pd.DataFrame(
    {
        "log price": log_price,
        "sold": np.where(1 + 3 * wanted > 0, "yes", "no"),
        "log days": log_days,
    }
)
best = {
    name: masked_score(metric, y_test[name], truth.loc[y_test.index, name])
    for name, metric in (("log price", r2_score), ("sold", accuracy_score), ("log days", r2_score))
}
table = {"observed": network.n_observed_, "left out": network.oob_score_, "test": scores}
table = pd.DataFrame(table | {"best possible": best}, index=network.task_names_)
print(table.round(2), "\n")
print(f"epochs: {network.n_iter_}")

figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
prediction = network.predict_frame(inputs)
for axis, name in zip(axes, ("log price", "log days"), strict=True):
    axis.scatter(prediction[name], y_test[name], s=14)
    axis.axline((y_test[name].mean(),) * 2, slope=1, color="grey", linewidth=1)
    axis.set(xlabel="predicted", ylabel="observed", title=f"{name}: R2 {scores[name]:.2f}")
plt.show()
