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
from sklearn.metrics import brier_score_loss, log_loss, mean_squared_error

from sklearn_mtl.losses import LOSSES, LogProd, TaskLosses

NAN = float("nan")
STARTED = pytest.mark.parametrize("started", [True, False], ids=["started", "bare"])
COMBINERS = pytest.mark.parametrize("name", LOSSES)
FAMILIES = pytest.mark.parametrize("family", ["likelihood", "squared"])


def every_batch(*skip):
    """Parametrize over the adversarial batches but some."""
    chosen = {key: batch for key, batch in BATCHES.items() if key not in skip}
    return pytest.mark.parametrize("batch", chosen.values(), ids=chosen.keys())


def expectations(n_tasks, dtype=torch.float64):
    """What to tell `start`: losses of the constant predictor, and counts in a batch."""
    return torch.linspace(1.5, 0.5, n_tasks, dtype=dtype), torch.full((n_tasks,), 3.0, dtype=dtype)


def make_combiner(name, n_tasks, *, started=True, dtype=torch.float64):
    combine = LOSSES[name](torch.linspace(0.5, 2, n_tasks, dtype=dtype))
    if started:
        combine.start(*expectations(n_tasks, dtype))
    return combine


def make_loss(name, batch, started=True):
    """A pure function (output, target, weight): the combiner starts anew in every call."""

    def loss(output, target, weight=None):
        combine = make_combiner(name, len(batch.kinds), started=started)
        return combine(*batch.losses(combine.family)(output, target, weight))

    return loss


# -- properties of the batch loss ----------------------------------------------------------------


@every_batch()
@STARTED
@COMBINERS
def test_what_is_masked_is_ignored(name, started, batch):
    assert_ignores_what_is_masked(make_loss(name, batch, started), batch)


@every_batch("large errors")  # of which probabilities 0 and 1 have no gradient either
@COMBINERS
def test_gradient_only_where_observed(name, batch):
    assert_gradient_only_where_observed(make_loss(name, batch), batch)


@every_batch("one class", "large errors", "small errors")
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
        combine = LOSSES[name]()
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
    columns = torch.tensor([i for k in keep for i in range(7)[batch.columns(k)]])
    full = make_combiner(name, 4, started=started)
    small = LOSSES[name](full.weights[keep])
    if started:
        small.start(*(part[keep] for part in expectations(4)))
    losses = TaskLosses(*([of[k] for k in keep] for of in batch[:2]), family=full.family)
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
        alone = TaskLosses(batch.kinds[k : k + 1], batch.n_outputs[k : k + 1], family)
        (expected,), (count,) = alone(
            batch.output[rows][..., batch.columns(k)], batch.target[rows, k : k + 1]
        )
        torch.testing.assert_close(losses[k], expected)
        assert counts[k] == count == rows.sum()


@FAMILIES
def test_tasks_can_be_permuted(family):
    batch, order = BATCHES["mixed"], [5, 2, 0, 4, 1, 3]
    columns = torch.tensor([i for k in order for i in range(10)[batch.columns(k)]])
    permuted = TaskLosses(*([of[k] for k in order] for of in batch[:2]), family=family)
    losses, counts = permuted(batch.output[:, columns], batch.target[:, order])
    expected = batch.losses(family)(batch.output, batch.target)
    assert torch.equal(losses, expected[0][order])
    assert torch.equal(counts, expected[1][order])


@FAMILIES
def test_members_of_an_ensemble_are_averaged(family):
    batch = BATCHES["ensemble"]
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
]


@pytest.mark.parametrize(("kind", "family", "raw", "target", "expected"), VALUES)
def test_values(kind, family, raw, target, expected):
    task_losses = TaskLosses([kind], [len(raw)], family)
    losses, _ = task_losses(
        torch.tensor([raw], dtype=torch.float64), torch.tensor([[target]], dtype=torch.float64)
    )
    assert losses.item() == pytest.approx(expected, rel=1e-12)


@every_batch("ensemble", "one class", "large errors")
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
        raw = batch.output[rows][:, batch.columns(k)]
        y, w = batch.target[rows, k].numpy(), weight[rows, k].numpy()
        if kind == "regression":
            expected = [mean_squared_error(y, raw, sample_weight=w)] * 2
        else:
            proba, labels = raw.softmax(dim=-1).numpy(), np.arange(raw.shape[1])
            expected = [
                log_loss(y, proba, labels=labels, sample_weight=w),
                brier_score_loss(y, proba, labels=labels, sample_weight=w, scale_by_half=False),
            ]
        for family, value in zip(("likelihood", "squared"), expected, strict=True):
            assert losses[family][k].item() == pytest.approx(value, rel=1e-9)


