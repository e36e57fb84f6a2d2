"""Out of memory, trunks that raise, and outputs that are not finite: by their right names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sklearn_mtl import MultiTaskCNNEstimator

rng = np.random.default_rng(0)
X = rng.normal(size=(64, 4))
Y = X[:, :2] - X[:, 2:]

Rule = Callable[["Faulty", Tensor], bool]


class Faulty(nn.Module):
    """Does something wrong where a rule says so."""

    def __init__(self, fault: Callable[[Tensor], Tensor], when: Rule) -> None:
        super().__init__()
        self.linear, self.fault, self.when, self.n_calls = nn.Linear(4, 8), fault, when, 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        out = self.linear(x)
        return self.fault(out) if self.when(self, x) else out


def too_much(out: Tensor) -> Tensor:
    return torch.empty(10**15)


def breaks(out: Tensor) -> Tensor:
    raise KeyError("layer of mine")


def no_number(out: Tensor) -> Tensor:
    return out * float("nan")


def always(module: Faulty, x: Tensor) -> bool:
    return True


def late(module: Faulty, x: Tensor) -> bool:
    return module.training and module.n_calls > 8


def of_three(module: Faulty, x: Tensor) -> bool:
    return len(x) == 3


def model(fault: Any, when: Rule) -> MultiTaskCNNEstimator:
    return MultiTaskCNNEstimator(
        trunk=Faulty(fault, when), max_epochs=4, batch_size=16, random_state=0
    )


@pytest.mark.parametrize(
    ("when", "said"),
    [(always, "the trunk, or the samples, smaller"), (late, "Lower batch_size, which is 16")],
)
def test_training_without_memory_is_a_memory_error(when: Rule, said: str) -> None:
    good = MultiTaskCNNEstimator(max_epochs=1, random_state=0).fit(X, Y)
    before = good.predict(X)
    good.set_params(trunk=Faulty(too_much, when), max_epochs=4, batch_size=16)
    with pytest.raises(MemoryError, match=f"not enough memory for the network.*{said}"):
        good.fit(X, Y)
    np.testing.assert_array_equal(good.predict(X), before)


def test_a_stream_without_memory_stays_where_it_was() -> None:
    stream = model(too_much, late).partial_fit(X, Y)
    before = stream.predict(X)
    with pytest.raises(MemoryError, match="Lower batch_size, which is 16"):
        stream.partial_fit(X, Y)
    np.testing.assert_array_equal(stream.predict(X), before)


def test_predicting_without_memory_is_a_memory_error() -> None:
    fitted = model(too_much, of_three).fit(X, Y)
    with pytest.raises(MemoryError, match="Pass X in parts"):
        fitted.predict(X[:3])
    assert np.isfinite(fitted.predict(X)).all()


def test_what_a_trunk_raises_later_stays_what_it_is() -> None:
    with pytest.raises(KeyError, match="layer of mine"):
        model(breaks, late).fit(X, Y)
    with pytest.raises(KeyError, match="layer of mine"):
        model(breaks, of_three).fit(X, Y).predict(X[:3])
    with pytest.raises(ValueError, match="trunk fails on a batch"):
        model(breaks, always).fit(X, Y)


def test_x_is_blamed_only_if_it_is_far_away() -> None:
    fitted = model(no_number, of_three).fit(X, Y)
    with pytest.raises(ValueError, match=r"the first \[0, 1, 2\].*Check what the trunk does"):
        fitted.predict(X[:3])
    far = MultiTaskCNNEstimator(trunk=nn.Linear(4, 8), max_epochs=1, random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match=r"the first \[1\].*too far from.*Check X"):
        far.predict(np.vstack([X[:1], np.full((1, 4), 1e300)]))
