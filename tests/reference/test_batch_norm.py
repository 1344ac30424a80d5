"""BatchNorm of the reference against torch.nn's."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusednorm import reference

DIMENSIONS = [
    ("BatchNorm1d", (5, 3)),
    ("BatchNorm1d", (4, 3, 5)),
    ("BatchNorm2d", (4, 3, 2, 5)),
    ("BatchNorm3d", (2, 3, 2, 3, 2)),
]


def sample(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    channels = torch.arange(1, shape[1] + 1, dtype=torch.float64).view(-1, *(1 for _ in shape[2:]))
    return channels * (torch.randn(shape, generator=generator, dtype=torch.float64) + 1)


def pair(name: str, **arguments: Any) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's with the same random state, loaded strictly and so with the same keys."""
    ours: nn.Module = getattr(reference, name)(3, dtype=torch.float64, **arguments)
    theirs: nn.Module = getattr(nn, name)(3, dtype=torch.float64, **arguments)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize(("name", "shape"), DIMENSIONS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"momentum": None},
        {"momentum": 0.3, "eps": 0.1},
        {"affine": False},
        {"track_running_stats": False},
    ],
    ids=str,
)
def test_equals_torch(name: str, shape: tuple[int, ...], arguments: dict[str, Any]) -> None:
    """Outputs, gradients and running statistics over three training steps, then evaluation."""
    ours, theirs = pair(name, **arguments)
    for seed in range(4):
        if seed == 3:
            ours.eval(), theirs.eval()
        x = sample(shape, seed).requires_grad_()
        y, expected = ours(x), theirs(x)
        torch.testing.assert_close(y, expected)
        gy = sample(shape, seed + 10)
        inputs = [x, *ours.parameters()], [x, *theirs.parameters()]
        actual_gradients = torch.autograd.grad(y, inputs[0], gy)
        expected_gradients = torch.autograd.grad(expected, inputs[1], gy)
        torch.testing.assert_close(actual_gradients, expected_gradients)
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value)


def test_initial_state_is_torchs() -> None:
    torch.testing.assert_close(dict(reference.BatchNorm2d(3).state_dict()), dict(nn.BatchNorm2d(3).state_dict()))


def test_residual_and_act_come_last() -> None:
    ours = reference.BatchNorm2d(3, act="relu", dtype=torch.float64)
    theirs = nn.BatchNorm2d(3, dtype=torch.float64)
    x, residual = sample((4, 3, 2, 5)), sample((4, 3, 2, 5), seed=5)
    expected = torch.relu(theirs(x) + residual)
    assert 0 < (expected == 0).sum() < expected.numel()
    torch.testing.assert_close(ours(x, residual), expected)


def test_half_types_are_computed_in_float32_and_rounded_once() -> None:
    ours = reference.BatchNorm2d(3, act="silu")
    x, residual = sample((4, 3, 2, 5)).bfloat16(), sample((4, 3, 2, 5), seed=5).bfloat16()
    y = ours(x, residual)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, ours(x.float(), residual.float()).bfloat16())
    assert torch.equal(ours.bfloat16()(x, residual), y)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("BatchNorm1d", (4, 3, 2, 2)),
        ("BatchNorm2d", (4, 3, 2)),
        ("BatchNorm3d", (4, 3, 2, 2)),
        ("BatchNorm2d", (4, 1, 2, 2)),  # would broadcast
        ("BatchNorm1d", (1, 3)),
        ("BatchNorm2d", (1, 3, 1, 1)),
    ],
)
def test_refused_inputs(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected|more than 1 value"):
        getattr(reference, name)(3)(torch.randn(shape))
