"""The autograd around a head: one Function from x to y, so that dx is written once.

`COMPOSED` joins a backend's four streaming kernels and any head in PyTorch; its siblings are in native.py, for hot
layers, spatial.py and context.py. All save x and N×C tensors, with residual and activation together the mask or the
residual (docs/engine.md), and leave gradients of gradients to plain PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusednorm.heads import AnyHead
from fusednorm.heads.samples import HERE, Pools

from . import plain
from .activations import MASKED
from .backends import kernel
from .calculation import calculate, vjp_of
from .layout import mean_dtype, positions
from .synchronized import Peers, Taped, pools_of

Tensors = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Spec:
    """What a call is besides its tensors.

    group: of the processes whose samples statistics are taken over, None for those here; halves: whether the
    standardization's and the recalibration's are.
    """

    head: AnyHead
    act: str
    backend: str
    group: Peers | None = None
    halves: tuple[bool, bool] = (False, False)


Forward = Callable[[Spec, Tensor, "Tensor | None", Tensors, bool], tuple[Any, ...]]
Inplace = Callable[[Spec, Tensor, "Tensor | None", Tensors], Tensors]
WayBack = Callable[..., tuple["Tensor | None", "Tensor | None", Tensors]]


class Family(NamedTuple):
    """How layers of one kind run.

    forward(spec, x, residual, tensors, save_mask), without autograd: y, the mask, what else backward needs (`kept` in
    all, and what was exchanged if statistics are synchronized), then the head's statistics. inplace(spec, x, residual,
    tensors): those alone, with y written over x. `traced` and `eager` are the same Function, for the compiler and not.
    """

    forward: Forward
    inplace: Inplace
    kept: int
    traced: Any
    eager: Any

    def run(self, spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> tuple[Tensor, Tensors]:
        """y and the statistics, without autograd."""
        output = self.forward(spec, x, residual, tensors, False)
        return output[0], output[_kept(self.kept, spec) :]

    def apply(self, spec: Spec, *inputs: Tensor | None) -> tuple[Tensor, Tensors]:
        """y and the statistics, under autograd. inputs: x, residual and the head's tensors."""
        if torch.compiler.is_compiling():
            y, *others = self.traced.apply(spec, *inputs)
            return y, tuple(others[_kept(self.kept, spec) - 1 :])
        statistics: list[Tensor] = []
        y = self.eager.apply((spec, statistics), *inputs)
        return y, tuple(statistics)


def family(name: str, forward: Forward, inplace: Inplace, way_back: WayBack, kept: int) -> Family:
    """A family and its Functions.

    way_back(spec, dy, x, residual, mask, outputs, tensors, needs_dx, needs_dresidual, needs) gives dx, dresidual and
    the tensors' gradients; outputs are those of forward from the third to the last that is kept.

    In eager mode the Function has but one output and no setup_context: torch would inspect its signature at every call,
    and wrap each output: 50 µs.
    """

    def traced_forward(spec: Spec, x: Tensor, residual: Tensor | None, *tensors: Tensor | None) -> tuple[Any, ...]:
        return forward(spec, x, residual, tensors, wants_mask(spec, residual))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.mark_non_differentiable(*output[1:])
        save(ctx, inputs[0], inputs[1:], output[: _kept(kept, inputs[0])])

    def eager_forward(ctx: Any, call: tuple[Spec, list[Tensor]], *inputs: Tensor | None) -> Any:
        spec, statistics = call
        output = traced_forward(spec, *inputs)  # type: ignore[arg-type]
        count = _kept(kept, spec)
        save(ctx, spec, inputs, output[:count])
        statistics.extend(output[count:])
        return output[0]

    def backward(ctx: Any, dy: Tensor | None, *_: Any) -> Tensors:
        if dy is None:
            return (None,) * len(ctx.needs_input_grad)
        grads = through_plain(ctx, dy)
        if grads is not None:
            return grads
        x, residual, mask, *saved = ctx.saved_tensors
        outputs, tensors = saved[: ctx.outputs], tuple(saved[ctx.outputs :])
        needs_dx, needs_dresidual, *needs = ctx.needs_input_grad[1:]
        dx, dresidual, dtensors = way_back(
            ctx.spec, dy, x, residual, mask, outputs, tensors, needs_dx, needs_dresidual, needs
        )
        return None, dx, dresidual, *dtensors

    def build(**methods: Callable[..., Any]) -> Any:
        return type(name, (torch.autograd.Function,), {key: staticmethod(method) for key, method in methods.items()})

    return Family(
        forward,
        inplace,
        kept,
        build(forward=traced_forward, setup_context=setup_context, backward=backward),
        build(forward=eager_forward, backward=backward),
    )


def _kept(kept: int, spec: Spec) -> int:
    """Of what forward gives, how much backward needs."""
    return kept if spec.group is None else kept + 1


def wants_mask(spec: Spec, residual: Tensor | None) -> bool:
    return residual is not None and spec.act in MASKED and spec.head.family != "spatial"


def save(ctx: Any, spec: Spec, inputs: Tensors, outputs: Tensors) -> None:
    """Keep what backward needs. inputs: x, residual and the head's tensors; outputs: y, mask and what else to keep."""
    x, residual, *tensors = inputs
    ctx.set_materialize_grads(False)
    ctx.spec = spec
    ctx.has_residual = residual is not None
    mask = outputs[1] if wants_mask(spec, residual) else None
    kept = residual if mask is None and spec.act != "identity" else None
    ctx.outputs = len(outputs) - 2
    ctx.save_for_backward(x, kept, mask, *outputs[2:], *tensors)


