import copy
import math

import numpy as np
import pytest
import torch
from _asserts import (
    assert_finite,
    assert_gradient_matches_finite_differences,
    assert_gradient_only_where_observed,
    assert_ignores_what_is_masked,
    assert_integer_weights_repeat_rows,
    assert_rows_can_be_permuted,
    assert_same,
    pickled,
    value_and_gradient,
)
from _inputs import BATCHES, make_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    mean_gamma_deviance,
    mean_pinball_loss,
    mean_poisson_deviance,
    mean_squared_error,
)

from sklearn_mtl.kinds import KINDS, GammaTarget, OrdinalTarget
from sklearn_mtl.losses import (
    CELL_LOSSES,
    LOSSES,
    Cells,
    Combiner,
    KindLoss,
    LogProd,
    TaskLosses,
    Uncertainty,
    sequential_logit,
)

NAN = float("nan")


class BatchLogProd(LogProd):
    """The logarithm of the batch's own losses."""

    def __init__(self, weights=None):
        super().__init__(weights, decay=None)


RULES = {**LOSSES, "batch logprod": BatchLogProd}
STARTED = pytest.mark.parametrize("started", [True, False], ids=["started", "bare"])
COMBINERS = pytest.mark.parametrize("name", RULES)
LARGE = "large errors", "every kind, large errors"
SMALL = "small errors", "every kind, small errors"
FAMILIES = pytest.mark.parametrize("family", ["likelihood", "squared"])


def every_batch(*skip):
    """Parametrize over the adversarial batches but some."""
    chosen = {key: batch for key, batch in BATCHES.items() if key not in skip}
    return pytest.mark.parametrize("batch", chosen.values(), ids=chosen.keys())


def expectations(n_tasks, dtype=torch.float64):
    """What to tell `start`: losses of the constant predictor, and counts in a batch."""
    return torch.linspace(1.5, 0.5, n_tasks, dtype=dtype), torch.full((n_tasks,), 3.0, dtype=dtype)


def make_combiner(name, n_tasks, *, started=True, dtype=torch.float64, powers=None):
    combine = RULES[name](torch.linspace(0.5, 2, n_tasks, dtype=dtype))
    if started:
        combine.start(*expectations(n_tasks, dtype), powers)
    return combine


def make_loss(name, batch, started=True):
    """A pure function (output, target, weight): the combiner starts anew in every call."""

    def loss(output, target, weight=None):
        losses = batch.losses(RULES[name].family)
        combine = make_combiner(name, len(batch.kinds), started=started, powers=losses.powers)
        return combine(*losses(output, target, weight))

    return loss


# -- properties of the batch loss ----------------------------------------------------------------


@every_batch()
@STARTED
@COMBINERS
def test_what_is_masked_is_ignored(name, started, batch):
    assert_ignores_what_is_masked(make_loss(name, batch, started), batch)


@every_batch(*LARGE)
@COMBINERS
def test_raw_outputs_under_the_mask_are_ignored(name, batch):
    """In single precision, where their losses would overflow."""
    batch = batch._replace(output=batch.output.float(), target=batch.target.float())
    width = torch.tensor(batch.n_outputs)
    masked = (~batch.observed).repeat_interleave(width, dim=1)
    if batch.output.ndim == 3:
        masked = masked.unsqueeze(1).expand_as(batch.output)
    losses, combine = batch.losses(RULES[name].family), make_combiner(name, len(width))

    def results(output):
        twin = copy.deepcopy(combine).float()
        return value_and_gradient(lambda f: twin(*losses(f, batch.target)), output)

    value, gradient = results(batch.output)
    assert_finite(value, gradient)
    assert (gradient[masked] == 0).all()
    for junk in (1e30, -1e30):
        other = results(torch.where(masked, junk, batch.output))
        assert torch.equal(other[0], value)
        assert torch.equal(other[1], gradient)


@every_batch(*LARGE)  # of which probabilities 0 and 1 have no gradient either
@COMBINERS
def test_gradient_only_where_observed(name, batch):
    assert_gradient_only_where_observed(make_loss(name, batch), batch)


@every_batch("one class", *LARGE, *SMALL)
@COMBINERS
def test_gradient_is_finite_difference(name, batch):
    batch = batch._replace(output=batch.output[:4], target=batch.target[:4])
    assert_gradient_matches_finite_differences(make_loss(name, batch), batch)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@COMBINERS
def test_gradient_is_finite_difference_for_losses_of_any_size(name, size):
    """Losses of 1e-3 to 1e3 in every task, with denominators to match."""
    batch = make_batch("r23r", 6, share=0.8, seed=14)
    hit = batch.target.nan_to_num()
    # A margin m between the right and the other logits is a cross-entropy of log(1 + C exp(-m)).
    right = torch.cat(
        [torch.nn.functional.one_hot(hit[:, k].long(), c) for k, c in [(1, 2), (2, 3)]], 1
    )
    margin = -math.log(math.expm1(size)) if size < 100 else -size
    numbers = hit[:, [0, 3]] + math.sqrt(size)
    output = torch.cat([numbers[:, :1], margin * right, numbers[:, 1:]], dim=1)
    batch = batch._replace(output=output + 0.01 * batch.output)

    def loss(output, target):
        combine = RULES[name]()
        losses, counts = batch.losses(combine.family)(output, target)
        combine.start(torch.full((4,), size, dtype=output.dtype), counts)
        return combine(losses, counts)

    assert_gradient_matches_finite_differences(loss, batch)


@every_batch()
@STARTED
@COMBINERS
def test_rows_can_be_permuted(name, started, batch):
    assert_rows_can_be_permuted(make_loss(name, batch, started), batch)


@every_batch()
@COMBINERS
def test_integer_weights_repeat_rows(name, batch):
    assert_integer_weights_repeat_rows(make_loss(name, batch), batch)


@every_batch()
@COMBINERS
def test_a_common_factor_of_the_weights_changes_nothing(name, batch):
    """Losses stay, counts scale; once started with scaled counts, so does the gradient stay."""
    combine, scaled = (make_combiner(name, len(batch.kinds)) for _ in range(2))
    reference, counts = expectations(len(batch.kinds))
    scaled.start(reference, 0.01 * counts)
    losses, weight = batch.losses(combine.family), batch.observed.double()
    assert_same(
        value_and_gradient(lambda f: scaled(*losses(f, batch.target, 0.01 * weight)), batch.output),
        value_and_gradient(lambda f: combine(*losses(f, batch.target, weight)), batch.output),
    )


@STARTED
@COMBINERS
def test_nothing_observed_gives_exactly_nothing(name, started):
    batch = BATCHES["mixed"]
    nothing = torch.full_like(batch.target, NAN)
    value, gradient = value_and_gradient(make_loss(name, batch, started), batch.output, nothing)
    assert value == 0
    assert (gradient == 0).all()


@STARTED
@COMBINERS
def test_an_absent_task_leaves_the_others_alone(name, started):
    """Value and gradient are those of a problem without the task."""
    batch = BATCHES["absent task"]
    assert not batch.observed[:, 1].any()
    keep = [k for k in range(4) if k != 1]
    columns = batch.columns_of(keep)
    full = make_combiner(name, 4, started=started)
    small = RULES[name](full.weights[keep])
    if started:
        small.start(*(part[keep] for part in expectations(4)))
    losses = batch.losses(full.family, keep)
    assert_same(
        value_and_gradient(
            lambda f: full(*batch.losses(full.family)(f, batch.target)), batch.output
        ),
        value_and_gradient(
            lambda f: small(*losses(f[..., columns], batch.target[:, keep])), batch.output
        ),
    )


# -- per-task losses -----------------------------------------------------------------------------


@every_batch()
@FAMILIES
def test_each_task_is_a_problem_of_its_own_observed_rows(batch, family):
    """A masked cell equals the same row removed from that task."""
    losses, counts = batch.losses(family)(batch.output, batch.target)
    for k in range(len(batch.kinds)):
        rows = batch.observed[:, k]
        alone = batch.losses(family, [k])
        (expected,), (count,) = alone(
            batch.output[rows][..., batch.columns(k)], batch.target[rows, k : k + 1]
        )
        torch.testing.assert_close(losses[k], expected)
        assert counts[k] == count == rows.sum()


@pytest.mark.parametrize("name", ["mixed", "every kind"])
@FAMILIES
def test_tasks_can_be_permuted(family, name):
    batch = BATCHES[name]
    order = np.random.default_rng(0).permutation(len(batch.kinds)).tolist()
    permuted = batch.losses(family, order)
    losses, counts = permuted(batch.output[:, batch.columns_of(order)], batch.target[:, order])
    expected = batch.losses(family)(batch.output, batch.target)
    assert torch.equal(losses, expected[0][order])
    assert torch.equal(counts, expected[1][order])


