"""gradcheck in float64, and gradients of gradients, on the device."""

import pytest
import torch

import fusednorm
from tests.cases import LAYERS, LAYOUTS, channels_last
from tests.gpu.device import BACKENDS, DEVICE, layers


def function_and_inputs(kind, layout, training, residual, act):
    """The layer as a function of x, residual and parameters. Statistics stay as they are."""
    fused, _ = layers(kind, 4, 4, act=act)
    fused.double().train(training)
    names = [name for name, _ in fused.named_parameters()]
    buffers = {name: buffer.clone() for name, buffer in fused.named_buffers()}
    maps = [torch.randn(3, 4, 2, 3, dtype=torch.float64, device=DEVICE) for _ in range(1 + residual)]
    maps = [channels_last(m) if layout == "channels_last" else m for m in maps]

    def call(*tensors):
        maps, parameters = tensors[: 1 + residual], tensors[1 + residual :]
        state = dict(zip(names, parameters, strict=True)) | {name: b.clone() for name, b in buffers.items()}
        return torch.func.functional_call(fused, state, maps)

    return call, [
        t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (*maps, *fused.parameters())
    ]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(("residual", "act"), [(False, None), (True, "relu"), (True, "silu"), (False, "gelu")], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend, kind, layout, residual, act, training):
    if backend != "cuda" and (act not in ("relu", "silu") or kind in ("batch", "group")):
        pytest.skip("the cuda backend meets everything, the others a part")
    call, inputs = function_and_inputs(kind, layout, training, residual, act)
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_gradients(backend, kind):
    call, inputs = function_and_inputs(kind, "nchw", True, True, "silu")
    with fusednorm.use_backend(backend):
        assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)
