"""`fusednorm info`: what is installed, and which backends serve on this machine and why."""

import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import fusednorm
from fusednorm.engine import eager


def print_info(console: Console) -> None:
    """Never raises: this is the command to run when something is broken."""
    facts = Table(title="fusednorm", show_header=False)
    for name, find in FACTS.items():
        facts.add_row(name, escape(_safely(find)))
    console.print(facts)
    backends = Table("backend", "", "why", title="Backends")
    for row in _backend_rows():
        backends.add_row(*map(escape, row))
    console.print(backends)


def _safely(find: Callable[[], str]) -> str:
    try:
        return find()
    except Exception as error:
        return f"unknown ({type(error).__name__}: {error})"


def _backend_rows() -> list[tuple[str, str, str]]:
    try:
        found = fusednorm.backends()
        return [(name, "on" if b.available else "off", b.reason) for name, b in found.items()]
    except Exception as error:
        return [("?", "", f"{type(error).__name__}: {error}")]


def _triton() -> str:
    try:
        import triton
    except ImportError as error:
        return f"not here ({error})"
    return str(triton.__version__)


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use"
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def _extension() -> str:
    if not fusednorm.backends()["cpu"].available:
        return "none, see below"
    from fusednorm import _C

    return ", ".join(f"{key}: {value}" for key, value in _C.build_info().items())


FACTS: dict[str, Callable[[], str]] = {
    "fusednorm": lambda: fusednorm.__version__,
    "native extension": _extension,
    "eager calls": lambda: eager.STATE,
    "torch": lambda: torch.__version__,
    "triton": _triton,
    "Python": platform.python_version,
    "system": platform.platform,
    "CPU": _cpu,
    "vector units": torch.backends.cpu.get_cpu_capability,
    "threads": lambda: f"{torch.get_num_threads()} of {os.cpu_count()} cores",
    "GPU": _gpu,
}
