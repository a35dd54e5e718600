"""Augmentation: random by the seeds of clips only, and alike for all frames of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from movinet_edge.data.augment import Augment, AugmentConfig, crop_box
from movinet_edge.data.clips import Batch


def batch_of(*frames: Tensor, seeds: Sequence[int]) -> Batch:
    return Batch(frames, torch.zeros(len(frames), dtype=torch.int64), torch.tensor(seeds))


def scene(frames: int = 3, height: int = 40, width: int = 60, seed: int = 0) -> Tensor:
    """The same random picture [T, 3, H, W] at all times."""
    chance = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (1, 3, height, width), generator=chance, dtype=torch.uint8)
    return image.expand(frames, -1, -1, -1).contiguous()


FULL = AugmentConfig(size=24, brightness=0.4, contrast=0.4, saturation=0.4)


def test_a_presentation_depends_on_its_seed_only() -> None:
    one, two = scene(seed=1), scene(height=50, width=30, seed=2)
    augment = Augment(FULL)
    both = augment(batch_of(one, two, seeds=[5, 6]))
    assert both.shape == (2, 3, 3, 24, 24)
    assert both.dtype == torch.float32
    assert both.min() >= 0
    assert both.max() <= 1
    torch.testing.assert_close(augment(batch_of(two, one, seeds=[6, 5])), both.flip(0))
    others = augment(batch_of(*[one] * 20, seeds=range(20)))
    assert len({tuple(clip.flatten().tolist()) for clip in others}) == 20
    assert torch.equal(others[5], both[0])


def test_all_frames_of_a_clip_are_changed_alike() -> None:
    for clip in Augment(FULL)(batch_of(*[scene()] * 20, seeds=range(20))):
        assert torch.equal(clip[0], clip[1])
        assert torch.equal(clip[0], clip[2])


def test_crops_are_of_the_recipe() -> None:
    chance, areas, ratios = np.random.default_rng(0), [], []
    corners = set()
    for _ in range(2000):
        top, left, height, width = crop_box(chance, 300, 300, (0.08, 1.0), (0.5, 2.0))
        assert 0 <= top <= 300 - height
        assert 0 <= left <= 300 - width
        areas.append(height * width / (300 * 300))
        ratios.append(width / height)
        corners.add((top > 0, left > 0))
    assert 0.075 < min(areas) < 0.1
    assert max(areas) > 0.9
    assert 0.49 < min(ratios) < 0.55
    assert 1.8 < max(ratios) < 2.05
    assert 0.9 < np.median(ratios) < 1.15
    assert len(corners) == 4


@pytest.mark.parametrize(
    ("size", "box"), [((10, 100), (0, 40, 10, 20)), ((100, 10), (40, 0, 20, 10))]
)
def test_crops_of_extreme_frames(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    """No shape of this area fits: the largest one of an allowed ratio, in the middle."""
    assert crop_box(np.random.default_rng(0), *size, (1.0, 1.0), (0.5, 2.0)) == box
    assert crop_box(np.random.default_rng(0), 40, 60, (1.0, 1.0), (1.5, 1.5)) == (0, 0, 40, 60)


def test_half_the_clips_are_mirrored() -> None:
    frames = scene(1, 24, 24)
    plain = frames.float() / 255
    options: dict[str, Any] = {"size": 24, "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    flips = 0
    for clip in Augment(AugmentConfig(**options))(batch_of(*[frames] * 100, seeds=range(100))):
        mirrored = torch.equal(clip, plain.flip(-1))
        assert mirrored or torch.equal(clip, plain)
        flips += mirrored
    assert 30 < flips < 70
    kept = Augment(AugmentConfig(**options, flip=False))(batch_of(*[frames] * 9, seeds=range(9)))
    assert torch.equal(kept, plain.expand(9, -1, -1, -1, -1))


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation"])
def test_colours(kind: str) -> None:
    """Each by the factor that its name promises, and by no other."""
    options: dict[str, Any] = {"size": 24, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": False}
    frames = (scene(2, 24, 24).float() / 4 + 96).byte()  # far from black and white
    plain = frames.float() / 255
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    grey = (plain * weights).sum(-3, keepdim=True)
    centre = {"brightness": torch.zeros(()), "contrast": grey.mean(), "saturation": grey}[kind]
    augment, factors = Augment(AugmentConfig(**options, **{kind: 0.5})), []
    for clip in augment(batch_of(*[frames] * 50, seeds=range(50))):
        factor = ((clip - centre) * (plain - centre)).sum() / (plain - centre).square().sum()
        torch.testing.assert_close(clip, centre + (plain - centre) * factor, atol=1e-5, rtol=0)
        factors.append(float(factor))
    assert 0.5 <= min(factors) < 0.6
    assert 1.4 < max(factors) <= 1.501


def test_batches_without_clips() -> None:
    assert len(Augment(FULL)(batch_of(seeds=[]))) == 0
