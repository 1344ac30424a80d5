"""What the tests of kernels and layers share: backends, shapes, layers and the three-way comparison."""

from __future__ import annotations

import copy
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

import fusednorm
import fusednorm.reference
from fusednorm.heads import ATTENTION_ACTS, ATTENTION_INPUTS

BACKENDS = [name for name, backend in fusednorm.backends().items() if backend.available]
ACTS = (None, "relu", "relu6", "leaky_relu", "silu", "hardswish", "gelu")
QUICK = [name for name in BACKENDS if name not in ("triton", "cuda")]  # neither interpreted nor emulated
TYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = ("nchw", "channels_last")

# attention_input, attention_norm, attention_act: all there are.
ATTENTION = list(itertools.product(ATTENTION_INPUTS, (True, False), ATTENTION_ACTS))


def channels_last(x: Tensor) -> Tensor:
    """The same values with channels innermost in memory, for any number of dimensions."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """x as it is ("nchw"), or the same values "channels_last"."""
    return channels_last(x) if layout == "channels_last" else x


def maps_like(*shape: int) -> Tensor:
    """Planes with means and deviations of their own, as feature maps have."""
    x = torch.randn(shape, dtype=torch.float64)
    per_plane = (*shape[:2], *(1,) * (len(shape) - 2))
    return x * (0.5 + torch.rand(per_plane, dtype=torch.float64)) + torch.randn(per_plane, dtype=torch.float64)


# Name -> a map, in float64; tests cast it (`like` keeps its strides). At least 4 samples where there is more than
# one: the attention's BN over 2 takes all there is out of the gradient but rounding, and nothing could be compared.
MAPS: dict[str, Callable[[], Tensor]] = {
    "nchw": lambda: maps_like(4, 6, 7, 9),
    "channels_last": lambda: channels_last(maps_like(4, 24, 7, 9)),
    "channels_last, odd channels": lambda: channels_last(maps_like(4, 13, 5, 3)),
    "2-D": lambda: maps_like(5, 12),
    "3-D": lambda: maps_like(4, 6, 17),
    "3-D, channels last": lambda: channels_last(maps_like(4, 16, 17)),
    "5-D": lambda: maps_like(4, 4, 3, 5, 4),
    "5-D, channels last": lambda: channels_last(maps_like(4, 8, 3, 5, 4)),
    "one channel": lambda: maps_like(4, 1, 11, 3),
    "one position": lambda: maps_like(6, 7, 1, 1),
    "one sample": lambda: maps_like(1, 4, 13, 11),
    "primes": lambda: maps_like(4, 7, 31, 37),
    "7x7 planes": lambda: maps_like(4, 32, 7, 7),
    "every other channel": lambda: maps_like(4, 8, 7, 9)[:, ::2],
    "slice of channels, channels_last": lambda: channels_last(maps_like(4, 24, 5, 7))[:, 3:11],
    "crop": lambda: maps_like(4, 4, 9, 11)[..., 1:-1, 2:-1],
    "transposed": lambda: maps_like(4, 4, 9, 11).transpose(2, 3),
    "every other column": lambda: maps_like(4, 4, 9, 11)[..., ::2],
}


def like(x: Tensor, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    """x in another type, and maybe elsewhere, with x's strides even where they leave gaps."""
    size = 1 + sum(s * (n - 1) for s, n in zip(x.stride(), x.shape, strict=True))
    base = torch.full((size,), float("nan"), dtype=dtype, device=device)  # gaps are never to be read
    return base.as_strided(x.shape, x.stride()).copy_(x)


def normal_like(x: Tensor, layout: torch.memory_format = torch.preserve_format) -> Tensor:
    """Of x's shape, type and device."""
    return torch.empty_like(x, memory_format=layout).copy_(torch.randn(x.shape, device=x.device))


class Contender:
    """A layer's results and gradients for one set of numbers."""

    def __init__(self, layer: torch.nn.Module, x: Tensor, residual: Tensor | None, dy: Tensor) -> None:
        x = x.detach().requires_grad_()
        residual = None if residual is None else residual.detach().requires_grad_()
        layer.zero_grad()
        y = layer(x) if residual is None else layer(x, residual)
        y.backward(dy)
        self.tensors: dict[str, Tensor] = {"y": y.detach(), "x.grad": x.grad}
        if residual is not None:
            self.tensors["residual.grad"] = residual.grad
        self.tensors |= {f"{name}.grad": p.grad for name, p in layer.named_parameters() if p.grad is not None}
        self.tensors |= {name: b for name, b in layer.named_buffers() if b.is_floating_point()}


Draw = tuple[Contender, Contender, Contender]


