"""Figures of training and evaluation, drawn from committed records."""

from __future__ import annotations

from pathlib import Path

from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.motion import RESULTS as MOTION
from movinet_edge.benchmarks.training_memory import MemoryReport
from movinet_edge.train.evaluate import EvalRecord

MEGABYTE = 1e6
# What the comparison of protocols shows: record, its name in the figure.
SHOWN = {
    "stream": "stream, one pass",
    "base-multi-clip": "base, many clips",
    "base-clip": "base, one clip",
}


def motion_records() -> dict[str, EvalRecord]:
    """The committed evaluations on the motion videos, by name."""
    return {
        path.stem: EvalRecord.model_validate_json(path.read_text("utf-8"))
        for path in sorted(MOTION.glob("*.json"))
    }


# The README's table: record, what it is.
ROWS = {
    "stream": "stream, one pass",
    "litert": "the same, exported, LiteRT",
    "onnxruntime": "the same, exported, ONNX Runtime",
    "stream-shuffled": "stream, frames shuffled",
    "single-frame": "stream model, one frame",
    "base-multi-clip": "base model, many clips of 8 frames",
    "base-clip": "base model, one clip of 8 frames",
    "member-a": "the same run, last epoch (ensemble member A)",
    "member-b": "another seed, last epoch (ensemble member B)",
    "ensemble": "temporal ensemble of both, exported, LiteRT",
}


def motion_table(records: dict[str, EvalRecord]) -> str:
    """Markdown rows of the evaluations on the motion videos."""
    lines = ["| what | top-1 | MMAC per video | peak MB |", "|---|---|---|---|"]
    for name, text in ROWS.items():
        record = records[name]
        peak = record.peak_memory_bytes
        memory = "–" if peak is None else f"{peak / MEGABYTE:.1f}"
        work = record.macs_per_video / 1e6
        lines.append(f"| {text} | {100 * record.top1:.1f} % | {work:.0f} | {memory} |")
    first = next(iter(records.values()))
    chance = 100 / len(first.labels)
    lines += [
        "",
        f"{first.videos} videos of {len(first.labels)} classes (chance: {chance:.1f} %). Peak: "
        "inputs, activations and states of one video in PyTorch, beside the weights. Stream "
        "models see 2.5 frames per second, the base model 5, in clips of 8; the ensemble sees 5.",
    ]
    return "\n".join(lines)


def draw_memory(report: MemoryReport, path: Path) -> None:
    """Peak training memory over the clip's length."""
    with chart(path, (8, 3.6)) as axes:
        frames = [point.frames for point in report.points]
        for label, values in (
            ("the whole clip at once", [p.whole_clip for p in report.points]),
            ("sub-clips, gradients kept", [p.subclips_kept for p in report.points]),
            ("sub-clips, gradients stopped", [p.subclips_stopped for p in report.points]),
        ):
            axes.plot(frames, [value / MEGABYTE for value in values], marker="o", label=label)
        axes.set_xticks(frames)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"frames of a clip ({report.side} px, sub-clips of {report.subclip})")
        axes.set_ylabel("peak MB, one clip")
        axes.set_title("Training MoViNet-A0-Stream: memory against clip length", loc="left")
        axes.legend(frameon=False)


def draw_protocols(records: dict[str, EvalRecord], path: Path) -> None:
    """Top-1 over the work per video; the area of a mark is its peak memory."""
    with chart(path, (8, 3.8)) as axes:
        for name, text in SHOWN.items():
            record = records[name]
            peak = (record.peak_memory_bytes or 0) / MEGABYTE
            work = record.macs_per_video / 1e6
            axes.scatter(work, 100 * record.top1, s=40 + 25 * peak, alpha=0.7)
            text = f"{text}\n{100 * record.top1:.1f} %, {work:.0f} MMAC, {peak:.1f} MB"
            axes.annotate(text, (work, 100 * record.top1), (12, -16), textcoords="offset points")
        axes.set_xscale("log")
        axes.margins(0.25)
        axes.set_xlabel("million multiply-accumulates per video")
        axes.set_ylabel("top-1 in percent")
        axes.set_title("Motion test split: one pass against many clips", loc="left")
