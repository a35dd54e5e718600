"""Mean average precision of found segments, as ActivityNet's evaluation code computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from movinet_edge.localization.segments import Segments, overlap

ACTIVITYNET_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
THUMOS_THRESHOLDS = tuple(np.linspace(0.3, 0.7, 5).tolist())

# Of each video that has some: rows in the concatenation of a class's segments, and times.
Index = dict[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Precision:
    """`per_class` [thresholds, classes] holds the interpolated average precision of `classes`."""

    thresholds: tuple[float, ...]
    classes: tuple[int, ...]
    per_class: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """mAP at each threshold, [thresholds]."""
        means: np.ndarray = self.per_class.mean(1)
        return means

    @property
    def average(self) -> float:
        """The mean over thresholds."""
        return float(self.mean.mean())


def average_precision(
    truth: Mapping[str, Segments],
    found: Mapping[str, Segments],
    thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
) -> Precision:
    """Evaluate what was `found` in videos against the `truth`.

    Classes that are nowhere in the truth do not count; videos that are not in it do, with
    nothing in them.

    Raises:
        ValueError: the truth is empty.
    """
    classes = sorted({int(label) for segments in truth.values() for label in segments.labels})
    if not classes:
        raise ValueError("nothing is annotated")
    limits = np.array(thresholds, np.float64)
    per_class = [_of_class(truth, found, label, limits) for label in classes]
    return Precision(tuple(limits.tolist()), tuple(classes), np.stack(per_class, 1))


def _of_class(
    truth: Mapping[str, Segments], found: Mapping[str, Segments], label: int, limits: np.ndarray
) -> np.ndarray:
    """AP at all thresholds, [thresholds]."""
    actions, count = _index(truth, label)
    answers, total = _index(found, label)
    if not total:
        return np.zeros(len(limits))
    scores = np.concatenate([s.scores[s.labels == label] for s in found.values()])
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(total, np.int64)
    rank[order] = np.arange(total)
    hits = np.zeros((len(limits), total), bool)
    for video, (rows, times) in answers.items():
        if video in actions:
            sorted_rows = np.argsort(rank[rows])
            hit = _matched(overlap(times[sorted_rows], actions[video][1]), limits)
            hits[:, rank[rows[sorted_rows]]] = hit
    return _interpolated(hits, count)


def _index(videos: Mapping[str, Segments], label: int) -> tuple[Index, int]:
    """Of the videos that have segments of a class, and how many these are in all."""
    index, total = Index(), 0
    for name, segments in videos.items():
        times = segments.times[segments.labels == label]
        if len(times):
            index[name] = (np.arange(total, total + len(times)), times)
            total += len(times)
    return index, total


def _matched(shared: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Which answers of a video hit an action, bool [thresholds, P].

    `shared` is the tIoU of answers, best first, with actions, [P, G]. Each takes the action that it
    shares most with among those that nothing took before.
    """
    hits = np.zeros((len(limits), len(shared)), bool)
    free = np.ones((len(limits), shared.shape[1]), bool)
    for row in np.flatnonzero(shared.max(1) >= limits.min()):
        for action in np.argsort(shared[row])[::-1]:
            takes = (shared[row, action] >= limits) & free[:, action] & ~hits[:, row]
            hits[takes, row] = True
            free[takes, action] = False
    return hits


def _interpolated(hits: np.ndarray, actions: int) -> np.ndarray:
    """Area under the precision that is reached at each recall or beyond, of [thresholds, P]."""
    precision = hits.cumsum(1) / np.arange(1, hits.shape[1] + 1)
    reached = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    area: np.ndarray = (hits * reached).sum(1) / actions  # recall rises at hits
    return area
