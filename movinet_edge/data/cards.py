"""Small cards with fine patterns, shown for a moment: what only a close look tells apart.

Half of every pattern is ink, so that from afar, or on a small frame, all are the same grey.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS = 12  # of a pattern, along each side

_row, _column = np.mgrid[0:CELLS, 0:CELLS]
_left = np.minimum(_column, CELLS - 1 - _column)  # from the nearer side
PATTERNS: dict[str, np.ndarray] = {
    "rows": _row // 2 % 2,
    "columns": _column // 2 % 2,
    "rising": (_row + _column) // 2 % 2,
    "falling": (_row - _column) // 2 % 2,
    "checks": (_row // 2 + _column // 2) % 2,
    "arrows": (_row + _left) // 2 % 2,
}
NOTHING = "nothing"  # ink anywhere, another pattern on every card


@dataclass(frozen=True, slots=True)
class Card:
    """A card `side` frame sides wide around `centre` (x, y), on frames `first` to `last`.

    `pattern` is 1 where there is ink, [CELLS, CELLS]; `paper` and `ink` are colours in [0, 1].
    """

    pattern: np.ndarray
    centre: tuple[float, float]
    side: float
    first: int
    last: int
    paper: np.ndarray
    ink: np.ndarray


def draw_card(name: str, frames: int, rate: float, rng: np.random.Generator) -> Card:
    """A card that is shown for a moment of a clip of `frames` frames at `rate` per second.

    Args:
        name: one of `PATTERNS`, or `NOTHING`.
    """
    if name == NOTHING:
        flat = np.arange(CELLS * CELLS) % 2
        pattern = rng.permutation(flat).reshape(CELLS, CELLS)
    else:
        pattern = PATTERNS[name]
    length = int(rate * rng.uniform(1.5, 2.0))
    first = int(rng.integers(0, frames - length))
    centre = float(rng.uniform(0.15, 0.85)), float(rng.uniform(0.15, 0.85))
    paper, ink = rng.uniform(0.8, 1, 3), rng.uniform(0, 0.2, 3)
    side = float(rng.uniform(0.28, 0.32))
    return Card(pattern, centre, side, first, first + length - 1, paper, ink)


def paint_card(video: np.ndarray, card: Card) -> None:
    """Lay a card over a video, float32 [T, size, size, 3] in [0, 1], in place."""
    size = video.shape[1]
    pixels = max(round(card.side * size), CELLS)
    cell = np.arange(pixels) * CELLS // pixels
    ink = card.pattern[cell[:, None], cell][..., None]
    face = (card.paper * (1 - ink) + card.ink * ink).astype(np.float32)
    left, top = (min(max(round(c * size - pixels / 2), 0), size - pixels) for c in card.centre)
    video[card.first : card.last + 1, top : top + pixels, left : left + pixels] = face
