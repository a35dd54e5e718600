"""Videos longer than a head takes, piece by piece, as G-TAD's public code cuts THUMOS14's."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from movinet_edge.localization.conventions import THUMOS, Convention
from movinet_edge.localization.proposals import thinned
from movinet_edge.localization.segments import intersection

TAIL = 5  # a window more is made for a rest of more than this part of a window
WHOLE = 0.9  # of an action that a window to train on must have


def window_starts(snippets: int, length: int) -> tuple[int, ...]:
    """Where windows of `length` begin in so many snippets: each half a window after the last.

    A shorter video is one window, filled up with zeros.
    """
    if snippets < length:
        return (0,)
    stride = max(length // 2, 1)
    starts = list(range(0, snippets - length + 1, stride))
    if snippets - starts[-1] - length > length // TAIL:
        starts.append(snippets - length)
    return tuple(starts)


def worth_training(actions: np.ndarray, length: int) -> bool:
    """Whether a window [0, length] sees an action whole or nearly so; `actions` [M, 2] in cells."""
    seen = intersection(actions, np.array([[0.0, length]]))[:, 0]
    lengths = actions[:, 1] - actions[:, 0]
    return bool((seen > WHOLE * lengths).any())


def merged(
    windows: Iterable[tuple[float, np.ndarray, np.ndarray]], convention: Convention = THUMOS
) -> tuple[np.ndarray, np.ndarray]:
    """Segments of a whole video, best first, in cells, and their scores.

    Args:
        windows: for each its start, its proposals [P, 2] from there on, and their scores [P].
    """
    segments, scores = [np.zeros((0, 2))], [np.zeros(0)]
    for start, proposals, values in windows:
        kept, left = thinned(proposals, values, convention)
        segments.append(kept + start)
        scores.append(left)
    return thinned(np.concatenate(segments), np.concatenate(scores), convention)
