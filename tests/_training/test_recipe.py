"""The automatic recipe: epochs, batches, decay and precision by the size of the data."""

import numpy as np
import pytest
import torch
from _fits import Recorder, X, Y, make
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator
from sklearn_mtl._training import recipe as recipes
from sklearn_mtl.networks import ConvTrunk, DenseTrunk, Ensemble, TabMTrunk, TimmTrunk


@pytest.mark.parametrize(
    ("images", "n_rows", "n_epochs", "size", "decay"),
    [
        (False, 1, 30, 64, 3.0),
        (False, 711, 30, 64, 3.0),
        (False, 1600, 20, 64, 3.0),
        (False, 4000, 13, 128, 3.0),
        (False, 4445, 12, 128, 3.0),
        (False, 200_000, 12, 512, 3.0),
        (True, 1, 100, 64, 3.0),
        (True, 1111, 100, 64, 3.0),
        (True, 2500, 74, 64, 2.0),
        (True, 5625, 49, 64, 4 / 3),
        (True, 10_000, 37, 128, 1.0),
        (True, 200_000, 30, 256, 5**-0.5 / 2),
    ],
)
def test_automatic_recipe(images, n_rows, n_epochs, size, decay):
    """Weight decay is for AdamW only."""
    shape = (1, 28, 28) if images else (3,)
    epochs, batch = (
        recipes.auto_max_epochs(n_rows, images),
        recipes.auto_batch_size(n_rows, [shape]),
    )
    assert type(epochs) is type(batch) is int
    assert (epochs, batch) == (n_epochs, size)
    for optimizer in ("AdamW", torch.optim.AdamW):
        found = recipes.auto_weight_decay("auto", optimizer, n_rows, len(shape))
        assert found == pytest.approx(decay)
    assert recipes.auto_weight_decay("auto", "Adam", n_rows, len(shape)) == 0


@pytest.mark.parametrize(
    ("shape", "few", "many"),
    [
        ((3, 127, 127), 64, 256),
        ((1, 10_000), 64, 256),
        ((1, 128, 128), 64, 64),
        ((3, 224, 224), 32, 32),
        ((3, 256, 256), 16, 16),
        ((3, 512, 512), 8, 8),
        ((3, 4000, 3000), 8, 8),
        ((1, 64, 64, 64), 8, 8),
        ((50_000,), 64, 512),  # a table
    ],
)
def test_automatic_batches_of_large_images_have_few(shape, few, many):
    """So that what lies between the layers fits into the memory, whatever the channels are."""
    assert recipes.auto_batch_size(100, [shape]) == few
    assert recipes.auto_batch_size(10**6, [shape]) == many
    recipe = recipes.resolve(MultiTaskCNNEstimator(), shape, n_rows=3000)
    assert recipe.batch_size == min(many, 128 if len(shape) == 1 else 64)
    assert recipes.resolve(MultiTaskCNNEstimator(batch_size=96), shape, 3000).batch_size == 96


def test_automatic_batches_count_the_pixels_of_all_images():
    several = {"front": (3, 224, 224), "back": (3, 224, 224), "table": (20_000,)}
    assert recipes.resolve(MultiTaskCNNEstimator(), several, n_rows=3000).batch_size == 16


@pytest.mark.parametrize(("images", "least", "most"), [(False, 12, 30), (True, 30, 100)])
def test_automatic_epochs_fall_with_the_rows(images, least, most):
    epochs = [recipes.auto_max_epochs(n, images) for n in range(1, 20_000)]
    assert (np.diff(epochs) <= 0).all()
    assert set(epochs) == set(range(least, most + 1))


@pytest.mark.parametrize(
    ("shape", "epochs", "batch", "decay"),
    [
        ((3,), 12, 256, 3.0),
        ((1, 3), 37, 128, 0.3),
        ((1, 3, 3), 37, 128, 1.0),
        ((1, 3, 3, 3), 37, 128, 1.0),
        ({"table": (3,), "signal": (1, 3)}, 37, 128, 0.3),
        ({"image": (1, 3, 3), "signal": (1, 3)}, 37, 128, 1.0),
    ],
)
def test_rows_and_images_have_their_recipes(shape, epochs, batch, decay):
    """A sequence of one channel is no row."""
    estimator = MultiTaskCNNEstimator()
    recipe = recipes.resolve(estimator, shape, n_rows=10_000)
    assert recipe.patience is None
    assert (recipe.max_epochs, recipe.batch_size, recipe.weight_decay) == (epochs, batch, decay)


@pytest.mark.parametrize("trunk", ["auto", "ensemble", Ensemble(), Ensemble(ConvTrunk(), 3)])
def test_sequences_have_one_recipe_whoever_leaves_out_what(trunk):
    """Their epochs are long, and no decay keeps noise from being learned by heart."""
    one, members = (
        recipes.resolve(MultiTaskCNNEstimator(trunk=each), (2, 50), n_rows=300, left_out=out)
        for each, out in (("conv", False), (trunk, True))
    )
    assert members == one
    assert (one.max_epochs, one.patience, one.weight_decay) == (100, None, 0.3)


