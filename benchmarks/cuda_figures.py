"""The table of the PyTorch path on a GPU, from the reports below ``benchmarks/results/cuda``."""

from __future__ import annotations

from pathlib import Path

from movinet_edge.benchmarks.peer_figures import DASH, peer_reports
from movinet_edge.benchmarks.record import Report

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results"


def cuda_reports() -> dict[str, Report]:
    """The committed reports by file name."""
    return peer_reports(RESULTS / "cuda")


def host_steps(names: list[str]) -> dict[str, float]:
    """Our fastest step on the CPU in ms, one thread, of the reports of the same names."""
    found = peer_reports(RESULTS)
    return {
        name: min(m.step_ms.p50 for m in found[name].measurements if m.subject.kind == "bundle")
        for name in names
        if name in found
    }


def cuda_table(found: dict[str, Report]) -> str:
    """Markdown: a row per model and way, the exported step on a CPU beside it."""
    host = host_steps(list(found))
    lines = [
        "| model | PyTorch on the GPU | step ms p50 | p90 | first step ms | clips per second "
        "| exported step, CPU, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, report in found.items():
        ours = f"{host[name]:.2f}" if name in host else DASH
        for measured in report.measurements:
            clips = DASH if measured.clips is None else f"{measured.clips.clips_per_second:.0f}"
            lines.append(
                f"| {name} | {measured.subject.label.removeprefix('pytorch ')} | "
                f"{measured.step_ms.p50:.2f} | {measured.step_ms.p90:.2f} | "
                f"{measured.alone.first_step_ms:.0f} | {clips} | {ours} |"
            )
    first = next(iter(found.values()))
    clips_of = next(m.clips for m in first.measurements if m.clips is not None)
    machine = first.machine
    lines += [
        "",
        f"{machine.model} with {machine.cpu}, torch {first.tools['torch']}, {first.date[:10]}; "
        f"clips of {clips_of.frames} frames in batches of {clips_of.batch}. The exported step: "
        "LiteRT, float32, one thread, as in the README.",
    ]
    return "\n".join(lines)
