"""The table of engines side by side, from the reports below ``benchmarks/results/peers``.

Each is there twice, measured once more in ``peers/again``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from movinet_edge.benchmarks.output import baseline_name, cell, ratio_text
from movinet_edge.benchmarks.record import Report, Subject
from movinet_edge.benchmarks.roofline import roofline

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/peers"
AGAIN = RESULTS / "again"
APART = RESULTS / "two-threads"  # for engines with one number of threads per process
DASH = "–"


def peer_reports(folder: Path = RESULTS) -> dict[str, Report]:
    """The committed reports by file name."""
    return {
        path.stem: Report.model_validate_json(path.read_text("utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def differences(first: Report, second: Report) -> dict[str, float]:
    """By how much the ratios of two runs differ, as shares of the first one's, by label."""
    before, after = (
        {c.label: c.ratio_of_medians if c.paired is None else c.paired.p50 for c in r.comparisons}
        for r in (first, second)
    )
    return {label: abs(after[label] / before[label] - 1) for label in before if label in after}


def agreement(found: Mapping[str, Report], again: Mapping[str, Report]) -> str:
    """In words, how well ratios were found again; empty where nothing was measured twice."""
    shares = {
        f"{name}: {label}": share
        for name in found
        if name in again
        for label, share in differences(found[name], again[name]).items()
    }
    if not shares:
        return ""
    worst = max(shares, key=lambda label: shares[label])
    within = sum(share <= 0.1 for share in shares.values())
    return (
        f"Measured twice: {within} of {len(shares)} ratios within 10 %, the largest difference "
        f"{shares[worst]:.0%} ({worst})."
    )


def peers_table(found: Mapping[str, Report], apart: Mapping[str, Report] = {}) -> str:
    """Markdown: a row per engine and thread count, a column per report.

    `apart` are runs of their own, for rows that `found` lacks.
    """
    rows: dict[tuple[str, int], dict[str, str]] = {}
    for name, report in (*found.items(), *apart.items()):
        compared = {c.label: c for c in report.comparisons}
        for measured in report.measurements:
            peak = roofline(measured, report.machine).peak_percent
            row = rows.setdefault((_engine(measured.subject), measured.method.threads), {})
            ratio = ratio_text(compared.get(measured.subject.label))
            shown = f"{measured.step_ms.p50:.2f} · {ratio} · {cell(peak, '{:.0f} %', DASH)}"
            row.setdefault(name, shown)
    notes = []
    for name, report in found.items():
        rounds = report.measurements[0].method.rounds or DASH
        notes.append(
            f"{name}: ratios to {baseline_name(report)} on as many threads, over {rounds} rounds, "
            f"{report.date[:10]}."
        )
    notes += [f"{note}." for note in dict.fromkeys(n for r in found.values() for n in r.notes)]
    lines = [f"| engine | threads | {' | '.join(found)} |", f"|---|---|{'---|' * len(found)}"]
    lines += [
        f"| {engine} | {threads} | {' | '.join(row.get(name, DASH) for name in found)} |"
        for (engine, threads), row in rows.items()
    ]
    machines = dict.fromkeys(report.machine.cpu for report in found.values())
    how = "ms of a step (p50) · ratio (p10–p90) · of the matrix peak."
    return "\n".join([*lines, "", f"{how} On {', '.join(machines)}. {' '.join(notes)}"])


def _engine(subject: Subject) -> str:
    """An engine and its version; files that were compared against go by how they were run."""
    if subject.kind == "bundle" or subject.bundle is not None:
        return f"{subject.name} ({subject.engine_version})"
    way = subject.name.partition("(")[2].rstrip(")") or subject.name
    return f"official export, {way} ({subject.engine_version})"
