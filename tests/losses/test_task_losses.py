"""Losses per task: means over what was observed."""

import numpy as np
import pytest
import torch
from _asserts import value_and_gradient
from _inputs import BATCHES, make_batch
from _rules import FAMILIES, NAN, every_batch

from sklearn_mtl.losses import CELL_LOSSES, Cells, KindLoss, TaskLosses


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


def test_only_a_loss_that_measures_a_scale_itself_counts_twice():
    powers = TaskLosses(list(CELL_LOSSES), [2] * len(CELL_LOSSES)).powers
    assert dict(zip(CELL_LOSSES, powers.tolist(), strict=True)) == {
        kind: 2.0 if kind == "quantile" else 1.0 for kind in CELL_LOSSES
    }


def test_parameters_of_a_loss_may_have_any_name(monkeypatch):
    def loss(raw, target, tasks=1.0, columns=1.0):
        return tasks * columns * (raw[..., 0] - target) ** 2

    monkeypatch.setitem(CELL_LOSSES, "own", KindLoss(loss, loss))
    own = TaskLosses(["own"] * 2, [1] * 2, params=[{"columns": 5.0, "tasks": 2.0}, {}])
    assert own(torch.zeros(2, 2), torch.ones(2, 2))[0].tolist() == [10.0, 1.0]


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"family='count' is unknown\. Use 'likelihood' or"):
        TaskLosses(["poisson"], [1], family="count")


# -- a loop of one's own --------------------------------------------------------------------


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


@pytest.mark.parametrize("shape", [(3,), (1, 1), (3, 2), ()])
def test_weights_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(3, 1\), or \(3, 1\) for a weight per row"):
        TaskLosses(["regression"], [1])(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(shape))


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


def test_shares_of_members_count_as_a_product_to_the_bit():
    """The mean over members is one product, with the gradients of one."""
    members = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    target, share = torch.randn(2, 4), torch.full((2, 4), 0.5)
    cells = Cells(target, None, share, share.sum(dim=0), members)
    task_losses, found = TaskLosses(["regression"] * 4, [1] * 4), []
    output = torch.randn(2, 3, 4, requires_grad=True)
    cell = (output - target.unsqueeze(1)) * (output - target.unsqueeze(1))
    expected = (torch.einsum("bmk,bm->bk", cell, members) * share).sum(dim=0)
    for losses in (expected, task_losses.compare(output, cells)):
        found.append([losses, *torch.autograd.grad(losses.sum(), output)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    assert (found[0][1][members == 0] == 0).all()
