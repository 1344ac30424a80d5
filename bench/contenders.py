"""What runs against what: each layer fused, as its reference, compiled, and BatchNorm as models write it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fusednorm
import fusednorm.reference

from .harness import Step
from .layers import LAYERS
from .shapes import LAYOUTS, Layer, Shape

FUSED = "fused"
REFERENCE = "reference"
COPY = "copy"


@dataclass(frozen=True)
class Inputs:
    """The tensors of one case, shared by its contenders; dy is the upstream gradient."""

    x: Tensor
    residual: Tensor
    dy: Tensor


@dataclass(frozen=True)
class Contender:
    name: str
    module: nn.Module  # called as module(x, residual)
    compiled: bool = False
    same_function: bool = True  # as the reference, so their results have to agree


class BatchNormAddReLU(nn.Module):
    """As ResNets write it; in place, since that is the faster way."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y = self.norm(x)
        y += residual
        return self.act(y)


def make_inputs(shape: Shape, dtype: torch.dtype, layout: str, seed: int = 0, device: str = "cpu") -> Inputs:
    """Random tensors. x's planes differ in mean and deviation, as real maps do: attention looks at both."""
    random = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random, device=device)

    def laid_out(values: Tensor) -> Tensor:
        return values.to(dtype).contiguous(memory_format=getattr(torch, LAYOUTS[layout]))

    planes = (*shape[:2], *[1] * len(shape[2:]))
    x = normal(*planes) + (0.5 + normal(*planes).abs()) * normal(*shape)
    return Inputs(laid_out(x).requires_grad_(), laid_out(normal(*shape)).requires_grad_(), laid_out(normal(*shape)))


def make_contenders(layer: Layer, channels: int, *, compiled: bool, compiled_batch_norm: bool) -> list[Contender]:
    """The layer's contenders, with the same parameters in all that compute the same function."""
    torch.manual_seed(0)
    make = LAYERS[layer].make
    reference, fused = make(fusednorm.reference, channels, "relu"), make(fusednorm, channels, "relu")
    with torch.no_grad():  # a gate that starts as a constant would agree with anything
        for parameter in reference.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    fused.load_state_dict(reference.state_dict())
    batch_norm = BatchNormAddReLU(channels)

    contenders = [Contender(FUSED, fused), Contender(REFERENCE, reference)]
    if compiled:
        contenders.append(Contender("compiled reference", _compile(reference), compiled=True))
    contenders.append(Contender("BatchNorm + add + ReLU", batch_norm, same_function=False))
    if compiled_batch_norm:
        name = "compiled BatchNorm + add + ReLU"
        contenders.append(Contender(name, _compile(batch_norm), compiled=True, same_function=False))
    return contenders


def without_act(layer: Layer, reference: nn.Module, channels: int) -> nn.Module:
    """The same reference, less its activation: 0 is where that has its kink."""
    plain = LAYERS[layer].make(fusednorm.reference, channels, None)
    state = reference.state_dict()
    threshold = state.pop("threshold", None)
    if threshold is not None:  # FRN's own
        state["bias"] = state["bias"] - threshold
    plain.load_state_dict(state)
    return plain


def training_step(module: nn.Module, inputs: Inputs) -> Step:
    """Forward and backward. The gradients are returned, not accumulated: adding them up is no layer's work.

    Freeing what the step allocated is part of it, as it is part of training.
    """
    x, residual, dy = inputs.x, inputs.residual, inputs.dy
    wanted = [x, residual, *module.parameters()]

    def step() -> None:
        torch.autograd.grad(module(x, residual), wanted, dy)

    return step


def copy_step(inputs: Inputs) -> Step:
    """Copies of x, the residual and dy into memory that is already there: the measure of bandwidth.

    Of all three, which with their targets are as many maps as a training step moves: a copy of x alone may lie in the
    last cache, and would measure that.
    """
    sources = [t.detach() for t in (inputs.x, inputs.residual, inputs.dy)]
    targets = [torch.empty_like(source) for source in sources]

    def step() -> list[Tensor]:
        return [target.copy_(source) for target, source in zip(targets, sources, strict=True)]

    return step


def _compile(module: nn.Module) -> nn.Module:
    compiled = torch.compile(copy.deepcopy(module), fullgraph=True, dynamic=False)
    assert isinstance(compiled, nn.Module)
    return compiled
