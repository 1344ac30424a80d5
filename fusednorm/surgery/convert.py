"""Converting a network: layers of ours in place of its normalizations."""

from __future__ import annotations

import copy
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import nn

from . import blocks, folding
from .layers import KINDS, build
from .norms import CONVOLUTIONS, LAYERS, UnplacedError, layers
from .places import Place, places
from .recipes import RECIPES, WHERE, Recipe
from .report import Report, Row
from .tracing import has_hooks
from .undo import Undo, check_not_frozen

Choice = Callable[[str, nn.Module], "nn.Module | None"]


class Conversion(NamedTuple):
    """The network, changed in place (a new object only where it was a normalization itself), and what was done."""

    model: nn.Module
    report: Report


@dataclass
class _Plan:
    """What is to be put where, by name; the report's rows and notes."""

    new: dict[str, nn.Module] = field(default_factory=dict)
    replaced: list[Row] = field(default_factory=list)
    left: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, stage: int, old: nn.Module, new: nn.Module) -> None:
        self.new[name] = new
        self.replaced.append(Row(name, stage, described(old), described(new)))


def convert(
    model: nn.Module,
    recipe: str | Recipe | Choice,
    *,
    where: str | Sequence[str] | None = None,
    stages: Iterable[int] | None = None,
    only: Callable[[str, nn.Module], bool] | None = None,
    preserve: bool = False,
    fold: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> Conversion:
    """Put layers of ours where the normalizations of a network are.

        model, report = fusednorm.convert(torchvision.models.resnet50(), "attentive")
        print(report)

    Places are found by structure: a block is the smallest module that joins two or more convolutions and a
    normalization (fusednorm.surgery.blocks), a stage the blocks of one container, or those with as many channels. So
    networks of torchvision and timm need no names here, nor do others that are built of blocks.

    Args:
        model: any network; what is replaced is torch's BatchNorm and GroupNorm (timm's, with the activation inside),
            and ours of the same kind.
        recipe: "attentive" (AN Fig. 2), "representative", "switchable", "normalization_attention", "squeeze_excite"
            or "batch" (the same layers, fused); a Recipe; or a function that takes a module's name and the module, any
            module of the network, and gives a layer for its place, or None.
        where: which places, instead of the recipe's: "bn1", "bn2", "bn3", "all", "shortcut", "stem", "rest",
            "network", or several of them (fusednorm.surgery.WHERE says what they are).
        stages: only these, counted from 1 (RBN Table 4).
        only: of these places those for which it is true of name and module (AOGNet: nodes of full width, say).
        preserve: set the new layers so that the network computes in evaluation what it did, to fine-tune a trained one:
            attention starts as a constant, and the weights make up for it. Not for "switchable".
        fold: let the layers of ours add the residual and apply the activation that follow them, where that gives the
            same; a block whose forward changes becomes a torch.fx.GraphModule with the same names.
        dry_run: leave the model as it is; the report says what would be done.
        options: of the layers: num_components=10, or a value for each stage; reduction=8; attention_input="mean"; ...

    Returns:
        Conversion(model, report). Weights and statistics are carried over where they have a meaning: all of
        BatchNorm's, but for the weight and bias of Attentive Normalization. The rest starts as the layer's own.
        Parameters are new ones: make the optimizer afterwards, and DistributedDataParallel.

    Raises:
        TypeError: a model or recipe of another kind, an option that the layer does not have.
        ValueError: an unknown recipe, place or stage, no place at all, a wrong option, a network that is wrapped in
            DistributedDataParallel or has frozen parts; nothing is changed then.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ValueError("model: expected a network, got DistributedDataParallel, which would not know new parameters")
    check_not_frozen(model)
    if dry_run:
        with torch.random.fork_rng(devices=[]):
            again = functools.partial(convert, where=where, stages=stages, only=only, preserve=preserve, fold=fold)
            _, report = again(copy.deepcopy(model), recipe, **options)
        return Conversion(model, replace(report, recipe=f"{report.recipe}, if it were done"))
    if isinstance(recipe, (str, Recipe)):
        title, chosen = _recipe(recipe)
        plan = _planned(model, title, chosen, _where(where, chosen), stages, only, preserve, options)
    elif callable(recipe):
        _refuse_options(where=where, stages=stages, only=only, preserve=preserve or None, **options)
        title, plan = getattr(recipe, "__name__", type(recipe).__name__), _chosen(model, recipe)
    else:
        raise TypeError(f"recipe: expected a name, a Recipe or a function, got {type(recipe).__name__}")
    before, undo = _parameters(model), Undo(model)
    if "" in plan.new:
        undo.keep("", model)
        model = plan.new[""]
    else:
        for name, new in plan.new.items():
            undo.replace(model, name, new)
    if fold:
        folded = folding.fold_into(model, list(plan.new), undo)
        plan.replaced = [replace(row, note=folded.notes.get(row.name, "")) for row in plan.replaced]
        plan.notes += folded.left
    undo.write(model)
    report = Report(title, tuple(plan.replaced), tuple(plan.left), (before, _parameters(model)), tuple(plan.notes))
    return Conversion(model, report)


def fold(model: nn.Module) -> Conversion:
    """Let all layers of ours in a network add the residual and apply the activation that follow them: `fold` of
    `convert` for networks that were built with our layers, or converted before. `revert` undoes it.

    Raises:
        TypeError: model is no module. ValueError: it has no layer of ours without an activation.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected an nn.Module, got {type(model).__name__}")
    names = [name for name, module in layers(model) if name and folding.takes(module)]
    if not names:
        raise ValueError("model: expected a layer of fusednorm without an activation, there is none")
    said = {name: described(model.get_submodule(name)) for name in names}
    undo = Undo(model)
    folded = folding.fold_into(model, names, undo)
    undo.write(model)
    rows = [Row(name, 0, said[name], said[name], note) for name, note in folded.notes.items()]
    count = _parameters(model)
    return Conversion(model, Report("fold", tuple(rows), (), (count, count), tuple(folded.left)))


def described(module: nn.Module) -> str:
    """A layer in a word or two: its class, channels and what is its own."""
    name = type(module).__name__
    if name == "RecalibratedNorm":
        standardize, recalibrate = (type(m).__name__ for m in module.children())
        return f"{standardize} + {recalibrate}({module.channels})"
    channels = next((c for k in ("num_features", "num_channels") if (c := getattr(module, k, None)) is not None), None)
    own = [str(channels)] if channels is not None else []
    own += [f"K={module.num_components}"] if hasattr(module, "num_components") else []
    return f"{name}({', '.join(own)})" if own else name


def _recipe(recipe: str | Recipe) -> tuple[str, Recipe]:
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe: expected one of {', '.join(map(repr, RECIPES))}, got {recipe!r}")
        return recipe, RECIPES[recipe]
    if recipe.layer not in KINDS:
        raise ValueError(f"recipe.layer: expected one of {', '.join(map(repr, KINDS))}, got {recipe.layer!r}")
    return recipe.layer, recipe


def _where(where: str | Sequence[str] | None, recipe: Recipe) -> tuple[str, ...]:
    chosen = recipe.where if where is None else (where,) if isinstance(where, str) else tuple(where)
    unknown = [name for name in chosen if name not in WHERE]
    if unknown or not chosen:
        got = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"where: expected of {', '.join(map(repr, WHERE))}, got {got}")
    return chosen


