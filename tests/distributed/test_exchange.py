"""What is exchanged: how often, and for whom."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from .layers import LAYERS, TWO_ROUNDS, C, Case, batches, build, run_whole
from .test_as_one_process import FOUR, UNEVEN, compare


@pytest.mark.parametrize("layer", LAYERS)
def test_one_collective_a_direction(processes, layer):
    """Two where one half's statistics are of what the other's gave; and the host never waits for a value."""
    rounds = 2 if layer in TWO_ROUNDS else 1
    for split in (UNEVEN, (4, 0)):
        for forward, backward, waits in processes(2).run(
            "members", "counted", Case(layer, split, act="relu"), "training"
        ):
            assert forward == {"allgather_base": rounds}
            assert backward == {"allreduce": rounds}
            assert not waits


@pytest.mark.parametrize("what", ["no_grad", "frozen"])
@pytest.mark.parametrize("layer", ["batch", "attentive", "representative, function", "batch, context", "batch, style"])
def test_none_backward_without_gradients(processes, layer, what):
    rounds = 2 if layer in TWO_ROUNDS else 1
    for forward, backward, _ in processes(2).run("members", "counted", Case(layer, UNEVEN), what):
        assert (forward, backward) == ({"allgather_base": rounds}, {})


@pytest.mark.parametrize("layer", LAYERS)
def test_none_in_evaluation(processes, layer):
    """One process may evaluate alone, without running statistics too."""
    for forward, backward, _ in processes(2).run("members", "counted", Case(layer, UNEVEN), "evaluation"):
        assert (forward, backward) == ({}, {})


@pytest.mark.parametrize("how", ["copy", "pickle"])
def test_copies_of_a_layer_with_the_default_group(processes, how):
    assert all(processes(2).run("members", "same_twice", Case("attentive", UNEVEN), how))


def test_a_group_of_its_own(processes):
    case = Case("attentive", (2, 1, 0, 3), act="relu")
    said = processes(4).run("members", "with_own_group", case)
    torch.testing.assert_close(said[0][0].buffers, said[1][0].buffers, rtol=0, atol=0)
    for first in (0, 2):
        layer = build(case)
        for i, (x, _, dy) in enumerate(batches(case)):
            begin = sum(case.split[:first])
            here = slice(begin, begin + sum(case.split[first : first + 2]))
            own = x[here].requires_grad_()
            y = layer(own)
            y.backward(dy[here])
            got = [torch.cat([part.maps[i][j] for part, _ in said[first : first + 2]]) for j in (0, 1)]
            torch.testing.assert_close(got, [y.detach(), own.grad], rtol=0, atol=1e-10)
    assert all("process_group: expected the default group (None)" in text for _, text in said)


def test_a_group_of_others(processes):
    mine, others = processes(2).run("members", "group_of_others")
    assert mine == []
    assert len(others) == 3
    assert all("expected a group that this process (rank 1) is a member of" in text for text in others)


def test_one_group_for_a_layer(processes):
    for text in processes(2).run("members", "two_groups", Case("attentive", UNEVEN)):
        assert "process_group: expected one for standardization and recalibration" in text


def test_one_half_synchronized(processes):
    """The other's running statistics are as they are alone."""
    case = Case("attentive", UNEVEN, steps=1)
    whole, alone = run_whole(case), processes(2).run("members", "run_alone", case._replace(split=(2, 3)))
    both = processes(2).run("members", "one_half", case._replace(split=(2, 3)))
    for rank, halves in enumerate(both):
        for synchronized, name in zip(halves, ("running_var", "attention_norm.running_var"), strict=True):
            for other in ("running_var", "attention_norm.running_var"):
                expected = whole if other == name else alone[rank]
                torch.testing.assert_close(synchronized.buffers[other], expected.buffers[other], rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", ["batch", "attentive group", "switchable, attentive"])
def test_switching_a_recorded_layer(processes, layer):
    case = Case(layer, (3, 3), act="relu", steps=1)
    expected = run_whole(case._replace(residual=True)).maps[0][0].split(3)
    for rank, (first, second, third, fourth, fifth, sixth) in enumerate(processes(2).run("members", "switched", case)):
        assert torch.equal(first, second)
        assert torch.equal(first, fifth)
        assert torch.equal(first, sixth)
        assert torch.equal(third, fourth)
        assert not torch.allclose(first, third, atol=1e-3)
        torch.testing.assert_close(third, expected[rank], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "layer", ["batch", "attentive", "switchable", "representative, both spatial", "batch, context"]
)
def test_ranks_that_want_different_gradients(processes, layer):
    """torch.nn.SyncBatchNorm waits for ever where not all ranks' x wants a gradient."""
    case = Case(layer, UNEVEN, steps=1, residual=True)
    whole = run_whole(case)
    first, second = processes(2).run("members", "some_want_no_gradient", case)
    for name, expected in whole.gradients.items():
        torch.testing.assert_close(first[name] + second[name], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(second["x"], whole.maps[0][1].split(case.split)[1], rtol=0, atol=1e-10)


def test_average_statistics(processes):
    case = Case("switchable, batch average", FOUR, steps=3)
    means, variances = [], []
    for x, _, _ in batches(case):
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        means.append(mean)
        variances.append(variance)
    for mean, variance, count in processes(4).run("members", "averaged", case):
        torch.testing.assert_close(mean, sum(means) / 3, rtol=0, atol=1e-10)
        torch.testing.assert_close(variance, sum(variances) / 3, rtol=0, atol=1e-10)
        assert count == 3


def test_other_sizes_on_each_rank(processes):
    """A mean over all values: that of torch's BatchNorm over them in one row."""
    case, planes = Case("batch", (2, 0, 1, 3)), [(5, 3), (2, 2), (1, 1), (4, 7)]
    parts = processes(4).run("members", "uneven_planes", case, planes)
    own = [batches(case._replace(split=(n,), plane=plane))[0] for n, plane in zip(case.split, planes, strict=True)]
    x, dy = (torch.cat([batch[i].movedim(1, -1).reshape(-1, C) for batch in own]) for i in (0, 2))
    layer = nn.BatchNorm1d(C, dtype=torch.float64)
    layer.load_state_dict(build(case).state_dict())
    y = layer(x.requires_grad_())
    y.backward(dy)
    for i, expected in enumerate((y, x.grad)):
        got = torch.cat([part.maps[0][i].movedim(1, -1).reshape(-1, C) for part in parts])
        torch.testing.assert_close(got, expected.detach(), rtol=0, atol=1e-10)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(sum(part.gradients[name] for part in parts), p.grad, rtol=0, atol=1e-10)
    for name, buffer in layer.named_buffers():
        for part in parts:
            torch.testing.assert_close(part.buffers[name], buffer, rtol=0, atol=1e-10)


def attentive_of_pieces(layer, pieces):
    """AN eqs. 8-11 of maps of several sizes: the channels' statistics over all values, the attention's over samples."""
    values = torch.cat([x.movedim(1, -1).reshape(-1, C) for x in pieces])
    var, mu = torch.var_mean(values, 0, correction=0)
    scores = []
    for x in pieces:
        S = x[0, 0].numel()
        spread = x.var((2, 3), correction=1) if S > 1 else torch.zeros_like(x[:, :, 0, 0])
        scores.append(x.mean((2, 3)) / torch.sqrt(spread + layer.attention_eps) @ layer.attention.weight.t())
    norm = layer.attention_norm
    a = nn.functional.batch_norm(torch.cat(scores), None, None, norm.weight, norm.bias, training=True, eps=1e-5)
    gate, results = torch.clamp(a + 3, 0, 6) / 6, []
    for x, of_x in zip(pieces, gate.split([len(x) for x in pieces]), strict=True):
        x_hat = (x - mu[:, None, None]) / torch.sqrt(var + layer.eps)[:, None, None]
        weight, bias = (of_x @ t for t in (layer.weight, layer.bias))
        results.append(weight[:, :, None, None] * x_hat + bias[:, :, None, None])
    return results


def test_attention_over_other_sizes_on_each_rank(processes):
    case, planes = Case("attentive", (2, 0, 1, 3)), [(5, 3), (2, 2), (1, 1), (4, 7)]
    parts = processes(4).run("members", "uneven_planes", case, planes)
    own = [batches(case._replace(split=(n,), plane=plane))[0] for n, plane in zip(case.split, planes, strict=True)]
    pieces, layer = [x.requires_grad_() for x, _, _ in own if len(x)], build(case)
    results = attentive_of_pieces(layer, pieces)
    torch.autograd.backward(results, [dy for _, _, dy in own if len(dy)])
    there = [part for part, n in zip(parts, case.split, strict=True) if n]
    for part, x, y in zip(there, pieces, results, strict=True):
        torch.testing.assert_close(part.maps[0], [y.detach(), x.grad], rtol=0, atol=1e-10)
    for name, p in layer.named_parameters():
        torch.testing.assert_close(sum(part.gradients[name] for part in parts), p.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", ["attentive", "switchable, unbiased", "representative, std", "batch, style"])
def test_other_sizes_agree(processes, layer):
    """All ranks have the same running statistics, the one without samples too."""
    planes = [(5, 3), (2, 2), (1, 1), (4, 7)]
    parts = processes(4).run("members", "uneven_planes", Case(layer, (2, 0, 1, 3)), planes)
    for part in parts[1:]:
        torch.testing.assert_close(part.buffers, parts[0].buffers, rtol=0, atol=0)


def test_ratios_of_switchable_norm(processes):
    """Whose gradients the official synchronized code has wrong: it takes them of one process's statistics."""
    case = Case("switchable", (2, 1, 0, 3), steps=1)
    _, whole = compare(processes, case)
    alone = processes(4).run("members", "run_alone", case)
    for name in ("mean_weight", "var_weight"):
        wrong = sum(part.gradients[name] for part in alone)
        assert (wrong - whole.gradients[name]).abs().max() > 1e-2
