"""What a page says of devices beside each other: one model, whatever computed it, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from movinet_edge.benchmarks.record import Distribution, Machine, Measurement, Report

CUDA = "cuda"  # as `Machine` calls it
# Who computed, by the delegate that was asked for; all others are the processor's.
UNITS = {"nnapi": "NNAPI", "gpu": "GPU"}


def device_by_device(reports: Sequence[tuple[str, Report]]) -> list[dict[str, Any]]:
    """Models measured on several devices or by several units: ms per frame, the fastest first."""
    models: dict[str, list[tuple[Machine, Measurement]]] = {}
    for _, report in reports:
        for measured in report.measurements:
            if measured.subject.bundle is not None and measured.cold is None:
                own = models.setdefault(measured.subject.bundle, [])
                own.append((report.machine, measured))
    found = []
    for name, all_of in models.items():
        where = {(machine.device, _unit(machine, measured)) for machine, measured in all_of}
        if len(where) > 1:
            all_of.sort(key=lambda pair: _per_frame(pair[1]).p50)
            longest = max(_per_frame(measured).p90 for _, measured in all_of)
            rows = [
                {"label": _placed(*pair), **bar(_per_frame(pair[1]), longest)} for pair in all_of
            ]
            found.append({"model": name, "rows": rows})
    return found


def _per_frame(measured: Measurement) -> Distribution:
    frames = measured.subject.frames_per_step
    values = measured.step_ms.model_dump()
    return Distribution(**{name: value / frames for name, value in values.items()})


def _unit(machine: Machine, measured: Measurement) -> str:
    """What computed: CPU, NNAPI or GPU."""
    if machine.device == CUDA:
        return "GPU"
    delegates = {file.delegate for file in measured.subject.files}
    return next((UNITS[d] for d in sorted(filter(None, delegates)) if d in UNITS), "CPU")


def _placed(machine: Machine, measured: Measurement) -> str:
    place = f"{machine.device} ({machine.model or machine.cpu})"
    return f"{_unit(machine, measured)} of {place}: {measured.subject.label}"


def bar(step: Distribution, longest: float) -> dict[str, Any]:
    """Where a bar begins, how long it is and where its middle is, in percent."""
    share = 100 / (1.05 * longest)
    return {
        "left": round(step.p10 * share, 2),
        "width": round(max((step.p90 - step.p10) * share, 0.3), 2),
        "middle": round(step.p50 * share, 2),
        "p50": f"{step.p50:.2f}",
    }
