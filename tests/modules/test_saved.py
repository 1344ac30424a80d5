"""What is kept for backward: x, N×C tensors, and with residual and activation together the mask or the residual."""

import pytest
import torch

import fusednorm
from tests.cases import ACTS, BACKENDS, LAYERS, channels_last, pair

N, C, H, W = 3, 16, 16, 32


def saved_bytes(layer, x, residual):
    """Name -> bytes of the storages kept, x and residual by name, parameters and buffers left out."""
    known = {x.untyped_storage().data_ptr(): "x"}
    if residual is not None:
        known[residual.untyped_storage().data_ptr()] = "residual"
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    kept = {}

    def pack(t):
        address = t.untyped_storage().data_ptr()
        if address not in own and t.numel():
            kept[known.get(address, address)] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x, residual)
    return kept


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("layout", ["nchw", "channels_last"])
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_saved(backend, kind, layout, residual, act):
    layer, _ = pair(kind, 4, C, act=act)
    make = channels_last if layout == "channels_last" else (lambda t: t)
    x = make(torch.randn(N, C, H, W)).requires_grad_()
    other = make(torch.randn(N, C, H, W)).requires_grad_() if residual else None
    with fusednorm.use_backend(backend):
        kept = saved_bytes(layer, x, other)
    assert kept.pop("x") == x.nbytes
    smooth, masked = act in ("silu", "hardswish", "gelu"), act in ("relu", "relu6", "leaky_relu")
    assert kept.pop("residual", None) == (x.nbytes if residual and smooth else None)
    masks = [size for size in kept.values() if size == x.numel() // 8]
    assert len(masks) == (residual and masked), "one bit a value"
    small = sum(kept.values()) - sum(masks)
    assert small <= 8 * N * C * 8, "at most eight N×C tensors"


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_without_gradients(backend):
    layer, _ = pair("attentive batch", 4, C, act="relu")
    x = torch.randn(N, C, H, W)
    with fusednorm.use_backend(backend), torch.no_grad():
        assert saved_bytes(layer, x, x.clone()) == {}
        assert not layer(x).requires_grad