@pytest.mark.parametrize("name", ["ensemble", "every kind, ensemble"])
@FAMILIES
def test_members_of_an_ensemble_are_averaged(family, name):
    batch = BATCHES[name]
    losses, counts = batch.losses(family)(batch.output, batch.target)
    alone = [batch.losses(family)(member, batch.target) for member in batch.output.unbind(dim=1)]
    torch.testing.assert_close(losses, torch.stack([member[0] for member in alone]).mean(dim=0))
    assert torch.equal(counts, alone[0][1])


VALUES = [
    # kind, family, raw outputs, target, loss
    ("regression", "likelihood", [3.0], 1.0, 4.0),
    ("regression", "squared", [3.0], 1.0, 4.0),
    ("regression", "likelihood", [-1e3], 1e3, 4e6),
    ("regression", "likelihood", [0.1], 0.1, 0.0),
    ("classification", "likelihood", [0.0, 0.0], 1, math.log(2)),
    ("classification", "likelihood", [0.0, math.log(3)], 0, math.log(4)),
    ("classification", "likelihood", [0.0, math.log(3)], 1, math.log(4 / 3)),
    ("classification", "likelihood", [7.0, 7.0, 7.0, 7.0], 2, math.log(4)),
    ("classification", "likelihood", [0.0, 1e4], 0, 1e4),
    ("classification", "likelihood", [0.0, 1e4], 1, 0.0),
    ("classification", "likelihood", [5.0], 0, 0.0),
    ("classification", "squared", [0.0, 0.0], 1, 0.5),
    ("classification", "squared", [0.0, math.log(3)], 0, 2 * 0.75**2),
    ("classification", "squared", [0.0, math.log(3)], 1, 2 * 0.25**2),
    ("classification", "squared", [0.0, 1e4], 0, 2.0),
    ("classification", "squared", [1.0, 1.0, 1.0], 0, 2 / 3),
    ("ordinal", "likelihood", [], 0, 0.0),
    ("ordinal", "likelihood", [0.0], 1, math.log(2)),
    ("ordinal", "likelihood", [math.log(3)], 0, math.log(4)),
    ("ordinal", "likelihood", [math.log(3)], 1, math.log(4 / 3)),
    # P(y >= 1) = 3/4; log(1 + 2) less on the log-odds makes P(y >= 2) = 1/2
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 0, math.log(4)),
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 1, math.log(4)),
    ("ordinal", "likelihood", [math.log(3), math.log(2)], 2, math.log(2)),
    ("ordinal", "squared", [], 0, 0.0),
    ("ordinal", "squared", [math.log(3)], 0, 0.75**2),
    ("ordinal", "squared", [math.log(3)], 1, 0.25**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 0, 0.75**2 + 0.5**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 1, 0.25**2 + 0.5**2),
    ("ordinal", "squared", [math.log(3), math.log(2)], 2, 0.25**2 + 0.5**2),
    ("ordinal", "squared", [-1e4, 0.0], 2, 2.0),
    ("quantile", "likelihood", [3.0], 1.0, 1.0),  # the median, if nothing is said
    ("quantile", "squared", [1.0], 3.0, 1.0),
    ("quantile", "likelihood", [0.1], 0.1, 0.0),
    ("poisson", "likelihood", [0.0], 0.0, 2.0),
    ("poisson", "likelihood", [math.log(2)], 3.0, 2 * (3 * math.log(1.5) - 1)),
    ("poisson", "likelihood", [math.log(2)], 0.5, 2 * (0.5 * math.log(0.25) + 1.5)),
    ("poisson", "likelihood", [0.0], 1.0, 0.0),
    ("poisson", "squared", [math.log(2)], 5.0, 9.0 / math.expm1(1)),
    ("gamma", "likelihood", [0.0], 3.0, 2 * (2 - math.log(3))),
    ("gamma", "likelihood", [math.log(4)], 2.0, 2 * (math.log(2) - 0.5)),
    ("gamma", "likelihood", [0.0], 1.0, 0.0),
    ("gamma", "squared", [math.log(2)], 0.5, 2.25 / math.expm1(1)),
]


@pytest.mark.parametrize(("kind", "family", "raw", "target", "expected"), VALUES)
def test_values(kind, family, raw, target, expected):
    task_losses = TaskLosses([kind], [len(raw)], family)
    losses, _ = task_losses(
        torch.tensor([raw], dtype=torch.float64), torch.tensor([[target]], dtype=torch.float64)
    )
    assert losses.item() == pytest.approx(expected, rel=1e-12)


def naive_proba(raw):
    """Probabilities of ordered classes: each step is taken with a logistic probability."""
    above = np.cumprod(1 / (1 + np.exp(-raw)), axis=1)
    return -np.diff(above, axis=1, prepend=1, append=0)


def by_scikit_learn(kind, params, raw, y, w):
    """Mean loss of a task in either family."""
    if kind == "quantile":
        return [mean_pinball_loss(y, raw, sample_weight=w, alpha=params.get("quantile", 0.5))] * 2
    if kind in ("poisson", "gamma", "regression"):
        mean = raw if kind == "regression" else np.exp(raw)
        deviance = {"poisson": mean_poisson_deviance, "gamma": mean_gamma_deviance}
        variance = 1 if kind == "regression" else np.expm1(1)  # of lognormal numbers of spread 1
        return [
            deviance.get(kind, mean_squared_error)(y, mean, sample_weight=w),
            mean_squared_error(y, mean, sample_weight=w) / variance,
        ]
    proba = naive_proba(raw) if kind == "ordinal" else softmax(raw, axis=1)
    labels = np.arange(proba.shape[1])
    if kind == "ordinal":
        score = sum(
            mean_squared_error(y > c, proba[:, c + 1 :].sum(axis=1), sample_weight=w)
            for c in labels[:-1]
        )
    else:
        score = brier_score_loss(y, proba, labels=labels, sample_weight=w, scale_by_half=False)
    return [log_loss(y, proba, labels=labels, sample_weight=w), score]


@every_batch("ensemble", "every kind, ensemble", "one class", "one ordered class", *LARGE)
@pytest.mark.parametrize("weighted", [False, True])
def test_values_are_those_of_scikit_learn(batch, weighted):
    rng = np.random.default_rng(0)
    weight = rng.random(batch.target.shape) if weighted else np.ones(batch.target.shape)
    weight = torch.from_numpy(weight) * batch.observed
    losses = {
        family: batch.losses(family)(batch.output, batch.target, weight)[0]
        for family in ("likelihood", "squared")
    }
    for k, kind in enumerate(batch.kinds):
        rows = batch.observed[:, k]
        if not rows.any():
            continue
        raw = batch.output[rows][:, batch.columns(k)].numpy()
        y, w = batch.target[rows, k].numpy(), weight[rows, k].numpy()
        expected = by_scikit_learn(kind, batch.params[k], raw, y, w)
        for family, value in zip(("likelihood", "squared"), expected, strict=True):
            assert losses[family][k].item() == pytest.approx(value, rel=1e-9)


def test_quantiles_have_levels_of_their_own():
    """Equal levels are computed together, whatever stands between them."""
    levels = [0.9, 0.5, 0.9, None, 0.1]
    params = [{} if level is None else {"quantile": level} for level in levels]
    task_losses = TaskLosses(["quantile"] * 5, [1] * 5, params=params)
    raw, target = torch.zeros(2, 5).double(), torch.tensor([[10.0], [-20.0]]).double().expand(-1, 5)
    losses, _ = task_losses(raw, target)
    expected = [(10 * q + 20 * (1 - q)) / 2 for q in (0.9, 0.5, 0.9, 0.5, 0.1)]
    assert losses.tolist() == pytest.approx(expected)
    alone = TaskLosses(["quantile"] * 3, [1] * 3, params=[{"quantile": 0.9}] * 3)
    assert [len(losses._groups) for losses in (task_losses, alone)] == [2, 1]


