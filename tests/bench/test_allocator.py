from bench.allocator import Malloc, environment


def test_keep_adds_both_thresholds_and_default_removes_them() -> None:
    plain = {"PATH": "p"}
    keep = environment(Malloc.keep, plain)
    assert keep.keys() == {"PATH", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}
    assert environment(Malloc.default, keep) == environment(Malloc.default, plain) == plain


def test_the_restarted_process_restarts_no_more() -> None:
    for setting in (Malloc.keep, Malloc.default):
        once = environment(setting, {"PATH": "p", "MALLOC_TRIM_THRESHOLD_": "1"})
        assert environment(setting, once) == once
