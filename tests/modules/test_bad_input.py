"""Bad input: an error that names the argument, what came and what was expected; and nothing is changed by it."""

import re

import pytest
import torch

import fusednorm
import fusednorm.functional as F

X = torch.randn(4, 8, 5, 5)


def raises(kind, *words):
    return pytest.raises(kind, match=".*".join(map(re.escape, words)))


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda: fusednorm.AttentiveBatchNorm2d(0), ValueError, ("num_features", "at least 1", "0")),
        (lambda: fusednorm.AttentiveBatchNorm2d(8, 0), ValueError, ("num_components", "at least 1", "0")),
        (lambda: fusednorm.AttentiveBatchNorm2d(8, 2.5), TypeError, ("num_components", "int", "float")),
        (lambda: fusednorm.AttentiveGroupNorm(3, 8), ValueError, ("num_groups", "divisor", "8", "3")),
        (lambda: fusednorm.AttentiveGroupNorm(0, 8), ValueError, ("num_groups", "at least 1", "0")),
        (lambda: fusednorm.GroupNorm(5, 8), ValueError, ("num_groups", "divisor", "8", "5")),
        (
            lambda: fusednorm.AttentiveBatchNorm2d(8, attention_input="std"),
            ValueError,
            ("attention_input", "'rsd'", "'std'"),
        ),
        (
            lambda: fusednorm.AttentiveBatchNorm2d(8, attention_act="tanh"),
            ValueError,
            ("attention_act", "'hsigmoid'", "'tanh'"),
        ),
        (lambda: fusednorm.AttentiveBatchNorm2d(8, act="tanh"), ValueError, ("act", "'relu'", "None", "'tanh'")),
        (lambda: fusednorm.BatchNorm2d(8, act="identity"), ValueError, ("act", "'relu'", "None", "'identity'")),
        (lambda: fusednorm.BatchNorm2d(8, eps="a"), TypeError, ("eps", "number", "str")),
        (lambda: fusednorm.AttentiveBatchNorm2d(8, momentum="a"), TypeError, ("momentum", "number or None", "str")),
        (lambda: fusednorm.BatchNorm2d(8, eps=-1.0), ValueError, ("eps", "at least 0", "-1.0")),
        (lambda: fusednorm.AttentiveGroupNorm(2, 8, attention_eps=-1.0), ValueError, ("attention_eps", "-1.0")),
    ],
)
def test_construction(make, kind, words):
    with raises(kind, *words):
        make()


LAYERS = {
    "AttentiveBatchNorm2d": lambda **options: fusednorm.AttentiveBatchNorm2d(8, 3, **options),
    "AttentiveGroupNorm": lambda **options: fusednorm.AttentiveGroupNorm(2, 8, 3, **options),
    "BatchNorm2d": lambda **options: fusednorm.BatchNorm2d(8, **options),
    "GroupNorm": lambda **options: fusednorm.GroupNorm(2, 8, **options),
}


@pytest.mark.parametrize(
    ("x", "residual", "kind", "words"),
    [
        (torch.randn(4, 7, 5, 5), None, ValueError, ("x", "8 channels", "(4, 7, 5, 5)")),
        (torch.randn(8), None, ValueError, ("x", "-D", "(8,)")),
        (torch.randn(2, 8, 2, 2, 2, 2), None, ValueError, ("x", "-D", "(2, 8, 2, 2, 2, 2)")),
        (torch.ones(4, 8, 5, 5, dtype=torch.int32), None, TypeError, ("x", "float32", "int32")),
        (torch.ones(4, 8, 5, 5, dtype=torch.complex64), None, TypeError, ("x", "float32", "complex64")),
        ([1.0], None, TypeError, ("x", "tensor", "list")),
        (X, torch.randn(4, 8, 5, 1), ValueError, ("residual", "(4, 8, 5, 5)", "(4, 8, 5, 1)")),
        (X, X.double(), TypeError, ("residual", "float32", "float64")),
        (X, X.to("meta"), ValueError, ("residual", "cpu", "meta")),
        (X, 1.0, TypeError, ("residual", "tensor", "float")),
    ],
)
@pytest.mark.parametrize("name", LAYERS)
def test_call(name, x, residual, kind, words):
    layer = LAYERS[name]()
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with raises(kind, *words):
        layer(x, residual)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


