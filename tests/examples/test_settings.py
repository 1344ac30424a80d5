"""What is asked of a training: each setting once, and the command line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples.training import checkpoint
from examples.training.mixup import mix, mixed_loss
from examples.training.randomness import MIXUP
from examples.training.settings import Recipe, Settings
from fusednorm.modules.projection import Projection
from tests.examples.runs import settings, train, training


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"recipe": "batchnorm"}, "recipe: expected one of none, batch, .*, got 'batchnorm'"),
        ({"amp": "half"}, "amp: expected one of none, bf16, fp16, got 'half'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"warmup": -1.0}, "warmup: expected at least 0, got -1.0"),
        ({"ema": 1.0}, "ema: expected at least 0 and below 1, got 1.0"),
        ({"label_smoothing": float("nan")}, "label_smoothing: expected at least 0 and below 1, got nan"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov: expected a momentum above 0"),
    ],
)
def test_bad_settings(others: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**others)


@pytest.mark.parametrize("recipe", [r.value for r in Recipe if r != Recipe.none])
def test_recipes_put_fused_layers_in(tmp_path: Path, recipe: str) -> None:
    model = training(settings(recipe=recipe), tmp_path).model
    assert any(type(m).__module__.startswith("fusednorm.modules") for m in model.modules())


def test_a_preserved_network_starts_as_with_batch_norm(tmp_path: Path) -> None:
    plain, kept, own = (
        training(settings(recipe=recipe, preserve=preserve), tmp_path / str(i)).model.eval()
        for i, (recipe, preserve) in enumerate([("batch", False), ("attentive", True), ("attentive", False)])
    )
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(kept(x), plain(x), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(own(x), plain(x), rtol=1e-2)


def test_no_recipe_leaves_the_network(tmp_path: Path) -> None:
    model = training(settings(recipe="none"), tmp_path).model
    assert not any(type(m).__module__.startswith("fusednorm") for m in model.modules())


def test_it_learns_and_the_average_with_it(tmp_path: Path) -> None:
    chosen = settings(recipe="representative", crops_per_class=24, batch_size=16, epochs=3, ema=0.8)
    first, *_, last = train(chosen, tmp_path)["position"]["history"]
    assert last["train_loss"] < 0.95 * first["train_loss"]
    assert last["accuracy"] > 0.3  # chance is 0.1
    assert last["ema_accuracy"] > 0.3
    best = checkpoint.read(tmp_path / "best.pt")["position"]["best"]
    assert best == max(m["ema_accuracy"] for m in checkpoint.read(tmp_path / "last.pt")["position"]["history"])


def test_accumulated_batches_are_one_large_one(tmp_path: Path) -> None:
    """Of a network whose samples don't know of each other."""

    def weights(accumulate: int) -> dict[str, torch.Tensor]:
        chosen = settings(
            recipe="none", model="squeezenet1_1", batch_size=8 // accumulate, accumulate=accumulate, epochs=1, mixup=0.0
        )
        started = training(chosen, tmp_path / str(accumulate))
        for module in started.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        assert started.fit()
        return started.model.state_dict()

    torch.testing.assert_close(weights(1), weights(4), rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_auxiliary_classifiers(tmp_path: Path) -> None:
    """GoogLeNet's: loss + 0.3 of theirs."""
    started = training(settings(model="googlenet", recipe="none", crops_per_class=1, batch_size=4), tmp_path)
    seen: list[Any] = []
    started.model.register_forward_hook(lambda _, args, found: seen.append(found))
    images, labels = torch.randn(4, 3, 64, 64), torch.arange(4)
    started._backward(images, labels, 0)
    mixed = mix(images, labels, 0.2, MIXUP, 0, 0, 0, 0)
    main, *others = (mixed_loss(logits, mixed, 0.1).item() for logits in seen[0])
    assert len(others) == 2
    assert started.loss.item() / 4 == pytest.approx(main + 0.3 * sum(others), rel=1e-5)
    assert started.model.aux1.fc2.weight.grad is not None
    assert 0 <= started._evaluate(started.model, "")["accuracy"] <= 1


def test_channels_last_reaches_the_maps(tmp_path: Path) -> None:
    started = training(settings(channels_last=True), tmp_path)
    seen = []
    for module in started.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(
                lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
            )
    started._evaluate(started.model, "")
    assert seen
    assert all(seen)


@pytest.mark.parametrize(("amp", "dtype"), [("none", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_amp_reaches_the_convolutions(tmp_path: Path, amp: str, dtype: torch.dtype) -> None:
    started = training(settings(amp=amp), tmp_path)
    seen = set()
    for module in started.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _, args, y: seen.add(y.dtype))
    started._evaluate(started.model, "")
    assert seen == {dtype}
    assert started.scaler.is_enabled() == (amp == "fp16")


def test_decay_leaves_norms_and_biases_out(tmp_path: Path) -> None:
    started = training(settings(recipe="attentive"), tmp_path)
    decayed = {p for g in started.optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    for name, module in started.model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            plain = isinstance(module, (nn.Conv2d, nn.Linear, Projection)) and own == "weight"
            assert (parameter in decayed) == plain, f"{name}.{own}"


def test_curves_of_lost_steps_are_taken_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tests.examples.runs import CutShortError

    chosen = settings(crops_per_class=32, epochs=2)  # 40 steps, looked at every 10
    stopped = training(chosen, tmp_path, tensorboard=True, checkpoint_every=15)

    def raises() -> None:
        if stopped.position.step == 22:
            raise CutShortError

    stopped.after_step = raises
    with pytest.raises(CutShortError):
        stopped.fit()
    train(chosen, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "curves")).Reload()
    assert [event.step for event in events.Scalars("loss")] == [10, 20, 30, 40, 40, 50, 60, 70, 80, 80]
    assert [event.step for event in events.Scalars("accuracy")] == [40, 80]
