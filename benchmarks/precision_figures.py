"""Table and figure of the precisions, from the committed records."""

from __future__ import annotations

from pathlib import Path

from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.precision import ENGINES, RESULTS, Drift
from movinet_edge.benchmarks.record import Report
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.train.evaluate import EvalRecord

NAMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}


def accuracies() -> dict[tuple[str, str], EvalRecord]:
    """By engine and precision."""
    return {
        (engine, precision): EvalRecord.model_validate_json(
            (RESULTS / "accuracy" / f"{engine}-{precision}.json").read_text("utf-8")
        )
        for engine in ENGINES
        for precision in PRECISIONS
    }


def drifts() -> list[Drift]:
    """All records of long streams."""
    return [
        Drift.model_validate_json(path.read_text("utf-8"))
        for path in sorted((RESULTS / "drift").glob("[!.]*.json"))
    ]


def report(name: str) -> Report:
    return Report.model_validate_json((RESULTS / f"{name}.json").read_text("utf-8"))


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
    found = accuracies()
    times = {engine: ratios(report(f"a0-{engine}")) for engine in ENGINES}
    heads = " | ".join(f"{NAMES[e]}: top-1 | MB | step" for e in ENGINES)
    lines = [f"| precision | {heads} |", "|---|" + "---|---|---|" * len(ENGINES)]
    for precision in PRECISIONS:
        cells = []
        for engine in ENGINES:
            record, ratio = found[engine, precision], times[engine][precision]
            top1 = f"{100 * record.top1:.1f} %"
            cells.append(f"{top1} | {record.weights_bytes / 1e6:.2f} | {ratio[1]:.2f}")
        lines.append(f"| {precision} | {' | '.join(cells)} |")
    first = next(iter(found.values()))
    machine = report(f"a0-{ENGINES[0]}").machine
    lines += [
        "",
        f"Top-1 of `motion-a0-stream` on {first.videos} test videos, and the size of its files. "
        "Step: the median of A0's (172 px, 600 classes) against that of our fp32 file on the same "
        f"engine, one thread, interleaved, states included, on {machine.cpu}.",
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
    """Accuracy lost over the time of a step; the area of a mark is the file's size."""
    found = accuracies()
    with chart(path, (8, 3.8)) as axes:
        for engine, colour in zip(ENGINES, ("#2f6fde", "#d9822b"), strict=True):
            times = ratios(report(f"a0-{engine}"))
            base = found[engine, "fp32"]
            for precision in PRECISIONS:
                record = found[engine, precision]
                lost, ratio = 100 * (base.top1 - record.top1), times[precision][1]
                area = 600 * record.weights_bytes / base.weights_bytes
                label = NAMES[engine] if precision == "fp32" else None
                axes.scatter(ratio, lost, s=area, alpha=0.55, color=colour, label=label)
                axes.annotate(precision, (ratio, lost), (0, 0), textcoords="offset points")
        axes.invert_yaxis()
        axes.margins(0.15)
        axes.set_xlabel("step of A0 relative to fp32 on the same engine")
        axes.set_ylabel("points of top-1 lost")
        axes.set_title("Precisions: accuracy, time and (area) size", loc="left")
        axes.legend(frameon=False)
