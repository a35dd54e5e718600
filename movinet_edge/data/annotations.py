"""Which actions untrimmed videos have, and when: ActivityNet's, HACS' and THUMOS14's layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from movinet_edge.data.annotation_files import RawAction, RawVideo, read_raw
from movinet_edge.data.listing import unknown_label
from movinet_edge.data.sources import Finding, canonical_split, split_order
from movinet_edge.errors import BadInput
from movinet_edge.localization.segments import Segments
from movinet_edge.record import Record

EMPTY, OUTSIDE, EARLY, LATE_END = "empty segment", "outside", "early start", "late end"
# Seconds that an action may begin before its video or end after it unnoticed: times are rounded.
SLACK = 0.1


class Action(Record):
    """A class that is seen from `start` to `end`, in seconds of the video."""

    start: float
    end: float
    label: str


class UntrimmedVideo(Record):
    """A video and all actions in it, by their starts.

    `seconds` is its length (None: nothing tells). `feature_seconds` is how much of it features
    cover that were extracted in whole snippets, where that is annotated.
    """

    name: str
    actions: tuple[Action, ...] = ()
    split: str | None = None
    seconds: float | None = None
    feature_seconds: float | None = None
    frame_rate: float | None = None

    def cells(self, snippets: int) -> np.ndarray:
        """Starts and ends of its actions where features are `snippets` places, float64 [M, 2].

        Raises:
            BadInput: its length is not known.
        """
        seconds = self.feature_seconds or self.seconds
        if seconds is None:
            raise BadInput(
                f"the length of {self.name} is not known; add its duration to the annotations"
            )
        times = np.array([(a.start, a.end) for a in self.actions], np.float64).reshape(-1, 2)
        return times / seconds * snippets


@dataclass(frozen=True)
class AnnotationSet:
    """Videos by name; `labels` are the classes in the order of their numbers.

    `findings` are what was noticed and dealt with. Segments behind the end of their video stay as
    they are, which is what published evaluations have; labels end with the video.
    """

    source: Path
    videos: tuple[UntrimmedVideo, ...]
    labels: tuple[str, ...]
    findings: tuple[Finding, ...] = ()

    def truth(self) -> dict[str, Segments]:
        """For evaluation; videos without actions have none there."""
        numbers = {name: number for number, name in enumerate(self.labels)}
        return {
            video.name: Segments(
                np.array([(a.start, a.end) for a in video.actions], np.float64).reshape(-1, 2),
                np.array([numbers[a.label] for a in video.actions], np.int64),
            )
            for video in self.videos
        }

    def only(self, names: set[str]) -> AnnotationSet:
        """The same with these videos alone."""
        return replace(self, videos=tuple(v for v in self.videos if v.name in names))


def read_annotations(
    path: Path, split: str | None = None, labels: Sequence[str] | None = None
) -> AnnotationSet:
    """The annotations of a data set.

    Segments without length are left out: nothing can be found there.

    Args:
        path: a ``.json`` in ActivityNet's layout (HACS has the same) or in G-TAD's, a ``.csv`` of
            THUMOS14 as G-TAD has them, or THUMOS14's own folder of ``<class>_<split>.txt``.
        split: ``train``, ``val`` or ``test``; None takes all.
        labels: the classes in the order of their numbers; default: all that there are, sorted.

    Raises:
        BadInput: missing, unreadable, of another layout, without the split or any video in it; a
            segment that ends before it starts, or of an unknown class; most segments being outside
            of their videos.
    """
    raw = read_raw(path)
    classes = sorted({action.label for video in raw for action in video.actions})
    known = tuple(labels) if labels else tuple(classes)
    chosen = split and canonical_split(split)
    splits = split_order({video.split for video in raw if video.split})
    if chosen and chosen not in splits:
        has = f"it has {', '.join(splits)}" if splits else "it is not split"
        raise BadInput(f"{path} has no split {split!r}: {has}; choose another")
    raw = [video for video in raw if not chosen or video.split == chosen]
    if not raw:
        raise BadInput(f"{path} has no videos; name a file that has annotations")
    _refuse_unknown(path, raw, known)
    findings: list[Finding] = []
    videos = tuple(_checked(path, video, findings) for video in raw)
    outside = sum(finding.kind == OUTSIDE for finding in findings)
    if 2 * outside > sum(len(video.actions) for video in raw):
        raise BadInput(
            f"{outside} segments of {path} are outside of their videos; give all times in seconds"
        )
    return AnnotationSet(path, videos, known, tuple(findings))


def _refuse_unknown(path: Path, raw: list[RawVideo], known: tuple[str, ...]) -> None:
    labels = Counter(label for video in raw for label in {a.label for a in video.actions})
    for label, count in labels.items():
        if label not in known:
            raise BadInput(unknown_label(path, label, count, known).text)


def _checked(path: Path, video: RawVideo, findings: list[Finding]) -> UntrimmedVideo:
    """The video without what cannot be used, which is added to `findings`."""
    kept = []
    for action in video.actions:
        finding = _problem(path, video, action)
        if finding is not None:
            findings.append(finding)
        if finding is None or finding.kind != EMPTY:
            kept.append(Action(start=action.start, end=action.end, label=action.label))
    return UntrimmedVideo(
        name=video.name,
        actions=tuple(sorted(kept, key=lambda action: (action.start, action.end))),
        split=video.split,
        seconds=video.seconds,
        feature_seconds=video.feature_seconds,
        frame_rate=video.frame_rate,
    )


def _problem(path: Path, video: RawVideo, action: RawAction) -> Finding | None:
    """What is wrong with a segment.

    Raises:
        BadInput: it ends before it starts, which may be true of all times.
    """
    place = f"the segment [{action.start:g}, {action.end:g}] of {video.name} in {path}"

    def found(kind: str, what: str) -> Finding:
        return Finding(kind, video.name, f"{place} {what}", video.split)

    if action.end < action.start:
        raise BadInput(f"{place} ends before it starts; correct it")
    if action.end == action.start:
        return found(EMPTY, "has no length and is left out")
    length = video.seconds
    if action.end <= 0 or (length is not None and action.start >= length):
        return found(OUTSIDE, "is outside of the video, where nothing will find it")
    if action.start < -SLACK:
        return found(EARLY, "begins before the video")
    if length is not None and action.end > length + SLACK:
        return found(LATE_END, f"ends after the video, which has {length:g} seconds")
    return None
