"""What the C library does with freed memory, which decides what a fresh tensor costs on the CPU.

By default glibc maps every big tensor afresh and gives it back when freed; each page then faults at the
first touch, which costs more than a fused layer's arithmetic. Told to keep freed memory it hands the
same pages out again. glibc reads the setting once, as the process starts, so changing it means to
start again.
"""

from __future__ import annotations

import os
import platform
import sys
from enum import Enum
from pathlib import Path

_HIGH = str(1 << 40)  # bytes; above the size of any tensor
_KEEP = {"MALLOC_MMAP_THRESHOLD_": _HIGH, "MALLOC_TRIM_THRESHOLD_": _HIGH}


class Malloc(str, Enum):
    """Settings on the command line."""

    keep = "keep"
    default = "default"


def is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def environment(setting: Malloc, current: dict[str, str]) -> dict[str, str]:
    """The environment that gives a process the setting."""
    others = {name: value for name, value in current.items() if name not in _KEEP}
    return others | _KEEP if setting is Malloc.keep else others


def restart_with(setting: Malloc) -> None:
    """Returns at once if this process has the setting, else replaces it by one that has."""
    current = dict(os.environ)
    wanted = environment(setting, current)
    if is_glibc() and wanted != current:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, wanted)


def describe(setting: Malloc) -> str:
    """The setting, for the stamp."""
    if not is_glibc():
        return "the system's (not glibc: --malloc has no effect)"
    text = " ".join(platform.libc_ver())
    text += ", told to keep freed memory" if setting is Malloc.keep else ", default setting"
    if preloaded := os.environ.get("LD_PRELOAD"):  # maybe another malloc; names only, no one's paths
        text += f"; preloaded: {', '.join(Path(part).name for part in preloaded.replace(':', ' ').split())}"
    return text
