"""Frames of videos and cameras at a bundle's frame rate, by their exact timestamps (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.stream import Disposition

from movinet_edge.errors import BadInput

CAMERA = "camera:"
# FFmpeg would draw text files as pictures.
TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")
COVER = Disposition.attached_pic


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """`image` is uint8 RGB [H, W, 3], upright; `time` is seconds from the first frame."""

    time: float
    image: np.ndarray


def read_frames(source: str | Path, frame_rate: float) -> Iterator[VideoFrame]:
    """The frames on screen at times 0, 1/rate, 2/rate, ... of a video, until it ends.

    Works on timestamps, so variable frame rates, rates below and above the file's, and phone
    videos that are stored rotated come out right.

    Raises:
        BadInput: missing, unreadable, without pictures, or cut off before its end.
    """
    path = Path(source)
    if not path.is_file():
        raise BadInput(f"there is no video at {path}")
    container: Any
    try:
        # Playlists may name other local files, never the network.
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise BadInput(
            f"{path} cannot be read as a video (empty, cut off or another format)"
        ) from error
    with container:
        if container.format.name in TEXT_FORMATS:
            raise BadInput(f"{path} is a text file, not a video")
        # The cover picture of a song is a video track, too.
        tracks = [s for s in container.streams.video if not s.disposition & COVER]
        if not tracks:
            raise BadInput(f"{path} has no video track (is it an audio file?)")
        rate = Fraction(frame_rate).limit_denominator(1001)
        yield from _sample(_decode(container, tracks[0], path), rate)


def _decode(container: Any, stream: Any, path: Path) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """Time, duration and picture of every frame, in order of presentation.

    Raises:
        BadInput: decoding fails, or the file ends well before it says it would.
    """
    stream.thread_type = "AUTO"
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    usual = 1 / Fraction(rate)
    # Containers round times, Matroska to a millisecond: a frame may come that much early.
    slack = min(stream.time_base / 2, Fraction(1, 2000))
    count, first, end = 0, None, Fraction(0)
    try:
        for frame in container.decode(stream):
            # AVI has no presentation times; those guessed from B-frames are out of order.
            stamp = frame.dts if container.format.name == "avi" else frame.pts
            time = end if stamp is None else stamp * frame.time_base
            first = time if first is None else first
            lasts = frame.duration * frame.time_base if frame.duration else usual
            end = time + lasts
            count += 1
            yield time - first - slack, lasts, frame
    except av.error.FFmpegError as error:
        raise BadInput(
            f"{path} is damaged after {count} frames; copy or convert it again"
        ) from error
    if count == 0:
        raise BadInput(f"{path} has no readable picture; copy or convert it again")
    # Players forgive a short tail (edit lists, dropped frames), not a missing tenth.
    if stream.frames and count < 0.9 * stream.frames - 1:
        raise BadInput(
            f"{path} ends after {count} of {stream.frames} frames (cut off); copy it again"
        )


def _sample(
    frames: Iterator[tuple[Fraction, Fraction, Any]], rate: Fraction
) -> Iterator[VideoFrame]:
    tick, shown, end = 0, None, Fraction(0)
    for time, lasts, frame in frames:
        # `shown` stays on screen until this frame's time.
        while shown is not None and tick / rate < time:
            yield VideoFrame(float(tick / rate), upright(shown))
            tick += 1
        shown, end = frame, time + lasts
    while shown is not None and tick / rate < end:
        yield VideoFrame(float(tick / rate), upright(shown))
        tick += 1


def upright(frame: Any) -> np.ndarray:
    """RGB [H, W, 3] of a decoded frame, turned and mirrored as its display matrix says."""
    image = frame.to_ndarray(format="rgb24")
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
