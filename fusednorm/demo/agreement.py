"""How far the fused network is from the reference, and how far float32 itself is from the truth."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Agreement:
    """The worst of a group of tensors; "relative" is relative to the largest entry of the tensor it is in."""

    what: str
    absolute: float
    relative: float
    reference_error: float
    """Of the reference, relative, against the reference in float64: what rounding alone does."""
    fused_error: float
    """Of the fused network, relative, against the reference in float64."""


def compare(reference: nn.Module, fused: nn.Module, crops: Tensor, labels: Tensor) -> list[Agreement]:
    """Outputs and gradients of both networks. They get the reference's weights, buffers included."""
    exact = copy.deepcopy(reference).double()
    fused = copy.deepcopy(fused)
    fused.load_state_dict(reference.state_dict())
    truth = _groups(exact, crops.double(), labels)
    theirs = _groups(copy.deepcopy(reference), crops, labels)
    ours = _groups(fused, crops, labels)
    return [
        Agreement(
            what,
            absolute=max(_gap(a, b) for a, b in zip(ours[what], theirs[what], strict=True)),
            relative=_relative(ours[what], theirs[what]),
            reference_error=_relative(theirs[what], truth[what]),
            fused_error=_relative(ours[what], truth[what]),
        )
        for what in truth
    ]


def _groups(network: nn.Module, crops: Tensor, labels: Tensor) -> dict[str, list[Tensor]]:
    crops = crops.clone().requires_grad_()
    # Evaluation first: a training step changes the running statistics.
    network.eval()
    evaluated = network(crops).detach()
    network.train()
    logits = network(crops)
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(functional.cross_entropy(logits, labels), [crops, *parameters])
    return {
        "outputs, evaluation": [evaluated],
        "outputs, training": [logits.detach()],
        "gradient of the crops": [gradients[0]],
        f"gradients of {len(parameters)} parameters": list(gradients[1:]),
    }


def _relative(tensors: list[Tensor], expected: list[Tensor]) -> float:
    # A tensor may be all zeros, a saturated attention's gradient for one.
    tiny = torch.finfo(torch.float64).tiny
    return max(_gap(a, b) / max(_largest(b), tiny) for a, b in zip(tensors, expected, strict=True))


def _gap(a: Tensor, b: Tensor) -> float:
    return _largest(a.double() - b.double())


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item()
