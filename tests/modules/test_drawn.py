"""Layers, options, shapes, strides and types as hypothesis draws them, against the reference."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusednorm
from tests.cases import ACTS, BACKENDS, TYPES, assert_twice_as_good, channels_last, maps_like, randomized, three_ways

EXAMPLES = {"cpu": 150, "torch": 150, "cuda": 20, "triton": 10}
STATISTICS = ("mean", "std", "spatial_mean", "spatial_std", None)
RESTRICT = ("sigmoid", "tanh", "hsigmoid")

# Name -> a map's strides: of contiguous memory, or as views of more have them. Positions of 2-D input can't be cut.
STRIDES = {
    "contiguous": lambda shape: maps_like(*shape),
    "channels_last": lambda shape: channels_last(maps_like(*shape)),
    "slice of channels": lambda shape: maps_like(shape[0], shape[1] + 3, *shape[2:])[:, 2:-1],
    "slice of channels_last": lambda shape: channels_last(maps_like(shape[0], shape[1] + 3, *shape[2:]))[:, 2:-1],
    "every other sample": lambda shape: maps_like(2 * shape[0], *shape[1:])[::2],
    "samples innermost": lambda shape: maps_like(*shape).movedim(0, -1).contiguous().movedim(-1, 0),
    "crop": lambda shape: maps_like(*shape[:-1], shape[-1] + 2)[..., 1:-1] if len(shape) > 2 else maps_like(*shape),
}


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def shapes(draw):
    """At least 4 samples, or one; at least 4 positions, or one: what is normalized over two values is all rounding."""
    dims = draw(st.integers(2, 5))
    N = draw(st.sampled_from((4, 5, 7)) | st.sampled_from((1, 4)))
    C = draw(st.sampled_from((1, 4, 6, 8, 12, 13)))
    sizes = st.integers(*{2: (1, 1), 3: (4, 23), 4: (2, 9), 5: (2, 5)}[dims])
    positions = [draw(sizes) for _ in range(dims - 2)]
    if positions and draw(st.integers(0, 9)) == 0:
        positions = [1] * len(positions)
    return (N, C, *positions)


@st.composite
def standardizations(draw, shape, training):
    """A constructor (namespace) -> part."""
    N, C, *positions = shape
    S = math.prod(positions)
    groups = [g for g in divisors(C) if C // g * S >= 4]
    names = ["Identity"]
    names += ["Instance", "FilterResponse"] if S > 1 else []
    names += ["Group"] if groups else []
    names += ["Layer"] if C * S > 1 else []
    names += ["Batch", "Representative", "Switchable"] if N * S > 1 or not training else []
    name = draw(st.sampled_from(names))
    if name == "Group":
        num_groups = draw(st.sampled_from(groups))
        return lambda ns: ns.Group(num_groups, C)
    if name == "Representative":
        center = draw(st.sampled_from(STATISTICS))
        return lambda ns: ns.Representative(C, momentum=0.3, center=center)
    if name == "Switchable":
        scopes = (
            "batch",
            *(["instance"] if S > 1 else []),
            *(["layer"] if C * S > 1 else []),
            *(["group"] if groups else []),
        )
        options = {
            "scopes": tuple(draw(st.lists(st.sampled_from(scopes), min_size=1, unique=True))),
            "num_groups": draw(st.sampled_from(groups or [1])),
            "per_group": draw(st.sampled_from(divisors(C))),
            "unbiased": draw(st.booleans()),
            "average": draw(st.sampled_from(("moving", "batch"))),
        }
        return lambda ns: ns.Switchable(C, **options)
    return lambda ns: getattr(ns, name)(C)


@st.composite
def recalibrations(draw, shape, training):
    """A constructor (namespace) -> part."""
    C, one_sample = shape[1], shape[0] == 1 and training
    affine = draw(st.booleans())
    name = draw(
        st.sampled_from([n for n in fusednorm.recalibrations.__all__ if not one_sample or n != "StyleRecalibration"])
    )
    if name == "Attentive":
        options = {
            "num_components": draw(st.integers(1, 7)),
            "attention_input": draw(st.sampled_from(("mean", "mean_std", "rsd"))),
            "attention_norm": not one_sample and draw(st.booleans()),
            "attention_act": draw(st.sampled_from(("relu", "sigmoid", "softmax", "hsigmoid"))),
        }
    elif name == "Scaling":
        scale, restrict = draw(st.sampled_from(STATISTICS)), draw(st.sampled_from(RESTRICT))
        options = {"affine": affine, "scale": scale, "restrict": restrict}
    elif name == "SqueezeExcite":
        gate = draw(st.sampled_from(RESTRICT))
        options = {"affine": affine, "reduction": draw(st.integers(1, 16)), "bias": draw(st.booleans()), "gate": gate}
    elif name == "EfficientChannelAttention":
        gate, size = draw(st.sampled_from(RESTRICT)), draw(st.sampled_from((None, 1, 3, 5)))
        options = {"affine": affine, "kernel_size": size, "gate": gate}
    elif name == "NormalizationAttention":
        similarity = draw(st.sampled_from(("l1", "squared", "dot", "mean_difference", None)))
        embedding = similarity == "mean_difference" and len(shape) == 4 and draw(st.booleans())
        unbiased = draw(st.booleans())
        options = {"affine": affine, "similarity": similarity, "embedding": embedding, "unbiased": unbiased}
    else:
        options = {} if name in ("Affine", "GlobalResponse") else {"affine": affine}
    return lambda ns: getattr(ns, name)(C, **options)


@st.composite
def cases(draw):
    """The layer's two constructors, a map's maker, type, activation, residual, mode."""
    shape, training = draw(shapes()), draw(st.sampled_from((True, True, False)))
    strides = draw(st.sampled_from(tuple(STRIDES)))
    parts = draw(standardizations(shape, training)), draw(recalibrations(shape, training))
    dtype, act, residual = draw(st.sampled_from(tuple(TYPES))), draw(st.sampled_from(ACTS)), draw(st.booleans())
    return parts, shape, strides, dtype, act, residual, training


@pytest.mark.parametrize("backend", [pytest.param(b, marks=pytest.mark.slow) if b == "triton" else b for b in BACKENDS])
def test_drawn(backend):
    @settings(
        max_examples=EXAMPLES[backend],
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(), st.integers(0, 1000))
    def check(case, seed):
        (standardize, recalibrate), shape, strides, dtype, act, residual, training = case
        torch.manual_seed(seed)
        fused, plain = randomized(
            *(
                ns.RecalibratedNorm(standardize(ns.standardizations), recalibrate(ns.recalibrations), act)
                for ns in (fusednorm, fusednorm.reference)
            )
        )
        draws = three_ways(
            backend, fused, plain, lambda: STRIDES[strides](shape), TYPES[dtype], training, residual, draws=4
        )
        try:
            assert_twice_as_good(draws, TYPES[dtype])
        except AssertionError as error:
            raise AssertionError(f"{error}\n{fused}\n{shape}, {strides}, training={training}, seed={seed}") from None

    check()
