"""scikit-learn's own checks: all of them, without an exemption."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl._training import recipe
from sklearn_mtl.losses import LogProd
from sklearn_mtl.networks import DenseTrunk, TabMTrunk


def short(**params: Any) -> MultiTaskCNNEstimator:
    """A configuration that is trained briefly: the checks ask for manners, not for skill."""
    return MultiTaskCNNEstimator(max_epochs=3, **params)


class MeanLoss(nn.Module):
    """A loss of the user's own."""

    def forward(self, losses: Tensor, counts: Tensor) -> Tensor:
        return losses.mean()


class Rectifier(nn.Sequential):
    """A trunk of the user's own; the checks differ in the number of features."""

    def __init__(self) -> None:
        super().__init__(nn.LazyLinear(8), nn.ReLU())


PLAIN = DenseTrunk(hidden_layer_sizes=(8,), n_members=1, n_frequencies=0)  # a quick one
MEMBERS = DenseTrunk(hidden_layer_sizes=(8,))  # and waves

# Not among them, as the check of sample weights repeats rows, and asks for the same predictions to
# seven digits: early stopping and batches smaller than the data, which are drawn by rows; bfloat16;
# a linear trunk, `DenseTrunk(())`, whose intercept is best from the start, so that its gradient is
# nothing but rounding, which AdamW makes a step. Nor trunks of images, as all X are rows.
CONFIGURATIONS = [
    MultiTaskCNNEstimator(),  # `loss='logprod'`, as users meet it
    MultiTaskCNNEstimator(loss="weighted"),
    MultiTaskCNNEstimator(loss="masked_mse"),
    short(trunk=MEMBERS, early_stopping=False, head_hidden_units=4),
    short(trunk=MEMBERS, task_weights="n_observed", class_weight="balanced"),
    short(trunk=MEMBERS, precision="float64", conditional_output="expected"),
    short(trunk=PLAIN, loss="uncertainty", optimizer="SGD", learning_rate=0.01),
    short(trunk=PLAIN, loss=LogProd(), weight_decay=0.0),
    short(trunk=PLAIN, loss=MeanLoss(), batch_size=1000),
    short(trunk=PLAIN, optimizer="RMSprop", net_params={"optimizer__momentum": 0.5}),
    short(trunk=PLAIN, conditional_output="nan", missing_values=-999.0, device="cpu"),
    short(trunk=DenseTrunk((4, 4), 2, 2), tasks={"y0": Task("y0", "quantile")}),
    short(trunk=PLAIN, tasks={"y0": "ordinal"}, data_format="channels_last"),
    short(trunk=PLAIN, precision="float32"),
    short(trunk=TabMTrunk(n_blocks=1, d_block=8, k=4), precision="float64"),
    short(trunk=Rectifier, precision="float64", net_params={"optimizer__betas": (0.8, 0.99)}),
]


@pytest.fixture(autouse=True)
def array_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this variable, the check of array API input skips itself."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the data say when to stop, four epochs without a gain do, instead of 30 steps."""
    patience = recipe.auto_patience(60)
    assert patience.least == 4
    monkeypatch.setattr(recipe, "auto_patience", lambda *args, **kwargs: patience)


# The check of a single row fits one label, of which the estimator warns.
@pytest.mark.filterwarnings("ignore:Task 'y0' has one observed label:UserWarning")
@parametrize_with_checks(CONFIGURATIONS)
def test_scikit_learn_checks(estimator: MultiTaskCNNEstimator, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", CONFIGURATIONS, ids=str)
def test_checks_have_not_vanished(estimator: MultiTaskCNNEstimator) -> None:
    """Some tags switch most of the checks off, without a word."""
    names = [
        getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(estimator)
    ]
    assert len(names) >= 45
    assert {
        "check_estimators_nan_inf",
        "check_estimators_pickle",
        "check_estimator_sparse_array",
        "check_fit_idempotent",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_readonly_memmap_input",
        "check_sample_weight_equivalence_on_dense_data",
        "check_array_api_input",
    } <= set(names)
    tags = get_tags(estimator)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.input_tags.two_d_array
    assert tags.input_tags.sparse
    assert tags.target_tags.required
    assert tags.target_tags.multi_output
