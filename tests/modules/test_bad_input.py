"""Bad input: an error that names the argument, what came and what was expected; and nothing is changed by it."""

import re

import pytest
import torch

import fusednorm
import fusednorm.functional as F

X, V = torch.randn(4, 8, 5, 5), torch.ones(8)


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
        (lambda: fusednorm.RepresentativeBatchNorm2d(0), ValueError, ("num_features", "at least 1", "0")),
        (lambda: fusednorm.RepresentativeBatchNorm2d(8, -1.0), ValueError, ("eps", "at least 0", "-1.0")),
        (
            lambda: fusednorm.RepresentativeBatchNorm2d(8, momentum="a"),
            TypeError,
            ("momentum", "number or None", "str"),
        ),
        (
            lambda: fusednorm.RepresentativeBatchNorm2d(8, center="max"),
            ValueError,
            ("center", "'spatial_std' or None", "'max'"),
        ),
        (
            lambda: fusednorm.RepresentativeBatchNorm2d(8, scale="input_mean"),
            ValueError,
            ("scale", "None", "'input_mean'"),
        ),
        (
            lambda: fusednorm.RepresentativeBatchNorm2d(8, restrict="relu"),
            ValueError,
            ("restrict", "'hsigmoid' or a function", "'relu'"),
        ),
        (lambda: fusednorm.RepresentativeBatchNorm2d(8, act="tanh"), ValueError, ("act", "'relu'", "None", "'tanh'")),
        (lambda: fusednorm.SwitchableNorm2d(0), ValueError, ("num_features", "at least 1", "0")),
        (lambda: fusednorm.SwitchableNorm2d(8, scopes=()), ValueError, ("scopes", "'instance'", "each once", "()")),
        (
            lambda: fusednorm.SwitchableNorm2d(8, scopes=("batch", "batch")),
            ValueError,
            ("scopes", "each once", "('batch', 'batch')"),
        ),
        (
            lambda: fusednorm.SwitchableNorm2d(8, scopes=("batch", "plane")),
            ValueError,
            ("scopes", "'group'", "('batch', 'plane')"),
        ),
        (lambda: fusednorm.SwitchableNorm2d(8, scopes="layer"), TypeError, ("scopes", "tuple or list", "'layer'")),
        (lambda: fusednorm.SwitchableNorm2d(8, scopes=[["batch"]]), ValueError, ("scopes", "'group'", "[['batch']]")),
        (
            lambda: fusednorm.standardizations.Switchable(8, scopes=None),
            TypeError,
            ("scopes", "tuple or list", "NoneType"),
        ),
        (lambda: fusednorm.SwitchableNorm2d(8, average="mean"), ValueError, ("average", "'moving', 'batch'", "'mean'")),
        (lambda: fusednorm.SwitchableNorm2d(8, per_group=3), ValueError, ("per_group", "divisor", "8", "3")),
        (lambda: fusednorm.SwitchableNorm2d(8, num_groups=5), ValueError, ("num_groups", "divisor", "8", "5")),
        (lambda: fusednorm.SwitchableNorm2d(8, per_group=0), ValueError, ("per_group", "at least 1", "0")),
        (lambda: fusednorm.SwitchableNorm2d(8, act="tanh"), ValueError, ("act", "'relu'", "'tanh'")),
        (lambda: fusednorm.InstanceEnhancementBatchNorm2d(2.0), TypeError, ("num_features", "int", "float")),
        (lambda: fusednorm.FilterResponseNorm(0), ValueError, ("num_channels", "at least 1", "0")),
        (lambda: fusednorm.FilterResponseNorm(8, -1.0), ValueError, ("eps", "at least 0", "-1.0")),
        (lambda: fusednorm.GlobalResponseNorm(8, "a"), TypeError, ("eps", "number", "str")),
        (lambda: fusednorm.SqueezeExcite(8, 0), ValueError, ("reduction", "at least 1", "0")),
        (lambda: fusednorm.SqueezeExcite(8, gate="relu"), ValueError, ("gate", "'hsigmoid' or a function", "'relu'")),
        (lambda: fusednorm.EfficientChannelAttention(0), ValueError, ("num_channels", "at least 1", "0")),
        (lambda: fusednorm.EfficientChannelAttention(8, 4), ValueError, ("kernel_size", "odd", "4")),
        (lambda: fusednorm.EfficientChannelAttention(8, 0), ValueError, ("kernel_size", "at least 1", "0")),
        (lambda: fusednorm.EfficientChannelAttention(8, gate=1), ValueError, ("gate", "'sigmoid'", "1")),
        (lambda: fusednorm.StyleRecalibration(8, eps=-1.0), ValueError, ("eps", "at least 0", "-1.0")),
        (lambda: fusednorm.GatherExcite("8"), TypeError, ("num_channels", "int", "str")),
        (
            lambda: fusednorm.NormalizationAttention(similarity="cosine"),
            ValueError,
            ("similarity", "'l1'", "None", "'cosine'"),
        ),
        (
            lambda: fusednorm.NormalizationAttention(embedding=True),
            ValueError,
            ("embedding", "'mean_difference'", "'l1'"),
        ),
        (lambda: fusednorm.NormalizationAttention(eps=-1.0), ValueError, ("eps", "at least 0", "-1.0")),
        (lambda: fusednorm.NormalizationAttention(act="tanh"), ValueError, ("act", "'relu'", "'tanh'")),
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
    "RepresentativeBatchNorm2d": lambda **options: fusednorm.RepresentativeBatchNorm2d(8, **options),
    "RepresentativeBatchNorm2d, spatial": lambda **options: fusednorm.RepresentativeBatchNorm2d(
        8, center="spatial_std", scale="spatial_mean", **options
    ),
    "SwitchableNorm2d": lambda **options: fusednorm.SwitchableNorm2d(8, **options),
    "SqueezeExcite": lambda **options: fusednorm.SqueezeExcite(8, 2, **options),
    "EfficientChannelAttention": lambda **options: fusednorm.EfficientChannelAttention(8, **options),
    "StyleRecalibration": lambda **options: fusednorm.StyleRecalibration(8, **options),
    "InstanceEnhancementBatchNorm2d": lambda **options: fusednorm.InstanceEnhancementBatchNorm2d(8, **options),
    "FilterResponseNorm": lambda **options: fusednorm.FilterResponseNorm(8, **options),
    "GlobalResponseNorm": lambda **options: fusednorm.GlobalResponseNorm(8, **options),
    "NormalizationAttention": lambda **options: fusednorm.NormalizationAttention(**options),
    "RecalibratedNorm": lambda **options: fusednorm.RecalibratedNorm(
        fusednorm.standardizations.Batch(8, **options), fusednorm.recalibrations.Affine(8, **options)
    ),
}
OF_IMAGES = [name for name in LAYERS if "2d" in name]
OF_BATCHES = [*OF_IMAGES, "RecalibratedNorm"]


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "NormalizationAttention"])
def test_other_channels(name):
    """But for the layer that takes any number."""
    with raises(ValueError, "x", "8 channels", "(4, 7, 5, 5)"):
        LAYERS[name]()(torch.randn(4, 7, 5, 5))