def _refuse_options(**options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{given[0]}: expected with a recipe alone; a function makes its layers as it likes")


def _chosen(model: nn.Module, choice: Choice) -> _Plan:
    """What a user's function chooses."""
    plan = _Plan()
    for name, module in model.named_modules():
        if any(blocks.within(name, done) for done in plan.new):
            continue
        new = choice(name, module)
        if new is None or new is module:
            continue
        if not isinstance(new, nn.Module):
            raise TypeError(f"recipe: expected an nn.Module or None for {name!r}, got {type(new).__name__}")
        plan.add(name, 0, module, new)
    if not plan.new:
        raise ValueError("recipe: expected a layer for some module, the function gave none")
    return plan


def _planned(
    model: nn.Module,
    title: str,
    recipe: Recipe,
    where: tuple[str, ...],
    stages: Iterable[int] | None,
    only: Callable[[str, nn.Module], bool] | None,
    preserve: bool,
    options: dict[str, Any],
) -> _Plan:
    plan, found = _Plan(), blocks.find(model)
    everything = places(model, found)
    last = max((block.stage for block in found), default=0)
    of_stages = _checked_stages(stages, last)
    chosen = [p for p in everything if p.where.intersection(where) and (of_stages is None or p.stage in of_stages)]
    chosen = [p for p in chosen if only is None or only(p.name, model.get_submodule(p.name))]
    if not chosen:
        raise ValueError(
            f"model: expected a place for {title!r}, where={where}: there are {len(everything)} normalizations, "
            f"{sum(p.block is not None for p in everything)} of them in {len(found)} blocks of {last} stages"
        )
    owners = Counter(id(p) for m in model.modules() for p in m._parameters.values())
    others = next((len(m.kernel_size) for m in model.modules() if isinstance(m, CONVOLUTIONS)), 2)
    for place in chosen:
        old = model.get_submodule(place.name)
        own = _options(recipe, place, last, options)
        try:
            if any(owners[id(p)] > 1 for p in old.parameters()):
                raise UnplacedError(f"{type(old).__name__} that shares its weight or bias with another module")
            new = build(recipe.layer, old, others, own, preserve)
        except UnplacedError as error:
            plan.left.append(Row(place.name, place.stage, described(old), "", str(error)))
        else:
            plan.add(place.name, place.stage, old, new)
            plan.notes += [f"{place.name}: its hooks stay behind"] if has_hooks(old) else []
    if not plan.new:
        raise ValueError(f"model: expected a place for {title!r}, at {plan.left[0].name!r}: {plan.left[0].note}")
    plan.notes += _notes(model, found)
    return plan


def _checked_stages(stages: Iterable[int] | None, last: int) -> set[int] | None:
    if stages is None:
        return None
    chosen = set(stages)
    wrong = [stage for stage in chosen if stage not in range(1, last + 1)]
    if wrong:
        raise ValueError(f"stages: expected of 1 to {last}, which the network has, got {wrong[0]!r}")
    return chosen


def _options(recipe: Recipe, place: Place, last: int, given: dict[str, Any]) -> dict[str, Any]:
    """The layer's options at a place: the recipe's, those of its stage, those of its place, the user's."""
    own = dict(recipe.options)
    for name, values in recipe.by_stage.items():
        own[name] = values[(place.near - 1) * len(values) // max(last, 1)]
    for name, by_place in recipe.by_place.items():
        fitting = [value for at, value in by_place.items() if at in place.where]
        own |= {name: fitting[-1]} if fitting else {}
    for name, value in given.items():
        if name in recipe.by_stage and isinstance(value, (tuple, list)):
            if len(value) != max(last, 1):
                raise ValueError(f"{name}: expected a number, or {last}, one for each stage, got {len(value)}")
            value = value[place.near - 1]
        own[name] = value
    return own


def _notes(model: nn.Module, found: list[blocks.Block]) -> list[str]:
    """What could not be looked at, or is of no kind known here."""
    notes = [f"{block.name}: {block.why}; its layers are taken as they stand" for block in found if block.why]
    other = Counter(
        type(m).__name__
        for m in model.modules()
        if "Norm" in type(m).__name__
        and not isinstance(m, LAYERS)
        and next(m.children(), None) is None
        and not type(m).__module__.startswith("torch.nn.utils.")
    )
    return notes + [f"not looked at: {count} of {name}" for name, count in other.items()]


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if not isinstance(p, nn.UninitializedParameter))
