"""python -m tests.emulation [pytest's arguments]: the tests of backends over emulated CUDA, under sanitizers."""

from __future__ import annotations

import subprocess
import sys

from .build import run_environment, unavailable
from .library import build_library


def main(arguments: list[str]) -> int:
    reason = unavailable()
    if reason:
        print(f"skipped: {reason}")
        return 0
    build_library()  # before several processes want it
    command = [sys.executable, "-m", "pytest", "-p", "tests.emulation.plugin", "-k", "cuda", *arguments]
    return subprocess.run(
        [*command, "tests/engine", "tests/modules"], env=run_environment(seed=0), check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
