"""CUDA's events and clock, played by stand-ins."""

from types import SimpleNamespace

import pytest
import torch

from bench.gpu import timing
from bench.gpu.stage_host import many_calls


class Event:
    """Notes its place in the queue; a millisecond a place."""

    def __init__(self, queue: list[str]) -> None:
        self.queue = queue

    def record(self) -> None:
        self.at = len(self.queue)
        self.queue.append("event")

    def synchronize(self) -> None:
        self.queue.append("wait")

    def elapsed_time(self, end: "Event") -> float:
        return float(end.at - self.at)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    queue: list[str] = []
    gpu = SimpleNamespace(clock_rate=1_000_000, L2_cache_size=50 << 20)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(queue))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: queue.append(f"spin {cycles}"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: queue.append("wait"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    return queue


def test_a_step_is_timed_between_events_behind_a_spin(queue: list[str]) -> None:
    sample = timing.on_gpu(1e-3)(lambda: queue.append("step"))
    assert queue == ["spin 1000000", "event", "step", "event", "wait"]
    assert sample.seconds == 2e-3


def test_steps_are_called_before_they_are_measured(queue: list[str]) -> None:
    measure = timing.measure_for("cuda", {"a": lambda: queue.append("a"), "b": lambda: queue.append("b")})
    assert queue.count("a") == queue.count("b") == timing.SETTLE + 3
    assert measure(lambda: None).seconds == 1e-3


def test_enough_sets_of_inputs_to_outgrow_the_cache(queue: list[str]) -> None:
    assert timing.sets_needed("cuda", 400 << 20) == 2
    assert timing.sets_needed("cuda", 10 << 20) == 15
    assert timing.sets_needed("cuda", 1) == timing.MOST_SETS
    assert timing.sets_needed("cpu", 1) == 1


def test_in_turn() -> None:
    calls: list[int] = []
    step = timing.in_turn([lambda: calls.append(0), lambda: calls.append(1)])
    for _ in range(3):
        step()
    assert calls == [0, 1, 0]


def test_many_calls_count_as_one_sample(queue: list[str]) -> None:
    sample = many_calls("cuda", 4)(lambda: queue.append("call"))
    assert queue == ["wait", *["call"] * 4, "wait"]
    assert 0 <= sample.seconds < 1
