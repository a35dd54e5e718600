"""What SGAlign samples (G-TAD, section 3.3), as a sparse matrix from places to anchors.

An anchor is widened by half of its length at both ends and cut into bins; in each of them one-
dimensional RoIAlign takes the mean over samples one cell apart or less, which are interpolated
between places. That is linear, and the same for every video.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from movinet_edge.localization.anchors import Anchors

EXPANSION = 0.5  # of the anchor's length, at each end


@dataclass(frozen=True)
class Sparse:
    """A matrix by its rows: those of `offsets[r]:offsets[r + 1]` are row r's non-zeros.

    `offsets` int32 [rows + 1], `columns` int32 and `weights` float32 [non-zeros].
    """

    offsets: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    width: int

    @property
    def rows(self) -> np.ndarray:
        """The row of each non-zero, int64."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def transposed(self) -> Sparse:
        order = np.argsort(self.columns, kind="stable")
        ends = np.bincount(self.columns, minlength=self.width).cumsum()
        return Sparse(
            np.concatenate([[0], ends]).astype(np.int32),
            self.rows[order].astype(np.int32),
            self.weights[order],
            len(self.offsets) - 1,
        )

    def dense(self) -> np.ndarray:
        """float32 [rows, width]."""
        full = np.zeros((len(self.offsets) - 1, self.width), np.float32)
        full[self.rows, self.columns] = self.weights
        return full


@lru_cache(maxsize=16)
def sampling(anchors: Anchors, bins: int, context_bins: int, outside: bool) -> Sparse:
    """From values at places [T * bins + T * context_bins] to anchors [N, or N + 1 with `outside`].

    Column t * bins + b is the value that bin b would have were it sampled at place t alone; those
    of the context follow, after all places. The row more, with `outside`, is what the public code
    has where the map has no anchor: samples between places 0 and 1.
    """
    count = anchors.snippets
    parts = []
    for length in range(1, anchors.durations + 1):
        starts = np.arange(count - length + 1)
        begin, wide = starts - EXPANSION * length, length - 1 + 2 * EXPANSION * length
        parts.append(_rows(begin, wide, count, (bins, context_bins)))
    if outside:
        parts.append(_rows(np.zeros(1), 1.0, count, (bins, context_bins)))
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return Sparse(
        np.concatenate([[0], sizes.cumsum()]).astype(np.int32),
        np.concatenate([part.columns for part in parts]),
        np.concatenate([part.weights for part in parts]),
        count * (bins + context_bins),
    )


def _rows(begin: np.ndarray, wide: float, count: int, both: tuple[int, ...]) -> Sparse:
    """Regions [begin, begin + wide], int64 [S], of as many cells each."""
    full = np.concatenate([binned(begin, wide, count, bins) for bins in both], 1)
    rows, columns = full.nonzero()
    offsets = np.concatenate([[0], np.bincount(rows, minlength=len(begin)).cumsum()])
    weights = full[rows, columns].astype(np.float32)
    return Sparse(offsets.astype(np.int32), columns.astype(np.int32), weights, full.shape[1])


def binned(begin: np.ndarray, wide: float, count: int, bins: int) -> np.ndarray:
    """Weights of places for every bin of regions that begin at [S], [S, count * bins]."""
    samples = int(np.ceil(wide / bins))  # in each bin
    steps = (np.arange(bins * samples) + 0.5) * (wide / (bins * samples))
    at = begin[:, None] + steps
    there = (at >= -1) & (at <= count)  # the rest is zeros
    at = at.clip(0, count - 1)
    low = np.minimum(at.astype(np.int64), max(count - 2, 0))
    share = at - low
    region, sample = np.indices(at.shape)
    cell = region * count * bins + sample // samples
    full = np.zeros(len(begin) * count * bins)
    for place, weight in ((low, 1 - share), (np.minimum(low + 1, count - 1), share)):
        where = (cell + place * bins)[there]
        full += np.bincount(where, weight[there] / samples, len(full))
    return full.reshape(len(begin), count * bins)
