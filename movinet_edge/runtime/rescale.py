"""Frames made smaller between a model's scales, in the spelling that its weights were trained with.

Weights of a resize along one axis, for whoever applies them: the runtime's numpy, or PyTorch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from movinet_edge.bundle import Rescale


@lru_cache(maxsize=64)
def nearest(source: int, target: int) -> np.ndarray:
    """Which of `source` pixels each of `target` is, int64 [target]: the one at its upper left."""
    scale = np.float32(source) / np.float32(target)  # as engines compute it
    places = np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int64)
    return np.minimum(places, source - 1)


@lru_cache(maxsize=64)
def weights(source: int, target: int, rule: Rescale) -> np.ndarray:
    """Weights float32 [target, source]; every row adds up to 1.

    ``nearest``: the pixel at the upper left. ``bilinear``: between the two pixels beside the
    half-pixel centre; it does not widen when shrinking. ``area``: the mean of all pixels that are
    at least partly covered.
    """
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    if rule == "nearest":
        matrix[rows, nearest(source, target)] = 1
    elif rule == "bilinear":
        place = ((rows + 0.5) * source / target - 0.5).clip(0, source - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, source - 1)
        np.add.at(matrix, (rows, low), 1 - (place - low))
        np.add.at(matrix, (rows, high), place - low)
    else:
        for row in rows:
            first, last = row * source // target, -(-(row + 1) * source // target)
            matrix[row, first:last] = 1 / (last - first)
    return matrix.astype(np.float32)


@lru_cache(maxsize=64)
def _picked(source: tuple[int, int], target: tuple[int, int]) -> np.ndarray:
    """Which pixels of a frame of a height and width laid flat are those of a smaller one, flat."""
    (height, width), (rows, columns) = source, target
    return (nearest(height, rows)[:, None] * width + nearest(width, columns)).ravel()


def pick(frame: np.ndarray, target: np.ndarray) -> None:
    """Write a frame [H, W, 3] into `target` [h, w, 3] of the same type, by ``nearest``.

    `target` is contiguous.
    """
    assert target.flags.c_contiguous
    pixels = _picked(frame.shape[:2], target.shape[:2])
    # "clip" is the one mode that writes without a copy in between.
    frame.reshape(-1, 3).take(pixels, axis=0, out=target.reshape(-1, 3), mode="clip")


def rescale(frame: np.ndarray, height: int, width: int, rule: Rescale) -> np.ndarray:
    """A frame [H, W, 3] at another size; bytes stay bytes, rounded, and floats float32."""
    rows, columns = frame.shape[:2]
    if (rows, columns) == (height, width):
        return frame
    if rule == "nearest":
        small = np.empty((height, width, 3), frame.dtype)
        pick(frame, small)
        return small
    tall = weights(rows, height, rule) @ frame.reshape(rows, -1).astype(np.float32)
    # One large product instead of one for each row.
    planes = tall.reshape(height, columns, 3).transpose(0, 2, 1).reshape(-1, columns)
    small = (planes @ weights(columns, width, rule).T).reshape(height, 3, width).transpose(0, 2, 1)
    return np.rint(small).astype(np.uint8) if frame.dtype == np.uint8 else small
