"""Calls every kernel of a backend on odd shapes; for compute-sanitizer: `compute-sanitizer python sanitize.py cuda`.

Maps are drawn and results compared in main memory, so that on the device little runs but our own kernels.
"""

from __future__ import annotations

import copy
import random
import sys

import torch
from torch import Tensor

import fusednorm
from tests.cases import ACTS, FURTHER, LAYERS, MAPS, channels_last, like, maps_like, pair

SHAPES = {
    **MAPS,
    "wide planes": lambda: maps_like(2, 3, 61, 67),
    "wide planes, channels_last": lambda: channels_last(maps_like(2, 3, 61, 67)),
    "many channels": lambda: channels_last(maps_like(4, 515, 3, 3)),
}
# Of so many samples that a GPU of 132 multiprocessors keeps each on the chip, in a block, and in a cluster (rows of
# channels_last begin anywhere in it): only layers that know a value per position do.
KEPT_SHAPES = {
    "kept in a block": lambda: maps_like(72, 21, 7, 9),
    "kept in a block, channels_last": lambda: channels_last(maps_like(72, 21, 7, 9)),
    "kept in a cluster": lambda: maps_like(40, 37, 23, 25),
    "kept in a cluster, channels_last": lambda: channels_last(maps_like(40, 37, 23, 25)),
}
KEPT_KINDS = ("representative spatial", "representative spatial std", "normalization attention")
TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2, torch.float64: 1e-9}


def to(device: str, t: Tensor) -> Tensor:
    """With the same strides, gaps included, and only copies on the device."""
    size = 1 + sum(s * (n - 1) for s, n in zip(t.stride(), t.shape, strict=True))
    return torch.as_strided(t, (size,), (1,), t.storage_offset()).to(device).as_strided(t.shape, t.stride())


def step(layer: torch.nn.Module, x: Tensor, residual: Tensor | None, dy: Tensor) -> list[Tensor]:
    inputs = [t.detach().requires_grad_() for t in (x, residual) if t is not None]
    y = layer(*inputs)
    return [y.detach(), *torch.autograd.grad(y, [*inputs, *layer.parameters()], dy)]


def main(backend: str, device: str) -> int:
    torch.manual_seed(0)
    choose = random.Random(0).choice
    calls, wrong = 0, 0
    further = list(FURTHER)
    for number, (name, make) in enumerate((SHAPES | KEPT_SHAPES).items()):
        kinds = (*LAYERS, *(further[(5 * number + i) % len(further)] for i in range(5)))
        for kind in KEPT_KINDS if name in KEPT_SHAPES else kinds:
            act, training = choose(ACTS), choose([True, True, False])
            dtype = choose(TYPES[:3] if name in KEPT_SHAPES else TYPES)
            x = like(make(), dtype)
            options = {"attention_norm": False} if "attentive" in kind and x.shape[0] == 1 else {}
            here = pair(kind, x.dim(), x.shape[1], act=act, **options)[0].train(training)
            here = here.double() if dtype == torch.float64 else here
            there = copy.deepcopy(here).to(device)
            residual = torch.randn(x.shape).to(dtype) if choose([True, False]) else None
            dy = torch.randn(x.shape).to(dtype)
            with fusednorm.use_backend("torch"):
                expected = step(here, x, residual, dy)
            with fusednorm.use_backend(backend):
                found = step(there, *(t if t is None else to(device, t) for t in (x, residual, dy)))
            for a, b in zip(found, expected, strict=True):
                error = (a.cpu().double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-3)
                if not error <= TOLERANCE[dtype]:
                    print(f"sanitize: {kind} on {name}, {dtype}, {act}: off by {error:.1e}")
                    wrong += 1
            calls += 1
    print(f"sanitize: {calls} steps on {backend}, {wrong} wrong results")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:] or ["cuda"])[:1], *(sys.argv[2:] or ["cuda"])[:1]))