def test_counts_are_sums_of_weights():
    target = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 2.0]])
    task_losses = TaskLosses(["classification", "regression"], [2, 1])
    assert task_losses(torch.zeros(3, 3), target)[1].tolist() == [2, 1]
    weight = torch.tensor([[0.5, 0.0], [0.0, 0.0], [2.0, 3.0]])
    assert task_losses(torch.zeros(3, 3), target, weight)[1].tolist() == [2.5, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@FAMILIES
def test_half_precision_is_raised_first(family, dtype):
    batch = make_batch("pr2go3qmpo4", dtype=torch.float32)
    output, task_losses = batch.output.to(dtype), batch.losses(family)
    value, gradient = value_and_gradient(lambda f: task_losses(f, batch.target)[0].sum(), output)
    expected = value_and_gradient(lambda f: task_losses(f, batch.target)[0].sum(), output.float())
    assert value.dtype == torch.float32
    assert torch.equal(value, expected[0])
    assert torch.equal(gradient, expected[1].to(dtype))


# -- cells of every kind -------------------------------------------------------------------------

TORCH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
CELLS = [(kind, family) for kind in CELL_LOSSES for family in ("likelihood", "squared")]
EVERY_CELL = pytest.mark.parametrize(("kind", "family"), CELLS)


def cell_loss(kind, family, **params):
    return lambda raw, target: getattr(CELL_LOSSES[kind], family)(raw, target, **params)


def test_there_is_a_loss_for_every_kind():
    assert CELL_LOSSES.keys() == KINDS.keys()


@TORCH_DTYPES
@pytest.mark.parametrize("size", [19.9, 20.0, 20.1, 50.0, 1e4, 1e8])
@EVERY_CELL
def test_raw_outputs_far_out(kind, family, size, dtype):
    """Value and gradient are finite, for every pattern of signs; what is wrong still counts."""
    width = 3 if kind in ("classification", "ordinal") else 1
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * width).view(-1, width)
    targets = {"gamma": [0.5, 100.0], "poisson": [0.0, 0.5, 100.0]}.get(kind, [0.0, 1.0, 2.0])
    raw = (size * signs).to(dtype).repeat_interleave(len(targets), dim=0)
    target = torch.tensor(targets, dtype=dtype).repeat(len(signs))
    loss = cell_loss(kind, family)
    value, gradient = value_and_gradient(lambda f: loss(f, target).sum(), raw)
    assert_finite(value, gradient, loss(raw, target))
    assert value.dtype == dtype
    assert (loss(raw, target) >= 0).all()
    assert loss(raw, target).max() > 0.5


@TORCH_DTYPES
@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_deviances_are_never_negative(kind, dtype):
    """Not even by rounding, where the mean is next to the target."""
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(20_000, dtype=dtype, generator=generator) * 100 + 1e-3
    for spread in (0, 1, 10, 1e3, 1e6):
        error = torch.randn(20_000, dtype=dtype, generator=generator) * torch.finfo(dtype).eps
        loss = cell_loss(kind, "likelihood")((target.log() + spread * error).unsqueeze(-1), target)
        assert (loss >= 0).all()
        assert (loss <= 1e3 * (spread + 10) ** 2 * torch.finfo(dtype).eps ** 2 * 100).all()


@pytest.mark.parametrize("kind", ["poisson", "gamma", "quantile", "regression"])
@FAMILIES
def test_a_perfect_fit_gives_nothing(kind, family):
    target = torch.logspace(-6, 6, 50, dtype=torch.float64)
    raw = target.log() if kind in ("poisson", "gamma") else target
    value, gradient = value_and_gradient(
        lambda f: (cell_loss(kind, family)(f, target) / target).sum(), raw.unsqueeze(-1)
    )
    assert value < 1e-20
    if kind != "quantile":  # which has a kink there
        assert gradient.abs().max() < 1e-8


def test_the_gradient_of_gamma_does_not_know_the_unit():
    """Twice the amount, and twice the mean: the same value and the same gradient."""
    target = torch.tensor([0.3, 1.0, 7.0]).double()
    raw = torch.tensor([[0.4], [-1.0], [2.0]]).double()

    def result(unit):
        loss = cell_loss("gamma", "likelihood")
        return value_and_gradient(lambda f: loss(f, unit * target).sum(), raw + math.log(unit))

    for unit in (1e-3, 1e3):
        torch.testing.assert_close(result(unit), result(1.0))


def test_the_deviance_of_poisson_grows_with_the_unit():
    target, raw = torch.tensor([0.0, 2.0]).double(), torch.tensor([[0.4], [-1.0]]).double()
    loss = cell_loss("poisson", "likelihood")
    torch.testing.assert_close(loss(raw + math.log(7), 7 * target), 7 * loss(raw, target))


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_the_slopes_of_the_pinball_loss(level):
    raw = torch.tensor([[-1.0], [1.0]]).double()
    loss = cell_loss("quantile", "likelihood", quantile=level)
    _, gradient = value_and_gradient(lambda f: loss(f, torch.zeros(2)).sum(), raw)
    torch.testing.assert_close(gradient[:, 0], torch.tensor([-level, 1 - level]).double())


# -- ordered classes -----------------------------------------------------------------------------


def log_proba_of(raw):
    """Log-probabilities of all classes, one by one from the loss."""
    classes = range(raw.shape[-1] + 1)
    return torch.stack([-sequential_logit(raw, torch.full(raw.shape[:-1], c)) for c in classes], -1)


@pytest.mark.parametrize("width", [0, 1, 2, 6])
def test_ordered_probabilities_are_products_of_steps(width):
    raw = torch.from_numpy(np.random.default_rng(0).normal(size=(200, width)) * 2)
    proba = log_proba_of(raw).exp()
    torch.testing.assert_close(proba.sum(dim=-1), torch.ones(200).double(), rtol=1e-13, atol=0)
    if width:
        torch.testing.assert_close(proba, torch.from_numpy(naive_proba(raw.numpy())))


@pytest.mark.parametrize("size", [50.0, 1e4])
@TORCH_DTYPES
def test_ordered_probabilities_far_out(size, dtype):
    """They sum to one, as those that `predict_proba` gives, and their logs stay finite."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, -1e-3, 1e-3, 1.0])] * 3)
    raw = (size * signs).to(dtype)
    log_proba = log_proba_of(raw)
    assert_finite(log_proba)
    assert (log_proba <= 0).all()
    exact = size * torch.finfo(dtype).eps + 1e-8
    torch.testing.assert_close(
        log_proba.logsumexp(dim=-1), torch.zeros(len(raw), dtype=dtype), rtol=0, atol=exact
    )
    kind = OrdinalTarget().fit(np.arange(4), np.ones(4))
    proba = kind.proba(raw.double().unsqueeze(1).numpy())
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(log_proba.exp().numpy(), proba, atol=exact)


@FAMILIES
def test_two_ordered_classes_are_two_classes(family):
    """Binary cross-entropy, and half of the two-class Brier score."""
    raw = torch.linspace(-40, 40, 17).double().unsqueeze(-1)
    share = 1.0 if family == "likelihood" else 0.5

    def ordered(raw, target):
        return cell_loss("ordinal", family)(raw, target).sum()

    def classes(raw, target):
        logits = torch.cat([torch.zeros_like(raw), raw], dim=-1)
        return share * cell_loss("classification", family)(logits, target).sum()

    for label in (0.0, 1.0):
        target = torch.full((17,), label).double()
        for one, other in zip(
            value_and_gradient(ordered, raw, target),
            value_and_gradient(classes, raw, target),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


# -- the link of counts and amounts --------------------------------------------------------------


def means_of(raw):
    """Means as the losses see them: from a squared error, which is the mean's own square."""
    raw = torch.as_tensor(raw, dtype=torch.float64).unsqueeze(-1)
    error = cell_loss("poisson", "squared")(raw, torch.zeros(len(raw)).double())
    return (error * math.expm1(1)).sqrt()


def test_the_mean_is_an_exponential_and_grows_linearly_far_out():
    near = torch.linspace(-20, 20, 401).double()
    torch.testing.assert_close(means_of(near), near.exp(), rtol=1e-14, atol=0)
    far = torch.logspace(math.log10(20), 8, 100).double()
    torch.testing.assert_close(means_of(far), math.exp(20) * (far - 19), rtol=1e-12, atol=0)
    torch.testing.assert_close(means_of(-far) * means_of(far), torch.ones(100).double())
    every = means_of(torch.cat([-far.flip(0), near, far]).unique())
    assert_finite(every)
    assert (every.diff() > 0).all()


