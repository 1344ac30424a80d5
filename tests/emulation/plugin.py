"""pytest -p tests.emulation.plugin: the backend `cuda` runs on the CPU, in the emulation, for every test of backends.

The process needs the environment of build.run_environment(). FUSEDNORM_EMULATION_UNIT: library.py's `instead`.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from fusednorm.engine.backends import _DEVICES, Backend, _backends

from .library import build_library

_unit = os.environ.get("FUSEDNORM_EMULATION_UNIT")
torch.ops.load_library(build_library(Path(_unit) if _unit else None))
_backends["cuda"] = Backend("cuda", True, "emulated on the CPU")
_DEVICES["cuda"] = "cpu"
