"""Samples and small trunks that the tests of networks share."""

import torch
from torch import nn


def random_inputs(shape, n=3, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def small_trunk():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4))


class ConvThenFlatten(nn.Module):
    """Convolutions over images, flattened in a way of the user's choice."""

    def __init__(self, flatten):
        super().__init__()
        self.convs = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
        self.pool = nn.AvgPool2d(2)
        self.flatten = flatten

    def forward(self, x):
        return self.flatten(self, self.convs(x))