def three_ways(
    backend: str,
    fused: torch.nn.Module,
    plain: torch.nn.Module,
    make_map: Callable[[], Tensor],
    dtype: torch.dtype,
    training: bool = True,
    residual: bool = True,
    draws: int = 4,
    device: str = "cpu",
) -> list[Draw]:
    """The fused layer, the reference in the same type and the reference in float64, on maps drawn anew for each draw.

    Residual and upstream gradient have x's layout in every other draw, and are contiguous in the rest.
    """
    fused, plain = fused.to(device), plain.to(device)
    exact = copy.deepcopy(plain).double()
    if dtype == torch.float64:
        fused.double(), plain.double()
    for layer in (fused, plain, exact):
        layer.train(training)
    found = []
    for draw in range(draws):
        x = like(make_map(), dtype, device)
        layout = torch.preserve_format if draw % 2 == 0 else torch.contiguous_format
        z = normal_like(x, layout) if residual else None
        dy = normal_like(x, layout)
        with fusednorm.use_backend(backend):
            ours = Contender(fused, x, z, dy)
        assert ours.tensors["y"].stride() == torch.empty_like(x).stride()
        truth = Contender(exact, x.double(), None if z is None else z.double(), dy.double())
        found.append((ours, Contender(plain, x, z, dy), truth))
    return found


def assert_twice_as_good(draws: list[Draw], dtype: torch.dtype) -> None:
    """Three ways: the fused layer's error is at most twice that of the same layer in the same type in plain PyTorch.

    Each draw is (fused, plain, truth); both errors are measured against float64, as root mean squares over all
    entries and draws: the largest of a handful of roundings is luck. Four units in the last place of the largest
    entry are free. In float64 the truth is no better than the contenders, and they must agree within 1e-10.
    """
    for name in draws[0][2].tensors:
        ours, theirs, exact = (torch.cat([draw[i].tensors[name].flatten() for draw in draws]) for i in range(3))
        assert ours.dtype == theirs.dtype, name
        assert ours.shape == exact.shape, name
        largest = exact.abs().max().item()
        if dtype == torch.float64:
            allowed = 1e-10 * max(1.0, largest)
            error = (ours - exact).abs().max().item()
        else:
            allowed = 2 * _rms(theirs.double() - exact) + 4 * torch.finfo(ours.dtype).eps * largest
            error = _rms(ours.double() - exact)
        assert error <= allowed, (
            f"{name}: error {error:.3g}, allowed {allowed:.3g} ({dtype}, largest entry {largest:.3g})"
        )


def assert_like_reference(
    backend: str,
    fused: torch.nn.Module,
    plain: torch.nn.Module,
    x: Tensor,
    training: bool = True,
    residual: bool = True,
) -> None:
    """In float64 results, gradients and buffers are the reference's to 1e-9 of the largest entry (at least of 1)."""
    fused.double().train(training), plain.double().train(training)
    z, dy = torch.randn_like(x) if residual else None, torch.randn_like(x)
    with fusednorm.use_backend(backend):
        ours = Contender(fused, x, z, dy).tensors
    theirs = Contender(plain, x, z, dy).tensors
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        allowed = 1e-9 * max(1.0, expected.abs().max().item())
        error = (ours[name] - expected).abs().max().item()
        assert error <= allowed, f"{name}, training={training}: error {error:.3g}, allowed {allowed:.3g}"


def _rms(t: Tensor) -> float:
    return t.square().mean().sqrt().item()


def _batch_kind(ns: Any, prefix: str, dims: int) -> Any:
    return getattr(ns, f"{prefix}{ {2: 1, 3: 1, 4: 2, 5: 3}[dims] }d")


def _groups(channels: int) -> int:
    return next(g for g in (4, 3, 2, 1) if channels % g == 0)


Make = Callable[..., torch.nn.Module]

# Name -> (namespace, number of dimensions, channels, options) -> layer, the same for fusednorm and fusednorm.reference.
LAYERS: dict[str, Make] = {
    "batch": lambda ns, dims, C, **options: _batch_kind(ns, "BatchNorm", dims)(C, **options),
    "group": lambda ns, dims, C, **options: ns.GroupNorm(_groups(C), C, **options),
    "attentive batch": lambda ns, dims, C, **options: _batch_kind(ns, "AttentiveBatchNorm", dims)(C, 5, **options),
    "attentive group": lambda ns, dims, C, **options: ns.AttentiveGroupNorm(_groups(C), C, 5, **options),
}


def _representative(**fixed: Any) -> Make:
    return lambda ns, dims, C, **options: _batch_kind(ns, "RepresentativeBatchNorm", dims)(C, **fixed, **options)


