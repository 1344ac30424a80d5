"""What layers are made of as nn.Modules: a standardization and a recalibration, each also of use alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fusednorm import checks, functional, parts
from fusednorm.engine import eager
from fusednorm.parts import Part

DIMS = (2, 3, 4, 5)


class Standardization(nn.Module):
    """A standardization of `channels` channels. Called alone it gives x_hat; x (N, C, *positions).

    Raises:
        ValueError: wrong dimensions or channels, too few values for the statistics.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    channels: int

    def standardization(self, x: Tensor) -> Part:
        """The checked part for x, which has been checked."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        checks.check_input(x, self.channels)
        return parts.run(x, self.standardization(x), parts.affine(x, None, None), None, None)


class Recalibration(nn.Module):
    """A recalibration of `channels` channels. Called alone it takes x as it is; x (N, C, *positions).

    Raises:
        ValueError: wrong dimensions or channels, too few samples for statistics over them.
        TypeError: x is not floating point, or parameters are float64 and x is not.
    """

    channels: int

    def recalibration(self, x: Tensor) -> Part:
        """The checked part for x, which has been checked."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        checks.check_input(x, self.channels)
        return parts.run(x, parts.identity(), self.recalibration(x), None, None)


class Called(nn.Module):
    """Called as layer(x, residual=None)."""

    act: str | None
    inplace: bool = False  # also that of modules pickled before there was this
    channels: int
    dims: tuple[int, ...] = DIMS

    if TYPE_CHECKING:  # the halves'

        def standardization(self, x: Tensor) -> Part: ...
        def recalibration(self, x: Tensor) -> Part: ...

    _replay: Any = None  # its calls in eager mode, where they can be replayed

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x, residual and the result: (N, C, *positions) alike."""
        recorded = None
        if self._replay is not None and not self.inplace and not torch.compiler.is_compiling():
            recorded = self._replay(self, x, residual)
            if isinstance(recorded, Tensor):
                return recorded
        checks.check_input(x, self.channels, self.dims)
        standardize, recalibrate = self.standardization(x), self.recalibration(x)
        # Exported kernels have no gradient. (In this order: what is compiled does not depend on the mode.)
        trains_elsewhere = torch.compiler.is_exporting() and self.training
        y = parts.run(x, standardize, recalibrate, residual, self.act, self.inplace, as_plain=trains_elsewhere)
        if recorded is False:
            self._record(x, standardize, recalibrate)
        return y

    def _record(self, x: Tensor, standardize: Part, recalibrate: Part) -> None:
        """After a call that went well: the next of its kind need not be checked."""
        if not eager.record(self._replay, self, x, self.act, standardize, recalibrate):
            self._replay = None


class NormLayer(Called):
    """A named layer: a subclass of this and of its two parts, named again in `halves`, so that its state is flat.

    `_build` takes one function a half, which gives self its parameters and buffers.
    """

    halves: tuple[type[Any], ...]

    def _build(self, act: str | None, inplace: bool, *builders: Callable[[], None]) -> None:
        nn.Module.__init__(self)
        checks.check_act(act)
        self._replay = eager.new_replay()
        self.act, self.inplace = act, inplace
        for build in builders:
            build()

    def reset_parameters(self) -> None:
        """As at the start, running statistics too."""
        for half in self.halves:
            half.reset_parameters(self)

    def extra_repr(self) -> str:
        return with_call(*(half.extra_repr(self) for half in self.halves), act=self.act, inplace=self.inplace)


class RecalibratedNorm(Called):
    """act(recalibrated(standardized(x)) + residual): any standardization with any recalibration, in the fused passes.

    One pair has no passes in common, and runs as two layers, one after the other: Representative with a spatial center,
    and NormalizationAttention (with a similarity). Both look over positions.

    Args:
        standardize: one of fusednorm.standardizations.
        recalibrate: one of fusednorm.recalibrations, of as many channels.
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).

    Shapes: x, residual and the result (N, C, *positions), 0 to 3 position dimensions.

    Raises:
        TypeError: a part of another kind, or a whole layer.
        ValueError: parts of different numbers of channels, an unknown act.
    """

    def __init__(
        self,
        standardize: Standardization,
        recalibrate: Recalibration,
        act: str | None = None,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        for name, part, kind in (
            ("standardize", standardize, Standardization),
            ("recalibrate", recalibrate, Recalibration),
        ):
            expected = f"{name}: expected one of fusednorm.{kind.__name__.lower()}s, got"
            if isinstance(part, NormLayer):  # both of a kind: one would be lost
                own = next((half.__name__ for half in part.halves if issubclass(half, kind)), None)
                hint = f" (its own is {kind.__name__.lower()}s.{own})" if own else ""
                raise TypeError(f"{expected} the whole layer {type(part).__name__}{hint}")
            if not isinstance(part, kind):
                raise TypeError(f"{expected} {type(part).__name__}")
        if standardize.channels != recalibrate.channels:
            raise ValueError(
                f"recalibrate: expected {standardize.channels} channels, as standardize has, got {recalibrate.channels}"
            )
        checks.check_act(act)
        self._replay = eager.new_replay()
        self.standardize, self.recalibrate = standardize, recalibrate
        self.act, self.inplace = act, inplace
        self.channels = standardize.channels

    def standardization(self, x: Tensor) -> Part:
        return self.standardize.standardization(x)

    def recalibration(self, x: Tensor) -> Part:
        return self.recalibrate.recalibration(x)

    def extra_repr(self) -> str:
        return with_call(act=self.act, inplace=self.inplace)


class FusedNorm(nn.Module):
    """act(scale*x + shift + residual), (scale, shift) = head(mean, var): a layer of your own in the fused passes.

    mean, var (biased), scale and shift are (N, C), or broadcast to it, in the compute type: float32, float64 for
    float64 x, also under autocast. docs/own_layer.md builds one in 20 lines.

    Args:
        head: an nn.Module or function of mean and var, differentiable, the same whenever it is called with the same
            (backward calls it again: no dropout, and buffers are read only). Parameters must be an nn.Module's. It
            may write to mean and var, which are its own.
        act: "relu", "relu6", "leaky_relu" (slope 0.01), "silu", "hardswish", "gelu" (erf) or None.
        inplace: whether y is written over x; RuntimeError where a gradient is wanted, and where x can't be written to
            (fusednorm.functional).

    Raises, when called (under torch.compile, while it is traced):
        TypeError: head does not return two real tensors.
        ValueError: these don't broadcast to (N, C); a residual unlike x; and in the head's first pass, or when it is
            compiled, a tensor that wants a gradient and is none of the head's parameters. Later ones are not noticed.
    """

    inplace: bool = False  # also that of modules pickled before there was this

    def __init__(self, head: Callable[..., Any], act: str | None = None, inplace: bool = False) -> None:
        super().__init__()
        checks.check_act(act)
        self.head, self.act, self.inplace = head, act, inplace

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x, residual and the result: (N, C, *positions) alike."""
        return functional.fused_norm(x, self.head, residual=residual, act=self.act, inplace=self.inplace)

    def extra_repr(self) -> str:
        return with_call(act=self.act, inplace=self.inplace)


def new_parameter(size: tuple[int, ...], device: torch.device | str | None, dtype: torch.dtype | None) -> nn.Parameter:
    """Not yet initialized."""
    return nn.Parameter(torch.empty(size, device=device, dtype=dtype))


def with_call(*own: str, act: str | None = None, inplace: bool) -> str:
    """extra_repr: a layer's own options, and those of the call that are not the usual."""
    return ", ".join([*filter(None, own), *([f"act={act}"] if act else []), *(["inplace=True"] if inplace else [])])
