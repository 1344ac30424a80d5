"""Copies: deepcopy in the middle of training and of compiled modules, pickle, torch.save of whole modules, processes.

Fresh layers: tests/modules/test_buffers.py.
"""

import copy
import io
import pickle

import pytest
import torch
import torch.multiprocessing

from tests.stack.layers import KINDS, OWN, assert_same_step, layer, maps, network, step


def saved_whole(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved_whole,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*KINDS, OWN])
def test_in_the_middle_of_training(kind, way):
    """A copy after calls goes on as the original does, and neither touches the other."""
    original = layer(kind)
    for _ in range(3):
        step(original, *maps())
    copied = WAYS[way](original)
    again = WAYS[way](original)
    inputs = maps()
    for _ in range(3):
        step(copied, *inputs)
    assert_same_step(again, original, *inputs, atol=0, rtol=0)
    for a, b in zip(copied.buffers(), original.buffers(), strict=True):
        assert a.data_ptr() != b.data_ptr()


def test_between_forward_and_backward():
    model = network()
    loss = model(torch.randn(4, 3, 8, 8)).square().sum()
    copied = copy.deepcopy(model)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert all(p.grad is None for p in copied.parameters())
    assert_same_step(copied, copy.deepcopy(model), torch.randn(4, 3, 8, 8), atol=0, rtol=0)


def test_compiled():
    """A compiled module's copy runs, and goes on by itself."""
    torch._dynamo.reset()
    eager = layer("attentive batch")
    compiled = torch.compile(eager, fullgraph=True, backend="eager")
    inputs = maps()
    step(compiled, *inputs)
    copied = copy.deepcopy(compiled)
    expected = copy.deepcopy(eager)
    assert_same_step(copied, expected, *inputs)
    assert int(eager.num_batches_tracked) == 1


def test_compiled_in_place():
    """module.compile()."""
    torch._dynamo.reset()
    eager = layer("switchable")
    compiled = copy.deepcopy(eager)
    compiled.compile(fullgraph=True, backend="eager")
    inputs = maps()
    assert_same_step(compiled, eager, *inputs)
    assert_same_step(copy.deepcopy(compiled), copy.deepcopy(eager), *inputs)


def _elsewhere(rank, model, x, found):
    """In a process of its own: the model comes pickled, its tensors in shared memory."""
    torch.set_num_threads(1)
    with torch.no_grad():
        found.copy_(model(x))


def test_spawned_process():
    """A model that has been called, shared with another process."""
    model, x = network(), torch.randn(4, 3, 8, 8)
    model(x)
    model.eval().share_memory()
    expected = model(x).detach()
    found = torch.zeros_like(expected).share_memory_()
    torch.multiprocessing.spawn(_elsewhere, (model, x, found), nprocs=1)
    torch.testing.assert_close(found, expected)