@pytest.mark.parametrize("x", [torch.randn(4, 8), torch.randn(4, 8, 5), torch.randn(4, 8, 5, 5, 5)])
@pytest.mark.parametrize("name", ["AttentiveBatchNorm2d", "BatchNorm2d"])
def test_dimensions_of_2d_layers(name, x):
    with raises(ValueError, "x", "4-D", str(tuple(x.shape))):
        LAYERS[name]()(x)


@pytest.mark.parametrize("name", LAYERS)
def test_float64_parameters_want_float64_input(name):
    layer = LAYERS[name]().double()
    with raises(TypeError, "float32", "float64"):
        layer(X)
    assert layer(X.double()).dtype == torch.float64


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_elsewhere(name):
    with raises(ValueError, "cpu", "meta"):
        LAYERS[name](device="meta")(X)


@pytest.mark.parametrize("name", ["AttentiveBatchNorm2d", "BatchNorm2d"])
@pytest.mark.parametrize("track", [True, False])
def test_one_value_per_channel(name, track):
    layer = LAYERS[name](track_running_stats=track)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with raises(ValueError, "x", "more than one value per channel", "(1, 8, 1, 1)"):
        layer(torch.randn(1, 8, 1, 1))
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    if track:
        assert layer.eval()(torch.randn(1, 8, 1, 1)).isfinite().all()


@pytest.mark.parametrize("name", ["AttentiveBatchNorm2d", "AttentiveGroupNorm"])
def test_one_sample_with_attention_norm(name):
    layer = LAYERS[name](attention_norm=True)
    with raises(ValueError, "x", "two samples", "attention_norm", "(1, 8, 5, 5)"):
        layer(X[:1])
    assert layer.eval()(X[:1]).isfinite().all()
    assert LAYERS[name](attention_norm=False)(X[:1]).isfinite().all()


def attentive(**other):
    arguments = {name: torch.ones(3, 8) for name in ("weight", "bias", "attention_weight")} | other
    return F.attentive_batch_norm(X, **arguments, training=True)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: F.batch_norm(X, weight=torch.ones(7), training=True), ValueError, ("weight", "(8,)", "(7,)")),
        (lambda: F.batch_norm(X, torch.zeros(8)), ValueError, ("running_mean, running_var", "both or neither")),
        (
            lambda: F.batch_norm(X, torch.zeros(8), torch.ones(8, requires_grad=True), training=True),
            ValueError,
            ("running_var", "buffer", "requires grad"),
        ),
        (lambda: attentive(bias=None), TypeError, ("bias", "tensor", "NoneType")),
        (lambda: attentive(weight=[1.0]), TypeError, ("weight", "tensor", "list")),
        (lambda: attentive(weight=torch.ones(())), ValueError, ("weight", "(K, C)", "()")),
        (lambda: attentive(weight=torch.ones(0, 8)), ValueError, ("weight", "K of at least 1", "(0, 8)")),
        (lambda: attentive(attention_weight=None), TypeError, ("attention_weight", "tensor", "NoneType")),
        (
            lambda: attentive(attention_norm=F.AttentionNorm(torch.ones(3), None)),
            TypeError,
            ("attention_norm.bias", "tensor", "NoneType"),
        ),
        (
            lambda: attentive(attention_norm=F.AttentionNorm(torch.ones(3), torch.ones(3), torch.ones(3))),
            ValueError,
            ("attention_norm.running_mean, attention_norm.running_var", "both or neither"),
        ),
        (lambda: F.group_norm(X, 3), ValueError, ("num_groups", "8", "3")),
        (lambda: F.group_norm(X, 2, bias=[0.0] * 8), TypeError, ("bias", "tensor", "list")),
        (
            lambda: F.attentive_group_norm(X, 2, torch.ones(3, 8), torch.ones(3, 8), torch.ones(3, 16)),
            ValueError,
            ("attention_weight", "(3, 8)", "(3, 16)"),
        ),
        (
            lambda: F.attentive_batch_norm(
                X,
                torch.ones(3, 8),
                torch.ones(3, 8),
                torch.ones(3, 8),
                attention_norm=F.AttentionNorm(torch.ones(3), torch.ones(2)),
                training=True,
            ),
            ValueError,
            ("attention_norm.bias", "(3,)", "(2,)"),
        ),
    ],
)
def test_functions(call, kind, words):
    with raises(kind, *words):
        call()
