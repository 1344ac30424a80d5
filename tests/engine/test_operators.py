"""Every operator passes opcheck, and the kernels behind one name agree across backends."""

import inspect

import pytest
import torch

from fusednorm.engine import native, operators
from fusednorm.engine.backends import backends
from fusednorm.engine.function import Spec
from tests.cases import BACKENDS, channels_last, maps_like
from tests.engine.parts import RECALIBRATE, STANDARDIZE, C, join

# test_autograd_registration can't apply: the operators have no autograd of their own on purpose. A
# torch.autograd.Function around them supplies it, at half of register_autograd's cost a call, and only it may be
# differentiated through.
UTILITIES = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
ACTS = ("identity", "relu", "gelu")
OPAQUE = [name for name in BACKENDS if name != "torch"]


def arguments(layout="nchw", act="relu", residual=True, dtype=torch.float32):
    make = channels_last if layout == "channels_last" else (lambda t: t)
    x, dy, other = (make(torch.randn(2, 8, 5, 3, dtype=dtype)) for _ in range(3))
    center, scale, shift, a, b = (torch.randn(2, 8, dtype=dtype) for _ in range(5))
    return x, dy, other if residual else None, center, scale, shift, a, b


def kernel_calls(layout, act, residual):
    x, dy, other, center, scale, shift, a, b = arguments(layout, act, residual)
    masked = residual and act == "relu"
    mask = torch.ops.fusednorm.plane_affine.torch(x, center, scale, shift, other, act, True)[1] if masked else None
    kept = None if masked else other
    yield "plane_moments", (x,)
    yield "plane_affine", (x, center, scale, shift, other, act, masked)
    yield "plane_affine_reduce", (dy, x, center, scale, shift, kept, mask, act, residual)
    yield "plane_affine_grad", (dy, x, center, scale, shift, kept, mask, a, b, act)
    yield "plane_affine_grad", (dy, x, center, scale, shift, kept, mask, None, None, act)


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ["identity", "relu", "silu"])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("backend", OPAQUE)
def test_opcheck(backend, layout, act, residual):
    for name, args in kernel_calls(layout, act, residual):
        operator = getattr(getattr(torch.ops.fusednorm, name), backend)
        torch.library.opcheck(operator, args, test_utils=UTILITIES)


def layer_calls(standardize, recalibrate, act):
    head, tensors = join(STANDARDIZE[standardize], RECALIBRATE[recalibrate])
    x, dy, residual = (maps_like(3, C, 5, 3).float() for _ in range(3))
    layer = native.layer_arguments(Spec(head, act, "cpu"), tuple(None if t is None else t.float() for t in tensors))
    yield "norm_forward", (x, residual, *layer, act == "relu")
    _, mask, *kept = torch.ops.fusednorm.norm_forward.cpu(x, residual, *layer, act == "relu")[:7]
    saved = (None, mask) if act == "relu" else (residual, None)
    yield "norm_backward", (dy, x, *saved, *kept, *layer, True, act != "identity")


@pytest.mark.skipif(not backends()["cpu"].available, reason="whole-layer operators are native")
@pytest.mark.parametrize(
    ("standardize", "recalibrate", "act"),
    [
        *((s, r, a) for s in ("running", "batch", "group") for r in ("affine", "attentive") for a in ACTS),
        ("switchable", "bare", "relu"),
        ("switchable lg", "attentive, mean and std", "relu"),
        ("switchable, running", "scaling, bare", "relu"),
        ("representative mean", "scaling by std, tanh", "relu"),
        ("representative std, running", "squeeze-excite", "relu"),
        ("identity", "squeeze-excite, hsigmoid, bare", "relu"),
    ],
)
def test_opcheck_of_layers(standardize, recalibrate, act):
    for name, args in layer_calls(standardize, recalibrate, act):
        torch.library.opcheck(getattr(torch.ops.fusednorm, name).cpu, args, test_utils=UTILITIES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ["identity", "relu", "silu"])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("backend", OPAQUE)
