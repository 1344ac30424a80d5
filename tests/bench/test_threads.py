from dataclasses import replace

import pytest
import torch

from bench import threads
from bench.threads import OnThreads, on_its_threads

from .test_calls import PLAN


def test_a_step_runs_on_its_threads_and_the_first_call_is_not_timed() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    for count in (2, 1):
        on_its_threads(OnThreads(lambda: seen.append(torch.get_num_threads()), count))
    assert seen == [2, 2, 1, 1]
    assert torch.get_num_threads() == before


def test_the_speed_up_is_the_ratio_to_the_same_on_all_threads() -> None:
    records = list(threads.run(replace(PLAN, threads=2)))
    assert [(r.name, r.threads) for r in records] == [
        (name, count) for name in ("an torch", "BatchNorm2d", "copy") for count in (1, 2)
    ]
    for one, two in zip(records[::2], records[1::2], strict=True):
        assert one.median_ms is not None
        assert two.median_ms is not None
        assert list(one.ratios) == [one.name]
        assert two.ratios == {}
        assert (one.copy_gb_per_s is not None) == (one.name == "copy")


@pytest.mark.parametrize("other", [{"threads": 1}, {"device": "cuda"}])
def test_nothing_to_compare(other: dict[str, object]) -> None:
    assert list(threads.run(replace(PLAN, **other))) == []  # type: ignore[arg-type]
