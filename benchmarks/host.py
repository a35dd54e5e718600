"""The benchmark on this machine's CPU: check, time, measure alone, report."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks import child
from movinet_edge.benchmarks.contestant import Contestant, Entry, fit_frames
from movinet_edge.benchmarks.entrants import Entrants
from movinet_edge.benchmarks.line_up import (
    bundle_entries,
    engine_entries,
    is_bundle,
    peer_entries,
    with_unique_labels,
)
from movinet_edge.benchmarks.machine import describe_machine
from movinet_edge.benchmarks.modes import ROUNDS, SEED, Mode, Ran, Schedule
from movinet_edge.benchmarks.record import Alone, Measurement, Report
from movinet_edge.benchmarks.reports import compared, measured, report
from movinet_edge.benchmarks.stats import cold_starts
from movinet_edge.benchmarks.timing import Say, Timed, prepare
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput

ALONE_STEPS = 32  # of each graph: enough for every buffer to have been used
# One thread that has a core to itself uses as much CPU time as passes.
BUSY = 1.15


@dataclass(frozen=True)
class Options:
    """What to measure; `mode`, `steps` and `minutes` are as in `Schedule`.

    `against`: model files of others, or bundles. `peers`: also every other engine installed here,
    on the bundle's weights.
    """

    backends: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    steps: int | None = None
    mode: Mode = "back-to-back"
    minutes: float | None = None
    against: Sequence[Path] = ()
    peers: bool = False


def bench(path: Path, options: Options, say: Say = lambda _: None) -> Report:
    """Measure a bundle on this machine.

    Raises:
        BadInput: an unusable bundle, peer, backend or option.
        CheckFailed: a backend computes wrong numbers.
    """
    say("loading")
    bundle = Bundle(path)
    opened = {path: bundle}
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames = golden["frames"]
    with tempfile.TemporaryDirectory(prefix="movinet-edge-") as made:
        field = _enter(bundle, options, opened, Path(made))
        schedule = _schedule(options, opened, bundle.manifest.preprocessing.frame_rate)
        entrants = Entrants(opened, frames, say)
        try:
            entrants.admit(field.entries)
            line_up = [_ready(c, frames, schedule) for c in entrants.contestants]
            ran = schedule.run(line_up, say)
            say("peaks of the machine")
            machine = describe_machine(child.measure_peaks())
            measurements = []
            for timed in line_up:
                say(f"{timed.contestant.entry.label} alone")
                measurements.append(_measurement(timed, schedule, ran))
        finally:
            entrants.close()
    turns = ran.per_round is not None, ran.per_round or 1
    notes = *field.notes, *entrants.notes, *busy_note(measurements)
    comparisons = compared(line_up, field.baseline, *turns)
    return report(machine, measurements, comparisons, notes, seed=SEED)


def busy_note(measurements: Sequence[Measurement]) -> list[str]:
    """A warning if single-threaded steps took much longer than the CPU time they used."""
    warm = [m for m in measurements if m.method.mode != "cold" and m.method.threads == 1]
    waits = [m.step_ms.p50 / m.cpu_ms for m in warm if m.cpu_ms]
    if max(waits, default=1) < BUSY:
        return []
    return [
        f"the machine was busy: steps took up to {max(waits):.1f} times their CPU time; "
        "measure again on an idle one, or compare the CPU times"
    ]


@dataclass(frozen=True)
class Field:
    """Who is to take part, against whom (an entry's name), and why others do not."""

    entries: list[Entry]
    baseline: str
    notes: list[str]


def _enter(bundle: Bundle, options: Options, opened: dict[Path, Bundle], made: Path) -> Field:
    """All entries; bundles compared against are opened, `made` is for what peers write."""
    threads = list(dict.fromkeys(options.threads))
    if min(threads, default=0) < 1:
        raise BadInput("threads are at least 1")
    entries, notes = bundle_entries(bundle, options.backends, threads), list[str]()
    own = len(entries)
    for path in dict.fromkeys(options.against):
        if is_bundle(path):
            other = opened.setdefault(path, Bundle(path))
            entries += bundle_entries(other, (), threads, f"{path.stem}: ")
        else:
            entries += peer_entries(path, threads)
    if options.peers:
        others, notes = engine_entries(bundle, threads, made, entries)
        entries += others
    entries = with_unique_labels(entries)
    return Field(entries, entries[own if options.against else 0].name, notes)


def _schedule(options: Options, opened: dict[Path, Bundle], frame_rate: float) -> Schedule:
    period = math.lcm(*(bundle.manifest.plan.period for bundle in opened.values()))
    rounds = ROUNDS if options.peers else 1
    schedule = Schedule(options.mode, options.steps, options.minutes, rounds, frame_rate, period)
    schedule.check()
    return schedule


def _ready(contestant: Contestant, frames: np.ndarray, schedule: Schedule) -> Timed:
    """Warmed up, where that is not what is measured."""
    if schedule.mode == "cold":
        return Timed(contestant, [])
    return prepare(contestant, fit_frames(frames, contestant.frame_size))


def _measurement(timed: Timed, schedule: Schedule, ran: Ran) -> Measurement:
    """The record of a timed contestant; measures it alone, in a process of its own."""
    entry = timed.contestant.entry
    alone = child.measure_alone(entry.model_dump_json(), ALONE_STEPS * schedule.period)
    watched = ran.watched.get(entry.label)
    method = {
        "mode": "back-to-back" if schedule.mode == "sustained" else schedule.mode,
        "frame_rate": schedule.paced_rate,
        "interleaved": ran.per_round is not None,
        "rounds": ran.per_round and len(timed.step) // ran.per_round,
    }
    return measured(
        timed,
        method,
        Alone(**alone),
        sustained=watched and watched.sustained,
        cold=cold_starts(timed.load, timed.step) if timed.load else None,
        energy=watched and watched.energy,
    )
