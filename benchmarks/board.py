"""The step runner in Python: movinet-edge's own runtime, where a device has Python.

It runs on the device, with numpy, pydantic and one engine; `PythonJob` sends it there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.bundled import BundleContestant, fresh
from movinet_edge.benchmarks.contestant import Entry, fit_frames
from movinet_edge.benchmarks.endurance import Pace, go_on
from movinet_edge.benchmarks.machine import memory_mb, tool_versions
from movinet_edge.benchmarks.native_record import NativeAnswer
from movinet_edge.benchmarks.record import Alone, Measurement
from movinet_edge.benchmarks.reports import measured
from movinet_edge.benchmarks.timing import prepare
from movinet_edge.bundle import Record
from movinet_edge.errors import BadInput
from movinet_edge.runtime.stream import Prediction

MODULE = "movinet_edge.benchmarks.board"
PLACE = "python"  # what its measurements are called, before the backend


class BoardOptions(Record):
    """What to run; `bundle` and `result` are paths on the device, in the present folder."""

    bundle: str
    result: str
    backend: str
    precision: str
    threads: int
    steps: int
    rate: float | None = None
    minutes: float | None = None


class BoardRun(Record):
    """One run: its answers to the golden stream, and what was measured behind them."""

    measurement: Measurement
    answers: tuple[NativeAnswer, ...]
    tools: dict[str, str]


def measure(options: BoardOptions) -> BoardRun:
    """Replay the golden stream, then step and time.

    Raises:
        BadInput: the bundle is damaged, or its engine does not load it.
    """
    name = f"{PLACE} {options.backend}"
    if options.precision != "fp32":
        name += f" {options.precision}"
    entry = Entry(
        label=name,
        name=name,
        kind="bundle",
        path=Path(options.bundle),
        way=options.backend,
        precision=options.precision,
        threads=options.threads,
    )
    base = memory_mb("VmRSS")
    start = time.perf_counter()
    contestant = BundleContestant(entry)
    load_ms = (time.perf_counter() - start) * 1e3
    bundle = contestant.stream.bundle
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        frames = golden["frames"]
    found, first_step_ms = _replay(contestant, frames)
    timed = prepare(contestant, fit_frames(frames, contestant.frame_size))
    watched = go_on(timed, Pace(options.steps, options.rate, options.minutes))
    alone = Alone(
        load_ms=load_ms,
        first_step_ms=first_step_ms,
        base_memory_mb=base,
        peak_memory_mb=memory_mb("VmHWM"),
    )
    method = {
        "mode": "back-to-back" if options.rate is None else "paced",
        "frame_rate": options.rate,
        "interleaved": False,
    }
    endured = {"sustained": watched.sustained, "energy": watched.energy}
    return BoardRun(
        measurement=measured(timed, method, alone, **endured),
        answers=tuple(_answer(prediction) for prediction in found),
        tools=tool_versions(),
    )


def _replay(contestant: BundleContestant, frames: np.ndarray) -> tuple[list[Prediction], float]:
    """The answers to frames uint8 [T, H, W, 3], and how long the first step took in ms."""
    stream, length = contestant.stream, contestant.frames_per_step
    start = time.perf_counter()
    found = list(stream.run(frames[:length]))
    first_step_ms = (time.perf_counter() - start) * 1e3
    found += stream.run(frames[length:])
    final = stream.finish()
    stream.reset()
    if not fresh(found, length) and final is not None:
        # The golden stream was shorter than a clip: as if the clip had ended there.
        found = [Prediction(length - 1, final.logits, final.labels, final.multi_label)]
    return found, first_step_ms


def _answer(prediction: Prediction) -> NativeAnswer:
    finite = (float(v) if np.isfinite(v) else None for v in prediction.logits)
    return NativeAnswer(frame=prediction.frame, logits=tuple(finite))


def main(words: list[str]) -> None:
    """Write a run's record, or one line on stderr and exit with 2."""
    options = BoardOptions.model_validate_json(words[0])
    try:
        run = measure(options)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    Path(options.result).write_text(run.model_dump_json(), encoding="utf-8")
