"""The table of engines side by side, from the reports below ``benchmarks/results/peers``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from movinet_edge.benchmarks.output import cell, ratio_text
from movinet_edge.benchmarks.record import Report
from movinet_edge.benchmarks.roofline import roofline

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/peers"
DASH = "–"


def peer_reports() -> dict[str, Report]:
    """The committed reports by file name."""
    return {
        path.stem: Report.model_validate_json(path.read_text("utf-8"))
        for path in sorted(RESULTS.glob("*.json"))
    }


def peers_table(found: Mapping[str, Report]) -> str:
    """Markdown: a row per contestant; each report's ratios are to its own baseline."""
    lines = [
        "| model | engine | version | threads | step ms p50 | p90 | ratio (p10–p90) "
        "| of peak | × arithmetic | × bytes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    notes = []
    for name, report in found.items():
        compared = {c.label: c for c in report.comparisons}
        for measured in report.measurements:
            limits, subject = roofline(measured, report.machine), measured.subject
            cells = (
                subject.name,
                subject.engine_version,
                str(measured.method.threads),
                f"{measured.step_ms.p50:.2f}",
                f"{measured.step_ms.p90:.2f}",
                ratio_text(compared.get(subject.label)),
                cell(limits.peak_percent, "{:.0f} %", DASH),
                cell(limits.over_arithmetic, "{:.1f}", DASH),
                cell(limits.over_bytes, "{:.1f}", DASH),
            )
            lines.append(f"| {name} | {' | '.join(cells)} |")
        rounds = report.measurements[0].method.rounds or DASH
        baseline = report.comparisons[0].baseline
        notes.append(f"{name}: ratios to {baseline}, over {rounds} rounds, {report.date[:10]}.")
        notes += [f"{name}: {note}." for note in report.notes]
    machines = dict.fromkeys(report.machine.cpu for report in found.values())
    return "\n".join([*lines, "", f"On {', '.join(machines)}. {' '.join(notes)}"])
