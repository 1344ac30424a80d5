"""What a figure was measured on: a result without it says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import torch

_CPU0 = Path("/sys/devices/system/cpu/cpu0")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def collect(allocator: str) -> dict[str, str]:
    """Name -> value, in the order in which they are printed. What a system does not tell is left out."""
    stamp = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "CPU": cpu_name(),
        "cores": cores(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "caches": _caches(),
        "OS": platform.platform(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "extension": _extension(),
        "backend": _backend(),
        "threads": str(torch.get_num_threads()),
        "allocator": allocator,
        "huge pages": _huge_pages(),
        "load before": _load(),
    }
    return {name: value for name, value in stamp.items() if value}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def commit() -> str:
    """The checkout's commit, with a mark if files differ from it; "unknown" without git."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _cpuinfo(key: str) -> list[str]:
    """Values of a key of /proc/cpuinfo, one for each logical CPU; none where there is no such file."""
    lines = (line.partition(":") for line in _read(Path("/proc/cpuinfo")).splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key]


def cpu_name() -> str:
    names = _cpuinfo("model name") or [platform.processor() or platform.machine()]
    return names[0]


def cores() -> str:
    text = f"{os.cpu_count()} logical"
    if physical := set(zip(_cpuinfo("physical id"), _cpuinfo("core id"), strict=True)):
        text += f", {len(physical)} physical"
    if hasattr(os, "sched_getaffinity"):  # a container or taskset may allow fewer
        text += f", {len(os.sched_getaffinity(0))} usable"
    return text


def _caches() -> str:
    caches = []
    for index in sorted(_CPU0.glob("cache/index*")):
        kind = _read(index / "type")
        if kind != "Instruction":
            level = _read(index / "level") + ("d" if kind == "Data" else "")
            caches.append(f"L{level} {_read(index / 'size')} for CPUs {_read(index / 'shared_cpu_list')}")
    return ", ".join(caches)


def _huge_pages() -> str:
    """Whether fresh memory comes in 4 KiB pages or in 2 MiB ones, which makes it cheaper by far."""
    _, _, rest = _read(_HUGE_PAGES).partition("[")  # as in "always [madvise] never"
    return rest.partition("]")[0]


def _extension() -> str:
    """What the native extension says of its build, where there is one."""
    try:
        import fusednorm._C
    except ImportError:
        return "none"
    return ", ".join(f"{name}: {value}" for name, value in fusednorm._C.build_info().items())


def _backend() -> str:
    from fusednorm.engine.backends import choose  # not above: on a machine still to be built for there is none

    return choose(torch.empty(0))


def _load() -> str:
    """Others at work on this machine make every figure here worth less."""
    return " ".join(f"{load:.2f}" for load in os.getloadavg()) if hasattr(os, "getloadavg") else ""
