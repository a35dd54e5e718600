"""What a localization head should answer for a video (G-TAD, section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET, Convention
from movinet_edge.localization.segments import intersection, overlap

BOUNDARY = 3.0  # cells around a start or an end that belong to it


@dataclass(frozen=True)
class Labels:
    """All in [0, 1], float32.

    `overlap` [N] is the greatest tIoU of each anchor with an action; `start` and `end` [T] are the
    shares of every place that belong to a boundary.
    """

    overlap: np.ndarray
    start: np.ndarray
    end: np.ndarray


def make_labels(
    actions: np.ndarray, anchors: Anchors, convention: Convention = ACTIVITYNET
) -> Labels:
    """Labels for actions [M, 2], starts and ends in cells of the anchors' grid; M may be 0."""
    seen = actions.clip(0, anchors.snippets)
    edges = seen if convention.clips else actions
    places = np.arange(anchors.snippets)[:, None] + np.array(convention.cell)
    return Labels(
        _greatest(overlap(anchors.segments, seen)),
        _greatest(_shares(places, edges[:, 0])),
        _greatest(_shares(places, edges[:, 1])),
    )


def _shares(places: np.ndarray, boundaries: np.ndarray) -> np.ndarray:
    """Of each place [T, 2] what is near each boundary, [T, M]."""
    near = np.stack([boundaries - BOUNDARY / 2, boundaries + BOUNDARY / 2], 1)
    return intersection(places, near) / (places[:, 1] - places[:, 0])[:, None]


def _greatest(values: np.ndarray) -> np.ndarray:
    """Of each row, 0 where there is none."""
    found: np.ndarray = values.max(1, initial=0).astype(np.float32)
    return found
