"""At which times of a video a training clip has its frames: side by side, or all over the video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

# What is random is drawn in steps of this part of the room there is.
STEPS = 1 << 32
MIDDLE = STEPS // 2


class Sampling(Protocol):
    """Times are seconds from the video's beginning; `rate` is of frames per second."""

    def __init__(self, frames: int, rate: Fraction): ...

    def room(self, length: Fraction) -> Fraction:
        """How much there is to choose from in `length` seconds; in more it is not less."""

    def times(self, room: Fraction, chance: np.random.Generator) -> list[Fraction]:
        """When the frames of a random clip are on screen, in order.

        Of a video that is shorter than a clip the times are fewer, or behind its end.
        """


@dataclass(frozen=True)
class StreamSampling:
    """The frames at t, t + 1/rate, ...; t is uniform over where all of them lie in the video."""

    frames: int
    rate: Fraction

    def room(self, length: Fraction) -> Fraction:
        """The latest t."""
        return max(length - (self.frames - 1) / self.rate, Fraction(0))

    def times(self, room: Fraction, chance: np.random.Generator) -> list[Fraction]:
        start = room * Fraction(int(chance.integers(STEPS)), STEPS)
        return [start + number / self.rate for number in range(self.frames)]


@dataclass(frozen=True)
class UniformSampling:
    """One frame of each of `frames` equal parts of the video, anywhere in its part (AR-Net, TSN).

    Frames are those that are on screen at 0, 1/rate, 2/rate, ...: the ones that an evaluation by
    the protocol ``uniform`` has, which takes the middle of each part. The public code cuts parts
    of whole frames, so that it never sees the last ones; here the parts are all of the video.
    """

    frames: int
    rate: Fraction

    def room(self, length: Fraction) -> Fraction:
        """How many frames the video has at this rate, at least 1."""
        return Fraction(max(math.ceil(length * self.rate), 1))

    def times(self, room: Fraction, chance: np.random.Generator) -> list[Fraction]:
        places = chance.integers(STEPS, size=self.frames).tolist()
        return [number / self.rate for number in spread(int(room), places)]


SAMPLINGS: dict[str, type[Sampling]] = {"stream": StreamSampling, "uniform": UniformSampling}


def spread(length: int, places: Sequence[int]) -> list[int]:
    """Numbers of frames, one of each of as many equal parts of `length` frames as there are places.

    A place is where in its part a frame lies, from 0 to `STEPS`, which is excluded. Where there are
    fewer frames than parts, all of them.
    """
    parts = len(places)
    if length <= parts:
        return list(range(length))
    return [length * (part * STEPS + place) // (parts * STEPS) for part, place in enumerate(places)]
