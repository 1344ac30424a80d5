"""Networks by name, from torchvision and timm."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import nn

SOURCES = ("torchvision", "timm")

# torchvision registers fake kernels for these when it is imported, and fails where its native library was built for
# another torch (a CUDA one beside a CPU one, say). Declared, they may lack kernels: classifiers don't use them.
_DECLARED = ("nms", "qnms")
_libraries: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """torchvision, also where its native operators don't load: its classifiers, transforms and datasets need none.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _DECLARED:
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)  # its operators go when it does
    return importlib.import_module("torchvision")


def build(name: str, **options: Any) -> nn.Module:
    """A network without trained weights.

    Args:
        name: as torchvision or timm has it; "timm/resnet50" says whose, else torchvision's comes first.
        options: for its constructor.

    Raises:
        ValueError: neither knows it. ImportError: whose it would be is not installed.
    """
    source, _, own = name.rpartition("/")
    if source and source not in SOURCES:
        raise ValueError(f"name: expected 'torchvision/...' or 'timm/...', got {name!r}")
    missing: list[ImportError] = []
    for candidate in (source,) if source else SOURCES:
        try:
            found = _FROM[candidate](own, options)
        except ImportError as error:
            missing.append(error)
            continue
        if found is not None:
            return found
    if missing:
        raise ImportError(
            f"name: {name!r} needs {source or ' or '.join(SOURCES)}; pip install 'fusednorm[models]'"
        ) from (missing[0])
    raise ValueError(f"name: expected a network of {source or ' or '.join(SOURCES)}, got {name!r}")


def _from_torchvision(name: str, options: dict[str, Any]) -> nn.Module | None:
    import_torchvision()
    models: Any = importlib.import_module("torchvision.models")
    return models.get_model(name, weights=None, **options) if name in models.list_models() else None


def _from_timm(name: str, options: dict[str, Any]) -> nn.Module | None:
    import_torchvision()
    timm: Any = importlib.import_module("timm")
    return timm.create_model(name, pretrained=False, **options) if timm.is_model(name) else None


_FROM = {"torchvision": _from_torchvision, "timm": _from_timm}
