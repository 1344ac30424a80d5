"""Calls replayed in eager mode: what Python's way gives, and recorded anew when anything has changed."""

import copy
import pickle
import threading
import weakref

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fusednorm
from tests.cases import FURTHER, LAYERS, channels_last, like, maps_like, pair

# Not where eager's own extension is missing: they are built together, and one that fails to is to be seen.
pytestmark = pytest.mark.skipif(not fusednorm.backends()["cpu"].available, reason="no native extensions")

# Those that are one whole operator on `cpu`; the rest look over positions, or have a threshold after it.
OTHERS = ("representative spatial", "normalization attention", "batch normalization attention", "filter response")
REPLAYED = [name for name in LAYERS | FURTHER if not name.startswith(OTHERS)]
C = 8


class Spy:
    """What a module's replay said, call by call: "replayed", "recorded" or "python"."""

    def __init__(self, layer):
        self.replay, self.said = layer._replay, []
        layer._replay = self

    def __call__(self, module, x, residual):
        found = self.replay(module, x, residual)
        self.said.append("replayed" if isinstance(found, torch.Tensor) else "python" if found is None else "recorded")
        return found

    def add(self, call):
        self.replay.add(call)


def made(kind="attentive batch", act="relu", **options):
    torch.manual_seed(1)
    return pair(kind, 4, C, act=act, **options)[0]


def in_python(layer):
    """A copy whose calls are never replayed."""
    layer = copy.deepcopy(layer)
    layer._replay = None
    return layer


def inputs(dtype=torch.float32, shape=(4, C, 5, 3), channels_inner=False):
    torch.manual_seed(2)
    layout = torch.channels_last if channels_inner else torch.contiguous_format
    return tuple(maps_like(*shape).to(dtype).contiguous(memory_format=layout) for _ in range(3))


def step(layer, x, residual, dy):
    """y, gradients and buffers after a training step."""
    x = x.detach().requires_grad_()
    residual = None if residual is None else residual.detach().requires_grad_()
    wanted = [x, *([] if residual is None else [residual]), *(p for p in layer.parameters() if p.requires_grad)]
    y = layer(x, residual)
    gradients = torch.autograd.grad(y, wanted, dy)
    return [y.detach(), *gradients, *(b.clone() for b in layer.buffers())]


def assert_same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
        assert torch.equal(a, b), (a - b).abs().max()


@pytest.mark.parametrize("with_residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("kind", REPLAYED)
def test_same_as_python(kind, training, act, with_residual):
    layer = made(kind, act).train(training)
    twin, spy = in_python(layer), Spy(layer)
    for inner in (False, True, False):
        x, residual, dy = inputs(channels_inner=inner)
        residual = residual if with_residual else None
        got, expected = step(layer, x, residual, dy), step(twin, x, residual, dy)
        # the running average is the same sum, which compilers may round once or twice
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
            assert a.stride() == b.stride()
    assert spy.said == ["recorded", "replayed", "replayed"]


@pytest.mark.parametrize("kind", ["batch", "attentive batch", "switchable"])
@pytest.mark.parametrize(
    ("of_x", "of_parameters"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float16),
        (torch.float64, torch.float64),
        (torch.float64, torch.float32),
    ],
)
def test_types(kind, of_x, of_parameters):
    layer = made(kind).to(of_parameters)
    twin, spy = in_python(layer), Spy(layer)
    x, residual, dy = inputs(of_x)
    for _ in range(3):
        got, expected = step(layer, x, residual, dy), step(twin, x, residual, dy)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3 if of_parameters == torch.float16 else 1e-6, atol=1e-6)
    assert spy.said[1:] == ["replayed"] * 2


def test_no_gradient_wanted():
    layer = made()
    twin, spy = in_python(layer), Spy(layer)
    x, residual, _ = inputs()
    for context in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with context():
            for _ in range(2):
                y, expected = layer(x, residual), twin(x, residual)
                assert torch.equal(y, expected)
                assert y.requires_grad == expected.requires_grad
    assert spy.said == ["recorded", *["replayed"] * 5]
    for p in layer.parameters():
        p.requires_grad_(False)
    assert layer(x, residual).grad_fn is None