@pytest.mark.parametrize("edge", [-20.0, 20.0])
@pytest.mark.parametrize("kind", ["poisson", "gamma"])
@FAMILIES
def test_the_slope_of_the_mean_has_no_jump(family, kind, edge):
    """At ±20 exactly as next to it."""
    raw = torch.tensor([[edge - 1e-9], [edge], [edge + 1e-9]], dtype=torch.float64)
    loss, target = cell_loss(kind, family), torch.ones(3).double()
    _, (before, at, after) = value_and_gradient(lambda f: loss(f, target).sum(), raw)
    torch.testing.assert_close(before, at, rtol=1e-6, atol=0)
    torch.testing.assert_close(after, at, rtol=1e-6, atol=0)


def test_losses_and_predictions_have_the_same_mean():
    """What was trained is what is predicted, far out too."""
    raw = np.concatenate([np.linspace(-30, 30, 121), [-1e8, -1e4, 1e4, 1e8]])
    kind = GammaTarget().fit(np.array([1.0, 2.0, 4.0]), np.ones(3))
    decoded = kind.decode(raw.reshape(-1, 1, 1) / kind.spread_) / kind.scale_
    np.testing.assert_allclose(decoded, means_of(raw), rtol=1e-13)


# -- combiners -----------------------------------------------------------------------------------


@every_batch()
@pytest.mark.parametrize("name", ["weighted", "masked_mse"])
def test_unit_weights_are_a_plain_sum(name, batch):
    losses, counts = batch.losses()(batch.output, batch.target)
    for weights in (None, torch.ones(len(losses)).double()):
        combine = RULES[name](weights)
        torch.testing.assert_close(combine(losses, counts), losses.sum())
        torch.testing.assert_close(combine.objective(losses, counts), losses.sum())


def test_masked_mse_without_a_mask_is_mean_squared_error():
    batch = make_batch("rrr", share=1.0)
    combine = LOSSES["masked_mse"]()
    assert_same(
        value_and_gradient(
            lambda f: combine(*batch.losses(combine.family)(f, batch.target)), batch.output
        ),
        value_and_gradient(lambda f: 3 * torch.nn.MSELoss()(f, batch.target), batch.output),
    )


