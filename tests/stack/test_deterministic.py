"""Deterministic mode: no error, and the same bits on every run."""

import contextlib
import copy

import pytest
import torch

from tests.stack.layers import KINDS, OWN, layer, maps, network, step


@contextlib.contextmanager
def deterministic(warn_only=False, threads=2):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("warn_only", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_layer(kind, warn_only):
    """Outputs that torch fills with NaN in this mode (torch.utils.deterministic.fill_uninitialized_memory) are all
    written over."""
    eager, inputs = layer(kind), maps(4, 8, 33, 21)
    with deterministic(warn_only):
        first, second = (step(copy.deepcopy(eager), *inputs) for _ in range(2))
    plain = step(eager, *inputs)
    for a, b, c in zip(first, second, plain, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)


def trained(steps=4):
    torch.manual_seed(3)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(6, 3, 16, 15)).square().mean().backward()
        optimizer.step()
    return model.state_dict()


def test_training_twice():
    """A network trained twice from one seed, on two threads: the same bits in every parameter and buffer."""
    with deterministic():
        first, second = trained(), trained()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(t.isfinite().all() for t in first.values())
