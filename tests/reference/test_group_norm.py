"""GroupNorm of the reference against torch.nn's GroupNorm, LayerNorm and InstanceNorm."""

import pytest
import torch
from torch import Tensor, nn

from fusednorm.reference import GroupNorm

SHAPES = [(5, 6), (3, 6, 4), (3, 6, 4, 3), (2, 6, 2, 3, 2)]


def sample(shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    channels = torch.arange(1, shape[1] + 1, dtype=torch.float64).view(-1, *(1 for _ in shape[2:]))
    return channels * (torch.randn(shape, generator=generator, dtype=torch.float64) + 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_groups", [1, 2, 3])
def test_equals_torch(shape: tuple[int, ...], num_groups: int) -> None:
    theirs = nn.GroupNorm(num_groups, 6, eps=1e-3, dtype=torch.float64)
    ours = GroupNorm(num_groups, 6, eps=1e-3, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(0.5, 2, 6))
        theirs.bias.copy_(torch.linspace(-1, 1, 6))
    ours.load_state_dict(theirs.state_dict())

    x = sample(shape).requires_grad_()
    y, expected = ours(x), theirs(x)
    torch.testing.assert_close(y, expected)
    gy = sample(shape).flip(0)
    torch.testing.assert_close(
        torch.autograd.grad(y, [x, *ours.parameters()], gy),
        torch.autograd.grad(expected, [x, *theirs.parameters()], gy),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_one_group_is_layer_norm(shape: tuple[int, ...]) -> None:
    x = sample(shape)
    layer_norm = nn.LayerNorm(shape[1:], elementwise_affine=False)
    torch.testing.assert_close(GroupNorm(1, 6, affine=False)(x), layer_norm(x))


def test_one_channel_a_group_is_instance_norm() -> None:
    x = sample((3, 6, 4, 3))
    torch.testing.assert_close(GroupNorm(6, 6, affine=False)(x), nn.InstanceNorm2d(6)(x))


def test_residual_and_act_come_last() -> None:
    x, residual = sample((3, 6, 4, 3)), sample((3, 6, 4, 3)).flip(0)
    expected = nn.functional.hardswish(nn.functional.group_norm(x, 2) + residual)
    torch.testing.assert_close(GroupNorm(2, 6, act="hardswish", dtype=torch.float64)(x, residual), expected)


def test_initial_state_is_torchs() -> None:
    torch.testing.assert_close(dict(GroupNorm(2, 6).state_dict()), dict(nn.GroupNorm(2, 6).state_dict()))


def test_refused_arguments() -> None:
    with pytest.raises(ValueError, match="4 groups"):
        GroupNorm(4, 6)
    with pytest.raises(ValueError, match="expected 6 channels"):
        GroupNorm(2, 6)(torch.randn(3, 12, 4))
