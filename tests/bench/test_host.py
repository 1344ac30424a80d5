import torch

from bench import host
from bench.case import Case
from bench.names import Dtype, Form, Kind, Layer, Layout, Mode
from fusednorm.engine.backends import choose

from .test_calls import PLAN


def test_a_record_is_of_one_call() -> None:
    threads = torch.get_num_threads()
    records = list(host.run(PLAN))
    assert torch.get_num_threads() == threads
    assert {(r.name, r.form, r.mode) for r in records} == {
        (name, form.value, mode.value) for name in ("an torch", "BatchNorm2d") for form in Form for mode in Mode
    }
    for record in records:
        assert record.threads == 1
        assert record.host_us is not None
        assert record.median_ms is not None
        assert record.host_us == 1e3 * record.median_ms
        assert 1 < record.host_us < 1e5, "of a call, not of many"
        assert set(record.ratios) == (set() if record.layer else {"an torch"})


def test_so_many_calls_on_the_backend() -> None:
    case = Case("host", host.SHAPE, Dtype.float32, Layout.nchw, Form.bare, Mode.train, "cpu")
    (contender,) = host.contenders(case, [Layer.bn], ["torch"], Kind.fused)
    seen: list[str] = []
    contender.module.register_forward_pre_hook(lambda module, arguments: seen.append(choose(arguments[0])))
    host.many(contender, case, 7)()
    assert seen == ["torch"] * 7
