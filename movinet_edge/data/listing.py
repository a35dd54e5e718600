"""Which videos a data set has, and of which class each is."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from movinet_edge.data.sources import Finding, Source, canonical_split, read_source
from movinet_edge.errors import BadInput


@dataclass(frozen=True, slots=True)
class Video:
    """A video or, between `start` and `end` (seconds), a segment of one; of class `label`."""

    path: Path
    label: int
    start: float = 0.0
    end: float | None = None
    split: str | None = None


@dataclass(frozen=True)
class VideoSet:
    """Videos in a fixed order; `missing` are those that a list names and that are not there."""

    videos: tuple[Video, ...]
    labels: tuple[str, ...]
    source: Path
    missing: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.videos)


def read_video_set(
    source: Path | Source, split: str | None = None, labels: Sequence[str] | None = None
) -> VideoSet:
    """The videos of a folder of classes or of a list.

    Args:
        source: ``DIR/<class>/*.mp4``, ``DIR/<split>/<class>/*.mp4``, a ``.txt`` with a path and
            perhaps a label per line (Kinetics, UCF101), a ``.csv`` with a header, or what
            `read_source` found there.
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
        Video(row.path, numbers[row.label], row.start, row.end, row.split)
        for row in rows
        if row.path is not None and row.label in numbers
    )
    unknown = Counter(row.label for row in rows if row.label not in numbers)
    findings = [
        *(f for f in found.findings if not chosen or f.split in (None, chosen)),
        *(_unknown(found.path, label, count, names) for label, count in unknown.items()),
    ]
    missing = tuple(row.name for row in rows if row.path is None)
    return VideoSet(videos, names, found.path, missing), findings


def _numbers(found: Source, names: tuple[str, ...]) -> dict[str, int]:
    """Index of every label of the source; a number that is no name is an index itself."""
    numbers = {name: index for index, name in enumerate(names)}
    if found.numbered:
        for row in found.rows:
            if row.label.isdecimal() and int(row.label) < len(names):
                numbers.setdefault(row.label, int(row.label))
    return numbers


def _unknown(source: Path, label: str, count: int, names: tuple[str, ...]) -> Finding:
    near = difflib.get_close_matches(label, names, 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return Finding(
        "unknown label",
        label,
        f"the class {label!r} of {source} ({count} videos) is none of the {len(names)} known "
        f"labels{meant}; correct it or give a label file that has it",
    )
