"""Launch tables for small tensors, and margins around every output.

Without a GPU the kernels run in Triton's interpreter, which tests/conftest.py asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from fusednorm import triton_kernels

if find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# Of the kernels that know a value per position, those that sum over positions or channels.
SUMMING = ("position_reduce", "plane_pool", "position_moments", "position_affine_reduce", "position_affine_spread")

# Changes to the launch table.
TABLES: dict[str, dict[str, dict[str, int]]] = {
    "default": {},
    # Tiles so small that tiny tensors exercise every loop: several tiles a program, splits and their merging, and
    # several programs a row.
    "small": {
        "plane_moments": {"tile": 64, "row": 16, "programs": 64, "tiles": 1, "splits": 8},
        "plane_affine": {"tile": 64, "row": 16},
        "plane_affine_reduce": {"tile": 64, "row": 16, "programs": 64, "tiles": 1, "splits": 8},
        "plane_affine_grad": {"tile": 64, "row": 16},
        "position_affine": {"tile": 128, "row": 16, "segment": 16},
        "position_affine_grad": {"tile": 128, "row": 16, "segment": 16},
        **{name: {"tile": 128, "row": 16, "segment": 16, "programs": 12, "tiles": 1, "splits": 8} for name in SUMMING},
    },
    # One program for all positions of its planes, and as many tiles as that takes.
    "unsplit": {
        "plane_moments": {"tile": 64, "row": 16, "programs": 1},
        "plane_affine_reduce": {"tile": 64, "row": 16, "programs": 1},
        **{name: {"tile": 128, "row": 16, "segment": 16, "programs": 1} for name in SUMMING},
    },
}


@pytest.fixture(autouse=True)
def _ready() -> None:
    ready, why = triton_kernels.available()
    assert ready, f"{why}: was Triton imported before TRITON_INTERPRET was set?"


def _use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = triton_kernels.tuning
    for kernel, changes in TABLES[name].items():
        monkeypatch.setitem(tuning.TABLE, kernel, replace(tuning.TABLE[kernel], **changes))
    if TABLES[name]:
        monkeypatch.setattr(tuning, "MERGE", tuning.Merging(tile=32))


@pytest.fixture(params=["default", "small"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch table of a kernel that streams."""
    _use(request.param, monkeypatch)


@pytest.fixture(params=["default", "small", "unsplit"])
def reducing_table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch table of a kernel that reduces."""
    _use(request.param, monkeypatch)


@pytest.fixture
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    _use("small", monkeypatch)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every tensor counts as too large for int32."""
    launch = triton_kernels.launch
    monkeypatch.setattr(launch, "INT32_OFFSETS", 0)
    launch.plan.cache_clear()
    yield
    launch.plan.cache_clear()


@pytest.fixture(autouse=True)
def _guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Outputs lie between margins, and the margins must stay as they are."""
    margin, canary = 64, 77
    buffers = []
    empty, empty_like = torch.empty, torch.empty_like

    def guard(t: Tensor) -> Tensor:
        if t.is_meta:
            return t
        span = 1 + sum((d - 1) * s for d, s in zip(t.shape, t.stride(), strict=True)) if t.numel() else 0
        buffer = torch.full((span + 2 * margin,), canary, dtype=t.dtype, device=t.device)
        buffers.append(buffer)
        return buffer.as_strided(t.shape, t.stride(), margin)

    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: guard(empty(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty_like", lambda *args, **kwargs: guard(empty_like(*args, **kwargs)))
    yield
    for buffer in buffers:
        assert (buffer[:margin] == canary).all()
        assert (buffer[-margin:] == canary).all()
