"""Snippets all over a video, by timestamps: what an encoder sees of an untrimmed video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from movinet_edge.runtime.video import ZERO, BadVideo, Picture, exact_rate, on_screen

Times = list[list[Fraction]]
# Of its length and a second more, a file may be off what was annotated: copies are cut a little.
OFF = 0.1


class Pictured(Protocol):
    """What a `VideoFile` has to be."""

    @property
    def end(self) -> Fraction | None: ...

    @property
    def stated(self) -> Fraction | None: ...

    def pictures(self, start: Fraction = ZERO) -> Iterator[Picture]: ...


def snippet_times(seconds: Fraction, snippets: int, frames: int, rate: float) -> Times:
    """When the frames of each of so many snippets are on screen, [snippets][frames].

    Snippet i has its middle in the middle of the i-th of as many equal parts of the video, however
    long it is itself. What would be outside of the video is its first or last moment.
    """
    step, last = 1 / exact_rate(rate), max(seconds - Fraction(1, 1000), Fraction(0))
    middles = [seconds * (2 * i + 1) / (2 * snippets) for i in range(snippets)]
    offsets = [step * (2 * k - frames + 1) / 2 for k in range(frames)]
    return [[min(max(m + o, Fraction(0)), last) for o in offsets] for m in middles]


def read_snippets(
    file: Pictured, times: Times, take: Callable[[Any], np.ndarray]
) -> Iterator[tuple[int, np.ndarray]]:
    """Number and pictures [frames, ...] of each snippet, as soon as its last frame was decoded.

    `take` makes a picture of a decoded frame. A video that ends before its time is on its last
    frame from then on.

    Raises:
        BadVideo: unreadable, or without a picture.
    """
    due = sorted((time, i, k) for i, row in enumerate(times) for k, time in enumerate(row))
    pending: dict[int, list[np.ndarray]] = {}
    shown: Any = None
    image: np.ndarray | None = None
    last: Any = None

    def pictures() -> Iterator[Picture]:
        nonlocal last
        for picture in file.pictures(due[0][0]):
            last = picture.frame
            yield picture

    frames = (frame for _, frame in on_screen(pictures(), (time for time, _, _ in due)))
    for _, i, _ in due:
        frame = next(frames, None)
        frame = last if frame is None else frame
        if frame is not None and frame is not shown:
            shown, image = frame, take(frame)
        if image is None:
            raise BadVideo("has no readable picture; copy or convert it again")
        # Times of a snippet rise, so its pictures come in order.
        pending.setdefault(i, []).append(image)
        if len(pending[i]) == len(times[i]):
            images = pending.pop(i)
            if len({one.shape for one in images}) > 1:
                raise BadVideo("changes its aspect ratio; convert it to one size")
            yield i, np.stack(images)


def length_of(file: Pictured, annotated: float | None = None) -> Fraction:
    """A video's length in seconds: as annotated, or as the file claims or has it.

    Segments are shares of it, so snippets must be of the same.

    Raises:
        BadVideo: the file claims to be of quite another length than the annotated one.
    """
    if annotated is not None:
        stated = file.stated
        if stated is not None and abs(float(stated) - annotated) > 1 + OFF * annotated:
            raise BadVideo(
                f"is {float(stated):.1f} s long, not {annotated:g} s as annotated; correct the "
                "duration, or take the whole video"
            )
        return Fraction(annotated)
    if file.stated is not None:
        return file.stated
    while file.end is None:
        for _ in file.pictures():
            pass
    return file.end
