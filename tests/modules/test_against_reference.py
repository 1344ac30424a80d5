"""Three ways: the fused layer, the reference in the same type, and the reference in float64."""

import copy
import itertools
import zlib

import pytest
import torch

import fusednorm
import fusednorm.reference
from tests.cases import (
    ACTS,
    ATTENTION,
    BACKENDS,
    FURTHER,
    LAYERS,
    LAYOUTS,
    MAPS,
    TYPES,
    Contender,
    assert_twice_as_good,
    channels_last,
    drawn,
    laid_out,
    maps_like,
    pair,
    three_ways,
)


def compare(backend, kind, make_map, dtype, training=True, residual=True, draws=None, **options):
    x = make_map()
    fused, plain = pair(kind, x.dim(), x.shape[1], **options)
    compare_layers(backend, fused, plain, make_map, dtype, training, residual, draws)


def compare_layers(backend, fused, plain, make_map, dtype, training=True, residual=True, draws=None):
    draws = draws or (2 if backend == "triton" else 4)  # the interpreter takes its time
    assert_twice_as_good(three_ways(backend, fused, plain, make_map, dtype, training, residual, draws), dtype)


def cases(layers):
    """Every map, layer and type once, with activation, residual and mode drawn for each (the same on every run)."""
    for name in MAPS:
        for kind in layers:
            for dtype in TYPES:
                draw = zlib.crc32(f"{name} {kind} {dtype}".encode())
                yield name, kind, dtype, ACTS[draw % 7], bool(draw // 7 % 2), bool(draw // 14 % 3)


def needs_two_values(name, kind, training):
    return training and kind == "attentive batch" and MAPS[name]().shape[0] == 1


def further_cases():
    """Those of the further layers; SRM's BN over samples needs two of them."""
    for name, kind, dtype, act, residual, training in cases(FURTHER):
        trains = training and (name, kind) != ("one sample", "style recalibration")
        yield kind, name, dtype, act, residual, trains


@pytest.mark.parametrize(
    ("name", "kind", "dtype", "act", "residual", "training"),
    list(cases(LAYERS)),
    ids=lambda value: str(value),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_layers_types(backend, name, kind, dtype, act, residual, training):
    options = {"attention_norm": False} if needs_two_values(name, kind, training) else {}
    compare(backend, kind, MAPS[name], TYPES[dtype], training, residual, act=act, **options)


@pytest.mark.parametrize(
    ("backend", "kind", "name", "dtype", "act", "residual", "training"),
    list(drawn(further_cases(), triton=1, cuda=3)),
    ids=lambda value: str(value),
)
def test_further_layers(backend, kind, name, dtype, act, residual, training):
    draws = 8 if name == "one channel" else 2  # what is one number in a draw needs more of them
    compare(backend, kind, MAPS[name], TYPES[dtype], training, residual, draws, act=act)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_activations(backend, act, residual, layout):
    compare(backend, "attentive batch", MAPS[layout], torch.float32, act=act, residual=residual)


@pytest.mark.parametrize(("attention_input", "attention_norm", "attention_act"), ATTENTION)
@pytest.mark.parametrize("kind", ["attentive batch", "attentive group"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_attention(backend, training, kind, attention_input, attention_norm, attention_act):
    compare(
        backend,
        kind,
        MAPS["nchw"],
        torch.float32,
        training,
        attention_input=attention_input,
        attention_norm=attention_norm,
        attention_act=attention_act,
        act="relu",
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_mean_far_from_zero(backend, kind, layout):
    """Mean 1e4 with deviation 1: x itself carries 1e-3 of rounding, and no more than that may be lost."""

    def make_map():
        return laid_out((torch.randn(4, 8, 16, 16) + 1e4).double(), layout)

    compare(backend, kind, make_map, torch.float32)
    fused, plain = pair(kind, 4, 8)
    x = make_map()
    with fusednorm.use_backend(backend):
        y = fused(x.float())
    exact = plain.double()(x)
    assert (y - exact).abs().max() <= 1e-5 * exact.abs().max()


@pytest.mark.parametrize(
    ("backend", "kind", "layout"), list(drawn(((k, LAYOUTS[i % 2]) for i, k in enumerate(FURTHER)), cuda=1))
)
def test_mean_far_from_zero_of_further_layers(backend, kind, layout):
    """The three-way bar alone: what a gate makes of means of 1e4 is the layer's affair."""

    def make_map():
        return laid_out((torch.randn(4, 8, 15, 17) + 1e4).double(), layout)

    compare(backend, kind, make_map, torch.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("kind", ["batch", "attentive batch"])
@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_few_channels(backend, kind, mean, layout):
    """Long sums in channels_last: thousands of positions of three channels."""

    def make_map():
        return laid_out((torch.randn(4, 3, 70, 70) + mean).double(), layout)

    compare(backend, kind, make_map, torch.float32)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("backend", "kind"),
    [
        pytest.param(b, kind, marks=[pytest.mark.slow] * (b == "triton" and kind != "attentive batch"))
        for b, kind in itertools.product(BACKENDS, LAYERS)
    ],
)
def test_constant_planes(backend, kind, layout):
    """Nothing to standardize: variance 0 however large the value, never below."""
    for level in (1.2345e4, 3.3333e4, 1e9):
        x = torch.rand(4, 3, 1, 1) * level + level
        x = laid_out(x.expand(4, 3, 70, 70).contiguous(), layout)
        with fusednorm.use_backend(backend):
            mean, var = getattr(torch.ops.fusednorm.plane_moments, backend)(x)
            y = pair(kind, 4, 3)[0](x)
        assert (var >= 0).all()
        assert (var <= (level * 2**-23) ** 2).all()
        torch.testing.assert_close(mean, x[:, :, 0, 0].double(), rtol=1e-7, atol=0)
        assert y.isfinite().all()


@pytest.mark.parametrize("groups", [1, 2, 8], ids=["layer", "group", "instance"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_groups(backend, groups):
    fused, plain = (ns.AttentiveGroupNorm(groups, 8, 4) for ns in (fusednorm, fusednorm.reference))
    plain.load_state_dict(fused.state_dict())
    compare_layers(backend, fused, plain, lambda: maps_like(3, 8, 5, 5), torch.float32)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_large_planes_are_split(backend):
    """Few and large planes: the cpu backend splits them among threads."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for make_map in (lambda: maps_like(1, 2, 150001), lambda: channels_last(maps_like(1, 2, 150001))):
            compare(backend, "attentive group", make_map, torch.float32, act="relu")
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_many_channels(backend):
    """More channels than a run has elements."""
    compare(backend, "attentive group", lambda: channels_last(maps_like(4, 4101, 3)), torch.float32, act="relu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_16_bit_parameters(backend, dtype):
    """16-bit parameters beside float32 buffers: the result is that of the same numbers in float32, rounded once."""
    layer = fusednorm.AttentiveBatchNorm2d(8, 4, act="relu", dtype=dtype)
    assert layer.weight.dtype == dtype
    assert {b.dtype for b in layer.buffers()} == {torch.float32, torch.int64}
    wide = copy.deepcopy(layer).float()
    x, dy = torch.randn(4, 8, 6, 6).to(dtype), torch.randn(4, 8, 6, 6).to(dtype)
    with fusednorm.use_backend(backend):
        ours, truth = Contender(layer, x, None, dy), Contender(wide, x.float(), None, dy.float())
    for name, t in ours.tensors.items():
        assert t.dtype == (torch.float32 if "running" in name else dtype)
        torch.testing.assert_close(t.float(), truth.tensors[name], atol=1e-3, rtol=torch.finfo(t.dtype).eps, msg=name)
    half_buffers = layer.to(dtype)
    half_buffers(x)
    assert half_buffers.running_mean.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("backend", "kind"), list(drawn([(kind,) for kind in FURTHER], cuda=0)))
def test_16_bit_parameters_of_further_layers(backend, kind, dtype):
    """As above: results and gradients are those of the same numbers in float32, rounded; buffers stay float32."""
    layer, _ = pair(kind, 4, 8)
    names = {name for name, b in layer.named_buffers() if b.is_floating_point()}
    for parameter in layer.parameters():
        parameter.data = parameter.data.to(dtype)
    wide = copy.deepcopy(layer)
    for parameter in wide.parameters():
        parameter.data = parameter.data.float()
    x, dy = torch.randn(4, 8, 6, 6).to(dtype), torch.randn(4, 8, 6, 6).to(dtype)
    with fusednorm.use_backend(backend):
        ours, truth = Contender(layer, x, None, dy), Contender(wide, x.float(), None, dy.float())
    assert ours.tensors.keys() == truth.tensors.keys()
    for name, t in ours.tensors.items():
        assert t.dtype == (torch.float32 if name in names else dtype), name
        exact = truth.tensors[name]
        allowed = torch.finfo(dtype).eps * exact.abs().max().item()  # one rounding, or two of half of it
        assert (t.float() - exact).abs().max() <= allowed, name
    half = layer.to(dtype)
    half(x)
    assert all(b.dtype == dtype for name, b in half.named_buffers() if name in names)


@pytest.mark.parametrize("kind", ["batch", "representative", "switchable", "squeeze-excite", "normalization attention"])
def test_buffers_of_16_bit_layers(kind):
    """Made in 16 bits, a layer keeps its running statistics in float32."""
    options = {"dtype": torch.bfloat16}
    layer = (LAYERS | FURTHER)[kind](fusednorm, 4, 8, **options)
    assert {p.dtype for p in layer.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in layer.buffers()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("act", ["relu", "relu6", "leaky_relu"])
@pytest.mark.parametrize(("channels", "groups"), [(24, 2), (40, 2), (36, 3), (32, 4)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_and_mask_bytes(backend, channels, groups, act):
    """Groups of channels that end inside a byte of the mask."""
    x = channels_last(torch.randn(4, channels, 5, 5))
    residual, dy = channels_last(torch.randn(4, channels, 5, 5)), channels_last(torch.randn(4, channels, 5, 5))
    weight, bias = torch.rand(channels), torch.rand(channels)

    def results():
        inputs = [t.clone().requires_grad_() for t in (x, residual, weight, bias)]
        y = fusednorm.functional.group_norm(inputs[0], groups, *inputs[2:], residual=inputs[1], act=act)
        return [y, *torch.autograd.grad(y, inputs, dy)]

    with fusednorm.use_backend("torch"):
        expected = results()
    with fusednorm.use_backend(backend):
        found = results()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["batch", "group"])
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name in ("cpu", "torch")])  # others are emulated
def test_many_samples(backend, kind):
    """Sums over 50000 samples keep float32's digits: gradients that do not cancel, to one part in a million."""
    x, dy = torch.randn(50000, 4, 2), 1 + 0.1 * torch.randn(50000, 4, 2)
    fused, plain = pair(kind, 3, 4)
    with fusednorm.use_backend(backend):
        fused(x).backward(dy)
    plain.double()(x.double()).backward(dy.double())
    torch.testing.assert_close(fused.bias.grad.double(), plain.bias.grad, rtol=1e-6, atol=0)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_bias_and_norm(backend, running):
    """The function takes both: over the batch the norm takes the bias out, by running statistics it does not."""
    x = torch.randn(4, 6, 5, 3).double()
    weight, bias, attention = (torch.randn(5, 6).double() for _ in range(3))
    offset = torch.randn(5).double().requires_grad_()
    vectors = (torch.rand(5).double() for _ in range(4))
    norm = fusednorm.functional.AttentionNorm(*vectors, training=not running)

    def gradient():
        y = fusednorm.functional.attentive_batch_norm(
            x, weight, bias, attention, offset, norm, training=True, attention_act="sigmoid"
        )
        return torch.autograd.grad(y.square().sum(), offset)[0]

    with fusednorm.use_backend("torch"):
        expected = gradient()
    with fusednorm.use_backend(backend):
        found = gradient()
    assert running == bool(expected.abs().max() > 1e-2)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
