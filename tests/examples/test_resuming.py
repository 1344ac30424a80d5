"""A training that was interrupted ends as one that was not: weights, averages, metrics, chance, bit by bit."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.training import checkpoint
from tests.examples.runs import CutShortError, command, differences, flags, interrupt, settings, train, training

# Dropout draws from the global generator; the loader's workers are others after the interruption.
DRAWING = settings(model="mobilenet_v3_small", ema=0.9, recipe="representative")


def test_killed_and_resumed(tmp_path: Path) -> None:
    whole = train(DRAWING, tmp_path / "whole")
    out = tmp_path / "killed"
    killed = command("tests.examples.interrupted", "SIGKILL", "14", *flags(DRAWING, out))
    assert killed.returncode == -9, killed.stderr
    # Steps 13 and 14 are lost, and the first epoch's end is behind.
    assert checkpoint.read(out / "last.pt")["position"]["step"] == 12
    resumed = command("examples.train", *flags(DRAWING, out, workers=2))
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on from" in resumed.stdout
    assert differences(whole, checkpoint.read(out / "last.pt")) == []
    assert differences(checkpoint.read(tmp_path / "whole" / "best.pt"), checkpoint.read(out / "best.pt")) == []
    assert (tmp_path / "whole" / "metrics.json").read_text() == (out / "metrics.json").read_text()


def test_two_processes_killed_stopped_and_resumed(tmp_path: Path) -> None:
    chosen = settings(model="mobilenet_v3_small", ema=0.9, recipe="switchable", accumulate=2, batch_size=4, epochs=1)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    done = command("examples.train", *flags(chosen, whole), processes=2)
    assert done.returncode == 0, done.stderr
    killed = command("tests.examples.interrupted", "SIGKILL", "4", *flags(chosen, out), processes=2)
    assert killed.returncode != 0
    assert checkpoint.read(out / "last.pt")["position"]["step"] == 3
    stopped = command("tests.examples.interrupted", "SIGTERM@1", "4", *flags(chosen, out), processes=2)
    assert stopped.returncode == 0, stopped.stderr
    assert checkpoint.read(out / "last.pt")["position"]["step"] == 4
    resumed = command("examples.train", *flags(chosen, out), processes=2)
    assert resumed.returncode == 0, resumed.stderr
    last = checkpoint.read(out / "last.pt")
    assert len(last["processes"]) == 2
    assert differences(checkpoint.read(whole / "last.pt"), last) == []


def test_deterministic_says_so_to_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # so that it is brought back as it was
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    try:
        training(settings(deterministic=True), tmp_path)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_another_folder_gets_a_best_checkpoint(tmp_path: Path) -> None:
    interrupt(settings(), tmp_path / "one", 12)
    stored = checkpoint.read(tmp_path / "one" / "last.pt")
    stored["position"]["best"] = 2.0  # which nothing reaches
    with checkpoint.replacing(tmp_path / "one" / "last.pt") as file:
        torch.save(stored, file)
    train(settings(), tmp_path / "two", resume=str(tmp_path / "one" / "last.pt"))
    assert checkpoint.read(tmp_path / "two" / "best.pt")["position"]["epoch"] == 2


@pytest.mark.slow
def test_three_processes_add_gradients_in_one_order(tmp_path: Path) -> None:
    """Two numbers have one sum, three may have several."""
    chosen = settings(recipe="switchable", batch_size=2, epochs=1)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    for program, folder in (
        (["examples.train"], whole),
        (["tests.examples.interrupted", "SIGKILL", "5"], out),
        (["examples.train"], out),
    ):
        last = command(*program, *flags(chosen, folder), processes=3)
    assert last.returncode == 0, last.stderr
    assert differences(checkpoint.read(whole / "last.pt"), checkpoint.read(out / "last.pt")) == []


def test_sigterm_writes_the_step_it_came_in(tmp_path: Path) -> None:
    whole, out = train(settings(), tmp_path / "whole"), tmp_path / "stopped"
    stopped = command("tests.examples.interrupted", "SIGTERM@all", "8", *flags(settings(), out, workers=1))
    assert stopped.returncode == 0, stopped.stderr
    assert "SIGTERM: stopped after step 8" in stopped.stdout
    assert checkpoint.read(out / "last.pt")["position"]["step"] == 8
    assert differences(whole, train(settings(), out)) == []


@pytest.mark.parametrize(
    ("step", "others"),
    [
        (2, {"amp": "fp16", "recipe": "switchable"}),
        (5, {"amp": "bf16", "recipe": "squeeze_excite", "channels_last": True}),
        (10, {"recipe": "normalization_attention", "nesterov": True, "ema": 0.99}),
        (4, {"recipe": "none", "mixup": 0.0, "accumulate": 3, "batch_size": 4}),
    ],
    ids=str,
)
def test_interrupted_and_resumed(tmp_path: Path, step: int, others: dict[str, Any]) -> None:
    """Before the first checkpoint; between two; when the last step of an epoch was done but not the epoch's end."""
    chosen = settings(**others)
    whole = train(chosen, tmp_path / "whole")
    interrupt(chosen, tmp_path / "parts", step)
    assert differences(whole, train(chosen, tmp_path / "parts")) == []
    assert all(math.isfinite(value) for metrics in whole["position"]["history"] for value in metrics.values())


