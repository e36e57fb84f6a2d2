"""The kind of a task without a target: it predicts holes, or its known labels alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from _observed import EVERY_OBSERVED, fitted

from sklearn_mtl.kinds import ClassificationTarget, OrdinalTarget, UnobservedTarget

RAW = np.random.default_rng(0).normal(size=(5, 2, 3))
NOTHING = np.zeros(0)


def known(kind: Any) -> UnobservedTarget:
    return UnobservedTarget(kind.fit(np.array([], dtype=object), NOTHING))


@EVERY_OBSERVED
def test_predictions_are_holes(name: str) -> None:
    _, kind, values, _ = fitted(name)
    lonely = UnobservedTarget(type(kind)(**kind.params()))
    raw = RAW[..., : lonely.n_outputs]
    predicted = lonely.decode(raw)
    assert predicted.shape == (5,)
    assert all(value is None if kind.is_class else np.isnan(value) for value in predicted)
    assert lonely.link(torch.from_numpy(raw)).shape == lonely.link(raw).shape
    assert lonely.encode(values).tolist() == [-1] * len(values)
    assert np.isnan(lonely.score(values, values, np.ones(len(values)), "t"))
    if kind.is_class:
        assert lonely.proba(raw).shape == (5, 0)


@pytest.mark.parametrize("kind", [ClassificationTarget, OrdinalTarget])
def test_known_labels_are_equally_probable(kind: Any) -> None:
    lonely = known(kind(["ash", "fir", "yew"]))
    raw = np.tile(lonely.constant(NOTHING, NOTHING), (4, 1, 1))
    np.testing.assert_allclose(lonely.proba(raw), 1 / 3)
    assert lonely.classes_.tolist() == ["ash", "fir", "yew"]
    assert lonely.encode(np.array(["yew", "ash"])).tolist() == [2, 0]
    with pytest.raises(ValueError, match=r"\['elm'\] that are not among the categories"):
        lonely.check(np.array(["elm"]))


def test_its_loss_says_nothing() -> None:
    raw = torch.randn(4, 2, 3, requires_grad=True)
    loss = UnobservedTarget(ClassificationTarget()).cell_loss.likelihood(raw, torch.zeros(4, 2))
    assert (loss == 0).all()
    assert loss.shape == (4, 2)
    loss.sum().backward()
    assert (raw.grad == 0).all()
