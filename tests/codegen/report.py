"""Hold the machine code of all kernels against what is expected of it, and print both.

CUDA's kernels come from build/check-cuda (`make check-cuda`), Triton's are compiled here, in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from multiprocessing import get_context

from rich.console import Console
from rich.table import Table

from . import binary, expectations
from .binary import Kernel
from .checks import SMS, Expected, blocks_per_sm, problems
from .compile import compiled

TYPES = ("float32", "bfloat16", "float16", "float64")


def compile_triton(arch: int, dtype: str) -> list[Kernel]:
    from tests.triton.compile_ahead import compile_all

    return compile_all(arch, dtype)


def table(title: str, kernels: list[tuple[Kernel, Expected]]) -> Table:
    """A line a kernel: one number where it is the same for all architectures, else one for each."""
    lines = defaultdict(list)
    for kernel, expected in sorted(kernels, key=lambda pair: pair[0].arch):
        shared = expected.dynamic_shared
        loads, stores = (kernel.wide(store, expected.looping) for store in (False, True))
        numbers = (kernel.registers, kernel.shared + shared, kernel.spills, loads, stores, kernel.in_flight)
        room = blocks_per_sm(kernel, shared)
        lines[kernel.title].append((*numbers, room, kernel.in_flight * 16 * (kernel.threads or 0) * room // 1024))
    result = Table("kernel", title=title)
    for name in ("registers", "shared", "spills", "16 B loads", "16 B stores", "at once", "blocks/SM", "KiB/SM"):
        result.add_column(name, justify="right")
    for name, entries in sorted(lines.items()):
        columns = zip(*entries, strict=True)
        result.add_row(name, *("/".join(map(str, c if len(set(c)) > 1 else c[:1])) for c in columns))
    return result


def check(
    title: str, kernels: list[Kernel], expect: Callable[[Kernel], Expected | None], console: Console
) -> list[str]:
    known, found = [], defaultdict(list)
    for kernel in kernels:
        expected = expect(kernel)
        if expected is not None:
            known.append((kernel, expected))
        for problem in ["is not in tests/codegen/expectations.py"] if expected is None else problems(kernel, expected):
            found[f"{kernel.title} {problem}"].append(f"sm_{kernel.arch}")
    console.print(table(title, known))
    return [f"{', '.join(archs)}: {problem}" for problem, archs in sorted(found.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triton", action="store_true", help="Triton's kernels only")
    parser.add_argument("--arch", type=int, action="append", choices=SMS, help="80, 90 or 100 (default: all)")
    parser.add_argument("--type", action="append", choices=TYPES, help="of Triton's kernels (default: all)")
    asked = parser.parse_args()
    archs, types = asked.arch or list(SMS), asked.type or TYPES
    console = Console(width=None if sys.stdout.isatty() else 160)
    os.environ.pop("TRITON_INTERPRET", None)  # there is no compiler with it

    found: list[str] = []
    # A process for each architecture: Triton takes one that it has compiled for for all.
    with get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        tritons = pool.starmap_async(compile_triton, product(archs, types), chunksize=1)
        if not asked.triton:
            objects = compiled()
            cuda = [k for kernels in pool.starmap(binary.read, product(objects, archs), chunksize=1) for k in kernels]
            if objects:
                names = f"CUDA ({', '.join(f'sm_{arch}' for arch in archs)})"
                found += check(names, cuda, expectations.cuda, console)
                known = (expectations.MAPPING, expectations.POSITIONS, expectations.KEPT, expectations.SMALL)
                missing = {name for names in known for name in names} - {kernel.name for kernel in cuda}
                found += [
                    f"{name} is in tests/codegen/expectations.py, but was not compiled" for name in sorted(missing)
                ]
            else:
                console.print("check-kernels: CUDA's kernels skipped, for `make check-cuda` compiled none")
        kernels = [kernel for some in tritons.get() for kernel in some]
    found += check(f"Triton ({', '.join(f'sm_{arch}' for arch in archs)})", kernels, expectations.triton, console)
    wanted = {
        (*kernel, *of) for kernel in expectations.MAPS for of in product(archs, types, ("planar", "channels_last"))
    }
    there = {(kernel.name, kernel.arguments[2], kernel.arch, *kernel.arguments[:2]) for kernel in kernels}
    found += [f"Triton: {missing} was not compiled" for missing in sorted(wanted - there)]
    for problem in found:
        console.print(problem, style="red", markup=False, highlight=False)
    console.print(f"check-kernels: {len(found)} violations" if found else "check-kernels: all as expected")
    return bool(found)
