"""Checkpoints of the papers' official repositories, and of plain BatchNorm, for our layers; and back.

    checkpoint = torch.load("resnet50_rbn.pth")["state_dict"]
    model.load_state_dict(fusednorm.official.convert_state_dict(model, checkpoint))

Which layer of ours computes what an official module does:

    official                                            ours
    AN   MixtureBatchNorm2d(C, k=K, attention_mode=M)   AttentiveBatchNorm2d(C, K, attention_norm=, attention_act=):
                                                        M = 2 True, "hsigmoid"; 5 True, "sigmoid"; 6 True, "softmax";
                                                        4 False, "hsigmoid"; 0 False, "sigmoid"; 1, 3: not in the paper
         MixtureGroupNorm(C, G, K, attention_mode=M)    AttentiveGroupNorm(G, C, K, ...), M = 4 or 0
    RBN  RepresentativeBatchNorm2d(C)                   RepresentativeBatchNorm2d(C)
    SN   SwitchNorm2d(C)                                SwitchableNorm2d(C, unbiased=True, momentum=0.1)
         SwitchNorm1d(C), SwitchNorm3d(C)               SwitchableNorm1d, 3d(C, unbiased=True, momentum=0.003)
             using_bn=False                                 scopes=("instance", "layer")
             using_moving_average=False                     average="batch"
    NA   NALayer(C) of resnet_na4, na6, mobilenet_na    NormalizationAttention(similarity="mean_difference",
                                                                               unbiased=True)
         NALayer(C) of resnet_na3                       NormalizationAttention(similarity=None, unbiased=True)
         NALayer(C) of resnet_na5                       none: embedding=True computes it, but the names that its two
                                                        networks have in checkpoints are not known here
         SELayer(C, r)                                  SqueezeExcite(C, r)

Momenta are in no checkpoint. SN's official one weighs the old value and ours, as torch's, the new: ours = 1 - theirs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from fusednorm import checks


class Converted(OrderedDict[str, Any]):
    """A state dict of ours, and where each entry is from.

    initialized: names of ours that the checkpoint does not have; the values are the layer's own.
    source: every other name of ours -> its name in the checkpoint.
    """

    def __init__(self, *entries: Any, **more: Any) -> None:  # as dict's: copies and | call it
        super().__init__(*entries, **more)
        before = entries[0] if entries and isinstance(entries[0], Converted) else None
        self.initialized: list[str] = list(before.initialized) if before is not None else []
        self.source: dict[str, str] = dict(before.source) if before is not None else {}

    def copy(self) -> Converted:
        return Converted(self)


class _Rule(NamedTuple):
    """How an official module saves what one of our classes holds; the keys are our names."""

    names: Mapping[str, str] = {}  # the official name, where it differs
    ones: Mapping[str, tuple[int, int]] = {}  # how many dimensions of size 1 it has before and after ours
    added: tuple[str, ...] = ()  # what the layer adds to BatchNorm
    unsaved: tuple[str, ...] = ()  # what the official module does not have


_AFFINE = ("weight", "bias")
_BATCH_NORM = (*_AFFINE, "running_mean", "running_var", "num_batches_tracked")
_FC = "attention_weights.attention"

_AN = _Rule(
    names={name: f"{name}_" for name in _AFFINE}
    | {f"attention.{name}": f"{_FC}.0.{name}" for name in _AFFINE}
    | {f"attention_norm.{name}": f"{_FC}.1.{name}" for name in _BATCH_NORM},
    ones={"attention.weight": (0, 2)},  # a 1x1 convolution
)
_NA = _Rule(names={"gain": "weight2", "offset": "bias2"})
_SE = _Rule(
    names={f"reduce.{name}": f"fc.0.{name}" for name in _AFFINE}
    | {f"expand.{name}": f"fc.2.{name}" for name in _AFFINE}
)


def _rbn(positions: int) -> _Rule:
    """(1, C, 1, 1) in 2-D, the only official one; for others as many dimensions as the map has."""
    added = ("center_weight", "scale_weight", "scale_bias")
    return _Rule(ones=dict.fromkeys((*_AFFINE, *added), (1, positions)), added=added)


def _sn(positions: int) -> _Rule:
    """1d: (1, C); 2d: (1, C, 1, 1); 3d: (1, C, 1, 1, 1). The buffers are (1, C) in 1d, else (1, C, 1)."""
    ones = dict.fromkeys(_AFFINE, (1, positions)) | dict.fromkeys(
        ("running_mean", "running_var"), (1, min(positions, 1))
    )
    return _Rule(ones=ones, added=("mean_weight", "var_weight"), unsaved=("num_batches_tracked",))


_IEBN = _Rule(added=("enhance_weight", "enhance_bias"))

# By class name: the layers of fusednorm and of fusednorm.reference, and the parts of a RecalibratedNorm as if 2-D.
_RULES = {
    **{f"AttentiveBatchNorm{d}d": _AN for d in (1, 2, 3)},
    **{f"RepresentativeBatchNorm{d}d": _rbn(d) for d in (1, 2, 3)},
    **{f"SwitchableNorm{d}d": _sn(d if d > 1 else 0) for d in (1, 2, 3)},
    **{f"InstanceEnhancementBatchNorm{d}d": _IEBN for d in (1, 2, 3)},
    "AttentiveGroupNorm": _AN,
    "NormalizationAttention": _NA,
    "SqueezeExcite": _SE,
    "RecalibratedNorm": _Rule(),
    "Attentive": _AN,
    "Representative": _rbn(2),
    "Scaling": _rbn(2),
    "Switchable": _sn(2),
    "InstanceEnhancement": _IEBN,
}
_PARTS = ("standardize.", "recalibrate.")
_SCOPES = ("instance", "layer", "batch", "group")  # the official order; "group" is ours alone


class _Place(NamedTuple):
    """Where an entry of a state dict belongs."""

    layer: str  # the prefix of the outermost layer of ours
    module: nn.Module  # that layer, or the part of a RecalibratedNorm
    rule: _Rule
    name: str  # in the module

    @property
    def official(self) -> str:
        return self.layer + self.rule.names.get(self.name, self.name)

    @property
    def is_ratio(self) -> bool:
        return self.name in ("mean_weight", "var_weight") and self.name in self.rule.added

    @property
    def scopes(self) -> Sequence[str]:
        return cast("Sequence[str]", self.module.scopes)


def _is_ours(module: nn.Module) -> bool:
    return any(cls.__module__.partition(".")[0] == "fusednorm" for cls in type(module).__mro__)


def _rule(module: nn.Module) -> _Rule | None:
    classes = type(module).__mro__ if _is_ours(module) else ()
    return next((_RULES[cls.__name__] for cls in classes if cls.__name__ in _RULES), None)


def _places(model: nn.Module) -> dict[str, _Place]:
    """Every entry of our layers in the model's state dict -> where it belongs."""
    places: dict[str, _Place] = {}
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules(remove_duplicate=False):
        prefix, rule = f"{path}." if path else "", _rule(module)
        if rule is None or prefix.startswith(inside):
            continue
        inside += (prefix,)
        for name in module.state_dict():
            place = _Place(prefix, module, rule, name)
            part = next((part for part in _PARTS if name.startswith(part)), None)
            if part is not None:
                child = module.get_submodule(part[:-1])
                if _is_ours(child):  # a user's own part has no official name
                    # Affine's weight and bias look as the official layer with that standardization has them.
                    own = _rule(child) or _rule(module.get_submodule("standardize")) or _Rule()
                    place = _Place(prefix, child, own, name.removeprefix(part))
            places[prefix + name] = place
    return places


