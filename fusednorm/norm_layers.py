"""Plain functions that make our layers, as `norm_layer=` of torchvision's and timm's networks.

    torchvision.models.resnet50(norm_layer=fusednorm.norm_layers.representative_batch_norm)
    timm.create_model("resnet50", norm_layer=partial(fusednorm.norm_layers.attentive_batch_norm, num_components=20))
    timm.create_model("efficientnet_b0", norm_layer=partial(fusednorm.norm_layers.batch_norm, act="silu"))

Each takes the number of channels and what torch.nn.BatchNorm2d takes, then `dims` of positions and the layer's options.
Of timm's layers that join normalization and activation it takes apply_act, act_layer and act_kwargs; timm hands a
function no act_layer, so networks that leave the activation to such a layer (EfficientNet, RegNet, ResNetV2) need
`act`, which apply_act=False switches off. Their `inplace`, the activation's, is of no consequence here. They are
functions, for timm's look-ups refuse classes they don't know; they pickle, and so does functools.partial of them.

`fusednorm.convert` puts layers where a paper has them; a norm_layer is everywhere.

Raises:
    ValueError: an activation that the layers don't have, a drop_layer, a number of groups that does not divide the
        channels. TypeError: an option that the layer does not have.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .surgery.layers import make
from .surgery.norms import Norm, UnplacedError, activation

__all__ = [
    "attentive_batch_norm",
    "attentive_group_norm",
    "batch_norm",
    "group_norm",
    "normalization_attention_batch_norm",
    "representative_batch_norm",
    "squeeze_excite_batch_norm",
    "switchable_norm",
]

_NAMED = {"swish": "silu", "hard_swish": "hardswish"}


def batch_norm(num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any) -> nn.Module:
    """fusednorm.BatchNorm2d, or 1d or 3d with dims=1, 3, as all here over batch statistics."""
    return _batch("batch", num_features, eps, momentum, **options)


def attentive_batch_norm(
    num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any
) -> nn.Module:
    """fusednorm.AttentiveBatchNorm2d."""
    return _batch("attentive", num_features, eps, momentum, **options)


def representative_batch_norm(
    num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any
) -> nn.Module:
    """fusednorm.RepresentativeBatchNorm2d."""
    return _batch("representative", num_features, eps, momentum, **options)


def switchable_norm(num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any) -> nn.Module:
    """fusednorm.SwitchableNorm2d."""
    return _batch("switchable", num_features, eps, momentum, **options)


def squeeze_excite_batch_norm(
    num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any
) -> nn.Module:
    """Batch statistics, then recalibrations.SqueezeExcite."""
    return _batch("squeeze_excite", num_features, eps, momentum, **options)


def normalization_attention_batch_norm(
    num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, **options: Any
) -> nn.Module:
    """Batch statistics, then recalibrations.NormalizationAttention."""
    return _batch("normalization_attention", num_features, eps, momentum, **options)


def group_norm(num_channels: int, num_groups: int = 32, eps: float = 1e-5, **options: Any) -> nn.Module:
    """fusednorm.GroupNorm."""
    return _groups("batch", num_channels, num_groups, eps, **options)


def attentive_group_norm(num_channels: int, num_groups: int = 32, eps: float = 1e-5, **options: Any) -> nn.Module:
    """fusednorm.AttentiveGroupNorm."""
    return _groups("attentive", num_channels, num_groups, eps, **options)


def _batch(
    kind: str,
    channels: int,
    eps: float,
    momentum: float | None,
    affine: bool = True,
    track_running_stats: bool = True,
    *,
    dims: int = 2,
    **options: Any,
) -> nn.Module:
    norm = Norm("batch", channels, eps, momentum, track_running_stats, 1, affine, _act(options))
    return make(kind, norm, dims, options)


def _groups(kind: str, channels: int, groups: int, eps: float, affine: bool = True, **options: Any) -> nn.Module:
    return make(kind, Norm("group", channels, eps, None, False, groups, affine, _act(options)), 2, options)


def _act(options: dict[str, Any]) -> str | None:
    """Our `act`, taken out of the options with all that timm says of it."""
    own, layer = options.pop("act", None), options.pop("act_layer", None)
    arguments = options.pop("act_kwargs", None) or {}
    options.pop("inplace", None)
    if options.pop("drop_layer", None) is not None:
        raise ValueError("drop_layer: expected None, the layers have no dropout inside")
    if not options.pop("apply_act", True):
        return None
    if layer is None or isinstance(layer, str):
        return own if layer is None else _NAMED.get(layer, layer)
    try:
        return activation(layer(**arguments))
    except UnplacedError as error:
        raise ValueError(f"act_layer: expected an activation that the layers have, got {error}") from None
