import math

import pytest
import torch
from torch import nn

from bench.agreement import away_from_kink, max_difference, results
from bench.contenders import BatchNormAddReLU, make_inputs
from bench.names import Form, Mode


def test_difference_is_relative_to_the_tensors_largest_value() -> None:
    expected = {"y": torch.tensor([1.0, 2.0]), "dx": torch.tensor([100.0, 200.0])}
    got = {"y": torch.tensor([1.0, 2.5]), "dx": torch.tensor([110.0, 200.0])}
    assert max_difference(got, expected) == ("y", 0.25)


def test_nan_and_wrong_type_or_shape_count_as_the_worst() -> None:
    one = torch.ones(2)
    name, difference = max_difference({"a": one + 1, "b": one * math.nan}, {"a": one, "b": one})
    assert name == "b"
    assert not difference <= 1
    assert max_difference({"a": one.double()}, {"a": one}) == ("a", math.inf)
    assert max_difference({"a": torch.ones(1)}, {"a": one}) == ("a", math.inf)


def test_no_gradient_near_the_kink() -> None:
    z = torch.tensor([-1.0, -1e-4, 1e-4, 1.0])
    assert away_from_kink(torch.ones(4), z, 1e-3).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_results_are_those_of_autograd() -> None:
    inputs = make_inputs((2, 3, 4, 4), torch.float32, "nchw")
    module = BatchNormAddReLU(3)
    got = results(module, module, inputs, Form.residual_relu, Mode.train)
    assert list(got) == ["y", "dx", "dresidual", "dnorm.weight", "dnorm.bias"]

    y = nn.functional.relu(module.norm(inputs.x) + inputs.residual)
    y.backward(inputs.dy)
    torch.testing.assert_close(got["y"], y.detach())
    torch.testing.assert_close(got["dx"], inputs.x.grad)
    torch.testing.assert_close(got["dresidual"], inputs.residual.grad)
    torch.testing.assert_close(got["dnorm.weight"], module.norm.weight.grad)


def test_a_layer_alone_has_no_residual() -> None:
    norm = nn.BatchNorm2d(3)
    got = results(norm, norm, make_inputs((2, 3, 4, 4), torch.float32, "nchw"), Form.bare, Mode.train)
    assert list(got) == ["y", "dx", "dweight", "dbias"]


@pytest.mark.parametrize("mode", [Mode.forward, Mode.eval])
def test_without_backward_there_is_the_output_alone(mode: Mode) -> None:
    seen: list[bool] = []
    norm = nn.BatchNorm2d(3)
    norm.register_forward_hook(lambda module, arguments, y: seen.append(y.requires_grad))
    assert list(results(norm, norm, make_inputs((2, 3, 4, 4), torch.float32, "nchw"), Form.bare, mode)) == ["y"]
    assert seen == [mode is Mode.forward]
