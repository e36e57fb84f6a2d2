"""
Saliency: where each task looks
===============================

Two tasks share one trunk. Do they look at the same pixels?
:class:`~sklearn_mtl.plotting.SaliencyDisplay` maps, for each task, the pixels that would change its
prediction.
"""

# %%
# Data
# ----
# Two handwritten digits in a noisy scene, of any size and at any height. Is the left one a 0, a 4
# or a 7? That is a class. How high is the right one? That is a number of pixels. The digits of the
# test scenes are of other writers.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.plotting import SaliencyDisplay

digits = load_digits()
few = np.flatnonzero(np.isin(digits.target, [0, 4, 7]))
rng = np.random.default_rng(0)
HEIGHT, HALF = 28, 22


def make_scenes(n, pool):
    """Draw a digit of the pool into each half of each scene."""
    X = rng.normal(0.2, 0.08, size=(n, HEIGHT, 2 * HALF)).astype(np.float32)
    which = rng.choice(pool, size=(n, 2))
    side = rng.integers(10, 19, size=(n, 2))
    top = rng.integers(0, HEIGHT - side + 1)
    left = rng.integers([0, HALF], [HALF, 2 * HALF] - side + 1)
    for i, k in np.ndindex(n, 2):
        s, row, column = side[i, k], top[i, k], left[i, k]
        ink = zoom(digits.images[which[i, k]] / 16, s / 8, order=1, grid_mode=True, mode="nearest")
        X[i, row : row + s, column : column + s] += 0.6 * ink
    y = pd.DataFrame({"left digit": digits.target[which[:, 0]], "right height": side[:, 1]})
    return X, y


X_train, y_train = make_scenes(2000, few[few < 1347])
X_test, y_test = make_scenes(300, few[few >= 1347])

# %%
# Fit
# ---

estimator = MultiTaskCNNEstimator(
    {"left digit": "classification", "right height": "regression"},
    max_epochs=25,
    random_state=0,
).fit(X_train, y_train)
print({name: round(score, 2) for name, score in estimator.score_tasks(X_test, y_test).items()})

# %%
# Where they look
# ---------------
# What is mapped is the size of the gradient: of the number, or of the logarithm of the probability
# of the predicted class, as the probability itself hardly moves near 1. A single gradient is
# ragged; the mean over copies with a little more noise is calmer (SmoothGrad, Smilkov et al. 2017).

display = SaliencyDisplay.from_estimator(estimator, X_test, rows=range(6))
print(y_test.head(6))
plt.show()

# %%
# How much of each map lies on the left half, in the mean over fifty test scenes? Most of it for the
# task of the left digit, and little for that of the right one. Nobody told the network which half
# is whose.

display = SaliencyDisplay.from_estimator(estimator, X_test, rows=range(50))
plt.close(display.figure_)
left = {task: m[:, :, :HALF].sum() / m.sum() for task, m in display.saliency.items()}
print({task: round(float(share), 2) for task, share in left.items()})

# %%
# For maps of your own, such as Grad-CAM, :meth:`~sklearn_mtl.MultiTaskCNNEstimator.as_module` turns
# the fitted estimator into a PyTorch module, from X as you hold it to predictions in the units of
# y. Gradients flow through it, and hooks on ``module.network.trunk`` catch the maps inside.
