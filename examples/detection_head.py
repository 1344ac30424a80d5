"""Attentive Normalization in Mask R-CNN, as AN section 4.3 fine-tunes it.

The backbone, a ResNet-50 with AN over BN, has its stem and first stage frozen, and of the rest mixtures and statistics;
their attention learns. The box head has AN over GN (attention of the choice A1), the mask head GN. Run, it makes one
training step on rectangles drawn here:

    python -m examples.detection_head
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

import fusednorm
from fusednorm.surgery import zoo

zoo.import_torchvision()

from torchvision.models.detection import MaskRCNN  # noqa: E402
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone  # noqa: E402
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads  # noqa: E402

from examples.plain_nms import where_missing  # noqa: E402

CHANNELS, GROUPS = 256, 32


def build(num_classes: int, pictures: Tensor, **options: Any) -> MaskRCNN:
    """Mask R-CNN with attention in backbone and box head; options are torchvision's.

    A real one loads a backbone that was trained with AN. This one takes the statistics that it is frozen with from some
    pictures (N, 3, H, W): those of a new network are not its own.
    """
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5
    )
    backbone.body, _ = fusednorm.convert(backbone.body, "attentive", fold=True)
    fusednorm.average_statistics(backbone.body, [pictures])
    fusednorm.freeze(backbone.body, "standardization", "stem", "stage1")

    groups = functools.partial(nn.GroupNorm, GROUPS)
    box_head = FastRCNNConvFCHead((CHANNELS, 7, 7), [CHANNELS] * 4, [1024], norm_layer=groups)
    box_head, report = fusednorm.convert(box_head, "attentive", where="network", fold=True)
    print(report)
    mask_head = MaskRCNNHeads(CHANNELS, [CHANNELS] * 4, 1, norm_layer=groups)
    return MaskRCNN(backbone, num_classes, box_head=box_head, mask_head=mask_head, **options)


def rectangles(count: int, size: int, num_classes: int, seed: int = 0) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures (3, size, size) of two rectangles each, and what a detector is to find in them."""
    generator = torch.Generator().manual_seed(seed)
    images, targets = [], []
    for _ in range(count):
        image, masks, boxes = torch.rand(3, size, size, generator=generator) * 0.2, [], []
        for _ in range(2):
            left, top = (int(torch.randint(0, size // 2, (), generator=generator)) for _ in range(2))
            width, height = (int(torch.randint(size // 4, size // 2, (), generator=generator)) for _ in range(2))
            image[:, top : top + height, left : left + width] += torch.rand(3, 1, 1, generator=generator)
            mask = torch.zeros(size, size, dtype=torch.uint8)
            mask[top : top + height, left : left + width] = 1
            masks.append(mask)
            boxes.append([left, top, left + width, top + height])
        labels = torch.randint(1, num_classes, (2,), generator=generator)
        images.append(image)
        targets.append(
            {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": labels, "masks": torch.stack(masks)}
        )
    return images, targets


def step(
    model: MaskRCNN, optimizer: torch.optim.Optimizer, images: list[Tensor], targets: list[Any]
) -> dict[str, float]:
    """One step of training: the losses by name."""
    model.train()
    optimizer.zero_grad()
    losses: dict[str, Tensor] = model(images, targets)
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


def main() -> None:
    torch.manual_seed(0)
    images, targets = rectangles(count=2, size=256, num_classes=3)
    model = build(3, torch.stack(images), min_size=256, max_size=256)
    optimizer = torch.optim.SGD(fusednorm.parameter_groups(model, 1e-4), lr=0.002, momentum=0.9)
    with where_missing():
        losses = step(model, optimizer, images, targets)
    for name, loss in losses.items():
        print(f"{name:20s} {loss:.3f}")


if __name__ == "__main__":
    main()
