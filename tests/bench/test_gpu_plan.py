import pytest

from bench.gpu.plan import STAGES, Stage, share

A, B, C = Stage("a", "", 100, 5), Stage("b", "", 50, 20), Stage("c", "", 50, 5)


def test_what_is_left_is_divided_by_weight() -> None:
    assert share(A, [B, C], 100) == 50
    assert share(B, [C], 100) == 50
    assert share(C, [], 100) == 100


def test_a_stage_gets_its_least_or_is_dropped() -> None:
    assert share(B, [A, A], 30) == 20
    assert share(B, [], 19.9) is None


@pytest.mark.parametrize("took", [0.1, 1.0])
def test_the_default_budget_reaches_every_stage(took: float) -> None:
    """Whether each takes a tenth of its share or all of it."""
    remaining = 540.0
    for number, stage in enumerate(STAGES):
        seconds = share(stage, STAGES[number + 1 :], remaining)
        assert seconds is not None, stage.name
        remaining -= took * seconds
    assert remaining >= -1e-6


def test_each_stage_is_a_module() -> None:
    import importlib

    for stage in STAGES:
        assert callable(importlib.import_module(f"bench.gpu.stage_{stage.name}").run)
