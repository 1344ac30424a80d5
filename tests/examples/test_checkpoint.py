"""Checkpoints are whole, the old one or the new."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from examples.training import checkpoint

CONTENTS = {"settings": {"model": "resnet18"}, "weights": torch.arange(5)}

KILLED_WHILE_WRITING = """
import os, signal, sys, torch
from pathlib import Path
from examples.training import checkpoint

class Killing:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

def {patched}(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

{patch}
checkpoint.write(Path(sys.argv[1]), {{"settings": {{}}, "weights": torch.zeros(1_000_000), "last": {last}}})
"""


@pytest.mark.parametrize(
    ("patch", "last"),
    [("", "Killing()"), ("os.fsync = killed", "0"), ("os.replace = killed", "0")],
    ids=["while writing", "before it is on the disk", "before it takes its place"],
)
def test_a_kill_leaves_the_old_file_whole(tmp_path: Path, patch: str, last: str) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write(path, CONTENTS)
    script = KILLED_WHILE_WRITING.format(patched="killed", patch=patch, last=last)
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", script, str(path)], cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert killed.returncode == -signal.SIGKILL
    assert torch.equal(checkpoint.read(path)["weights"], CONTENTS["weights"])
    (left,) = (other for other in tmp_path.iterdir() if other != path)
    somebodys = tmp_path / ".notes.tmp"
    somebodys.touch()
    checkpoint.remove_unfinished(path)
    assert not left.exists()
    assert somebodys.exists()
    assert path.exists()


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.write(path, CONTENTS)
    with pytest.raises((AttributeError, TypeError)):
        checkpoint.write(path, {"settings": lambda: None, "generator": (i for i in range(3))})
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(checkpoint.read(path)["weights"], CONTENTS["weights"])


def test_another_file_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match=r"list\.pt: expected a checkpoint of examples/train\.py, got list"):
        checkpoint.read(tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    for unreadable in (tmp_path / "text.pt", tmp_path):
        with pytest.raises(ValueError, match=r"expected a checkpoint of examples/train\.py, got .*Error"):
            checkpoint.read(unreadable)
