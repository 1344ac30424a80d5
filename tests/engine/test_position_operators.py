"""The kernels of layers that know a value per position, on every backend, against plain PyTorch in the same type and in
float64; docs/positions.md is the contract.
"""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusednorm.engine import joint, position_operators
from fusednorm.engine.backends import backends
from tests.cases import BACKENDS, LAYOUTS, MAPS, TYPES, laid_out, like, maps_like, normal_like
from tests.engine.position_calls import Options, all_options, calls, exact, results, some_options
from tests.engine.test_any_strides import strided
from tests.engine.test_operators import UTILITIES

OPAQUE = [name for name in BACKENDS if name != "torch"]
NATIVE = [name for name in OPAQUE if name in ("cpu", "cuda")]
SLOW_BACKEND = "triton"  # its interpreter takes a second for what others do in a millisecond
FEW_MAPS = ("channels_last, odd channels", "primes", "crop", "2-D")


def assert_right(backend, call):
    """At most twice plain PyTorch's error in the same type; four units in the largest entry's last place are free.

    Of a smaller one than 1, in 1's: the sums' terms are that large, and may cancel.
    """
    for ours, theirs, truth in zip(results(backend, call), results("torch", call), exact(call), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.stride() == theirs.stride()
        if ours.numel() == 0:
            continue
        largest = truth.abs().max().clamp(min=1)
        if ours.dtype == torch.float64:
            assert (ours - truth).abs().max() <= 1e-11 * largest, call[0]
            continue
        error, their_error = (((t.double() - truth).square().mean().sqrt()) for t in (ours, theirs))
        assert error <= 2 * their_error + 4 * torch.finfo(ours.dtype).eps * largest, (call[0], error / largest)


def drawn(make, dtype, options, backend):
    """x with its strides; dy and residual with x's layout, or contiguous."""
    x = like(make(), dtype)
    layout = torch.contiguous_format if options.turn % 5 == 0 else torch.preserve_format
    return calls(x, normal_like(x, layout), normal_like(x), options, backend)


def cases():
    for backend in OPAQUE:
        for name in FEW_MAPS if backend == SLOW_BACKEND else MAPS:
            yield pytest.param(backend, name, id=f"{backend}-{name}")


@pytest.mark.parametrize(("backend", "name"), list(cases()))
def test_options(backend, name):
    """What may be absent, absent and there; all functions; N×C arguments of three strides."""
    for options in some_options()[1::2] if backend == SLOW_BACKEND else all_options():
        for call in drawn(MAPS[name], torch.float32, options, backend):
            assert_right(backend, call)


@pytest.mark.parametrize("dtype", [name for name in TYPES if name != "float32"])
@pytest.mark.parametrize(("backend", "name"), list(cases()))
def test_types(backend, name, dtype):
    for options in some_options()[3:] if backend == SLOW_BACKEND else some_options():
        for call in drawn(MAPS[name], TYPES[dtype], options, backend):
            assert_right(backend, call)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", NATIVE)  # Triton's interpreter cuts bfloat16 off
def test_16_bit_results_are_rounded_once(backend, layout):
    """Entry by entry: from the same numbers as float32 to half a unit in the last place, beside float32's own error."""
    for dtype in (torch.bfloat16, torch.float16):
        x, dy, residual = (laid_out(maps_like(2, 24, 5, 7), layout).to(dtype) for _ in range(3))
        for name, args in calls(x, dy, residual, Options(act="silu"), backend):
            wide = tuple(a.float() if isinstance(a, torch.Tensor) else a for a in args)
            for ours, theirs in zip(results(backend, (name, args)), results("torch", (name, wide)), strict=True):
                if ours.dtype == dtype:
                    half = torch.finfo(dtype).eps / 2
                    torch.testing.assert_close(ours.float(), theirs, rtol=half * 1.01, atol=2e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 3, 71, 70), (2, 5, 265, 265), (1, 1100, 7, 9), (1, 4200, 2, 3)], ids=str)
@pytest.mark.parametrize("backend", NATIVE)
def test_large(backend, shape, layout):
    """Planes of several tiles, rows of several runs, many channels; the sums of the second are over 70 thousand."""
    for options in some_options()[1:]:
        for call in drawn(lambda: laid_out(maps_like(*shape), layout), torch.float32, options, backend):
            assert_right(backend, call)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", NATIVE)