def test_counts_are_sums_of_weights():
    target = torch.tensor([[1.0, NAN], [NAN, NAN], [0.0, 2.0]])
    task_losses = TaskLosses(["classification", "regression"], [2, 1])
    assert task_losses(torch.zeros(3, 3), target)[1].tolist() == [2, 1]
    weight = torch.tensor([[0.5, 0.0], [0.0, 0.0], [2.0, 3.0]])
    assert task_losses(torch.zeros(3, 3), target, weight)[1].tolist() == [2.5, 3]


# -- combiners -----------------------------------------------------------------------------------


@every_batch()
@pytest.mark.parametrize("name", ["weighted", "masked_mse"])
def test_unit_weights_are_a_plain_sum(name, batch):
    losses, counts = batch.losses()(batch.output, batch.target)
    for weights in (None, torch.ones(len(losses)).double()):
        combine = LOSSES[name](weights)
        assert combine(losses, counts) == losses.sum()
        assert combine.objective(losses, counts) == losses.sum()


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
    combine = LOSSES[name](torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
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
    one, other = LOSSES[name](weights), LOSSES[name](weights[order])
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


# -- logprod -------------------------------------------------------------------------------------


def test_logprod_measures_a_batch_by_earlier_batches():
    """A table: three batches, denominators held, then moved towards the losses."""
    combine = LogProd(torch.tensor([1.0, 2.0]).double(), decay=0.75)
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


def test_logprod_learns_nothing_in_evaluation_mode():
    combine = make_combiner("logprod", 2).eval()
    before = combine.running.clone()
    combine(torch.tensor([9.0, 9.0]), torch.tensor([5.0, 5.0]))
    assert torch.equal(combine.running, before)


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
    torch.testing.assert_close(steady_weights(losses, counts, combine), combine.weights / losses)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1e-30, 1e-12, 1e-3, 1e3, 1e12, 1e30])
@pytest.mark.parametrize("started", [True, False], ids=["started", "steady"])
def test_logprod_does_not_feel_the_scale_of_a_task(started, factor, dtype):
    """Multiplying one task's loss by a factor leaves the gradient by the outputs unchanged."""
    batch = make_batch("r2r3", dtype=dtype, seed=16)
    ones = torch.ones(4, dtype=dtype)
    scale = torch.tensor([1, 1, factor, 1], dtype=dtype)

    def result(scale):
        combine = LogProd(decay=0.5)
        losses, counts = batch.losses()(batch.output, batch.target)
        if started:
            combine.start(ones * scale, counts)
        else:
            steady_weights(losses * scale, counts, combine)

        def loss(output, target):
            losses, counts = batch.losses()(output, target)
            return combine(losses * scale, counts)

        return value_and_gradient(loss, batch.output, batch.target)

    (value, gradient), (expected, expected_gradient) = result(scale), result(ones)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [0.0, 1e-30, 1.0, 1e30])
@STARTED
def test_logprod_is_finite_for_losses_of_any_size(started, loss, dtype):
    combine = make_combiner("logprod", 2, started=started, dtype=dtype)
    losses, counts = torch.tensor([loss, 1.0], dtype=dtype), torch.tensor([3.0, 3.0], dtype=dtype)
    for _ in range(5):
        assert_finite(*value_and_gradient(combine, losses, counts))
    assert_finite(combine.objective(losses, counts))


@pytest.mark.parametrize("floor", [1e-6, 1e-2])
@pytest.mark.parametrize("reference", [1.0, 100.0])
def test_logprod_weights_stop_growing_at_the_floor(floor, reference):
    """Below `floor` times the constant predictor's loss, in the batches and in the objective."""
    combine = LogProd(decay=0.5, floor=floor)
    counts = torch.ones(1).double()
    lowest = floor * reference
    for loss in (2 * lowest, lowest, lowest / 2, lowest / 1e6, 0.0):
        combine.start(torch.tensor([reference]).double(), counts)
        losses = torch.tensor([loss]).double()
        torch.testing.assert_close(
            steady_weights(losses, counts, combine), torch.tensor([1 / max(loss, lowest)]).double()
        )
        assert combine.objective(losses, counts).item() == pytest.approx(
            math.log(max(loss, lowest))
        )


def test_logprod_objective_is_the_log_of_a_product():
    losses, weights = torch.tensor([[2.0, 3.0, 0.25], [1.0, 2.0, 0.5]]).double()
    objective = LogProd(weights).objective(losses, torch.ones(3))
    assert objective.exp().item() == pytest.approx(2 * 3**2 * 0.25**0.5)
    unseen = LogProd(weights).objective(
        torch.tensor([2.0, 0.0, 0.25]).double(), torch.tensor([4, 0, 1])
    )
    assert unseen.exp().item() == pytest.approx(2 * 0.25**0.5)


def log_of_batch_loss(losses, counts):
    """The tempting form, whose minimiser is not the mean."""
    seen = counts > 0
    return torch.where(seen, torch.where(seen, losses, 1).log(), 0).sum()