def convert_state_dict(
    layer_or_model: nn.Module, state_dict: Mapping[str, Any], *, batches: int | None = None
) -> Converted:
    """What official code saved -> what `layer_or_model.load_state_dict` takes.

    Our layers may sit anywhere in the model, under the names that the official ones have in the checkpoint (where they
    have others, rename its keys first). All other entries stay as they are. A RecalibratedNorm reads the flat names of
    one official layer: "bn.running_mean" for its bn.standardize.running_mean, "bn.fc.0.weight" for its
    bn.recalibrate.reduce.weight.

    BatchNorm's checkpoints load into RepresentativeBatchNorm, InstanceEnhancementBatchNorm and SwitchableNorm with the
    scope "batch". What these add keeps the layer's values, and `initialized` says so. The function is not BatchNorm's
    yet: RBN's initial gate is sigmoid(1) = 0.73, SN's initial ratios are equal. Into Attentive Normalization they don't
    load: one gamma a channel says nothing of K, and what K equal ones come to is up to the attention.

    num_batches_tracked may always be absent (SN has none): the layer's own stays.

    Args:
        layer_or_model: the names and shapes to expect, and the values that stay. It is not changed.
        state_dict: the tensors by name, without a wrapper's "module." (torch.nn.modules.utils has
            consume_prefix_in_state_dict_if_present).
        batches: how many batches were summed by an SN with using_moving_average=False, which saves the sums S1 of means
            and S2 of mean^2 + var; for every SwitchableNorm, mean = S1/batches and var = S2/batches - mean^2.

    Returns:
        The state dict with attributes `initialized` and `source`, see Converted. It shares memory with its sources.

    Raises:
        TypeError: layer_or_model is no module, or state_dict no mapping.
        ValueError: names all that is missing or left over or has a wrong shape; a NormalizationAttention with embedding
            (see the table at the head of this file).
    """
    _check_arguments(layer_or_model, state_dict)
    if batches is not None:
        checks.check_count("batches", batches)
    expected, places = layer_or_model.state_dict(), _places(layer_or_model)
    _refuse_embedding(places)
    optional = _missing_in_batch_norm(places, state_dict)
    left, missing, misfits = dict(state_dict), [], []
    result = Converted()
    for name, own in expected.items():
        place = places.get(name)
        source = name if place is None else place.official
        if source in left:
            value = left.pop(source)
            result[name] = value if place is None else _without_ones(value, own.shape)
            result.source[name] = source
            if isinstance(own, Tensor) and getattr(result[name], "shape", None) != own.shape:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                misfits.append(f"{source}: expected shape {tuple(own.shape)}, got {got}")
        elif name in optional or name.endswith("num_batches_tracked"):
            result[name] = own.clone()
            result.initialized.append(name)
        else:
            missing.append(source if source == name else f"{source} (here {name})")
    _refuse(missing, left, misfits, _wrapper_hint(state_dict, left))

    for name in result.source:
        if name in places and places[name].is_ratio:
            scopes = places[name].scopes
            result[name] = result[name][..., [_official_order(scopes).index(scope) for scope in scopes]]
    if batches is not None:
        _average_sums(result, places, batches)
    if hasattr(state_dict, "_metadata"):  # versions, which modules that changed over time look at
        result._metadata = state_dict._metadata  # type: ignore[attr-defined]
    return result


