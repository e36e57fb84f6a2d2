"""Any trunk several times: members that leave out rows, for images, sequences, several inputs."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from torch import nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.augmentation import Augment
from sklearn_mtl.datasets import MultiInput, SequencePad
from sklearn_mtl.losses import Cells, TaskLosses
from sklearn_mtl.networks import (
    ConvTrunk,
    DenseTrunk,
    Ensemble,
    FineTune,
    Fusion,
    Members,
    MultiTaskModule,
    SequenceTrunk,
    build_trunk,
    folds_of,
    is_data,
    spelled_out,
    trunk_of,
)
from sklearn_mtl.networks.conv import Shift

SMALL = ConvTrunk(width=4, n_features=8)


def images(n, seed=0):
    """Images of 8 x 8, and a number that says how bright their right half is."""
    rng = np.random.default_rng(seed)
    bright = rng.normal(size=n)
    X = 0.3 * rng.normal(size=(n, 1, 8, 8))
    X[..., 4:] += bright[:, None, None, None]
    return X.astype(np.float32), bright


def small(trunk=None, **params):
    defaults = {"trunk": trunk or Ensemble(SMALL, 3), "max_epochs": 3, "random_state": 0}
    defaults["learning_rate"] = 0.01
    return MultiTaskCNNEstimator(**(defaults | params))


# -- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trunk", "shape"),
    [
        (SMALL, (1, 8, 8)),
        ("conv", (2, 12)),
        ("sequence", (2, 12)),
        ("auto", (5,)),
        ("auto", {"image": (1, 8, 8), "table": (3,)}),
    ],
)
def test_members_see_the_same_samples_or_each_its_own(trunk, shape):
    """Each has weights of its own."""
    torch.manual_seed(0)
    module, n_features = build_trunk(Ensemble(trunk, 3), shape)
    module.eval()
    assert isinstance(module, Members)
    assert module.n_members == folds_of(Ensemble(trunk, 3), shape) == 3
    flat = shape if isinstance(shape, tuple) else (67,)
    x = torch.rand(4, 3, *flat)
    with torch.no_grad():
        each = module(x)
        same = module(x[:, 1])
    assert each.shape == same.shape == (4, 3, n_features)
    torch.testing.assert_close(each[:, 1], same[:, 1])
    assert not torch.allclose(same[:, 0], same[:, 1])


LEARNED = torch.tensor([[1, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 1.0]])


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 12), {"image": (1, 8, 8), "table": (3,)}])
def test_members_compute_what_they_have_seen(shape):
    """Features and gradients are those of all rows, of which some count for nothing."""
    torch.manual_seed(0)
    module, n_features = build_trunk(Ensemble("auto", 3), shape)
    module.double().eval()  # without shifts, which are others for other rows
    x = torch.rand(5, *(shape if isinstance(shape, tuple) else (67,)), dtype=torch.float64)
    found = []
    for features in (module(x) * LEARNED.unsqueeze(2), module(x, LEARNED)):
        module.zero_grad()
        (features**2).sum().backward()
        found.append([features.detach(), *(p.grad for p in module.parameters())])
    torch.testing.assert_close(*found)
    assert found[0][0].shape == (5, 3, n_features)


def test_fits_spare_members_the_rows_that_they_leave_out():
    rows = []

    class Counted(nn.Flatten):
        def forward(self, x):
            if self.training:
                rows.append(len(x))
            return super().forward(x)

    small(Ensemble(nn.Sequential(Counted(), nn.Linear(64, 8)), 3)).fit(*images(90))
    assert sum(rows) == 3 * 3 * 60  # epochs, members, rows


@pytest.mark.parametrize("seen", [[1, 0, 0, 0], [0, 0, 0, 0]])
def test_batch_statistics_have_two_rows(seen):
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
    module, _ = build_trunk(Ensemble(norm, 2), (1, 8, 8))
    both = torch.tensor([seen, [1, 1, 1, 0]]).T
    assert torch.isfinite(module.train()(torch.rand(4, 1, 8, 8), both)).all()


def test_copies_of_a_module_begin_alike_and_are_trained_apart():
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU())
    before = body[1].weight.detach().clone()
    module, _ = build_trunk(Ensemble(body, 2), (1, 8, 8))
    first, second = module.trunks
    assert torch.equal(first[1].weight, second[1].weight)
    X, y = images(40)
    estimator = small(Ensemble(body, 2)).fit(X, y)
    first, second = estimator.module_.trunk.trunks
    assert not torch.equal(first[1].weight, second[1].weight)
    assert torch.equal(body[1].weight, before)


def test_a_single_member_is_the_trunk_alone():
    X, y = images(40)
    alone, single = (small(trunk).fit(X, y) for trunk in (SMALL, Ensemble(SMALL, 1)))
    np.testing.assert_array_equal(single.predict(X), alone.predict(X))
    assert not hasattr(single, "oob_score_")


def test_a_row_left_out_moves_no_weight_of_its_member():
    """Not by rounding either: the gradient is exactly zero."""
    trunk, n_features = build_trunk(Ensemble(SMALL, 3), (1, 8, 8))
    module = MultiTaskModule(trunk, n_features, [2, 1])
    nn.init.ones_(module.heads.weight)
    sees = torch.tensor([[0.5, 0.0, 0.5]])  # the second member leaves it out
    target, share = torch.tensor([[1.0, 3.0]]), torch.ones(1, 2)
    cells = Cells(target, None, share, share.sum(dim=0), sees)
    losses = TaskLosses(["classification", "regression"], [2, 1])
    losses.compare(module(torch.rand(1, 1, 8, 8)), cells).sum().backward()
    moved = [any(p.grad.any() for p in member.parameters()) for member in module.trunk.trunks]
    assert moved == [True, False, True]


@pytest.mark.parametrize(
    ("spec", "shape", "match"),
    [
        (Ensemble(DenseTrunk(), 3), (4,), "an ensemble itself.*n_members=1"),
        (Ensemble("dense", 3), (4,), "an ensemble itself"),
        (Ensemble(Ensemble(SMALL), 3), (1, 8, 8), "an ensemble itself"),
        (Ensemble("tabm", 2), (4,), "an ensemble itself"),
        (Ensemble(nn.Unflatten(1, (2, 2)), 2), (4,), "an ensemble itself"),
        (Ensemble(SMALL, 0), (1, 8, 8), "n_members"),
        (Ensemble("konv"), (1, 8, 8), "'konv' is unknown"),
        (Ensemble(SMALL), (4,), "ConvTrunk needs samples"),
        (Ensemble(SMALL), {"a": (1, 8, 8)}, "is for one input"),
        (Ensemble(Fusion()), (4,), "is for several inputs"),
    ],
)
def test_what_does_not_fit_is_named(spec, shape, match):
    with pytest.raises(ValueError, match=match):
        build_trunk(spec, shape)


def test_what_an_ensemble_is_made_of():
    fusion = Fusion({"image": SMALL})
    shapes = {"image": (1, 8, 8), "table": (3,)}
    assert trunk_of(Ensemble(SMALL), None) is SMALL
    assert trunk_of(Ensemble(fusion), "image") is SMALL
    assert trunk_of(Ensemble(fusion), "table") == "auto"
    assert is_data(Ensemble())
    assert is_data(Ensemble(fusion))
    assert not is_data(Ensemble(nn.Flatten()))
    assert isinstance(spelled_out("ensemble", (1, 8, 8)).trunk, ConvTrunk)
    spelled = spelled_out(Ensemble("fusion", 2), shapes)
    assert spelled.n_members == 2
    assert {name: type(part) for name, part in spelled.trunk.parts.items()} == {
        "image": ConvTrunk,
        "table": DenseTrunk,
    }


# -- the estimator -------------------------------------------------------------------------------


def test_what_cannot_be_predicted_is_predicted_by_its_mean():
    """A trunk alone learns noise by heart; and what can be predicted, still is."""
    X, bright = images(80)
    X_new, bright_new = images(400, seed=1)
    rng = np.random.default_rng(2)
    y, y_new = (np.column_stack([b, rng.normal(size=len(b))]) for b in (bright, bright_new))
    params = {"max_epochs": 40, "weight_decay": 0.0}
    alone = small(SMALL, **params).fit(X, y).score_tasks(X_new, y_new)
    members = small(**params).fit(X, y)
    scores = members.score_tasks(X_new, y_new)
    assert alone["y1"] < -0.3
    assert scores["y1"] > -0.03
    assert scores["y0"] > 0.85
    error = np.sqrt(np.mean((members.predict(X_new) - y_new) ** 2, axis=0))
    np.testing.assert_allclose(members.noise_std_[1], error[1], rtol=0.2)
    assert members.oob_score_["y0"] == pytest.approx(
        r2_score(bright, members.oob_prediction_[:, 0]), abs=1e-6
    )
    low, high = np.moveaxis(members.predict_interval(X_new, confidence=0.8), -1, 0)
    inside = ((low <= y_new) & (y_new <= high)).mean(axis=0)
    assert (inside > 0.75).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_epochs_are_those_of_the_trunk_alone():
    """Images are trained along a schedule with an end, whoever leaves out what."""
    X, y = images(64)
    histories = [
        small(trunk, max_epochs="auto", batch_size=64, learning_rate=1e-5).fit(X, y).history_
        for trunk in (ConvTrunk(width=1, n_features=1), Ensemble(ConvTrunk(1, 1), 2))
    ]
    assert [len(history["train_loss"]) for history in histories] == [100, 100]
    assert "oob_loss" not in histories[1]


@pytest.mark.parametrize(
    ("trunk", "axes"), [(DenseTrunk((4,), n_members=2), 3), (Ensemble(DenseTrunk((4,), 1), 2), 1)]
)
def test_the_data_say_when_to_end_where_epochs_are_short(trunk, axes):
    """Of a `DenseTrunk` over anything, and of rows of numbers."""
    X, y = images(40)
    X = X if axes == 3 else X[:, 0, :, 4]
    assert "oob_loss" in small(trunk, max_epochs="auto").fit(X, y).history_


def test_parameters_can_be_searched():
    X, y = images(40)
    search = GridSearchCV(
        small(max_epochs=1), {"trunk__trunk__width": [2, 4], "trunk__n_members": [2]}, cv=2
    ).fit(X, y)
    assert search.best_estimator_.module_.trunk.n_members == 2
    assert clone(search.best_estimator_).trunk.trunk.width in (2, 4)


@pytest.mark.parametrize("spec", [Ensemble(), Ensemble("conv"), Ensemble(nn.Flatten())])
def test_what_has_no_parameters_is_named(spec):
    with pytest.raises(
        ValueError, match=r"trunk__width cannot be set: .*Pass a spec instead, .*=Ensemble\(\) of"
    ):
        MultiTaskCNNEstimator(trunk=spec).set_params(trunk__trunk__width=4)
    spec.set_params(trunk=ConvTrunk(), trunk__width=4)
    assert spec.trunk.width == 4


@pytest.mark.parametrize("name", ["ensemble", "spec"])
def test_files_hold_all_of_it(name, tmp_path):
    X, y = images(40)
    trunk = "ensemble" if name == "ensemble" else Ensemble(SMALL, 2)
    estimator = small(trunk, max_epochs=1).fit(X, y)
    estimator.save(tmp_path / "model")
    loaded = MultiTaskCNNEstimator.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))
    assert loaded.oob_score_ == estimator.oob_score_
    assert isinstance(loaded.trunk, Ensemble)


def test_several_inputs_leave_out_rows_too():
    X, bright = images(60)
    table = np.random.default_rng(1).normal(size=(60, 2))
    both = MultiInput(image=X, table=table)
    spec = Ensemble(Fusion({"image": SMALL}), 2)
    estimator = small(spec, max_epochs=40).fit(both, bright + table[:, 0])
    assert estimator.oob_score_["y0"] > 0.5
    assert estimator.predict(both[:5]).shape == (5,)


def test_padding_says_nothing():
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(1, rng.integers(4, 12))) for _ in range(40)]
    y = np.array([s.mean() for s in steps])
    padded = SequencePad(length=12).fit_transform(steps)
    estimator = small(Ensemble(SequenceTrunk(4, 8), 2), input_shape=padded.shape[1:]).fit(padded, y)
    other = padded.copy()
    other[:, 0][other[:, -1] == other[:, -1].min()] = 7.0
    np.testing.assert_allclose(estimator.predict(other), estimator.predict(padded), atol=1e-6)


class Reaches(Callback):
    """How far layers shift while they are trained."""

    def on_train_begin(self, net, **kwargs):
        layers = [m for m in net.module_.modules() if isinstance(m, Shift)]
        assert len(layers) == 2
        SEEN.update(layer.reach for layer in layers)


SEEN = set()


@pytest.mark.parametrize("several", [False, True])
def test_images_are_augmented_before_all_members(several):
    """Shifts of their own rest in all of them."""
    X, y = images(40)
    trunk = ConvTrunk(width=2, n_features=4, max_shift=0.3)
    if several:
        X, trunk = MultiInput(image=X, table=np.zeros((40, 2))), Fusion({"image": trunk})
    SEEN.clear()
    params = {"augment": Augment(contrast=0.1), "max_epochs": 1}
    net_params = {"callbacks": [Reaches()]}
    small(Ensemble(trunk, 2), net_params=net_params, **params).fit(X, y)
    assert {(0, 0)} == SEEN


def test_pretrained_members_know_their_pixels():
    body = nn.Sequential(nn.Flatten(), nn.Linear(192, 8))
    spec = Ensemble(FineTune(body, n_features=8), 2)
    X = np.random.default_rng(0).integers(0, 255, (40, 3, 8, 8), dtype=np.uint8)
    estimator = small(spec, standardize="imagenet", max_epochs=2).fit(X, X.mean(axis=(1, 2, 3)))
    assert np.isfinite(estimator.oob_score_["y0"])


def test_members_that_no_epoch_trains_are_told_once():
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8))
    with pytest.warns(UserWarning, match="frozen_epochs=1 of the trunk") as told:
        small(Ensemble(FineTune(body), 2), max_epochs=1).fit(*images(40))
    assert len(told) == 1


def sequences(n=60):
    """Sequences of two channels that rise or fall, and two numbers: how much so, and another."""
    rng = np.random.default_rng(0)
    slope, noise = rng.normal(size=(2, n))
    X = (slope[:, None, None] * np.linspace(-1, 1, 12)).repeat(2, axis=1)
    return X + 0.3 * rng.normal(size=X.shape), np.column_stack([slope, noise])


def test_sequences_have_five_members_by_default():
    X, y = sequences()
    default, spelled = (
        small(trunk, input_shape=(2, 12), max_epochs=1).fit(X, y)
        for trunk in ("auto", Ensemble(ConvTrunk(), n_members=5))
    )
    np.testing.assert_array_equal(default.predict(X), spelled.predict(X))
    assert default.oob_score_ == spelled.oob_score_


def test_what_cannot_be_known_of_sequences_is_told_by_default():
    X, y = sequences()
    estimator = small("auto", input_shape=(2, 12), max_epochs=30).fit(X, y)
    assert estimator.oob_score_["y0"] > 0.8
    assert estimator.oob_score_["y1"] > -0.1
    assert estimator.noise_std_[1] == pytest.approx(y[:, 1].std(), rel=0.15)
    assert estimator.predict_interval(X[:3]).shape == (3, 2, 2)


def test_a_stream_teaches_all_members_all_rows():
    X, y = images(40)
    estimator = small().partial_fit(X, y)
    assert not hasattr(estimator, "oob_score_")
    assert estimator.module_.trunk.n_members == 3


def test_conditional_targets_are_left_out_by_fold():
    X, bright = images(90)
    y = np.column_stack([bright > 0, np.where(bright > 0, bright, np.nan)])
    tasks = [Task("found", "classification"), Task("size", "regression", given=("found", 1))]
    estimator = small(tasks=tasks, max_epochs=30).fit(X, y)
    assert estimator.oob_score_["found"] > 0.8
    assert np.isfinite(estimator.oob_score_["size"])