@pytest.mark.parametrize("max_epochs", ["auto", 7])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("left_out", [False, True])
def test_a_loss_is_watched_where_there_is_one(max_epochs, early_stopping, left_out):
    """Validation data come first; a number of epochs is what it says without them."""
    estimator = MultiTaskCNNEstimator(max_epochs=max_epochs, early_stopping=early_stopping)
    recipe = recipes.resolve(estimator, (3,), n_rows=300, left_out=left_out)
    watched = recipe.patience and recipe.patience.watched
    if early_stopping:
        assert watched == "valid_loss"
        assert recipe.patience == (10, 0.0, 1e-4, "valid_loss", False)
    else:
        assert watched == ("oob_loss" if left_out and max_epochs == "auto" else None)
    assert recipe.weight_decay == (1.0 if left_out else 3.0)
    most = 400 if watched else 30
    assert recipe.max_epochs == (7 if max_epochs == 7 else most)


@pytest.mark.parametrize(
    ("n_rows", "decay"), [(1, 1.0), (2_000, 1.0), (4_000, 0.5), (200_000, 0.01)]
)
def test_the_prior_counts_as_much_as_so_many_rows(n_rows, decay):
    """The more rows there are, the less decay is there beside what they say."""
    estimator = MultiTaskCNNEstimator()
    recipe = recipes.resolve(estimator, (3,), n_rows, left_out=True)
    assert recipe.weight_decay == decay
    assert recipe.n_rows == n_rows
    assert recipe.patience.eases
    own = estimator.set_params(weight_decay=0.7)
    recipe = recipes.resolve(own, (3,), n_rows, left_out=True)
    assert recipe.weight_decay == 0.7
    assert not recipe.patience.eases


@pytest.mark.parametrize(
    ("n_batches", "least"), [(1, 30), (2, 15), (7, 5), (8, 4), (16, 4), (1000, 4)]
)
def test_patience_is_that_of_steps_epochs_and_the_best_one(n_batches, least):
    """Thirty steps or four epochs, or a quarter of the way to the best epoch."""
    patience = recipes.auto_patience(n_batches)
    assert patience == (least, 0.25, 0.01, "oob_loss", False)
    assert patience.epochs(0) == patience.epochs(4 * least) == least
    assert patience.epochs(4 * least + 4) == least + 1


@pytest.mark.parametrize(
    ("n_rows", "epochs"), [(64, 400), (50 * 256, 400), (100 * 256, 200), (10**7, 12)]
)
def test_most_epochs_are_those_of_twenty_thousand_steps(n_rows, epochs):
    recipe = recipes.resolve(MultiTaskCNNEstimator(), (3,), n_rows, left_out=True)
    assert recipe.max_epochs == epochs


def test_automatic_epochs_are_those_of_the_training_rows():
    """With the schedule, which ends with them, where nothing is left out or held out."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2500, 2))
    y = X[:, 0] + rng.normal(size=2500)
    assert MultiTaskCNNEstimator().max_epochs == "auto"
    recorder = Recorder()
    trunk = DenseTrunk((8,), n_members=1)
    rows = make([recorder], trunk=trunk, max_epochs="auto", batch_size=500).fit(X, y)
    assert rows.n_iter_ == 16  # 800 / sqrt(2500)
    assert recorder.rates[-1] < 0.01 * max(recorder.rates)


@pytest.mark.parametrize("batch_size", [100, 5])
def test_a_rate_that_stays_has_a_warm_up_of_twenty_steps(batch_size):
    params = {"early_stopping": True, "n_iter_no_change": 99, "batch_size": batch_size}
    estimator = make([], max_epochs=30, learning_rate=0.02, **params)
    history = estimator.fit(X, Y, X_val=X, y_val=Y).net_.history
    rates = np.concatenate(history[:, "batches", :, "event_lr"])
    np.testing.assert_allclose(rates[:20], 0.001 * np.arange(1, 21))
    assert len(rates) > 20
    assert set(rates[20:]) == {0.02}


def test_data_say_when_a_default_fit_ends():
    """By the losses of the folds left out: after the best epoch, and patience."""
    estimator = make(max_epochs="auto", learning_rate=0.01, weight_decay=1.0).fit(X, Y)
    losses = np.array(estimator.net_.history[:, "oob_loss"])
    reference, best = np.inf, 0
    for epoch, loss in enumerate(losses, start=1):
        if loss < reference - 0.01 * Y.shape[1]:
            reference, best = loss, epoch
    assert estimator.n_iter_ == len(losses) == best + np.ceil(max(8, best / 4)) < 400
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
    assert recipes.auto_weight_decay(trunk, "AdamW", 300, n_axes=1) == decay
    assert recipes.auto_weight_decay(trunk, "SGD", 300, n_axes=1) == 0
