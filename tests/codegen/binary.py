"""What a compiled GPU kernel is made of, read with cuobjdump from objects and cubins."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from . import flow

RESERVED = 1024  # bytes of shared memory that the system takes in every block


@dataclass(frozen=True)
class Access:
    """An instruction that reads or writes global memory."""

    store: bool
    bits: int
    loop: int | None  # the innermost loop around it, by number


@dataclass
class Kernel:
    """One kernel for one architecture."""

    name: str  # without namespaces and template arguments
    arguments: tuple[str, ...]  # of its template
    arch: int  # 90 for sm_90
    registers: int = 0
    shared: int = 0  # bytes, static
    stack: int = 0  # bytes
    spills: int = 0  # instructions that read or write local memory
    threads: int | None = None  # __launch_bounds__: threads a block at most, and
    blocks: int = 1  # blocks an SM at least
    accesses: list[Access] = field(default_factory=list)
    in_flight: int = 0  # 16-byte loads under way at once

    @property
    def title(self) -> str:
        return f"{self.name}<{', '.join(self.arguments)}>" if self.arguments else self.name

    def wide(self, store: bool, loop: bool = True) -> int:
        """Accesses of 16 bytes or more; `loop`: only those inside one."""
        return sum(a.store == store and a.bits >= 128 and (a.loop is not None or not loop) for a in self.accesses)

    def narrow(self, store: bool, loop: bool = True) -> int:
        """Accesses of 2 to 8 bytes (one is a mask's); `loop`: only those in innermost loops that have wide ones."""
        near = {a.loop for a in self.accesses if a.bits >= 128 and a.loop is not None}
        return sum(a.store == store and 8 < a.bits < 128 and (a.loop in near or not loop) for a in self.accesses)


def read(binary: Path, arch: int | None = None, ptx: str | None = None) -> list[Kernel]:
    """The kernels of an object or cubin. Launch bounds are in the PTX: the object's own, or Triton's beside a cubin."""
    only = () if arch is None else ("-arch", f"sm_{arch}")
    usage = dict(_usage(_cuobjdump("-res-usage", *only, binary)))
    bounds = dict(_bounds(ptx if ptx is not None else _cuobjdump("-ptx", *only, binary)))
    bodies = dict(_bodies(_cuobjdump("-sass", *only, binary)))
    names = demangle(sorted({name for _, name in bodies}))
    kernels = []
    for (target, mangled), body in bodies.items():
        counts = (
            usage.get((target, mangled)) or usage[0, mangled]
        )  # of a cubin, which does not say its architecture there
        shared = max(0, counts["SHARED"] - (RESERVED if target >= 90 else 0))  # there it is counted, where any is used
        kernel = Kernel(*names[mangled], target, counts["REG"], shared, counts["STACK"] + counts["LOCAL"])
        kernel.threads, kernel.blocks = bounds.get((target, mangled), (None, 1))
        _look_into(kernel, body)
        kernels.append(kernel)
    return kernels


@cache
def tool() -> str:
    """cuobjdump: Triton brings one along."""
    try:
        from triton import knobs

        return knobs.nvidia.cuobjdump.path
    except (ImportError, RuntimeError):
        found = shutil.which("cuobjdump")
        if found is None:
            raise FileNotFoundError("cuobjdump is in neither Triton nor PATH") from None
        return found


def _cuobjdump(*arguments: str | Path) -> str:
    run = subprocess.run([tool(), *arguments], text=True, capture_output=True)
    if run.returncode:
        raise RuntimeError(f"cuobjdump {' '.join(map(str, arguments))}: {run.stderr}")
    return run.stdout  # not the warnings of a cuobjdump newer than nvcc


def _usage(text: str) -> Iterator[tuple[tuple[int, str], dict[str, int]]]:
    arch = 0
    for line in text.splitlines():
        if found := re.match(r"arch = sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.match(r"\s*Function (\S+):$", line):
            name = found[1]
        elif "REG:" in line:
            yield (arch, name), {key: int(n) for key, n in re.findall(r"(\w+):(\d+)", line)}


def _bounds(text: str) -> Iterator[tuple[tuple[int, str], tuple[int, int]]]:
    arch, name = 0, ""
    found = re.findall(
        r"^\.target sm_(\d+)|\.entry (\w+)|^\.(?:max|req)ntid (.*)|^\.minnctapersm (\d+)", text, re.MULTILINE
    )
    threads, blocks = None, 1
    for target, entry, ntid, least in found:
        if target or entry:
            if threads is not None:
                yield (arch, name), (threads, blocks)
            arch, name, threads, blocks = int(target or arch), entry, None, 1
        elif ntid:
            threads = 1
            for n in ntid.split(","):
                threads *= int(n)
        else:
            blocks = int(least)
    if threads is not None:
        yield (arch, name), (threads, blocks)


def _bodies(text: str) -> Iterator[tuple[tuple[int, str], list[flow.Instruction]]]:
    """Of each kernel its instructions."""
    arch = 0
    body: list[flow.Instruction] = []
    lines = r"^\s+(?:/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;|code for sm_(\d+)|Function : (\S+))"
    for address, instruction, target, function in re.findall(lines, text, re.MULTILINE):
        if address:
            body.append((int(address, 16), instruction))
        elif target:
            arch = int(target)
        else:
            body = []
            yield (arch, function), body  # filled as the loop goes on


def _look_into(kernel: Kernel, body: list[flow.Instruction]) -> None:
    """Fill in what the instructions say."""
    following = flow.successors(body)
    loops = flow.innermost_loops(following)
    loads = {}
    for i, (_, text) in enumerate(body):
        opcode, *modifiers = flow.opcode(text)
        kernel.spills += opcode in ("LDL", "STL")
        if opcode in ("LDG", "STG", "LDGSTS"):
            width = next((m for m in modifiers if re.fullmatch(r"[US]?8|[US]?16|64|128|256", m)), "32")
            kernel.accesses.append(Access(opcode == "STG", int(width.strip("US")), loops[i]))
            if opcode == "LDG" and int(width.strip("US")) >= 128:
                loads[i] = loops[i]
    kernel.in_flight = flow.in_flight(body, following, loads)


def demangle(names: list[str]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Mangled name -> name without namespaces, template arguments."""
    if not names:
        return {}
    plain = subprocess.run(["c++filt"], input="\n".join(names), check=True, text=True, stdout=subprocess.PIPE).stdout
    return {name: _parts(text) for name, text in zip(names, plain.splitlines(), strict=True)}


def _parts(text: str) -> tuple[str, tuple[str, ...]]:
    """`void a::f<b::T, true>(int)` -> f, (T, true)."""
    pieces, depth = [""], 0
    for c in text.replace("(anonymous namespace)", "anonymous"):
        if depth == 0 and c == "(":  # the parameters
            break
        depth += (c in "<(") - (c in ">)")
        if depth == 1 and c in "<,":
            pieces.append("")
        elif depth > 0 or c != ">":
            pieces[-1] += c
    short = [re.sub(r"(\w+::)+", "", piece).strip() for piece in pieces]
    return short[0].split()[-1], tuple(short[1:])