def test_beyond_the_caches(backend, layout):
    """9 MB: the CPU's outputs go past the caches."""
    for call in drawn(lambda: laid_out(maps_like(2, 32, 190, 193), layout), torch.float32, Options(turn=1), backend):
        if call[0].startswith("position_affine"):
            assert_right(backend, call)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_long_sums_keep_their_digits(backend, layout):
    """Sums of positive values, thousands of them, to a few units in the last place."""
    few = backend == SLOW_BACKEND
    wide, long = (1, 2000 if few else 20000, 2, 3), (1, 3, 60, 70) if few else (1, 3, 600, 700)
    for shape in (wide, long):
        x = laid_out(maps_like(*shape).abs() + 1, layout).float()
        N, C, S = *x.shape[:2], x[0, 0].numel()
        zero, one, row = torch.zeros(N, C), torch.rand(N, C) + 0.5, torch.rand(N, S) + 0.5
        affine = (x, x, zero, one, zero, one, row, one, zero, one, zero, row, None, None, None)
        for call in (
            ("position_reduce", (x, zero, one, "square")),
            ("plane_pool", (x, zero, row, "square")),
            ("position_moments", (x, zero, one, zero, one, row)),
            ("position_affine_reduce", (*affine, "sigmoid", "identity", False)),
            ("position_affine_spread", (*affine, None, "sigmoid", "identity", False)),
            ("position_affine_spread_reduce", (*affine[:13], row, row, "sigmoid", "identity", False)),
            ("position_moments_affine", (*affine[1:11], None, "spatial_mean", "sigmoid", "identity")),
        ):
            for ours, truth in zip(results(backend, call), exact(call), strict=True):
                near = 2e-7 * truth.max().item() if truth.numel() else 0
                torch.testing.assert_close(ours.double(), truth, rtol=2e-6, atol=near)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_no_variance(backend, layout):
    """Where all channels are alike it is 0, exactly: a derivative of the deviation would divide by what is left."""
    for channels, dtype in itertools.product((3, 6, 7, 19, 50, 300), (torch.float32, torch.float64)):
        alike = torch.randn(2, 1, 5, 7, dtype=dtype).expand(-1, channels, -1, -1)
        zero, one = torch.zeros(2, channels, dtype=dtype), torch.ones(2, channels, dtype=dtype)
        x = laid_out(alike.contiguous(), layout)
        for call in (
            ("position_moments", (x, zero, one, zero, None, None)),
            ("position_moments_pool", (x, zero, "spatial_std")),
        ):
            mean, var, *_ = results(backend, call)
            assert torch.equal(mean, alike[:, 0].flatten(1)), channels
            assert (var == 0).all(), channels


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_variance_beside_a_large_mean(backend, layout):
    """e has a mean of 1e4 and a deviation of 1 (and whole multiples of 2^-8, so that e itself is exact)."""
    for channels in (5, 300):
        x = laid_out((torch.randn(2, channels, 7, 5) * 256).round() / 256, layout)
        zero, one = torch.zeros(2, channels), torch.ones(2, channels)
        e = (x, zero, one, 10000 * one, None, None)
        last = ("spatial_mean", "sigmoid", "identity")
        for call in (("position_moments", e), ("position_moments_affine", (*e, one, zero, one, zero, None, *last))):
            for ours, truth in zip(results(backend, call), exact(call), strict=True):
                if ours.shape == (2, 35):  # mean and variance
                    torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=0)


@pytest.mark.parametrize("act", ["identity", "relu", "leaky_relu", "gelu"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_nan_stays_where_it_is(backend, layout, act):
    """NaN in x comes out where plain PyTorch has them, and nowhere else."""
    x, dy, residual = (laid_out(torch.randn(2, 19, 5, 7), layout) for _ in range(3))
    x[0, 3, 2, 2] = x[1, 18, 4, 6] = x[1, 0, 0, 0] = float("nan")
    for call in calls(x, dy, residual, Options(act=act, kind="square", restrict="hsigmoid", turn=1), backend):
        for ours, theirs in zip(results(backend, call), results("torch", call), strict=True):
            assert torch.equal(ours.isnan(), theirs.isnan()), call[0]
            finite = theirs.isfinite()
            torch.testing.assert_close(ours[finite], theirs[finite], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(4, 96, 40, 41), (1, 5, 300, 290), (9, 300, 1, 5)], ids=str)
@pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")
def test_same_bits_for_any_number_of_threads(shape, layout):
    x, dy, residual = (laid_out(torch.randn(shape), layout) for _ in range(3))
    before = torch.get_num_threads()
    try:
        # with g written and without
        for call in (*calls(x, dy, residual, Options(turn=3), "cpu"), *calls(x, dy, residual, Options(turn=5), "cpu")):
            found = []
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                found.append(results("cpu", call))
            for other in found[1:]:
                assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True)), call[0]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", OPAQUE)
def test_opcheck(backend, layout):
    for options in some_options()[::3]:
        x, dy, residual = (laid_out(torch.randn(2, 8, 5, 3), layout) for _ in range(3))
        for name, args in calls(x, dy, residual, options, backend):
            operator = getattr(getattr(torch.ops.fusednorm, name), backend)
            blocks = (1,) if name in position_operators.JOINT_SCHEMAS else ()
            torch.library.opcheck(operator, (*args, *blocks), test_utils=UTILITIES)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", ["torch", "cpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.skipif(not backends()["cpu"].available, reason="no native extension")
