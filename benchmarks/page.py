"""Benchmark reports, and accuracies beside them, as one HTML page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from movinet_edge.benchmarks.output import how, machine_line, partitions, ratio_text
from movinet_edge.benchmarks.page_devices import bar, device_by_device
from movinet_edge.benchmarks.record import Comparison, Machine, Measurement, Report, Sustained
from movinet_edge.benchmarks.roofline import roofline
from movinet_edge.errors import BadInput
from movinet_edge.files import write_text

HERE = Path(__file__).parent
TEMPLATE = "page.html.jinja"
COLUMNS = (
    *("p10", "p50", "p90", "p99", "CPU", "ratio (p10–p90)"),
    *("of peak", "× arithmetic", "× bytes", "parts", "MB", "late"),
    *("cold start", "mJ", "clips/s"),
)
DASH = "–"
# The plot's frame in the template: left, right, top, bottom.
FRAME = (50.0, 620.0, 30.0, 250.0)
LABEL_PLACES = (-9.0, 20.0, -25.0, 36.0)  # of a point's label, from its middle down


class Accuracy(BaseModel):
    """What the page takes from a record of ``evaluate --json``."""

    model: str
    engine: str
    top1: float
    multi_label: bool = False
    mean_average_precision: float | None = None

    @property
    def score(self) -> float:
        return self.mean_average_precision or 0.0 if self.multi_label else self.top1

    @property
    def key(self) -> tuple[str, str, str]:
        """The model, the backend and the precision that it was measured with."""
        precision = re.search(r"\((\S+)\)$", self.engine)
        return self.model, self.engine.split()[0], precision[1] if precision else "fp32"


@dataclass(frozen=True)
class Found:
    """What was read: reports with the names of their files, and accuracies."""

    reports: tuple[tuple[str, Report], ...]
    accuracies: tuple[Accuracy, ...]


def read_records(paths: Sequence[Path]) -> Found:
    """Sort files into reports of ``bench --json`` and records of ``evaluate --json``.

    Raises:
        BadInput: one is neither, or there is no report among them.
    """
    reports, accuracies = [], []
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror}); name another file") from None
        try:
            reports.append((path.stem, Report.model_validate_json(content)))
        except ValidationError:
            try:
                accuracies.append(Accuracy.model_validate_json(content))
            except ValidationError:
                raise BadInput(
                    f"{path} is neither of bench --json nor of evaluate --json; leave it out"
                ) from None
    if not reports:
        raise BadInput("there is no report of bench --json among these files; add one")
    return Found(tuple(reports), tuple(accuracies))


def write_page(found: Found, path: Path) -> None:
    """Write the page.

    Raises:
        BadInput: jinja2 is missing, or the place cannot be written.
    """
    try:
        import jinja2
    except ImportError:
        raise BadInput("--html needs jinja2; pip install 'movinet-edge[export]'") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([HERE, HERE.parent / "export"]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    measured = [m for _, report in found.reports for m in report.measurements]
    names = dict.fromkeys(m.subject.bundle for m in measured if m.subject.bundle)
    page = environment.get_template(TEMPLATE).render(
        names=list(names) or ["models"],
        devices=device_by_device(found.reports),
        sections=[_section(name, report) for name, report in found.reports],
        columns=COLUMNS,
        **_scatter(measured, found.accuracies),
    )
    write_text(path, page)


def _section(name: str, report: Report) -> dict[str, Any]:
    longest = max((m.latency_ms.p90 for m in report.measurements), default=1.0)
    compared = {c.label: c for c in report.comparisons}
    device = report.machine.device
    return {
        "title": name if device == "host" else f"{name} on {device}",
        "machine": machine_line(report.machine),
        "how": how(report),
        "date": report.date,
        "notes": report.notes,
        "rows": [
            _row(m, longest, compared.get(m.subject.label), report.machine)
            for m in report.measurements
        ],
    }


def _row(
    measured: Measurement, longest: float, compared: Comparison | None, machine: Machine
) -> dict[str, Any]:
    shown, alone, limits = measured.latency_ms, measured.alone, roofline(measured, machine)
    energy, clips = measured.energy, measured.clips
    return {
        "label": measured.subject.label,
        **bar(shown, longest),
        "sustained": _long_run(measured.sustained),
        "cells": [
            *(f"{value:.2f}" for value in (shown.p10, shown.p50, shown.p90, shown.p99)),
            f"{measured.cpu_ms:.2f}",
            ratio_text(compared),
            _cell(limits.peak_percent, "{:.0f} %"),
            _cell(limits.over_arithmetic, "{:.1f}"),
            _cell(limits.over_bytes, "{:.1f}"),
            partitions(measured),
            _cell(alone.peak_memory_mb, "{:.0f}"),
            _cell(measured.late_steps, "{}"),
            f"{alone.load_ms + alone.first_step_ms:.0f}",
            DASH if energy is None else f"{1e3 * energy.joules_per_step:.3g}",
            DASH if clips is None else f"{clips.clips_per_second:.1f}",
        ],
    }


def _cell(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)


def _long_run(sustained: Sustained | None) -> str | None:
    if sustained is None:
        return None
    degrees = [celsius for _, celsius in sustained.temperatures]
    heat = f", {degrees[0]:.0f} to {max(degrees):.0f} °C" if degrees else ""
    return (
        f"after {sustained.seconds:.0f} s steps took {sustained.throttled:.2f} times as long{heat}"
    )


def _scatter(measured: Sequence[Measurement], known: Sequence[Accuracy]) -> dict[str, Any]:
    """Points where an accuracy is known of what was timed, and what the axes span."""
    scores = {accuracy.key: accuracy for accuracy in known}
    pairs = []
    for one in measured:
        subject = one.subject
        if one.cold is not None:
            continue
        found = scores.get((subject.bundle or "", subject.backend, subject.precision or "fp32"))
        if found is not None:
            pairs.append((one, 100 * found.score, found))
    if not pairs:
        return {"points": [], "span": {}}
    latency = 1.1 * max(one.step_ms.p50 for one, _, _ in pairs)
    values = [score for _, score, _ in pairs]
    low, high = min(values) - 1.0, max(values) + 1.0
    left, right, top, bottom = FRAME
    points: list[dict[str, Any]] = []
    alone = len({found.model for _, _, found in pairs}) == 1
    # Neighbours have their labels at different heights: they may lie close together.
    for one, score, found in sorted(pairs, key=lambda pair: pair[0].step_ms.p50):
        x = left + (right - left) * one.step_ms.p50 / latency
        y = round(bottom - (bottom - top) * (score - low) / (high - low), 1)
        points.append(
            {
                "x": round(x, 1),
                "y": y,
                "label_y": LABEL_PLACES[len(points) % len(LABEL_PLACES)] + y,
                "anchor": "end" if x > (left + right) / 2 else "start",
                "label": one.subject.label if alone else f"{found.model}, {one.subject.label}",
                "accuracy": f"{score:.1f}",
                "p50": f"{one.step_ms.p50:.2f}",
            }
        )
    name = "mAP" if pairs[0][2].multi_label else "top-1"
    span = {"latency": f"{latency:.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}", "score": name}
    return {"points": points, "span": span}