# What a user may change between calls -> what it does to the layer.
CHANGES = {
    "eps": lambda m: setattr(m, "eps", 0.5),
    "momentum": lambda m: setattr(m, "momentum", 0.7),
    "act": lambda m: setattr(m, "act", "silu"),
    "an option": lambda m: setattr(m, "attention_act", "softmax"),
    "evaluation": lambda m: m.eval(),
    "evaluation of a part": lambda m: m.attention_norm.eval(),
    "momentum of a part": lambda m: setattr(m.attention_norm, "momentum", 0.5),
    "a parameter": lambda m: setattr(m, "weight", torch.nn.Parameter(m.weight.detach() * 2)),
    "a parameter's data": lambda m: setattr(m.weight, "data", m.weight.data * 3),
    "a buffer": lambda m: setattr(m, "running_mean", m.running_mean + 1),
    "type": lambda m: m.double(),
    "half": lambda m: m.bfloat16(),
    "a part": lambda m: setattr(m, "attention", torch.nn.Linear(C, 5, bias=False)),
    "no statistics": lambda m: setattr(m, "running_mean", None) or setattr(m, "running_var", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed(change):
    layer = made()
    x, residual, dy = inputs()
    step(layer, x, residual, dy), step(layer, x, residual, dy)
    twin = in_python(layer)
    torch.manual_seed(3)
    CHANGES[change](layer)
    torch.manual_seed(3)
    CHANGES[change](twin)
    if change == "type":
        x, residual, dy = x.double(), residual.double(), dy.double()
    for _ in range(2):
        for a, b in zip(step(layer, x, residual, dy), step(twin, x, residual, dy), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


WRONG = {
    "channels": ((4, C + 1, 5, 3), None, ValueError),
    "dimensions": ((4, C, 5), None, ValueError),
    "residual": ((4, C, 5, 3), (4, C, 5, 4), ValueError),
    "one sample for the attention's norm": ((1, C, 5, 3), None, ValueError),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_input_is_refused(wrong):
    layer = made()
    x, residual, dy = inputs()
    step(layer, x, residual, dy)
    shape, other, error = WRONG[wrong]
    with pytest.raises(error):
        layer(torch.randn(shape), None if other is None else torch.randn(other))
    with pytest.raises(TypeError):
        layer(x.int())
    with pytest.raises(TypeError):
        layer(x, residual.double())
    with pytest.raises(TypeError):
        layer("x")


def test_a_parameter_of_another_size_is_refused():
    layer = made("batch")
    x, residual, dy = inputs()
    step(layer, x, residual, dy)
    layer.weight = torch.nn.Parameter(torch.ones(C + 1))
    with pytest.raises(ValueError, match="weight"):
        layer(x, residual)


def test_few_values():
    """What was recorded of many values may not do for one, and the other way round."""
    layer = made("batch")
    spy = Spy(layer)
    layer(torch.randn(4, C, 5, 3)), layer(torch.randn(4, C, 5, 3))
    layer(torch.randn(1, C, 5, 3))  # recorded anew
    assert layer(torch.randn(1, C, 5, 3)).shape == (1, C, 5, 3)
    assert spy.said == ["recorded", "replayed", "recorded", "replayed"]
    with pytest.raises(ValueError, match="more than one value"):
        layer(torch.randn(1, C, 1, 1))
    counted = layer.num_batches_tracked.clone()
    assert layer(torch.randn(0, C, 5, 3)).shape == (0, C, 5, 3)
    assert layer.num_batches_tracked == counted


def test_calls_in_turn_are_kept():
    layer = made()
    spy = Spy(layer)
    for _ in range(3):
        for training in (True, False):
            for dtype in (torch.float32, torch.bfloat16):
                layer.train(training)
                layer(inputs(dtype)[0])
    assert spy.said == ["recorded"] * 4 + ["replayed"] * 8


def test_backends_asked_for():
    layer = made()
    spy = Spy(layer)
    x, residual, _ = inputs()
    layer(x, residual), layer(x, residual)
    with fusednorm.use_backend("torch"):
        layer(x, residual), layer(x, residual)
    assert spy.said[:2] == ["recorded", "replayed"]
    assert "replayed" not in spy.said[2:]


@pytest.mark.parametrize("what", ["momentum=None", "a function of the user's", "a subclass", "over positions"])
def test_what_has_to_go_through_python(what):
    class Mine(fusednorm.BatchNorm2d):
        def standardization(self, x):
            return super().standardization(x)

    x, residual, dy = inputs()
    layer = {
        "momentum=None": lambda: fusednorm.BatchNorm2d(C, momentum=None),
        "a function of the user's": lambda: fusednorm.RepresentativeBatchNorm2d(C, restrict=torch.sigmoid),
        "a subclass": lambda: Mine(C),
        "over positions": lambda: fusednorm.NormalizationAttention(),
    }[what]()
    spy = Spy(layer)
    for _ in range(3):
        step(layer, x, residual, dy)
    assert "replayed" not in spy.said


def test_gradients_of_gradients():
    layer = made(act="silu").double()
    x, residual, _ = inputs(torch.float64, (3, C, 2, 2))
    layer(x, residual)
    x, residual = x.requires_grad_(), residual.requires_grad_()
    parameters = tuple(layer.parameters())

    def run(*_):
        layer.running_mean.zero_()
        return layer(x, residual)

    assert torch.autograd.gradcheck(run, (x, residual, *parameters))
    assert torch.autograd.gradgradcheck(run, (x, residual, *parameters), atol=1e-4)


def test_transforms_and_modes():
    layer = made().eval()
    x, residual, _ = inputs()
    expected = layer(x, residual).detach()
    layer(x, residual)
    spy = Spy(layer)

    def close(got):  # ours and plain PyTorch's roundings differ
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)

    close(torch.func.functional_call(layer, dict(layer.named_parameters()), (x, residual)).detach())
    torch.func.grad(lambda t: layer(t, residual).sum())(x)
    y, tangent = torch.func.jvp(lambda t: layer(t, residual), (x,), (x,))
    close(y.detach())
    assert tangent.abs().max() > 0
    close(torch.vmap(lambda a, b: layer(a[None], b[None])[0])(x, residual).detach())
    assert spy.said == ["replayed", "python", "python", "python"]

    names = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(str(func))
            return func(*args, **(kwargs or {}))

    with Seen():
        layer(x, residual)
    assert any("fusednorm.norm_forward" in name for name in names)
    fake = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        assert layer(fake.from_tensor(x), fake.from_tensor(residual)).shape == x.shape
    assert spy.said[4:] == ["python", "python"]


def test_compiled_after_eager():
    layer = made()
    x, residual, dy = inputs()
    twin = copy.deepcopy(layer)
    step(layer, x, residual, dy), step(layer, x, residual, dy)
    step(twin, x, residual, dy), step(twin, x, residual, dy)
    got = step(torch.compile(layer, fullgraph=True), x, residual, dy)
    for a, b in zip(got, step(twin, x, residual, dy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_profilers_see_it():
    layer = made()
    x, residual, dy = inputs()
    step(layer, x, residual, dy)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step(layer, x, residual, dy)
    names = {event.key for event in profile.key_averages()}
    assert {"fusednorm::norm_forward", "fusednorm::norm_backward"} <= names


@pytest.mark.parametrize("copied", ["deepcopy", "pickle"])
def test_copies(copied):
    layer = made()
    x, residual, dy = inputs()
    step(layer, x, residual, dy)
    other = copy.deepcopy(layer) if copied == "deepcopy" else pickle.loads(pickle.dumps(layer))
    spy = Spy(other)
    with torch.no_grad():
        other.weight.mul_(2)
    twin = in_python(layer)
    with torch.no_grad():
        twin.weight.mul_(2)
    for _ in range(2):
        for a, b in zip(step(other, x, residual, dy), step(twin, x, residual, dy), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert spy.said == ["recorded", "replayed"]
    assert "_replay" not in layer.state_dict()


def test_replaced_tensors_are_not_kept_alive():
    layer = made()
    x, residual, dy = inputs()
    step(layer, x, residual, dy), step(layer, x, residual, dy)
    gone = weakref.ref(layer.running_mean)
    layer.running_mean = torch.zeros(C)
    assert gone() is None


def test_written_over_after_use():
    """As everywhere: backward refuses inputs that have changed."""
    layer = made()
    x, residual, _ = inputs()
    layer(x, residual)
    x = x.requires_grad_().clone()
    y = layer(x, residual)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    used = layer(inputs()[0], residual)
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        used.sum().backward()


def test_running_statistics_count_as_written():
    layer = made()
    x, residual, _ = inputs()
    layer(x, residual)
    before = layer.running_mean._version, layer.num_batches_tracked._version
    layer(x, residual)
    after = layer.running_mean._version, layer.num_batches_tracked._version
    assert after > before
    assert after[1] > before[1]


def test_hooks_and_checkpoints():
    layer = made()
    x, residual, dy = inputs()
    expected = step(copy.deepcopy(layer), x, residual, dy)
    step(copy.deepcopy(layer), x, residual, dy)
    layer(x, residual)
    called = []
    layer.register_forward_hook(lambda *_: called.append("forward"))
    layer.register_full_backward_hook(lambda *_: called.append("backward"))
    x = x.requires_grad_()
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t):
        checkpoint(layer, x, residual, use_reentrant=False).backward(dy)
    assert called.count("backward") == 1
    torch.testing.assert_close(x.grad, expected[1], rtol=1e-5, atol=1e-5)


def test_threads_call_at_once():
    """The kernels run without Python's lock, while others record calls of the same layer."""
    layer = made().eval()
    shapes = [(n, C, 5, 3) for n in range(2, 8)]
    types = (torch.float32, torch.bfloat16)
    expected = {(shape, t): in_python(layer)(torch.ones(shape, dtype=t)) for shape in shapes for t in types}
    wrong = []

    def work(number):
        for i in range(200):
            shape = shapes[(number + i) % len(shapes)]
            dtype = types[i // 50 % 2]
            y = layer(torch.ones(shape, dtype=dtype))
            if not torch.equal(y, expected[shape, dtype]):
                wrong.append(shape)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_any_strides():
    layer = made("switchable")
    twin, spy = in_python(layer), Spy(layer)
    base = maps_like(4, 2 * C, 5, 6)
    half = base[:, :C]
    for view in (base[:, ::2], half[..., ::2], half.transpose(2, 3), channels_last(base)[:, :C], base[:, :C, :1, :1]):
        x = like(view, torch.float32)
        dy = torch.randn(x.shape)
        for a, b in zip(step(layer, x, None, dy), step(twin, x, None, dy), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
            assert a.stride() == b.stride()
    assert spy.said == ["recorded", *["replayed"] * 3, "recorded"], "one position may be too few"


def backward_through(layer, x, residual, dy, hold=False):
    """Gradients where dy is another operation's, and so nobody's else unless `hold`; and how many maps were made."""
    x, residual = x.detach().requires_grad_(), residual.detach().requires_grad_()
    held = []
    y = layer(x, residual)
    if hold:
        y.register_hook(held.append)
    z, wanted = y * dy, [x, residual, *layer.parameters()]
    ones = torch.ones_like(z)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        gradients = torch.autograd.grad(z, wanted, ones)
    made = sum(max(0, event.self_cpu_memory_usage) // x.nbytes for event in profile.events())
    if hold:
        assert torch.equal(held[0], dy)
    return gradients, made


@pytest.mark.parametrize("channels_inner", [False, True], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("act", ["relu", "silu", None])
@pytest.mark.parametrize("kind", ["batch", "attentive batch", "switchable"])
def test_dx_takes_the_place_of_a_dy_that_nobody_holds(kind, act, dtype, channels_inner):
    """Planes of about a hundred values, with a rest, and of more than a run of 4096."""
    for size in ((11, 13), (70, 71)):
        layer = made(kind, act)
        layer.to(torch.float64 if dtype == torch.float64 else torch.float32)
        twin = in_python(layer)
        x, residual, dy = inputs(dtype, (4, C, *size), channels_inner)
        layer(x, residual), twin(x, residual)
        held, all_maps = backward_through(layer, x, residual, dy, hold=True)
        free, maps = backward_through(layer, x, residual, dy)
        expected, _ = backward_through(twin, x, residual, dy)
        # of y * dy, and dx; with an activation dresidual too, without one it is dy, which dx must then not take
        assert (all_maps, maps) == ((2, 2) if act is None else (3, 2))
        for a, b, c in zip(held, free, expected, strict=True):
            assert torch.equal(a, b)
            torch.testing.assert_close(b, c, rtol=1e-6, atol=1e-6)


def test_a_dy_that_another_reads_is_left_alone():
    layer = made("batch")
    x, _, dy = inputs()
    x = x.requires_grad_()
    layer(x), layer(x)
    other = torch.randn_like(x, requires_grad=True)
    y = layer(x)
    total = (y + other) * dy  # both get the same gradient
    dx, dother = torch.autograd.grad(total, [x, other], torch.ones_like(total))
    assert torch.equal(dother, dy)
    assert dx.data_ptr() != dother.data_ptr()
    parts = torch.cat([layer(x), layer(x)], 1) * torch.cat([dy, dy], 1)  # views of one gradient
    (got,) = torch.autograd.grad(parts, x, torch.ones_like(parts))
    torch.testing.assert_close(got, 2 * dx, rtol=1e-4, atol=1e-4)
