"""
Amounts that are mostly zero: a hurdle model in one network
===========================================================

What will each person spend on medical care next year? Most spend nothing; the others spend amounts
whose spread grows with their size. Health economists and actuaries split the question in two: is
there *any* spending (a class), and *how much* is it where there is any (a number > 0)? The expected
spending is the product of the probability and the amount.

With :class:`~sklearn_mtl.Task` both parts are declared, trained in one network, and multiplied:
``kind="gamma"`` for the amount, ``given=("any", "yes")`` for its condition, and
``conditional_output="expected"`` for the product.
"""

# %%
# Data
# ----
# Made up, so that the truth is known. A risk that is not linear in age and health makes spending
# both likelier and larger: the two parts have something to share.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.linear_model import GammaRegressor, LogisticRegression
from sklearn.metrics import d2_tweedie_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_mtl import MultiTaskCNNEstimator, Task


def make_persons(n, seed):
    """Features, targets, and the true expected spending."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "age": rng.uniform(0, 90, n),
            "chronic": rng.poisson(0.8, n),
            "exercise": rng.normal(size=n),
            "deductible": rng.choice([0.0, 500.0, 2000.0], n),
        }
    )
    young, old = np.exp(-X["age"] / 4), np.clip(X["age"] - 50, 0, None) / 20
    risk = young + old + 0.5 * X["chronic"] * (1 - 0.4 * np.tanh(X["exercise"]))
    probability = 1 / (1 + np.exp(1.2 - 1.3 * risk + X["deductible"] / 1500))
    mean = np.exp(5.5 + 0.8 * risk - X["deductible"] / 5000)
    any_care = rng.random(n) < probability
    spending = np.where(any_care, mean * rng.gamma(0.8, 1 / 0.8, size=n), np.nan)
    y = pd.DataFrame({"any": np.where(any_care, "yes", "no"), "spending": spending})
    return X, y, (probability * mean).to_numpy()


X_train, y_train, _ = make_persons(6000, seed=0)
X_test, y_test, truth = make_persons(6000, seed=1)
observed = y_test["spending"].fillna(0).to_numpy()
print(y_train.head(), "\n")

# %%
# One network
# -----------
# The amount has holes where there is none; that is what ``given`` says. Targets of kind 'gamma'
# are > 0, and the network predicts the logarithm of their mean.

hurdle = MultiTaskCNNEstimator(
    tasks=[
        Task("any", "classification"),
        Task("spending", "gamma", given=("any", "yes")),
    ],
    conditional_output="expected",
    random_state=0,
)
hurdle.fit(X_train, y_train)
expected = {"hurdle network": hurdle.predict_frame(X_test)["spending"].to_numpy()}

# %%
# The two-part model
# ------------------
# The same by hand: two linear models, their rows picked, their outputs multiplied.

some = (y_train["any"] == "yes").to_numpy()
logistic = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_train, some)
gamma = make_pipeline(StandardScaler(), GammaRegressor(alpha=1e-3, max_iter=1000))
gamma.fit(X_train[some], y_train["spending"][some])
expected["two-part model"] = logistic.predict_proba(X_test)[:, 1] * gamma.predict(X_test)

# %%
# Compare
# -------
# Is the *sum* right? (What was observed over what was expected; the truth has its sampling error
# too.) And is every *person* right? D2 is the share of a deviance that is explained, here the
# Tweedie deviance, made for amounts that may be zero.


def describe(prediction):
    """Figures of one model."""
    return {
        "observed / expected": observed.sum() / prediction.sum(),
        "D2": d2_tweedie_score(observed, prediction, power=1.5),
        "error against the truth": np.abs(prediction - truth).mean(),
    }


expected["truth"] = truth
table = pd.DataFrame({name: describe(prediction) for name, prediction in expected.items()}).T
print(table.round(3).to_string())

# %%
# Both put the sum too low, the linear parts more, and these get the ages wrong: somebody would have
# to find the right features for them.

by_age = pd.DataFrame(expected).groupby(X_test["age"].to_numpy() // 5 * 5 + 2.5).mean()
styles = {"hurdle network": "oC0-", "two-part model": "sC1--", "truth": "k-"}
axis = by_age.plot(style=styles, figsize=(7, 4))
axis.set(xlabel="age", ylabel="mean expected spending")
axis.legend(frameon=False)
plt.show()
