"""Which videos a data set has, and of which class each is."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from movinet_edge.data.sources import Finding, Row, Source, canonical_split, read_source
from movinet_edge.errors import BadInput


@dataclass(frozen=True, slots=True)
class Span:
    """A class of a video, seen from `start` to `end` in seconds of the file (None: to its end)."""

    label: int
    start: float = 0.0
    end: float | None = None

    def meets(self, start: float, end: float) -> bool:
        """Whether it is seen anywhere between two times."""
        return self.start <= end and (self.end is None or self.end >= start)


@dataclass(frozen=True, slots=True)
class Video:
    """A video or, between `start` and `end` (seconds), a segment of one, with its classes."""

    path: Path
    spans: tuple[Span, ...]
    start: float = 0.0
    end: float | None = None
    split: str | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """Its classes, each once, rising."""
        return tuple(sorted({span.label for span in self.spans}))


@dataclass(frozen=True)
class VideoSet:
    """Videos in a fixed order; `missing` are those that a list names and that are not there.

    With `multi_label` a video has any number of classes, else exactly one.
    """

    videos: tuple[Video, ...]
    labels: tuple[str, ...]
    source: Path
    missing: tuple[str, ...] = ()
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.videos)

    def target(self, video: Video, seen: tuple[float, float] | None = None) -> np.ndarray:
        """What a model should answer: the class, int64 [], or 1 for each class, float32 [classes].

        The latter with `multi_label`; then only what meets the seconds `seen` counts, if given.
        """
        if not self.multi_label:
            (label,) = video.labels
            return np.array(label, np.int64)
        spans = [s for s in video.spans if seen is None or s.meets(*seen)]
        target = np.zeros(len(self.labels), np.float32)
        target[[span.label for span in spans]] = 1
        return target


def read_video_set(
    source: Path | Source, split: str | None = None, labels: Sequence[str] | None = None
) -> VideoSet:
    """The videos of a folder of classes or of a list.

    Args:
        source: ``DIR/<class>/*.mp4``, ``DIR/<split>/<class>/*.mp4``, a ``.txt`` with a path and
            perhaps a label per line (Kinetics, UCF101), a ``.csv`` with a header (Charades' too),
            or what `read_source` found there.
        split: ``train``, ``val`` or ``test``; None takes all.
        labels: the classes in the order of their indices, from 0; default: those of all splits,
            sorted, or as the list numbers them.

    Raises:
        BadInput: missing, without videos or the split, an empty class, or an unknown label.
    """
    videos, findings = survey(source, split, labels)
    for finding in findings:
        raise BadInput(finding.text)
    if not videos and videos.missing:
        raise BadInput(
            f"none of the {len(videos.missing)} videos that {videos.source} names is there (such "
            f"as {videos.missing[0]}); put them beside the list or in a folder above it"
        )
    if not videos:
        raise BadInput(f"{videos.source} has no videos{f' in its split {split}' if split else ''}")
    return videos


def survey(
    source: Path | Source, split: str | None = None, labels: Sequence[str] | None = None
) -> tuple[VideoSet, list[Finding]]:
    """As `read_video_set`, but with what is wrong beside the rest, which may be empty.

    Raises:
        BadInput: there is no data set or no such split.
    """
    found = source if isinstance(source, Source) else read_source(source)
    chosen = split and canonical_split(split)
    if chosen and chosen not in found.splits:
        has = f"it has {', '.join(found.splits)}" if found.splits else "it is not split"
        raise BadInput(f"{found.path} has no split {split!r}: {has}; choose another")
    names = tuple(labels or found.classes)
    numbers = _numbers(found, names)
    rows = [row for row in found.rows if not chosen or row.split == chosen]
    videos = tuple(
        Video(row.path, _spans(row, numbers), row.start, row.end, row.split)
        for row in rows
        if row.path is not None and all(tag.label in numbers for tag in row.tags)
    )
    unknown = Counter(t.label for row in rows for t in row.tags if t.label not in numbers)
    findings = [
        *(f for f in found.findings if not chosen or f.split in (None, chosen)),
        *(unknown_label(found.path, label, count, names) for label, count in unknown.items()),
    ]
    missing = tuple(row.name for row in rows if row.path is None)
    return VideoSet(videos, names, found.path, missing, found.multi_label), findings


def _numbers(found: Source, names: tuple[str, ...]) -> dict[str, int]:
    """Index of every label of the source; a number that is no name is an index itself."""
    numbers = {name: index for index, name in enumerate(names)}
    if found.numbered:
        for label in {tag.label for row in found.rows for tag in row.tags}:
            if label.isdecimal() and int(label) < len(names):
                numbers.setdefault(label, int(label))
    return numbers


def _spans(row: Row, numbers: dict[str, int]) -> tuple[Span, ...]:
    return tuple(Span(numbers[tag.label], tag.start, tag.end) for tag in row.tags)


def unknown_label(source: Path, label: str, count: int, names: tuple[str, ...]) -> Finding:
    """What is to be said of a class that `count` videos have and that is none of `names`."""
    near = difflib.get_close_matches(label, names, 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return Finding(
        "unknown label",
        label,
        f"the class {label!r} of {source} ({count} videos) is none of the {len(names)} known "
        f"labels{meant}; correct it or give a label file that has it",
    )
