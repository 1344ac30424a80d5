"""Numbers for the tests of the reference."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

SHAPES = [(5, 6), (3, 6, 4), (3, 6, 4, 3), (2, 6, 2, 3, 2)]


def sample(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Values whose every plane has its own mean and scale, so that mixed-up planes show; float64."""
    generator = torch.Generator().manual_seed(seed)
    planes = (*shape[:2], *(1 for _ in shape[2:]))
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    scales = 1 + torch.rand(planes, generator=generator, dtype=torch.float64)
    return scales * noise + torch.randn(planes, generator=generator, dtype=torch.float64)


def randomize(module: Any, seed: int = 1) -> Any:
    """The module in float64, with a random value in every parameter and running statistic."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                value = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                buffer.copy_(value + 0.5 if name.endswith("var") else value - 0.5)
    return module


def spread(values: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C), as it multiplies x (N, C, *positions)."""
    return values.reshape(*values.shape, *(1 for _ in x.shape[2:]))


def check_gradients(module: nn.Module, *inputs: Tensor, twice: bool = True) -> None:
    """First and second derivatives, with respect to the inputs and every parameter, against differences."""
    names = [name for name, _ in module.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for _, p in module.named_parameters()]
    leaves = [x.clone().requires_grad_() for x in inputs]
    count = len(leaves)

    def function(*tensors: Tensor) -> Tensor:
        return torch.func.functional_call(
            module, dict(zip(names, tensors[count:], strict=True)), tuple(tensors[:count])
        )

    check: Callable[..., bool] = torch.autograd.gradcheck
    assert check(function, (*leaves, *parameters), fast_mode=True)
    if twice:
        assert torch.autograd.gradgradcheck(function, (*leaves, *parameters), fast_mode=True)
