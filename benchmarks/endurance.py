"""Stepping on and on: for steps or for minutes, while temperature and power are watched."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.benchmarks.energy import PowerMeter
from movinet_edge.benchmarks.machine import SYS, temperature
from movinet_edge.benchmarks.record import Energy, Sustained
from movinet_edge.benchmarks.stats import sustained
from movinet_edge.benchmarks.timing import Timed

THERMAL_SECONDS = 10.0  # between two readings of the temperature


@dataclass(frozen=True)
class Pace:
    """`steps` of them, or for `minutes`; with a `rate` each when its frames are there (1/s)."""

    steps: int
    rate: float | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Watched:
    """What became of the device meanwhile."""

    sustained: Sustained | None
    energy: Energy | None


def go_on(timed: Timed, pace: Pace, system: Path = SYS) -> Watched:
    """Time steps; the samples are in `timed`. `system` is where sensors are read."""
    interval = timed.contestant.frames_per_step / pace.rate if pace.rate else None
    if interval is not None:
        timed.late = 0
    temperatures: list[tuple[float, float]] = []
    gc.collect()
    meter = PowerMeter(system)
    start = due = time.perf_counter()
    reading = 0.0
    while _more(timed, pace, time.perf_counter() - start):
        meter.look()
        elapsed = time.perf_counter() - start
        if pace.minutes is not None and elapsed >= reading:
            celsius = temperature(system / "class/thermal")
            temperatures += [] if celsius is None else [(elapsed, celsius)]
            reading += THERMAL_SECONDS
        if interval is None:
            timed.one(len(timed.step))
            continue
        time.sleep(max(due - time.perf_counter(), 0))
        late = timed.one(len(timed.step)) > interval * 1e3
        timed.late = (timed.late or 0) + late
        # A camera does not wait: after a late step the next frame is the newest one.
        due = time.perf_counter() if late else due + interval
    seconds = time.perf_counter() - start
    kept = sustained(timed.step, seconds, temperatures) if pace.minutes is not None else None
    return Watched(kept, meter.per_step(len(timed.step)))


def _more(timed: Timed, pace: Pace, elapsed: float) -> bool:
    if pace.minutes is None:
        return len(timed.step) < pace.steps
    return elapsed < 60 * pace.minutes or not timed.step
