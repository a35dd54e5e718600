"""From clips to a model's training input: random crops, mirroring and colours."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from movinet_edge.bundle import Record
from movinet_edge.data.clips import Batch

# How often a crop's shape is drawn before the largest allowed one is taken.
TRIES = 10
# Brightness of red, green and blue (ITU-R BT.601).
GREY = (0.299, 0.587, 0.114)

Box = tuple[int, int, int, int]


class AugmentConfig(Record):
    """What varies between presentations of a video.

    A crop has a part of the frame's area within `scale` and a width by height within `ratio`, and
    is resized to `size` x `size`; `flip` mirrors every other one. `brightness`, `contrast` and
    `saturation` of x multiply with a factor from 1 - x to 1 + x; 0 leaves them.
    """

    size: int = Field(ge=1)
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)


def crop_box(
    chance: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Box:
    """A random part of a frame: top, left, height, width in pixels.

    The ratio is drawn from the logarithms, so that tall and wide are alike. Where no drawn shape
    fits, it is the largest centred one whose ratio is allowed.
    """
    area, logarithms = height * width, np.log(ratio)
    for _ in range(TRIES):
        target = area * chance.uniform(*scale)
        aspect = math.exp(chance.uniform(*logarithms))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = chance.integers(height - h + 1), chance.integers(width - w + 1)
            return int(top), int(left), h, w
    h = max(min(height, round(width / ratio[0])), 1)
    w = max(min(width, round(height * ratio[1])), 1)
    return (height - h) // 2, (width - w) // 2, h, w


class Augment:
    """Random crops, mirroring and colours; all frames of a clip alike, from its seed only."""

    def __init__(self, config: AugmentConfig):
        self.config = config

    def __call__(self, batch: Batch, device: torch.device | str | None = None) -> Tensor:
        """A batch as float32 [B, T, 3, size, size] in [0, 1], computed on `device`."""
        clips = [
            self._clip(frames.to(device, non_blocking=True), int(seed))
            for frames, seed in zip(batch.frames, batch.seeds, strict=True)
        ]
        side = self.config.size
        return torch.stack(clips) if clips else torch.zeros(0, 0, 3, side, side)

    def _clip(self, frames: Tensor, seed: int) -> Tensor:
        config, chance = self.config, np.random.default_rng(seed)
        height, width = frames.shape[-2:]
        box = crop_box(chance, height, width, config.scale, config.ratio)
        clip = _cut(frames, box, config.size)
        mirrored = chance.random() < 0.5
        if config.flip and mirrored:
            clip = clip.flip(-1)
        strengths = config.brightness, config.contrast, config.saturation
        factors = [chance.uniform(max(0.0, 1 - x), 1 + x) for x in strengths]
        return _colour(clip, *factors) if any(strengths) else clip


def _cut(frames: Tensor, box: Box, size: int) -> Tensor:
    """A part of [T, 3, H, W] as float32 in [0, 1] [T, 3, size, size] (bilinear, antialiased)."""
    top, left, height, width = box
    part = frames[..., top : top + height, left : left + width]
    values = part.float() / 255 if part.dtype == torch.uint8 else part
    if (height, width) == (size, size):
        return values
    # Rounding may lead beyond 1.
    return F.interpolate(values, (size, size), mode="bilinear", antialias=True).clamp_(0, 1)


def _colour(clip: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Multiply the brightness, the distance from the clip's mean grey, and from each grey."""
    clip = (clip * brightness).clamp_(0, 1)
    clip = torch.lerp(_grey(clip).mean(), clip, contrast).clamp_(0, 1)
    return torch.lerp(_grey(clip), clip, saturation).clamp_(0, 1)


def _grey(clip: Tensor) -> Tensor:
    weights = torch.tensor(GREY, device=clip.device)[:, None, None]
    return (clip * weights).sum(-3, keepdim=True)
