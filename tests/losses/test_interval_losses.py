"""Losses of numbers within bounds: the likelihood, its slope, and the noise that is learned."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm, truncnorm

from sklearn_mtl.kinds.bounds import bounds_of
from sklearn_mtl.kinds.tobit import fit_tobit
from sklearn_mtl.losses import CENSORED, Cells, LogProd, TaskLosses
from sklearn_mtl.losses.cells import squared_error
from sklearn_mtl.losses.intervals import expected_square, interval_error, squared_distance

INF = math.inf
REACHES = {
    "above": INF,
    "below": -INF,
    "interval upwards": 1.3,
    "interval downwards": -0.7,
    "barely wide": 0.05,
    "wide": 40.0,
}
EVERY_REACH = pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
EVERY_SCALE = pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
MEANS = torch.linspace(-5, 5, 21, dtype=torch.float64)


def cells(reach: float, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """A target of 0.5 for each mean, and how far it reaches."""
    return torch.full((21,), 0.5, dtype=dtype), torch.full((21,), reach, dtype=dtype)


@EVERY_REACH
@EVERY_SCALE
def test_the_likelihood_of_an_interval(reach: float, scale: float) -> None:
    """Against scipy, up to what it is at best: then it is 0."""
    loss = interval_error(MEANS[:, None], *cells(reach), scale).numpy()
    low, high = sorted([0.5, 0.5 + reach])
    m = MEANS.numpy()
    near = norm.cdf((high - m) / scale) - norm.cdf((low - m) / scale)
    far = norm.sf((low - m) / scale) - norm.sf((high - m) / scale)
    mass = np.where(m < low, far, near)
    best = 1.0
    if math.isfinite(reach):
        best = norm.cdf(abs(reach) / 2 / scale) - norm.cdf(-abs(reach) / 2 / scale)
    expected = -2 * scale**2 * np.log(mass / best)
    reliable = mass > 1e-12
    assert reliable.sum() > 3
    np.testing.assert_allclose(loss[reliable], expected[reliable], rtol=1e-4, atol=1e-9)
    assert (loss > -1e-12).all()


@EVERY_REACH
@EVERY_SCALE
def test_the_slope_is_that_of_the_likelihood(reach: float, scale: float) -> None:
    """By finite differences; and twice the distance to the expected target (Fisher's identity)."""
    raw, step = MEANS[:, None].clone().requires_grad_(), 1e-5
    interval_error(raw, *cells(reach), scale).sum().backward()
    ends = [interval_error(MEANS[:, None] + s, *cells(reach), scale) for s in (-step, step)]
    np.testing.assert_allclose(
        raw.grad[:, 0], (ends[1] - ends[0]) / (2 * step), rtol=1e-5, atol=1e-6
    )
    low, high = sorted([0.5, 0.5 + reach])
    m = MEANS.numpy()
    inside = truncnorm((low - m) / scale, (high - m) / scale, loc=m, scale=scale)
    close = np.abs(m - 0.5) < 3
    np.testing.assert_allclose(raw.grad[close, 0], 2 * (m - inside.mean())[close], atol=1e-3)


@EVERY_REACH
@EVERY_SCALE
def test_expected_squares_are_those_of_cut_noise(reach: float, scale: float) -> None:
    found = expected_square(MEANS[:, None], *cells(reach), scale).numpy()
    low, high = sorted([0.5, 0.5 + reach])
    m = MEANS.numpy()
    close = np.abs(m - 0.5) < 4 * scale + abs(min(abs(reach), 9))
    inside = truncnorm((low - m) / scale, (high - m) / scale)
    np.testing.assert_allclose(found[close], (inside.var() + inside.mean() ** 2)[close], rtol=1e-4)


@EVERY_SCALE
def test_exact_targets_have_squared_errors_to_the_last_bit(scale: float) -> None:
    for dtype in (torch.float32, torch.float64):
        raw, (target, reach) = MEANS[:, None].to(dtype), cells(0.0, dtype)
        expected = squared_error(raw, target)
        assert torch.equal(interval_error(raw, target, reach, scale), expected)
        assert torch.equal(squared_distance(raw, target, reach), expected)


def test_a_narrow_interval_is_its_middle() -> None:
    """Whether it falls below the limit of what is narrow, or just above it."""
    for width in (1e-9, 0.019, 0.021):
        loss = interval_error(MEANS[:, None], *cells(width))
        np.testing.assert_allclose(loss, (MEANS - 0.5 - width / 2) ** 2, rtol=1e-3, atol=1e-8)


def test_the_bounded_error_is_the_distance() -> None:
    for reach, m, expected in [
        *((INF, 3.0, 0.0), (INF, -1.5, 4.0), (-INF, 3.0, 6.25), (-INF, -9.0, 0.0)),
        *((2.0, 1.0, 0.0), (2.0, 4.5, 4.0), (2.0, 0.0, 0.25), (-2.0, 0.0, 0.0), (-2.0, -3.5, 4.0)),
    ]:
        found = squared_distance(torch.tensor([[m]]), torch.tensor([0.5]), torch.tensor([reach]))
        assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("far", [30.0, 1e3, 1e6])
def test_far_out_in_single_precision(far: float, scale: float) -> None:
    """Loss and slope are those of the squared distance, as nothing else matters there."""
    target = torch.zeros(8)
    reach = torch.tensor([0.0, INF, -INF, 1.0, 1e-3, INF, -INF, 1.0])
    raw = torch.tensor([-far] * 5 + [far] * 3)[:, None].requires_grad_()
    loss = interval_error(raw, target, reach, scale)
    loss.sum().backward()
    distance = raw.detach().clone().requires_grad_()
    expected = squared_distance(distance, target, reach)
    expected.sum().backward()
    torch.testing.assert_close(loss, expected, rtol=0.02, atol=1e-6)
    torch.testing.assert_close(raw.grad, distance.grad, rtol=0.02, atol=1e-6)
    squares = expected_square(raw.detach(), target, reach, scale)
    assert torch.isfinite(squares).all()
    beyond = expected > 0
    torch.testing.assert_close(
        squares[beyond] * scale**2, expected[beyond].detach(), rtol=0.03, atol=1e-6
    )


# -- in TaskLosses --------------------------------------------------------------------------------


def tasks(**params: float) -> TaskLosses:
    """A number, bounded numbers, and a class between them."""
    return TaskLosses(
        ["regression", CENSORED, "classification", CENSORED],
        [1, 1, 2, 1],
        params=[{}, {"scale": 1.0} | params, {}, {"scale": 2.0}],
    )


def batch(n: int = 40) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(0)
    target = rng.normal(size=(n, 4))
    target[:, 2] = target[:, 2] > 0
    reach = np.zeros((n, 4))
    reach[:, 1] = rng.choice([0, INF, -INF, 0.5], size=n)
    reach[:, 3] = rng.choice([0, INF], size=n)
    output = rng.normal(size=(n, 5))
    return tuple(torch.from_numpy(part) for part in (output, target, reach))


def test_bounded_tasks_beside_others() -> None:
    output, target, reach = batch()
    losses, counts = tasks()(output, target, reach=reach)
    for k, column, scale in ((1, 1, 1.0), (3, 4, 2.0)):
        cell = interval_error(output[:, column, None], target[:, k], reach[:, k], scale)
        assert losses[k] == pytest.approx(cell.mean().item())
    assert losses[0] == pytest.approx(((output[:, 0] - target[:, 0]) ** 2).mean().item())
    assert counts.tolist() == [40] * 4


def test_without_reach_all_are_exact() -> None:
    output, target, _ = batch()
    losses, _ = tasks()(output, target)
    assert losses[1] == pytest.approx(((output[:, 1] - target[:, 1]) ** 2).mean().item())


def test_holes_have_no_slope_whatever_they_hold() -> None:
    output, target, reach = batch()
    values, slopes = [], []
    for junk in (0.0, math.nan, 1e30):
        y, r = target.clone(), reach.clone()
        y[:9, 1], r[:9, 1] = math.nan, junk
        raw = output.clone().requires_grad_()
        losses, _ = tasks()(raw, y, reach=r)
        losses.sum().backward()
        values.append(losses.detach())
        slopes.append(raw.grad)
        assert (raw.grad[:9, 1] == 0).all()
    for value, slope in zip(values[1:], slopes[1:], strict=True):
        assert torch.equal(value, values[0])
        assert torch.equal(slope, slopes[0])


def test_weight_two_is_the_row_twice() -> None:
    output, target, reach = batch()
    weight = torch.ones(40, 1, dtype=torch.float64)
    weight[:7] = 2
    again = torch.cat([torch.arange(40), torch.arange(7)])
    once, _ = tasks()(output, target, weight, reach)
    twice, _ = tasks()(output[again], target[again], None, reach[again])
    torch.testing.assert_close(once, twice)


def noise_of(losses: TaskLosses) -> list[float]:
    (scale,) = (buffer for name, buffer in losses.named_buffers() if "scale" in name)
    return scale.tolist()


@pytest.mark.parametrize("n_members", [None, 3])
def test_the_noise_is_learned_from_batches(n_members: int | None) -> None:
    """It ends where the likelihood has its maximum; only in training, and only with gradients."""
    output, target, reach = batch(1000)
    reach[:, 1] = torch.where(target[:, 1] > 0.2, INF, 0.0)
    start = torch.where(target[:, 1] > 0.2, 0.2, target[:, 1])
    target[:, 1] = start
    raw = torch.zeros_like(output)
    if n_members:
        raw = raw.unsqueeze(1).repeat(1, n_members, 1)
    losses = tasks()
    for settled in (losses.eval(), losses.train()):
        settled(raw, target, reach=reach)
    assert noise_of(losses) == [1.0, 2.0]
    for _ in range(200):
        losses(raw.requires_grad_(), target, reach=reach)
    known = bounds_of(start.numpy(), reach[:, 1].numpy())
    expected = fit_tobit(known, np.ones(1000), slope=0.0, shift=0.0, x=np.zeros(1000)).scale
    assert noise_of(losses)[0] == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(1, rel=0.05)
    again = tasks()
    again.resume(losses.noise)
    np.testing.assert_array_equal(losses.noise.isnan().numpy(), [True, False, True, False])
    assert noise_of(again) == noise_of(losses)


def test_the_noise_of_a_task_that_is_absent_stays() -> None:
    output, target, reach = batch()
    target[:, 1] = math.nan
    losses = tasks(scale=0.3).train()
    losses(output.requires_grad_(), target, reach=reach)
    first, second = noise_of(losses)
    assert first == 0.3
    assert second != 2.0


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_one_target_of_a_batch_is_enough_to_learn_the_noise(weight: float) -> None:
    output, target, reach = batch()
    target[1:, 1] = math.nan
    losses = tasks().train()
    losses(output.requires_grad_(), target, torch.full((40, 1), weight).double(), reach)
    alone = tasks().train()
    alone(output[:1].requires_grad_(), target[:1], None, reach[:1])
    assert noise_of(losses)[0] == noise_of(alone)[0] != 1.0


def test_logprod_finds_the_mean_of_what_is_cut() -> None:
    """A constant and its noise by mini-batches: those of the maximum likelihood."""
    rng = np.random.default_rng(1)
    y, limit = rng.normal(1.5, 2, size=4000), rng.normal(1, 1, size=4000)
    cut = y > limit
    start = torch.from_numpy(np.where(cut, limit, y))
    reach = torch.from_numpy(np.where(cut, INF, 0.0))
    losses = TaskLosses([CENSORED], [1], params=[{"scale": 1.0}]).train()
    combine, mean = LogProd(), torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([mean], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)
    for _ in range(300):
        rows = torch.from_numpy(rng.integers(4000, size=512))
        optimizer.zero_grad()
        found = losses(mean.expand(512, 1), start[rows, None], None, reach[rows, None])
        combine(*found).backward()
        optimizer.step()
        schedule.step()
    expected = fit_tobit(bounds_of(start.numpy(), reach.numpy()), np.ones(4000))
    assert mean.item() == pytest.approx(expected.shift, abs=0.05)
    assert noise_of(losses)[0] == pytest.approx(expected.scale, rel=0.05)
    assert expected.shift == pytest.approx(1.5, abs=0.1)


def test_squared_errors_throughout_are_distances() -> None:
    output, target, reach = batch()
    losses, _ = TaskLosses([CENSORED], [1], "squared", [{"scale": 1.0}])(
        output[:, 1:2], target[:, 1:2], None, reach[:, 1:2]
    )
    expected = squared_distance(output[:, 1, None], target[:, 1], reach[:, 1]).mean()
    assert losses.item() == pytest.approx(expected.item())


@EVERY_REACH
@pytest.mark.parametrize("function", [interval_error, squared_distance, expected_square])
def test_the_noise_is_1_by_default(function: Callable[..., torch.Tensor], reach: float) -> None:
    given = MEANS[:, None], *cells(reach)
    assert torch.equal(function(*given), function(*given, scale=1.0))


def test_parts_of_a_batch_learn_the_noise_of_the_whole() -> None:
    """What several processes hold back, and sum before they learn from it."""
    output, target, reach = batch()
    output.requires_grad_()
    cells = Cells.of(target, None, output.dtype, reach)
    whole, parts = tasks().train(), tasks().train()
    whole.compare(output, cells)
    sums: dict[int, torch.Tensor] = {}
    for rows in (slice(0, 13), slice(13, None)):
        parts.held = {}
        by_row = {
            name: getattr(cells, name)[rows] for name in ("target", "observed", "share", "reach")
        }
        parts.compare(output[rows], cells._replace(**by_row))
        for g, square in parts.held.items():
            sums[g] = sums.get(g, torch.zeros(())) + square
    assert not torch.equal(whole.noise.nan_to_num(), parts.noise.nan_to_num())  # not yet
    for g, square in sums.items():
        parts.learn_noise(g, square, cells.counts)
    torch.testing.assert_close(parts.noise, whole.noise, equal_nan=True)
