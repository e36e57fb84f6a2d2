"""Properties of every rule that combines losses."""

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
from _rules import (
    COMBINERS,
    LARGE,
    NAN,
    RULES,
    SMALL,
    STARTED,
    every_batch,
    expectations,
    make_combiner,
    make_loss,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_mtl.losses import LOSSES, Combiner, LogProd, TaskLosses, Weighted

# -- properties of the batch loss -----------------------------------------------------------


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


# -- combiners ------------------------------------------------------------------------------


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


@pytest.mark.parametrize("name", ["weighted", "masked_mse"])
def test_a_target_that_was_not_expected_has_the_weight_of_its_task(name):
    combine = RULES[name](torch.tensor([2.0, 3.0]))
    combine.start(torch.ones(2), torch.tensor([4.0, 0.0]))
    losses = torch.tensor([0.5, 0.25])
    counts = torch.tensor([4.0, 1.0])
    assert combine(losses, counts) == combine.objective(losses, counts) == 1.75
    assert combine(losses, torch.tensor([4.0, 0.0])) == 1.0  # it has none in this batch


@STARTED
@COMBINERS
def test_slopes_are_derivatives_by_the_losses(name, started):
    """None where the losses have a say in them."""
    losses = torch.tensor([0.5, 4.0, 0.0], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([3.0, 5.0, 0.0], dtype=torch.float64)
    combine = make_combiner(name, 3, started=started)
    if name == "uncertainty":  # variances that are not those of the start
        with torch.no_grad():
            combine.log_variance.add_(torch.tensor([1.0, -2.0, 0.5]))
    slopes = combine.slopes(losses.detach(), counts)
    (expected,) = torch.autograd.grad(combine(losses, counts), losses)
    depend = name == "batch logprod" or (name == "logprod" and not started)
    assert (slopes is None) == depend
    if not depend:
        torch.testing.assert_close(slopes, expected)


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


@pytest.mark.parametrize("begun", [True, False], ids=["onto a started one", "onto a bare one"])
@STARTED
@COMBINERS
def test_a_fresh_combiner_takes_a_checkpoint(name, started, begun):
    """Whether it was started or not: what has no tensor in the state has none afterwards."""
    powers = torch.tensor([1.0, 2.0])
    combine, fresh = (
        make_combiner(name, 2, started=each, powers=powers) for each in (started, begun)
    )
    losses, counts = torch.tensor([0.1, 3.0]).double(), torch.ones(2).double()
    combine(losses, counts)
    if begun:
        fresh(7 * losses, counts)
    fresh.load_state_dict(combine.state_dict())
    assert fresh.state_dict().keys() == combine.state_dict().keys()
    for factor in (1.0, 10.0):
        assert torch.equal(fresh(factor * losses, counts), combine(factor * losses, counts))


@COMBINERS
def test_a_checkpoint_brings_no_weights(name):
    """They are an argument, and their values go with the state; to have some or none does not."""
    with_weights, without = make_combiner(name, 2), RULES[name]()
    other = RULES[name](torch.ones(2).double())
    other.load_state_dict(with_weights.state_dict())
    assert torch.equal(other.weights, with_weights.weights)
    without.start(*expectations(2))
    with pytest.raises(RuntimeError, match=r'Unexpected key.* in state_dict: .*"weights"'):
        RULES[name]().load_state_dict(with_weights.state_dict())
    with pytest.raises(RuntimeError, match=r'Missing key.* in state_dict: .*"weights"'):
        make_combiner(name, 2).load_state_dict(without.state_dict())


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


# -- random batches -------------------------------------------------------------------------

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


# -- a loop of one's own --------------------------------------------------------------------


@COMBINERS
@STARTED
def test_dtypes_may_change(name, started):
    combine = make_combiner(name, 2, started=started)
    for dtype in (torch.float32, torch.float64, torch.float32):
        losses = torch.tensor([1.0, 2.0], dtype=dtype)
        assert_finite(*value_and_gradient(combine, losses, torch.ones(2, dtype=dtype)))


@pytest.mark.parametrize("name", LOSSES)
def test_what_was_set_is_shown(name):
    shown = repr(LOSSES[name](torch.tensor([1.0, 2.0])))
    assert "weights=[1.0, 2.0]" in shown
    assert ("floor=0.1" in shown) == (name in ("logprod", "uncertainty"))
    assert repr(LogProd(decay=None)) != repr(LogProd())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [[-1.0, 1.0], [NAN, 1.0], [math.inf, 1.0], [[1.0, 1.0]], 2.0])
def test_weights_that_are_none_are_refused(name, weights):
    with pytest.raises(ValueError, match="weights must be finite numbers >= 0, one per task"):
        LOSSES[name](weights)


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


def test_the_mean_over_the_batches_of_an_epoch_is_the_objective():
    """Of `Weighted` after `start`, however unevenly a rare task falls."""
    rule = Weighted(torch.tensor([1.0, 3.0]).double())
    counts = torch.tensor([[4.0, 0], [4, 3], [4, 0], [2, 1]]).double()
    losses = torch.tensor([[1.0, 0], [3, 5], [2, 0], [7, 11]]).double()
    rule.start(torch.ones(2).double(), counts.mean(dim=0))
    mean = torch.stack(
        [rule(loss, count) for loss, count in zip(losses, counts, strict=True)]
    ).mean()
    overall = (losses * counts).sum(dim=0) / counts.sum(dim=0)
    torch.testing.assert_close(mean, rule.objective(overall, counts.sum(dim=0)))
