import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from bench import memory
from bench.harness import Step
from bench.memory import peak_bytes, peak_meter, saved_bytes
from bench.names import Form

from .test_calls import PLAN, SMALL

MIB = 1 << 20
SLACK = MIB // 2  # the kernel counts pages for each CPU, and adds up now and then

linux = pytest.mark.skipif(sys.platform != "linux", reason="others don't tell the peak")


def allocating(*mib: int) -> Step:
    """A step that holds so many MiB one after the other, and native code's like its own."""

    def step() -> None:
        for size in mib:
            torch.ones(size * MIB, dtype=torch.uint8)

    return step


def convolving() -> Step:
    """8 MiB of input, and 8 of result; what the operator takes besides is native code's."""
    image, weight = torch.randn(1, 32, 256, 256), torch.randn(32, 32, 3, 3)
    return lambda: nn.functional.conv2d(image, weight, padding=1)


@linux
def test_the_peak_is_the_largest_of_what_is_held_at_once() -> None:
    with peak_meter("cpu", 1) as peak:
        assert peak(allocating, 24, 8) == pytest.approx(24 * MIB, abs=SLACK)
        assert peak(allocating, 2) == pytest.approx(2 * MIB, abs=SLACK), "the one before is forgotten"
        assert peak(allocating) == pytest.approx(0, abs=SLACK)
        grown = peak(convolving)
        assert grown is not None
        assert grown >= 8 * MIB - SLACK, "allocated in C++"


def test_no_peak_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_FORGET", Path("/nowhere/clear_refs"))
    assert peak_bytes(allocating(1)) is None


def test_each_storage_counts_once_and_the_models_not() -> None:
    x = torch.randn(4, 8, requires_grad=True)
    linear = nn.Linear(8, 8)

    def call(x: torch.Tensor) -> torch.Tensor:
        return linear(x) + x * x + x.relu()

    model = list(linear.parameters())
    relu = x.nbytes  # its output
    assert saved_bytes(call, [x], model) == x.nbytes + relu
    assert saved_bytes(call, [x]) == x.nbytes + relu + linear.weight.nbytes
    with torch.no_grad():
        assert saved_bytes(call, [x], model) == 0


def test_records() -> None:
    """nn.BatchNorm2d keeps x and the batch's statistics; in place, ReLU keeps the output of BatchNorm."""
    records = {(record.name, record.form): record for record in memory.run(PLAN)}
    assert {name for name, _ in records} == {"an torch", "an reference", "BatchNorm2d"}
    for form, maps in ((Form.bare, 1), (Form.residual_relu, 2)):
        batch_norm = records["BatchNorm2d", form.value]
        x = 4 * math.prod(SMALL)
        assert batch_norm.bytes_of_x == x
        assert batch_norm.saved_bytes == maps * x + 2 * SMALL[1] * 4
        if sys.platform == "linux":
            assert batch_norm.peak_bytes is not None
    fused, reference = records["an torch", "bare"], records["an reference", "bare"]
    assert fused.saved_bytes is not None
    assert reference.saved_bytes is not None
    assert fused.saved_bytes < reference.saved_bytes
