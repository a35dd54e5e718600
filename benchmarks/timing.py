"""The clocks: steps of several contestants in turn, or of one at the camera's rate."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from movinet_edge.benchmarks.contestant import Contestant, clips

WARMUP = 10
SETTLE_TRIES = 50
Say = Callable[[str], None]


@dataclass
class Timed:
    """A contestant, the frames it is fed, and its samples in ms, one per step."""

    contestant: Contestant
    clips: list[list[np.ndarray]]
    warmup: int = 0
    late: int | None = None
    step: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def per_frame(self) -> list[float]:
        """The step samples divided by the frames in a step, ms."""
        return [sample / self.contestant.frames_per_step for sample in self.step]

    def one(self, number: int) -> float:
        """Time step `number`; returns its duration in ms."""
        contestant = self.contestant
        clip = self.clips[number % len(self.clips)]
        contestant.clock.spent = 0
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        contestant.step(clip)
        spent = time.perf_counter_ns() - start
        self.cpu.append((time.process_time_ns() - cpu) / 1e6)
        self.step.append(spent / 1e6)
        self.engine.append(contestant.clock.spent / 1e6)
        return self.step[-1]


def prepare(contestant: Contestant, frames: np.ndarray) -> Timed:
    """Warm up on frames uint8 [T, h, w, 3] of the contestant's size.

    At least `WARMUP` steps, and on until as many passed without a new assignment of buffers: a
    stream binds each assignment when it first comes up.
    """
    timed = Timed(contestant, clips(frames, contestant.frames_per_step))
    contestant.reset()
    calm = 0
    while calm < WARMUP:
        binds = contestant.clock.binds
        contestant.step(timed.clips[timed.warmup % len(timed.clips)])
        calm = calm + 1 if contestant.clock.binds == binds else 0
        timed.warmup += 1
    return timed


def interleaved(line_up: Sequence[Timed], steps: int, seed: int, say: Say) -> None:
    """Every contestant makes one step per round, in an order shuffled anew each round."""
    order = list(line_up)
    shuffle = random.Random(seed).shuffle
    threaded = any(timed.contestant.entry.threads > 1 for timed in line_up)
    gc.collect()
    for number in range(steps):
        if number % max(steps // 4, 1) == 0:
            say(f"step {number} of {steps}")
        shuffle(order)
        for timed in order:
            if threaded:
                settle()
            timed.one(number)


def paced(timed: Timed, steps: int, frame_rate: float) -> None:
    """One step when its frames (`frame_rate` per second) are there, sleeping in between."""
    interval = timed.contestant.frames_per_step / frame_rate
    timed.late = 0
    gc.collect()
    due = time.perf_counter()
    for number in range(steps):
        time.sleep(max(due - time.perf_counter(), 0))
        late = timed.one(number) > interval * 1e3
        timed.late += late
        # A camera does not wait: after a late step the next frame is the newest one.
        due = time.perf_counter() if late else due + interval


def settle() -> None:
    """Wait until worker threads of the last step sleep: some spin for a while after it."""
    for _ in range(SETTLE_TRIES):
        cpu, start = time.process_time_ns(), time.perf_counter_ns()
        time.sleep(0.001)
        if time.process_time_ns() - cpu < 0.2 * (time.perf_counter_ns() - start):
            return
