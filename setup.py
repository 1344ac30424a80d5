"""Builds the extensions fusednorm._C (CPU) and fusednorm._cuda; everything else about the package is in pyproject.toml.

One that can't be built is left out, loudly: without a C++ compiler the `torch` backend serves in place of `cpu`,
without nvcc `triton` in place of `cuda`. FUSEDNORM_CUDA=0 leaves _cuda out. FUSEDNORM_REQUIRE_EXTENSION=1 makes it an
error. TORCH_CUDA_ARCH_LIST says which GPUs to build for, in place of csrc/toolchain.py.
"""

import os
import sys
from pathlib import Path

import pybind11
import torch
from setuptools import Extension, setup

sys.path.append(str(Path(__file__).parent))  # builders run this file without looking beside it
from csrc.toolchain import CXX_FLAGS, NVCC_FLAGS, STABLE_ABI, Toolkit, find_toolkit

# Extension: what goes with it, and what serves instead.
INSTEAD = {
    "_C": ("the `cpu` backend", "the `torch` backend"),
    "_cuda": ("the `cuda` backend", "the `triton` backend"),
    "_eager": ("short calls in eager mode", "Python, which costs small maps time,"),
}


def left_out(name: str, reason: object) -> None:
    lost, instead = INSTEAD[name]
    print(  # `make` picks out the lines that begin so
        f"\nfusednorm: the native extension {name} is left out, and with it {lost}; "
        f"{instead} serves instead.\nfusednorm: the reason: {' '.join(str(reason).split())}\n",
        file=sys.stderr,
    )


def required() -> bool:
    return os.environ.get("FUSEDNORM_REQUIRE_EXTENSION") == "1"


def toolkit_for_torch() -> Toolkit | None:
    """The CUDA toolkit to build _cuda with; None where it is not to be built."""
    if torch.version.cuda is None or os.environ.get("FUSEDNORM_CUDA") == "0":
        return None
    found = find_toolkit()
    if found is None:
        reason = f"torch is built for CUDA {torch.version.cuda}, but there is no nvcc in CUDA_HOME or on PATH"
        if required():
            raise RuntimeError(reason)
        left_out("_cuda", reason)
    return found


toolkit = toolkit_for_torch()
if toolkit is not None:
    # For torch's builder, which looks at the first when it is imported.
    os.environ["CUDA_HOME"] = str(toolkit.home)
    os.environ["TORCH_CUDA_ARCH_LIST"] = os.environ.get("TORCH_CUDA_ARCH_LIST") or toolkit.arch_list

from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths  # noqa: E402


def extension(name: str, sources: list[str], toolkit: Toolkit | None = None, aten: bool = False) -> Extension:
    """aten: over torch's own C++ interface, not the stable one (csrc/torch_api.h)."""
    macros = [("FUSEDNORM_ATEN", None) if aten else STABLE_ABI, ("FUSEDNORM_FLAGS", f'"{" ".join(CXX_FLAGS)}"')]
    libraries = ["torch", "torch_cpu", "c10", *(["torch_python"] if aten else [])]
    quiet = ["-Wno-unused-parameter"] if aten else []  # in torch's headers
    if toolkit is not None:
        macros += [("USE_CUDA", None), ("FUSEDNORM_CUDA_ARCHS", f'"{os.environ["TORCH_CUDA_ARCH_LIST"]}"')]
        libraries += [
            "torch_cuda",
            "cudart_static",
            "rt",
            "dl",
            "pthread",
        ]  # static: importing needs no CUDA but torch's
    return Extension(
        f"fusednorm.{name}",
        sources=sorted(str(path) for pattern in sources for path in Path("csrc").glob(pattern)),
        depends=sorted(str(path) for path in Path("csrc").rglob("*.*") if path.suffix != ".pyc"),  # for sdist to carry
        include_dirs=[pybind11.get_include(), *include_paths(), *(toolkit.include_dirs if toolkit else [])],
        library_dirs=[*library_paths(), *(toolkit.library_dirs if toolkit else [])],
        libraries=libraries,
        define_macros=macros,
        extra_compile_args={"cxx": [*CXX_FLAGS, *quiet], "nvcc": [*NVCC_FLAGS]},
        language="c++",
    )


extensions = [
    extension("_C", ["*.cpp", "cpu/*.cpp"]),
    extension("_eager", ["tensors.cpp", "layer.cpp", "cpu/norm.cpp", "cpu/stream.cpp", "eager/*.cpp"], aten=True),
]
if toolkit is not None:
    extensions.append(extension("_cuda", ["tensors.cpp", "layer.cpp", "cuda/*.cpp", "cuda/*.cu"], toolkit))


class BuildWhatCanBe(BuildExtension):
    """Builds the extensions one by one, so that one that fails takes no other with it."""

    def build_extensions(self) -> None:
        wanted, temporary, built = self.extensions, self.build_temp, []
        try:
            for ext in wanted:
                self.extensions = [ext]
                self.build_temp = os.path.join(temporary, ext.name)  # the same sources, with other flags
                try:
                    super().build_extensions()
                except Exception as error:
                    if required():
                        raise
                    left_out(ext.name.rpartition(".")[2], error)
                else:
                    built.append(ext)
        finally:
            self.extensions, self.build_temp = built, temporary
            for name in INSTEAD.keys() - {ext.name.rpartition(".")[2] for ext in built}:
                for folder in ("fusednorm", self.build_lib):  # an earlier build's, of other sources
                    for stale in Path(folder).rglob(f"{name}.*.so"):
                        stale.unlink()


setup(ext_modules=extensions, cmdclass={"build_ext": BuildWhatCanBe})
