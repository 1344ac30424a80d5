"""What must hold of a compiled kernel, and in which words a violation is reported."""

from __future__ import annotations

from dataclasses import dataclass

from .binary import RESERVED, Kernel


@dataclass(frozen=True)
class Multiprocessor:
    """What the blocks on an SM share (CUDA C++ Programming Guide, technical specifications per compute capability)."""

    threads: int
    blocks: int
    shared: int  # bytes
    under_way: int  # bytes that must be, to keep memory busy: its bandwidth, times some 800 ns, by the number of SMs
    registers: int = 65536


SMS = {
    80: Multiprocessor(2048, 32, 164 * 1024, 15 * 1024),  # A100: 2.0 TB/s, 108
    90: Multiprocessor(2048, 32, 228 * 1024, 29 * 1024),  # H200: 4.8 TB/s, 132
    100: Multiprocessor(2048, 32, 228 * 1024, 29 * 1024),  # B200's 8 TB/s, 148 would take 43 KiB: not insisted on
}


@dataclass(frozen=True)
class Expected:
    """What is expected of a kernel; by default only that it spills nothing and fits its launch bounds."""

    loads: int = 0  # of 16 bytes, at least: one for each map and each step that a thread takes together
    stores: int = 0
    looping: bool = True  # in a loop
    narrow: int | None = None  # reads of 2 to 8 bytes beside them at most, and no such writes; None: any
    busy: bool = True  # with enough under way to keep memory busy
    dynamic_shared: int = 0  # bytes that a launch asks for at most
    stack: bool = False  # may use local memory


def blocks_per_sm(kernel: Kernel, dynamic_shared: int = 0) -> int:
    """Blocks that an SM has room for."""
    sm = SMS[kernel.arch]
    warps = -(-(kernel.threads or 1024) // 32)
    registers = max(1, -(-kernel.registers * 32 // 256)) * 256  # of a warp: handed out by 256,
    resident = 4 * (sm.registers // 4 // registers)  # and each quarter of an SM has its own
    shared = kernel.shared + dynamic_shared + RESERVED
    return min(resident // warps, sm.threads // (warps * 32), sm.blocks, sm.shared // shared)


def problems(kernel: Kernel, expected: Expected) -> list[str]:
    """What is wrong, in words."""
    found = []
    if kernel.spills and not expected.stack:
        found.append(f"spills: {kernel.spills} instructions read or write local memory")
    if kernel.stack and not expected.stack:
        found.append(f"has a stack of {kernel.stack} bytes")
    if kernel.threads is None:
        found.append("has no launch bounds: nothing says how many threads a block has")
    room, wanted = blocks_per_sm(kernel, expected.dynamic_shared), kernel.blocks
    if room < wanted:
        shared = kernel.shared + expected.dynamic_shared
        found.append(
            f"its {kernel.registers} registers and {shared} bytes of shared memory leave room for {room} blocks an SM, "
            f"not {wanted}"
        )
    where = " in a loop" if expected.looping else ""
    for least, store in ((expected.loads, False), (expected.stores, True)):
        there = kernel.wide(store, expected.looping)
        if there < least:
            found.append(f"has {there} 16-byte {'stores' if store else 'loads'}{where}, not {least}")
    under_way = kernel.in_flight * 16 * (kernel.threads or 0) * room
    if expected.loads and expected.busy and under_way < SMS[kernel.arch].under_way:
        found.append(
            f"has {kernel.in_flight} 16-byte loads under way at once, in {room} blocks an SM {under_way} bytes, not "
            f"{SMS[kernel.arch].under_way}"
        )
    if expected.narrow is not None:
        for most, store in ((expected.narrow, False), (0, True)):
            there = kernel.narrow(store, expected.looping)
            if there > most:
                found.append(f"has {there} {'stores' if store else 'loads'} of 2 to 8 bytes{where}, not {most} at most")
    return found
