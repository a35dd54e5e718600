"""Mean average precision of found segments, as ActivityNet's evaluation code computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from movinet_edge.localization.segments import Segments, overlap

ACTIVITYNET_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
THUMOS_THRESHOLDS = tuple(np.linspace(0.3, 0.7, 5).tolist())

# Times and scores of one class in each video.
ByVideo = dict[str, tuple[np.ndarray, np.ndarray]]


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
    actions, answers = _by_class(truth), _by_class(found)
    if not actions:
        raise ValueError("nothing is annotated")
    classes, limits = sorted(actions), np.array(thresholds, np.float64)
    per_class = [_of_class(actions[label], answers.get(label, {}), limits) for label in classes]
    return Precision(tuple(limits.tolist()), tuple(classes), np.stack(per_class, 1))


def _by_class(videos: Mapping[str, Segments]) -> dict[int, ByVideo]:
    """The segments of each class in the videos that have some."""
    classes: dict[int, ByVideo] = {}
    for name, segments in videos.items():
        for label in np.unique(segments.labels).tolist():
            own = segments.labels == label
            scores = segments.scores[own] if len(segments.scores) else segments.scores
            classes.setdefault(label, {})[name] = segments.times[own], scores
    return classes


def _of_class(actions: ByVideo, answers: ByVideo, limits: np.ndarray) -> np.ndarray:
    """AP at all thresholds, [thresholds]."""
    if not answers:
        return np.zeros(len(limits))
    scores = np.concatenate([scores for _, scores in answers.values()])
    rank = np.empty(len(scores), np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(len(scores))
    hits = np.zeros((len(limits), len(scores)), bool)
    first = 0
    for video, (times, own) in answers.items():
        ranks = rank[first : first + len(own)]
        first += len(own)
        if video in actions:
            order = np.argsort(ranks)
            hits[:, ranks[order]] = _matched(overlap(times[order], actions[video][0]), limits)
    return _interpolated(hits, sum(len(times) for times, _ in actions.values()))


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
