"""Mask R-CNN with attention in backbone and box head."""

import copy

import pytest
import torch

import fusednorm
from fusednorm.surgery import zoo

zoo.import_torchvision()
torchvision = pytest.importorskip("torchvision")

from examples import detection_head  # noqa: E402
from examples.plain_nms import nms, where_missing  # noqa: E402


@pytest.fixture(scope="module")
def trained():
    """The network, its state before, the losses of a step and those after it."""
    small = {"box_batch_size_per_image": 8, "min_size": 96, "max_size": 96}
    small |= {f"rpn_{place}_nms_top_n_{mode}": 16 for place in ("pre", "post") for mode in ("train", "test")}
    with where_missing():
        torch.manual_seed(0)
        images, targets = detection_head.rectangles(count=2, size=96, num_classes=3)
        model = detection_head.build(3, torch.stack(images), **small)
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD(fusednorm.parameter_groups(model, 1e-4), lr=1e-3)
        losses = detection_head.step(model, optimizer, images, targets)
        with torch.no_grad():
            found = model.eval()(images)
    return model, before, losses, found


def test_has_attention_where_the_paper_has_it(trained):
    model = trained[0]
    kinds = {name: type(m) for name, m in model.named_modules()}
    attentive = [name for name, kind in kinds.items() if kind is fusednorm.AttentiveBatchNorm2d]
    assert len(attentive) == 16
    assert all(name.startswith("backbone.body.layer") and name.endswith(".bn2") for name in attentive)
    groups = [name for name, kind in kinds.items() if kind is fusednorm.AttentiveGroupNorm]
    assert groups == [f"roi_heads.box_head.{i}.1" for i in range(4)]
    assert all(model.get_submodule(name).act == "relu" for name in groups)
    assert model.get_submodule(groups[0]).attention_norm is None  # A1
    assert sum(kind is torch.nn.GroupNorm for kind in kinds.values()) == 4  # the mask head


def test_one_step(trained):
    _, _, losses, found = trained
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"}
    assert all(0 <= loss < 100 for loss in losses.values())
    assert {"boxes", "labels", "scores", "masks"} == set(found[0])


def test_frozen_parts_stay(trained):
    model, before, *_ = trained
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    body = {name.removeprefix("backbone.body.") for name in changed if name.startswith("backbone.body.")}
    assert not {name for name in body if name.startswith(("conv1", "bn1", "layer1"))}
    norms = {name for name in body if "bn" in name or "downsample.1" in name}
    assert norms
    assert all(".attention" in name for name in norms)
    assert {f"roi_heads.box_head.{i}.1.{p}" for i in range(4) for p in ("weight", "attention.weight")} <= changed


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_non_maximum_suppression(count, threshold):
    """By its definition: from the best on, each that no kept one overlaps by more; of equal scores the first."""
    generator = torch.Generator().manual_seed(count)
    corners, sides = (torch.randint(low, 12, (count, 2), generator=generator).float() for low in (0, 1))
    boxes, scores = torch.cat([corners, corners + sides], 1), torch.randint(0, 20, (count,), generator=generator) / 20
    kept = nms(boxes, scores, threshold).tolist()
    overlap = torchvision.ops.box_iou(boxes, boxes)
    order = sorted(range(count), key=lambda i: (-scores[i], i))
    expected = []
    for i in order:
        if all(overlap[i, j] <= threshold for j in expected):
            expected.append(i)
    assert kept == expected
