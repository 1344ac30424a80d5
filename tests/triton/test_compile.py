"""The generated code, without a GPU: one target here, the others in `make check-kernels`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_generated_code(dtype: str, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-m", "tests.codegen", "--triton", "--arch", "90", "--type", dtype]
    run = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], text=True, capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
