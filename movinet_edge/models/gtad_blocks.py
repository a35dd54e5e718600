"""SGAlign's sampling as products with constants, block by block, for graphs without gathering.

What anchors of one duration sample depends on their distance from the start alone, but for the ends
of the video: so the anchors of some durations and some neighbouring starts are one product with a
constant matrix, the same for all starts. At the ends samples outside are those of the last place;
that is a sum of its own, over the first and the last place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad_sampling import EXPANSION, binned


@dataclass(frozen=True)
class Band:
    """`weights` [durations, places, bins] of places `first`, `first` + 1, ... from a start on."""

    first: int
    weights: np.ndarray


@dataclass(frozen=True)
class Blocks:
    """All anchors in blocks of `durations` x `starts`; `bins` of features and of context.

    Rows of a block are numbered by duration, then start; blocks by start, then duration. There are
    rows of no anchor where a block reaches beyond the last start or duration.
    """

    anchors: Anchors
    bins: tuple[int, int]
    durations: int
    starts: int

    @cached_property
    def bands(self) -> list[range]:
        """The lengths of anchors in each row of blocks."""
        return [
            range(first + 1, min(first + self.durations, self.anchors.durations) + 1)
            for first in range(0, self.anchors.durations, self.durations)
        ]

    def count(self, band: range) -> int:
        """How many blocks of a band have anchors."""
        return -(-(self.anchors.snippets - band[0] + 1) // self.starts)

    @property
    def rows(self) -> int:
        return sum(map(self.size, self.bands))

    def size(self, band: range) -> int:
        """Rows of a band."""
        return self.count(band) * len(band) * self.starts

    def band(self, lengths: range) -> Band:
        """What the anchors of a band sample in an endless video."""
        rows = [_endless(length, self.bins) for length in lengths]
        first = min(low for low, _ in rows)
        last = max(low + len(weights) for low, weights in rows)
        full = np.zeros((len(rows), last - first, sum(self.bins)), np.float32)
        for row, (low, weights) in enumerate(rows):
            full[row, low - first : low - first + len(weights)] = weights
        return Band(first, full)

    def ends(self) -> np.ndarray:
        """Weights of the first and the last place that an endless video lacks, [rows, 2 * bins]."""
        snippets, parts = self.anchors.snippets, []
        for lengths in self.bands:
            starts = np.arange(self.count(lengths) * self.starts)
            full = np.zeros((len(lengths), len(starts), 2, sum(self.bins)), np.float32)
            for row, length in enumerate(lengths):
                valid = starts[: snippets - length + 1]
                full[row, : len(valid)] = self._lacking(valid, length)
            blocks = full.reshape(len(lengths), -1, self.starts, full.shape[2] * full.shape[3])
            parts.append(blocks.transpose(1, 0, 2, 3).reshape(-1, blocks.shape[3]))
        return np.concatenate(parts)

    def _lacking(self, starts: np.ndarray, length: int) -> np.ndarray:
        """[starts, 2, bins] of one length."""
        snippets = self.anchors.snippets
        begin, wide = starts - EXPANSION * length, length - 1 + 2 * EXPANSION * length
        true = np.concatenate(
            [binned(begin, wide, snippets, n).reshape(-1, snippets, n) for n in self.bins], 2
        )
        first, weights = _endless(length, self.bins)
        found = [true[:, 0].copy(), true[:, -1].copy()]
        for values, place in zip(found, (0, snippets - 1), strict=True):
            offset = place - starts - first
            inside = (offset >= 0) & (offset < len(weights))
            values[inside] -= weights[offset[inside]]
        return np.stack(found, 1)


def _endless(length: int, bins: tuple[int, int]) -> tuple[int, np.ndarray]:
    """The first place, from the start on, and weights of it and those behind, [places, bins]."""
    room = length // 2 + 2
    begin, wide = np.array([room - EXPANSION * length]), length - 1 + 2 * EXPANSION * length
    places = 2 * length + 2 * room
    full = np.concatenate([binned(begin, wide, places, n).reshape(places, n) for n in bins], 1)
    used = np.flatnonzero(full.any(1))
    return int(used[0]) - room, full[used[0] : used[-1] + 1].astype(np.float32)
