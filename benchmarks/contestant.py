"""What can be timed, and how its engine's share of a step is told from the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from movinet_edge.benchmarks.record import Subject
from movinet_edge.benchmarks.wiring import Wiring
from movinet_edge.bundle import Preprocessing, Record, TensorSpec
from movinet_edge.runtime.engines import Buffer, Buffers, Engine
from movinet_edge.runtime.preprocess import resize


class Entry(Record):
    """How to start a contestant; travels as JSON to the process that measures it alone.

    `way` is a backend of the runtime, for a model file of somebody else's one of `peers.WAYS`, and
    for another engine on the bundle's weights one of `peer_engines.PEERS`, whose own files lie in
    the folder `made`. `label` is unique.
    """

    label: str
    name: str
    kind: Literal["bundle", "peer"]
    path: Path
    way: str
    precision: str = "fp32"
    threads: int = 1
    wiring: Wiring | None = None
    made: Path | None = None

    @property
    def same_weights(self) -> bool:
        """Whether this is another engine on the bundle's weights."""
        return self.kind == "peer" and self.wiring is None


class Contestant(Protocol):
    """A model ready to step.

    `step` takes the RGB frames of one step (uint8 [h, w, 3] of `frame_size`, as many as
    `frames_per_step`) to the answers in host memory, float [n].
    """

    entry: Entry
    clock: EngineClock
    frame_size: tuple[int, int]
    frames_per_step: int

    def step(self, clip: Iterable[np.ndarray]) -> np.ndarray | None: ...

    def reset(self) -> None: ...

    def describe(self) -> Subject: ...

    def close(self) -> None: ...


class EngineClock:
    """Adds up the time inside engines: `spent` in ns; `binds` counts buffer assignments."""

    def __init__(self) -> None:
        self.spent = 0
        self.binds = 0

    def timed(self, call: Callable[[], None]) -> Callable[[], None]:
        """The same call, its duration added to `spent`."""
        now = time.perf_counter_ns

        def run() -> None:
            start = now()
            call()
            self.spent += now() - start

        return run


class TimedEngine:
    """An engine whose bound calls are timed."""

    def __init__(self, engine: Engine, clock: EngineClock):
        self.inner = engine
        self.version = engine.version
        self._clock = clock

    def allocate(self, spec: TensorSpec) -> Buffer:
        return self.inner.allocate(spec)

    def bind(self, inputs: Buffers, outputs: Buffers) -> Callable[[], None]:
        self._clock.binds += 1
        return self._clock.timed(self.inner.bind(inputs, outputs))

    def close(self) -> None:
        self.inner.close()


def fit_frames(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Frames uint8 [T, H, W, 3] at another size, so that no contestant resizes while timed."""
    if frames.shape[1:3] == size:
        return frames
    contract = Preprocessing(height=size[0], width=size[1], frame_rate=1, fit="stretch")
    fitted = [np.rint(resize(frame, contract)).clip(0, 255) for frame in frames]
    return np.stack(fitted).astype(np.uint8)


def clips(frames: np.ndarray, length: int) -> list[list[np.ndarray]]:
    """Frames [T, ...] cut into the inputs of steps, `length` frames each, wrapping around."""
    count = max(len(frames) // length, 1)
    return [[frames[(i * length + j) % len(frames)] for j in range(length)] for i in range(count)]
