"""Table and figure of the precisions, from the committed records."""

from __future__ import annotations

from pathlib import Path

from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.precision import ENGINES, RESULTS, TIMES, Drift, processor
from movinet_edge.benchmarks.record import Report
from movinet_edge.bundle import Precision
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.train.evaluate import EvalRecord

NAMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}
# A row of the table: the folder of its accuracy, the prefix of its times, the precision.
ROWS: dict[str, tuple[str, str, Precision]] = {
    **{precision: ("accuracy", "a0", precision) for precision in PRECISIONS},
    "fp32 after --qat": ("qat", "qat", "fp32"),
    "int8 after --qat": ("qat", "qat", "int8"),
}
COLOURS = {"litert": "#2f6fde", "onnxruntime": "#d9822b"}
MARKS = "osD^"  # a processor each


def accuracy(row: str, engine: str) -> EvalRecord:
    """What a row of the table answered on an engine."""
    folder, _, precision = ROWS[row]
    path = RESULTS / folder / f"{engine}-{precision}.json"
    return EvalRecord.model_validate_json(path.read_text("utf-8"))


def drifts() -> list[Drift]:
    """All records of long streams."""
    return [
        Drift.model_validate_json(path.read_text("utf-8"))
        for path in sorted((RESULTS / "drift").glob("[!.]*.json"))
    ]


def machines() -> dict[str, Path]:
    """The folders of times by the processor's name."""
    found = {}
    for folder in sorted(path for path in TIMES.iterdir() if path.is_dir()):
        found[processor(report(folder, "a0-litert").machine.cpu)] = folder
    return found


def report(folder: Path, name: str) -> Report:
    return Report.model_validate_json((folder / f"{name}.json").read_text("utf-8"))


def ratio(row: str, engine: str, folder: Path) -> float | None:
    """The median step of a row over that of its floats; None where it was not timed."""
    _, name, precision = ROWS[row]
    if not (folder / f"{name}-{engine}.json").exists():
        return None
    return ratios(report(folder, f"{name}-{engine}"))[precision][1]


def ratios(found: Report) -> dict[str, tuple[float, float, float]]:
    """p10, median and p90 of each precision's step to that of our floats, pair by pair."""
    steps = {m.subject.precision: m for m in found.measurements if m.subject.kind == "bundle"}
    compared = {c.label: c for c in found.comparisons}
    base = compared.get(steps["fp32"].subject.label)
    scale = base.paired.p50 if base and base.paired else 1.0
    result = {}
    for precision, measured in steps.items():
        one = compared.get(measured.subject.label)
        paired = one.paired if one else None
        spread = (paired.p10, paired.p50, paired.p90) if paired else (1.0, 1.0, 1.0)
        if precision is not None:
            result[precision] = (spread[0] / scale, spread[1] / scale, spread[2] / scale)
    return result


def precision_table() -> str:
    """Markdown rows: a precision each."""
    found = machines()
    steps = " | ".join(f"step, {name}" for name in found)
    heads = " | ".join(f"{NAMES[e]}: top-1 | MB | {steps}" for e in ENGINES)
    columns = "---|" * (1 + len(ENGINES) * (2 + len(found)))
    lines = [f"| precision | {heads} |", f"|{columns}"]
    for row in ROWS:
        cells = [row]
        for engine in ENGINES:
            record = accuracy(row, engine)
            cells += [f"{100 * record.top1:.1f} %", f"{record.weights_bytes / 1e6:.2f}"]
            times = (ratio(row, engine, folder) for folder in found.values())
            cells += ["–" if time is None else f"{time:.2f}" for time in times]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Top-1 of `motion-a0-stream` on {accuracy('fp32', ENGINES[0]).videos} test videos, and "
        "the size of its files. Step: the median of A0's (172 px, 600 classes) against that of our "
        "fp32 file on the same engine, one thread, interleaved, states included.",
    ]
    return "\n".join(lines)


def drift_table() -> str:
    """Markdown rows: a long stream each."""
    lines = [
        "| weights, videos | engine | precision | cosine, mean | least | error, first quarter | "
        "last quarter |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {d.model}, {d.videos} | {NAMES[d.engine]} | {d.precision} | {d.mean_cosine:.4f} | "
        f"{d.min_cosine:.4f} | {d.first_error:.3f} | {d.last_error:.3f} |"
        for d in drifts()
    ]
    return "\n".join(lines)


def draw_precisions(path: Path) -> None:
    """A row for each precision: times as marks, whose area is the file's size; accuracy beside."""
    rows = [row for row in ROWS if row != "fp32 after --qat"]
    with chart(path, (8, 3.8)) as axes:
        for mark, (cpu, folder) in zip(MARKS, machines().items(), strict=False):
            for engine in ENGINES:
                full = accuracy("fp32", engine).weights_bytes
                timed = [(y, ratio(row, engine, folder)) for y, row in enumerate(rows)]
                found = [(time, y) for y, time in timed if time is not None]
                axes.scatter(
                    *zip(*found, strict=True),
                    s=[300 * accuracy(rows[y], engine).weights_bytes / full for _, y in found],
                    color=COLOURS[engine],
                    marker=mark,
                    alpha=0.6,
                    label=f"{NAMES[engine]}, {cpu}",
                )
        axes.set_yticks(range(len(rows)), [f"{row}\n{_lost(row)}" for row in rows])
        axes.invert_yaxis()
        axes.margins(y=0.12)
        axes.set_xlabel("step of A0 relative to fp32 on the same engine and processor")
        axes.set_title("Precisions: time, (area) size and accuracy", loc="left")
        axes.grid(axis="x", alpha=0.3)
        legend = axes.legend(frameon=False, bbox_to_anchor=(1, 1))
        for handle in legend.legend_handles:
            handle.set_sizes([40])


def _lost(row: str) -> str:
    """What a precision loses against floats, on the engine where it loses more."""
    if row == "fp32":
        return f"top-1 {100 * accuracy(row, ENGINES[0]).top1:.1f} %"
    lost = max(accuracy("fp32", e).top1 - accuracy(row, e).top1 for e in ENGINES)
    return f"{abs(100 * lost):.1f} points less"
