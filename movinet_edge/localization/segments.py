"""Segments of videos in seconds, and how much two of them share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Segments:
    """What is in one video, or was found there.

    `times` are starts and ends, float64 [M, 2]; `labels` int64 [M]; `scores` float64 [M], which
    annotations have no use for.
    """

    times: np.ndarray
    labels: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.times)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How long segments [A, 2] and [B, 2] are seen together, [A, B]."""
    first = np.maximum(a[:, None, 0], b[None, :, 0])
    last = np.minimum(a[:, None, 1], b[None, :, 1])
    together: np.ndarray = (last - first).clip(0)
    return together


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """tIoU, intersection over union, of segments [A, 2] and [B, 2], [A, B].

    It is 0 where both have no length at all.
    """
    together = intersection(a, b)
    union = (a[:, 1] - a[:, 0])[:, None] + (b[:, 1] - b[:, 0]) - together
    return np.divide(together, union, out=np.zeros_like(together), where=union > 0)
