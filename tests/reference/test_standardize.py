"""Standardization against its definition, block by block, and against torch's own layers."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fusednorm.reference import (
    batch_moments,
    group_moments,
    instance_moments,
    layer_moments,
    standardize,
)

SHAPES = [(5, 6), (3, 6, 4), (3, 6, 4, 3), (2, 6, 2, 3, 2)]
EPS = 1e-5


def sample(shape: tuple[int, ...]) -> Tensor:
    """Values whose every plane has its own mean and scale, so that mixed-up blocks show."""
    generator = torch.Generator().manual_seed(0)
    planes = (*shape[:2], *(1 for _ in shape[2:]))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return (1 + torch.rand(planes, generator=generator)) * noise + torch.randn(planes, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["batch", "instance", "layer", "group of 2", "group of 3"])
def test_moments_are_those_of_the_block(kind: str, shape: tuple[int, ...]) -> None:
    """mu_j = 1/M sum x, var_j = 1/M sum (x - mu_j)^2 over the block B_j, written with plain Python sums."""
    x = sample(shape)
    N, C = shape[:2]
    blocks: list[tuple[Sequence[int], Sequence[int]]]  # the samples and the channels of each
    if kind == "batch":
        mu, var = batch_moments(x)
        blocks = [(range(N), [c]) for c in range(C)]
    elif kind == "instance":
        mu, var = instance_moments(x)
        blocks = [([n], [c]) for n, c in itertools.product(range(N), range(C))]
    elif kind == "layer":
        mu, var = layer_moments(x)
        blocks = [([n], range(C)) for n in range(N)]
    else:
        size = int(kind[-1])
        mu, var = group_moments(x, C // size)
        blocks = [([n], range(c, c + size)) for n, c in itertools.product(range(N), range(0, C, size))]

    mu, var = mu.expand(shape), var.expand(shape)
    for samples, channels in blocks:
        index = list(itertools.product(samples, channels))
        values = [value for n, c in index for value in x[n, c].flatten().tolist()]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        for n, c in index:
            torch.testing.assert_close(mu[n, c], torch.full_like(mu[n, c], mean))
            torch.testing.assert_close(var[n, c], torch.full_like(var[n, c], variance))


@pytest.mark.parametrize("shape", SHAPES)
def test_x_hat_equals_torch(shape: tuple[int, ...]) -> None:
    x = sample(shape)
    C = shape[1]
    batch = functional.batch_norm(x, None, None, training=True, eps=EPS)
    torch.testing.assert_close(standardize(x, *batch_moments(x), EPS), batch)
    group = functional.group_norm(x, 3, eps=EPS)
    torch.testing.assert_close(standardize(x, *group_moments(x, 3), EPS), group)
    layer = functional.layer_norm(x, x.shape[1:], eps=EPS)
    torch.testing.assert_close(standardize(x, *layer_moments(x), EPS), layer)
    if len(shape) > 2:
        instance = functional.instance_norm(x, eps=EPS)
        torch.testing.assert_close(standardize(x, *instance_moments(x), EPS), instance)
        torch.testing.assert_close(standardize(x, *group_moments(x, C), EPS), instance)


def test_a_block_of_one_value_is_standardized_to_zero() -> None:
    x = sample((5, 6))
    torch.testing.assert_close(standardize(x, *instance_moments(x), EPS), torch.zeros_like(x))