def _switchable_groups(ns: Any, dims: int, C: int, **options: Any) -> torch.nn.Module:
    groups: dict[str, Any] = {
        "scopes": ("group", "batch", "instance"),
        "num_groups": _groups(C),
        "per_group": _groups(C),
    }
    return _batch_kind(ns, "SwitchableNorm", dims)(C, unbiased=True, **groups, **options)


def _after_batch(recalibration: str, *arguments: Any, **fixed: Any) -> Make:
    def make(ns: Any, dims: int, C: int, act: str | None = None, **options: Any) -> torch.nn.Module:
        recalibrate = getattr(ns.recalibrations, recalibration)(C, *arguments, **fixed)
        return ns.RecalibratedNorm(ns.standardizations.Batch(C, **options), recalibrate, act)

    return make


def _bare(name: str, *arguments: Any, **fixed: Any) -> Make:
    return lambda ns, dims, C, **options: getattr(ns, name)(C, *arguments, **fixed, **options)


def _filter_response(ns: Any, dims: int, C: int, act: str | None = None) -> torch.nn.Module:
    """Its threshold is its activation."""
    return ns.FilterResponseNorm(C)


# Likewise; tests go through fewer cases of each (`drawn`).
FURTHER: dict[str, Make] = {
    "representative": _representative(),
    "representative std": _representative(center="std", scale="std", restrict="tanh"),
    "representative spatial": _representative(center="spatial_mean", scale="spatial_std", restrict="hsigmoid"),
    "representative spatial std": _representative(center="spatial_std", scale="mean"),
    "switchable": lambda ns, dims, C, **options: _batch_kind(ns, "SwitchableNorm", dims)(C, **options),
    "switchable groups": _switchable_groups,
    "squeeze-excite": _bare("SqueezeExcite", 2),
    "batch squeeze-excite": _after_batch("SqueezeExcite", 2, gate="hsigmoid"),
    "normalization attention": lambda ns, dims, C, **options: ns.NormalizationAttention(**options),
    "batch normalization attention": _after_batch(
        "NormalizationAttention", similarity="mean_difference", unbiased=True
    ),
    "efficient channel attention": _bare("EfficientChannelAttention", 3),
    "style recalibration": _bare("StyleRecalibration"),
    "gather-excite": _bare("GatherExcite"),
    "instance enhancement": lambda ns, dims, C, **o: _batch_kind(ns, "InstanceEnhancementBatchNorm", dims)(C, **o),
    "filter response": _filter_response,
    "global response": _bare("GlobalResponseNorm"),
}
# One of each family: what they share is tested of these.
FAMILIES = (
    "representative std",
    "representative spatial",
    "switchable",
    "squeeze-excite",
    "batch squeeze-excite",
    "normalization attention",
    "batch normalization attention",
)
# Those whose statistics span samples, and have running ones.
OVER_BATCH = tuple(
    name for name in FURTHER if name.split()[0] in ("representative", "switchable", "batch", "instance", "style")
)


def drawn(cases: Iterable[tuple[Any, ...]], triton: int = 0, cuda: int = 1) -> Iterator[tuple[Any, ...]]:
    """(backend, layer, ...) of cases (layer, ...): all on `cpu` and `torch`, some of each layer's where they take time.

    Those are as good as drawn at random, by their text, and the same on every run.
    """
    limits = {"triton": triton, "cuda": cuda}
    for layer, group in itertools.groupby(sorted(cases, key=lambda case: str(case[0])), key=lambda case: case[0]):
        shuffled = sorted(group, key=lambda case: zlib.crc32(str(case).encode()))
        for backend in BACKENDS:
            yield from ((backend, layer, *case[1:]) for case in shuffled[: limits.get(backend)])


def everywhere(further: Iterable[str] = FAMILIES, triton: int = 0, cuda: int = 0) -> list[tuple[Any, ...]]:
    """(backend, layer): LAYERS on every backend, the further ones where `drawn` has them."""
    return [*itertools.product(BACKENDS, LAYERS), *drawn([(kind,) for kind in further], triton, cuda)]


def pair(kind: str, dims: int, channels: int, **options: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A fused layer and its reference, with the same random parameters and statistics."""
    make = (LAYERS | FURTHER)[kind]
    return randomized(*(make(ns, dims, channels, **options) for ns in (fusednorm, fusednorm.reference)))


def randomized(fused: torch.nn.Module, plain: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Both, with the same random parameters and statistics."""
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
        for name, buffer in fused.named_buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand_like(buffer) if "var" in name else torch.randn_like(buffer))
    plain.load_state_dict(fused.state_dict())
    return fused, plain
