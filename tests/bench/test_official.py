"""The official chains in float64, where they and the reference differ by nothing but rounding."""

import pytest
import torch

import fusednorm.reference
from bench.agreement import results
from bench.contenders import make_inputs, make_layer
from bench.names import LAYOUTS, Dtype, Form, Kind, Layer, Mode
from bench.official import OFFICIAL, SwitchNorm

SHAPE = (5, 32, 6, 7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("layer", OFFICIAL)
def test_the_same_function(layer: Layer, mode: Mode, form: Form, layout: str) -> None:
    inputs = make_inputs(SHAPE, torch.float64, layout)
    reference, official = make_layer(layer, SHAPE[1], form, Dtype.float32, [Kind.official], [])
    for contender in (reference, official):
        contender.module.double().train(mode is not Mode.eval)
    expected = results(reference.call, reference.module, inputs, form, mode)
    got = results(official.call, official.module, inputs, form, mode)
    assert official.translate is not None
    got = official.translate(got, expected)
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-9, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("layer", [layer for layer in OFFICIAL if layer is not Layer.sn])
def test_running_statistics(layer: Layer) -> None:
    """SN's start elsewhere and count the other way round: momentum 0.9 of the old value is ours of 0.1 of the new."""
    inputs = make_inputs(SHAPE, torch.float64, "nchw")
    reference, official = make_layer(layer, SHAPE[1], Form.bare, Dtype.float32, [Kind.official], [])
    for contender in (reference, official):
        contender.module.double()
        contender.call(inputs.x)
    theirs = {name.removeprefix("norm."): b for name, b in official.module.named_buffers()}
    for name, ours in reference.module.named_buffers():
        if "running" in name:
            torch.testing.assert_close(theirs[name.removeprefix("standardize.")].flatten(), ours)


def test_switch_norms_own_variance() -> None:
    inputs = make_inputs(SHAPE, torch.float64, "nchw")
    ours = fusednorm.reference.SwitchableNorm2d(SHAPE[1], unbiased=True).double()
    theirs = SwitchNorm(SHAPE[1]).double()
    theirs.load(ours.state_dict())
    torch.testing.assert_close(theirs(inputs.x), ours(inputs.x))
    torch.testing.assert_close(theirs.running_mean.flatten(), ours.running_mean)
    torch.testing.assert_close(theirs.running_var.flatten(), ours.running_var)
    biased = SwitchNorm(SHAPE[1], unbiased=False).double()
    assert not torch.allclose(biased(inputs.x), ours(inputs.x))


def test_residuals_are_not_written_over() -> None:
    inputs = make_inputs(SHAPE, torch.float32, "nchw")
    before = inputs.residual.detach().clone(), inputs.x.detach().clone()
    for layer in OFFICIAL:
        official = make_layer(layer, SHAPE[1], Form.residual_relu, Dtype.float32, [Kind.official], [])[1]
        official.call(inputs.x, inputs.residual)
    assert torch.equal(inputs.residual, before[0])
    assert torch.equal(inputs.x, before[1])


def test_half_types_are_not_compared() -> None:
    for dtype in Dtype:
        official = make_layer(Layer.an, 32, Form.bare, dtype, [Kind.official], [])[1]
        assert official.same_function == (dtype is Dtype.float32)
        assert {p.dtype for p in official.module.parameters()} == {getattr(torch, dtype.value)}
        inputs = make_inputs(SHAPE, getattr(torch, dtype.value), "channels_last")
        assert official.call(inputs.x).dtype == inputs.x.dtype
