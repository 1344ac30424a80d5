"""The CUDA backend's own sources, built for the CPU by the emulation."""

from __future__ import annotations

from pathlib import Path

from torch.utils.cpp_extension import include_paths, library_paths

from .build import build

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"


def build_library(instead: Path | None = None) -> Path:
    """All kernels and operators of csrc/cuda as they are, registered for tensors in main memory.

    instead: a unit to take in place of the one of that name, to try a change on.
    """
    sources = [
        *sorted((CSRC / "cuda").glob("*.cu")),
        *(source for source in sorted((CSRC / "cuda").glob("*.cpp")) if source.name != "module.cpp"),
        CSRC / "tensors.cpp",
        CSRC / "layer.cpp",
    ]
    output = ROOT / "build" / "emulation" / "fusednorm_cuda.so"
    if instead is not None:
        sources = [instead if source.name == instead.name else source for source in sources]
        output = instead.with_suffix(".so")
    return build(
        sources,
        output,
        [*include_paths()],
        extra_flags=["-DTORCH_TARGET_VERSION=0x020b000000000000", "-fvisibility=hidden"],
        link_flags=[*(f"-L{folder}" for folder in library_paths()), "-ltorch", "-ltorch_cpu", "-lc10"],
    )


if __name__ == "__main__":
    print(build_library())
