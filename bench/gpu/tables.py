"""Records as plain text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from .records import Record
from .text import grid, number, shape

BATCH_NORM = "BatchNorm + add + ReLU"


def render(found: Sequence[Record]) -> str:
    """Everything that is known so far, the most important first."""
    parts = [brief(found), stamp(found)]
    parts += [section(found) for section in SECTIONS]
    return "\n\n".join(part for part in parts if part) + "\n"


def brief(found: Sequence[Record]) -> str:
    """What went wrong, and a few lines of what came out."""
    return "\n\n".join(part for part in (warnings(found), summary(found)) if part)


def summary(found: Sequence[Record]) -> str:
    """Medians and worst cases."""
    lines = []
    groups: dict[str, list[float]] = {}
    for r in of(found, "kernel"):
        if r["name"].endswith("ward"):
            groups.setdefault(r["name"], []).append(100 * r["of_copy"])
    for name, shares in groups.items():
        middle, worst = statistics.median(shares), min(shares)
        lines.append(f"{name}: {middle:.1f} % of the copy's bandwidth, at worst {worst:.1f} ({len(shares)} cases)")
    times: dict[str, list[Record]] = {}
    for r in of(found, "layer"):
        for name, row in r["rows"].items():
            if name not in ("copy", BATCH_NORM):
                times.setdefault(f"{r['layer']}, {name}", []).append(row)
    for name, rows in times.items():
        gains, floors = ([row[key] for row in rows] for key in ("batch_norm_over", "over_floor"))
        lines.append(
            f"{name}: {BATCH_NORM} takes {statistics.median(gains):.2f} times as long, at worst {min(gains):.2f}; "
            f"{statistics.median(floors):.2f} times the floor ({len(rows)} cases)"
        )
    return "\n".join(lines)


def of(found: Sequence[Record], kind: str) -> list[Record]:
    return [record for record in found if record["kind"] == kind]


def warnings(found: Sequence[Record]) -> str:
    """What a reader has to know before any figure."""
    lines = []
    for record in of(found, "build"):
        for name, (available, reason) in record["backends"].items():
            if name in ("cuda", "triton") and not available:
                lines.append(f"NO {name} BACKEND: {reason}")
        lines += [f"THE BUILD FAILED: {'; '.join(record['problem'])}"] if not record["ok"] else []
    checks = of(found, "check")
    for backend in dict.fromkeys(record["backend"] for record in checks):
        wrong = [r for r in checks if r["backend"] == backend and not r["ok"]]
        wrong += [r for r in of(found, "problem") if r["stage"] == "check" and r["case"].startswith(backend)]
        if wrong:
            lines.append(
                f"{backend} IS WRONG in {len(wrong)} cases of the check: its times below count for nothing yet"
            )
    for record in of(found, "end"):
        if record["status"] != "done":
            lines.append(f"stage {record['stage']}: {record['status']}")
    for record in [*of(found, "note"), *of(found, "problem")]:
        case = f"{record['case']}: " if "case" in record else ""
        lines.append(f"{record['stage']}: {case}{record['text']}")
    return "\n".join(lines[:60] + ([f"... and {len(lines) - 60} more, in results.json"] if len(lines) > 60 else []))


def stamp(found: Sequence[Record]) -> str:
    rows = [[name, value] for record in of(found, "stamp") for name, value in record["values"].items()]
    rows += [["clocks after", str(record["after"])] for record in of(found, "clocks")]
    return grid([], rows)


def build(found: Sequence[Record]) -> str:
    lines = []
    for record in of(found, "build"):
        extensions = ", ".join(record["extensions"]) or "none"
        lines.append(f"build: {record['seconds']} s for {record['arch'] or 'nothing'}; extensions: {extensions}")
        lines += [f"  {name}: {reason}" for name, (_, reason) in record["backends"].items()]
        lines += [f"  {line}" for line in record["said"]]
    return "\n".join(lines)


def check(found: Sequence[Record]) -> str:
    """A line for each backend, layer and type; and one for each case that failed."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in of(found, "check"):
        groups.setdefault((record["backend"], record["layer"], record["dtype"]), []).append(record)
    rows = []
    for key, records in groups.items():
        worst = max(records, key=lambda record: (record["max"] != record["max"], record["max"]))
        good = sum(record["ok"] for record in records)
        errors = [number(worst[name]) for name in ("max", "rms", "plain_max", "plain_rms")]
        rows.append([*key, f"{good}/{len(records)}", worst["tensor"], *errors])
    head = ["backend", "layer", "type", "right", "worst tensor", "max error", "rms", "plain PyTorch's max", "rms"]
    title = "Against float64 (errors relative to the tensor's largest entry; residual and ReLU, both modes and layouts)"
    wrong = [
        f"  WRONG: {r['backend']} {r['layer']} {shape(r['shape'])} {r['dtype']} {r['layout']}"
        f" {'training' if r['training'] else 'evaluation'}: {r['problem']}"
        for r in of(found, "check")
        if not r["ok"]
    ]
    return "\n".join([title, grid(head, rows), *wrong[:40]]) if rows else ""


