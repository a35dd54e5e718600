"""From a decoded RGB frame to a model's input, exactly as the bundle's contract says."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from movinet_edge.bundle import Preprocessing
from movinet_edge.runtime.rescale import pick, rescale

BYTE = np.float32(1 / 255)


@lru_cache(maxsize=32)
def resize_matrix(
    source: int, target: int, start: float, length: float, antialias: bool
) -> np.ndarray:
    """Weights [target, source] of a bilinear resize of `length` pixels from `start` on.

    Half-pixel centres; with `antialias` the triangle widens by the shrinking factor. Weights
    outside the frame are left out and the rest normalised, as TensorFlow and Pillow do.
    """
    scale = length / target
    radius = max(scale, 1.0) if antialias else 1.0
    centre = start + (np.arange(target) + 0.5) * scale
    if not antialias:
        centre = centre.clip(0.5, source - 0.5)
    distance = np.abs(np.arange(source) + 0.5 - centre[:, None]) / radius
    weights = np.maximum(0.0, 1.0 - distance)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def region(
    contract: Preprocessing, height: int, width: int, place: float = 0.5
) -> tuple[float, float, float, float]:
    """The part of a frame that the model sees: top, left, height, width in pixels.

    `place` along the side that has more to spare: 0 is its beginning, 1 its end.
    """
    if contract.fit == "stretch":
        return 0.0, 0.0, float(height), float(width)
    aspect = contract.width / contract.height
    seen_height = min(height, width / aspect) * contract.crop_fraction
    seen_width = seen_height * aspect
    below, beside = height - seen_height, width - seen_width
    down, across = (0.5, place) if beside >= below else (place, 0.5)
    return below * down, beside * across, seen_height, seen_width


def _reach(start: float, length: float, target: int, source: int) -> tuple[int, int]:
    """The pixels that can weigh in a resize of `length` pixels from `start` to `target`."""
    radius = int(np.ceil(max(length / target, 1.0)))
    return max(int(start) - radius, 0), min(int(np.ceil(start + length)) + radius, source)


def resize(frame: np.ndarray, contract: Preprocessing, place: float = 0.5) -> np.ndarray:
    """Fit a frame [H, W, 3] to the contract's size; uint8 or float in, float32 out, same range."""
    height, width = frame.shape[:2]
    top, left, seen_height, seen_width = region(contract, height, width, place)
    # Cut to the pixels that the filter reaches first: the matrices shrink with the region.
    y0, y1 = _reach(top, seen_height, contract.height, height)
    x0, x1 = _reach(left, seen_width, contract.width, width)
    part = frame[y0:y1, x0:x1].astype(np.float32)
    rows = resize_matrix(y1 - y0, contract.height, top - y0, seen_height, contract.antialias)
    columns = resize_matrix(x1 - x0, contract.width, left - x0, seen_width, contract.antialias)
    tall = (rows @ part.reshape(y1 - y0, -1)).reshape(contract.height, x1 - x0, 3)
    return np.matmul(columns, tall)


def fill(
    target: np.ndarray, frame: np.ndarray, contract: Preprocessing, place: float = 0.5
) -> None:
    """Write a frame [H, W, 3] (uint8, or float in [0, 1]) into an input buffer [h, w, 3].

    `place`: where the contract's rectangle lies, as `region` takes it.

    The buffer is float32, in [0, 1]; uint8; or int8, which is bytes less 128.

    Raises:
        ValueError: the frame is not such an array.
    """
    if frame.shape == target.shape and target.dtype == np.float32:
        # First and short: every frame of a camera that was set up well comes this way.
        if frame.dtype == np.uint8:
            np.multiply(frame, BYTE, out=target)
            return
        if frame.dtype == np.float32:
            np.copyto(target, frame)
            return
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"a frame is an RGB array [H, W, 3], not {list(frame.shape)}")
    is_bytes = frame.dtype == np.uint8
    if not is_bytes and frame.dtype.kind != "f":
        raise ValueError(f"a frame is uint8 or float in 0..1, not {frame.dtype}")
    if frame.shape != target.shape:
        frame = resize(frame, contract, place)
    if target.dtype == np.float32:
        if is_bytes:
            np.multiply(frame, BYTE, out=target)
        else:
            np.copyto(target, frame, casting="same_kind")
        return
    if frame.dtype != np.uint8:
        frame = np.rint(frame if is_bytes else frame * 255).clip(0, 255)
    np.copyto(target.view(np.uint8), frame, casting="unsafe")
    if target.dtype == np.int8:
        target ^= -128


class Fitted:
    """One frame for graphs of several scales, fitted to the contract once, and only if asked for.

    Args:
        frame: as `fill` takes it.
    """

    def __init__(self, frame: np.ndarray, contract: Preprocessing):
        self._frame, self._contract = frame, contract
        self._whole: np.ndarray | None = None

    def fill(self, target: np.ndarray) -> None:
        """Write it into an input buffer [h, w, 3] of any of the scales, as `fill` does.

        Raises:
            ValueError: as `fill`.
        """
        contract = self._contract
        if target.shape[:2] == (contract.height, contract.width):
            fill(target, self._frame if self._whole is None else self._whole, contract)
            return
        assert contract.rescale is not None
        shown = self._shown()
        if contract.rescale == "nearest" and shown.dtype == target.dtype:
            pick(shown, target)
            return
        height, width = target.shape[:2]
        fill(target, rescale(shown, height, width, contract.rescale), contract)

    def _shown(self) -> np.ndarray:
        """At the contract's size: bytes where nothing is lost by that, otherwise floats."""
        frame, contract = self._frame, self._contract
        shape = (contract.height, contract.width, 3)
        exact = frame.dtype == np.float32 or (
            frame.dtype == np.uint8 and contract.rescale == "nearest"
        )
        if exact and frame.shape == shape:
            return frame
        if self._whole is None:
            self._whole = np.empty(shape, np.float32)
            fill(self._whole, frame, contract)
        return self._whole