def test_interrupted_after_the_best_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = train(settings(), tmp_path / "whole"), tmp_path / "parts"
    write = checkpoint.write

    def interrupted(path: Path, contents: Any) -> None:
        write(path, contents)
        if path.name == "best.pt":
            raise CutShortError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", interrupted)
        with pytest.raises(CutShortError):
            training(settings(), out).fit()
    assert checkpoint.read(out / "last.pt")["position"]["epoch"] == 0
    assert differences(whole, train(settings(), out)) == []
    assert differences(checkpoint.read(tmp_path / "whole" / "best.pt"), checkpoint.read(out / "best.pt")) == []


def test_interrupted_before_the_last_metrics_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(settings(), tmp_path / "whole")
    stopped, write = training(settings(), tmp_path / "parts"), checkpoint.write

    def interrupted(path: Path, contents: Any) -> None:
        write(path, contents)
        if path.name == "last.pt" and contents["position"]["epoch"] == 2:
            raise CutShortError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", interrupted)
        with pytest.raises(CutShortError):
            stopped.fit()
    train(settings(), tmp_path / "parts")
    metrics = [(tmp_path / run / "metrics.json").read_text() for run in ("whole", "parts")]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("where", ["weights", "statistics"])
def test_what_is_not_finite_is_not_stored(tmp_path: Path, where: str) -> None:
    """Nothing would come of going on with it."""
    broken = training(settings(recipe="batch"), tmp_path)

    def breaks() -> None:
        if broken.position.step == 4:
            layer = next(m for m in broken.model.modules() if hasattr(m, "running_mean"))
            (layer.weight if where == "weights" else layer.running_mean).data[0] = math.nan

    broken.after_step = breaks
    with pytest.raises(ValueError, match=r"weights or statistics are not finite after step 6, .* are from before"):
        broken.fit()
    assert checkpoint.read(tmp_path / "last.pt")["position"]["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt"]


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    before = train(settings(epochs=1), tmp_path)
    again = training(settings(epochs=1), tmp_path)
    again.after_step = pytest.fail
    said: list[str] = []
    again.display.say = said.append
    assert again.fit()
    assert said[-1] == f"Going on from {tmp_path / 'last.pt'}: finished, nothing is left"
    assert differences(before, checkpoint.read(tmp_path / "last.pt")) == []


def test_never_starts_anew(tmp_path: Path) -> None:
    train(settings(epochs=1), tmp_path)
    assert training(settings(epochs=1), tmp_path, resume="never").position.step == 0


def test_another_checkpoint_to_go_on_with(tmp_path: Path) -> None:
    whole = train(settings(), tmp_path / "whole")
    interrupt(settings(), tmp_path / "first", 7)
    assert differences(whole, train(settings(), tmp_path / "other", resume=str(tmp_path / "first" / "last.pt"))) == []


def test_other_settings_are_named(tmp_path: Path) -> None:
    interrupt(settings(), tmp_path, 4)
    with pytest.raises(ValueError, match=r"batch_size: expected 8, as in .*last\.pt .*, got 16"):
        training(settings(batch_size=16), tmp_path)
    refused = command("examples.train", *flags(settings(recipe="switchable"), tmp_path))
    assert refused.returncode == 1
    assert "recipe: expected 'attentive'" in refused.stdout.replace("\n", " ")


def test_no_checkpoint_to_go_on_with(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume: expected 'auto', 'never' or a checkpoint, got 'late'"):
        training(settings(), tmp_path, resume="late")
