"""python -m tests.emulation [--emulate "shared=0 seed=1"] [pytest's arguments]

The tests of backends over the emulated CUDA backend, under sanitizers. --emulate: properties of the emulated device
(runtime/device.cpp) and the seed of the threads' order.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from .build import run_environment, unavailable
from .library import build_library


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emulate", default="", metavar="PROPERTIES")
    ours, pytest_arguments = parser.parse_known_args()
    if reason := unavailable():
        print(f"skipped: {reason}")
        return 0
    build_library()  # before several processes want it
    environment = run_environment(seed=0)
    for name, _, value in (word.partition("=") for word in ours.emulate.split()):
        environment[f"FUSEDNORM_EMULATION_{name.upper()}"] = value
    command = [sys.executable, "-m", "pytest", "-p", "tests.emulation.plugin", "-k", "cuda", *pytest_arguments]
    return subprocess.run([*command, "tests/engine", "tests/modules"], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
