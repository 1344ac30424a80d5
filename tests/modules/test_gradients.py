"""gradcheck on every backend for each option; gradients of gradients; the same bits on every run."""

import itertools

import pytest
import torch

import fusednorm
from tests.cases import ACTS, BACKENDS, FAMILIES, LAYERS, channels_last, everywhere, pair

OPTIONS = [
    {"attention_input": source, "attention_norm": norm, "attention_act": act}
    for source, norm, act in itertools.product(
        ("mean", "mean_std", "rsd"), (True, False), ("relu", "sigmoid", "softmax", "hsigmoid")
    )
]

# What all backends go through, and what the interpreter of Triton's kernels (0.5 ms a program) has time for: its
# kernels meet every activation, layout and type in tests/triton, and the layers all options against the reference.
LAYER_CASES = [
    (backend, kind, layout, residual, act)
    for backend, kind, layout, residual, act in itertools.product(
        BACKENDS, LAYERS, ("nchw", "channels_last"), (False, True), ACTS
    )
    if backend != "triton" or (kind in ("group", "attentive batch") and act in ("relu", "silu") and residual)
]
CASES = pytest.mark.parametrize(("backend", "kind", "layout", "residual", "act"), LAYER_CASES, ids=str)


def function_of(fused, residual):
    """The layer as a function of all it has: x, residual and parameters. Statistics stay as they are."""
    names = [name for name, _ in fused.named_parameters()]
    buffers = {name: buffer.clone() for name, buffer in fused.named_buffers()}

    def call(x, *rest):
        values = dict(zip(names, rest[1:] if residual else rest, strict=True))
        state = values | {name: buffer.clone() for name, buffer in buffers.items()}
        return torch.func.functional_call(fused, state, (x, rest[0]) if residual else (x,))

    return call, [p.detach().clone().requires_grad_() for p in fused.parameters()]


def inputs(kind, layout="nchw", training=True, residual=True, shape=(3, 4, 2, 3), **options):
    fused, _ = pair(kind, 4, shape[1], **options)
    fused.double().train(training)
    call, parameters = function_of(fused, residual)
    maps = [torch.randn(shape, dtype=torch.float64) for _ in range(1 + residual)]
    if layout == "channels_last":
        maps = [channels_last(m) for m in maps]
    return call, [*(m.requires_grad_() for m in maps), *parameters]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: " ".join(map(str, o.values())))
@pytest.mark.parametrize("kind", ["attentive batch", "attentive group"])
@pytest.mark.parametrize(
    ("backend", "training"), [(b, t) for b in BACKENDS for t in (True, False) if t or b != "triton"], ids=str
)
def test_attention(backend, training, kind, options):
    call, args = inputs(kind, training=training, residual=False, **options)
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradcheck(call, args, fast_mode=True)


@CASES
def test_activation(backend, kind, layout, residual, act):
    for training in (True, False):
        call, args = inputs(kind, layout, training, residual, act=act)
        with fusednorm.use_backend(backend):
            assert torch.autograd.gradcheck(call, args, fast_mode=True)


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize(("backend", "kind"), [case for case in everywhere() if case[0] != "triton"])
def test_every_entry(backend, kind, residual):
    """The slow mode, entry by entry."""
    call, args = inputs(kind, residual=residual, shape=(3, 2, 2, 2), act="silu")
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradcheck(call, args)


@CASES
def test_gradients_of_gradients(backend, kind, layout, residual, act):
    """By gradgradcheck; against the reference's below."""
    call, args = inputs(kind, layout, residual=residual, act=act)
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradgradcheck(call, args, fast_mode=True)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("backend", "kind"), everywhere())
def test_gradient_penalty_like_the_reference(backend, kind, training):
    fused, plain = pair(kind, 4, 4, act="relu")
    x, residual = torch.randn(3, 4, 5, 3, dtype=torch.float64), torch.randn(3, 4, 5, 3, dtype=torch.float64)

    def penalty_gradients(layer):
        layer.double().train(training)
        a = x.clone().requires_grad_()
        y = layer(a, residual)
        (dx,) = torch.autograd.grad(y.square().sum(), a, create_graph=True)
        return torch.autograd.grad(dx.square().sum(), [a, *layer.parameters()], allow_unused=True)

    with fusednorm.use_backend(backend):
        found = penalty_gradients(fused)
    for ours, theirs in zip(found, penalty_gradients(plain), strict=True):
        torch.testing.assert_close(
            torch.zeros(()) if ours is None else ours, torch.zeros(()) if theirs is None else theirs, check_dtype=False
        )


BITS = list(itertools.product(((8, 32, 29, 31), (2, 3, 300, 500)), ("nchw", "channels_last")))


@pytest.mark.parametrize(
    ("backend", "kind", "shape", "layout"),
    [
        *((b, kind, *case) for b in BACKENDS if b != "triton" for kind in LAYERS for case in BITS),
        *(("cpu", kind, *BITS[(i + j) % 4]) for i, kind in enumerate(FAMILIES) for j in (0, 1) if "cpu" in BACKENDS),
    ],
)
def test_same_bits_on_every_run_and_thread_count(backend, kind, shape, layout):
    fused, _ = pair(kind, 4, shape[1], act="relu")
    x, residual, dy = (torch.randn(shape) for _ in range(3))
    if layout == "channels_last":
        x, residual, dy = (channels_last(t) for t in (x, residual, dy))

    def gradients():
        a, r = x.clone(memory_format=torch.preserve_format).requires_grad_(), residual.clone().requires_grad_()
        return torch.autograd.grad(fused(a, r), [a, r, *fused.parameters()], dy)

    threads = torch.get_num_threads()
    with fusednorm.use_backend(backend):
        first = gradients()
        runs = [gradients() for _ in range(3)]
        if backend == "cpu":  # torch's own sums may depend on the number of threads
            try:
                for number in (1, 2, 3):
                    torch.set_num_threads(number)
                    runs.append(gradients())
            finally:
                torch.set_num_threads(threads)
    for run in runs:
        assert all(torch.equal(a, b) for a, b in zip(first, run, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_is_asked_for(backend):
    """Frozen parameters and inputs get no gradient, and the others the same as before."""
    fused, _ = pair("attentive batch", 4, 6, act="relu")
    x, residual = torch.randn(3, 6, 4, 4), torch.randn(3, 6, 4, 4)
    with fusednorm.use_backend(backend):
        everything = torch.autograd.grad(fused(x, residual).square().sum(), list(fused.parameters()))
        fused.weight.requires_grad_(False)
        fused.attention.weight.requires_grad_(False)
        y = fused(x, residual.requires_grad_())
        y.square().sum().backward()
    assert x.grad is None
    assert residual.grad is not None
    for (name, parameter), before in zip(fused.named_parameters(), everything, strict=True):
        if name in ("weight", "attention.weight"):
            assert parameter.grad is None
        else:
            torch.testing.assert_close(parameter.grad, before)
