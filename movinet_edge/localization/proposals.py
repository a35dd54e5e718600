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
        class_scores: of the whole video, [C], or of each segment, [P, C].
    """
    each = np.broadcast_to(class_scores, (len(times), class_scores.shape[-1]))
    best = np.argsort(-each, axis=1, kind="stable")[:, :top].T
    known = np.take_along_axis(each.T, best, 0) if len(times) else np.zeros(best.shape)
    return Segments(
        np.concatenate([times] * len(best)),
        best.flatten().astype(np.int64),
        (scores * known).flatten(),
    )


def segment_classes(logits: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """The probability of each class in segments, float64 [P, C].

    A segment's logits are the mean over its places.

    Args:
        logits: of every place, [T, C].
        segments: starts and ends in cells, [P, 2], within the T cells and of some length.
    """
    sums = np.concatenate([np.zeros((1, logits.shape[1])), logits.astype(np.float64).cumsum(0)])
    whole = np.minimum(segments.astype(np.int64), len(logits) - 1)
    part = (segments - whole)[..., None]
    until = sums[whole] + part * logits[whole]  # up to starts and ends, which may be within a cell
    mean = (until[:, 1] - until[:, 0]) / (segments[:, 1] - segments[:, 0])[:, None]
    powers = np.exp(mean - mean.max(1, keepdims=True))
    shares: np.ndarray = powers / powers.sum(1, keepdims=True)
    return shares
