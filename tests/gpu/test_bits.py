"""The same bits on every run, on any stream beside any other work, and on a second device."""

import pytest
import torch

import fusednorm
from tests.cases import FAMILIES, LAYERS, LAYOUTS
from tests.gpu.device import BACKENDS, OURS, gradients, layers, normal, same_bits

SHAPES = [(8, 32, 29, 31), (2, 3, 300, 500), (64, 256, 14, 14)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=["many planes", "large planes", "ResNet"])
@pytest.mark.parametrize("kind", [*LAYERS, *FAMILIES])
@pytest.mark.parametrize("backend", OURS)
def test_from_run_to_run(backend, kind, shape, layout):
    layer, _ = layers(kind, 4, shape[1], act="relu")
    maps = [normal(*shape, layout=layout) for _ in range(3)]
    with fusednorm.use_backend(backend):
        first = gradients(layer, *maps)
        for _ in range(10):
            assert same_bits(gradients(layer, *maps), first)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=["many planes", "large planes", "ResNet"])
@pytest.mark.parametrize("backend", OURS)
def test_concurrent_streams(backend, shape, layout):
    """Scratch memory or counters shared by streams would show."""
    steps = 20
    works = []
    for kind in ("attentive batch", "attentive group", "batch"):
        layer, _ = layers(kind, 4, shape[1], act="relu")
        works.append((layer, [normal(*shape, layout=layout) for _ in range(3)]))
    with fusednorm.use_backend(backend):
        serial = [gradients(layer, *maps) for layer, maps in works]
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in works]
        different = [torch.zeros((), dtype=torch.int64, device="cuda") for _ in works]
        torch.cuda.synchronize()
        for _ in range(steps):
            for (layer, maps), stream, expected, count in zip(works, streams, serial, different, strict=True):
                with torch.cuda.stream(stream):
                    for a, b in zip(gradients(layer, *maps), expected, strict=True):
                        count += (a != b).sum()
        torch.cuda.synchronize()
    assert [int(count) for count in different] == [0, 0, 0]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_second_device(backend, kind):
    """While the first is the current one."""
    import copy

    layer, _ = layers(kind, 4, 8, act="relu")
    maps = [normal(4, 8, 5, 3) for _ in range(3)]
    there = copy.deepcopy(layer).to("cuda:1")
    with fusednorm.use_backend(backend):
        expected = gradients(layer, *maps)
        found = gradients(there, *(m.to("cuda:1") for m in maps))
    assert all(t.device.index == 1 for t in found)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.to("cuda:0"), b)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
def test_tensors_on_two_devices_are_refused():
    layer, _ = layers("batch", 4, 8)
    with pytest.raises(ValueError, match="device"):
        layer(normal(4, 8, 5, 3, device="cuda:1"))
