"""The benchmark on this machine's CPU: check, time, measure alone, report."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks import child
from movinet_edge.benchmarks.bundled import BundleContestant, check_parity
from movinet_edge.benchmarks.contestant import Contestant, Entry, fit_frames
from movinet_edge.benchmarks.line_up import (
    REFERENCE,
    bundle_entries,
    is_bundle,
    peer_entries,
    start,
    with_unique_labels,
)
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Alone, Measurement, Method, Report
from movinet_edge.benchmarks.stats import compare, distribution, peak_percent
from movinet_edge.benchmarks.timing import Say, Timed, interleaved, paced, prepare
from movinet_edge.bundle import Bundle
from movinet_edge.errors import BadInput
from movinet_edge.runtime.quiet import quiet

STEPS = 200
PACED_SECONDS, PACED_STEPS = 5, 20
ALONE_STEPS = 32  # of each graph: enough for every buffer to have been used
SEED = 0
# Two ways to run one file round alike, up to the order of additions.
AGREEMENT = 1e-2
AGREEMENT_STEPS = 8
# One thread that has a core to itself uses as much CPU time as passes.
BUSY = 1.15


@dataclass(frozen=True)
class Options:
    """What to measure. `steps` None: `STEPS`, or `PACED_SECONDS` worth if `paced`."""

    backends: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    steps: int | None = None
    paced: bool = False
    against: Sequence[Path] = ()


def bench(path: Path, options: Options, say: Say = lambda _: None) -> Report:
    """Measure a bundle on this machine.

    Raises:
        BadInput: an unusable bundle, peer, backend or option.
        CheckFailed: a backend computes wrong numbers.
    """
    say("loading")
    bundle = Bundle(path)
    opened = {path: bundle}
    entries, baseline = _enter(bundle, options, opened)
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames = golden["frames"]
    contestants, notes = _start_all(entries, opened, frames, say)
    try:
        line_up = [prepare(c, fit_frames(frames, c.frame_size)) for c in contestants]
        period = math.lcm(*(b.manifest.plan.period for b in opened.values()))
        _time_all(line_up, options, bundle.manifest.preprocessing.frame_rate, period, say)
        peak = child.measure_sgemm()
        measurements = []
        for timed in line_up:
            say(f"{timed.contestant.entry.label} alone")
            measurements.append(_measurement(timed, options, bundle, period, peak))
    finally:
        for contestant in contestants:
            contestant.close()
    notes += busy_note(measurements)
    samples = {timed.contestant.entry.label: timed.per_frame for timed in line_up}
    return Report(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=describe_machine(peak),
        tools=tool_versions(),
        seed=SEED,
        measurements=tuple(measurements),
        comparisons=tuple(
            compare(label, values, baseline, samples[baseline], paired=not options.paced)
            for label, values in samples.items()
        ),
        notes=tuple(notes),
    )


def busy_note(measurements: Sequence[Measurement]) -> list[str]:
    """A warning if single-threaded steps took much longer than the CPU time they used."""
    waits = [m.step_ms.p50 / m.cpu_ms for m in measurements if m.method.threads == 1 and m.cpu_ms]
    if max(waits, default=1) < BUSY:
        return []
    return [
        f"the machine was busy: steps took up to {max(waits):.1f} times their CPU time; "
        "measure again on an idle one, or compare the CPU times"
    ]


def _enter(bundle: Bundle, options: Options, opened: dict[Path, Bundle]) -> tuple[list[Entry], str]:
    """All entries, and the label of the baseline; bundles compared against are opened."""
    threads = list(dict.fromkeys(options.threads))
    if min(threads, default=0) < 1 or (options.steps is not None and options.steps < 1):
        raise BadInput("threads and steps are at least 1")
    entries = bundle_entries(bundle, options.backends, threads)
    own = len(entries)
    if len(threads) > 1 and any(entry.way == REFERENCE for entry in entries):
        raise BadInput("torch has one thread count per process; give one --threads with it")
    for path in dict.fromkeys(options.against):
        if is_bundle(path):
            other = opened.setdefault(path, Bundle(path))
            entries += bundle_entries(other, (), threads, f"{path.stem}: ")
        else:
            entries += peer_entries(path, threads)
    entries = with_unique_labels(entries)
    return entries, entries[own if options.against else 0].label


def _start_all(
    entries: Sequence[Entry], opened: dict[Path, Bundle], frames: np.ndarray, say: Say
) -> tuple[list[Contestant], list[str]]:
    """Load and check everyone; notes say which second way of a peer was left out, and why."""
    contestants: list[Contestant] = []
    answers: dict[tuple[Path, int], np.ndarray] = {}
    notes = []
    for entry in entries:
        say(f"checking {entry.label}")
        first_way = answers.get((entry.path, entry.threads))
        try:
            with quiet():
                contestant = start(entry, opened.get(entry.path))
        except BadInput as error:
            # A peer's file is fit if the first way runs it; that is the way its users know.
            if first_way is None:
                raise
            notes.append(f"{entry.label} was left out: {error}")
            continue
        if isinstance(contestant, BundleContestant):
            check_parity(contestant)
        else:
            found = _answers(contestant, frames)
            if first_way is not None and not _agree(found, first_way):
                notes.append(f"{entry.label} was left out: its answers differ from the first way's")
                contestant.close()
                continue
            answers.setdefault((entry.path, entry.threads), found)
        contestants.append(contestant)
    return contestants, notes


def _answers(contestant: Contestant, frames: np.ndarray) -> np.ndarray:
    """The answers of a peer to the first frames, float [steps, n]."""
    contestant.reset()
    fitted = fit_frames(frames[:AGREEMENT_STEPS], contestant.frame_size)
    answers = [contestant.step([frame]) for frame in fitted]
    return np.stack([a for a in answers if a is not None]).astype(np.float64)


def _agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    error = np.abs(ours - theirs).max()
    return bool(error <= AGREEMENT * max(float(theirs.std()), 1e-6))  # NaN does not agree


def _steps(options: Options, frames_per_step: int, frame_rate: float, period: int) -> int:
    """How many steps to time: whole periods of the plan, so that each graph has its share."""
    steps = options.steps or STEPS
    if options.paced and options.steps is None:
        steps = max(PACED_STEPS, math.ceil(PACED_SECONDS * frame_rate / frames_per_step))
    return math.ceil(steps / period) * period


def _time_all(
    line_up: Sequence[Timed], options: Options, frame_rate: float, period: int, say: Say
) -> None:
    if not options.paced:
        interleaved(line_up, _steps(options, 1, frame_rate, period), SEED, say)
        return
    for timed in line_up:
        steps = _steps(options, timed.contestant.frames_per_step, frame_rate, period)
        seconds = steps * timed.contestant.frames_per_step / frame_rate
        say(f"{timed.contestant.entry.label}: {steps} steps in {seconds:.0f} s")
        paced(timed, steps, frame_rate)


def _measurement(
    timed: Timed, options: Options, bundle: Bundle, period: int, peak: float
) -> Measurement:
    """The record of a timed contestant; measures it alone, in a process of its own."""
    entry = timed.contestant.entry
    subject = timed.contestant.describe()
    step = distribution(timed.step)
    rate = bundle.manifest.preprocessing.frame_rate
    return Measurement(
        subject=subject,
        method=Method(
            threads=entry.threads,
            warmup=timed.warmup,
            steps=len(timed.step),
            mode="paced" if options.paced else "back-to-back",
            frame_rate=rate if options.paced else None,
            interleaved=not options.paced,
        ),
        step_ms=step,
        engine_ms=distribution(timed.engine),
        overhead_ms=float(np.median(np.subtract(timed.step, timed.engine))),
        cpu_ms=float(np.median(timed.cpu)),
        peak_percent=peak_percent(subject.macs_per_step, step.p50, peak),
        late_steps=timed.late,
        alone=Alone(**child.measure_alone(entry.model_dump_json(), ALONE_STEPS * period)),
    )
