"""Preprocessing equals the references it names: Pillow with, PyTorch without antialiasing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from movinet_edge.bundle import Preprocessing
from movinet_edge.runtime.preprocess import fill, region, resize
from movinet_edge.runtime.video import read_frames

SIZES = [((240, 320), (172, 172)), ((97, 131), (64, 64)), ((1080, 1920), (57, 101))]
SIZES += [((30, 45), (172, 172)), ((64, 64), (64, 64)), ((5, 3), (31, 17)), ((1, 1), (8, 8))]
SIZES += [((50, 400), (33, 70))]  # enlarged in one direction at most


def contract(height: int, width: int, **changes: object) -> Preprocessing:
    record = {"height": height, "width": width, "frame_rate": 5.0, **changes}
    return Preprocessing.model_validate(record)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pillow(frame: np.ndarray, how: Preprocessing) -> np.ndarray:
    """Pillow's filter in float32 (mode F, one channel at a time), on the part that is seen."""
    top, left, height, width = region(how, *frame.shape[:2])
    box = (left, top, left + width, top + height)
    size = (how.width, how.height)
    channels = [
        Image.fromarray(frame[..., c].astype(np.float32)).resize(
            size, Image.Resampling.BILINEAR, box
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_antialiased_resize_is_pillows(
    source: tuple[int, int], target: tuple[int, int], fit: str
) -> None:
    frame, how = noise(*source), contract(*target, fit=fit)
    np.testing.assert_allclose(resize(frame, how), pillow(frame, how), atol=0.01)


@pytest.mark.parametrize("fraction", [0.875, 0.5, 1 / 3])
@pytest.mark.parametrize("source", [(97, 131), (240, 320), (33, 20)])
def test_crop_fraction_sees_the_centre(source: tuple[int, int], fraction: float) -> None:
    frame, how = noise(*source), contract(40, 40, crop_fraction=fraction)
    np.testing.assert_allclose(resize(frame, how), pillow(frame, how), atol=0.01)


def test_resize_of_bytes_is_pillows_within_a_level(shared: Callable[[str], Path]) -> None:
    """Pillow rounds bytes after each direction; ours rounds once."""
    frame = next(read_frames(shared("data/clips/mma_test.mp4"), 5)).image
    for height, width in ((172, 172), (129, 257), (500, 501)):
        how = contract(height, width, fit="stretch")
        expected = Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)
        assert np.abs(resize(frame, how) - np.asarray(expected, np.float32)).max() <= 1.0


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_plain_resize_is_half_pixel_bilinear(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    frame, how = noise(*source), contract(*target, fit="stretch", antialias=False)
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(planes, target, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(resize(frame, how), expected[0].permute(1, 2, 0).numpy(), atol=0.05)


@pytest.mark.parametrize(("source", "target"), [((120, 200), (30, 30)), ((120, 60), (90, 90))])
def test_plain_crop_is_a_crop_then_a_resize(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    """Without the wider filter no pixel outside a whole-pixel crop weighs when shrinking."""
    frame, how = noise(*source), contract(*target, antialias=False)
    top, left, height, width = (int(x) for x in region(how, *source))
    part = frame[top : top + height, left : left + width]
    expected = resize(part, contract(*target, fit="stretch", antialias=False))
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(resize(frame, how)[inner], expected[inner], atol=0.01)


def test_region() -> None:
    assert region(contract(172, 172), 240, 320) == (0, 40, 240, 240)
    assert region(contract(172, 172), 320, 240) == (40, 0, 240, 240)
    assert region(contract(100, 200), 300, 300) == (75, 0, 150, 300)
    assert region(contract(172, 172, crop_fraction=0.5), 240, 320) == (60, 100, 120, 120)
    assert region(contract(172, 172, fit="stretch"), 240, 320) == (0, 0, 240, 320)
    assert region(contract(10, 10), 15, 20) == (0, 2.5, 15, 15)


def filled(target: np.ndarray, frame: np.ndarray, how: Preprocessing) -> np.ndarray:
    fill(target, frame, how)
    return target


@pytest.mark.parametrize("side", [48, 64, 90])
def test_bytes_and_floats_are_the_same_frame(side: int) -> None:
    frame, how = noise(side, side), contract(64, 64)
    expected = filled(np.empty((64, 64, 3), np.float32), frame, how)
    assert expected.max() <= 1 + 1e-6
    assert expected.min() >= 0
    for dtype, tolerance in ((np.float32, 1e-6), (np.float64, 1e-6), (np.float16, 1e-3)):
        as_float = (frame / 255).astype(dtype)
        given = filled(np.empty((64, 64, 3), np.float32), as_float, how)
        np.testing.assert_allclose(given, expected, atol=tolerance)


@pytest.mark.parametrize("side", [48, 64, 90])
def test_byte_inputs_are_rounded(side: int) -> None:
    frame, how = noise(side, side), contract(64, 64)
    exact = frame if side == 64 else resize(frame, how)
    given = filled(np.empty((64, 64, 3), np.uint8), frame, how)
    assert np.array_equal(given, np.rint(exact).astype(np.uint8))
    from_float = filled(np.empty((64, 64, 3), np.uint8), (frame / 255).astype(np.float32), how)
    # Halves may round either way.
    assert np.abs(from_float.astype(int) - given).max() <= (0 if side == 64 else 1)
    assert np.mean(from_float != given) < 0.01
    loud = np.full((side, side, 3), 1.5, np.float32)
    assert np.all(filled(np.empty((64, 64, 3), np.uint8), loud, how) == 255)


def test_frames_without_contiguous_memory() -> None:
    frame, how = noise(64, 80), contract(32, 32)
    flipped = frame[:, ::-1]
    expected = resize(np.ascontiguousarray(flipped), how)
    np.testing.assert_allclose(resize(flipped, how), expected, atol=1e-4)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.int32),
        np.zeros((8, 8, 3), bool),
        np.zeros((8, 8, 3), np.complex64),
    ],
    ids=lambda frame: f"{frame.dtype}{list(frame.shape)}",
)
def test_what_is_no_frame_is_refused(frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a frame is"):
        fill(np.empty((8, 8, 3), np.float32), frame, contract(8, 8))