def test_backends_agree(backend, layout, act, residual, dtype):
    """The mask bit for bit, the rest to rounding, entry by entry; 16-bit results to one unit in the last place."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    unit = torch.finfo(dtype).eps
    close = {"rtol": unit, "atol": 1e-5} if dtype.itemsize == 2 else {"rtol": None, "atol": None}
    for name, args in kernel_calls(layout, act, residual):
        maps = {4: dtype, 2: compute}  # maps have four dimensions, N×C arguments two
        args = [t.to(maps[t.dim()]) if isinstance(t, torch.Tensor) and t.is_floating_point() else t for t in args]
        packet = getattr(torch.ops.fusednorm, name)
        ours, theirs = getattr(packet, backend)(*args), packet.torch(*args)
        pairs = [(ours, theirs)] if isinstance(ours, torch.Tensor) else zip(ours, theirs, strict=True)
        for a, b in pairs:
            assert a.stride() == b.stride()
            torch.testing.assert_close(a, b, **(close if a.dtype == dtype else {"rtol": None, "atol": None}))


@pytest.mark.parametrize("act", ["relu", "relu6", "leaky_relu"])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("backend", OPAQUE)
def test_masks_are_the_same_bits(backend, layout, act):
    """13 channels and 15 positions: no run ends at a byte. Values at the corners, and NaN, included."""
    x = torch.randn(3, 13, 5, 3)
    x[0, 0, 0], x[1, :, 2, 1], x[2, 3, 1, 1] = 0.0, 6.0, float("nan")
    x = channels_last(x) if layout == "channels_last" else x
    zero, one = torch.zeros(3, 13), torch.ones(3, 13)
    packet = torch.ops.fusednorm.plane_affine
    ours, theirs = (getattr(packet, b)(x, zero, one, zero, None, act, True) for b in (backend, "torch"))
    assert torch.equal(ours[1], theirs[1])
    torch.testing.assert_close(ours[0], theirs[0], equal_nan=True)


@pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")
def test_wrong_tensors_are_refused_not_read():
    """The operators trust fusednorm's checks, but never read out of bounds."""
    x, center = torch.randn(2, 8, 5, 3), torch.randn(2, 8)
    affine = torch.ops.fusednorm.plane_affine.cpu
    for args in (
        (x, center[:, :4], center, center, None, "relu", False),
        (x, center.double(), center, center, None, "relu", False),
        (x, center, center, center, x[:1], "relu", False),
        (x, center, center, center, None, "tanh", False),
        (x.int(), center, center, center, None, "relu", False),
    ):
        with pytest.raises(RuntimeError, match="fusednorm"):
            affine(*args)


@pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")
def test_wrong_tensors_of_layers_are_refused_not_read():
    calls = dict(layer_calls("batch", "attentive", "relu"))
    forward, backward = (getattr(torch.ops.fusednorm, name).cpu for name in calls)
    good = calls["norm_backward"]
    with pytest.raises(RuntimeError, match="fusednorm"):
        forward(calls["norm_forward"][0][:0], None, *calls["norm_forward"][2:])
    for i in range(3, 9):  # mask, mean, var, scale, shift, z
        for bad in (good[i][:0], good[i].repeat(1, 2)[:, ::2] if i > 3 else good[i][1:]):
            with pytest.raises(RuntimeError, match="fusednorm"):
                backward(*good[:i], bad, *good[i + 1 :])


@pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")
@pytest.mark.parametrize(
    ("standardize", "recalibrate"),
    [
        ("running", "attentive, mean and std"),
        ("switchable gib, unbiased, by groups", "squeeze-excite"),
        ("representative std, running", "scaling"),
    ],
)
def test_layers_without_a_tensor_or_with_a_short_one_are_refused(standardize, recalibrate):
    (name, args), _ = layer_calls(standardize, recalibrate, "relu")
    forward = getattr(torch.ops.fusednorm, name).cpu
    names = operators.LAYER_TENSORS
    given = {i: n for i, n in enumerate(names, start=2) if args[i] is not None}
    alone = ("fc_bias", "gate_bias") if recalibrate == "squeeze-excite" else ("fc_bias",)
    if recalibrate != "attentive, mean and std":
        alone += ("weight", "bias")
    for i, missing in given.items():
        with pytest.raises(RuntimeError, match="fusednorm"):
            forward(*args[:i], args[i].flatten()[:-1], *args[i + 1 :])
        if missing not in alone:
            with pytest.raises(RuntimeError, match="fusednorm"):
                forward(*args[:i], None, *args[i + 1 :])
    scalars = 2 + len(names)  # standardize, groups, scopes, ..., recalibrate
    for i, bad in ((0, 5), (0, -1), (1, 0), (1, 5), (2, 0x15), (2, 0x103), (6, 4), (6, -1)):
        with pytest.raises(RuntimeError, match="fusednorm"):
            forward(*args[: scalars + i], bad, *args[scalars + i + 1 :])


def test_documented():
    """docs/engine.md shows the schemas that are registered."""
    text = (inspect.getfile(operators)).rsplit("fusednorm", 1)[0] + "docs/engine.md"
    with open(text) as file:
        page = " ".join(file.read().split())
    for name, schema in operators.SCHEMAS.items():
        assert f"{name}{schema}" in page, name


@pytest.mark.filterwarnings("error:.*degrees of freedom")
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4), (0, 3)], ids=str)
def test_moments_of_nothing(shape):
    """Of the `torch` backend: zeros, without a warning."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        mean, var = torch.ops.fusednorm.plane_moments.torch(torch.randn(shape).to(dtype))
        assert mean.shape == var.shape == shape[:2]
        assert mean.dtype == torch.float64
        assert var.dtype == torch.promote_types(dtype, torch.float32)
        assert not mean.any()
        assert not var.any()
