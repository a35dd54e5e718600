"""From a head's answers about a video to segments with labels; the same for all engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import Convention
from movinet_edge.localization.proposals import labelled, propose, segment_classes, thinned
from movinet_edge.localization.segments import Segments
from movinet_edge.localization.windows import merged

TOP = 2  # classes of each proposal


class HeadAnswer(NamedTuple):
    """Of one video or window: `overlap` and `action` [N], `start` and `end` [T]."""

    overlap: np.ndarray
    action: np.ndarray
    start: np.ndarray
    end: np.ndarray


class Found(NamedTuple):
    """`times` [P, 2] in seconds and `scores` [P] of what may be an action, best first.

    `segments` are the same with labels, each once for every class that it may be; None where
    nothing tells classes.
    """

    times: np.ndarray
    scores: np.ndarray
    segments: Segments | None


def read_segments(
    answers: Sequence[tuple[int, HeadAnswer]],
    anchors: Anchors,
    cell: float,
    cells: int,
    convention: Convention,
    logits: np.ndarray | None = None,
    class_scores: np.ndarray | None = None,
    first: float = 0.0,
) -> Found:
    """Segments of a video.

    Proposals that end in what a window is filled up with end with the video, as in the public
    code; of those that are the same then the best is told.

    Args:
        answers: the first cell of each window, and what the head says of it; one, at 0, where the
            video is seen at once.
        cell: seconds of a cell.
        cells: of the video; nothing is behind them.
        logits: of every cell's classes, [cells, C].
        class_scores: of the whole video's classes, [C]; they win over `logits`.
        first: when the first cell begins, in seconds; nothing begins before 0.
    """
    windows = [(start, *propose(anchors, *answer, convention)) for start, answer in answers]
    if convention.windowed:
        places, scores = merged(windows, convention)
    else:
        ((_, proposals, values),) = windows
        places, scores = thinned(proposals, values, convention)
    places = places.clip(0, cells)
    kept = places[:, 1] > places[:, 0]
    places, scores = _unique(places[kept], scores[kept])
    times = np.maximum(places * cell + first, 0.0)
    if class_scores is None and logits is not None:
        class_scores = segment_classes(logits, places)
    if class_scores is None:
        return Found(times, scores, None)
    return Found(times, scores, labelled(times, scores, class_scores, TOP))


def _unique(places: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of segments that are the same, the first one."""
    known = np.sort(np.unique(places, axis=0, return_index=True)[1])
    return places[known], scores[known]
