"""A head's calculation between the passes and its vector-Jacobian product; with synchronized statistics, around the
exchange (synchronized.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fusednorm.heads.samples import HERE, Pools

from . import synchronized
from .layout import mean_dtype
from .synchronized import Session, pools_of

if TYPE_CHECKING:
    from .function import Spec

PullBack = Callable[[Any], tuple[Any, ...]]


def calculate(
    spec: Spec, x: Tensor, calculation: Callable[[Pools], tuple[Any, ...]]
) -> tuple[tuple[Any, ...], tuple[Tensor, ...]]:
    """The results of calculation(pools), of which the last are the head's statistics, and what else to keep.

    Synchronized: the statistics with, at their end, the number of samples they are of; and all that was exchanged. The
    head is calculated once more for each exchange, to hear what it asks for.
    """
    if spec.group is None:
        return calculation(HERE), ()
    known = x.new_empty((0,), dtype=mean_dtype(x))
    while True:
        session = Session(known)
        *results, statistics = calculation(pools_of(spec.halves, session))
        if not session.pending:
            return (*results, (*statistics, known[-1])), (known,)
        known = torch.cat([known, synchronized.exchange(session.pending, spec.group, known.dtype)])


def vjp_of(
    spec: Spec, kept: Sequence[Tensor], calculation: Callable[..., tuple[Tensor, ...]], *inputs: Tensor | None
) -> tuple[tuple[Tensor, ...], PullBack]:
    """The results of calculation(pools, *inputs), which are tensors, and its vector-Jacobian product. kept: as
    calculate gave it."""
    if spec.group is None:
        return vjp(lambda *given: calculation(HERE, *given), *inputs)
    (known,), group = kept, spec.group
    sessions: list[Session] = []

    def with_questions(known: Tensor, *given: Tensor | None) -> tuple[Tensor, ...]:
        """The results, then the means and variances that it asks for."""
        session = Session(known)
        results = calculation(pools_of(spec.halves, session), *given)
        sessions.append(session)
        return *results, *(t for one in session.asked for t in (one.mean, one.var) if t is not None)

    ends, pull_back = vjp(with_questions, known, *inputs, again=True)
    asked, rounds = sessions[0].asked, sessions[0].rounds()
    count = len(ends) - sum(1 if one.var is None else 2 for one in asked)
    rest = iter(ends[count:])
    asked = [one._replace(mean=next(rest), var=None if one.var is None else next(rest)) for one in asked]
    starts = [0]
    for one in asked:
        starts.append(starts[-1] + one.width)

    def around_exchange(cotangents: Any) -> tuple[Any, ...]:
        # of what is asked nothing is known at first, then of the last round, and so on
        found = [(torch.zeros_like(one.mean), None if one.var is None else torch.zeros_like(one.var)) for one in asked]

        def so_far() -> tuple[Tensor, ...]:
            return *cotangents, *(t for pair in found for t in pair if t is not None)

        for members in reversed(rounds):
            start, end = starts[members[0]], starts[members[-1] + 1]
            dknown = synchronized.all_sum(pull_back(so_far())[0][start:end], group)
            for i in members:
                here = slice(starts[i], starts[i + 1])
                there = slice(starts[i] - start, starts[i + 1] - start)
                found[i] = synchronized.way_back(dknown[there], known[here], asked[i])
        return pull_back(so_far())[1:]

    return ends[:count], around_exchange


def vjp(function: Callable[..., Any], *inputs: Tensor | None, again: bool = False) -> tuple[Any, PullBack]:
    """The function's results and its vector-Jacobian product, for tensors or tuples of them. again: whether that will
    be asked for more than once.

    In eager mode over the tape: torch.func.vjp, which the compiler traces, costs twice as much for an N×C function.
    """
    if torch.compiler.is_compiling():
        results, pull_back, *_ = torch.func.vjp(function, *inputs)
        return results, pull_back
    leaves = [None if t is None else t.detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        results = function(*leaves)
    starts = [t for t in leaves if t is not None]

    def through_tape(cotangents: Any) -> tuple[Any, ...]:
        ends, grads = ((results,), (cotangents,)) if isinstance(results, Tensor) else (results, cotangents)
        pairs = [(end, grad) for end, grad in zip(ends, grads, strict=True) if end.requires_grad]
        if pairs:
            ends, grads = zip(*pairs, strict=True)
            found = iter(torch.autograd.grad(ends, starts, grads, retain_graph=again, materialize_grads=True))
        else:  # nothing depends on any input
            found = map(torch.zeros_like, starts)
        return tuple(None if t is None else next(found) for t in leaves)

    return results.detach() if isinstance(results, Tensor) else tuple(t.detach() for t in results), through_tape
