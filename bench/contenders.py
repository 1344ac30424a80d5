"""What runs against what: each layer fused, as its reference, compiled, the official way; BatchNorm as in models."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType

import torch
from torch import Tensor, nn

import fusednorm
import fusednorm.reference
from fusednorm.engine.backends import choose

from .harness import Step
from .layers import LAYERS
from .names import LAYOUTS, Dtype, Form, Kind, Layer, Mode
from .official import OFFICIAL
from .record import fused_name
from .shapes import Shape

Call = Callable[..., Tensor]  # (x), or (x, residual) where the form has one
Translate = Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Tensor]]  # (results, the reference's)


@dataclass(frozen=True)
class Inputs:
    """The tensors of one case, shared by its contenders; dy is the upstream gradient."""

    x: Tensor
    residual: Tensor
    dy: Tensor

    def arguments(self, form: Form) -> tuple[Tensor, ...]:
        return (self.x,) if form is Form.bare else (self.x, self.residual)


@dataclass(frozen=True)
class Contender:
    """`module` has the parameters, `call` calculates with them."""

    kind: Kind
    module: nn.Module
    call: Call
    layer: str = ""  # "" if of no layer
    backend: str = ""  # of a fused layer
    compiled: bool = False
    same_function: bool = True  # as the layer's reference, so their results have to agree
    translate: Translate | None = None  # its results in the reference's names and shapes

    @property
    def name(self) -> str:
        """As Record.name."""
        if self.kind is Kind.fused:
            return fused_name(self.layer, self.backend)
        return f"{self.layer} {self.kind.value}".strip()


class AddReLU(nn.Module):
    """A normalization and what follows it in ResNets; in place, since that is the faster way."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        y += residual
        out: Tensor = self.act(y)
        return out


class BatchNormAddReLU(AddReLU):
    def __init__(self, num_features: int) -> None:
        super().__init__(nn.BatchNorm2d(num_features))


def make_inputs(shape: Shape, dtype: torch.dtype, layout: str, seed: int = 0, device: str = "cpu") -> Inputs:
    """Random tensors. x's planes differ in mean and deviation, as real maps do: attention looks at both."""
    random = torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random, device=device)

    def laid_out(values: Tensor) -> Tensor:
        return values.to(dtype).contiguous(memory_format=getattr(torch, LAYOUTS[layout]))

    planes = (*shape[:2], *[1] * len(shape[2:]))
    x = normal(*planes) + (0.5 + normal(*planes).abs()) * normal(*shape)
    return Inputs(laid_out(x).requires_grad_(), laid_out(normal(*shape)).requires_grad_(), laid_out(normal(*shape)))


def make_layer(
    layer: Layer, channels: int, form: Form, dtype: Dtype, kinds: Sequence[Kind], backends: Sequence[str]
) -> list[Contender]:
    """The layer's contenders, the reference first, with the same parameters in all.

    The official chain has parameters of the map's type, as torch's operators want them, and so other results in half
    types.
    """
    act = None if form is Form.bare else "relu"
    make = LAYERS[layer].make
    reference = _varied(make(fusednorm.reference, channels, act))
    found = [Contender(Kind.reference, reference, reference, layer.value)]
    if Kind.fused in kinds:
        fused = make(fusednorm, channels, act)
        fused.load_state_dict(reference.state_dict())
        found += [Contender(Kind.fused, fused, on_backend(fused, name), layer.value, name) for name in backends]
    for kind in (Kind.compiled, Kind.max_autotune):
        if kind in kinds:
            twin = make(fusednorm.reference, channels, act)
            twin.load_state_dict(reference.state_dict())
            found.append(Contender(kind, twin, compiled(twin, kind), layer.value, compiled=True))
    if Kind.official in kinds and layer in OFFICIAL:
        official = OFFICIAL[layer](channels)
        official.load(reference.state_dict())
        official.to(getattr(torch, dtype.value))
        found.append(
            Contender(
                Kind.official,
                official,
                _in_form(official, form),
                layer.value,
                same_function=dtype is Dtype.float32,
                translate=official.translated,
            )
        )
    return found


def fits(layer: Layer, channels: int) -> bool:
    """Whether the layer can have so many channels: groups have to divide them."""
    try:
        LAYERS[layer].make(fusednorm.reference, channels, None)
    except ValueError:
        return False
    return True


