"""The fitted network as a module, from X to predictions."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_mtl import MultiTaskCNNEstimator, Task
from sklearn_mtl.kinds import RegressionTarget
from sklearn_mtl.networks import ConvTrunk, DenseTrunk

RNG = np.random.default_rng(0)
ROWS = RNG.normal([5, -300, 0], [0.1, 40, 1], size=(60, 3)).astype(np.float32)
IMAGES = RNG.normal(size=(60, 8, 8, 3)).astype(np.float32) * 50
IMAGES[:30, :4, :4, 0] += 100


def fitted(X, trunk, **params):
    bright = X.reshape(len(X), -1)[:, :3].sum(axis=1) * 10 + 1e4
    y = pd.DataFrame({"on": np.where(np.arange(60) < 30, "yes", "no"), "bright": bright})
    params = {"max_epochs": 2, "random_state": 0} | params
    return MultiTaskCNNEstimator(trunk=trunk, **params).fit(X, y)


CASES = {
    "rows": lambda: (fitted(ROWS, DenseTrunk((8,), n_members=3)), ROWS),
    "images": lambda: (fitted(IMAGES, ConvTrunk(8), data_format="channels_last"), IMAGES),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def test_it_says_what_the_estimator_says(case):
    est, X = case
    out = est.as_module()(torch.from_numpy(X))
    assert list(out) == ["on", "bright"]
    np.testing.assert_allclose(out["on"].detach(), est.predict_proba(X), atol=1e-5)
    bright = est.predict_frame(X)["bright"]
    np.testing.assert_allclose(out["bright"].detach(), bright, atol=1e-4 * bright.std())
    for name, shape in {"on": (60, 2), "bright": (60, 1)}.items():
        alone = est.as_module(name)(torch.from_numpy(X))
        assert alone.shape == shape
        assert torch.equal(alone, out[name].reshape(shape))


def test_gradients_are_those_of_finite_differences(case):
    est, X = case
    module = est.as_module("bright").double()
    x = torch.from_numpy(X[:2]).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: module(x) / 1e3, (x,), eps=1e-4, atol=1e-4)


def test_nothing_that_happens_to_it_reaches_the_estimator(case):
    est, X = case
    before, state = est.predict(X), copy.deepcopy(est.module_.state_dict())
    for p in est.module_.parameters():
        p.grad = torch.full_like(p, 7)
    module = est.as_module().train()
    sum(out.sum() for out in module(torch.from_numpy(X)).values()).backward()
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    assert all((p.grad == 7).all() for p in est.module_.parameters())
    torch.testing.assert_close(est.module_.state_dict(), state, rtol=0, atol=0)
    np.testing.assert_array_equal(est.predict(X), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_it_can_be_traced_and_exported(case):
    est, X = case
    x, module = torch.from_numpy(X), est.as_module()
    traced = torch.jit.trace(est.as_module("on"), x[:4])
    torch.testing.assert_close(traced(x), module(x)["on"])
    batch = torch.export.Dim("n")
    program = torch.export.export(module, (x[:4],), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(x), module(x))


def test_saliency_as_captum_computes_it(case):
    """Gradients of one output of each row, by its position."""
    est, X = case
    x = torch.from_numpy(X[:5]).requires_grad_()
    for task, target in (("on", 1), ("bright", 0)):
        out = est.as_module(task)(x)
        selected = torch.unbind(out[:, target])
        assert out[:, target].shape == (5,)
        (saliency,) = torch.autograd.grad(selected, x)
        assert saliency.shape == x.shape
        assert (saliency.flatten(1).abs().sum(dim=1) > 0).all()


def test_integrated_gradients_add_up(case):
    """From a baseline to X: to the difference of the predictions, which is their axiom."""
    est, X = case
    module, x = est.as_module("on"), torch.from_numpy(X[:3])
    baseline = torch.from_numpy(X.mean(axis=0, keepdims=True)).expand_as(x)
    steps = (torch.arange(400) + 0.5) / 400
    path = torch.cat([baseline + a * (x - baseline) for a in steps]).requires_grad_()
    (gradient,) = torch.autograd.grad(module(path)[:, 1].sum(), path)
    integral = gradient.unflatten(0, (400, 3)).mean(dim=0) * (x - baseline)
    difference = (module(x) - module(baseline))[:, 1]
    torch.testing.assert_close(integral.flatten(1).sum(dim=1), difference, rtol=0.01, atol=1e-3)


def test_grad_cam_on_a_convolution():
    """Hooks on a layer of the trunk see its activations and their gradients."""
    est, X = CASES["images"]()
    module, kept = est.as_module("on"), {}
    layer = [m for m in module.network.trunk.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    layer.register_forward_hook(lambda _, __, out: kept.update(out=out))
    out = module(torch.from_numpy(X[:4]))[:, 1].sum()
    (gradient,) = torch.autograd.grad(out, kept["out"])
    weight = gradient.mean(dim=(2, 3), keepdim=True)
    cam = torch.relu((weight * kept["out"]).sum(dim=1))
    assert cam.shape[0] == 4
    assert cam.ndim == 3
    assert torch.isfinite(cam).all()


@pytest.mark.parametrize("task", ["on", "bright"])
def test_gradient_explainer_of_shap(task):
    shap = pytest.importorskip("shap", reason="shap is asked to explain")
    est, X = CASES["rows"]()
    explainer = shap.GradientExplainer(est.as_module(task), torch.from_numpy(X))
    values = explainer.shap_values(torch.from_numpy(X[:3]), nsamples=20, rseed=0)
    assert np.shape(values) == (3, 3, 2 if task == "on" else 1)
    shap.GradientExplainer(est.module_, torch.from_numpy(X)).shap_values(torch.from_numpy(X[:3]))


def test_what_cannot_be_asked_for():
    est, _ = CASES["rows"]()
    with pytest.raises(ValueError, match=r"task='dark' is not a task. Use one of \['on', 'bright'"):
        est.as_module("dark")


class Decoded(RegressionTarget):
    def decode(self, raw):
        return super().decode(raw) + 1


def test_another_task_may_decode_without_a_link():
    y = pd.DataFrame({"on": [0, 1] * 30, "odd": ROWS[:, 0]})
    tasks = [Task("on", "classification"), Task("odd", Decoded())]
    est = MultiTaskCNNEstimator(tasks, trunk=DenseTrunk((4,), n_members=2), max_epochs=1).fit(
        ROWS, y
    )
    assert est.as_module("on")(torch.from_numpy(ROWS)).shape == (60, 2)
    with pytest.raises(ValueError, match="Task 'odd': Decoded cannot be exported"):
        est.as_module()
