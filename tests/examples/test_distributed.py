"""Two processes with synchronized statistics train as one does with the batches of both."""

from pathlib import Path

import pytest
import torch

from examples.training import checkpoint
from examples.training.distributed import joined
from tests.examples.runs import command, flags, settings, train


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "device: expected 'cpu' or 'cuda', got 'gpu'"),
        ("cuda", "device: expected a GPU for each process, PyTorch sees 0"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, device: str, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match=message), joined(device):
        pass


def test_two_processes_with_synchronized_statistics(tmp_path: Path) -> None:
    alike = {"recipe": "batch", "mixup": 0.0, "crops_per_class": 4, "epochs": 1, "ema": 0.5}
    two, one = settings(**alike, batch_size=4, sync=True), settings(**alike, batch_size=8)
    done = command("tests.examples.ending", *flags(two, tmp_path / "two"), processes=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ended with") == 2
    assert "gloo" not in done.stdout  # threads that may take the process with them
    found, expected = checkpoint.read(tmp_path / "two" / "last.pt"), train(one, tmp_path / "one")
    for weights in ("model", "ema"):
        for name, value in expected[weights].items():
            torch.testing.assert_close(found[weights][name], value, rtol=1e-3, atol=1e-4, msg=name)
    (a,), (b,) = found["position"]["history"], expected["position"]["history"]
    for name in ("train_loss", "loss", "ema_loss", "accuracy"):
        assert a[name] == pytest.approx(b[name], rel=1e-3), name
