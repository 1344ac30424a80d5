"""examples/train.py, which says as the interpreter ends which native threads are left.

python -m tests.examples.ending ...
"""

import atexit
import contextlib
import os
import sys
import time
from pathlib import Path

from examples import train


def native_threads() -> set[str]:
    names = set()
    for task in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # it has just ended
            names.add(task.read_text().strip())
    return names


def say() -> None:
    """A thread that was joined may be listed a moment longer; one of a group that is alive stays."""
    for _ in range(50):
        names = native_threads()
        if not any("gloo" in name for name in names):
            break
        time.sleep(0.1)
    print(f"rank {os.environ['RANK']} ended with {sorted(names)}", flush=True)


atexit.register(say)
train.app(sys.argv[1:])
