"""The encoder of a localization bundle as a stream of its own."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.segments import SegmentStream


class SnippetAnswers:
    """An encoder of snippets as a stream of its own: its features [1, C] after each run."""

    def __init__(self, stream: SegmentStream, scored: bool = False):
        self.stream = _Alone(stream)
        self._encoder, self._count = stream.encoder, 0

    def reset(self) -> None:
        self._encoder.runner.begin()
        self._count = 0

    def step(self, frame: np.ndarray) -> np.ndarray:
        """Features [n, C] after one more frame; n is 0 while a snippet of a clip form fills."""
        encoder, held = self._encoder, len(self._encoder.frame)
        fill(encoder.frame[self._count % held], frame, encoder.contract)
        self._count += 1
        if self._count % held:
            return np.zeros((0, len(encoder.vector())), np.float32)
        encoder.runner.run()
        return encoder.vector()[None]

    def run(self, frames: Iterable[np.ndarray]) -> np.ndarray:
        """The features of the next frames, [n, C]."""
        return np.concatenate([self.step(frame) for frame in frames])


class _Alone:
    """What of a `SegmentStream` is its encoder's."""

    def __init__(self, stream: SegmentStream):
        self.bundle, runner = stream.bundle, stream.encoder.runner
        self.graphs = {runner.graph.name: runner}
