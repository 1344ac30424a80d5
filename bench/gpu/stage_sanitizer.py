"""compute-sanitizer on tests/gpu/sanitize.py (every kernel on odd shapes): wrong accesses, races, barriers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .runner import ROOT, environment, work
from .setting import Setting

TOOLS = ("memcheck", "racecheck", "synccheck")
SCRIPT = ROOT / "tests" / "gpu" / "sanitize.py"
LEAST_S = 8.0
FOUND = 86  # its exit status when it found something


def run(setting: Setting) -> None:
    command = find()
    if command is None and not setting.dry:
        setting.write(kind="note", text="compute-sanitizer is not installed: nothing was checked by it")
        return
    for backend in setting.backends()[: 1 if setting.dry else None]:
        for tool in TOOLS[: 1 if setting.dry else None]:
            if setting.seconds_left() < LEAST_S:
                setting.write(kind="note", text=f"{tool} of {backend} dropped for lack of time")
                continue
            check(setting, [command, "--tool", tool] if command is not None and not setting.dry else [], tool, backend)


def find() -> str | None:
    """On PATH, or beside nvcc."""
    nvcc = shutil.which("nvcc")
    homes = [os.environ.get("CUDA_HOME"), nvcc and str(Path(nvcc).resolve().parents[1]), "/usr/local/cuda"]
    places = [Path(home) / "bin" / "compute-sanitizer" for home in homes if home]
    return shutil.which("compute-sanitizer") or next((str(place) for place in places if place.is_file()), None)


def check(setting: Setting, sanitizer: list[str], tool: str, backend: str) -> None:
    """Without a sanitizer, as in a dry run, the script runs by itself."""
    options = ["--error-exitcode", str(FOUND), "--print-limit", "20"] if sanitizer else []
    command = [*sanitizer, *options, sys.executable, str(SCRIPT), backend, setting.device]
    # Each tensor in an allocation of its own, or an access past its end hits its neighbour unseen.
    variables = environment(setting.dry) | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    started = time.monotonic()
    code: int | None = None
    # Into a file: a process of the sanitizer's that outlives it would hold a pipe open.
    with tempfile.TemporaryFile("w+") as file:
        try:
            limit = max(setting.seconds_left(), 1)
            done = subprocess.run(
                command, cwd=work(), env=variables, stdout=file, stderr=subprocess.STDOUT, timeout=limit, check=False
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            pass
        file.seek(0)
        output = file.read()
    print(output, flush=True)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    setting.write(
        kind="sanitizer",
        tool=tool,
        backend=backend,
        exit_status=code,  # None: ended for lack of time
        seconds=round(time.monotonic() - started, 1),
        summary=[line for line in lines if "SUMMARY" in line or line.startswith("sanitize:")],
        tail=[] if code == 0 else lines[-15:],
    )
