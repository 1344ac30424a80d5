"""Operators that write y over x: opcheck, and the bits of those that don't."""

import pytest
import torch

from fusednorm.engine import position_operators
from tests.cases import BACKENDS, LAYOUTS, laid_out, maps_like
from tests.engine.position_calls import calls, some_options
from tests.engine.test_operators import OPAQUE, UTILITIES, kernel_calls, layer_calls

CPU = pytest.mark.skipif("cpu" not in BACKENDS, reason="no native extension")


def check(packet, backend, args, places):
    """opcheck, then y and the results at `places` of the operator that keeps x; args: that one's."""
    inplace = getattr(getattr(torch.ops.fusednorm, f"{packet}_inplace"), backend)
    wanted = len(inplace._schema.arguments)
    own = tuple(a for a, keep in zip(args, _kept(packet, backend), strict=True) if keep)
    assert len(own) == wanted
    torch.library.opcheck(inplace, own, test_utils=UTILITIES)
    expected = getattr(getattr(torch.ops.fusednorm, packet), backend)(*args)
    expected = (expected,) if isinstance(expected, torch.Tensor) else expected
    x = args[0].clone()
    found = inplace(x, *own[1:])
    torch.testing.assert_close(x, expected[0], rtol=0, atol=0)
    assert found is None or len(found) == len(places)
    for place, t in zip(places, found or (), strict=True):
        assert torch.equal(t, expected[place])


def _kept(packet, backend):
    """Which arguments the operator in place has too: all but save_mask."""
    return [a.name != "save_mask" for a in getattr(getattr(torch.ops.fusednorm, packet), backend)._schema.arguments]


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ["identity", "relu", "silu"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_planes(backend, layout, act, residual):
    (_, args) = next(call for call in kernel_calls(layout, act, residual) if call[0] == "plane_affine")
    check("plane_affine", backend, (*args[:-1], False), ())


@pytest.mark.parametrize("options", some_options(), ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_positions(backend, layout, options):
    x, dy, residual = (laid_out(torch.randn(2, 8, 5, 3), layout) for _ in range(3))
    for name, args in calls(x, dy, residual, options, backend):
        if name == "position_affine":
            check(name, backend, args, ())
        if name == "position_moments_affine":
            check(name, backend, (*args, 1), ())


@CPU
@pytest.mark.parametrize("act", ["identity", "relu", "gelu"])
@pytest.mark.parametrize(
    ("standardize", "recalibrate"),
    [
        ("batch", "attentive"),
        ("running", "affine"),
        ("group", "affine"),
        ("switchable lg", "attentive, mean and std"),
        ("representative mean", "scaling by std, tanh"),
        ("identity", "squeeze-excite, hsigmoid, bare"),
    ],
)
@pytest.mark.parametrize("backend", [name for name in OPAQUE if name != "triton"])
def test_layers(backend, standardize, recalibrate, act):
    (name, args) = next(layer_calls(standardize, recalibrate, act))
    check(name, backend, (*args[:-1], False), (7, 8, 9, 10))


@CPU
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("affine", [False, True], ids=["", "affine"])
@pytest.mark.parametrize("similarity", ["squared", "mean_difference", "none"])
@pytest.mark.parametrize("backend", [name for name in OPAQUE if name != "triton"])
def test_context(backend, similarity, affine, residual):
    x = maps_like(3, 4, 5, 2).float()
    more = torch.randn_like(x) if residual else None
    constants = [torch.randn(4) if affine else None for _ in range(3)]
    layer = (*constants, *torch.randn(2, 1), similarity, False, 1e-5, "relu")
    check("context_forward", backend, (x, more, *layer, False, 1), ())


@CPU
@pytest.mark.parametrize("running", [False, True], ids=["batch", "running"])
@pytest.mark.parametrize(
    ("center", "scale"), [("none", "spatial_std"), ("spatial_std", "none"), ("mean", "spatial_mean")]
)
def test_spatial(center, scale, running):
    x, residual = maps_like(3, 4, 5, 2), torch.randn(3, 4, 5, 2, dtype=torch.float64)
    weight, bias, *rest = (torch.rand(4, dtype=x.dtype) + 0.5 for _ in range(7))
    given = (
        *(t if running else None for t in rest[:2]),
        rest[2] if center != "none" else None,
        *(t if scale != "none" else None for t in rest[3:]),
    )
    check("spatial_forward", "cpu", (x, residual, weight, bias, *given, center, scale, "tanh", 1e-5, "relu"), (8, 9))


def test_all_are_here():
    """Every operator in place is another's, with the same arguments but save_mask."""
    schemas = position_operators.SCHEMAS | position_operators.JOINT_SCHEMAS
    for name in (name for name in schemas if name.endswith("_inplace")):
        own, other = (schemas[n].split(" -> ")[0] for n in (name, name.removesuffix("_inplace")))
        assert own == other.replace("Tensor x", "Tensor(a!) x", 1)
