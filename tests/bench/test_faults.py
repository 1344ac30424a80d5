import os
from dataclasses import replace

import pytest

from bench import faults
from bench.allocator import is_glibc
from bench.harness import Sample
from bench.names import Dtype

from .test_calls import PLAN

pytestmark = pytest.mark.skipif(not is_glibc(), reason="glibc's settings")


def test_settings_are_whole_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "7")
    found = faults.settings()
    assert list(found) == ["default", "keep", "huge"]
    assert all(variables["PATH"] == os.environ["PATH"] for variables in found.values())
    assert ["MALLOC_TRIM_THRESHOLD_" in variables for variables in found.values()] == [False, True, False]
    assert ["GLIBC_TUNABLES" in variables for variables in found.values()] == [False, False, True]


def test_settled_after_rounds_in_a_row_without_faults() -> None:
    def rounds(*page_faults: int) -> list[faults.Round]:
        """Of two contenders; the default setting faults for ever."""
        return [
            {"default": {"a": Sample(1.0, 8704)}, "keep": {"a": Sample(1.0, count), "b": Sample(1.0, 0)}}
            for count in page_faults
        ]

    assert not faults.settled([])
    assert not faults.settled(rounds(0, 0, 0))
    assert faults.settled(rounds(8704, 0, 0, 2, 0))
    assert not faults.settled(rounds(0, 0, 0, 0, 0, 0, 8704, 0))


@pytest.mark.slow
def test_kept_memory_does_not_fault() -> None:
    """34 MiB: above what glibc by itself comes to keep."""
    plan = replace(PLAN, quick=False, rounds=9, layers=(), maps=(((2, 4, 1024, 1088), Dtype.float32),))
    records = {record.setting: record for record in faults.run(plan)}
    assert list(records) == ["default", "keep", "huge"]
    keep, default = records["keep"], records["default"]
    assert keep.page_faults is not None
    assert default.page_faults is not None
    assert keep.page_faults < 100 < default.page_faults
    assert keep.ratios == {}
    assert list(default.ratios) == ["BatchNorm2d"]
