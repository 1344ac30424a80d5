import gc
import sys
import time
from functools import partial
from mmap import PAGESIZE, mmap

import pytest

from bench.harness import Sample, Step, interleave, median_ratio, on_cpu, quartiles


def seconds(*values: float) -> list[Sample]:
    return [Sample(value, 0) for value in values]


def recorders(names: str, calls: list[str]) -> dict[str, Step]:
    """A contender for each letter, which notes that it was called."""
    return {name: partial(calls.append, name) for name in names}


def test_every_contender_runs_once_a_round() -> None:
    calls: list[str] = []
    samples = interleave(recorders("abc", calls), rounds=20, warmup=3)
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert len(rounds) == 23
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 20, "b": 20, "c": 20}


def test_the_order_changes_from_round_to_round_and_is_reproducible() -> None:
    def order(seed: int) -> list[str]:
        calls: list[str] = []
        interleave(recorders("abc", calls), rounds=30, warmup=0, seed=seed)
        return ["".join(calls[i : i + 3]) for i in range(0, len(calls), 3)]

    assert len(set(order(0))) == 6  # all the permutations turn up
    assert order(0) == order(0) != order(1)


def test_warmup_rounds_are_not_counted_and_samples_stay_with_their_round() -> None:
    clock = iter(range(100))  # each measurement costs one more than the one before

    def measure(step: Step) -> Sample:
        step()
        return Sample(next(clock), page_faults=0)

    samples = interleave({"a": int, "b": int}, rounds=4, warmup=2, measure=measure)
    by_round = [{int(a.seconds), int(b.seconds)} for a, b in zip(samples["a"], samples["b"], strict=True)]
    assert by_round == [{4, 5}, {6, 7}, {8, 9}, {10, 11}]


def test_no_garbage_collection_meanwhile_even_if_a_contender_fails() -> None:
    seen: list[bool] = []
    interleave({"a": lambda: seen.append(gc.isenabled())}, rounds=2)
    assert set(seen) == {False}
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        interleave({"a": lambda: 1 / 0}, rounds=2)
    assert gc.isenabled()


def test_the_wall_clock_times_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def step() -> None:
        nonlocal now
        now += 0.25

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert on_cpu(step).seconds == 0.25


@pytest.mark.skipif(sys.platform != "linux", reason="others count otherwise, or not at all")
def test_page_faults_are_those_of_the_call() -> None:
    pages = 2048

    def step() -> None:
        with mmap(-1, pages * PAGESIZE) as fresh:
            for page in range(pages):
                fresh[page * PAGESIZE] = 1

    assert on_cpu(int).page_faults < 10
    assert on_cpu(step).page_faults >= pages


def test_quartiles() -> None:
    assert quartiles(seconds(5.0, 1.0, 4.0, 2.0, 3.0)) == (2.0, 3.0, 4.0)
    assert quartiles(seconds(1.0, 3.0)) == (1.5, 2.0, 2.5)


def test_the_ratio_is_taken_within_each_round() -> None:
    # The machine runs at half speed in the middle round; the ratio is 3 in every one.
    assert median_ratio(seconds(3.0, 6.0, 3.3), seconds(1.0, 2.0, 1.1)) == pytest.approx(3.0)
    # It is no ratio of medians, which would be 2 / 2.
    assert median_ratio(seconds(1.0, 2.0, 9.0), seconds(2.0, 5.0, 1.0)) == 0.5


def test_contenders_with_different_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="longer"):
        median_ratio(seconds(1.0), seconds(1.0, 2.0))
