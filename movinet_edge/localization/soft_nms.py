"""Soft non-maximum suppression with a Gaussian (arXiv 1704.04503), as BSN and G-TAD use it."""

from __future__ import annotations

import numpy as np

from movinet_edge.localization.segments import overlap


def soft_nms(
    segments: np.ndarray,
    scores: np.ndarray,
    theta: float,
    keep: int = 100,
    longest: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The best segment is taken, the scores of all others fall as they overlap with it, and again.

    What is left over at the end, a single segment, is not taken, as in the public code; a single
    one to begin with is, whatever its score and length.

    Args:
        segments: starts and ends in any unit, [P, 2], none without length.
        scores: [P]; a segment of score 0 is never taken.
        theta: scores are multiplied by exp(-tIoU^2 / theta).
        keep: so many are taken at most.
        longest: those of this length and more are not taken (None: all may be).

    Returns:
        The segments taken, best first, and their scores.
    """
    if len(segments) < 2:
        return segments.astype(np.float64), scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    places, left = segments[order].astype(np.float64), scores[order].astype(np.float64)
    if longest is not None:
        left[places[:, 1] - places[:, 0] >= longest] = 0
    taken: list[int] = []
    values: list[float] = []
    waiting = np.ones(len(left), bool)
    while waiting.sum() > 1 and len(taken) < keep:
        best = int(np.argmax(np.where(waiting, left, -np.inf)))
        if left[best] <= 0:
            break
        taken.append(best)
        values.append(left[best])
        waiting[best] = False
        shared = overlap(places[best : best + 1], places)[0]
        left = left * np.exp(-np.square(shared) / theta)
    return places[taken], np.array(values, np.float64)
