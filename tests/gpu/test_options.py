"""Activations, residuals, modes and every choice of the attention, on the cuda backend; a few on Triton."""

import pytest
import torch

import fusednorm
import fusednorm.reference
from tests.cases import ACTS, ATTENTION, LAYOUTS, MAPS, assert_twice_as_good, three_ways
from tests.gpu.device import BACKENDS, DEVICE, compare

MOST = [name for name in BACKENDS if name == "cuda"]
OTHERS = [name for name in BACKENDS if name != "cuda"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("backend", MOST)
def test_activations(backend, act, residual, layout, dtype):
    compare(backend, "attentive batch", MAPS[layout], dtype, act=act, residual=residual)


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("act", [None, "leaky_relu", "gelu"])
@pytest.mark.parametrize("backend", OTHERS)
def test_some_activations(backend, act, residual):
    compare(backend, "attentive batch", MAPS["nchw"], torch.float32, act=act, residual=residual)


@pytest.mark.parametrize(("attention_input", "attention_norm", "attention_act"), ATTENTION)
@pytest.mark.parametrize("kind", ["attentive batch", "attentive group"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_attention(backend, training, kind, attention_input, attention_norm, attention_act):
    """The same streaming kernels for all choices: Triton has none to compile anew."""
    compare(
        backend,
        kind,
        MAPS["nchw"],
        torch.float32,
        training,
        draws=4 if backend == "cuda" else 2,
        attention_input=attention_input,
        attention_norm=attention_norm,
        attention_act=attention_act,
        act="relu",
    )


@pytest.mark.parametrize("components", [1, 3, 20, 64])
@pytest.mark.parametrize("channels", [1, 5, 300, 2048])
@pytest.mark.parametrize("backend", MOST)
def test_sizes_of_the_attention(backend, channels, components):
    """The head alone decides: a few positions."""
    torch.manual_seed(1)
    fused, plain = (ns.AttentiveBatchNorm2d(channels, components) for ns in (fusednorm, fusednorm.reference))
    plain.load_state_dict(fused.state_dict())
    draws = three_ways(
        backend, fused, plain, lambda: torch.randn(16, channels, 3, 5), torch.float32, residual=False, device=DEVICE
    )
    assert_twice_as_good(draws, torch.float32)