def kernels(found: Sequence[Record]) -> str:
    """A line for each case and backend."""
    groups: dict[tuple[str, ...], dict[str, Record]] = {}
    copies: dict[tuple[str, ...], float] = {}
    for r in of(found, "kernel"):
        case = (shape(r["shape"]), f"{r['mib']:.0f}", r["dtype"], r["layout"], "residual" if r["residual"] else "")
        backend, _, kernel = r["name"].partition(" ")
        if kernel:
            groups.setdefault((*case, backend), {})[kernel] = r
        else:
            copies[case] = r["gb_per_s"]
    if not groups:
        return ""
    names = list(dict.fromkeys(name for kernels in groups.values() for name in kernels))
    head = ["shape", "MiB", "type", "layout", "", "copy GB/s", "backend", "forward µs", "backward µs", *names]
    rows = []
    for key, kernels in groups.items():
        times = [f"{kernels[name]['us']:.1f}" if name in kernels else "-" for name in ("forward", "backward")]
        shares = [f"{100 * kernels[name]['of_copy']:.1f}" if name in kernels else "-" for name in names]
        rows.append([*key[:-1], f"{copies[key[:-1]]:.0f}", key[-1], *times, *shares])
    title = "Streaming kernels: bandwidth by the floor's bytes, in % of the copy's in the same rounds"
    return "\n".join([title, grid(head, rows)])


def layers(found: Sequence[Record]) -> str:
    return _training(
        found, "layer", "Layers with residual and ReLU, forward + backward: µs, and × its time BatchNorm takes"
    )


def compiled(found: Sequence[Record]) -> str:
    return _training(
        found, "compiled", "Against torch.compile: µs, and × its time BatchNorm + add + ReLU takes (eager)"
    )


def _training(found: Sequence[Record], kind: str, title: str) -> str:
    records = of(found, kind)
    if not records:
        return ""
    names = list(dict.fromkeys(name for record in records for name in record["rows"] if name != "copy"))
    head = ["layer", "shape", "type", "layout", "floor µs"]
    for name in names:
        head += [name, "/floor"] + ([] if name.startswith("BatchNorm") else ["×BN"])
    rows = []
    for record in records:
        row = [record["layer"], shape(record["shape"]), record["dtype"], record["layout"], f"{record['floor_us']:.0f}"]
        for name in names:
            cells = record["rows"].get(name)
            own = ["-", "-", "-"]
            if cells is not None:
                own = [f"{cells['us']:.0f}", f"{cells['over_floor']:.2f}", f"{cells['batch_norm_over']:.2f}"]
            row += own[:2] if name.startswith("BatchNorm") else own
        rows.append(row)
    return "\n".join([title, grid(head, rows)])


def host(found: Sequence[Record]) -> str:
    records = of(found, "host")
    if not records:
        return ""
    names = list(dict.fromkeys(name for record in records for name in record["rows"]))
    rows = [
        [r["layer"], shape(r["shape"]), r["way"]]
        + [f"{r['rows'][name]['us']:.1f}" if name in r["rows"] else "-" for name in names]
        for r in records
    ]
    return "\n".join(["Tiny maps, where calls count: µs a call", grid(["layer", "shape", "way", *names], rows)])


def tests(found: Sequence[Record]) -> str:
    records = of(found, "tests")
    if not records:
        return ""
    last = records[-1]
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(last["counts"].items())) or "none run"
    lines = [f"tests/gpu: {counts}, {last['not_run']} not run"]
    lines += [f"  {note}" for note in last["notes"]]
    lines += [
        f"  FAILED {item['test']}: {item['text'].splitlines()[0] if item['text'] else ''}" for item in last["failed"]
    ]
    return "\n".join(lines)


def sanitizer(found: Sequence[Record]) -> str:
    lines = []
    for record in of(found, "sanitizer"):
        status = "no time to end" if record["exit_status"] is None else f"exit status {record['exit_status']}"
        summary = "; ".join(record["summary"]) or "no summary"
        lines.append(f"{record['tool']} of {record['backend']}: {status}, {record['seconds']} s: {summary}")
        lines += [f"    {line}" for line in record["tail"]]
    return "\n".join(lines)


def stages(found: Sequence[Record]) -> str:
    rows = [[r["stage"], r["status"], f"{r['seconds']:.0f} s"] for r in of(found, "end")]
    return grid(["stage", "how it ended", "took"], rows) if rows else ""


SECTIONS: list[Callable[[Sequence[Record]], str]] = [
    build,
    check,
    kernels,
    layers,
    compiled,
    host,
    tests,
    sanitizer,
    stages,
]
