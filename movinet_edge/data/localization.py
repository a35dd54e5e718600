"""Untrimmed videos as examples for localization: snippets or features, and what to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from movinet_edge.data.annotations import AnnotationSet, UntrimmedVideo
from movinet_edge.data.cache import FrameCache, shrink
from movinet_edge.data.clips import Batch, Broken, Clip, collate
from movinet_edge.data.features import FeatureFolder, rescaled
from movinet_edge.data.listing import Span, Video, VideoSet
from movinet_edge.data.snippets import VideoFolder, length_of, read_snippets, snippet_times
from movinet_edge.errors import BadInput
from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import Convention
from movinet_edge.localization.labels import make_labels
from movinet_edge.localization.segments import intersection
from movinet_edge.localization.windows import window_starts, worth_training
from movinet_edge.runtime.video import BadVideo, VideoFile, upright


@dataclass(frozen=True)
class Answers:
    """What a head should answer for B videos of T places and N anchors.

    `overlap` [B, N], `start` and `end` [B, T] as `Labels`; `actions` float32 [M, 4] are the video
    in the batch, start and end in cells, and the class of every action.
    """

    overlap: Tensor
    start: Tensor
    end: Tensor
    actions: Tensor

    def to(self, device: torch.device) -> Answers:
        parts = (self.overlap, self.start, self.end, self.actions)
        return Answers(*(part.to(device, non_blocking=True) for part in parts))


@dataclass(frozen=True)
class Example:
    """`clip` has the frames of all snippets, [T * F, 3, h, w], or features, [C, T]."""

    clip: Clip
    cells: np.ndarray
    labels: np.ndarray
    snippets: int


@dataclass(frozen=True)
class LocalizationBatch:
    """Examples of one number of `snippets`; `number` is that of their fidelity."""

    clips: Batch
    answers: Answers
    snippets: int
    number: int = 0

    @property
    def count(self) -> int:
        return self.clips.count

    @property
    def broken(self) -> tuple[Broken, ...]:
        return self.clips.broken

    def pin_memory(self) -> LocalizationBatch:
        return LocalizationBatch(self.clips.pin_memory(), self.answers, self.snippets, self.number)


Numbered = tuple[int, "Example | Broken"]
AnchorsOf = Callable[[int], Anchors]


class Together:
    """For `DataLoader`: examples to a batch, with their answers."""

    def __init__(self, anchors: AnchorsOf, convention: Convention):
        self.anchors, self.convention = anchors, convention

    def __call__(self, items: Sequence[Numbered]) -> LocalizationBatch:
        number = items[0][0]
        examples = [item for _, item in items if isinstance(item, Example)]
        broken = [item for _, item in items if isinstance(item, Broken)]
        clips = collate([*(example.clip for example in examples), *broken])
        snippets = examples[0].snippets if examples else 0
        return LocalizationBatch(clips, self.answers(examples), snippets, number)

    def answers(self, examples: Sequence[Example]) -> Answers:
        if not examples:
            return Answers(*(torch.zeros(0, 0) for _ in range(4)))
        anchors = self.anchors(examples[0].snippets)
        labels = [make_labels(e.cells, anchors, self.convention) for e in examples]
        rows = [
            np.column_stack([np.full(len(e.labels), b), e.cells.clip(0, e.snippets), e.labels])
            for b, e in enumerate(examples)
        ]
        stacked = (
            np.stack([label.overlap for label in labels]),
            np.stack([label.start for label in labels]),
            np.stack([label.end for label in labels]),
            np.concatenate(rows).astype(np.float32),
        )
        return Answers(*map(torch.from_numpy, stacked))


def _labels(annotations: AnnotationSet, video: UntrimmedVideo) -> np.ndarray:
    return np.array([annotations.labels.index(a.label) for a in video.actions], np.int64)


class SnippetVideos(Dataset[Numbered]):
    """All of every video in snippets, of which there may be more or fewer.

    An example is asked for by ``index + len(self) * number``: the video, and which of `counts` is
    the number of its snippets. Seeds of augmentation depend on seed, epoch and index only.

    Args:
        frames: of a snippet, `rate` of them per second.
        short_side: of the frames in pixels.
        cache: where decoded frames are kept.
    """

    def __init__(
        self,
        annotations: AnnotationSet,
        videos: VideoFolder,
        counts: Sequence[int],
        frames: int,
        rate: float,
        short_side: int,
        seed: int = 0,
        cache: FrameCache | None = None,
    ):
        self.annotations, self.videos, self.counts = annotations, videos, tuple(counts)
        self.frames, self.rate, self.short_side = frames, rate, short_side
        self.seed, self.cache = seed, cache
        # Workers that stay alive between epochs must see a new one, too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.annotations.videos)

    def __getitem__(self, code: int) -> Numbered:
        number, index = divmod(code, len(self))
        video = self.annotations.videos[index]
        path = self.videos.find(video.name)
        if path is None:
            return number, Broken(Path(video.name), "is not there")
        try:
            return number, self._example(video, path, index, self.counts[number])
        except BadVideo as error:
            return number, Broken(path, str(error).removeprefix(f"{path} "))
        except BadInput as error:
            return number, Broken(path, str(error), fatal=True)

    def _example(self, video: UntrimmedVideo, path: Path, index: int, count: int) -> Example:
        with self._open(path) as file:
            seconds = length_of(file, video.seconds)
            times = snippet_times(seconds, count, self.frames, self.rate)
            found = dict(read_snippets(file, times, self._small))
        stack = torch.from_numpy(np.concatenate([found[i] for i in range(count)]))
        chance = np.random.default_rng([self.seed, int(self._epoch), index])
        seed = int(chance.integers(1 << 63))
        clip = Clip(stack.permute(0, 3, 1, 2).contiguous(), np.array(index), index, seed)
        spans = np.array([(a.start, a.end) for a in video.actions], np.float64).reshape(-1, 2)
        cells = spans / float(seconds) * count
        return Example(clip, cells, _labels(self.annotations, video), count)

    def _open(self, path: Path) -> Any:
        if self.cache is not None:
            return self.cache.open(path, self.short_side)
        return VideoFile(path, threads=1)

    def _small(self, frame: Any) -> np.ndarray:
        cached = isinstance(frame, np.ndarray)
        return frame if cached else shrink(upright(frame), self.short_side)


class FeatureVideos(Dataset[Numbered]):
    """Every video's features: stretched to so many snippets, or in windows of that length.

    Windows are those in which an action is seen whole or nearly so; they are examples of their own.
    """

    def __init__(
        self, annotations: AnnotationSet, features: FeatureFolder, snippets: int, windowed: bool
    ):
        self.annotations, self.features, self.snippets = annotations, features, snippets
        self.places = [
            (number, start)
            for number, video in enumerate(annotations.videos)
            for start in (self._windows(video) if windowed else (None,))
        ]
        if not self.places:
            raise BadInput(
                f"no window of {snippets} snippets in {features.folder} sees an action of "
                f"{annotations.source} whole; use longer windows"
            )

    def set_epoch(self, epoch: int) -> None:
        """Nothing: features are the same in all."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Numbered:
        number, start = self.places[index]
        video = self.annotations.videos[number]
        values = self.features.read(video.name)
        labels = _labels(self.annotations, video)
        if start is None:
            whole = rescaled(values, self.snippets)
            cells = video.cells(self.snippets)
        else:
            whole, cells = window(values, start, self.snippets), video.cells(len(values)) - start
            seen = _seen(cells, self.snippets) > 0
            cells, labels = cells[seen], labels[seen]
        clip = Clip(whole, np.array(number), number, 0)
        return 0, Example(clip, cells, labels, self.snippets)

    def _windows(self, video: UntrimmedVideo) -> list[int]:
        count = len(self.features.read(video.name))
        cells = video.cells(count)
        starts = window_starts(count, self.snippets)
        return [s for s in starts if worth_training(cells - s, self.snippets)]


def _seen(cells: np.ndarray, length: int) -> np.ndarray:
    return intersection(cells, np.array([[0.0, length]]))[:, 0]


def window(features: np.ndarray, start: int, length: int) -> Tensor:
    """Features [any number, C] from `start` on, [C, length], filled up with zeros."""
    part = torch.from_numpy(np.ascontiguousarray(features[start : start + length].T))
    return torch.nn.functional.pad(part, (0, length - part.shape[1]))


def action_clips(annotations: AnnotationSet, videos: VideoFolder) -> VideoSet:
    """Every action as a trimmed video of its class.

    Raises:
        BadInput: no video is there, or none has an action.
    """
    paths = {video.name: videos.find(video.name) for video in annotations.videos}
    clips = tuple(
        Video(path, (Span(annotations.labels.index(a.label)),), max(a.start, 0.0), a.end, v.split)
        for v in annotations.videos
        if (path := paths[v.name]) is not None
        for a in v.actions
    )
    missing = tuple(name for name, path in paths.items() if path is None)
    if not clips:
        raise BadInput(
            f"{videos.folder} has no video with an action of {annotations.source} (such as "
            f"{annotations.videos[0].name}); name the folder that has them"
        )
    return VideoSet(clips, annotations.labels, annotations.source, missing)
