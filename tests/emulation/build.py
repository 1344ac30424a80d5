"""Compile .cu files as C++ against the emulated CUDA, under AddressSanitizer and UndefinedBehaviorSanitizer.

Objects are kept under build/emulation and made anew only when a source, a header it includes, a flag or the
compiler has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
OBJECTS = ROOT / "build" / "emulation" / "objects"

CXX = os.environ.get("CXX", "g++")
JOBS = 2
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = (
    *("-std=c++20", "-O1", "-g1", "-fPIC", "-pthread", *SANITIZE),
    *("-fno-omit-frame-pointer", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-DFUSEDNORM_EMULATION=1"),
)
# As nvcc does it: the runtime's header is there without an #include. It stands after all other flags.
DEVICE_FLAGS = ("-x", "c++", "-DFUSEDNORM_EMULATION_DEVICE=1", "-include", "cuda_runtime.h")


def _ask_compiler(*arguments: str) -> str:
    return subprocess.run([CXX, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@cache
def unavailable() -> str | None:
    """Why nothing can be built here, or None."""
    try:
        if "clang" in _version() or int(_ask_compiler("-dumpversion").split(".")[0]) < 12:
            return f"{CXX} is not GCC 12 or newer"
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{CXX} does not run: {error}"
    missing = [name for name in ("libasan.so", "libubsan.so") if not Path(_library(name)).is_absolute()]
    return f"{CXX} has no {', '.join(missing)}" if missing else None


@cache
def _version() -> str:
    return _ask_compiler("--version")


@cache
def _library(name: str) -> str:
    return _ask_compiler(f"-print-file-name={name}")


class _Hashes:
    """Of files, each read once in a build."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __call__(self, path: str) -> str | None:
        if path not in self._known:
            try:
                self._known[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            except FileNotFoundError:
                self._known[path] = None
        return self._known[path]


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{result.stderr}")
    if result.stderr:
        print(result.stderr)


def _includes(depfile: Path) -> list[str]:
    words = depfile.read_text().replace("\\\n", " ").replace("\\ ", "\0").split()
    return sorted({word.replace("\0", " ") for word in words[1:]})


def _compile(source: Path, flags: Sequence[str], hashes: _Hashes) -> Path:
    """The object of a source, compiled unless everything that went into it is still as it was."""
    flags = [*flags, *(DEVICE_FLAGS if source.suffix == ".cu" else ())]
    key = hashlib.sha256(json.dumps([str(source), flags, CXX, _version()]).encode()).hexdigest()[:20]
    stem = OBJECTS / f"{source.stem}-{key}"
    target, record = stem.with_suffix(".o"), stem.with_suffix(".json")
    if target.exists() and record.exists():
        made_from = json.loads(record.read_text())
        if all(hashes(path) == digest for path, digest in made_from.items()):
            return target
    # Another process may be at the same: only whole files take the names.
    fresh, depfile = stem.with_suffix(f".{os.getpid()}.o"), stem.with_suffix(f".{os.getpid()}.d")
    _run([CXX, *flags, "-MD", "-MF", str(depfile), "-c", str(source), "-o", str(fresh)])
    record.unlink(missing_ok=True)
    fresh.replace(target)
    draft = stem.with_suffix(f".{os.getpid()}.json")
    draft.write_text(json.dumps({path: hashes(path) for path in _includes(depfile)}))
    draft.replace(record)
    depfile.unlink()
    return target


def _include_flags(directories: Sequence[Path | str]) -> list[str]:
    flags = ["-I", str(HERE / "include")]
    for directory in map(Path, directories):
        flags += ["-I" if directory.resolve().is_relative_to(ROOT) else "-isystem", str(directory)]
    return flags


def build(
    sources: Sequence[Path | str],
    output: Path | str,
    include_dirs: Sequence[Path | str] = (),
    extra_flags: Sequence[str] = (),
    link_flags: Sequence[str] = (),
) -> Path:
    """Compile the sources (.cu, .cpp) and the emulation's runtime; link a library (`*.so`) or else a program.

    torch's headers expect more of a CUDA compiler than there is here. They must come before CUDA's macros:
    `extra_flags=["-include", "torch/csrc/stable/tensor.h", ...]`.
    """
    output = Path(output).resolve()
    OBJECTS.mkdir(parents=True, exist_ok=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    hashes = _Hashes()
    flags = [*FLAGS, *_include_flags(include_dirs), *extra_flags]
    runtime = [*FLAGS, *_include_flags(())]
    jobs = [(Path(source).resolve(), flags) for source in sources]
    jobs += [(source, runtime) for source in sorted((HERE / "runtime").glob("*.cpp"))]
    with ThreadPoolExecutor(JOBS) as pool:
        objects = list(pool.map(lambda job: _compile(*job, hashes), jobs))

    shared = ["-shared"] if output.suffix == ".so" else []
    command = [CXX, *SANITIZE, "-pthread", *shared, *map(str, objects), "-o", str(output), *link_flags]
    made_from = json.dumps([command, _version(), *map(_Hashes(), map(str, objects))])
    stamp = output.with_name(output.name + ".json")
    if not (output.exists() and stamp.exists() and stamp.read_text() == made_from):
        _run(command)
        stamp.write_text(made_from)
    return output


def run_environment(seed: int | None = None) -> dict[str, str]:
    """The environment of a process that runs a program, or of a Python that loads a library, made by `build`."""
    asan = {
        "detect_leaks": "0",  # Python's and torch's own
        "detect_odr_violation": "0",
        "alloc_dealloc_mismatch": "0",
        "abort_on_error": "1",
    }
    environment = {
        **os.environ,
        # libstdc++ next to it, or ASan finds no __cxa_throw to intercept.
        "LD_PRELOAD": ":".join(map(_library, ("libasan.so", "libubsan.so", "libstdc++.so"))),
        "ASAN_OPTIONS": ":".join(f"{key}={value}" for key, value in asan.items()),
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    if seed is not None:
        environment["FUSEDNORM_EMULATION_SEED"] = str(seed)
    return environment
