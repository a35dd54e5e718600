"""A generated video, for whatever must run without footage: golden streams, demos, tests."""

from __future__ import annotations

import numpy as np


def moving_pattern(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """A generated video, uint8 [frames, height, width, 3]: textures that drift, turn and blink.

    Smooth enough to resemble footage, different in every frame, the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    time = np.arange(frames)[:, None, None] / 8
    video = np.full((frames, height, width, 3), 0.5, np.float32)
    for _ in range(6):
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(-3, 3)
        pitch = rng.uniform(6, 40)
        wave = np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + speed * time * 2 * np.pi)
        video += 0.12 * wave[..., None] * rng.uniform(-1, 1, 3)
    for _ in range(3):
        cx, cy = (0.5 + 0.4 * np.sin(rng.uniform(1, 4) * time + rng.uniform(0, 6)) for _ in "xy")
        blob = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) * rng.uniform(30, 200)))
        video += 0.5 * blob[..., None] * rng.uniform(-1, 1, 3)
    return (video.clip(0, 1) * 255).astype(np.uint8)
