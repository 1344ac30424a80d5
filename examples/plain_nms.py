"""Non-maximum suppression in plain PyTorch, where torchvision's native code does not load.

That is where it was built for another torch, a CUDA build's torchvision beside a CPU torch, say. What else Mask R-CNN
needs of it torchvision has in PyTorch itself, to be compiled: for one step that takes longer than it saves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor

from fusednorm.surgery.zoo import import_torchvision

import_torchvision()

from torchvision.ops import boxes as box_ops  # noqa: E402


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes (N, 4) that none of a higher score overlaps by more than the threshold, best first."""
    waiting, kept = scores.argsort(descending=True, stable=True), []
    while len(waiting):
        best, waiting = waiting[:1], waiting[1:]
        kept.append(best)
        waiting = waiting[box_ops.box_iou(boxes[best], boxes[waiting])[0] <= iou_threshold]
    return torch.cat(kept) if kept else waiting


@contextlib.contextmanager
def where_missing() -> Iterator[None]:
    """torchvision's detectors run inside: by its own code, or where that is not there by the above."""
    try:
        box_ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except RuntimeError:
        with mock.patch.object(box_ops, "nms", nms), torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield
