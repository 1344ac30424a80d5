"""SIGTERM asks a training to write down where it is and end."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Stop:
    """Within it SIGTERM sets `asked` and does nothing else."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Stop:
        self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
