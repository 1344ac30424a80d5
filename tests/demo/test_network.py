"""The demo's networks: one architecture, one start, different norms."""

import pytest
import torch

from fusednorm.demo.agreement import compare
from fusednorm.demo.contenders import BATCH_NORM, CONTENDERS, FUSED, REFERENCE, Contender, build

CLASSES = 5


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.title)
def test_logits(contender: Contender) -> None:
    logits = build(contender, CLASSES, seed=0)(torch.randn(4, 1, 32, 32))
    assert logits.shape == (4, CLASSES)
    assert logits.isfinite().all()


def test_attentive_networks_start_from_the_same_state() -> None:
    reference, fused = (build(contender, CLASSES, seed=1).state_dict() for contender in (REFERENCE, FUSED))
    assert list(reference) == list(fused)
    for key, value in reference.items():
        assert torch.equal(value, fused[key]), key


def test_batch_norm_network_starts_from_the_same_convolutions() -> None:
    reference = build(REFERENCE, CLASSES, seed=1)
    plain = dict(build(BATCH_NORM, CLASSES, seed=1).named_parameters())
    for name, parameter in reference.named_parameters():
        if "conv" in name or "stem" in name or "classifier" in name:
            assert torch.equal(parameter, plain[name]), name


def test_seeds_differ() -> None:
    first, second = (build(FUSED, CLASSES, seed).stem.weight for seed in (0, 1))
    assert not torch.equal(first, second)


def test_fused_network_agrees_with_the_reference() -> None:
    torch.manual_seed(0)
    crops, labels = torch.randn(8, 1, 32, 32), torch.arange(8) % CLASSES
    for agreement in compare(build(REFERENCE, CLASSES, 0), build(FUSED, CLASSES, 1), crops, labels):
        assert agreement.relative < 1e-3, agreement
        # No further from the truth than a few times what rounding does to the reference.
        assert agreement.fused_error < 10 * agreement.reference_error + 1e-6, agreement