def fitted_constants(combine, pick, *, n_steps=800, n_tasks=256):
    """Constants fitted to targets of mean 1 with exponential errors, one per task.

    A bare torch loop of decaying steps over mini-batches of eight rows; `pick` draws which of them
    are observed. The tasks are repetitions: their mean tells a bias from noise.
    """
    generator = torch.Generator().manual_seed(0)
    targets = torch.empty(512, n_tasks).exponential_(generator=generator)
    targets /= targets.mean(dim=0)
    task_losses = TaskLosses(["regression"] * n_tasks, [1] * n_tasks)
    constant = torch.zeros(n_tasks, requires_grad=True)
    for step in range(n_steps):
        rows = torch.rand(512, generator=generator).topk(8).indices
        target = targets[rows].masked_fill(~pick(torch.rand(8, n_tasks, generator=generator)), NAN)
        loss = combine(*task_losses(constant.expand(8, -1), target))
        (gradient,) = torch.autograd.grad(loss, constant)
        with torch.no_grad():
            constant -= gradient.clamp(-50, 50) / (5 + step)  # the log's can be infinite
    return constant.detach()


def exactly(n):
    """Observe exactly n of the rows of a batch."""
    return lambda noise: noise.argsort(dim=0).argsort(dim=0) < n


PICKS = {"2 of 8": exactly(2), "a quarter": lambda noise: noise < 0.25}


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
def test_logprod_fits_the_mean_under_skewed_noise(pick):
    combine = LogProd()
    combine.start(torch.ones(256), torch.full((256,), 2.0))
    assert fitted_constants(combine, pick).mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("pick", PICKS.values(), ids=PICKS.keys())
def test_the_log_of_a_batch_loss_would_not(pick):
    assert fitted_constants(log_of_batch_loss, pick).mean().item() < 0.85


@COMBINERS
def test_a_bare_loop_meets_a_task_late(name):
    """Without `start`, and with a task that is first observed in step 30."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(64, 2, generator=generator)
    y = torch.stack([X[:, 0] > 0, X @ torch.tensor([1.0, -1.0])], dim=1).float()
    weights = torch.zeros(2, 3, requires_grad=True)
    task_losses, combine = (
        TaskLosses(["classification", "regression"], [2, 1], LOSSES[name].family),
        LOSSES[name](),
    )
    optimizer = torch.optim.Adam([weights], lr=0.1)
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
    torch.testing.assert_close(weights[:, 2], torch.tensor([1.0, -1.0]), atol=0.05, rtol=0)


# -- random batches ------------------------------------------------------------------------------

PALETTE = np.array([0, 0, 1e-3, -1e-3, 1, -1, 1e3, -1e3])  # ties, zero losses, large losses


@st.composite
def random_batches(draw):
    """Some batches of one problem: outputs, targets with holes, weights."""
    spec = draw(st.lists(st.sampled_from("r123"), min_size=1, max_size=5))
    members = draw(st.sampled_from([None, 1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    batches = []
    for n_rows in draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)):
        share = draw(st.sampled_from([0.0, 0.3, 1.0]))
        batch = make_batch(
            spec, n_rows, share=share, members=members, dtype=torch.float32, seed=rng
        )
        output = torch.from_numpy(rng.choice(PALETTE, batch.output.shape)).float()
        weight = (
            batch.observed
            * torch.from_numpy(rng.choice([0, 1, 1, 0.125, 3], batch.target.shape)).float()
        )
        target = batch.target.clone()
        numbers = torch.tensor([s == "r" for s in spec])
        target[:, numbers] += torch.from_numpy(rng.choice(PALETTE, target.shape)).float()[
            :, numbers
        ]
        batches.append((batch._replace(output=output, target=target), weight))
    return batches


@settings(max_examples=100, deadline=None, database=None)
@given(batches=random_batches(), started=st.booleans(), weighted=st.booleans())
@COMBINERS
def test_random_batches_give_finite_values_and_gradients(name, batches, started, weighted):
    task_losses = batches[0][0].losses(LOSSES[name].family)
    combine = make_combiner(name, task_losses.n_tasks, started=started, dtype=torch.float32)
    for batch, weight in batches:
        args = (batch.target, weight) if weighted else (batch.target,)
        losses, counts = task_losses(batch.output, *args)
        assert_finite(losses, counts, combine.objective(losses, counts))
        assert_finite(
            *value_and_gradient(lambda f, *a: combine(*task_losses(f, *a)), batch.output, *args)
        )


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_fresh_combiner_takes_a_checkpoint(name):
    started = make_combiner(name, 2)
    fresh = LOSSES[name]()
    fresh.load_state_dict(started.state_dict())
    assert fresh.state_dict().keys() == started.state_dict().keys()
    for key, value in fresh.state_dict().items():
        torch.testing.assert_close(value, started.state_dict()[key])
