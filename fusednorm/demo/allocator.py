"""Which memory allocator serves the CPU's tensors: in timing, it can weigh as much as the kernels do.

With glibc's defaults a step's large tensors are given back to the system when freed, and the next step has
them mapped afresh, page fault by page fault.
"""

import ctypes
import os
import platform

KEPT = "glibc, freed memory kept"

_M_TRIM_THRESHOLD = -1  # constants of mallopt(3)
_M_MMAP_MAX = -4


def describe() -> str:
    """The setting that this process was started with."""
    if preload := os.environ.get("LD_PRELOAD"):
        return f"LD_PRELOAD={os.path.basename(preload)}"
    if not _is_glibc():
        return f"{platform.system()}'s own"
    chosen = [f"{key}={os.environ[key]}" for key in sorted(os.environ) if key.startswith("MALLOC_")]
    if tunables := os.environ.get("GLIBC_TUNABLES"):
        chosen.append(tunables)
    return "glibc, " + (" ".join(chosen) or "defaults")


def keep_freed_memory() -> bool:
    """Make malloc keep freed memory, from now until the process ends. False where it cannot be told so."""
    if not _is_glibc() or os.environ.get("LD_PRELOAD"):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1))


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