def test_pairs_of_two_kernels(dtype, backend, layout, monkeypatch):
    """Where no kernel is both."""
    count = 0
    for options in all_options():
        x, dy, residual = (laid_out(maps_like(2, 24, 5, 7), "channels_last").to(TYPES[dtype]) for _ in range(3))
        for name, args in calls(x, dy, residual, options, "cpu"):
            if name not in position_operators.JOINT_SCHEMAS:
                continue
            count += 1
            if layout == "nchw":
                args = tuple(a.contiguous() if isinstance(a, torch.Tensor) and a.dim() == 4 else a for a in args)
            with monkeypatch.context() as patched:
                patched.setattr(joint, "blocks", lambda *_: 0)
                found = results(backend, (name, args))
            for ours, truth in zip(found, exact((name, args)), strict=True):
                eps = torch.finfo(ours.dtype).eps
                if ours.numel():
                    assert (ours.double() - truth).abs().max() <= 16 * eps * truth.abs().max().clamp(min=1)
    assert count > 0


@pytest.mark.filterwarnings("error:.*degrees of freedom")
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (2, 0, 4, 4)], ids=str)
@pytest.mark.parametrize("backend", OPAQUE)
def test_empty(backend, shape):
    x, dy, residual = (torch.randn(shape) for _ in range(3))
    for call in calls(x, dy, residual, Options(turn=3), backend):
        for ours, theirs in zip(results(backend, call), results("torch", call), strict=True):
            assert ours.shape == theirs.shape
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", NATIVE)
def test_wrong_tensors_are_refused_not_read(backend, layout):
    """The operators trust fusednorm's checks, but never read out of bounds."""
    x, dy, residual = (laid_out(torch.randn(2, 8, 5, 3), layout) for _ in range(3))
    for name, args in calls(x, dy, residual, Options(turn=1), backend):
        for i, arg in enumerate(args):
            wrong = ["other"] if isinstance(arg, str) else []
            if isinstance(arg, torch.Tensor) and arg is not x:
                wrong = [arg[..., :-1], arg[:1] if arg.shape[0] > 1 else arg[:0], arg.double(), arg.to(torch.int32)]
                if arg.shape[-1] == 15:  # a value per position is dense
                    wrong.append(arg.repeat_interleave(2, -1)[..., ::2])
            for other in wrong:
                with pytest.raises(RuntimeError, match="fusednorm"):
                    results(backend, (name, (*args[:i], other, *args[i + 1 :])))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", NATIVE)
def test_halves_of_pairs_are_refused(backend, layout):
    x, dy, residual = (laid_out(torch.randn(2, 8, 5, 3), layout) for _ in range(3))
    for name, args in calls(x, dy, residual, Options(turn=1), backend):
        schema = getattr(getattr(torch.ops.fusednorm, name), backend)._schema
        for i, parameter in enumerate(schema.arguments):
            if parameter.type.kind() == "OptionalType" and parameter.name not in ("residual", "pool"):
                with pytest.raises(RuntimeError, match="both or neither"):
                    results(backend, (name, (*args[:i], None, *args[i + 1 :])))


@pytest.mark.parametrize("backend", NATIVE)
def test_more_than_three_outers_are_refused(backend):
    x, dy, residual = (torch.randn(2, 8, 5, 3) for _ in range(3))
    for options in (Options(turn=1), Options(turn=3)):
        *_, (name, args) = calls(x, dy, residual, options, backend)
        names = [parameter.name for parameter in getattr(torch.ops.fusednorm, name).torch._schema.arguments]
        four = [torch.cat([t] * 4)[:4] if at in ("outers", "rows") else t for at, t in zip(names, args, strict=True)]
        with pytest.raises(RuntimeError, match="J at most 3"):
            results(backend, (name, tuple(four)))


@st.composite
def strided_calls(draw):
    places = draw(st.lists(st.integers(1, 7), max_size=3))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 19)), *places)
    x, dy, residual = (draw(strided(shape)) for _ in range(3))
    return x, dy, residual, draw(st.sampled_from(all_options()))


@pytest.mark.parametrize("backend", NATIVE)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(strided_calls())
def test_any_strides(backend, drawn):
    for call in calls(*drawn, backend):
        for ours, theirs in zip(results(backend, call), results("torch", call), strict=True):
            assert ours.stride() == theirs.stride()
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


def test_documented():
    """docs/positions.md shows the schemas that are registered."""
    text = Path(position_operators.__file__).parents[2] / "docs/positions.md"
    page = " ".join(text.read_text().split())
    for name, schema in (position_operators.SCHEMAS | position_operators.JOINT_SCHEMAS).items():
        assert f"{name}{schema}" in page, name