def through_plain(ctx: Any, dy: Tensor) -> Tensors | None:
    """The gradients by plain PyTorch when gradients of them will be wanted, else None."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return None
    x, residual, mask, *rest = ctx.saved_tensors
    tensors = tuple(rest[ctx.outputs :])
    needed = ctx.needs_input_grad[1:]
    spec = ctx.spec
    pools = HERE if spec.group is None else pools_of(spec.halves, Taped(spec.group, mean_dtype(x)))
    grads = plain.backward(dy, x, residual, mask, spec.head, spec.act, tensors, needed, pools)
    if ctx.has_residual and spec.act == "identity" and needed[1]:
        grads = (grads[0], dy, *grads[2:])
    return (None, *grads)


def composed_forward(
    spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors, save_mask: bool
) -> tuple[Tensor, ...]:
    """y, mask, mean, var, scale, shift, what was exchanged, and the head's statistics."""
    mean, var, center, scale, shift, exchanged, statistics = _up_to_affine(spec, x, tensors)
    affine = kernel("plane_affine", spec.backend)
    y, mask = affine(x, center, scale, shift, residual, spec.act, save_mask)
    return y, mask, mean, var, scale, shift, *exchanged, *statistics


def composed_inplace(spec: Spec, x: Tensor, residual: Tensor | None, tensors: Tensors) -> Tensors:
    _, _, center, scale, shift, _, statistics = _up_to_affine(spec, x, tensors)
    kernel("plane_affine_inplace", spec.backend)(x, center, scale, shift, residual, spec.act)
    return statistics


def _up_to_affine(
    spec: Spec, x: Tensor, tensors: Tensors
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...], Tensors]:
    """mean, var, center, scale, shift, what was exchanged, and the head's statistics."""
    head, S = spec.head, positions(x)
    if head.needs_moments:
        mean, var = kernel("plane_moments", spec.backend)(x)
    else:  # the running mean, say, serves as pivot, and the head looks at no moments
        mean, var = plain.without_moments(x, head, tensors)
    center = mean.to(var.dtype)
    with plain.full_precision(x):
        found, exchanged = calculate(spec, x, lambda pools: head(center, mean, var, S, *tensors, pools=pools))
    scale, shift, statistics = found
    return mean, var, center, scale, shift, exchanged, statistics


def composed_backward(
    spec: Spec,
    dy: Tensor,
    x: Tensor,
    residual: Tensor | None,
    mask: Tensor | None,
    outputs: list[Tensor],
    tensors: Tensors,
    needs_dx: bool,
    needs_dresidual: bool,
    needs: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    mean, var, scale, shift, *exchanged = outputs
    center = mean.to(var.dtype)
    reduce, grad = (kernel(name, spec.backend) for name in ("plane_affine_reduce", "plane_affine_grad"))
    write_g = needs_dresidual and spec.act != "identity"
    g, dscale, dshift = reduce(dy, x, center, scale, shift, residual, mask, spec.act, write_g)
    dresidual = None if not needs_dresidual else g if write_g else dy
    a, b, dtensors = _pull_back(spec, exchanged, center, mean, var, positions(x), tensors, needs, dscale, dshift)
    dx = None
    if needs_dx and write_g:
        dx = grad(g, x, center, scale, shift, None, None, a, b, "identity")
    elif needs_dx:
        dx = grad(dy, x, center, scale, shift, residual, mask, a, b, spec.act)
    return dx, dresidual, dtensors


# A backend's streaming kernels around a head in PyTorch.
COMPOSED = family("ComposedNorm", composed_forward, composed_inplace, composed_backward, 6)


def _pull_back(
    spec: Spec,
    exchanged: list[Tensor],
    center: Tensor,
    mean: Tensor,
    var: Tensor,
    S: int,
    tensors: Tensors,
    needs: list[bool],
    dscale: Tensor,
    dshift: Tensor,
) -> tuple[Tensor | None, Tensor | None, Tensors]:
    """The head's vector-Jacobian product: a and b of docs/engine.md, and the gradients of its tensors."""
    head = spec.head
    wanted = [i for i, needed in enumerate(needs) if needed]

    def scale_and_shift(pools: Pools, m: Tensor, v: Tensor, *moving: Tensor) -> tuple[Tensor, Tensor]:
        all_tensors = list(tensors)
        for i, t in zip(wanted, moving, strict=True):
            all_tensors[i] = t
        scale, shift, _ = head(center, m, v, S, *all_tensors, pools=pools)
        return scale, shift

    with plain.full_precision(center):
        _, pull_back = vjp_of(spec, exchanged, scale_and_shift, mean, var, *[tensors[i] for i in wanted])
        dm, dv, *found = pull_back((dscale, dshift))
    dtensors: list[Tensor | None] = [None] * len(tensors)
    for i, t in zip(wanted, found, strict=True):
        dtensors[i] = t
    if not head.needs_moments:
        return None, None, tuple(dtensors)
    return dv * (2 / S), (dm / S).to(var.dtype), tuple(dtensors)