def to_official(layer_or_model: nn.Module, state_dict: Mapping[str, Any] | None = None) -> OrderedDict[str, Any]:
    """The way back: a state dict of ours (default: the model's) with official names and shapes.

    Shapes:
        AN   weight_, bias_ (K, C); the attention's weight (K, C, 1, 1).
        RBN  parameters (1, C, 1, 1) in 2-D, (1, C, 1) in 1-D and (1, C, 1, 1, 1) in 3-D, of which there is no code.
        SN   weight, bias (1, C, 1, 1) in 2-D, (1, C) in 1-D, (1, C, 1, 1, 1) in 3-D; buffers (1, C, 1), in 1-D (1, C),
             without num_batches_tracked. Ratios in the order instance, layer, batch.

    Layers of ours without an official twin keep their names. No state dict has options: whether the official module
    computes the same, the table at the head of this file says.

    Raises:
        TypeError: layer_or_model is no module, or state_dict no mapping.
        ValueError: a SwitchableNorm with the scope "group" or per_group > 1, a NormalizationAttention with embedding,
            or state_dict is not the model's.
    """
    _check_arguments(layer_or_model, {} if state_dict is None else state_dict)
    expected, places = layer_or_model.state_dict(), _places(layer_or_model)
    _refuse_embedding(places)
    own = expected if state_dict is None else state_dict
    _refuse([name for name in expected if name not in own], [name for name in own if name not in expected], [])
    result: OrderedDict[str, Any] = OrderedDict()
    for name, value in own.items():
        place = places.get(name)
        if place is None:
            result[name] = value
            continue
        if place.name in place.rule.unsaved:
            continue
        if place.is_ratio:
            scopes = place.scopes
            if "group" in scopes or value.dim() > 1:
                raise ValueError(
                    f"{name}: expected one ratio each for instance, layer and batch: SN's code has no others"
                )
            value = value[[scopes.index(scope) for scope in _official_order(scopes)]]
        before, after = place.rule.ones.get(place.name, (0, 0))
        result[place.official] = value.reshape((1,) * before + tuple(value.shape) + (1,) * after)
    return result