@pytest.mark.parametrize(
    ("x", "residual", "kind", "words"),
    [
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
@pytest.mark.parametrize("name", OF_IMAGES)
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


@pytest.mark.parametrize("name", OF_BATCHES)
@pytest.mark.parametrize("track", [True, False])
def test_one_value_per_channel(name, track):
    layer = LAYERS[name]() if name == "RecalibratedNorm" else LAYERS[name](track_running_stats=track)
    if name == "RecalibratedNorm" and not track:
        layer.standardize = fusednorm.standardizations.Batch(8, track_running_stats=False)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with raises(ValueError, "x", "more than one value per channel", "(1, 8, 1, 1)"):
        layer(torch.randn(1, 8, 1, 1))
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    if track:
        assert layer.eval()(torch.randn(1, 8, 1, 1)).isfinite().all()


@pytest.mark.parametrize(
    ("standardize", "recalibrate", "words"),
    [
        (
            fusednorm.BatchNorm2d(8),
            None,
            ("standardize", "standardizations", "layer BatchNorm2d", "standardizations.Batch)"),
        ),
        (
            fusednorm.RepresentativeBatchNorm1d(8),
            None,
            ("standardize", "layer RepresentativeBatchNorm1d", "standardizations.Representative)"),
        ),
        (fusednorm.GroupNorm(2, 8), None, ("standardize", "layer GroupNorm", "standardizations.Group)")),
        (
            None,
            fusednorm.SqueezeExcite(8),
            ("recalibrate", "recalibrations", "layer SqueezeExcite", "recalibrations.SqueezeExcite)"),
        ),
        (
            None,
            fusednorm.AttentiveBatchNorm2d(8),
            ("recalibrate", "layer AttentiveBatchNorm2d", "recalibrations.Attentive)"),
        ),
        (None, fusednorm.NormalizationAttention(), ("recalibrate", "layer", "recalibrations.NormalizationAttention)")),
        (fusednorm.recalibrations.Affine(8), None, ("standardize", "standardizations", "got Affine")),
    ],
)
def test_parts(standardize, recalibrate, words):
    """A whole layer is both kinds of part, and would lose one of its halves."""
    standardize = fusednorm.standardizations.Batch(8) if standardize is None else standardize
    recalibrate = fusednorm.recalibrations.Affine(8) if recalibrate is None else recalibrate
    with raises(TypeError, *words):
        fusednorm.RecalibratedNorm(standardize, recalibrate)


def test_own_names():
    """Parts that serve several functions speak of each one's own arguments."""
    with pytest.raises(ValueError, match=r"^norm\.bias: expected shape \(8,\), got \(7,\)$"):
        F.style_recalibration(X, torch.ones(8, 2), F.AttentionNorm(V, V[:7]), training=True)
    with pytest.raises(ValueError, match=r"^x: expected at least two samples for norm to .* shape \(1, 8, 5, 5\)$"):
        LAYERS["StyleRecalibration"]()(X[:1])
    with pytest.raises(TypeError, match=r"^enhance_weight: expected a tensor, got NoneType$"):
        F.instance_enhancement_batch_norm(X, None, None, V, V, None, V, training=True)


@pytest.mark.parametrize("name", ["AttentiveBatchNorm2d", "AttentiveGroupNorm"])
def test_one_sample_with_attention_norm(name):
    layer = LAYERS[name](attention_norm=True)
    with raises(ValueError, "x", "two samples", "attention_norm", "(1, 8, 5, 5)"):
        layer(X[:1])
    assert layer.eval()(X[:1]).isfinite().all()
    assert LAYERS[name](attention_norm=False)(X[:1]).isfinite().all()
