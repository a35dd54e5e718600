"""The clocks: steps of several contestants in turn."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from movinet_edge.benchmarks.contestant import Contestant, clips

WARMUP = 10
LEAD = 2
SETTLE_TRIES = 50
Say = Callable[[str], None]


@dataclass
class Timed:
    """A contestant, the frames it is fed, and its samples in ms, one per step.

    Of cold starts the steps are the first ones, and `load` is what came before each.
    """

    contestant: Contestant
    clips: list[list[np.ndarray]]
    warmup: int = 0
    late: int | None = None
    step: list[float] = field(default_factory=list)
    engine: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def per_frame(self) -> list[float]:
        """The step samples divided by the frames in a step, ms."""
        return [sample / self.contestant.frames_per_step for sample in self.step]

    @property
    def compared(self) -> list[float]:
        """What ratios are made of, ms: a step's time per frame, or a whole cold start."""
        if not self.load:
            return self.per_frame
        return [load + step for load, step in zip(self.load, self.step, strict=True)]

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


def interleaved(
    line_up: Sequence[Timed], steps: int, seed: int, say: Say, per_round: int = 1
) -> None:
    """Every contestant makes `per_round` steps a round, in an order shuffled anew each round.

    Turns of several steps begin with `LEAD` that are not timed: the caches are full of the others'
    weights then. `steps` are whole rounds.
    """
    order = list(line_up)
    shuffle = random.Random(seed).shuffle
    threaded = any(timed.contestant.entry.threads > 1 for timed in line_up)
    lead = LEAD if per_round > 1 else 0
    gc.collect()
    for first in range(0, steps, per_round):
        if first % (max(steps // 4 // per_round, 1) * per_round) == 0:
            say(f"step {first} of {steps}")
        shuffle(order)
        for timed in order:
            if threaded:
                settle()
            for number in range(lead):
                timed.contestant.step(timed.clips[number % len(timed.clips)])
            for number in range(first, first + per_round):
                timed.one(number)


def settle() -> None:
    """Wait until worker threads of the last step sleep: some spin for a while after it."""
    for _ in range(SETTLE_TRIES):
        cpu, start = time.process_time_ns(), time.perf_counter_ns()
        time.sleep(0.001)
        if time.process_time_ns() - cpu < 0.2 * (time.perf_counter_ns() - start):
            return
