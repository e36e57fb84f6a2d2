"""
Saliency: which pixels does each task look at
=============================================

A joint network is one function of the pixels with several outputs. Do its tasks look at the same
things? :meth:`~sklearn_mtl.MultiTaskCNNEstimator.as_module` gives the fitted estimator as one
:class:`torch.nn.Module`, from X as it was passed to `fit` to the prediction of every task, and
PyTorch differentiates it. Explainers such as Captum's and shap's take the same module.
"""

# %%
# A network
# ---------
# The scenes of the :doc:`first lesson <plot_1_quickstart>`: is there a digit, how bright is the
# background, and, where there is a digit, how large is it?

import matplotlib.pyplot as plt
import numpy as np
import torch

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.datasets import make_digit_scenes

X_train, y_train = make_digit_scenes(2000, subset="train", random_state=0)
X_test, y_test = make_digit_scenes(1000, subset="test", random_state=1)
tasks = [
    Task("digit_present", "classification"),
    Task("brightness", "regression"),
    Task("digit_size", "regression", given=("digit_present", 1)),
]
estimator = MultiTaskCNNEstimator(tasks, random_state=0).fit(X_train, y_train)
print({name: round(score, 3) for name, score in estimator.score_tasks(X_test, y_test).items()})

# %%
# Gradients
# ---------
# The gradient of an output with respect to the pixels says what a bit more light would change. A
# single one is ragged; the mean of its size over a few noisy copies of the scene (SmoothGrad,
# Smilkov et al. 2017) is not. All the rest is in the module: standardisation, members, units.

module = estimator.as_module()


def output_of(scenes, task):
    """What is explained: log odds of a digit, or a number."""
    found = module(scenes)[task]
    return found.logit(eps=1e-6)[:, 1] if task == "digit_present" else found


def saliency(scene, task, n_copies=32, noise=0.1):
    """Mean size of the gradient (H, W) over noisy copies of a scene (1, H, W)."""
    generator = torch.Generator().manual_seed(0)
    copies = torch.from_numpy(scene).repeat(n_copies, 1, 1, 1)
    copies = copies + noise * torch.randn(copies.shape, generator=generator)
    copies.requires_grad_()
    output_of(copies, task).sum().backward()
    return copies.grad.abs().mean(dim=(0, 1)).numpy()


# %%
# Grad-CAM
# --------
# Coarser, and nearer to what a network says: where are the maps of its last convolutions that speak
# for an output (Selvaraju et al. 2017)? A hook keeps the maps on their way.


def grad_cam(scene, task):
    """Maps of the last stage, weighted by their mean gradient, (h, w)."""
    layer = [m for m in module.network.trunk if "Stage" in type(m).__name__][-1]
    maps = []
    with layer.register_forward_hook(lambda layer, given, made: maps.append(made)):
        output = output_of(torch.from_numpy(scene)[None], task).sum()
    (slopes,) = torch.autograd.grad(output, maps[0])
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return (weights * maps[0]).sum(dim=1)[0].relu().detach().numpy()


# %%
# Pictures
# --------
# Three scenes with a digit. Whether there is one, and how large it is, the network reads off the
# strokes; the size most of all where they end. The brightness it reads off the background around
# the strokes, and the strokes themselves hardly count. Each task gets its own answer from the same
# trunk.

shown = np.flatnonzero((y_test["digit_present"] == 1) & (y_test["digit_size"] > 16))[:3]
columns = ["scene", "digit_present", "digit_size", "brightness", "Grad-CAM of digit_present"]
figure, axes = plt.subplots(3, len(columns), figsize=(11, 6.6), layout="constrained")
for row, i in zip(axes, shown, strict=True):
    row[0].imshow(X_test[i, 0], cmap="gray")
    for ax, task in zip(row[1:4], columns[1:4], strict=True):
        ax.imshow(saliency(X_test[i], task), cmap="magma")
    row[4].imshow(X_test[i, 0], cmap="gray")
    cam = grad_cam(X_test[i], "digit_present")
    row[4].imshow(
        cam, cmap="magma", alpha=0.6, extent=(-0.5, 27.5, 27.5, -0.5), interpolation="bilinear"
    )
for ax, title in zip(axes[0], columns, strict=True):
    ax.set_title(title, fontsize=10)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# How much of the saliency lies on the ink? Strokes cover a small part of a scene.

bright = [X_test[i, 0] > np.quantile(X_test[i, 0], 0.85) for i in shown]
for task in columns[1:4]:
    shares = [
        saliency(X_test[i], task)[ink].sum() / saliency(X_test[i], task).sum()
        for i, ink in zip(shown, bright, strict=True)
    ]
    print(f"{task:14} {np.mean(shares):.2f} of the saliency on the brightest 0.15 of the pixels")