def make_shared(channels: int, form: Form, dtype: Dtype, kinds: Sequence[Kind]) -> list[Contender]:
    """The contenders of no layer. GroupNorm wants parameters of the map's type."""
    found = []
    for kind in (Kind.batch_norm, Kind.compiled_batch_norm):
        if kind in kinds:
            norm = nn.BatchNorm2d(channels)
            eager = _in_form(norm, form)
            is_compiled = kind is Kind.compiled_batch_norm
            call = compiled(eager, kind) if is_compiled else eager
            found.append(Contender(kind, norm, call, compiled=is_compiled, same_function=False))
    if Kind.group_norm in kinds:
        group = nn.GroupNorm(math.gcd(32, channels), channels, dtype=getattr(torch, dtype.value))
        found.append(Contender(Kind.group_norm, group, _in_form(group, form), same_function=False))
    if Kind.inplace_abn in kinds:
        found.append(_inplace_abn(channels, form))
    return found


def _inplace_abn(channels: int, form: Form) -> Contender:
    """inplace-abn, https://pypi.org/project/inplace-abn. It writes over its input, which here is a copy of x that
    networks don't need: two units of its time. Nor may anything write over its output.
    """
    norm = importlib.import_module("inplace_abn").InPlaceABN(channels, activation="identity")

    def call(x: Tensor, residual: Tensor | None = None) -> Tensor:
        y: Tensor = norm(x.clone())
        return y if residual is None else torch.relu(y + residual)

    return Contender(Kind.inplace_abn, norm, call, same_function=False)


def _varied(layer: nn.Module) -> nn.Module:
    """A gate that starts as a constant would agree with anything."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return layer


def _in_form(norm: nn.Module, form: Form) -> nn.Module:
    return norm if form is Form.bare else AddReLU(norm)


def on_backend(module: nn.Module, backend: str) -> Call:
    run: Call = module

    def call(*arguments: Tensor) -> Tensor:
        # Asking for what is chosen anyway costs a microsecond or two, which small maps would show.
        if choose(arguments[0]) == backend:
            return run(*arguments)
        with fusednorm.use_backend(backend):
            return run(*arguments)

    return call


def compiled(module: nn.Module, kind: Kind, *, backend: str = "inductor") -> Call:
    """torch.compile of the module, as one graph for one shape.

    Dynamo keeps what it compiled, with its guards, on the code object that was called; the one of nn.Module's call is
    everyone's, and a call would try the others' guards first. So each gets a function with a code object of its own.

    max-autotune is without CUDA graphs, which are measured for all contenders alike.
    """

    def call(*arguments: Tensor) -> Tensor:
        y: Tensor = module(*arguments)
        return y

    assert isinstance(call, FunctionType)
    call.__code__ = call.__code__.replace(co_name=f"call_{id(module)}")
    mode = "max-autotune-no-cudagraphs" if kind is Kind.max_autotune else None
    result: Call = torch.compile(call, fullgraph=True, dynamic=False, backend=backend, mode=mode)
    return result


def without_act(layer: Layer, reference: nn.Module, channels: int) -> nn.Module:
    """The same reference, less its activation: 0 is where that has its kink."""
    plain = LAYERS[layer].make(fusednorm.reference, channels, None)
    state = reference.state_dict()
    threshold = state.pop("threshold", None)
    if threshold is not None:  # FRN's own
        state["bias"] = state["bias"] - threshold
    plain.load_state_dict(state)
    return plain.train(reference.training)


def step_of(contender: Contender, inputs: Inputs, form: Form, mode: Mode) -> Step:
    """One call. Freeing what it allocated is part of it, as it is part of training."""
    arguments = inputs.arguments(form)
    call = contender.call
    if mode is Mode.train:
        return _training_step(call, arguments, contender.module, inputs.dy)
    if mode is Mode.forward:
        return lambda: call(*arguments)

    def evaluate() -> object:
        with torch.no_grad():
            return call(*arguments)

    return evaluate


def training_step(module: nn.Module, inputs: Inputs) -> Step:
    """Forward and backward with a residual."""
    return _training_step(module, (inputs.x, inputs.residual), module, inputs.dy)


def _training_step(call: Call, arguments: tuple[Tensor, ...], module: nn.Module, dy: Tensor) -> Step:
    """The gradients are returned, not accumulated: adding them up is no layer's work."""
    wanted = [*arguments, *module.parameters()]

    def step() -> object:
        return torch.autograd.grad(call(*arguments), wanted, dy)

    return step


def copy_step(inputs: Inputs) -> Step:
    """Copies of x, the residual and dy into memory that is already there: the measure of bandwidth.

    Of all three, which with their targets are as many maps as a training step moves: a copy of x alone may lie in the
    last cache, and would measure that.
    """
    sources = [t.detach() for t in (inputs.x, inputs.residual, inputs.dy)]
    targets = [torch.empty_like(source) for source in sources]

    def step() -> list[Tensor]:
        return [target.copy_(source) for target, source in zip(targets, sources, strict=True)]

    return step
