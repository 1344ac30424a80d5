"""What a stage is told: where it runs, how long, on which backends."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .records import Log

T = TypeVar("T")

# In the order of a user's default; a dry run has the CPU's in their place.
GPU_BACKENDS = ("cuda", "triton")
DRY_BACKENDS = ("cpu", "torch")


@dataclass(frozen=True)
class Setting:
    out: Path
    write: Log
    until: float  # time.monotonic()
    dry: bool
    quick: bool
    commit: str

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def backends(self) -> list[str]:
        """Those of the table's that can run here, the faster first."""
        import fusednorm

        known = fusednorm.backends()
        names = DRY_BACKENDS if self.dry else GPU_BACKENDS
        return [name for name in names if name in known and known[name].available]

    def each(self, cases: list[T], work: Callable[[T], None], describe: Callable[[T], str] = str) -> None:
        """`work` on the cases one by one, as many as there is time for. One that fails is recorded, and passed over."""
        for number, case in enumerate(cases):
            if self.seconds_left() <= 0:
                text = f"{len(cases) - number} of {len(cases)} cases dropped for lack of time, from {describe(case)} on"
                self.write(kind="note", text=text)
                return
            try:
                work(case)
            except Exception as error:
                self.write(kind="problem", case=describe(case), text=f"{type(error).__name__}: {first_line(error)}")
                if self.device == "cuda" and context_is_lost():
                    left = len(cases) - number - 1
                    self.write(kind="note", text=f"the CUDA context is lost: {left} of {len(cases)} cases dropped")
                    raise


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:300]


def context_is_lost() -> bool:
    """After an illegal access every further call fails."""
    import torch

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
