import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import fusednorm.reference
from bench import layer_section, sweep
from bench.agreement import DisagreementError
from bench.case import Case, build, check, measure
from bench.contenders import Contender, compiled, make_inputs
from bench.harness import Sample
from bench.names import Dtype, Form, Kind, Layer, Layout, Mode, Section
from bench.plan import Plan

SHAPE = (4, 6, 5, 5)
CASE = Case("layers", SHAPE, Dtype.float32, Layout.nchw, Form.residual_relu, Mode.train, "cpu")
INPUTS = make_inputs(SHAPE, torch.float32, "nchw")
EAGER = (Kind.fused, Kind.reference, Kind.official, Kind.batch_norm, Kind.group_norm, Kind.copy)
PLAN = Plan(
    layers=(Layer.an, Layer.sn),
    maps=((SHAPE, Dtype.float32),),
    layouts=(Layout.nchw,),
    modes=(Mode.train,),
    forms=(Form.bare,),
    kinds=EAGER,
    backends=("torch",),
    device="cpu",
    threads=1,
    rounds=2,
    quick=False,
)


def contender(kind: Kind, module: nn.Module, **options: object) -> Contender:
    return replace(Contender(kind, module, module, "an"), **options)  # type: ignore[arg-type]


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
    found = [contender(Kind.reference, right), contender(Kind.fused, copy.deepcopy(right), backend="cpu")]
    assert check(CASE, found, INPUTS) == {"an cpu": 0.0}


def test_a_wrong_gradient_is_not_timed() -> None:
    found = [contender(Kind.reference, reference()), contender(Kind.fused, wrong(), backend="cpu")]
    with pytest.raises(DisagreementError, match="an cpu disagrees with the reference: dx is off"):
        check(CASE, found, INPUTS)


def test_another_function_is_not_compared() -> None:
    found = [contender(Kind.reference, reference()), contender(Kind.official, wrong(), same_function=False)]
    assert check(CASE, found, INPUTS) == {}


def test_a_contender_that_only_pretends_to_be_compiled_is_found_out() -> None:
    right = reference()
    found = [contender(Kind.reference, right), contender(Kind.compiled, copy.deepcopy(right), compiled=True)]
    with pytest.raises(RuntimeError, match="an compiled was not compiled into one graph"):
        check(CASE, found, INPUTS)


def test_each_compiled_contender_has_a_cache_of_its_own() -> None:
    """The guards of one are not tried in the other's calls, though both are nn.Modules."""
    from torch._dynamo.eval_frame import _debug_get_cache_entry_list as entries

    torch._dynamo.reset()
    calls = [compiled(module, Kind.compiled, backend="eager") for module in (nn.BatchNorm2d(6), nn.InstanceNorm2d(6))]
    for call in calls:
        call(INPUTS.x)
    codes = [call._torchdynamo_orig_callable.__code__ for call in calls]
    assert [len(entries(code)) for code in codes] == [1, 1]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("mode", Mode)
def test_all_contenders_of_a_case(form: Form, mode: Mode) -> None:
    records = measure(replace(CASE, form=form, mode=mode), [Layer.an, Layer.bn], EAGER, ["torch"], rounds=2)
    found = {record.name: record for record in records}
    # There is no official batch norm but PyTorch's.
    names = ["an reference", "an torch", "an official", "bn reference", "bn torch", "BatchNorm2d", "GroupNorm", "copy"]
    assert list(found) == names
    for name, record in found.items():
        assert (record.form, record.mode, record.shape, record.rounds) == (form.value, mode.value, SHAPE, 2)
        assert record.low_ms <= record.median_ms <= record.high_ms
        assert record.bytes_of_x == 4 * torch.Size(SHAPE).numel()
        own = {"a": {"an torch"}, "b": {"bn torch"}}.get(name[0], {"an torch", "bn torch"})
        assert set(record.ratios) == own - {name}
    assert found["copy"].over_floor == 1
    assert found["an torch"].max_difference < 1e-3
    assert found["an reference"].max_difference is None
    assert found["BatchNorm2d"].operators >= 1 + (form is Form.residual_relu) * 2
    assert found["BatchNorm2d"].floor_units == found["bn torch"].floor_units
    evaluation = mode is Mode.eval
    assert found["bn torch"].floor_units == found["an torch"].floor_units - evaluation


def test_modules_are_in_the_cases_mode() -> None:
    for mode in Mode:
        found = build(replace(CASE, mode=mode), [Layer.an], EAGER, ["torch"])
        assert {c.module.training for c in found} == {mode is not Mode.eval}


def test_references_not_asked_for_are_checked_against_but_not_measured() -> None:
    records = measure(CASE, [Layer.an], [Kind.fused], ["torch"], rounds=2)
    assert [record.name for record in records] == ["an torch"]
    assert records[0].max_difference < 1e-3


def test_ratios_are_taken_within_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    def played(steps: dict[str, object], rounds: int, measure: object) -> dict[str, list[Sample]]:
        seconds = {"an torch": (1, 2), "BatchNorm2d": (3, 6), "copy": (1, 1)}
        return {name: [Sample(value, 0) for value in seconds[name]] for name in steps}

    monkeypatch.setattr("bench.case.interleave", played)
    records = measure(CASE, [Layer.an], [Kind.fused, Kind.batch_norm], ["torch"], rounds=2)
    assert records[1].ratios == {"an torch": (3, 3, 3)}
    assert records[0].median_ms == 1500
    assert records[0].over_floor == pytest.approx(1.5 * 6 / 10)


def test_the_section_is_every_combination() -> None:
    plan = replace(PLAN, layouts=tuple(Layout), forms=tuple(Form), kinds=(Kind.fused,))
    records = list(layer_section.run(plan))
    assert [(r.layout, r.form, r.name) for r in records] == [
        (layout.value, form.value, name) for layout in Layout for form in Form for name in ("an torch", "sn torch")
    ]


def test_sizes_of_the_sweep_are_exact_and_double() -> None:
    sizes = sweep.sizes(256 << 20)
    assert sizes[0] == 16 << 10
    assert sizes[-1] == 256 << 20
    assert {b / a for a, b in itertools.pairwise(sizes)} == {2}
    for size in sizes:
        shape = sweep.shape_of(size, torch.float32)
        assert 4 * torch.Size(shape).numel() == size
        assert shape[0] >= 4


def test_the_sweep_has_a_record_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "QUICK_LARGEST", 128 << 10)
    records = list(sweep.run(replace(PLAN, quick=True)))
    assert [(r.section, r.name, r.bytes_of_x) for r in records] == [
        (Section.sweep.value, name, size << 10) for size in (16, 128) for name in ("an torch", "BatchNorm2d", "copy")
    ]
