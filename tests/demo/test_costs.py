"""The demo's measuring instruments."""

import time

import pytest
import torch

from fusednorm.demo import allocator
from fusednorm.demo.costs import peak_memory, step_times

MEBIBYTE = 2**20


def test_step_times_tell_slow_from_fast() -> None:
    rounds = []
    steps = {"slow": lambda: time.sleep(0.02), "fast": lambda: None}
    times = step_times(steps, 3, on_round=lambda: rounds.append(1))
    assert times["slow"].median >= times["slow"].fastest >= 20 > times["fast"].fastest
    assert len(rounds) == 3


def test_peak_memory_counts_what_is_held_at_once() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.empty(MEBIBYTE, dtype=torch.uint8)

    def together() -> list[torch.Tensor]:
        return [torch.empty(MEBIBYTE, dtype=torch.uint8) for _ in range(3)]

    assert peak_memory(one_after_the_other) == MEBIBYTE
    assert peak_memory(together) == 3 * MEBIBYTE


def test_peak_memory_sees_backward() -> None:
    x = torch.ones(MEBIBYTE // 4, requires_grad=True)
    # The product and its gradient, at least, live at one time.
    assert peak_memory(lambda: torch.autograd.grad((x * x).sum(), x)) >= 2 * MEBIBYTE


def test_allocator_setting_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_is_glibc", lambda: True)
    for variable in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(variable, raising=False)
    assert allocator.describe().startswith("glibc")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    assert "MALLOC_TRIM_THRESHOLD_=123" in allocator.describe()
    monkeypatch.setenv("LD_PRELOAD", "/somewhere/libjemalloc.so.2")
    assert allocator.describe() == "LD_PRELOAD=libjemalloc.so.2"


def test_a_foreign_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/somewhere/libjemalloc.so.2")
    assert not allocator.keep_freed_memory()
