"""Clips of videos: random ones for training, whole videos for evaluation."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from movinet_edge.bundle import Preprocessing
from movinet_edge.data.cache import CachedVideo, FrameCache, shrink
from movinet_edge.data.listing import Video, VideoSet
from movinet_edge.data.sampling import SAMPLINGS
from movinet_edge.errors import BadInput
from movinet_edge.runtime.preprocess import fill
from movinet_edge.runtime.video import BadVideo, VideoFile, exact_rate, on_screen, ticks, upright


@dataclass(frozen=True, slots=True)
class Clip:
    """`frames` [T, 3, H, W] of the video `index` of its set; uint8, or float32 in [0, 1].

    `target` is what a model should answer (`VideoSet.target`). `seed` belongs to this presentation
    of the video and drives its augmentation.
    """

    frames: Tensor
    target: np.ndarray
    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A video that gives no clip, and why; with `fatal`, no other will give one either."""

    path: Path
    reason: str
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Clips, which may differ in size: `frames` is a tensor [T, 3, H, W] for each.

    `targets` are classes, int64 [B], or float32 [B, classes]; `seeds` are int64 [B]. `broken` are
    the videos that gave none, so that B may be 0.
    """

    frames: tuple[Tensor, ...]
    targets: Tensor
    seeds: Tensor
    broken: tuple[Broken, ...] = ()

    @property
    def count(self) -> int:
        return len(self.frames)

    def __reduce__(self) -> tuple[object, ...]:
        # Workers send one tensor: each would take a file descriptor, of which there are few.
        shapes = tuple(frames.shape for frames in self.frames)
        flat = torch.cat([frames.flatten() for frames in self.frames]) if shapes else None
        return _unpack, (flat, shapes, self.targets, self.seeds, self.broken)

    def pin_memory(self) -> Batch:
        """The same in memory that is copied to a GPU without waiting."""
        frames = tuple(frames.pin_memory() for frames in self.frames)
        return Batch(frames, self.targets, self.seeds, self.broken)


def _unpack(
    flat: Tensor | None,
    shapes: tuple[torch.Size, ...],
    targets: Tensor,
    seeds: Tensor,
    broken: tuple[Broken, ...],
) -> Batch:
    parts = () if flat is None else flat.split([shape.numel() for shape in shapes])
    frames = tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))
    return Batch(frames, targets, seeds, broken)


def collate(items: list[Clip | Broken]) -> Batch:
    """For `DataLoader`: clips and broken videos, apart."""
    clips = [item for item in items if isinstance(item, Clip)]
    return Batch(
        tuple(clip.frames for clip in clips),
        torch.from_numpy(np.stack([clip.target for clip in clips]) if clips else np.zeros(0, int)),
        torch.tensor([clip.seed for clip in clips], dtype=torch.int64),
        tuple(item for item in items if isinstance(item, Broken)),
    )


class TrainClips(Dataset[Clip | Broken]):
    """A random clip of every video, another one in every epoch.

    A clip is the frames on screen at times that `sampling` draws. Of a shorter video it is all, and
    the last frame is held. What is random depends on seed, epoch and index only, so that workers
    and processes do not matter. A file that is damaged or cut off is broken when its clip meets the
    damage; with a cache, always.

    Args:
        frames: per clip.
        frame_rate: of the clips, per second; the videos may have any.
        short_side: of the frames in pixels; they keep their aspect.
        cache: where decoded frames are kept; the clips are the same without, but for damaged files.
        sampling: ``stream``: frames that follow each other; ``uniform``: spread over the video
            (see `data.sampling`).
    """

    def __init__(
        self,
        videos: VideoSet,
        frames: int,
        frame_rate: float,
        short_side: int,
        seed: int = 0,
        cache: FrameCache | None = None,
        sampling: str = "stream",
    ):
        self.videos, self.seed, self.cache = videos, seed, cache
        self.frames, self.short_side = frames, short_side
        self.sampling = SAMPLINGS[sampling](frames, exact_rate(frame_rate))
        # Workers that stay alive between epochs must see a new one, too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose which clips come next; before the `DataLoader` is iterated."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Clip | Broken:
        video = self.videos.videos[index]
        chance = np.random.default_rng([self.seed, int(self._epoch), index])
        seed = int(chance.integers(1 << 63))
        try:
            with self._open(video.path) as file:
                times, images = self._draw(file, video, chance)
        except BadVideo as error:
            return _broken(video.path, error)
        except BadInput as error:
            return Broken(video.path, str(error), fatal=True)
        # [T, H, W, 3]; a copy that owns its memory, also of cached frames.
        stack = torch.from_numpy(np.stack(images))
        # What happens in the clip, not elsewhere in the video.
        seen = float(times[0]), float(times[-1])
        target = self.videos.target(video, seen)
        return Clip(stack.permute(0, 3, 1, 2).contiguous(), target, index, seed)

    def _open(self, path: Path) -> VideoFile | CachedVideo:
        if self.cache is not None:
            return self.cache.open(path, self.short_side)
        return VideoFile(path, threads=1)

    def _draw(
        self, file: VideoFile | CachedVideo, video: Video, chance: np.random.Generator
    ) -> tuple[list[Fraction], list[np.ndarray]]:
        """The times of a random clip in seconds, and its pictures uint8 [h, w, 3]."""
        length = _length(file) if file.stated is None else file.stated
        room = self._room(video, length)
        times, images = self._take(file, video, room, chance)
        # A file may claim more than it has, such as the length of its sound.
        if len(images) < self.frames and file.end and self._room(video, file.end) < room:
            room = self._room(video, file.end)
            times, images = self._take(file, video, room, chance)
        if file.still:
            raise BadVideo(f"{video.path} has only one frame")
        if not images:
            raise _too_short(video)
        if len({image.shape for image in images}) > 1:
            raise BadVideo(f"{video.path} changes its aspect ratio; convert it to one size")
        return times, images + images[-1:] * (self.frames - len(images))

    def _room(self, video: Video, length: Fraction) -> Fraction:
        """How much there is to choose from, if the video is `length` seconds long."""
        end = length if video.end is None else min(length, Fraction(video.end))
        return self.sampling.room(end - Fraction(video.start))

    def _take(
        self,
        file: VideoFile | CachedVideo,
        video: Video,
        room: Fraction,
        chance: np.random.Generator,
    ) -> tuple[list[Fraction], list[np.ndarray]]:
        """Random times and the pictures that are on screen then."""
        begin = Fraction(video.start)
        times = [begin + time for time in self.sampling.times(room, chance)]
        return times, [self._small(frame) for frame in _shown(file, video, times[0], times)]

    def _small(self, frame: Any) -> np.ndarray:
        cached = isinstance(frame, np.ndarray)
        return frame if cached else shrink(upright(frame), self.short_side)


class EvalVideos(Dataset[Clip | Broken]):
    """Whole videos as the runtime sees them: `contract` at its frame rate, float32 in [0, 1].

    Several `crops`, spread over the longer side, stand side by side: [T, 3, H, crops * W].
    """

    def __init__(self, videos: VideoSet, contract: Preprocessing, crops: int = 1):
        self.videos, self.contract = videos, contract
        self.places = [i / (crops - 1) for i in range(crops)] if crops > 1 else [0.5]

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Clip | Broken:
        video, contract = self.videos.videos[index], self.contract
        images = []
        try:
            with VideoFile(video.path, threads=1) as file:
                start = Fraction(video.start)
                for frame in _shown(file, video, start, ticks(contract.frame_rate, start)):
                    images.append(self._crops(upright(frame)))
            if not images:
                raise _too_short(video)
        except BadVideo as error:
            return _broken(video.path, error)
        seen = video.start, math.inf if video.end is None else video.end
        target = self.videos.target(video, seen)
        return Clip(torch.from_numpy(np.stack(images)), target, index, seed=0)

    def _crops(self, frame: np.ndarray) -> np.ndarray:
        """A picture [h, w, 3] -> [3, H, crops * W]."""
        height, width = self.contract.height, self.contract.width
        image = np.empty((3, height, width * len(self.places)), np.float32)
        for number, place in enumerate(self.places):
            part = image[:, :, number * width : (number + 1) * width]
            fill(part.transpose(1, 2, 0), frame, self.contract, place)
        return image


class BrokenReport:
    """The videos that gave no clip; `say` is told of each once. Its length is their number."""

    def __init__(self, say: Callable[[str], None] | None = None):
        self.say = say
        self.reasons: dict[Path, str] = {}
        self._lately = 0

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, broken: Iterable[Broken]) -> None:
        """Count the broken videos of a batch.

        Raises:
            BadInput: one of them is fatal, such as a full disk.
        """
        for one in broken:
            if one.fatal:
                raise BadInput(one.reason)
            if one.path not in self.reasons and self.say is not None:
                self.say(f"{one.path} is left out: {one.reason}")
            self.reasons[one.path] = one.reason
            self._lately += 1

    def check(self, total: int) -> None:
        """End an epoch of `total` videos.

        Raises:
            BadInput: every one of them was broken.
        """
        lately, self._lately = self._lately, 0
        if total and lately >= total:
            path, reason = next(iter(self.reasons.items()))
            raise BadInput(
                f"none of the {total} videos can be used ({path}: {reason}); look at the data "
                "with movinet-edge data check"
            )


def loader(dataset: Dataset[Clip | Broken], workers: int, **options: Any) -> DataLoader[Any]:
    """A `DataLoader` whose `workers` processes decode videos."""
    if workers:  # garbage may hold threads of libav, which a fork could not join
        gc.collect()
    return DataLoader(dataset, num_workers=workers, **options)


def _shown(
    file: VideoFile | CachedVideo, video: Video, start: Fraction, times: Iterable[Fraction]
) -> Iterator[Any]:
    """The frames on screen at `times`, from `start` on, until the video or its segment ends."""
    if video.end is not None:
        end = Fraction(video.end)
        times = takewhile(lambda time: time < end, times)
    return (frame for _, frame in on_screen(file.pictures(start), times))


def _length(file: VideoFile | CachedVideo) -> Fraction:
    """The true length in seconds, by decoding all of it."""
    while file.end is None:
        for _ in file.pictures():
            pass
    return file.end


def _too_short(video: Video) -> BadVideo:
    return BadVideo(f"{video.path} ends before {video.start:g} s, where its segment starts")


def _broken(path: Path, error: BadVideo) -> Broken:
    reason = str(error).removeprefix(f"{path} ").removesuffix(f" at {path}")
    return Broken(path, reason)
