"""Frames of videos and cameras at a bundle's frame rate, by their exact timestamps (PyAV)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, Self

import av
import av.error
import numpy as np
from av.stream import Disposition

from movinet_edge.errors import BadInput

CAMERA = "camera:"
# FFmpeg would draw text files as pictures.
TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")
COVER = Disposition.attached_pic
ZERO = Fraction(0)
# Newer PyAV starts a thread per core for every picture, which takes longer than to convert it,
# and which a process that is forked off would wait for in vain.
ALONE = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
# Formats that have a time for every picture; elsewhere some are guessed from those before.
INDEXED = {"mp4", "matroska"}
# What is sooner than this, in seconds, is decoded faster than sought.
NEAR = Fraction(1)


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """`image` is uint8 RGB [H, W, 3], upright; `time` is seconds from the first frame."""

    time: float
    image: np.ndarray


class BadVideo(BadInput):
    """A video file that cannot be read."""


def read_frames(source: str | Path, frame_rate: float) -> Iterator[VideoFrame]:
    """The frames on screen at times 0, 1/rate, 2/rate, ... of a video, until it ends.

    Works on timestamps, so variable frame rates, rates below and above the file's, and phone
    videos that are stored rotated come out right.

    Raises:
        BadVideo: missing, unreadable, without pictures, or cut off before its end.
    """
    with VideoFile(source) as file:
        for time, frame in on_screen(file.pictures(), ticks(frame_rate)):
            yield VideoFrame(float(time), upright(frame))


class Picture(NamedTuple):
    """A decoded `frame`, on screen from `time` on for `lasts`, in seconds of the video."""

    time: Fraction
    lasts: Fraction
    frame: Any


def exact_rate(frame_rate: float) -> Fraction:
    """Frames per second as films have them: 29.97 is 30000/1001."""
    return Fraction(frame_rate).limit_denominator(1001)


def ticks(frame_rate: float, start: Fraction = ZERO) -> Iterator[Fraction]:
    """start, start + 1/rate, start + 2/rate, ... without end."""
    rate = exact_rate(frame_rate)
    return (start + number / rate for number in count())


def on_screen(
    pictures: Iterable[Picture], times: Iterable[Fraction]
) -> Iterator[tuple[Fraction, Any]]:
    """Each of the rising `times` with the frame on screen then, until the pictures end."""
    due = iter(times)
    time, shown = next(due, None), None
    for picture in pictures:
        # `shown` stays on screen until this picture's time.
        while shown is not None and time is not None and time < picture.time:
            yield time, shown.frame
            time = next(due, None)
        if time is None:
            return
        shown = picture
    while shown is not None and time is not None and time < shown.time + shown.lasts:
        yield time, shown.frame
        time = next(due, None)


class VideoFile:
    """An opened video file; a context manager.

    `stated` is the length in seconds that the file claims (None: it claims none). Once `pictures`
    came to the end, `end` is the true length and `still` tells whether there is but one picture.

    Args:
        threads: how many decode; 0 leaves it to FFmpeg.

    Raises:
        BadVideo: missing, unreadable, or without pictures.
    """

    def __init__(self, source: str | Path, threads: int = 0):
        self.path, self.threads = Path(source), threads
        self.end: Fraction | None = None
        self.still = False
        self._container, self._stream = _open(self.path, threads)
        self._used = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def stated(self) -> Fraction | None:
        if self._stream.duration:
            return self._stream.duration * self._stream.time_base
        length = self._container.duration
        return Fraction(length, av.time_base) if length else None

    @property
    def _usual(self) -> Fraction:
        """How long a picture is shown if it does not say so itself."""
        rate = self._stream.average_rate or self._stream.guessed_rate or 25
        return 1 / Fraction(rate)

    def pictures(self, start: Fraction = ZERO) -> Iterator[Picture]:
        """All pictures, in order; those that end before `start` may be left out.

        Raises:
            BadVideo: decoding fails, or the file ends well before it says it would.
        """
        self._rewind()
        rest = self._sought(start) if start > NEAR else None
        if rest is None:
            self._rewind()
            rest = self._decode()
        yield from rest

    def _rewind(self) -> None:
        """Open a file again that was read from: not every format seeks to its beginning."""
        if self._used:
            self._container.close()
            self._container, self._stream = _open(self.path, self.threads)
            self._used = False

    def _sought(self, start: Fraction) -> Iterator[Picture] | None:
        """The pictures from a keyframe before `start` on; None if they cannot be had."""
        if not INDEXED & set(self._container.format.name.split(",")):
            return None
        self._used = True
        stream = self._stream
        try:
            frame = next(self._container.decode(stream), None)
            if frame is None or frame.pts is None:
                return None
            first = frame.pts * frame.time_base
            # Containers seek by decoding times, up to 16 frames earlier than those of pictures.
            target = first + start - 16 * self._usual - Fraction(1, 2)
            self._container.seek(int(target / stream.time_base), stream=stream)
            rest = self._decode(first)
            head = next(rest, None)
        except (av.error.FFmpegError, BadVideo):
            return None  # decoding from the beginning tells what is wrong
        if head is None or head.time > start:
            return None
        return chain([head], rest)

    def _decode(self, first: Fraction | None = None) -> Iterator[Picture]:
        """The pictures from here on; `first` is when the video began, if not here."""
        self._used, whole = True, first is None
        # AVI has no presentation times; those guessed from B-frames are out of order.
        by_dts, usual = self._container.format.name == "avi", self._usual
        # Containers round times, Matroska to a millisecond: a frame may come that much early.
        slack = min(self._stream.time_base / 2, Fraction(1, 2000))
        number, time = 0, first
        end = ZERO if whole else None
        try:
            for frame in self._container.decode(self._stream):
                stamp = frame.dts if by_dts else frame.pts
                time = end if stamp is None else stamp * frame.time_base
                if time is None:  # nowhere in the video
                    return
                first = time if first is None else first
                lasts = frame.duration * frame.time_base if frame.duration else usual
                end = time + lasts
                number += 1
                yield Picture(time - first - slack, lasts, frame)
        except av.error.FFmpegError as error:
            place = f" after {number} frames" if whole else ""
            raise BadVideo(f"{self.path} is damaged{place}; copy or convert it again") from error
        if first is None or end is None:
            raise BadVideo(f"{self.path} has no readable picture; copy or convert it again")
        stated = self._stream.frames
        # Players forgive a short tail (edit lists, dropped frames), not a missing tenth.
        if whole and stated and number < 0.9 * stated - 1:
            raise BadVideo(
                f"{self.path} ends after {number} of {stated} frames (cut off); copy it again"
            )
        self.end, self.still = end - first - slack, number == 1 and time == first


def _open(path: Path, threads: int) -> tuple[Any, Any]:
    """The container and its video track."""
    if not path.is_file():
        raise BadVideo(f"there is no video at {path}")
    try:
        # Playlists may name other local files, never the network.
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise BadVideo(
            f"{path} cannot be read as a video (empty, cut off or another format)"
        ) from error
    try:
        if container.format.name in TEXT_FORMATS:
            raise BadVideo(f"{path} is a text file, not a video")
        # The cover picture of a song is a video track, too.
        tracks = [s for s in container.streams.video if not s.disposition & COVER]
        if not tracks:
            raise BadVideo(f"{path} has no video track (is it an audio file?)")
        tracks[0].thread_type = "AUTO"
        tracks[0].codec_context.thread_count = threads
    except BaseException:
        container.close()
        raise
    return container, tracks[0]


def upright(frame: Any) -> np.ndarray:
    """RGB [H, W, 3] of a decoded frame, turned and mirrored as its display matrix says."""
    image = frame.to_ndarray(format="rgb24", **ALONE)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    # x' = a x + c y and y' = b x + d y, y pointing down.
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def read_camera(device: str, frame_rate: float) -> Iterator[VideoFrame]:
    """Live frames of a camera (``camera:0`` is /dev/video0), dropped to `frame_rate`.

    Raises:
        BadInput: there is no such camera or it cannot be opened.
    """
    number = device.removeprefix(CAMERA)
    path = Path(f"/dev/video{number}")
    if not number.isdigit() or not path.exists():
        raise BadInput(f"there is no camera at {path}; connect one, or name a video file")
    try:
        container = av.open(str(path), format="v4l2")
    except (av.error.FFmpegError, OSError) as error:
        raise BadInput(f"camera {path} cannot be opened ({error}); is it in use?") from error
    with container:
        due, start = 0.0, None
        try:
            for frame in container.decode(video=0):
                now = float(frame.time or 0)
                start = now if start is None else start
                # Frames between two ticks are dropped, never queued: the answer stays live.
                if now - start >= due:
                    due = (int((now - start) * frame_rate) + 1) / frame_rate
                    yield VideoFrame(now - start, upright(frame))
        except av.error.FFmpegError as error:
            raise BadInput(f"camera {path} stopped ({error}); connect it again") from error
