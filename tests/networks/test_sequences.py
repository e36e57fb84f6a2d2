"""The trunk of sequences that end where their mask says."""

from __future__ import annotations

import pytest
import torch
from _asserts import assert_finite
from torch import Tensor, nn

from sklearn_mtl.networks import SequenceTrunk, build_trunk

LENGTHS = [1, 2, 3, 7, 8, 21, 33, 40]


def trunk_of(length: int = 40, n_channels: int = 2, **params: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_trunk(SequenceTrunk(**{"width": 4} | params), (n_channels + 1, length))[0]


def sequences(n_channels: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n_channels, length, generator=generator) for length in LENGTHS]


def padded(parts: list[Tensor], length: int, fill: float = 0.0, mask: float = 1.0) -> Tensor:
    x = torch.full((len(parts), parts[0].shape[0] + 1, length), fill)
    x[:, -1] = mask - 3
    for row, part in zip(x, parts, strict=True):
        row[:-1, : part.shape[1]] = part
        row[-1, : part.shape[1]] = mask
    return x


@pytest.mark.parametrize("length", [41, 64, 200])
def test_features_do_not_depend_on_the_length_of_the_padding(length: int) -> None:
    trunk, parts = trunk_of(), sequences()
    expected = trunk(padded(parts, 40))
    torch.testing.assert_close(trunk(padded(parts, length)), expected, rtol=1e-5, atol=1e-6)
    alone = torch.cat([trunk(padded([part], part.shape[1])) for part in parts])
    torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-6)
    assert expected.std(dim=0).min() > 1e-4  # sequences are told apart


@pytest.mark.parametrize("fill", [1e6, -7.0, torch.nan, torch.inf])
def test_features_do_not_depend_on_what_the_padding_holds(fill: float) -> None:
    trunk, parts = trunk_of(), sequences()
    torch.testing.assert_close(trunk(padded(parts, 40, fill)), trunk(padded(parts, 40)))
    torch.testing.assert_close(trunk(padded(parts, 40, mask=-0.2)), trunk(padded(parts, 40)))


def test_they_depend_on_every_step() -> None:
    trunk, (*_, part) = trunk_of(), sequences()
    x = padded([part[:, :33]], 40).requires_grad_()
    trunk(x).square().sum().backward()
    assert (x.grad[0, :-1, :33].abs().sum(dim=0) > 0).all()
    assert (x.grad[0, :-1, 33:] == 0).all()
    assert not torch.allclose(trunk(padded([part[:, :32]], 40)), trunk(padded([part[:, :33]], 40)))


@pytest.mark.parametrize("length", [1, 2, 5, 40, 129])
@pytest.mark.parametrize("params", [{}, {"width": 1, "n_features": 3}, {"width": 16}])
def test_every_weight_learns(length: int, params: dict[str, int]) -> None:
    trunk = trunk_of(length, 3, **params)
    x = padded([torch.randn(3, 1 + k % length) for k in range(5)], length, torch.nan)
    features = trunk(x)
    assert features.shape == (5, params.get("n_features", 128))
    features.square().sum().backward()
    assert_finite(features, *(p.grad for p in trunk.parameters()))


def test_they_tell_where_things_are() -> None:
    trunk = trunk_of(64, 1, width=8)
    bumps = torch.zeros(3, 1, 50)
    bumps[0, 0, 10:13] = bumps[1, 0, 38:41] = 5
    here, there, nowhere = trunk(padded(list(bumps), 64))
    assert (here - there).norm() > 0.6 * (here - nowhere).norm()


@pytest.mark.parametrize("shape", [(5,), (1, 9), (1, 8, 8), (2, 4, 4, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"SequenceTrunk needs.*SequencePad"):
        build_trunk(SequenceTrunk(), shape)


@pytest.mark.parametrize("params", [{"width": 0}, {"n_features": 1.5}])
def test_bad_parameters(params: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(params))):
        build_trunk(SequenceTrunk(**params), (2, 9))
