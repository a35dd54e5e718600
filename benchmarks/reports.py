"""The end of every runner: samples become a measurement, measurements a report."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from movinet_edge.benchmarks.machine import tool_versions
from movinet_edge.benchmarks.record import (
    Alone,
    Comparison,
    Machine,
    Measurement,
    Method,
    Report,
    Subject,
)
from movinet_edge.benchmarks.stats import Samples, compare, distribution
from movinet_edge.benchmarks.timing import Timed


def measurement(
    subject: Subject,
    method: Mapping[str, Any],
    samples: tuple[Samples, Samples, Samples],
    alone: Alone,
    **more: Any,
) -> Measurement:
    """What steps took.

    Args:
        method: fields of `Method` but the number of steps.
        samples: ms of each whole step, of the engine's share of it, and of CPU time.
        more: other fields of `Measurement`.
    """
    step, engine, cpu = samples
    return Measurement(
        subject=subject,
        method=Method(steps=len(step), **method),
        step_ms=distribution(step),
        engine_ms=distribution(engine),
        overhead_ms=float(np.median(np.subtract(step, engine))),
        cpu_ms=float(np.median(cpu)),
        alone=alone,
        **more,
    )


def measured(timed: Timed, method: Mapping[str, Any], alone: Alone, **more: Any) -> Measurement:
    """As `measurement`, of a contestant; `method` lacks its threads and its warm-up, too."""
    return measurement(
        timed.contestant.describe(),
        {"threads": timed.contestant.entry.threads, "warmup": timed.warmup, **method},
        (timed.step, timed.engine, timed.cpu),
        alone,
        late_steps=timed.late,
        **more,
    )


def compared(
    line_up: Sequence[Timed], baseline: str, paired: bool, per_round: int = 1
) -> list[Comparison]:
    """Everybody against the contestant named `baseline` on as many threads; see `compare`."""
    bases = {
        timed.contestant.entry.threads: timed
        for timed in line_up
        if timed.contestant.entry.name == baseline
    }
    comparisons = []
    for timed in line_up:
        entry = timed.contestant.entry
        base = bases[entry.threads]
        samples = timed.compared, base.contestant.entry.label, base.compared
        comparisons.append(compare(entry.label, *samples, paired, per_round))
    return comparisons


def report(
    machine: Machine,
    measurements: Iterable[Measurement],
    comparisons: Iterable[Comparison] = (),
    notes: Iterable[str] = (),
    *,
    seed: int = 0,
    tools: dict[str, str] | None = None,
) -> Report:
    """The report of a run that ends now; `tools` are those here unless it ran elsewhere."""
    return Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        tools=tool_versions() if tools is None else tools,
        seed=seed,
        measurements=tuple(measurements),
        comparisons=tuple(comparisons),
        notes=tuple(notes),
    )
