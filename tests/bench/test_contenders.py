import pytest
import torch

import fusednorm
from bench.contenders import (
    BatchNormAddReLU,
    copy_step,
    fits,
    make_inputs,
    make_layer,
    make_shared,
    on_backend,
    step_of,
    training_step,
)
from bench.count import operators
from bench.names import Dtype, Form, Kind, Layer, Mode
from fusednorm.engine.backends import choose


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inputs_have_the_type_and_layout(dtype: torch.dtype) -> None:
    planar = make_inputs((2, 4, 8, 8), dtype, "nchw")
    last = make_inputs((2, 4, 8, 8), dtype, "channels_last")
    for name in ("x", "residual", "dy"):
        a, b = getattr(planar, name), getattr(last, name)
        assert a.dtype == b.dtype == dtype
        assert a.is_contiguous()
        assert b.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(a, b)
        assert a.is_leaf
        assert a.requires_grad == b.requires_grad == (name != "dy")


def test_a_step_leaves_no_gradients_behind() -> None:
    inputs = make_inputs((2, 4, 8, 8), torch.float32, "nchw")
    module = BatchNormAddReLU(4)
    training_step(module, inputs)()
    assert module.norm.num_batches_tracked == 1
    assert inputs.x.grad is None
    assert all(parameter.grad is None for parameter in module.parameters())


def test_steps_do_what_the_mode_says() -> None:
    inputs = make_inputs((2, 4, 8, 8), torch.float32, "nchw")
    (norm,) = make_shared(4, Form.bare, Dtype.float32, [Kind.batch_norm])
    gradients = step_of(norm, inputs, Form.bare, Mode.train)()
    assert isinstance(gradients, tuple)
    assert [g.shape for g in gradients] == [(2, 4, 8, 8), (4,), (4,)]
    y = step_of(norm, inputs, Form.bare, Mode.forward)()
    assert isinstance(y, torch.Tensor)
    assert y.requires_grad
    y = step_of(norm, inputs, Form.bare, Mode.eval)()
    assert isinstance(y, torch.Tensor)
    assert not y.requires_grad


def test_the_copy_keeps_the_layout() -> None:
    inputs = make_inputs((2, 4, 8, 8), torch.float32, "channels_last")
    copies = copy_step(inputs)()
    assert isinstance(copies, list)
    for copied, source in zip(copies, (inputs.x, inputs.residual, inputs.dy), strict=True):
        assert torch.equal(copied, source)
        assert copied.stride() == source.stride()
        assert copied.data_ptr() != source.data_ptr()


def test_a_layers_contenders_have_its_parameters_and_no_gate_is_constant() -> None:
    found = make_layer(Layer.rbn, 8, Form.bare, Dtype.float32, list(Kind), ["torch"])
    assert [c.kind for c in found] == [
        *(Kind.reference, Kind.fused, Kind.compiled, Kind.max_autotune, Kind.official),
    ]
    first = dict(found[0].module.named_parameters())
    assert all(parameter.std() > 0 for parameter in first.values())
    for contender in found:
        for name, parameter in contender.module.named_parameters():
            assert torch.equal(parameter.flatten(), first[name].flatten())
    assert len({id(c.module) for c in found}) == len(found)


def test_a_layer_runs_on_its_backend_whatever_is_the_default() -> None:
    seen: list[str] = []
    layer = fusednorm.BatchNorm2d(4)
    layer.register_forward_pre_hook(lambda module, arguments: seen.append(choose(arguments[0])))
    x = torch.randn(2, 4, 3, 3)
    available = [name for name in ("cpu", "torch") if fusednorm.backends()[name].available]
    for name in available:
        on_backend(layer, name)(x)
    assert seen == available


def test_groups_have_to_divide_the_channels() -> None:
    assert fits(Layer.gn, 64)
    assert not fits(Layer.gn, 24)
    assert fits(Layer.an, 24)


def test_operators_are_counted_with_backward_but_not_within_others() -> None:
    x = torch.randn(4, requires_grad=True)
    assert operators(lambda: x.detach().sin(), "cpu") == 2
    forward = operators(lambda: x.sin(), "cpu")
    assert forward == 1
    assert operators(lambda: torch.autograd.grad(x.sin(), x, torch.ones(4)), "cpu") > forward + 1
