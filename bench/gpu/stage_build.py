"""Builds the package beside the checkout, for this machine's GPU alone, without pip and without a network.

Nothing is installed: the stages that follow find it by PYTHONPATH. The checkout itself is not touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import torch

from .runner import ROOT, SITE, WORK, work
from .setting import Setting

# In a process of its own: this one may have no fusednorm yet.
ASK = """
import json, fusednorm
print(json.dumps({b.name: [b.available, b.reason] for b in fusednorm.backends().values()}))
"""


def run(setting: Setting) -> None:
    started = time.monotonic()
    lines: list[str] = []
    ok, arch = True, ""
    if not setting.dry:  # a dry run takes what is installed
        arch = os.environ.get("TORCH_CUDA_ARCH_LIST") or "{}.{}".format(*torch.cuda.get_device_capability(0))
        ok, lines = build(arch)
    asked = subprocess.run([sys.executable, "-c", ASK], cwd=work(), capture_output=True, text=True, check=False)
    setting.write(
        kind="build",
        ok=ok and asked.returncode == 0,
        seconds=round(time.monotonic() - started, 1),
        arch=arch,
        extensions=sorted(path.name for path in SITE.glob("fusednorm/*.so")) if not setting.dry else [],
        backends=json.loads(asked.stdout) if asked.returncode == 0 else {},
        problem=asked.stderr.strip().splitlines()[-1:],
        said=[line for line in lines if line.startswith("fusednorm:")],
        log_tail=lines[-25:],
    )
    if asked.returncode != 0:
        raise SystemExit("the package does not import:\n" + asked.stderr)


def build(arch: str) -> tuple[bool, list[str]]:
    """Whether setup.py ended well, and what it said."""
    command = [sys.executable, "setup.py", "build_py", "--force", "--build-lib", str(SITE)]
    command += ["build_ext", "--build-lib", str(SITE), "--build-temp", str(WORK / "temp")]
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TORCH_CUDA_ARCH_LIST": arch},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # the log has all of it
            lines.append(line.rstrip()[:400])
    return process.returncode == 0, lines
