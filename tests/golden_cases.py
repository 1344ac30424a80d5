"""The golden cases: numbers of the papers' official modules, or of an independent reading of a paper.

A case knows the constructor and the parameters of OUR layer that must give its numbers, so it applies to the
reference and to the fused layers alike:

    for case in golden_cases.CASES:
        layer = case.build(fusednorm.reference, torch.float64)
        case.check(layer, torch.float64)

golden/official/*.npz hold what the official code computed (numbers only, none of the code) and
golden/paper/*.npz what a paper defines and no official code has. An array's key is KIND/OFFICIAL_NAME. The
kinds: in, gy (the gradient with respect to the output), param, buf_before; then for one training step out,
grad, buf_after; for an evaluation after it eval, eval_grad; in aux whatever else a layer's test may look at.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"

# Official state_dict name -> ours.
AN_A1_NAMES = {
    "weight_": "weight",
    "bias_": "bias",
    "attention_weights.attention.0.weight": "attention.weight",
    "attention_weights.attention.0.bias": "attention.bias",
}
AN_A2_NAMES = {
    "weight_": "weight",
    "bias_": "bias",
    "attention_weights.attention.0.weight": "attention.weight",
    "attention_weights.attention.1.weight": "attention_norm.weight",
    "attention_weights.attention.1.bias": "attention_norm.bias",
    "attention_weights.attention.1.running_mean": "attention_norm.running_mean",
    "attention_weights.attention.1.running_var": "attention_norm.running_var",
    "attention_weights.attention.1.num_batches_tracked": "attention_norm.num_batches_tracked",
}
AN_PAPER_NAMES = {
    "weight_": "weight",
    "bias_": "bias",
    "att_conv": "attention.weight",
    "att_bn_weight": "attention_norm.weight",
    "att_bn_bias": "attention_norm.bias",
    "att_running_mean": "attention_norm.running_mean",
    "att_running_var": "attention_norm.running_var",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden file, read as numbers of one of our layers."""

    file: str
    constructor: str
    arguments: dict[str, Any]
    names: dict[str, str]

    @property
    def name(self) -> str:
        return Path(self.file).stem

    def arrays(self, kind: str) -> dict[str, Tensor]:
        """The float64 (or int64) tensors of one kind, by our names."""
        with np.load(GOLDEN / self.file) as file:
            found = {
                key.removeprefix(f"{kind}/"): torch.from_numpy(file[key])
                for key in file.files
                if key == kind or key.startswith(f"{kind}/")
            }
        return {self.names.get(name, name): _without_1x1(name, value) for name, value in found.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The layer's state before the training step."""
        return self._with_counters(self.arrays("param") | self.arrays("buf_before"), count=0)

    def build(
        self, namespace: Any, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> nn.Module:
        """Our layer out of `namespace` (fusednorm.reference, fusednorm), with the case's parameters."""
        layer: nn.Module = getattr(namespace, self.constructor)(**self.arguments, device=device, dtype=dtype)
        layer.load_state_dict(self.state_dict())
        return layer

    def check(
        self,
        layer: nn.Module,
        dtype: torch.dtype = torch.float64,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """One training step and one evaluation of a freshly built layer, compared with the golden numbers.

        Compared are outputs, gradients (of the input and of every parameter) and buffers.
        """
        device = next(layer.parameters()).device
        x = self.arrays("in")["x"].to(device, dtype, memory_format=memory_format)
        gy = self.arrays("gy")["gy"].to(device, dtype, memory_format=memory_format)
        buffers_after = self._with_counters(self.arrays("buf_after"), count=1)

        layer.train()
        self._check_tensors(dtype, "training", _step(layer, x, gy), self._expected_step("out", "grad"))
        self._check_tensors(dtype, "after training", dict(layer.named_buffers()), buffers_after)
        layer.eval()
        self._check_tensors(dtype, "evaluation", _step(layer, x, gy), self._expected_step("eval", "eval_grad"))
        self._check_tensors(dtype, "after evaluation", dict(layer.named_buffers()), buffers_after)

    def _expected_step(self, output: str, gradient: str) -> dict[str, Tensor]:
        gradients = {f"gradient of {name}": value for name, value in self.arrays(gradient).items()}
        return self.arrays(output) | gradients

    def _check_tensors(
        self, dtype: torch.dtype, when: str, actual: dict[str, Any], expected: dict[str, Tensor]
    ) -> None:
        assert actual.keys() == expected.keys(), f"{self.name}, {when}: {actual.keys() ^ expected.keys()}"
        for name, value in expected.items():
            _check_near(f"{self.name}, {when}: {name}", actual[name], value, dtype)

    def _with_counters(self, state: dict[str, Tensor], count: int) -> dict[str, Tensor]:
        """state plus the counters num_batches_tracked, which the files of paper/ do not have."""
        owners = {name.removesuffix("running_mean") for name in state if name.endswith("running_mean")}
        return {f"{owner}num_batches_tracked": torch.tensor(count) for owner in owners} | state


def _without_1x1(official_name: str, value: Tensor) -> Tensor:
    """The official fc layer is a 1x1 convolution, (K, C, 1, 1); ours is (K, C)."""
    return value.flatten(1) if official_name == "attention_weights.attention.0.weight" else value


def _step(layer: nn.Module, x: Tensor, gy: Tensor) -> dict[str, Tensor | None]:
    """The output and all gradients of sum(layer(x) * gy)."""
    x = x.detach().requires_grad_()
    layer.zero_grad()
    y = layer(x)
    y.backward(gy)
    gradients = {f"gradient of {name}": p.grad for name, p in layer.named_parameters()}
    return {"y": y, "gradient of x": x.grad} | gradients


def _check_near(what: str, actual: Tensor | None, expected: Tensor, dtype: torch.dtype) -> None:
    """float64 within 1e-10, float32 within 1e-5 of the largest entry, integers equal."""
    assert actual is not None, f"{what} is None"
    assert actual.shape == expected.shape, f"{what}: {actual.shape} instead of {expected.shape}"
    if not expected.is_floating_point():
        assert torch.equal(actual.cpu(), expected), f"{what}: {actual} instead of {expected}"
        return
    assert actual.dtype == dtype, f"{what}: {actual.dtype} instead of {dtype}"
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5 * expected.abs().max().item()}[dtype]
    error = (actual.detach().cpu().double() - expected).abs().max().item()
    assert error <= tolerance, f"{what}: off by {error:.3g}, allowed is {tolerance:.3g}"


def _case(file: str, constructor: str, names: dict[str, str], **arguments: Any) -> Case:
    return Case(file, constructor, arguments, names)


CASES = [
    _case(
        "official/an_bn_mode2_a.npz",
        "AttentiveBatchNorm2d",
        AN_A2_NAMES,
        num_features=8,
        num_components=5,
        attention_norm=True,
        attention_act="hsigmoid",
    ),
    _case(
        "official/an_bn_mode4_a.npz",
        "AttentiveBatchNorm2d",
        AN_A1_NAMES,
        num_features=8,
        num_components=5,
        attention_norm=False,
        attention_act="hsigmoid",
    ),
    _case(
        "official/an_bn_mode6_a.npz",
        "AttentiveBatchNorm2d",
        AN_A2_NAMES,
        num_features=8,
        num_components=5,
        attention_norm=True,
        attention_act="softmax",
    ),
    _case(
        "official/an_gn_mode4_a.npz",
        "AttentiveGroupNorm",
        AN_A1_NAMES,
        num_groups=4,
        num_channels=8,
        num_components=5,
        attention_norm=False,
        attention_act="hsigmoid",
    ),
    # std := sqrt(unbiased plane variance + 1e-3), as in RSD; this is our reading, there is no official code.
    _case(
        "paper/an_meanstd_A2_hsigmoid.npz",
        "AttentiveBatchNorm2d",
        AN_PAPER_NAMES,
        num_features=6,
        num_components=4,
        attention_input="mean_std",
        attention_norm=True,
        attention_act="hsigmoid",
    ),
]
