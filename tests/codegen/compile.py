"""Compile csrc/cuda, warnings as errors, linking nothing: `make check-cuda`. Takes nvcc, but no GPU and no CUDA torch.

    python -m tests.codegen.compile

Ninja compiles what changed, on all cores. The objects stay in build/check-cuda, for `make check-kernels` to look into.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from csrc.toolchain import CXX_FLAGS, NVCC_FLAGS, STABLE_ABI, Toolkit, find_toolkit

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "check-cuda"


def nvcc_command(toolkit: Toolkit, architectures: tuple[int, ...]) -> list[str]:
    # With PTX, where the launch bounds stand.
    targets = [f"-gencode=arch=compute_{a},code=[sm_{a},compute_{a}]" for a in architectures]
    return [
        str(toolkit.nvcc),
        "-c",
        *NVCC_FLAGS,
        "-Werror=all-warnings",
        "-Xcompiler=-fPIC,-Wall,-Wextra,-Werror",
        *targets,
    ]


def cxx_command(toolkit: Toolkit) -> list[str]:
    import pybind11
    from torch.utils.cpp_extension import include_paths

    others = [*include_paths(), *toolkit.include_dirs, pybind11.get_include(), sysconfig.get_path("include")]
    defines = [STABLE_ABI, ("USE_CUDA", "1"), ("FUSEDNORM_FLAGS", '""'), ("FUSEDNORM_CUDA_ARCHS", '""')]
    return [
        os.environ.get("CXX", "g++"),
        "-c",
        "-fPIC",
        *CXX_FLAGS,
        "-Werror",
        *(f"-isystem{folder}" for folder in others),  # whose warnings are not ours to mend
        *(f"-D{name}={value}" for name, value in defines),
    ]


def kernels() -> list[Path]:
    return sorted((ROOT / "csrc" / "cuda").glob("*.cu"))


def object_of(source: Path) -> Path:
    return FOLDER / f"{source.name}.o"


def compiled() -> list[Path]:
    """The objects of the kernels, or none where they were not compiled."""
    objects = [object_of(source) for source in kernels()]
    missing = [path.name for path in objects if not path.exists()]
    if missing and find_toolkit() is not None:
        raise FileNotFoundError(f"{', '.join(missing)}: not there; run `make check-cuda` first")
    return [] if missing else objects


def compile_all(toolkit: Toolkit) -> int:
    shared = [
        ROOT / "csrc" / name for name in ("tensors.cpp", "layer.cpp")
    ]  # with the CPU's extension, which defines less
    host = [*sorted((ROOT / "csrc" / "cuda").glob("*.cpp")), *(path for path in shared if path.exists())]
    lines = ["builddir = ."]
    for rule, command in (("nvcc", nvcc_command(toolkit, toolkit.architectures)), ("cxx", cxx_command(toolkit))):
        lines += [
            f"rule {rule}",
            f"  command = {shlex.join(command).replace('$', '$$')} -MD -MF $out.d -o $out $in",
            "  depfile = $out.d",
            "  deps = gcc",
            f"  description = {rule} $in",
        ]
    for rule, sources in (("nvcc", kernels()), ("cxx", host)):
        lines += [f"build {object_of(path).name}: {rule} {os.path.relpath(path, FOLDER)}" for path in sources]
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "build.ninja").write_text("\n".join(lines) + "\n")
    return subprocess.run(
        [sys.executable, "-m", "ninja", "-C", FOLDER, "-k", "0", "-j", str(os.cpu_count())], check=False
    ).returncode


def main() -> int:
    toolkit = find_toolkit()
    if toolkit is None:
        required = os.environ.get("FUSEDNORM_REQUIRE_NVCC") == "1"
        print(f"check-cuda: {'FAILED' if required else 'skipped'}: there is no nvcc in CUDA_HOME or on PATH")
        return int(required)
    names = ", ".join(f"sm_{a}" for a in toolkit.architectures)
    print(f"check-cuda: csrc/cuda with nvcc {toolkit.version} for {names}", flush=True)
    return compile_all(toolkit)


if __name__ == "__main__":
    sys.exit(main())
