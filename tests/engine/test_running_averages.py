"""Replayed calls update running statistics to the same bits as calls through Python: a training that is resumed makes
its first call, which is not replayed, at another step."""

import pytest
import torch

import fusednorm
from fusednorm.engine import eager

pytestmark = pytest.mark.skipif(eager._eager is None, reason="no replayed calls without the extension")


@pytest.mark.parametrize("momentum", [0.1, 0.003, 0.5, 0.9, 1.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 7, 64, 203])
def test_same_bits(momentum, dtype, channels):
    torch.manual_seed(0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    replayed, recorded = (fusednorm.AttentiveBatchNorm2d(channels, 3, momentum=momentum, dtype=wide) for _ in range(2))
    recorded.load_state_dict(replayed.state_dict())
    recorded._replay = None
    for step in range(4):
        x = (torch.randn(3, channels, 5, 5) * (step + 1) + step).to(dtype)
        replayed(x), recorded(x)
        for (name, own), other in zip(replayed.named_buffers(), recorded.buffers(), strict=True):
            assert torch.equal(own, other), (step, name)


def test_the_calls_were_replayed(monkeypatch):
    layer, x = fusednorm.BatchNorm2d(3), torch.randn(2, 3, 4, 4)
    layer(x)
    monkeypatch.setattr(type(layer), "standardization", lambda *_: pytest.fail("through Python"))
    layer(x)
