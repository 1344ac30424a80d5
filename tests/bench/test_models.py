from collections import Counter

import pytest
import torch
from torch import Tensor, nn

import fusednorm
from bench.models import MODELS
from bench.names import Layer
from bench.norms import PLACES, batch_norms, fused_norms, reference_norms
from bench.shapes import layer_counts


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("network", "published"), [("resnet50", 25_557_032), ("mobilenetv2", 3_504_872), ("densenet121", 7_978_856)]
)
def test_the_networks_are_the_published_ones(network: str, published: int) -> None:
    assert parameters(MODELS[network](batch_norms)) == published


@pytest.mark.parametrize(
    ("network", "layer", "published"),
    [
        ("resnet50", Layer.an, 25_755_420),
        ("densenet121", Layer.an, 8_342_288),
        ("mobilenetv2", Layer.an, 3_672_760),  # the official configuration's; the paper prints 3.56M
        ("resnet50", Layer.se_bn, 28_088_024),
        ("resnet50", Layer.sn, 25_557_350),
        ("resnet50", Layer.rbn, 25_636_712),
        ("mobilenetv2", Layer.rbn, 3_556_040),
    ],
)
def test_layers_stand_where_their_papers_put_them(network: str, layer: Layer, published: int) -> None:
    assert parameters(MODELS[network](fused_norms(layer))) == published
    assert parameters(MODELS[network](reference_norms(layer))) == published


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        *[("mobilenetv2", layer) for layer in PLACES],
        ("resnet50", Layer.bn),
        ("resnet50", Layer.an),
        ("densenet121", Layer.an),
    ],
)
def test_fused_and_reference_networks_agree(network: str, layer: Layer) -> None:
    fused, reference = MODELS[network](fused_norms(layer)).double(), MODELS[network](reference_norms(layer)).double()
    reference.load_state_dict(fused.state_dict())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    results = []
    for model in (fused, reference):
        y = model(x)
        results.append((y, *torch.autograd.grad(y.sin().sum(), list(model.parameters()))))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


class Recorder(nn.Module):
    """A norm that only notes what it is called with."""

    def __init__(self, seen: Counter[tuple[int, ...]]) -> None:
        super().__init__()
        self.seen = seen

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        self.seen[tuple(x.shape)] += 1
        return x


@pytest.mark.parametrize("network", MODELS)
def test_the_table_of_shapes_is_what_the_norms_see(network: str) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    with torch.device("meta"):
        MODELS[network](lambda site: Recorder(seen))(torch.empty(8, 3, 224, 224))
    assert seen == layer_counts(network, 8)


def test_residual_and_activation_are_folded_into_every_fused_norm() -> None:
    model = MODELS["resnet50"](fused_norms(Layer.an))
    kinds = {type(module) for module in model.modules()}
    assert fusednorm.BatchNorm2d in kinds
    assert fusednorm.AttentiveBatchNorm2d in kinds
    assert not kinds & {nn.ReLU, nn.BatchNorm2d}


def test_a_layer_without_a_place_is_named() -> None:
    with pytest.raises(ValueError, match="layer: ge has no place in a network; choose from an, bn, rbn"):
        fused_norms(Layer.ge)
