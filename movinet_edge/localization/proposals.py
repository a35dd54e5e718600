"""Scores of a localization head to segments (G-TAD, section 3.5)."""

from __future__ import annotations

import numpy as np

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET, Convention
from movinet_edge.localization.segments import Segments
from movinet_edge.localization.soft_nms import soft_nms

CANDIDATE = 0.5  # of a curve's maximum


def candidates(curve: np.ndarray) -> np.ndarray:
    """Where the probability of a boundary [T] peaks, or is over half of its greatest; bool [T].

    The first and the last place never peak.
    """
    found = np.zeros(len(curve), bool)
    inner = curve[1:-1]
    peaks = (inner > curve[2:]) & (inner > curve[:-2])
    found[1:-1] = peaks | (inner > CANDIDATE * curve.max())
    return found


def propose(
    anchors: Anchors,
    overlap: np.ndarray,
    action: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    convention: Convention = ACTIVITYNET,
) -> tuple[np.ndarray, np.ndarray]:
    """Segments in cells, float64 [P, 2], and their scores, float64 [P].

    An anchor [s, e) is proposed if s and e are candidates, place 0 being a start always and the
    last place an end. So nothing ends behind the last place, as in the public code. Its score is
    the product of its two.

    Args:
        overlap, action: of the anchors, [N].
        start, end: of all places, [T].
    """
    begins, stops = candidates(start), candidates(end)
    begins[0] = stops[-1] = True
    until = anchors.starts + anchors.lengths
    kept = until < anchors.snippets
    if convention.peaks:
        kept &= begins[anchors.starts] & stops[np.minimum(until, anchors.snippets - 1)]
    scores = action[kept].astype(np.float64) * overlap[kept]
    return anchors.segments[kept], scores


def thinned(
    segments: np.ndarray, scores: np.ndarray, convention: Convention = ACTIVITYNET
) -> tuple[np.ndarray, np.ndarray]:
    """Proposals after soft-NMS, best first; `segments` in cells."""
    return soft_nms(segments, scores, convention.theta, convention.keep, convention.longest)


def labelled(
    times: np.ndarray, scores: np.ndarray, class_scores: np.ndarray, top: int = 2
) -> Segments:
    """Proposals once for each of a video's best classes, scores multiplied.

    Args:
        times: in seconds, [P, 2].
        scores: of the proposals, [P].
        class_scores: of the whole video, [C].
    """
    best = np.argsort(-class_scores, kind="stable")[:top]
    return Segments(
        np.concatenate([times] * len(best)),
        np.repeat(best, len(times)).astype(np.int64),
        np.concatenate([scores * float(class_scores[label]) for label in best]),
    )
