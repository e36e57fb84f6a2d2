"""
Saliency: where each task looks
===============================

Two tasks share one trunk. Do they look at the same pixels?
:meth:`~sklearn_mtl.MultiTaskCNNEstimator.as_module` turns the fitted estimator into a PyTorch
module, from X as you hold it to predictions in the units of y. Gradients and hooks do the rest,
in a few lines of plain PyTorch.
"""

# %%
# Data
# ----
# Two handwritten digits in a noisy scene, of any size and at any height. Which digit is the left
# one? That is a class. How high is the right one? That is a number of pixels. The digits of the
# test scenes are of other writers.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

from sklearn_mtl import MultiTaskCNNEstimator

digits = load_digits()
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


X_train, y_train = make_scenes(2500, np.arange(1347))
X_test, y_test = make_scenes(300, np.arange(1347, 1797))

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
# Gradients with respect to pixels
# --------------------------------
# ``as_module(task)`` has one output: probabilities of a class, or a number. What is explained is
# the logarithm of the probability of the predicted class, as the probability itself hardly moves
# near 1; and the height in pixels. ``estimator.module_`` would be wrong here: it takes
# standardised inputs.
#
# The gradient says which pixels would change the output. A single one is ragged; the mean of its
# size over copies with a little more noise is calmer (SmoothGrad, Smilkov et al. 2017).


def output_of(module, X):
    """Return what is explained of each row."""
    out = module(X)
    return out.amax(dim=1).log() if out.shape[1] > 1 else out[:, 0]


def saliency(task, X, n_copies=8, noise=0.08):
    """Mean size of the gradient over noisy copies, (n, height, width)."""
    module = estimator.as_module(task)
    generator = torch.Generator().manual_seed(0)
    mean = torch.zeros(X.shape)
    for _ in range(n_copies):
        x = torch.tensor(X) + noise * torch.randn(X.shape, generator=generator)
        x.requires_grad_()
        mean += torch.autograd.grad(output_of(module, x).sum(), x)[0].abs() / n_copies
    return mean.numpy()


# %%
# Where they look
# ---------------
# How much of each map lies on the left half, in the mean over all test scenes? Most of it for the
# task of the left digit, and little for that of the right one. Nobody told the network which half
# is whose. (Hooks on ``module.network.trunk`` catch the maps inside, for Grad-CAM.)

tasks = estimator.task_names_
maps = {task: saliency(task, X_test) for task in tasks}
print({task: round(float(m[:, :, :HALF].sum() / m.sum()), 2) for task, m in maps.items()})

# %%
# And scene by scene, each map over its image:

shown = np.arange(6)
prediction = estimator.predict_frame(X_test[shown])
figure, axes = plt.subplots(3, len(shown), figsize=(11, 4.2), layout="constrained")
for column, i in enumerate(shown):
    axes[0, column].set_title(
        f"{prediction['left digit'][column]}, {prediction['right height'][column]:.0f} px "
        f"({y_test['left digit'][i]}, {y_test['right height'][i]})",
        fontsize=9,
    )
    for row in range(3):
        axes[row, column].imshow(X_test[i], cmap="gray", vmin=0, vmax=1)
        axes[row, column].set(xticks=[], yticks=[])
    for row, task in enumerate(tasks, start=1):
        top = np.quantile(maps[task][i], 0.995)
        axes[row, column].imshow(maps[task][i], cmap="inferno", vmin=0, vmax=top, alpha=0.75)
        axes[row, 0].set_ylabel(task, fontsize=9)
axes[0, 0].set_ylabel("scene", fontsize=9)
figure.suptitle("Predictions, the truth in brackets, and where each task looks", fontsize=11)
plt.show()
