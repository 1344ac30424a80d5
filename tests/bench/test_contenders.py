import pytest
import torch

from bench.contenders import BatchNormAddReLU, copy_step, make_inputs, training_step


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


def test_the_copy_keeps_the_layout() -> None:
    inputs = make_inputs((2, 4, 8, 8), torch.float32, "channels_last")
    copies = copy_step(inputs)()
    assert isinstance(copies, list)
    for copied, source in zip(copies, (inputs.x, inputs.residual, inputs.dy), strict=True):
        assert torch.equal(copied, source)
        assert copied.stride() == source.stride()
        assert copied.data_ptr() != source.data_ptr()
