"""What CUDA graphs need, so far as it can be seen without a GPU: nothing in a step waits for a value on the host.

tests/gpu/test_graphs.py captures and replays; it has never run on a GPU.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import fusednorm
from tests.stack.layers import KINDS, OVER_BATCH, OWN, layer


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_no_value_is_read(kind, backend, training):
    """A step on fake tensors, which have no values: forward, backward and running statistics."""
    if not fusednorm.backends()[backend].available:
        pytest.skip(f"{backend}: not here")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, fusednorm.use_backend(backend):
        module = _fake(layer, kind, mode).train(training)
        x, residual = (torch.empty(4, 8, 6, 5).requires_grad_() for _ in range(2))
        module(x, residual).sum().backward()
        assert x.grad.shape == x.shape
        with pytest.raises(DataDependentOutputException):
            x.sum().item()


def _fake(make, kind, mode):
    with torch.utils._python_dispatch._disable_current_modes():
        module = make(kind)
    for holder in module.modules():
        for name, p in list(holder._parameters.items()):
            if p is not None:
                holder._parameters[name] = torch.nn.Parameter(mode.from_tensor(p.detach()))
        for name, b in list(holder._buffers.items()):
            if b is not None:
                holder._buffers[name] = mode.from_tensor(b)
    return module


@pytest.mark.parametrize("kind", OVER_BATCH)
def test_statistics_stay_where_they_are(kind):
    """Replay writes to the memory that was captured: updates are in place, counters and momentum=None's factor too."""
    module = layer(kind)
    for m in module.modules():
        if hasattr(m, "momentum"):
            m.momentum = None
    where = [b.data_ptr() for b in module.buffers()]
    for _ in range(3):
        module(torch.randn(4, 8, 6, 5))
    assert [b.data_ptr() for b in module.buffers()] == where
    assert all(int(b) == 3 for name, b in module.named_buffers() if name.endswith("num_batches_tracked"))
