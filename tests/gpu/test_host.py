"""What a call costs besides its kernels: no waiting for the GPU, few launches, no copies, little memory."""

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import fusednorm
from tests.cases import LAYERS, LAYOUTS
from tests.gpu.device import BACKENDS, DEVICE, gradients, layers, needs_cuda_backend, normal

MOST_LAUNCHES = 3  # a direction: two streaming passes and the head between them


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_waits_for_the_gpu(backend, kind, layout, training):
    """By torch's own account of its calls, and by the GPU's being still at work when the host is done."""
    layer = layers(kind, 4, 16, act="relu")[0].train(training)
    maps = [normal(8, 16, 28, 28, layout=layout) for _ in range(3)]
    with fusednorm.use_backend(backend):
        gradients(layer, *maps)  # what is compiled, loaded or cached is so now
        torch.cuda.synchronize()
        torch.cuda._sleep(200_000_000)  # about a tenth of a second
        torch.cuda.set_sync_debug_mode("error")
        try:
            gradients(layer, *maps)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        busy = not torch.cuda.current_stream().query()
        torch.cuda.synchronize()
    assert busy


def device_work(function):
    """Names of what ran on the GPU meanwhile."""
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        result = function()
        torch.cuda.synchronize()
    return result, [event.name for event in profiled.events() if event.device_type == DeviceType.CUDA]


@pytest.fixture(scope="module")
def profiler_works():
    x = torch.randn(8, device=DEVICE)
    device_work(lambda: x + x)  # the first start takes its time
    if not device_work(lambda: x + x)[1]:
        pytest.skip("torch.profiler sees no kernels here")


@needs_cuda_backend
@pytest.mark.parametrize("shape", [(2, 8, 4, 4), (32, 256, 56, 56), (2, 16, 512, 512)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_launches(profiler_works, kind, layout, shape):
    """Without running statistics, whose update is torch's."""
    options = {"track_running_stats": False} if "batch" in kind else {}
    layer, _ = layers(kind, 4, shape[1], act="relu", **options)
    x, residual, dy = (normal(*shape, layout=layout, dtype=torch.bfloat16) for _ in range(3))
    inputs = [x.requires_grad_(), residual.requires_grad_(), *layer.parameters()]
    with fusednorm.use_backend("cuda"):
        torch.autograd.grad(layer(x, residual), inputs, dy)
        y, forward = device_work(lambda: layer(x, residual))
        _, backward = device_work(lambda: torch.autograd.grad(y, inputs, dy))
    for names in (forward, backward):
        assert not [name for name in names if "memset" in name.lower() or "memcpy" in name.lower()], names
        assert 1 <= len(names) <= MOST_LAUNCHES, names


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torch"])
def test_memory(backend, kind):
    """At its peak a step holds y, the mask, dx and dresidual, and little else."""
    layer, _ = layers(kind, 4, 64, act="relu")
    x, residual, dy = (normal(16, 64, 112, 112) for _ in range(3))
    with fusednorm.use_backend(backend):
        gradients(layer, *(normal(2, 64, 8, 8) for _ in range(3)))
        gradients(layer, x, residual, dy)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        gradients(layer, x, residual, dy)
        torch.cuda.synchronize()
    maps = (torch.cuda.max_memory_allocated() - before) / x.nbytes
    assert maps <= 3 + 1 / 32 + 0.1
