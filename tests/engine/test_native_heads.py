"""The hot layers' native heads against the same heads in PyTorch around the `torch` backend's kernels."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fusednorm
from fusednorm.engine import native, normalize
from fusednorm.engine.function import Spec
from fusednorm.heads import (
    ATTENTION_ACTS,
    ATTENTION_INPUTS,
    RESTRICTIONS,
    Affine,
    Attentive,
    Batch,
    ContextGate,
    EfficientChannelAttention,
    Head,
    Scaling,
    SqueezeExcite,
    StyleRecalibration,
)
from tests.cases import assert_twice_as_good, channels_last, maps_like
from tests.engine.parts import (
    RECALIBRATE,
    STANDARDIZE,
    C,
    Part,
    Tensors,
    attention,
    join,
    scaling,
    squeeze,
    switchable,
    window,
)

pytestmark = pytest.mark.skipif(not fusednorm.backends()["cpu"].available, reason="no native extension")


def with_constant_planes() -> Tensor:
    x = maps_like(4, C, 5, 3)
    x[0, 0], x[:, 1], x[2, 2:5] = 1.5, -0.25, 2.0  # sums of them are exact
    return x


MAPS: dict[str, Callable[[], Tensor]] = {
    "map": lambda: maps_like(4, C, 5, 3),
    "constant planes": with_constant_planes,
    "2-D": lambda: maps_like(5, C),
    "one position": lambda: maps_like(4, C, 1, 1),
    "one sample": lambda: maps_like(1, C, 7, 4),
    "channels_last": lambda: channels_last(maps_like(4, C, 5, 3)),
    "large mean": lambda: maps_like(4, C, 5, 3) + 1e4,
}


class Call:
    """Results, statistics and gradients of one call."""

    def __init__(self, backend: str, head: Head, tensors: Tensors, x: Tensor, residual: Tensor, dy: Tensor) -> None:
        given = [i for i, name in enumerate(native.names(head)) if name in ("running_mean", "running_var", *NORM)]
        leaves = [
            t if t is None else t.detach().clone().requires_grad_(i not in given)
            for i, t in enumerate((x, residual, *tensors), start=-2)
        ]
        with fusednorm.use_backend(backend):
            y, statistics = normalize(leaves[0], leaves[1], head, "silu", tuple(leaves[2:]))
        y.backward(dy)
        self.tensors = {"y": y.detach()}
        self.tensors |= {f"statistic {i}": t.to(y.dtype) for i, t in enumerate(statistics)}
        names = ("x", "residual", *native.names(head))
        pairs = zip(names, leaves, strict=True)
        self.tensors |= {f"{name}.grad": t.grad for name, t in pairs if t is not None and t.grad is not None}


NORM = ("norm_mean", "norm_var")


def tolerance(head: Head, name: str) -> float:
    if name != "large mean":
        return 1e-10
    # BN takes the mean out of a style of 1e4, and what comes back is multiplied with 1e4 again.
    return 1e-7 if isinstance(head.recalibrate, StyleRecalibration) else 1e-9


def agree(standardize: Part, recalibrate: Part, name: str) -> None:
    head, tensors = join(standardize, recalibrate)
    assert native.covers(Spec(head, "silu", "cpu"))
    x = MAPS[name]()
    residual, dy = torch.randn_like(x), torch.randn_like(x)
    ours, theirs = (Call(backend, head, tensors, x, residual, dy).tensors for backend in ("cpu", "torch"))
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        atol = tolerance(head, name) * max(1.0, expected.abs().max().item())
        torch.testing.assert_close(ours[key], expected, rtol=0, atol=atol, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("recalibrate", RECALIBRATE)
@pytest.mark.parametrize("standardize", STANDARDIZE)
def test_pairs(standardize, recalibrate):
    agree(STANDARDIZE[standardize], RECALIBRATE[recalibrate], "map")


@pytest.mark.parametrize("name", [name for name in MAPS if name != "map"])
@pytest.mark.parametrize(
    "recalibrate",
    [
        *("affine", "attentive", "scaling by std, tanh", "squeeze-excite"),
        *("channel attention", "style", "gather-excite", "global response"),
    ],
)
@pytest.mark.parametrize("standardize", STANDARDIZE)
def test_maps(standardize, recalibrate, name):
    agree(STANDARDIZE[standardize], RECALIBRATE[recalibrate], name)


@pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])
@pytest.mark.parametrize("name", ["map", "2-D"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_scopes_in_any_order(count, name, unbiased):
    for letters in itertools.permutations("ilbg", count):
        part = switchable("".join(letters), groups=3, per_group=2, unbiased=unbiased)
        agree(part, RECALIBRATE["affine"], name)


@pytest.mark.parametrize("standardize", ["batch", "running", "representative std", "switchable", "identity"])
@pytest.mark.parametrize("name", ["map", "one position"])
def test_options(standardize, name):
    """Every function and every statistic that the recalibrations take."""
    for part in (
        *((Scaling(k, r), scaling) for k in ("mean", "std", "input_mean") for r in RESTRICTIONS),
        *((SqueezeExcite(r), squeeze) for r in RESTRICTIONS),
        *((EfficientChannelAttention(r), window) for r in RESTRICTIONS),
        *(
            (Attentive(s, a), lambda s=s: attention(width=2 * C if s == "mean_std" else C))
            for s in ATTENTION_INPUTS
            for a in ATTENTION_ACTS
        ),
    ):
        agree(STANDARDIZE[standardize], part, name)


@pytest.mark.parametrize("offset", [0, 1e4])
@pytest.mark.parametrize(
    "recalibrate",
    [
        *("affine", "attentive", "scaling", "scaling by std, tanh", "squeeze-excite"),
        *("channel attention", "style", "gather-excite", "global response"),
    ],
)
@pytest.mark.parametrize(
    "standardize",
    [
        *("batch", "group", "identity", "filter response", "representative mean", "representative std"),
        *("switchable", "running"),
    ],
)
def test_float32(standardize, recalibrate, offset):
    """Within twice the error of the same head in float32 PyTorch."""
    draws = []
    for _ in range(4):
        head, tensors = join(STANDARDIZE[standardize], RECALIBRATE[recalibrate])
        x = maps_like(4, C, 9, 7) + offset
        wide = (x, torch.randn_like(x), torch.randn_like(x)), tensors
        narrow = tuple(tuple(t if t is None else t.float() for t in ts) for ts in wide)
        exact = tuple(tuple(t if t is None else t.double() for t in ts) for ts in narrow)
        draws.append(
            tuple(
                Call(backend, head, tensors, *maps)
                for backend, (maps, tensors) in (("cpu", narrow), ("torch", narrow), ("torch", exact))
            )
        )
    assert_twice_as_good(draws, torch.float32)


@pytest.mark.parametrize(("samples", "channels", "reduction"), [(2, 6, 6), (4, 40, 8), (5, 66, 2), (9, 306, 17)])
def test_sizes_of_squeeze_excite(samples, channels, reduction):
    """Samples and rows in fours and what is left, columns in blocks of vectors and what is left."""
    torch.manual_seed(channels)
    layer = fusednorm.RecalibratedNorm(
        fusednorm.standardizations.Batch(channels),
        fusednorm.recalibrations.SqueezeExcite(channels, reduction),
    )
    x, dy = (maps_like(samples, channels, 3, 2) for _ in range(2))
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
        results = []
        for backend in ("cpu", "torch"):
            wide = copy.deepcopy(layer).to(dtype if backend == "cpu" else torch.float64)
            t = x.to(next(wide.parameters()).dtype).requires_grad_()
            with fusednorm.use_backend(backend):
                y = wide(t)
                results.append([y, *torch.autograd.grad(y, [t, *wide.parameters()], dy.to(y.dtype))])
        for ours, exact in zip(*results, strict=True):
            scale = max(1.0, exact.abs().max().item())
            assert (ours.double() - exact).abs().max() <= tolerance * scale


def test_left_to_pytorch():
    """What has no native head runs the streaming kernels around its head in PyTorch."""
    covered = [native.covers(Spec(Head(first, Affine()), "relu", "cpu")) for first, _ in STANDARDIZE.values()]
    assert all(covered)
    for then in (Scaling("mean", torch.sigmoid), SqueezeExcite(torch.tanh), ContextGate()):
        assert not native.covers(Spec(Head(Batch(), then), "relu", "cpu"))
    assert not native.covers(Spec(Head(Batch(), Affine()), "relu", "torch"))