@pytest.mark.parametrize("name", ["weighted", "masked_mse"])
def test_batches_add_up_to_the_objective(name):
    """However unevenly a rare task falls: once started, the mean over batches is the objective."""
    batch = make_batch("r2r3", 40, share=0.15, seed=15)
    combine = RULES[name](torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    task_losses = batch.losses(combine.family)
    losses, counts = task_losses(batch.output, batch.target)
    combine.start(losses, counts / 8)
    parts = torch.arange(40).chunk(8)
    values = [combine(*task_losses(batch.output[rows], batch.target[rows])) for rows in parts]
    torch.testing.assert_close(torch.stack(values).mean(), combine.objective(losses, counts))


@COMBINERS
def test_tasks_of_a_combiner_can_be_permuted(name):
    order = [2, 0, 3, 1]
    losses, counts, weights, reference = torch.rand(
        4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    one, other = RULES[name](weights), RULES[name](weights[order])
    one.start(reference, counts)
    other.start(reference[order], counts[order])
    for _ in range(3):
        torch.testing.assert_close(one(losses, counts), other(losses[order], counts[order]))
    torch.testing.assert_close(
        one.objective(losses, counts), other.objective(losses[order], counts[order])
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@STARTED
@COMBINERS
def test_dtype_is_kept(name, started, dtype):
    batch = make_batch("r2r3", dtype=dtype)
    combine = make_combiner(name, 4, started=started, dtype=dtype)
    losses, counts = batch.losses(combine.family)(batch.output, batch.target)
    value, gradient = value_and_gradient(combine, losses, counts)
    assert {losses.dtype, counts.dtype, value.dtype, gradient.dtype} == {dtype}
    assert {buffer.dtype for buffer in combine.buffers()} == {dtype}


@pytest.mark.parametrize("again", [pickled, copy.deepcopy], ids=["pickle", "deepcopy"])
@STARTED
@COMBINERS
def test_copies_go_on_alike(name, started, again):
    batch = BATCHES["mixed"]
    combine = make_combiner(name, 6, started=started)
    losses, counts = again(batch.losses(combine.family))(batch.output, batch.target)
    combine(3 * losses, counts)
    twin = again(combine)
    for factor in (0.1, 10.0):
        assert torch.equal(twin(factor * losses, counts), combine(factor * losses, counts))


@COMBINERS
def test_state_dict_brings_the_state_back(name):
    batch = BATCHES["mixed"]
    combine, twin = make_combiner(name, 6), make_combiner(name, 6)
    losses, counts = batch.losses(combine.family)(batch.output, batch.target)
    for factor in (3.0, 5.0):
        combine(factor * losses, counts)
    twin.load_state_dict(combine.state_dict())
    assert torch.equal(twin(losses, counts), combine(losses, counts))


@STARTED
@COMBINERS
def test_a_fresh_combiner_takes_a_checkpoint(name, started):
    combine, fresh = (
        make_combiner(name, 2, started=started, powers=torch.tensor([1.0, 2.0])),
        (RULES[name]()),
    )
    losses, counts = torch.tensor([0.1, 3.0]).double(), torch.ones(2).double()
    combine(losses, counts)
    fresh.load_state_dict(combine.state_dict())
    assert fresh.state_dict().keys() == combine.state_dict().keys()
    for factor in (1.0, 10.0):
        assert torch.equal(fresh(factor * losses, counts), combine(factor * losses, counts))


# -- logprod -------------------------------------------------------------------------------------


def test_logprod_measures_a_batch_by_earlier_batches():
    """A table: three batches, denominators held, then moved towards the losses."""
    combine = LogProd(torch.tensor([1.0, 2.0]).double(), decay=0.75, floor=0)
    combine.start(torch.tensor([2.0, 0.5]).double(), torch.tensor([2.0, 4.0]).double())
    table = [
        # losses, counts, denominators before, value
        ([3.0, 1.0], [4.0, 2.0], [2.0, 0.5], 3 / 2 * 2 + 2 * (1 / 0.5 / 2)),
        ([1.0, 0.0], [1.0, 0.0], [2.25, 0.625], 1 / 2.25 / 2),
        ([2.0, 2.5], [2.0, 2.0], [1.9375, 0.625], 2 / 1.9375 + 2 * (2.5 / 0.625 / 2)),
    ]
    for losses, counts, before, value in table:
        torch.testing.assert_close(combine.running, torch.tensor(before).double())
        actual = combine(torch.tensor(losses).double(), torch.tensor(counts).double())
        assert actual.item() == pytest.approx(value)


def test_logprod_keeps_the_weight_of_a_rare_task():
    """Observed in one of a hundred batches: in between, the weight neither grows nor falls."""
    combine, one = LogProd(), torch.ones(1).double()
    combine.start(one, 0.01 * one)
    for step in range(500):
        seen = one * (step % 100 == 0)
        combine(2 * seen, seen)
    _, weight = value_and_gradient(combine, 2 * one, 0.01 * one)
    assert 0.5 < weight < 1


@STARTED
def test_logprod_learns_nothing_in_evaluation_mode(started):
    combine = make_combiner("logprod", 2, started=started)
    losses, counts = torch.tensor([[1.0, 2.0], [5.0, 5.0]]).double()
    combine(losses, counts)
    before = {name: value.clone() for name, value in combine.state_dict().items()}
    combine.eval()(9 * losses, counts)
    assert_same(combine.state_dict().values(), before.values())


def steady_weights(losses, counts, combine):
    """Gradient by the losses after many batches that are all alike."""
    for _ in range(100):
        combine(losses, counts)
    return value_and_gradient(combine, losses, counts)[1]


@STARTED
def test_logprod_weights_are_inverse_losses(started):
    losses, counts = torch.tensor([1e-3, 0.2, 7.0]).double(), expectations(3)[1]
    combine = make_combiner("logprod", 3, started=started)
    combine.decay = 0.5
    torch.testing.assert_close(
        steady_weights(losses, counts, combine), combine.weights / (losses + combine.lowest)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e-3, 1e3, 1e12, 1e30])
@pytest.mark.parametrize("form", ["started", "steady", "batch"])
def test_logprod_does_not_feel_the_scale_of_a_task(form, factor, dtype):
    """Multiplying the losses of some tasks by a factor leaves the gradient unchanged."""
    batch = make_batch("r2r3pgo3q", scale=3.0, dtype=dtype, seed=16)  # no small loss
    ones = torch.ones(8, dtype=dtype)
    scale = torch.tensor([1, 1, factor, 1 / factor, factor, 1, 1 / factor, factor], dtype=dtype)
    powers = batch.losses().powers

    def result(scale):
        combine = LogProd(decay=None if form == "batch" else 0.5)
        losses, counts = batch.losses()(batch.output, batch.target)
        if form == "steady":
            steady_weights(losses * scale, counts, combine)
        else:
            combine.start(ones * scale, counts, powers)

        def loss(output, target):
            losses, counts = batch.losses()(output, target)
            return combine(losses * scale, counts)

        return value_and_gradient(loss, batch.output, batch.target)

    (value, gradient), (expected, expected_gradient) = result(scale), result(ones)
    if form == "batch":
        assert batch.observed.any(dim=0).all()
        expected = expected + (powers * scale.double().log()).sum().to(dtype)
    torch.testing.assert_close(value, expected, rtol=2e-5, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [0.0, 1e-30, 1.0, 1e30])
@STARTED
@COMBINERS
def test_finite_for_losses_of_any_size(name, started, loss, dtype):
    combine = make_combiner(name, 2, started=started, dtype=dtype)
    losses, counts = torch.tensor([loss, 1.0], dtype=dtype), torch.tensor([3.0, 3.0], dtype=dtype)
    for _ in range(5):
        assert_finite(*value_and_gradient(combine, losses, counts))
    assert_finite(combine.objective(losses, counts))


@COMBINERS
def test_a_loss_of_zero_leaves_room_for_weights(name):
    combine = RULES[name](torch.tensor([1000.0]))
    assert_finite(*value_and_gradient(combine, torch.zeros(1), torch.ones(1)))


@COMBINERS
def test_a_start_begins_anew(name):
    """Without a trace of earlier batches, and without a hold on what it is given."""
    combine, other = (make_combiner(name, 2, started=False) for _ in range(2))
    reference, counts = expectations(2)
    combine(5 * reference, counts)
    for each in (combine, other):
        each.start(reference, counts)
    assert combine.state_dict().keys() == other.state_dict().keys()
    for _ in range(2):
        assert torch.equal(combine(5 * reference, counts), other(5 * reference, counts))
    assert torch.equal(reference, expectations(2)[0])


@pytest.mark.parametrize("floor", [1e-6, 1e-2])
@pytest.mark.parametrize("reference", [1.0, 100.0])
def test_logprod_weights_stop_growing_at_the_floor(floor, reference):
    """`floor` times the constant predictor's loss is added, in batches and in the objective."""
    combine = LogProd(decay=0.5, floor=floor)
    counts = torch.ones(1).double()
    lowest = floor * reference
    for loss in (2 * lowest, lowest, lowest / 2, lowest / 1e6, 0.0):
        combine.start(torch.tensor([reference]).double(), counts)
        losses = torch.tensor([loss]).double()
        torch.testing.assert_close(
            steady_weights(losses, counts, combine), torch.tensor([1 / (loss + lowest)]).double()
        )
        assert combine.objective(losses, counts).item() == pytest.approx(math.log(loss + lowest))


@pytest.mark.parametrize("floor", [1e-6, 1e-2])
def test_every_scale_stops_at_the_floor(floor):
    """Of the batch's own logarithm, and of learned variances at their optimum."""
    reference, counts = torch.tensor([100.0]).double(), torch.ones(1).double()
    for loss in (100 * floor, floor, 0.0):
        losses, expected = torch.tensor([loss]).double(), 1 / (loss + 100 * floor)
        batch, learned = LogProd(decay=None, floor=floor), Uncertainty(floor=floor)
        batch.start(reference, counts)
        learned.start(reference, counts)
        settle(learned, losses)
        for combine, weight in ((batch, expected), (learned, expected / 2)):
            _, gradient = value_and_gradient(combine, losses, counts)
            assert gradient.item() == pytest.approx(weight)
        assert batch(losses, counts).item() == pytest.approx(-math.log(expected))


@pytest.mark.parametrize("powers", [None, torch.tensor([1.0, 2.0]).double()])
@pytest.mark.parametrize("floor", [0.02, 0.1, 1.0])
def test_weights_grow_by_a_bounded_factor(floor, powers):
    """From the constant predictor's losses down to none, by (1 + floor) / floor, and no further."""
    reference, counts = torch.tensor([0.3, 50.0]).double(), torch.ones(2).double()
    for combine in (
        LogProd(floor=floor),
        LogProd(decay=None, floor=floor),
        Uncertainty(floor=floor),
    ):
        combine.start(reference, counts, powers)
        # That of learned variances is measured where they are best.
        rule = combine.objective if isinstance(combine, Uncertainty) else combine

        def weights(losses, rule=rule):
            return value_and_gradient(lambda each: rule(each, counts), losses)[1]

        start = weights(reference)
        for share in (0.5, 0.1, 1e-3, 0.0):
            for _ in range(500):  # zeros or not, until the denominators have followed
                combine(share * reference, counts)
            growth = weights(share * reference) / start
            expected = torch.full_like(growth, (1 + floor) / (share + floor))
            torch.testing.assert_close(growth, expected)
        torch.testing.assert_close(growth, torch.full_like(growth, (1 + floor) / floor))


def test_learned_weights_grow_by_a_bounded_factor():
    """Of `Uncertainty`, whatever the optimizer does: for a loss of zero, no larger one is best."""
    reference, counts = torch.tensor([0.3, 50.0]).double(), torch.ones(2).double()
    combine = Uncertainty()
    combine.start(reference, counts)
    optimizer = torch.optim.SGD(combine.parameters(), lr=0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        combine(0 * reference, counts).backward()
        optimizer.step()
    weights = value_and_gradient(combine, 0 * reference, counts)[1]
    torch.testing.assert_close(weights, 0.5 / (0.1 * reference))


@pytest.mark.parametrize("name", ["logprod", "uncertainty"])
def test_the_floor_is_a_tenth(name):
    combine = LOSSES[name]()
    assert combine.floor == 0.1
    combine.start(torch.tensor([3.0]).double(), torch.ones(1).double())
    torch.testing.assert_close(combine.lowest, torch.tensor([0.3]).double())


@STARTED
def test_a_jump_does_not_overflow(started):
    """In single precision, by its ratio to earlier losses."""
    combine, one = LogProd(), torch.ones(1)
    if started:
        combine.start(1e-30 * one, one)
    steady_weights(1e-30 * one, one, combine)
    assert_finite(*value_and_gradient(combine, 1e30 * one, one))
    assert steady_weights(1e30 * one, one, combine).item() == pytest.approx(1e-30, rel=0.1)


@pytest.mark.parametrize("lucky", [0.0, 1e-12, 1e12])
def test_one_batch_is_not_taken_for_the_scale(lucky):
    """Without `start`, the second batch is measured by the mean of both."""
    combine, one = LogProd(floor=1e-6), torch.ones(1).double()
    combine(lucky * one, one)
    _, weight = value_and_gradient(combine, one, one)
    assert weight.item() == pytest.approx(2 / (lucky + 1), rel=1e-5)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_logprod_without_start_measures_by_earlier_batches_later(floor):
    """A table: the mean so far, itself included, then the running mean of earlier batches."""
    combine = LogProd(decay=0.75, floor=floor)
    table = [
        # losses, observed, denominators
        ([4.0, 1.0], [1, 0], [4.0, 0.0]),
        ([2.0, 1.0], [3, 1], [3.0, 1.0]),
        ([0.0, 2.0], [1, 1], [2.0, 1.5]),
        ([6.0, 3.0], [1, 1], [3.0, 2.0]),
        ([7.0, 6.0], [1, 1], [3.0, 3.0]),  # the first task's fifth, the second's fourth
        ([8.0, 7.0], [1, 1], [4.0, 3.0]),
        ([8.0, 7.0], [0, 1], [5.0, 4.0]),
        ([1.0, 7.0], [1, 1], [5.0, 4.75]),
    ]
    for losses, counts, scales in table:
        losses, counts, scales = (torch.tensor(x).double() for x in (losses, counts, scales))
        _, weights = value_and_gradient(combine, losses, counts)
        seen = counts > 0
        # The floor is that of the first four losses, whose mean is 3 in both tasks.
        scales = scales + floor * torch.where(combine.n_batches > 4, 3, scales)
        torch.testing.assert_close(weights[seen] * scales[seen], torch.ones_like(scales[seen]))
        assert (weights[~seen] == 0).all()


@STARTED
def test_a_decay_of_zero_keeps_the_last_batch(started):
    combine, one = LogProd(decay=0, floor=0), torch.ones(1).double()
    if started:
        combine.start(5 * one, one)
    for loss, before in ((3.0, 5.0 if started else 3.0), (2.0, 3.0), (8.0, 2.0), (1.0, 8.0)):
        _, weight = value_and_gradient(combine, loss * one, one)
        assert weight.item() == pytest.approx(1 / before)


def test_logprod_objective_is_the_log_of_a_product():
    losses, weights = torch.tensor([[2.0, 3.0, 0.25], [1.0, 2.0, 0.5]]).double()
    objective = LogProd(weights).objective(losses, torch.ones(3))
    assert objective.exp().item() == pytest.approx(2 * 3**2 * 0.25**0.5)
    unseen = LogProd(weights).objective(
        torch.tensor([2.0, 0.0, 0.25]).double(), torch.tensor([4, 0, 1])
    )
    assert unseen.exp().item() == pytest.approx(2 * 0.25**0.5)


def test_only_a_loss_that_measures_a_scale_itself_counts_twice():
    powers = TaskLosses(list(CELL_LOSSES), [2] * len(CELL_LOSSES)).powers
    assert dict(zip(CELL_LOSSES, powers.tolist(), strict=True)) == {
        kind: 2.0 if kind == "quantile" else 1.0 for kind in CELL_LOSSES
    }


# Negative log-likelihoods of n errors of sum of losses S and unknown scale s, but for constants.
LIKELIHOODS = {
    "regression": lambda n, S, s: n * math.log(s) + S / (2 * s**2),  # Gauss
    "quantile": lambda n, S, s: n * math.log(s) + S / s,  # asymmetric Laplace
    "poisson": lambda n, S, s: n * math.log(s) + S / (2 * s**2),  # s^2 is a dispersion
    "gamma": lambda n, S, s: n * math.log(s) + S / (2 * s**2),
}


def test_logprod_is_the_gradient_of_profile_likelihoods():
    """Finite differences of likelihoods, in each of which a scale was optimised numerically."""
    batch = make_batch("rqpgm", 12, share=0.7, seed=28)
    task_losses = batch.losses()

    def profile(output):
        total = 0.0
        for kind, loss, n in zip(
            batch.kinds, *(part.tolist() for part in task_losses(output, batch.target)), strict=True
        ):
            likelihood = LIKELIHOODS[kind]
            total += minimize_scalar(
                lambda log_s, n=n, S=n * loss, f=likelihood: f(n, S, math.exp(log_s)),
                bounds=(-10, 10),
                method="bounded",
                options={"xatol": 1e-10},
            ).fun
        return torch.tensor(total)

    losses, counts = task_losses(batch.output, batch.target)
    combine = LogProd(counts / 2, floor=0)
    combine.start(losses, counts, task_losses.powers)
    _, gradient = value_and_gradient(lambda f: combine(*task_losses(f, batch.target)), batch.output)
    numeric = torch.empty_like(gradient).flatten()
    for i in range(len(numeric)):
        step = torch.zeros_like(numeric)
        step[i] = 1e-5
        ahead, behind = (
            profile((batch.output.flatten() + s).view_as(batch.output)) for s in (step, -step)
        )
        numeric[i] = (ahead - behind) / 2e-5
    torch.testing.assert_close(gradient.flatten(), numeric, rtol=1e-4, atol=1e-7)


def test_logprod_objective_counts_powers():
    losses, counts = torch.tensor([2.0, 3.0]).double(), torch.ones(2).double()
    combine = LogProd(torch.tensor([1.0, 0.5]).double(), floor=0)
    combine.start(losses, counts, torch.tensor([2.0, 1.0]).double())
    assert combine.objective(losses, counts).exp().item() == pytest.approx(2**2 * 3**0.5, rel=1e-5)


def fitted_constants(combine, pick, *, n_steps=800, n_tasks=256):
    """Mean of constants fitted to targets of mean 1 with exponential errors, one per task.

    A bare torch loop of decaying steps over mini-batches of eight rows; `pick` draws which of them
    are observed. The tasks are repetitions: their mean tells a bias from noise.
    """
    generator = torch.Generator().manual_seed(0)
    targets = torch.empty(512, n_tasks).exponential_(generator=generator)
    targets /= targets.mean(dim=0)
    task_losses = TaskLosses(["regression"] * n_tasks, [1] * n_tasks)
    combine.start(torch.ones(n_tasks), torch.full((n_tasks,), 2.0), task_losses.powers)
    constant = torch.zeros(n_tasks, requires_grad=True)
    learned = [constant, *combine.parameters()]
    for step in range(n_steps):
        rows = torch.rand(512, generator=generator).topk(8).indices
        target = targets[rows].masked_fill(~pick(torch.rand(8, n_tasks, generator=generator)), NAN)
        loss = combine(*task_losses(constant.expand(8, -1), target))
        gradients = torch.autograd.grad(loss, learned)
        with torch.no_grad():
            for values, gradient in zip(learned, gradients, strict=True):
                values -= gradient.clamp(-50, 50) / (5 + step)  # the log's can be infinite
    return constant.mean().item()


def exactly(n):
    """Observe exactly n of the rows of a batch."""
    return lambda noise: noise.argsort(dim=0).argsort(dim=0) < n


PICKS = {"2 of 8": exactly(2), "a quarter": lambda noise: noise < 0.25}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
@pytest.mark.parametrize("name", LOSSES)
def test_the_mean_is_fitted_under_skewed_noise(name, pick):
    within = 0.03 if name == "uncertainty" else 0.01
    assert fitted_constants(LOSSES[name](), pick) == pytest.approx(1, abs=within)


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
def test_the_log_of_a_batch_loss_would_not(pick):
    assert fitted_constants(LogProd(decay=None), pick) < 0.85


# -- uncertainty ---------------------------------------------------------------------------------


def settle(combine, losses):
    """Put the variances of `Uncertainty` where they are optimal."""
    with torch.no_grad():
        combine.log_variance.copy_((losses + combine.lowest).log())


@every_batch()
def test_uncertainty_at_its_optimum_is_half_of_logprod(batch):
    """But for a constant; value and gradient, with the powers of quantiles."""
    task_losses = batch.losses()
    losses, counts = task_losses(batch.output, batch.target)
    learned, product = (make_combiner(n, len(losses)) for n in ("uncertainty", "batch logprod"))
    for combine in (learned, product):
        combine.start(expectations(len(losses))[0], counts, task_losses.powers)
    settle(learned, losses)
    constant = (learned.weights * task_losses.powers * (counts > 0)).sum() / 2
    value, gradient = value_and_gradient(
        lambda f: product(*task_losses(f, batch.target)), batch.output
    )
    results = value_and_gradient(lambda f: learned(*task_losses(f, batch.target)), batch.output)
    assert_same(results, (value / 2 + constant, gradient / 2))
    assert_same((learned.objective(losses, counts),), (value / 2 + constant,))


def test_learned_variances_become_the_losses():
    losses, counts = torch.tensor([1e-3, 0.2, 70.0]).double(), torch.ones(3).double()
    combine = Uncertainty(torch.tensor([1.0, 3.0, 0.5]).double())
    combine.start(torch.tensor([1.0, 0.5, 2.0]).double(), counts, torch.tensor([1.0, 2.0, 1.0]))
    optimizer = torch.optim.LBFGS(
        combine.parameters(), max_iter=99, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = combine(losses, counts)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(combine.log_variance.exp().detach(), losses + combine.lowest)


def test_uncertainty_is_the_formula_of_its_paper():
    """For numbers as it stands; for classes with variances twice as large, and a constant."""
    s, losses = torch.tensor([[0.3, -1.0, 2.0], [0.5, 2.0, 1e-3]]).double()
    numbers, classes = (Uncertainty(torch.ones(3).double(), floor=0) for _ in range(2))
    with torch.no_grad():
        numbers.log_variance += s
        classes.log_variance += s - math.log(2)
    ones = torch.ones(3)
    torch.testing.assert_close(numbers(losses, ones), ((-s).exp() / 2 * losses + s / 2).sum())
    torch.testing.assert_close(
        classes(losses, ones) + 3 * math.log(2) / 2, ((-s).exp() * losses + s / 2).sum()
    )


@STARTED
def test_an_absent_task_leaves_its_variance_alone(started):
    combine = make_combiner("uncertainty", 3, started=started)
    losses = torch.tensor([2.0, 0.0, 3.0]).double()
    for counts in ([3.0, 0.0, 3.0], [0.0, 0.0, 0.0]):
        counts = torch.tensor(counts).double()
        (gradient,) = torch.autograd.grad(combine(losses, counts), combine.log_variance)
        assert torch.equal(gradient != 0, counts > 0)
        assert_finite(gradient)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_gradient_of_the_variances_is_finite_difference(size):
    combine = make_combiner("uncertainty", 3, powers=torch.tensor([1.0, 2.0, 1.0]))
    losses, counts = size * torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 1.0, 5.0])
    s = combine.log_variance.detach().clone()
    (gradient,) = torch.autograd.grad(combine(losses, counts), combine.log_variance)
    numeric = torch.empty(3).double()
    for k, step in enumerate(1e-5 * torch.eye(3).double()):
        values = []
        for sign in (1, -1):
            combine.log_variance.data = s + sign * step
            values.append(combine(losses, counts))
        numeric[k] = (values[0] - values[1]) / 2e-5
    assert (gradient - numeric).norm() < 1e-6 * gradient.norm()


def test_variances_start_at_the_losses_of_the_constant_predictor():
    reference, counts = torch.tensor([0.5, 4.0]), torch.tensor([2.0, 8.0])
    combine = Uncertainty()
    combine.start(reference, counts)
    assert isinstance(combine.log_variance, torch.nn.Parameter)
    torch.testing.assert_close(combine.log_variance.detach(), reference.log())
    bare = Uncertainty(torch.tensor([1.0, 2.0]))
    assert bare.log_variance.tolist() == [0, 0]
    assert bare(reference, counts).item() == pytest.approx((0.5 + 2 * 4) / 2)


def test_variances_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"how many tasks.*weights=torch\.ones\(n_tasks\)"):
        Uncertainty()(torch.ones(2), torch.ones(2))


# -- against torchjd -----------------------------------------------------------------------------


def test_the_log_of_batch_losses_is_that_of_a_geometric_mean():
    scalarization = pytest.importorskip("torchjd.scalarization")
    mean, counts = scalarization.GeometricMean(), torch.ones(5)
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1.0, 1e3):
        losses = scale * torch.rand(5, dtype=torch.float64, generator=generator)
        value, gradient = value_and_gradient(BatchLogProd(), losses, counts)
        expected, its_gradient = value_and_gradient(mean, losses)
        assert_same(((value / 5).exp(), gradient), (expected, 5 / expected * its_gradient))


