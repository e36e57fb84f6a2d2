"""
Fine-tuning: a network that has seen other images
=================================================

Few images have labels. A network that has learned from many others of their kind knows strokes and
forms already. :class:`~sklearn_mtl.networks.FineTune` takes any PyTorch module with its weights,
and trains it gently: first what is new alone, then the rest at 0.3 times the learning rate.
"""

# %%
# A pretrained body
# -----------------
# As nothing is downloaded here, we make one: a small convolutional network that learns to tell
# the digits 0 to 4 apart, and then loses its last layer. In its place you would load weights of
# your own, or take :class:`~sklearn_mtl.networks.TimmTrunk`, ``TimmTrunk("resnet18",
# pretrained=True)``.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl.networks import FineTune

digits = load_digits()
images, label = digits.images[:, None].astype("float32") / 16, digits.target
old, new = np.flatnonzero(label < 5), np.flatnonzero(label >= 5)


def make_body():
    """Return a convolutional network that ends in a map of 4 x 4 cells."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())


body = make_body()
network = nn.Sequential(body, nn.Flatten(), nn.LazyLinear(5))
X_old, y_old = torch.from_numpy(images[old]), torch.from_numpy(label[old])
network(X_old[:1])  # the lazy layer learns its size
optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
for _ in range(10):
    for rows in torch.randperm(len(old)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X_old[rows]), y_old[rows]).backward()
        optimizer.step()

# %%
# Few rows of new digits
# ----------------------
# Now the digits 5 to 9, of which the body has seen none, and a second task: how much ink is on the
# paper. Three ways to go on, and a network that begins with nothing, with 25 to 200 labels.

y = pd.DataFrame({"digit": label[new], "ink": images[new].sum(axis=(1, 2, 3))})
X, test = images[new], np.arange(400, len(new))
ways = {
    "finetune='full'": FineTune(body, n_features=32),
    "finetune='gradual'": FineTune(body, n_features=32, finetune="gradual"),
    "finetune='heads'": FineTune(body, n_features=32, finetune="heads"),
    "from nothing": FineTune(make_body(), n_features=32, frozen_epochs=0, relative_rate=1),
}
sizes = (25, 50, 100, 200)
scores = pd.DataFrame(index=sizes, columns=list(ways), dtype=float)
for name, trunk in ways.items():
    for n in sizes:
        est = MultiTaskCNNEstimator(
            {"digit": "classification", "ink": "regression"},
            trunk=trunk,
            standardize=False,
            max_epochs=30,
            random_state=0,
        ).fit(X[:n], y[:n])
        scores.loc[n, name] = est.score_tasks(X[test], y.iloc[test])["digit"]
print(scores.round(3))

# %%
# Look
# ----

figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
for name, mark in zip(ways, ("o-", "s-", "^-", "v--"), strict=True):
    axis.plot(sizes, scores[name], mark, label=name)
axis.set(xscale="log", xlabel="labelled images", ylabel="accuracy on new images of new digits")
axis.set_xticks(sizes, sizes)
axis.minorticks_off()
axis.legend(frameon=False)
axis.set_title("What a body knows from other digits")
plt.show()
