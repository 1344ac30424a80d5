"""The stage that runs pytest: a test that takes the process with it takes no other test."""

import time
from pathlib import Path

import pytest

from bench.gpu import stage_tests
from bench.gpu.records import Log, Record, read
from bench.gpu.setting import Setting

TESTS = """
import os, pytest

def test_passes(): pass

def test_crashes(): os._exit(3)

def test_fails(): assert 1 == 2

@pytest.mark.skip(reason="because")
def test_skipped(): pass

def test_last(): pass
"""


def outcome(folder: Path, tests: str, seconds: float) -> Record:
    (folder / "test_some.py").write_text(tests)
    path = folder / "records.jsonl"
    until = time.monotonic() + seconds
    stage_tests.run(Setting(folder, Log(path, "tests"), until, dry=True, quick=False, commit=""), folder)
    return read(path)[-1]


def test_a_crash_is_told_and_the_rest_is_run(tmp_path: Path) -> None:
    found = outcome(tmp_path, TESTS, seconds=60)
    assert found["counts"] == {"passed": 2, "crashed": 1, "failed": 1, "skipped": 1}
    assert found["not_run"] == 0
    assert {item["test"].partition("::")[2] for item in found["failed"]} == {"test_crashes", "test_fails"}


def test_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_tests, "MARGIN_S", 60.0)  # a slow start must not end it
    tests = """
import time
from bench.gpu.recorder import UNTIL

def test_a(): time.sleep(max(0, UNTIL - time.monotonic()) + 0.1)

def test_b(): pass
"""
    found = outcome(tmp_path, tests, seconds=61)
    assert found["counts"] == {"passed": 1}
    assert found["not_run"] == 1
