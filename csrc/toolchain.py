"""The compilers there are, and the flags csrc/ is compiled with: for setup.py and `make check-cuda`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Of host code, C++ and CUDA's.
CXX_FLAGS = [
    "-std=c++20",
    "-O3",
    "-g0",  # Python's own flags ask for debug information: 20 MB of it
    "-fvisibility=hidden",
    "-fno-math-errno",  # square roots as one instruction; nobody reads errno
    "-ffp-contract=fast",  # one rounding for a*b+c where the processor can; ISO mode would turn it off
    "-Wall",
    "-Wextra",
    "-Wno-psabi",  # GCC's note about passing wide vectors: none leaves its unit
    "-Wno-maybe-uninitialized",  # false alarms inside GCC's own intrinsics headers
]
NVCC_FLAGS = [
    "-std=c++20",
    "-O3",
    "-Xcompiler=-fvisibility=hidden",
    "-U__CUDA_NO_HALF_OPERATORS__",  # torch's builder turns these off: for code
    "-U__CUDA_NO_HALF_CONVERSIONS__",  # that includes torch's own half types
    "-U__CUDA_NO_HALF2_OPERATORS__",
    "-U__CUDA_NO_BFLOAT16_CONVERSIONS__",
]

STABLE_ABI = ("TORCH_TARGET_VERSION", "0x020b000000000000")  # as of torch 2.11

# A cubin for X.y runs on every X.z with z >= y, so the first of each major version covers it: Ampere and Ada (8),
# Hopper (9), Blackwell in data centres (10) and in desktops (12). What lies between (Thor, 11) and all to come compile
# the PTX of 10.0 when they first run it. No 9.0a and the like: they add tensor cores, which nothing here has a use for,
# and run on one chip only.
ARCHITECTURES = (80, 90, 100, 120)
PTX = 100


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit, as its nvcc describes it."""

    nvcc: Path
    version: str  # "13.0"
    home: Path
    include_dirs: list[str]
    library_dirs: list[str]
    architectures: tuple[int, ...]  # those of ours that it can compile for

    @property
    def arch_list(self) -> str:
        """As TORCH_CUDA_ARCH_LIST has it."""
        ptx = PTX if PTX in self.architectures else max(self.architectures)
        return ";".join(f"{a // 10}.{a % 10}{'+PTX' if a == ptx else ''}" for a in self.architectures)


def find_toolkit() -> Toolkit | None:
    """The toolkit in CUDA_HOME or CUDA_PATH, else the one whose nvcc is on PATH, else in the usual place."""
    asked = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    folder = Path(asked or "/usr/local/cuda") / "bin"
    found = None if asked else shutil.which("nvcc")
    found = found or shutil.which("nvcc", path=str(folder))
    if found is None:
        return None
    # Ask nvcc where things are: it may be a wrapper far from them, and packages lay them out differently.
    plan = _run(found, "--dryrun", "-c", "x.cu")
    home = re.search(r"^#\$ TOP=(.*)$", plan, re.MULTILINE)
    release = re.search(r"release (\d+\.\d+)", _run(found, "--version"))
    if home is None or release is None:
        return None
    known = {int(n) for n in re.findall(r"compute_(\d+)$", _run(found, "--list-gpu-arch"), re.MULTILINE)}
    includes, libraries = (
        " ".join(re.findall(rf"^#\$ {k}=(.*)$", plan, re.MULTILINE)) for k in ("INCLUDES", "LIBRARIES")
    )
    return Toolkit(
        nvcc=Path(found),
        version=release[1],
        home=Path(home[1].strip()).resolve(),
        include_dirs=re.findall(r'"-I([^"]*)"', includes),
        library_dirs=re.findall(r'"-L([^"]*)"', libraries),
        architectures=tuple(a for a in ARCHITECTURES if a in known),
    )


def _run(*command: str) -> str:
    """What a command prints, on either stream."""
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False).stdout
