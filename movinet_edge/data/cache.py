"""Decoded frames on disk, so that a video is decoded once and not in every epoch."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np
import torch
import torch.nn.functional as F

from movinet_edge.files import atomic_file, write_errors
from movinet_edge.runtime.video import ZERO, BadVideo, Picture, VideoFile, upright

# A file is all frames, their times, and last: how many, their height and width, stated length.
FOOTER = struct.Struct("<5q")
# Time and duration of a frame are two fractions: four of these.
NUMBER = np.dtype("<i8")


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] with the given short side and its own aspect (bilinear)."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    size = max(round(height * scale), short_side), max(round(width * scale), short_side)
    if size == (height, width):
        return image
    # A view whose channels come last in memory: the fast way for bytes.
    picture = torch.from_numpy(image).permute(2, 0, 1)[None]
    small = F.interpolate(picture, size, mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).contiguous().numpy()


class CachedVideo:
    """What a `VideoFile` is, but its frames are small pictures, uint8 [h, w, 3]."""

    def __init__(self, frames: np.ndarray, clock: np.ndarray, stated: Fraction | None):
        self.frames, self.clock, self.stated = frames, clock, stated
        time, lasts = self._times(len(frames) - 1)
        self.end = time + lasts
        self.still = len(frames) == 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: the file is unmapped when nobody holds a frame."""

    def pictures(self, start: Fraction = ZERO) -> Iterator[Picture]:
        """All pictures, in order; those that end before `start` are left out."""
        late = self.clock[:, 0] / self.clock[:, 1] > float(start) - 1e-6
        begin = int(late.argmax()) if late.any() else len(self.frames)
        for number in range(max(begin - 1, 0), len(self.frames)):
            yield Picture(*self._times(number), self.frames[number])

    def _times(self, number: int) -> tuple[Fraction, Fraction]:
        a, b, c, d = self.clock[number].tolist()
        return Fraction(a, b), Fraction(c, d)


class FrameCache:
    """A folder of files with all the frames of a video each, small and memory-mapped.

    A video that was changed is decoded again; nothing is ever removed. Any number of processes
    may share a folder.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def open(self, path: Path, short_side: int) -> CachedVideo:
        """The video at `path`; it is decoded now unless it was before.

        Raises:
            BadVideo: the video is missing or unreadable.
            BadInput: the disk is full, or the folder cannot be written.
        """
        place = self._place(path, short_side)
        if not place.exists():
            with (
                VideoFile(path, threads=1) as file,
                atomic_file(place) as work,
                write_errors(place),
                work.open("wb") as out,
            ):
                _write(out, file, short_side)
        return _read(place)

    def _place(self, path: Path, short_side: int) -> Path:
        try:
            facts = path.stat()
        except OSError:
            raise BadVideo(f"there is no video at {path}") from None
        key = f"{path.absolute()}\n{facts.st_size}\n{facts.st_mtime_ns}\n{short_side}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.frames"


def _write(out: BinaryIO, file: VideoFile, short_side: int) -> None:
    clock, shape = [], None
    for time, lasts, frame in file.pictures():
        image = shrink(upright(frame), short_side)
        shape = shape or image.shape
        if image.shape != shape:
            raise BadVideo(f"{file.path} changes its aspect ratio; convert it to one size")
        clock.append((*time.as_integer_ratio(), *lasts.as_integer_ratio()))
        out.write(np.ascontiguousarray(image).data)
    out.write(np.array(clock, NUMBER).tobytes())
    height, width = shape[:2] if shape else (0, 0)
    stated = (0, 0) if file.stated is None else file.stated.as_integer_ratio()
    out.write(FOOTER.pack(len(clock), height, width, *stated))


def _read(place: Path) -> CachedVideo:
    with place.open("rb") as file:
        file.seek(-FOOTER.size, 2)
        count, height, width, above, below = FOOTER.unpack(file.read())
        file.seek(count * height * width * 3)
        clock = np.frombuffer(file.read(count * 4 * NUMBER.itemsize), NUMBER).reshape(count, 4)
    frames = np.memmap(place, np.uint8, "r", shape=(count, height, width, 3))
    return CachedVideo(frames, clock, Fraction(above, below) if below else None)
