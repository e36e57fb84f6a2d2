"""
Tasks of different noise balance themselves
===========================================

Five instruments measure the same wave. The first is good, and each further one has twice the noise
of the one before. A network that minimises the sum of their squared errors takes all of them
equally seriously, and learns noise from the worst. ``loss="logprod"``, the default, minimises the
sum of the *logarithms* of the losses instead, which weighs each task by one over its own loss: the
good instrument counts most, and nobody has to say which one it is.
"""

# %%
# Data
# ----
# :math:`y_i = \sin(2 \pi x)` plus normal noise of standard deviation 0.1, 0.2, 0.4, 0.8 and 1.6.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_mtl import MultiTaskCNNEstimator

noise = 0.1 * 2.0 ** np.arange(5)
names = [f"noise {std:.1f}" for std in noise]


def make_sines(n, seed):
    """Places, noisy values, and the wave."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(size=(n, 1))
    wave = np.sin(2 * np.pi * X)
    return X, pd.DataFrame(wave + noise * rng.normal(size=(n, 5)), columns=names), wave


X, y, _ = make_sines(200, seed=0)
X_test, _, wave = make_sines(1000, seed=1000)
print(y.head().round(2), "\n")

# %%
# Two losses
# ----------
# Five times each, with new data and initial weights, as one fit may be luck. What counts is the
# root mean squared distance from the wave, not from noisy values.


def fit(loss, seed):
    """Fit one network to 200 rows; return it, and its distance from the wave per task."""
    X, y, _ = make_sines(200, seed)
    estimator = MultiTaskCNNEstimator(loss=loss, random_state=seed).fit(X, y)
    return estimator, np.sqrt(np.mean((estimator.predict(X_test) - wave) ** 2, axis=0))


fits = {loss: [fit(loss, seed) for seed in range(5)] for loss in ("weighted", "logprod")}
distance = {loss: np.array([error for _, error in pairs]) for loss, pairs in fits.items()}
weighted, logprod = (pairs[0][0] for pairs in fits.values())
table = pd.DataFrame({loss: errors.mean(axis=0) for loss, errors in distance.items()}, index=names)
table["logprod is nearer"] = (distance["logprod"] < distance["weighted"]).sum(axis=0)
print(table.round(3), "\n")

# %%
# With 'logprod' the predictions of the best instrument come more than a third nearer to the wave.
# Those of the worst gain nothing, or lose a little: each task has a head of its own, which sees the
# noise of that task only.

# %%
# Noise
# -----
# Each row is left out by one member of the network, which predicts it without having seen it. The
# residuals of these predictions estimate the noise, a little above it: they hold what the member
# has missed of the wave too.

stds = {loss: np.mean([est.noise_std_ for est, _ in pairs], axis=0) for loss, pairs in fits.items()}
print(pd.DataFrame({"true": noise, **stds}, index=names).round(3), "\n")

# %%
# Look
# ----
# Targets are standardised inside, so a task's effective weight over its variance is the weight of a
# squared error in units of y. 'logprod' moves it towards one over the variance of the noise
# (dotted), which is what the likelihood of normal noise asks for. It stops short of it for the best
# instruments: at least a tenth of a target's variance is taken to be noise, and theirs has less.

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
weights = logprod.history_["effective_weight"] / y.var().to_numpy()
for k, name in enumerate(names):
    left.plot(1 + np.arange(len(weights)), weights[:, k], color=f"C{k}", label=name)
    left.axhline(1 / noise[k] ** 2, color=f"C{k}", linestyle=":")
left.set(yscale="log", ylim=(0.2, 2000), xlabel="epoch", title="logprod: weight of a squared error")
left.legend(fontsize=8, ncols=2)

order = X_test[:, 0].argsort()
for name, estimator, color in (("weighted", weighted, "grey"), ("logprod", logprod, "crimson")):
    error = estimator.predict(X_test)[:, 0] - wave[:, 0]
    middle.plot(X_test[order, 0], error[order], color=color, label=name)
    right.plot(noise, distance[name].T, "o", color=color, markersize=3, alpha=0.5)
    right.plot(noise, distance[name].mean(axis=0), color=color, label=name)
middle.axhline(0, color="black", linewidth=0.8)
middle.set(xlabel="x", title="the best instrument: prediction - wave")
right.set(xscale="log", yscale="log", xlabel="noise", title="distance from the wave, five fits")
right.set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"])
right.set_xticks(noise, noise.round(1).astype(str))
right.minorticks_off()
for axis in (middle, right):
    axis.legend(fontsize=8)
plt.show()
