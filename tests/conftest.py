"""Shared set-up: Triton's interpreter where there is no GPU, and one seed."""

import os

import torch

# Before any kernel is defined: triton.jit looks at it once.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest

import fusednorm


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_report_header() -> list[str]:
    rows = fusednorm.backends().values()
    return [
        "fusednorm backends: " + "; ".join(f"{b.name}: {b.reason if b.available else 'off, ' + b.reason}" for b in rows)
    ]
