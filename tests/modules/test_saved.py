"""What is kept for backward: x, N×C tensors, and with residual and activation together the mask or the residual."""

import itertools

import pytest
import torch

import fusednorm
from tests.cases import ACTS, BACKENDS, FAMILIES, LAYERS, LAYOUTS, channels_last, drawn, laid_out, pair

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


@pytest.mark.parametrize(
    ("backend", "kind", "layout", "residual", "act"),
    list(drawn(itertools.product(FAMILIES, LAYOUTS, (False, True), ("relu", "silu", None)), cuda=0)),
)
def test_saved_by_further_layers(backend, kind, layout, residual, act):
    """Likewise; values per position are known too in layers that look at them, and spatial RBN has no mask."""
    layer, _ = pair(kind, 4, C, act=act)
    x, other = (laid_out(torch.randn(N, C, H, W), layout).requires_grad_() for _ in range(2))
    with fusednorm.use_backend(backend):
        kept = saved_bytes(layer, x, other if residual else None)
    assert kept.pop("x") == x.nbytes
    spatial = kind == "representative spatial"
    keeps_residual = residual and (act == "silu" or (spatial and act is not None))
    assert kept.pop("residual", None) == (x.nbytes if keeps_residual else None)
    masks = [size for size in kept.values() if size == x.numel() // 8]
    assert len(masks) == (residual and act == "relu" and not spatial), "one bit a value"
    small = sum(kept.values()) - sum(masks)
    per_position = 4 if spatial else 2 if "normalization attention" in kind else 0
    assert small <= 8 * N * C * 8 + per_position * N * H * W * 4, "at most eight N×C tensors and so many N×S"


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_without_gradients(backend):
    layer, _ = pair("attentive batch", 4, C, act="relu")
    x = torch.randn(N, C, H, W)
    with fusednorm.use_backend(backend), torch.no_grad():
        assert saved_bytes(layer, x, x.clone()) == {}
        assert not layer(x).requires_grad
