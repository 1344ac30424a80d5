"""Recipes: which layer of ours goes where, as the papers have it. Data alone; layers.py builds, convert.py places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Places, named after those of a bottleneck block, as the papers do.
WHERE = {
    "bn1": "the first of a block's main path",
    "bn2": "of a block the one after its last convolution of more than one position (before it, in pre-activation)",
    "bn3": "the last of a block's main path",
    "all": "every one of a block's main path",
    "shortcut": "those of a block's shortcut",
    "stem": "those before the first block",
    "rest": "those of no block, from the first block on",
    "network": "every one",
}


@dataclass(frozen=True)
class Recipe:
    """Which layer takes the place of which normalizations.

    layer: a name of fusednorm.surgery.layers.KINDS.
    where: names of WHERE.
    options: of the layer.
    by_stage: option -> its values by stage of the network; for another number of stages they are stretched.
    by_place: option -> its values by place ("bn1", "bn2", "bn3"), the last that fits.
    source: where it is described.
    """

    layer: str
    where: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    by_stage: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    by_place: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    source: str = ""


RECIPES = {
    "attentive": Recipe(
        "attentive",
        where=("bn2",),
        by_stage={"num_components": (10, 10, 20, 20)},
        source="AN Fig. 2, section 4: after the last 3x3 convolution of a block",
    ),
    "representative": Recipe(
        "representative", where=("network",), source="RBN section 4: in place of every BN; by stage: Table 4"
    ),
    "switchable": Recipe("switchable", where=("network",), source="SN section 4: in place of every BN"),
    "normalization_attention": Recipe(
        "normalization_attention", where=("bn3",), source="NA section 3: at the end of a block, before the addition"
    ),
    "squeeze_excite": Recipe(
        "squeeze_excite",
        where=("bn3",),
        by_place={"reduction": {"bn1": 4, "bn2": 4, "bn3": 16}},
        source="AN Table 3: after a block's last BN, reduction 16; after others 4, for the same width inside",
    ),
    "batch": Recipe("batch", where=("network",), source="the same layers, fused"),
}
