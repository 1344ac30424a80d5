"""Files that are either whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch


def write(path: Path, contents: Any) -> None:
    """torch.save, whole or not at all."""
    with replacing(path) as file:
        torch.save(contents, file)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside path, which takes its place once it is on the disk: until then, and after a kill, the old one is
    there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def read(path: Path) -> dict[str, Any]:
    """On the CPU, and without running what a file may hold of code.

    Raises:
        ValueError: it is no checkpoint of this program.
    """
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises anything of a file that is none of its own
        raise ValueError(f"{path}: expected a checkpoint of examples/train.py, got {error!r:.200}") from error
    if not isinstance(contents, dict) or "settings" not in contents:
        raise ValueError(f"{path}: expected a checkpoint of examples/train.py, got {type(contents).__name__}")
    return contents


def remove_unfinished(path: Path) -> None:
    """What a kill in the middle of `replacing` left behind."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """The new name too is on the disk then. Not all systems let a folder be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
