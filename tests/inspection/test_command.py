"""`fusednorm plot`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import fusednorm
from fusednorm import cli
from fusednorm.surgery import zoo

MODEL = "timm/test_resnet"


def checkpoint(path: Path, recipe: str, **more: object) -> Path:
    """As examples/train.py writes it."""
    torch.manual_seed(0)
    model = fusednorm.convert(zoo.build(MODEL, num_classes=10), recipe, fold=True).model
    settings = {"model": MODEL, "recipe": recipe, "fold": True, "size": 32}
    contents = {"settings": settings, "classes": list("abcdefghij"), "model": model.state_dict(), "ema": None, **more}
    torch.save(contents, path)
    return path


def plot(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli.build_app(), ["plot", *map(str, arguments)])
    return result.exit_code, result.output + (str(result.exception) if result.exception else "")


@pytest.mark.parametrize(
    ("recipe", "files"),
    [
        ("switchable", {"importance.png"}),
        ("representative", {"calibration.png", "spread.png"}),
        ("attentive", {"attention.png"}),
    ],
)
def test_checkpoints_of_the_example(tmp_path: Path, recipe: str, files: set[str]) -> None:
    out = tmp_path / "plots"
    code, output = plot(checkpoint(tmp_path / "last.pt", recipe), "--out", out, "--batch", "textures")
    assert code == 0, output
    assert {path.name for path in out.iterdir()} == files
    for name in files:
        assert name in output


def test_images_of_a_folder(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures" / "some"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 255, (40, 50), np.uint8)).save(pictures / f"{number}.png")
    code, output = plot(
        checkpoint(tmp_path / "last.pt", "attentive"), "--out", tmp_path / "p", "--batch", tmp_path / "pictures"
    )
    assert code == 0, output
    assert "over samples" in output


def test_a_bare_state_dict_needs_to_be_told(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "last.pt", "switchable")
    bare = tmp_path / "bare.pt"
    torch.save(torch.load(path)["model"], bare)
    code, output = plot(bare)
    assert code == 1
    assert "--model: expected" in output
    code, output = plot(bare, "--model", MODEL, "--recipe", "switchable", "--out", tmp_path / "p")
    assert code == 0, output
    code, output = plot(bare, "--model", MODEL, "--recipe", "attentive", "--out", tmp_path / "p")
    assert code == 1
    assert f"checkpoint: expected {MODEL} with recipe attentive" in output
    assert len(output) < 900  # not every name there is


def test_a_checkpoint_of_something_else(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "other.pt")
    code, output = plot(tmp_path / "other.pt", "--model", MODEL, "--recipe", "attentive")
    assert code == 1
    assert "checkpoint: expected a network's state, got one of epoch" in output


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrapped_networks(tmp_path: Path, prefix: str) -> None:
    """Of DistributedDataParallel, compiled ones and AveragedModel."""
    contents = torch.load(checkpoint(tmp_path / "last.pt", "switchable"))
    contents["model"] = {prefix + name: value for name, value in contents["model"].items()}
    contents["model"]["n_averaged"] = torch.tensor(2)
    torch.save(contents, tmp_path / "wrapped.pt")
    code, output = plot(tmp_path / "wrapped.pt", "--out", tmp_path / "p")
    assert code == 0, output
    assert "layer1.0.bn1 " in output
    assert prefix not in output


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    for name in ("text.pt", "whole.pt"):
        code, output = plot(tmp_path / name, "--model", MODEL, "--recipe", "attentive")
        assert code == 1
        assert (
            f"checkpoint: expected a file of tensors alone (model.state_dict(), not the model), {tmp_path / name}"
            in output
        )
    path = checkpoint(tmp_path / "last.pt", "attentive")
    (tmp_path / "half.png").write_bytes(b"\x89PNG")
    code, output = plot(path, "--batch", tmp_path / "half.png")
    assert code == 1
    assert f"--batch: {tmp_path / 'half.png'}: cannot identify" in output


def test_averaged_weights(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "last.pt", "switchable")
    code, output = plot(path, "--ema")
    assert code == 1
    assert "--ema: expected a checkpoint with averaged weights" in output
    contents = torch.load(path)
    contents["ema"] = {name: value.clone() for name, value in contents["model"].items()}
    for name, value in contents["ema"].items():
        if name.endswith("mean_weight"):
            value.copy_(torch.tensor([9.0, 0.0, 0.0]))
    torch.save(contents, path)
    code, output = plot(path, "--ema", "--out", tmp_path / "p")
    assert code == 0, output
    assert "1.000" in output


def test_nothing_to_look_at(tmp_path: Path) -> None:
    code, output = plot(checkpoint(tmp_path / "last.pt", "attentive"), "--out", tmp_path / "p")
    assert code == 0
    assert "attention needs images, --batch" in output
    code, output = plot(tmp_path / "last.pt", "--batch", tmp_path / "none.png")
    assert code == 1
    assert "--batch: expected an image" in output
