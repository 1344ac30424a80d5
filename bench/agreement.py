"""Contenders that compute something else have no business in the same table: results are compared first."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .contenders import Call, Inputs
from .names import Dtype, Form, Mode

# Largest difference let through, relative to the tensor's largest value. Half types round x's statistics,
# the output and each intermediate of the reference.
TOLERANCE = {Dtype.float32: 1e-3, Dtype.bfloat16: 5e-2, Dtype.float16: 1e-2}


class DisagreementError(Exception):
    """A contender's result differs from the reference's."""


def away_from_kink(dy: Tensor, z: Tensor, margin: float) -> Tensor:
    """dy, but zero where z is so near ReLU's kink that rounding decides whether the gradient passes."""
    return dy.masked_fill(z.abs() < margin, 0)


def results(call: Call, module: nn.Module, inputs: Inputs, form: Form, mode: Mode) -> dict[str, Tensor]:
    """Output and, of a training step, every gradient by name."""
    arguments = inputs.arguments(form)
    with torch.set_grad_enabled(mode is not Mode.eval):
        y = call(*arguments)
    if mode is not Mode.train:
        return {"y": y.detach()}
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(y, [*arguments, *parameters.values()], inputs.dy)
    names = ["dx", "dresidual"][: len(arguments)] + [f"d{name}" for name in parameters]
    return {"y": y.detach()} | dict(zip(names, gradients, strict=True))


def max_difference(got: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[str, float]:
    """The tensor that differs most, and its largest difference relative to its largest value."""
    if got.keys() != expected.keys():
        raise DisagreementError(f"tensors differ: {sorted(got.keys() ^ expected.keys())}")
    differences = {name: _difference(got[name], expected[name]) for name in expected}
    # NaN compares false with everything: it has to count as the worst, not be passed over.
    return max(differences.items(), key=lambda item: float("inf") if item[1] != item[1] else item[1])


def _difference(got: Tensor, expected: Tensor) -> float:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return float("inf")
    expected = expected.float()
    largest = expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((got.float() - expected).abs().max() / largest)
