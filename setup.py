"""Builds the extension fusednorm._C; everything else about the package is in pyproject.toml.

Without a working C++ compiler the package installs without the extension and says so: the `torch` backend serves then.
"""

import os
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from torch.utils.cpp_extension import BuildExtension, include_paths, library_paths

FLAGS = [
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

sources = sorted(str(path) for path in Path("csrc").rglob("*.cpp"))
extension = Extension(
    "fusednorm._C",
    sources=sources,
    include_dirs=[pybind11.get_include(), *include_paths()],
    library_dirs=library_paths(),
    libraries=["torch", "torch_cpu", "c10"],
    define_macros=[
        ("TORCH_TARGET_VERSION", "0x020b000000000000"),  # the stable ABI as of torch 2.11
        ("FUSEDNORM_FLAGS", '"' + " ".join(FLAGS) + '"'),
    ],
    extra_compile_args=FLAGS,
    language="c++",
)


class BuildOrGoWithout(BuildExtension):
    """A build that leaves the extension out, loudly, where it can't be compiled."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            for folder in ("fusednorm", self.build_lib):  # an earlier build's, of other sources
                for stale in Path(folder).rglob("_C*.so"):
                    stale.unlink()
            if os.environ.get("FUSEDNORM_REQUIRE_EXTENSION") == "1":
                raise
            print(
                "\nfusednorm: the native extension could not be built, so the `cpu` backend is left out and the "
                f"`torch` backend serves instead.\nfusednorm: the reason: {error}\n",
                file=sys.stderr,
            )

    def copy_extensions_to_source(self) -> None:
        if Path(self.get_ext_fullpath(extension.name)).exists() or any(Path(self.build_lib).rglob("_C*.so")):
            super().copy_extensions_to_source()


setup(ext_modules=[extension], cmdclass={"build_ext": BuildOrGoWithout})
