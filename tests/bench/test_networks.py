import sys
from dataclasses import replace

import pytest
import torch

from bench import networks
from bench.names import Kind, Layer, Layout
from bench.networks import Case, Entrant, entrants, training_step

from .test_calls import PLAN

CASE = Case("mobilenetv2", networks.QUICK_IMAGES, Layout.channels_last, "cpu")


def test_entrants_have_a_place_and_compiled_ones_are_asked_for() -> None:
    plan = replace(PLAN, layers=(Layer.ge, Layer.an), quick=False)
    eager = [Entrant(Kind.fused, Layer.an, "torch"), Entrant(Kind.reference, Layer.an), Entrant(Kind.batch_norm)]
    assert entrants(plan) == eager
    extra = set(entrants(replace(plan, compile_networks=True))) - set(eager)
    assert extra == {Entrant(Kind.compiled, Layer.an), Entrant(Kind.compiled_batch_norm)}


def test_a_step_trains_and_keeps_no_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    models: list[torch.nn.Module] = []
    build = networks.MODELS["mobilenetv2"]
    monkeypatch.setitem(networks.MODELS, "mobilenetv2", lambda norms: models.append(build(norms)) or models[-1])
    step = training_step(CASE, Entrant(Kind.fused, Layer.an, "torch"))
    before = [parameter.detach().clone() for parameter in models[0].parameters()]
    step()
    changed = [not torch.equal(old, new) for old, new in zip(before, models[0].parameters(), strict=True)]
    assert all(changed)
    assert all(parameter.grad is None for parameter in models[0].parameters())


def test_quick_run() -> None:
    records = list(networks.run(PLAN))
    assert [record.name for record in records] == ["an torch", "an reference", "BatchNorm2d"]
    assert {record.network for record in records} == {"mobilenetv2"}
    assert all(record.median_ms is not None for record in records)
    assert list(records[-1].ratios) == ["an torch"], "the network's against BatchNorm's"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="others don't tell the peak")
def test_the_peak_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least the gradients, and the maps that are kept."""
    records = list(networks.measure(replace(PLAN, quick=False), CASE))
    gradients = 4 * 3_504_872
    for record in records:
        assert record.peak_bytes is not None
        assert record.peak_bytes > gradients
