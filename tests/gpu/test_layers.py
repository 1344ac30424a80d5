"""Every layer, backend, type and layout against float64, with odd shapes and strides."""

import itertools
import zlib

import pytest
import torch

from tests.cases import ACTS, FURTHER, LAYERS, LAYOUTS, MAPS, TYPES, laid_out, maps_like
from tests.gpu.device import BACKENDS, HAS_CUDA, compare, needs_cuda_backend

# The cuda backend meets everything. Triton compiles a kernel for each type, layout and activation, and plain PyTorch
# is the others' last resort: they meet a part.
SOME_MAPS = ("nchw", "channels_last", "channels_last, odd channels", "2-D", "crop")
SOME_TYPES = ("float32", "bfloat16")


def cases():
    for name in MAPS:
        for kind in LAYERS:
            for dtype in TYPES:
                draw = zlib.crc32(f"{name} {kind} {dtype}".encode())
                if HAS_CUDA:
                    yield "cuda", name, kind, dtype, ACTS[draw % 7], bool(draw // 7 % 2), bool(draw // 14 % 3)
                if name in SOME_MAPS and dtype in SOME_TYPES:
                    for backend in BACKENDS:
                        if backend != "cuda":
                            yield backend, name, kind, dtype, "relu", True, bool(draw // 14 % 3)
    for name, kind, dtype in itertools.product(SOME_MAPS, FURTHER, SOME_TYPES):
        draw = zlib.crc32(f"{name} {kind} {dtype}".encode())
        for backend in BACKENDS:
            if backend == "cuda" or draw % 5 == 0:
                yield backend, name, kind, dtype, ACTS[draw % 7], bool(draw // 7 % 2), bool(draw // 14 % 3)


@pytest.mark.parametrize(("backend", "name", "kind", "dtype", "act", "residual", "training"), list(cases()), ids=str)
def test_maps_layers_types(backend, name, kind, dtype, act, residual, training):
    alone = training and kind == "attentive batch" and MAPS[name]().shape[0] == 1
    options = {"attention_norm": False} if alone else {}
    compare(backend, kind, MAPS[name], TYPES[dtype], training, residual, act=act, **options)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_far_from_zero(backend, kind, layout):
    """Mean 1e4 with deviation 1: x itself carries 1e-3 of rounding, and no more than that may be lost."""

    def make_map():
        return laid_out((torch.randn(4, 8, 64, 64) + 1e4).double(), layout)

    compare(backend, kind, make_map, torch.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "shape",
    [(2, 3, 301, 499), (3, 4101, 3), (70000, 8, 3), (64, 256, 14, 14), (8, 2048, 7, 7), (1, 1, 1 << 20)],
    ids=str,
)
@pytest.mark.parametrize("kind", ["batch", "attentive group"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_large_and_lopsided(backend, kind, shape, layout):
    """Planes split over blocks, more planes than a grid's second dimension has, many channels."""

    def make_map():
        return laid_out(torch.randn(shape, dtype=torch.float64), layout)

    compare(backend, kind, make_map, torch.float32, draws=2, act="relu")


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(72, 21, 7, 9), (40, 37, 23, 25)], ids=str)
@pytest.mark.parametrize("kind", ["representative spatial", "representative spatial std", "normalization attention"])
@needs_cuda_backend
def test_samples_kept_on_the_chip(kind, shape, layout, dtype, residual):
    """By so many blocks, and clusters, as 132 multiprocessors ask for."""
    from fusednorm.engine import joint

    def make_map():
        return laid_out(maps_like(*shape), layout)

    x = make_map().to("cuda", TYPES[dtype])
    assert joint.blocks("position_affine_spread_reduce", "cuda", x, None) > 0
    compare("cuda", kind, make_map, TYPES[dtype], residual=residual, draws=2, act="silu")


@pytest.mark.parametrize("offset", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_tensors_that_begin_off_16_bytes(backend, layout, dtype, offset):
    """Vector loads must see that they can't."""
    import fusednorm
    from tests.gpu.device import gradients, layers, normal, same_bits

    layer, _ = layers("attentive batch", 4, 16, act="relu")

    def shifted(t):
        base = torch.empty(t.numel() + offset, dtype=t.dtype, device=t.device)
        return base[offset:].as_strided(t.shape, t.stride(), offset).copy_(t)

    maps = [normal(4, 16, 8, 8, layout=layout, dtype=TYPES[dtype]) for _ in range(3)]
    with fusednorm.use_backend(backend):
        expected = gradients(layer, *maps)
        found = gradients(layer, *map(shifted, maps))
    assert [t.stride() for t in found] == [t.stride() for t in expected]
    if not same_bits(found, expected):  # another order of summing is allowed, another result is not
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=2 * torch.finfo(a.dtype).eps + 1e-5)
