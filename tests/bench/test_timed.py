import pytest

from bench.harness import Sample
from bench.record import Record
from bench.timed import compared, timed


def samples(*seconds: float) -> list[Sample]:
    return [Sample(value, page_faults) for page_faults, value in enumerate(seconds)]


FUSED_AN = Record(section="s", contender="fused", layer="an", backend="cpu")
FUSED_SN = Record(section="s", contender="fused", layer="sn", backend="cpu")
REFERENCE_SN = Record(section="s", contender="reference", layer="sn")
BATCH_NORM = Record(section="s", contender="BatchNorm2d")


def test_times_are_quartiles_in_milliseconds() -> None:
    record = timed(BATCH_NORM, samples(5.0, 1.0, 4.0, 2.0, 3.0), {})
    assert (record.low_ms, record.median_ms, record.high_ms) == (2e3, 3e3, 4e3)
    assert record.page_faults == 2
    assert record.rounds == 5


def test_a_layer_is_compared_with_itself_fused_and_batch_norm_with_all() -> None:
    taken = {
        "an cpu": samples(1.0, 2.0),
        "sn cpu": samples(2.0, 4.0),
        "sn reference": samples(6.0, 12.0),
        "BatchNorm2d": samples(4.0, 8.0),
    }
    an, sn, reference, batch_norm = compared([FUSED_AN, FUSED_SN, REFERENCE_SN, BATCH_NORM], taken)
    assert an.ratios == sn.ratios == {}
    assert reference.ratios == {"sn cpu": pytest.approx((3, 3, 3))}
    assert batch_norm.ratios == {"an cpu": pytest.approx((4, 4, 4)), "sn cpu": pytest.approx((2, 2, 2))}
