"""Schedule, mixup, label smoothing and averaged weights, by the formulas written out."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from examples.training.ema import Ema
from examples.training.mixup import Mixed, mix, mixed_loss
from examples.training.randomness import generator, restore, seed_process, states
from examples.training.schedule import learning_rate


def test_schedule() -> None:
    rates = [learning_rate(step, 10, 4, 0.8) for step in range(10)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == pytest.approx([0.4 * (1 + math.cos(math.pi * t / 6)) for t in range(6)])
    assert rates[4] == 0.8


def test_schedule_without_warm_up() -> None:
    assert learning_rate(0, 5, 0, 0.1) == 0.1
    assert 0 < learning_rate(4, 5, 0, 0.1) < 0.01


def test_mixup() -> None:
    images, labels = torch.randn(6, 3, 4, 4), torch.arange(6)
    mixed = mix(images, labels, 0.4, 2, 7)
    rng = generator(2, 7)
    share = rng.beta(0.4, 0.4)
    order = torch.from_numpy(rng.permutation(6))
    assert mixed.share == share
    torch.testing.assert_close(mixed.images, share * images + (1 - share) * images[order])
    assert torch.equal(mixed.partners, labels[order])
    assert mix(images, labels, 0.4, 2, 8).share != share


def test_mixup_s_shares_are_of_its_distribution() -> None:
    """Beta(a, a): mean 1/2, variance 1/(4(2a + 1))."""
    x, y = torch.zeros(2, 1), torch.zeros(2)
    shares = np.array([mix(x, y, 0.2, key).share for key in range(4000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * 1.4), rel=0.05)


def test_loss_of_mixed_and_smoothed_labels() -> None:
    logits, labels, partners = torch.randn(5, 7, dtype=torch.float64), torch.arange(5), torch.tensor([3, 3, 0, 6, 1])
    eye = torch.eye(7, dtype=torch.float64)
    target = 0.3 * eye[labels] + 0.7 * eye[partners]
    target = 0.9 * target + 0.1 / 7
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    got = mixed_loss(logits, Mixed(torch.empty(0), labels, partners, 0.3), 0.1)
    torch.testing.assert_close(got, expected)


def test_without_mixup_nothing_is_drawn_and_the_loss_is_plain() -> None:
    images, labels = torch.randn(4, 2), torch.arange(4)
    mixed = mix(images, labels, 0.0, 1)
    assert mixed.images is images
    logits = torch.randn(4, 4)
    assert torch.equal(mixed_loss(logits, mixed, 0.0), nn.functional.cross_entropy(logits, labels))


def test_averaged_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    ema = Ema(model, 0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in (1, 2, 30):
        model(torch.randn(4, 3))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            whole = not value.is_floating_point()
            expected[name] = value if whole else decay * expected[name] + (1 - decay) * value
    torch.testing.assert_close(dict(ema.model.state_dict()), expected)
    assert ema.model[1].num_batches_tracked == 3


def test_chance_can_be_put_back() -> None:
    import random

    def draw() -> list[float]:
        return [random.random(), np.random.rand(), np.random.randn(), torch.rand(()).item()]

    seed_process(3, rank=1)
    np.random.randn()  # leaves half of a pair behind
    stored = states()
    first = draw()
    restore(stored)
    assert draw() == first
    seed_process(3, rank=2)
    assert draw() != first


def test_generators_differ_by_every_part_of_the_key() -> None:
    keys = [(1, 2, 3), (1, 3, 2), (2, 2, 3), (1, 2, 3, 0)]
    assert len({generator(*key).integers(2**62) for key in keys}) == len(keys)
