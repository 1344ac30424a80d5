"""What the machine is: a figure without it says nothing. Only reads; no setting of the GPU is touched."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from datetime import datetime, timezone

import torch

from bench import stamp

from .setting import Setting

# One call for each group: a driver that doesn't know a key refuses the whole call.
QUERIES = (
    ("driver_version", "pstate", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "temperature.gpu"),
    ("power.draw", "power.limit", "utilization.gpu", "memory.used"),
    ("clocks_event_reasons.active",),
)


def run(setting: Setting) -> None:
    values = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": setting.commit or stamp.commit(),
        **(
            {"dry run": "on the CPU, tiny shapes: no figure here is a measurement of anything"}
            if setting.dry
            else gpu()
        ),
        "CPU": stamp.cpu_name(),
        "cores": stamp.cores(),
        "OS": platform.platform(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "CUDA of torch": str(torch.version.cuda),
        "nvcc": last_line("nvcc", "--version"),
        "C++ compiler": first_line("c++", "--version"),
        **{name: version(name) for name in ("triton", "numpy", "pytest", "pybind11", "setuptools", "ninja")},
    }
    setting.write(kind="stamp", values={name: value for name, value in values.items() if value})


def gpu() -> dict[str, str]:
    found = torch.cuda.get_device_properties(0)
    return {
        "GPU": found.name,
        "compute capability": f"{found.major}.{found.minor}",
        "SMs": str(found.multi_processor_count),
        "memory": f"{found.total_memory / 2**30:.1f} GiB",
        "L2": f"{getattr(found, 'L2_cache_size', 0) / 2**20:.0f} MiB",
        **{f"nvidia-smi {name}": value for name, value in smi().items()},
    }


def smi() -> dict[str, str]:
    """What nvidia-smi reads now; what this driver does not know is left out."""
    values: dict[str, str] = {}
    for names in QUERIES:
        texts = first_line("nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader", "--id=0").split(
            ", "
        )
        if len(texts) == len(names) and "not a valid field" not in texts[0].lower():
            values |= dict(zip(names, texts, strict=True))
    return values


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def first_line(*command: str) -> str:
    return (_output(*command) or [""])[0]


def last_line(*command: str) -> str:
    return (_output(*command) or [""])[-1]


def _output(*command: str) -> list[str]:
    if shutil.which(command[0]) is None:
        return []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
