"""Frames as a camera gives them (YUV 4:2:0 in planes), and what a model should see of each.

The expected values come from the definition of the colours (ITU-R BT.601 and BT.709) and from the
Python runtime's `fill`; `tests/test_android_core.py` compares the former with FFmpeg's.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from movinet_edge.bundle import Preprocessing
from movinet_edge.files import new_folder, write_npz
from movinet_edge.runtime.preprocess import Fitted

Matrix = Literal["bt601", "bt709"]
WEIGHTS: dict[Matrix, tuple[float, float]] = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


@dataclass(frozen=True)
class Case:
    """A frame of `height` x `width`, to be turned clockwise by `rotation` degrees.

    `pixel_stride` 2: both chroma planes lie in one another, as in NV12 and NV21 (`swapped`).
    `padding`: bytes at the end of each row. `shape`: the model's frame. `beyond`: values of limited
    range that it does not know, as sharpened pictures have them.
    """

    height: int
    width: int
    rotation: int = 0
    full: bool = True
    matrix: Matrix = "bt601"
    pixel_stride: int = 1
    swapped: bool = False
    padding: int = 0
    shape: tuple[int, int] = (24, 24)
    fit: str = "crop"
    crop_fraction: float = 1.0
    antialias: bool = True
    dtype: str = "float32"
    rescale: str | None = None
    smaller: tuple[int, int] | None = None
    beyond: bool = False


PLAIN = Case(48, 64)
CASES = (
    *(
        Case(height, width, rotation, full, pixel_stride=stride, padding=padding)
        for height, width in ((48, 64), (33, 47), (31, 33), (64, 40))
        for rotation in (0, 90, 180, 270)
        for full, stride, padding in ((True, 2, 16), (False, 1, 0))
    ),
    replace(PLAIN, matrix="bt709"),
    replace(PLAIN, matrix="bt709", full=False, rotation=90),
    replace(PLAIN, pixel_stride=2, swapped=True, padding=3),
    replace(PLAIN, fit="stretch", rotation=270),
    replace(PLAIN, crop_fraction=0.875, rotation=90),
    replace(PLAIN, crop_fraction=1 / 3),
    replace(PLAIN, antialias=False, rotation=180),
    replace(PLAIN, antialias=False, shape=(90, 70)),
    replace(PLAIN, shape=(100, 60), rotation=90),
    replace(PLAIN, shape=(48, 64), crop_fraction=0.5),  # taken as it is
    replace(PLAIN, shape=(64, 48), rotation=90),  # taken as it is once it is upright
    replace(PLAIN, dtype="uint8", rotation=90),
    replace(PLAIN, dtype="int8"),
    replace(PLAIN, height=1, width=1, shape=(8, 8)),
    replace(PLAIN, height=5, width=3, shape=(31, 17), rotation=270),
    replace(PLAIN, height=480, width=640, shape=(172, 172), rotation=90, pixel_stride=2),
    *(
        replace(PLAIN, rescale=rule, smaller=(15, 11), dtype=dtype)
        for rule in ("nearest", "bilinear", "area")
        for dtype in ("float32", "uint8")
    ),
    *(
        Case(height, width, rotation, False, matrix, pixel_stride=2, padding=5, beyond=beyond)
        for height, width, rotation in ((33, 47, 0), (31, 33, 90), (64, 41, 180), (47, 30, 270))
        for matrix in WEIGHTS
        for beyond in (False, True)
    ),
    replace(PLAIN, full=False, swapped=True, pixel_stride=2, padding=9, height=45, width=35),
    replace(PLAIN, full=False, beyond=True, dtype="uint8"),
)


def planes(case: Case, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random Y [H, W], U and V [H/2, W/2] in the range that is meant, uint8."""
    rng = np.random.default_rng(seed)
    low, luma, chroma = (0, 256, 256) if case.full or case.beyond else (16, 236, 241)
    half = -(-case.height // 2), -(-case.width // 2)
    y = rng.integers(low, luma, (case.height, case.width), np.uint8)
    u, v = (rng.integers(low, chroma, half, np.uint8) for _ in "uv")
    return y, u, v


def rgb(case: Case, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] uint8 by the definition; each chroma value is for a square of four pixels."""
    red, blue = WEIGHTS[case.matrix]
    green = 1 - red - blue

    def spread(plane: np.ndarray) -> np.ndarray:
        chroma = (plane.astype(np.float64) - 128) / (255 if case.full else 224)
        return chroma.repeat(2, 0).repeat(2, 1)[: case.height, : case.width]

    light = y / 255 if case.full else (y.astype(np.float64) - 16) / 219
    cb, cr = spread(u), spread(v)
    r = light + 2 * (1 - red) * cr
    b = light + 2 * (1 - blue) * cb
    g = (light - red * r - blue * b) / green
    return np.rint(np.stack([r, g, b], axis=-1).clip(0, 1) * 255).astype(np.uint8)


def expected(case: Case, image: np.ndarray) -> np.ndarray:
    """What the model's input holds, from the Python runtime."""
    height, width = case.shape
    contract = Preprocessing.model_validate(
        {"height": height, "width": width, "frame_rate": 5.0, "fit": case.fit}
        | {"crop_fraction": case.crop_fraction, "antialias": case.antialias}
        | {"rescale": case.rescale}
    )
    upright = np.ascontiguousarray(np.rot90(image, -case.rotation // 90))
    target = np.empty((*(case.smaller or case.shape), 3), case.dtype)
    Fitted(upright, contract).fill(target)
    return target


def packed(case: Case, y: np.ndarray, u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """The planes as a camera lays them into memory, 1-D, each to be read from its first byte."""

    def rows(plane: np.ndarray, pixel: int) -> np.ndarray:
        wide = np.full((plane.shape[0], plane.shape[1] * pixel + case.padding), 77, np.uint8)
        wide[:, : plane.shape[1] * pixel : pixel] = plane
        return wide

    if case.pixel_stride == 1:
        return {"y": rows(y, 1).ravel(), "u": rows(u, 1).ravel(), "v": rows(v, 1).ravel()}
    first, second = (v, u) if case.swapped else (u, v)
    both = rows(first, 2)
    both[:, 1 : second.shape[1] * 2 : 2] = second
    flat = both.ravel()
    # As Android's: the second plane begins a byte later, and both end with their last value.
    a, b = flat[: flat.size - case.padding - 1], flat[1 : flat.size - case.padding]
    u_plane, v_plane = (b, a) if case.swapped else (a, b)
    return {"y": rows(y, 1).ravel(), "u": u_plane, "v": v_plane}


def write_frames(folder: Path) -> None:
    """Write ``cases.json`` and a numbered ``.npz`` per case: ``y``, ``u``, ``v`` and ``seen``."""
    if folder.exists():
        return
    with new_folder(folder) as work:
        for number, case in enumerate(CASES):
            y, u, v = planes(case, number)
            seen = expected(case, rgb(case, y, u, v))
            write_npz(work / f"{number}.npz", **packed(case, y, u, v), seen=seen)
        (work / "cases.json").write_text(json.dumps([asdict(case) for case in CASES], indent=1))
