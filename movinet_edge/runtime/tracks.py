"""Segments that appear, are revised and become final while a window moves over a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from movinet_edge.localization.segments import overlap

SAME = 0.5  # tIoU from which on two segments of a label are one
Status = Literal["provisional", "final", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a stream: `start` and `end` in seconds, `score` in 0..1.

    `id` stays the same while it is revised. A ``provisional`` one may still change, a ``final`` one
    does not; a ``withdrawn`` one is not there any more.
    """

    id: int
    start: float
    end: float
    label: str
    index: int
    score: float
    status: Status = "provisional"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one window says: a segment in seconds, the number of its class, its score."""

    start: float
    end: float
    index: int
    score: float


class Tracker:
    """Gives segments their numbers, from 1 on, and says when they are final.

    It remembers those that may still change and the final ones that the window still sees, so its
    memory does not grow with the stream.
    """

    def __init__(self, labels: Sequence[str]):
        self.labels = labels
        self.reset()

    def reset(self) -> None:
        self._open: list[Segment] = []
        self._final: list[Segment] = []
        self._next = 1

    def see(self, seen: Sequence[Sighting], since: float, until: float) -> list[Segment]:
        """Take over what a window found; returns what is new, changed, final or withdrawn.

        Each sighting is the segment of its label that it shares most with, if that is half of
        both; best first. Segments that begin before `until` are final: no later window will see
        them begin. What was final already stays as it was, and is not told again.

        Args:
            seen: best first.
            since: where the window begins, in seconds.
            until: where the next one will.
        """
        changes: list[Segment] = []
        left, kept = list(self._open), list[Segment]()
        self._final = [segment for segment in self._final if segment.end > since]
        # Of what began earlier the window sees the rest.
        before = [replace(segment, start=max(segment.start, since)) for segment in self._final]
        for sighting in seen:
            known, shared = _best(left, sighting)
            if _best(before, sighting)[1] > shared:
                continue
            if known is None:
                segment = self._new(sighting)
            else:
                left.remove(known)
                segment = replace(
                    known, start=sighting.start, end=sighting.end, score=sighting.score
                )
            done = sighting.start < until
            if done:
                segment = replace(segment, status="final")
                self._final.append(segment)
            else:
                kept.append(segment)
            if segment != known:
                changes.append(segment)
        changes += [replace(segment, status="withdrawn") for segment in left]
        self._open = kept
        return changes

    def _new(self, sighting: Sighting) -> Segment:
        number, self._next = self._next, self._next + 1
        label = self.labels[sighting.index]
        return Segment(number, sighting.start, sighting.end, label, sighting.index, sighting.score)


def _best(segments: Sequence[Segment], sighting: Sighting) -> tuple[Segment | None, float]:
    """The segment that a sighting is of, and their tIoU; None and 0 if it is of none."""
    alike = [segment for segment in segments if segment.index == sighting.index]
    if not alike:
        return None, 0.0
    times = np.array([(segment.start, segment.end) for segment in alike], np.float64)
    shared = overlap(np.array([[sighting.start, sighting.end]], np.float64), times)[0]
    best = int(shared.argmax())
    return (alike[best], float(shared[best])) if shared[best] >= SAME else (None, 0.0)
