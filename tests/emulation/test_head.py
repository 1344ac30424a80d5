"""The GPU's head against the CPU's: all options, and every kind of team that goes through it together."""

from __future__ import annotations

import subprocess

import pytest

from .build import HERE, ROOT, build, run_environment, unavailable

pytestmark = [pytest.mark.slow, pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))]


def test_head() -> None:
    cuda = ROOT / "csrc" / "cuda"
    sources = [HERE / "head" / "check.cu", cuda / "head.cu", cuda / "any_head.cu", ROOT / "csrc/cpu/isa_baseline.cpp"]
    program = build(sources, ROOT / "build" / "emulation" / "check_head", [ROOT])
    result = subprocess.run([program], env=run_environment(seed=0), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith(" checks, 0 failures\n")