def _missing_in_batch_norm(places: Mapping[str, _Place], state_dict: Mapping[str, Any]) -> set[str]:
    """What layers add to BatchNorm, of those for which state_dict has running statistics and none of the additions."""
    added: dict[str, dict[str, str]] = {}
    running: set[str] = set()
    for name, place in places.items():
        if place.name in place.rule.added:
            added.setdefault(place.layer, {})[name] = place.official
        if place.name == "running_mean" and place.official in state_dict:
            running.add(place.layer)
    fresh = (names for layer, names in added.items() if layer in running and not state_dict.keys() & names.values())
    return {name for names in fresh for name in names}


def _average_sums(result: Converted, places: Mapping[str, _Place], batches: int) -> None:
    """SN's sums over batches -> the mean and variance of all of them together, in place."""
    layers = {place.layer for name, place in places.items() if place.is_ratio and name in result.source}
    sums = [name for name, place in places.items() if place.layer in layers and place.name == "running_mean"]
    if not sums:
        raise ValueError("batches: expected a SwitchableNorm with running statistics, got none")
    for mean_name in sums:
        var_name = mean_name.removesuffix("mean") + "var"
        mean, square = (result[name].double() / batches for name in (mean_name, var_name))
        var = (square - mean.square()).clamp(min=0)  # rounded sums can fall below
        result[mean_name], result[var_name] = mean.to(result[mean_name].dtype), var.to(result[var_name].dtype)


def _without_ones(value: Any, shape: tuple[int, ...]) -> Any:
    """value (1, *shape, 1, ...) or (*shape, 1, ...) as shape; any other as it is."""
    if not isinstance(value, Tensor):
        return value
    ones = value.dim() - len(shape)
    fits = any(value.shape == (1,) * n + tuple(shape) + (1,) * (ones - n) for n in (0, 1) if n <= ones)
    return value.reshape(shape) if fits else value


def _official_order(scopes: Sequence[str]) -> list[str]:
    return sorted(scopes, key=_SCOPES.index)


def _check_arguments(model: object, state_dict: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"layer_or_model: expected an nn.Module, got {type(model).__name__}")
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict: expected a mapping from names to tensors, got {type(state_dict).__name__}")


def _refuse_embedding(places: Mapping[str, _Place]) -> None:
    for name, place in places.items():
        if place.rule is _NA and place.name.startswith(("query.", "key.")):
            raise ValueError(
                f"{name}: expected a NormalizationAttention without embedding, the names that resnet_na5 gives its "
                "parameters are not known"
            )


def _wrapper_hint(state_dict: Mapping[str, Any], left: Collection[str]) -> str:
    """Where the names are further in: what trainers and wrappers put around a state dict."""
    for name, value in state_dict.items():
        if isinstance(value, Mapping):
            return f"a state dict may be inside: state_dict[{name!r}]"
    if left and all(name.startswith("module.") for name in left):
        return "all names left over have a wrapper's prefix: take 'module.' off them"
    return ""


def _refuse(missing: Collection[str], left: Collection[str], misfits: Collection[str], hint: str = "") -> None:
    lines = [f"missing: {', '.join(missing)}"] if missing else []
    lines += [f"left over: {', '.join(left)}"] if left else []
    lines += misfits
    if lines:
        lines += [hint] if hint else []
        raise ValueError("\n    ".join(["state_dict: expected what the model has:", *lines]))