@pytest.mark.parametrize("losses", [[0.0, 1.0], [0.0] * 3, [1e-30] * 200, [1e30] * 200])
def test_finite_where_a_geometric_mean_may_not_be(losses):
    scalarization = pytest.importorskip("torchjd.scalarization")
    losses = torch.tensor(losses)
    assert_finite(*value_and_gradient(BatchLogProd(), losses, torch.ones(len(losses))))
    if 0 in losses:
        _, gradient = value_and_gradient(scalarization.GeometricMean(), losses)
        assert not torch.isfinite(gradient).all()


def test_uncertainty_is_that_of_torchjd():
    scalarization = pytest.importorskip("torchjd.scalarization")
    s, losses = torch.tensor([[0.3, -1.0, 2.0], [0.5, 2.0, 1e-3]]).double()
    ours, theirs = Uncertainty(torch.ones(3).double(), floor=0), scalarization.UW(3).double()
    with torch.no_grad():
        ours.log_variance += s
        theirs.log_var += s
    assert_same(value_and_gradient(ours, losses, torch.ones(3)), value_and_gradient(theirs, losses))


@COMBINERS
def test_a_bare_loop_meets_a_task_late(name):
    """Without `start`, and with a task that is first observed in step 30."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(64, 2, generator=generator)
    y = torch.stack([X[:, 0] > 0, X @ torch.tensor([1.0, -1.0])], dim=1).float()
    weights = torch.zeros(2, 3, requires_grad=True)
    task_losses, combine = (
        TaskLosses(["classification", "regression"], [2, 1], RULES[name].family),
        RULES[name](torch.ones(2)),
    )
    optimizer = torch.optim.Adam([weights, *combine.parameters()], lr=0.1)
    for step in range(120):
        target = y.clone()
        target[:, 1] = target[:, 1].where(torch.tensor(step >= 30) & (X[:, 0] > 0), NAN)
        optimizer.zero_grad()
        value = combine(*task_losses(X @ weights, target))
        value.backward()
        assert_finite(value, weights.grad)
        assert (weights.grad[:, 2] == 0).all() == (step < 30)
        optimizer.step()
    assert ((X @ weights)[:, :2].argmax(dim=1) == y[:, 0]).float().mean() > 0.95
    within = 0.15 if name == "batch logprod" else 0.05  # the log of a perfect fit has no bottom
    torch.testing.assert_close(weights[:, 2], torch.tensor([1.0, -1.0]), atol=within, rtol=0)


# -- random batches ------------------------------------------------------------------------------
# With the examples below, 5,000 batches of raw outputs and 10,000 of losses.

PALETTE = np.array([0, 0, 1e-15, 1e-3, 1, 1e3, 1e15])  # ties, zero losses, losses to 1e30
SIZES = np.array([0, 1e-30, 1e-12, 1e-3, 1, 1, 1e3, 1e12, 1e30])
SPECS = st.lists(st.sampled_from([*"r123pgqm", "o1", "o2", "o4"]), min_size=1, max_size=5)
DTYPES = {"single": torch.float32, "double": torch.float64, "half": torch.bfloat16}


def assert_finite_step(combine, losses, counts, *leaves):
    """Value, gradients (those by losses are the effective weights) and objective of a batch."""
    value = combine(losses, counts)
    gradients = torch.autograd.grad(value, [losses, *leaves, *combine.parameters()])
    assert_finite(losses, counts, value, *gradients, combine.objective(losses, counts))


def random_batch(spec, members, output_dtype, rng):
    """Raw outputs, targets with holes, weights: all, some, one or no target of a task."""
    n_rows, share = rng.integers(1, 7), rng.choice([0.0, 0.1, 0.5, 1.0])
    dtype = torch.float64 if output_dtype == torch.float64 else torch.float32
    batch = make_batch(spec, n_rows, share=share, members=members, dtype=dtype, seed=rng)
    output = torch.from_numpy(rng.choice(PALETTE, batch.output.shape)).to(dtype)
    output *= torch.from_numpy(rng.choice([-1, 1], output.shape))
    weight = batch.observed * torch.from_numpy(rng.choice([0, 0.125, 1, 3], batch.target.shape))
    shift = torch.from_numpy(rng.choice(PALETTE, batch.target.shape)).to(dtype)
    for k in [k for k, s in enumerate(spec) if s in "pg"]:  # whose means grow as exponentials
        output[..., batch.columns(k)].clamp_(-1e3, 1e3)
        shift[:, k].clamp_(max=1e3)
    numbers = torch.tensor([s[0] not in "o123" for s in spec])
    target = batch.target + shift * numbers
    if members is None and rng.random() < 0.3:  # a perfect fit of the numbers
        for k in numbers.nonzero().flatten().tolist():
            fit = target[:, k].log() if spec[k] in "pg" else target[:, k]
            output[:, batch.columns(k)] = fit.nan_to_num(posinf=0, neginf=-30).unsqueeze(1)
    weight = weight.to(dtype) if rng.random() < 0.5 else batch.observed.to(dtype)
    return output.to(output_dtype).requires_grad_(), target, weight


@settings(max_examples=50, deadline=None, database=None)
@given(
    spec=SPECS,
    members=st.sampled_from([None, None, 1, 3]),
    dtype=st.sampled_from(list(DTYPES.values())),
    start=st.sampled_from([None, 1e-3, 1.0, 1e3]),
    seed=st.integers(0, 2**16),
)
@COMBINERS
def test_random_batches_give_finite_values_and_gradients(name, spec, members, dtype, start, seed):
    rng = np.random.default_rng(seed)
    full = torch.float64 if dtype == torch.float64 else torch.float32
    task_losses = make_batch(spec).losses(RULES[name].family)
    combine = make_combiner(name, len(spec), started=False, dtype=full)
    if start is not None:
        combine.start(*(start * part for part in expectations(len(spec), full)), task_losses.powers)
    for _ in range(20):
        output, target, weight = random_batch(spec, members, dtype, rng)
        losses, counts = task_losses(output, target, weight)
        assert_finite_step(combine, losses, counts, output)


@settings(max_examples=100, deadline=None, database=None)
@given(
    n_tasks=st.integers(1, 6),
    started=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**16),
)
@COMBINERS
def test_random_losses_give_finite_values_and_gradients(name, n_tasks, started, dtype, seed):
    """Of any size in any order, whatever was expected; but for a variance that it would learn."""
    rng = np.random.default_rng(seed)

    def draw(values):
        return torch.from_numpy(rng.choice(values, n_tasks)).to(dtype)

    combine = make_combiner(name, n_tasks, started=False, dtype=dtype)
    if started:
        expected = SIZES[3:-2] if name == "uncertainty" else SIZES[1:]
        combine.start(draw(expected), draw([0, 1, 64]), draw([1.0, 2.0]))
    for _ in range(20):
        counts = draw([0, 0, 0.125, 1, 64])
        losses = (draw(SIZES) * (counts > 0)).requires_grad_()
        assert_finite_step(combine, losses, counts)


def test_parameters_of_a_loss_may_have_any_name(monkeypatch):
    def loss(raw, target, tasks=1.0, columns=1.0):
        return tasks * columns * (raw[..., 0] - target) ** 2

    monkeypatch.setitem(CELL_LOSSES, "own", KindLoss(loss, loss))
    own = TaskLosses(["own"] * 2, [1] * 2, params=[{"columns": 5.0, "tasks": 2.0}, {}])
    assert own(torch.zeros(2, 2), torch.ones(2, 2))[0].tolist() == [10.0, 1.0]


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"family='count' is unknown\. Use 'likelihood' or"):
        TaskLosses(["poisson"], [1], family="count")


# -- a loop of one's own -------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [torch.ones(3, 1), torch.tensor([[1.0], [2.0], [-1.0]])])
def test_weights_of_rows_leave_holes_alone(rows):
    target = torch.tensor([[1.0, 0.5], [0.0, NAN], [1.0, 2.0]])
    output, task_losses = torch.randn(3, 3), TaskLosses(["classification", "regression"], [2, 1])
    cells = torch.where(target.isnan(), 0, rows).clamp_min(0)
    actual, expected = task_losses(output, target, rows), task_losses(output, target, cells)
    for a, b in zip(actual, expected, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("output", "target"), [((4, 3), (4,)), ((4, 2), (4, 2)), ((4, 3), (4, 3)), ((4, 3), (2, 2))]
)
def test_shapes_that_do_not_fit_are_refused(output, target):
    task_losses = TaskLosses(["classification", "regression"], [2, 1])
    with pytest.raises(ValueError, match=r"expected \(B, 3\) and \(B, 2\)"):
        task_losses(torch.zeros(output), torch.zeros(target))


def test_a_number_with_two_outputs_is_refused():
    with pytest.raises(ValueError, match="the loss squared_error of raw outputs"):
        TaskLosses(["regression"], [2])(torch.zeros(4, 2), torch.zeros(4, 1))


def test_losses_have_the_dtype_of_the_outputs():
    """Targets come from NumPy as float64; half precision is raised."""
    task_losses = TaskLosses(["regression", "gamma"], [1, 1])
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        losses, counts = task_losses(torch.zeros(300, 2).to(dtype), torch.ones(300, 2).double())
        assert losses.dtype == counts.dtype == torch.float32
        assert counts.tolist() == [300, 300]


def test_minus_100_is_no_class():
    task_losses = TaskLosses(["classification"], [3])
    with pytest.raises(IndexError):
        task_losses(torch.zeros(2, 3), torch.tensor([[1.0], [-100.0]]))


@COMBINERS
@STARTED
def test_dtypes_may_change(name, started):
    combine = make_combiner(name, 2, started=started)
    for dtype in (torch.float32, torch.float64, torch.float32):
        losses = torch.tensor([1.0, 2.0], dtype=dtype)
        assert_finite(*value_and_gradient(combine, losses, torch.ones(2, dtype=dtype)))


@STARTED
def test_a_batch_that_overflowed_is_forgotten(started):
    combine, twin = make_combiner("logprod", 2, started=started), None
    losses, counts = torch.tensor([1.0, 2.0]).double(), torch.ones(2).double()
    combine(losses, counts)
    twin = copy.deepcopy(combine)
    for bad in (math.inf, NAN):
        combine(torch.tensor([bad, 2.0]).double(), counts * torch.tensor([1, 0]))
    assert torch.equal(combine(losses, counts), twin(losses, counts))


@pytest.mark.parametrize("name", LOSSES)
def test_what_was_set_is_shown(name):
    shown = repr(LOSSES[name](torch.tensor([1.0, 2.0])))
    assert "weights=[1.0, 2.0]" in shown
    assert ("floor=0.1" in shown) == (name in ("logprod", "uncertainty"))
    assert repr(LogProd(decay=None)) != repr(LogProd())


def test_variances_keep_their_place_in_the_optimizer():
    combine = Uncertainty(torch.ones(2), floor=0)
    optimizer = torch.optim.SGD(combine.parameters(), lr=1.0)
    combine.start(torch.tensor([4.0, 1.0]), torch.ones(2))
    combine(torch.tensor([8.0, 1.0]), torch.ones(2)).backward()
    optimizer.step()
    torch.testing.assert_close(
        combine.log_variance.detach(), torch.tensor([math.log(4) + 0.5, 0.0]), rtol=1e-4, atol=1e-5
    )


def test_the_objective_of_uncertainty_has_the_best_variances():
    losses, counts = torch.tensor([2.0, 0.5, 3.0]).double(), torch.tensor([3.0, 4.0, 0.0]).double()
    combine = make_combiner("uncertainty", 3, powers=torch.tensor([1.0, 2.0, 1.0]))
    best = combine.objective(losses, counts)
    combine.log_variance.data = (losses + combine.lowest).log()
    assert combine(losses, counts.sign() * expectations(3)[1]).item() == pytest.approx(best.item())
    combine.log_variance.data += 0.1
    assert combine(losses, counts.sign() * expectations(3)[1]) > best
    assert combine.objective(losses, counts) == best


@pytest.mark.parametrize("shape", [(3,), (1, 1), (3, 2), ()])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(3, 1\), or \(3, 1\) for a weight per row"):
        TaskLosses(["regression"], [1])(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(shape))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [[-1.0, 1.0], [NAN, 1.0], [math.inf, 1.0], [[1.0, 1.0]], 2.0])
def test_weights_that_are_none_are_refused(name, weights):
    with pytest.raises(ValueError, match="weights must be finite numbers >= 0, one per task"):
        LOSSES[name](weights)


@pytest.mark.parametrize("rule", [LogProd, Uncertainty])
@pytest.mark.parametrize("floor", [-1e-6, math.inf, NAN])
def test_a_floor_that_is_none_is_refused(rule, floor):
    with pytest.raises(ValueError, match=r"floor=.* must be a finite number >= 0"):
        rule(floor=floor)


@pytest.mark.parametrize("decay", [-0.1, 1.0, NAN])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay=.* must be in \[0, 1\), or None"):
        LogProd(decay=decay)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_are_taken_as_they_are_now(name):
    weights = np.ones(2)
    combine = LOSSES[name](weights)
    weights[:] = 5
    assert combine.weights.tolist() == [1, 1]
    combine = LOSSES[name](torch.ones(2, requires_grad=True))
    combine.start(torch.ones(2), torch.ones(2))
    for _ in range(2):
        combine(torch.ones(2, requires_grad=True), torch.ones(2)).backward()


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_target_is_measured_by_its_own_scale(name):
    zero, one = LOSSES[name](), LOSSES[name]()
    zero.start(torch.tensor([0.0, 2.0]), torch.ones(2))
    one.start(torch.tensor([1.0, 2.0]), torch.ones(2))
    losses, counts = torch.tensor([1.0, 0.5]), torch.ones(2)
    assert_same(value_and_gradient(zero, losses, counts), value_and_gradient(one, losses, counts))


def test_a_rule_without_objective_has_that_of_a_batch():
    class Largest(Combiner):
        def forward(self, losses, counts):
            return losses.max()

    assert Largest().objective(torch.tensor([1.0, 3.0]), torch.ones(2)) == 3


@pytest.mark.parametrize("members", [None, 3])
def test_targets_can_be_prepared_once(members):
    """`compare` gives what the whole call gives; without a mask where all is observed."""
    target = torch.tensor([[1.0, 0.5], [0.0, NAN], [1.0, 2.0]])
    output = torch.randn(*(3,) if members is None else (3, members), 3)
    task_losses = TaskLosses(["classification", "regression"], [2, 1])
    losses, counts = task_losses(output, target)
    cells = Cells.of(target, None, torch.float32)
    assert torch.equal(task_losses.compare(output, cells), losses)
    assert torch.equal(cells.counts, counts)
    full = Cells.of(target.nan_to_num(), None, torch.float32)
    expected = task_losses.compare(output, full)
    assert torch.equal(task_losses.compare(output, full._replace(observed=None)), expected)
