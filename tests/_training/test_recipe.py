"""The automatic recipe: epochs, batches, decay and precision by the size of the data."""

import numpy as np
import pytest
import torch
from _fits import Recorder, X, Y, make
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._training import recipe as recipes
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, TabMTrunk, TimmTrunk


@pytest.mark.parametrize(
    ("images", "n_rows", "n_epochs", "size", "decay"),
    [
        (False, 1, 30, 64, 3.0),
        (False, 711, 30, 64, 3.0),
        (False, 1600, 20, 64, 3.0),
        (False, 4000, 13, 128, 3.0),
        (False, 4445, 12, 128, 3.0),
        (False, 200_000, 12, 512, 3.0),
        (True, 1, 60, 64, 3.0),
        (True, 1111, 60, 64, 3.0),
        (True, 2500, 45, 64, 2.0),
        (True, 5625, 30, 64, 4 / 3),
        (True, 10_000, 30, 128, 1.0),
        (True, 200_000, 30, 256, 5**-0.5 / 2),
    ],
)
def test_automatic_recipe(images, n_rows, n_epochs, size, decay):
    """Weight decay is for AdamW only."""
    epochs, batch = recipes.auto_max_epochs(n_rows, images), recipes.auto_batch_size(n_rows, images)
    assert type(epochs) is type(batch) is int
    assert (epochs, batch) == (n_epochs, size)
    for optimizer in ("AdamW", torch.optim.AdamW):
        assert recipes.auto_weight_decay("auto", optimizer, n_rows, images) == pytest.approx(decay)
    assert recipes.auto_weight_decay("auto", "Adam", n_rows, images) == 0


@pytest.mark.parametrize(("images", "least", "most"), [(False, 12, 30), (True, 30, 60)])
def test_automatic_epochs_fall_with_the_rows(images, least, most):
    epochs = [recipes.auto_max_epochs(n, images) for n in range(1, 10_000)]
    assert (np.diff(epochs) <= 0).all()
    assert set(epochs) == set(range(least, most + 1))


@pytest.mark.parametrize(
    ("shape", "epochs", "batch", "decay"), [((3,), 12, 256, 3.0), ((1, 3), 30, 128, 1.0)]
)
def test_rows_and_images_have_their_recipes(shape, epochs, batch, decay):
    """A sequence of one channel is no row."""
    estimator = MultiTaskCNNEstimator()
    recipe = recipes.resolve(estimator, shape, n_rows=10_000)
    assert (recipe.max_epochs, recipe.batch_size, recipe.weight_decay) == (epochs, batch, decay)


def test_automatic_epochs_are_those_of_the_training_rows():
    """With the schedule, which ends with them, and without the rows that are held out."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(2500, 2)), rng.normal(size=2500)
    assert MultiTaskCNNEstimator().max_epochs == "auto"
    recorder = Recorder()
    rows = make([recorder], max_epochs="auto", batch_size=500).fit(X, y)
    assert rows.n_iter_ == 16  # 800 / sqrt(2500)
    assert recorder.rates[-1] < 0.01 * max(recorder.rates)
    held_out = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 1000}
    part = make(max_epochs="auto", batch_size=2500, **held_out).fit(X, y)
    assert part.n_iter_ == recipes.auto_max_epochs(1875, images=False) == 18


def test_a_default_fit_on_few_rows_has_thirty_epochs():
    estimator = MultiTaskCNNEstimator(random_state=0).fit(X[:20], Y[:20])
    assert estimator.n_iter_ == 30
    assert estimator.max_epochs == "auto"  # a parameter stays as it was passed


def test_automatic_precision_is_float64_for_dense_full_batches():
    assert (
        make(precision="auto", batch_size=60).fit(X, Y).module_.heads.weight.dtype == torch.float64
    )
    assert (
        make(precision="auto", batch_size=59).fit(X, Y).module_.heads.weight.dtype == torch.float32
    )


@pytest.mark.parametrize(
    ("trunk", "decay"),
    [
        ("auto", 3.0),
        ("dense", 3.0),
        (DenseTrunk((8,)), 3.0),
        (ConvTrunk(), 3.0),
        (TabMTrunk(), 3.0),
        (TimmTrunk(), 0.01),
        (nn.Linear(4, 8), 0.01),
        (lambda: nn.Linear(4, 8), 0.01),
    ],
)
def test_decay_is_that_of_pytorch_for_trunks_of_others(trunk, decay):
    """Theirs may be pretrained, and would be forgotten."""
    assert recipes.auto_weight_decay(trunk, "AdamW", 300, images=False) == decay
    assert recipes.auto_weight_decay(trunk, "SGD", 300, images=False) == 0
