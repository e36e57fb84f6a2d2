"""Rules that balance tasks by themselves: `LogProd` and `Uncertainty`."""

import copy
import math

import pytest
import torch
from _asserts import assert_finite, assert_same, value_and_gradient
from _inputs import make_batch
from _rules import NAN, STARTED, BatchLogProd, every_batch, expectations, make_combiner
from scipy.optimize import minimize_scalar

from sklearn_mtl.losses import LOSSES, LogProd, TaskLosses, Uncertainty

# -- logprod --------------------------------------------------------------------------------


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


# -- uncertainty ----------------------------------------------------------------------------


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


# -- against torchjd ------------------------------------------------------------------------


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


@STARTED
def test_a_batch_that_overflowed_is_forgotten(started):
    combine, twin = make_combiner("logprod", 2, started=started), None
    losses, counts = torch.tensor([1.0, 2.0]).double(), torch.ones(2).double()
    combine(losses, counts)
    twin = copy.deepcopy(combine)
    for bad in (math.inf, NAN):
        combine(torch.tensor([bad, 2.0]).double(), counts * torch.tensor([1, 0]))
    assert torch.equal(combine(losses, counts), twin(losses, counts))


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


@pytest.mark.parametrize("rule", [LogProd, Uncertainty])
@pytest.mark.parametrize("floor", [-1e-6, math.inf, NAN])
def test_a_floor_that_is_none_is_refused(rule, floor):
    with pytest.raises(ValueError, match=r"floor=.* must be a finite number >= 0"):
        rule(floor=floor)


@pytest.mark.parametrize("decay", [-0.1, 1.0, NAN])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay=.* must be in \[0, 1\), or None"):
        LogProd(decay=decay)


# -- states ---------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("make", [LogProd, lambda: LogProd(decay=None)])
def test_a_rule_takes_the_state_of_another_started_or_not(make, started):
    """What the other one has not measured yet, it has not either."""
    rule, other = make(), make()
    rule.start(*expectations(3))
    rule(torch.ones(3).double(), torch.ones(3).double())
    if started:
        other.start(*expectations(3))
    rule.load_state_dict(other.state_dict())
    assert rule.state_dict().keys() == other.state_dict().keys()
    losses, counts = torch.tensor([0.3, 2.0, 5.0]).double(), torch.tensor([1.0, 0, 4]).double()
    for _ in range(3):
        assert rule(losses, counts) == other(losses, counts)


@pytest.mark.parametrize("weights", [None, torch.ones(3).double()])
def test_a_state_brings_variances(weights):
    """Also for a rule that has none yet; an optimizer may hold those that are there."""
    learned, fresh = Uncertainty(weights), Uncertainty(weights)
    learned.start(*expectations(3))
    before = fresh.log_variance
    fresh.load_state_dict(learned.state_dict())
    assert torch.equal(fresh.log_variance, learned.log_variance)
    assert (fresh.log_variance is before) == (weights is not None)


def test_weights_belong_to_the_constructor():
    """A state with weights does not fit a rule without, nor the other way round."""
    weighted, plain = LogProd(torch.ones(2)), LogProd()
    with pytest.raises(RuntimeError, match="weights"):
        plain.load_state_dict(weighted.state_dict())
    with pytest.raises(RuntimeError, match="weights"):
        weighted.load_state_dict(plain.state_dict())


def test_decay_pulls_learned_variances_to_one_unless_they_are_spared():
    """As the notes say of a loop of your own, with AdamW as it comes."""

    def learned(**group):
        rule = Uncertainty(torch.ones(1), floor=0)
        optimizer = torch.optim.AdamW(
            [{"params": rule.parameters(), **group}], 0.05, weight_decay=1
        )
        for _ in range(600):
            optimizer.zero_grad()
            rule(torch.tensor([math.e**2]), torch.ones(1)).backward()
            optimizer.step()
        return rule.log_variance.item()

    assert learned(weight_decay=0.0) == pytest.approx(2, abs=0.02)
    assert learned() < 1.7


def test_a_rule_resumes_the_denominators_of_another():
    """But keeps its own floor and expected counts."""
    rule, other = LogProd(), LogProd()
    for part, reference in ((rule, [1.0, 1.0]), (other, [4.0, 9.0])):
        part.start(torch.tensor(reference), torch.ones(2))
    floor = rule.lowest.clone()
    rule.resume(other)
    assert rule.running.tolist() == [4.0, 9.0]
    assert rule.lowest.equal(floor)
    other.running += 1
    assert rule.running.tolist() == [4.0, 9.0]


@pytest.mark.parametrize("other", [LogProd(), Uncertainty(torch.ones(2))])
def test_a_rule_resumes_nothing_from_one_that_has_measured_nothing(other):
    rule = LogProd()
    rule.start(torch.ones(2), torch.ones(2))
    rule.resume(other)
    assert rule.running.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("value", ["a", [None], {"a": 1}, 1j, [1j, 1], object(), math.nan])
@pytest.mark.parametrize("name", ["decay", "floor", "weights"])
def test_parameters_that_are_no_numbers_are_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}"):
        LogProd(**{name: value})
