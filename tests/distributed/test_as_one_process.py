"""k processes give what one gives with the whole batch."""

from __future__ import annotations

import pytest
import torch

from .layers import FLAT, LAYERS, Case, build, run_whole

EVEN, UNEVEN = (3, 3), (1, 4)
FOUR = (2, 0, 3, 1)  # one rank has no samples


def compare(processes, case, tolerance=1e-10, rtol=0.0):
    parts, whole = processes(len(case.split)).run("members", "run_part", case), run_whole(case)

    def same(got, expected, what):
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=rtol, msg=lambda m: f"{what}: {m}")

    for i, maps in enumerate(whole.maps):
        for j, expected in enumerate(maps):
            got = torch.cat([part.maps[i][j] for part in parts])
            same(got, expected, f"{('y', 'dx', 'dresidual')[j]} of step {i}")
    for name, expected in whole.gradients.items():
        same(sum(part.gradients[name] for part in parts), expected, f"gradient of {name}")
    for name, expected in whole.buffers.items():
        for part in parts:
            same(part.buffers[name], expected, name)
    assert all(part.gradients.keys() == whole.gradients.keys() for part in parts)
    return parts, whole


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("split", [UNEVEN, FOUR], ids=["uneven", "empty"])
def test_every_layer(processes, layer, split):
    compare(processes, Case(layer, split, act="relu", residual=True))


@pytest.mark.parametrize("layer", FLAT)
@pytest.mark.parametrize("plane", [(), (4,)], ids=["2-D", "3-D"])
def test_flat(processes, layer, plane):
    compare(processes, Case(layer, FOUR, plane=plane))


@pytest.mark.parametrize("layer", ["attentive", "switchable", "representative, both spatial", "batch, context"])
@pytest.mark.parametrize(
    "form",
    [
        {"act": "relu", "residual": True, "channels_last": True},
        {"act": "silu", "residual": True},
        {"residual": True},
        {"act": "relu"},
        {"act": "relu", "residual": True, "backend": "torch"},
    ],
    ids=lambda form: ", ".join(map(str, form.values())),
)
def test_forms(processes, layer, form):
    compare(processes, Case(layer, UNEVEN, **form))


@pytest.mark.parametrize(
    "layer", ["batch", "attentive", "switchable", "representative, spatial center", "batch, style"]
)
def test_large_mean(processes, layer):
    """float32 with a mean of 1e4 and a deviation of 1.5, held against one process in float64."""
    case = Case(layer, FOUR, dtype=torch.float32, offset=1e4, act="relu", residual=True)
    parts = processes(4).run("members", "run_part", case)
    whole, wide = run_whole(case), run_whole(case._replace(dtype=torch.float64))

    def as_good(got, own, expected):
        error, usual = ((t.double() - expected).abs().max() for t in (got, own))
        assert error <= 2 * usual + 1e-6 * expected.abs().max()

    for i, maps in enumerate(wide.maps):
        for j, expected in enumerate(maps):
            as_good(torch.cat([part.maps[i][j] for part in parts]), whole.maps[i][j], expected)
    for name, expected in wide.buffers.items():
        for part in parts:
            as_good(part.buffers[name], whole.buffers[name], expected)


@pytest.mark.parametrize("x_dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layer", ["batch", "attentive", "switchable"])
def test_16_bits(processes, layer, x_dtype):
    """Maps of 16 bits, parameters of 32: what is exchanged loses nothing, so values round alike but for a few."""
    case = Case(layer, UNEVEN, dtype=torch.float32, x_dtype=x_dtype, act="relu", residual=True, offset=3.0)
    parts, whole = processes(2).run("members", "run_part", case), run_whole(case)
    for i, maps in enumerate(whole.maps):
        for j, expected in enumerate(maps):
            got = torch.cat([part.maps[i][j] for part in parts])
            assert got.dtype == x_dtype
            torch.testing.assert_close(got, expected, rtol=2 * torch.finfo(x_dtype).eps, atol=1e-3)
    for name, expected in whole.buffers.items():
        torch.testing.assert_close(parts[0].buffers[name], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", ["batch", "attentive", "style", "representative, both spatial", "batch, context"])
@pytest.mark.parametrize("inplace", [False, True], ids=["", "inplace"])
def test_without_gradients(processes, layer, inplace):
    compare(processes, Case(layer, FOUR, act="relu", residual=True, gradients=False, inplace=inplace))


@pytest.mark.parametrize("layer", FLAT)
def test_one_value_a_rank(processes, layer):
    """Of which one process would say that it is too few to take statistics of."""
    compare(processes, Case(layer, (1, 1), plane=()))


@pytest.mark.parametrize(
    "layer",
    ["batch, cumulative", "attentive, cumulative", "attentive group", "switchable, style", "batch, embedded context"],
)
@pytest.mark.parametrize("plane", [(5, 3), (0, 3)], ids=["no samples", "no positions"])
def test_all_ranks_empty(processes, layer, plane):
    split = (0, 0) if plane[0] else (2, 1)
    parts = processes(2).run("members", "run_part", Case(layer, split, act="relu", residual=True, plane=plane))
    fresh = dict(build(Case(layer, split)).named_buffers())
    for part, samples in zip(parts, split, strict=True):
        for maps in part.maps:
            assert [t.shape for t in maps] == [(samples, 6, *plane)] * 3
        assert all(not g.any() for g in part.gradients.values())
        assert part.buffers.keys() == fresh.keys()
        assert all(torch.equal(part.buffers[name], fresh[name]) for name in fresh)


def test_the_comparison_sees_a_difference(processes):
    """Statistics of each process alone are others."""
    case = Case("batch", EVEN)
    alone, whole = processes(2).run("members", "run_alone", case), run_whole(case)
    assert (torch.cat([part.maps[0][0] for part in alone]) - whole.maps[0][0]).abs().max() > 1e-2
