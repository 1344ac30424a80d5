"""In networks under DistributedDataParallel and fully_shard, under torch.compile, and gradients of gradients."""

from __future__ import annotations

import pytest
import torch

from .layers import Case, batches, build, run_whole
from .members import gradients_twice, trained_alone

UNEVEN, FOUR = (1, 4), (2, 0, 3, 1)


def same_state(states, expected):
    for state in states:
        assert state.keys() == expected.keys()
        for name, t in expected.items():
            torch.testing.assert_close(state[name], t, rtol=0, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("broadcast_buffers", [True, False])
@pytest.mark.parametrize("layer", ["attentive", "switchable"])
def test_data_parallel(processes, layer, broadcast_buffers):
    """Trained on 4 processes a network is what it is trained on one."""
    case = Case(layer, FOUR, act="relu", steps=3)
    same_state(processes(4).run("members", "trained_in_parallel", case, broadcast_buffers), trained_alone(case))


def test_sharded(processes):
    case = Case("attentive", UNEVEN, act="relu", steps=3)
    same_state(processes(2).run("members", "trained_in_shards", case), trained_alone(case))


@pytest.mark.parametrize(
    ("layer", "backend"),
    [
        pytest.param("attentive", "inductor", marks=pytest.mark.slow),
        ("attentive", "aot_eager"),
        ("switchable", "aot_eager"),
        ("representative, both spatial", "aot_eager"),
        ("batch, style", "aot_eager"),
        ("batch, context", "aot_eager"),
        ("batch, cumulative", "aot_eager"),
        ("representative, function", "aot_eager"),
    ],
)
def test_compiled(processes, layer, backend):
    """One graph, of which the exchanges are a part."""
    case = Case(layer, (2, 3), act="relu", residual=True)
    for compiled, eager in processes(2).run("members", "compiled", case, backend):
        torch.testing.assert_close(compiled.maps, eager.maps, rtol=0, atol=1e-10)


def test_compiled_with_a_group_of_its_own(processes):
    case = Case("attentive", (2, 3), act="relu")
    for compiled, eager in processes(2).run("members", "compiled", case, "aot_eager", True):
        torch.testing.assert_close(compiled.maps, eager.maps, rtol=0, atol=1e-10)


@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "non-reentrant"])
@pytest.mark.parametrize("layer", ["attentive", "batch, context", "representative, both spatial"])
def test_checkpointed(processes, layer, reentrant):
    """Also where a rank has no samples."""
    case = Case(layer, FOUR, act="relu", residual=True)
    parts, whole = processes(4).run("members", "checkpointed", case, reentrant), run_whole(case)
    for i, maps in enumerate(whole.maps):
        for j, expected in enumerate(maps):
            torch.testing.assert_close(torch.cat([part.maps[i][j] for part in parts]), expected, rtol=0, atol=1e-10)
    for name, expected in whole.gradients.items():
        torch.testing.assert_close(sum(part.gradients[name] for part in parts), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
@pytest.mark.parametrize("layer", ["attentive", "representative, both spatial"])
def test_exported(processes, layer, strict):
    """A program that trains: its exchanges have a way back too."""
    case = Case(layer, (2, 3), residual=True)
    for program, eager in processes(2).run("members", "exported", case, strict):
        torch.testing.assert_close(program, eager, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", ["batch", "attentive", "switchable", "representative, function", "batch, style"])
def test_gradients_of_gradients(processes, layer):
    case = Case(layer, FOUR, steps=1)
    expected = gradients_twice(build(case), *batches(case)[0])
    found = processes(4).run("members", "twice", case)
    torch.testing.assert_close(torch.cat([part[0] for part in found]), expected[0], rtol=0, atol=1e-10)
    for i, gradient in enumerate(expected[1:], 1):
        torch.testing.assert_close(sum(part[i] for part in found), gradient, rtol=0, atol=1e-10)


def test_transforms_raise(processes):
    for said in processes(2).run("members", "transformed", Case("attentive", UNEVEN)):
        assert len(said) == 3
        assert all("sync: expected no torch.func transform" in text for text in said)
