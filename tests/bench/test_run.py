import copy

import pytest
import torch
from torch import Tensor, nn

import fusednorm.reference
from bench.agreement import DisagreementError
from bench.contenders import FUSED, REFERENCE, Contender, make_inputs
from bench.run import check
from bench.shapes import Dtype, Layer, Plan

SHAPE = (4, 6, 5, 5)
PLAN = Plan([Layer.an], [SHAPE], ["nchw"], Dtype.float32, rounds=2, compiled=False, compiled_batch_norm=False)
INPUTS = make_inputs(SHAPE, torch.float32, "nchw")


def wrong() -> nn.Module:
    """The reference, with one value of dx spoiled and all else as it should be."""

    def spoil(module: nn.Module, inputs: tuple[Tensor, Tensor], y: Tensor) -> Tensor:
        value = inputs[0][0, 0, 0, 0]
        return y + (value - value.detach())

    module = reference()
    module.register_forward_hook(spoil)
    return module


def reference() -> nn.Module:
    torch.manual_seed(0)
    return fusednorm.reference.AttentiveBatchNorm2d(SHAPE[1], act="relu")


def test_equal_contenders_pass() -> None:
    right = reference()
    contenders = [Contender(REFERENCE, right), Contender(FUSED, copy.deepcopy(right))]
    assert check(PLAN, Layer.an, contenders, INPUTS) == {FUSED: 0.0}


def test_a_wrong_gradient_is_not_timed() -> None:
    right = reference()
    contenders = [Contender(REFERENCE, right), Contender(FUSED, wrong())]
    with pytest.raises(DisagreementError, match="fused disagrees with the reference: dx is off"):
        check(PLAN, Layer.an, contenders, INPUTS)


def test_another_function_is_not_compared() -> None:
    right = reference()
    contenders = [Contender(REFERENCE, right), Contender("other", wrong(), same_function=False)]
    assert check(PLAN, Layer.an, contenders, INPUTS) == {}


def test_a_contender_that_only_pretends_to_be_compiled_is_found_out() -> None:
    right = reference()
    contenders = [Contender(REFERENCE, right), Contender("compiled", copy.deepcopy(right), compiled=True)]
    with pytest.raises(RuntimeError, match="not compiled into one graph"):
        check(PLAN, Layer.an, contenders, INPUTS)
