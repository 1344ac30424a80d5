"""Bad input of fusednorm.functional: an error that names the argument, what came and what was expected."""

import pytest
import torch

import fusednorm.functional as F

from .test_bad_input import V, X, raises


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
        (
            lambda: F.representative_batch_norm(X, center="max", center_weight=V),
            ValueError,
            ("center", "'mean'", "'max'"),
        ),
        (
            lambda: F.representative_batch_norm(X, center=None, scale="mean", training=True),
            TypeError,
            ("scale_weight", "tensor", "scale is 'mean'", "NoneType"),
        ),
        (
            lambda: F.representative_batch_norm(X, center=None, scale_weight=V, training=True),
            TypeError,
            ("scale_bias", "tensor", "scale is 'mean'", "NoneType"),
        ),
        (
            lambda: F.representative_batch_norm(X, scale=None, training=True),
            TypeError,
            ("center_weight", "tensor", "center is 'mean'", "NoneType"),
        ),
        (
            lambda: F.representative_batch_norm(X, center="bogus", scale=None, training=True),
            ValueError,
            ("center", "'spatial_std' or None", "'bogus'"),
        ),
        (
            lambda: F.representative_batch_norm(X, center=None, center_weight=V[:7], scale=None, training=True),
            ValueError,
            ("center_weight", "None", "center is None", "Tensor"),
        ),
        (
            lambda: F.representative_batch_norm(X, center=None, scale=None, scale_bias=V, training=True),
            ValueError,
            ("scale_bias", "None", "scale is None", "Tensor"),
        ),
        (
            lambda: F.representative_batch_norm(
                X, center=None, scale="input_mean", scale_weight=V, scale_bias=V, training=True
            ),
            ValueError,
            ("scale", "'spatial_std' or None", "'input_mean'"),
        ),
        (
            lambda: F.representative_batch_norm(X, center_weight=V[:7], scale=None, training=True),
            ValueError,
            ("center_weight", "(8,)", "(7,)"),
        ),
        (
            lambda: F.representative_batch_norm(
                X, center=None, scale_weight=V, scale_bias=V, restrict="relu", training=True
            ),
            ValueError,
            ("restrict", "'sigmoid'", "a function", "'relu'"),
        ),
        (
            lambda: F.representative_batch_norm(X, V, center_weight=V, scale=None),
            ValueError,
            ("running_mean, running_var", "both or neither"),
        ),
        (lambda: F.switchable_norm(X, V[:2], V[:3], training=True), ValueError, ("mean_weight", "(3,)", "(2,)")),
        (lambda: F.switchable_norm(X, V[:3], torch.ones(4, 2)), ValueError, ("var_weight", "(4, 3)", "(4, 2)")),
        (lambda: F.switchable_norm(X, torch.ones(3, 3), V[:3]), ValueError, ("mean_weight", "(3,)", "(3, 3)")),
        (lambda: F.switchable_norm(X, None, V[:3]), TypeError, ("mean_weight", "tensor", "NoneType")),
        (lambda: F.switchable_norm(X, V[:1], V[:1], scopes=("all",)), ValueError, ("scopes", "'layer'", "('all',)")),
        (lambda: F.switchable_norm(X, V[:1], V[:1], scopes=["all"]), ValueError, ("scopes", "'layer'", "['all']")),
        (lambda: F.switchable_norm(X, V[:1], V[:1], scopes="layer"), TypeError, ("scopes", "tuple or list", "'layer'")),
        (lambda: F.switchable_norm(X, V[:1], V[:1], scopes=None), TypeError, ("scopes", "tuple or list", "NoneType")),
        (
            lambda: F.switchable_norm(X, V[:1], V[:1], scopes=("group",), num_groups=3),
            ValueError,
            ("num_groups", "divisor", "8", "3"),
        ),
        (
            lambda: F.squeeze_excite(X, torch.ones(2, 7), torch.ones(8, 2)),
            ValueError,
            ("reduce_weight", "(2, 8)", "(2, 7)"),
        ),
        (lambda: F.squeeze_excite(X, V, torch.ones(8, 2)), ValueError, ("reduce_weight", "matrix", "(8,)")),
        (lambda: F.squeeze_excite(X, torch.ones(2, 8), None), TypeError, ("expand_weight", "tensor", "NoneType")),
        (
            lambda: F.squeeze_excite(X, torch.ones(2, 8), torch.ones(8, 3)),
            ValueError,
            ("expand_weight", "(8, 2)", "(8, 3)"),
        ),
        (
            lambda: F.squeeze_excite(X, torch.ones(2, 8), torch.ones(8, 2), V),
            ValueError,
            ("reduce_bias", "(2,)", "(8,)"),
        ),
        (
            lambda: F.squeeze_excite(X, torch.ones(2, 8), torch.ones(8, 2), gate="relu"),
            ValueError,
            ("gate", "'sigmoid'", "'relu'"),
        ),
        (lambda: F.efficient_channel_attention(X, V[:3]), ValueError, ("conv_weight", "(1, 1, k)", "(3,)")),
        (
            lambda: F.efficient_channel_attention(X, torch.ones(1, 1, 2)),
            ValueError,
            ("conv_weight", "k odd", "(1, 1, 2)"),
        ),
        (lambda: F.efficient_channel_attention(X, None), TypeError, ("conv_weight", "tensor", "NoneType")),
        (
            lambda: F.style_recalibration(X, V, F.AttentionNorm(V, V), training=True),
            ValueError,
            ("style_weight", "(8, 2)", "(8,)"),
        ),
        (
            lambda: F.style_recalibration(X, torch.ones(8, 2), F.AttentionNorm(V, V[:7]), training=True),
            ValueError,
            ("norm.bias", "(8,)", "(7,)"),
        ),
        (
            lambda: F.style_recalibration(X[:1], torch.ones(8, 2), F.AttentionNorm(V, V), training=True),
            ValueError,
            ("x", "two samples", "(1, 8, 5, 5)"),
        ),
        (lambda: F.gather_excite([1.0]), TypeError, ("x", "tensor", "list")),
        (lambda: F.gather_excite(X, act="tanh"), ValueError, ("act", "'relu'", "'tanh'")),
        (lambda: F.gather_excite(X, residual=X[:1]), ValueError, ("residual", "(4, 8, 5, 5)", "(1, 8, 5, 5)")),
        (lambda: F.global_response_norm(X, V, None), TypeError, ("bias", "tensor", "NoneType")),
        (lambda: F.global_response_norm(X, V, V, -1.0), ValueError, ("eps", "-1.0")),
        (
            lambda: F.instance_enhancement_batch_norm(X, None, None, V, V, V, V[:7], training=True),
            ValueError,
            ("enhance_bias", "(8,)", "(7,)"),
        ),
        (lambda: F.filter_response_norm(X, V, V[:7], V), ValueError, ("bias", "(8,)", "(7,)")),
        (lambda: F.filter_response_norm(X, V, None, V), TypeError, ("bias", "tensor", "NoneType")),
        (lambda: F.filter_response_norm(X, V, V, V[:7]), ValueError, ("threshold", "(8,)", "(7,)")),
        (lambda: F.filter_response_norm(X, V, V, V.double()), TypeError, ("threshold", "float32", "float64")),
        (lambda: F.normalization_attention(X, V, V[:1]), ValueError, ("gain", "(1,)", "(8,)")),
        (lambda: F.normalization_attention(X, V[:1], None), TypeError, ("offset", "tensor", "NoneType")),
        (
            lambda: F.normalization_attention(X, V[:1], V[:1], similarity="cosine"),
            ValueError,
            ("similarity", "'dot'", "None", "'cosine'"),
        ),
        (
            lambda: F.normalization_attention(X, V[:1], V[:1], similarity="mean_difference", embedding=(V,)),
            ValueError,
            ("embedding", "8 tensors", "1"),
        ),
        (
            lambda: F.normalization_attention(X, V[:1], V[:1], similarity="mean_difference", embedding=(V,) * 8),
            ValueError,
            ("embedding[0]", "(1, 1, 3, 3)", "(8,)"),
        ),
    ],
)
def test_functions(call, kind, words):
    with raises(kind, *words):
        call()
