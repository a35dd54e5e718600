"""The segments that a localization head scores: every start and every length that fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class Anchors:
    """All segments of 1 to `durations` cells that lie within `snippets` cells.

    A map of scores is [durations, snippets], row d being the anchors of d + 1 cells and column s
    those that begin at cell s (G-TAD's and BMN's layout). Not all of it is valid: an anchor must
    end within the grid. The N valid ones are numbered as they come in the map, by length first.
    """

    snippets: int
    durations: int

    def __post_init__(self) -> None:
        if not 1 <= self.durations <= self.snippets:
            raise ValueError(f"no {self.durations} durations in {self.snippets} snippets")

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def places(self) -> np.ndarray:
        """Where the anchors are in the flattened map, int64 [N]."""
        rows, columns = np.indices((self.durations, self.snippets))
        return np.flatnonzero(rows + columns < self.snippets)

    @cached_property
    def starts(self) -> np.ndarray:
        """The cell in which each begins, int64 [N]."""
        return self.places % self.snippets

    @cached_property
    def lengths(self) -> np.ndarray:
        """The cells that each covers, 1 and more, int64 [N]."""
        return self.places // self.snippets + 1

    @cached_property
    def segments(self) -> np.ndarray:
        """Start and end in cells, float64 [N, 2]."""
        return np.stack([self.starts, self.starts + self.lengths], 1).astype(np.float64)

    def as_map(self, rows: np.ndarray) -> np.ndarray:
        """Values of anchors [..., N] -> [..., durations, snippets], 0 where there is no anchor."""
        filled = np.zeros((*rows.shape[:-1], self.durations * self.snippets), rows.dtype)
        filled[..., self.places] = rows
        return filled.reshape(*rows.shape[:-1], self.durations, self.snippets)

    def as_rows(self, values: np.ndarray) -> np.ndarray:
        """A map [..., durations, snippets] -> its anchors' values [..., N]."""
        return values.reshape(*values.shape[:-2], -1)[..., self.places]
