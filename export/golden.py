"""The golden stream: a short input with the outputs the PyTorch model gives for it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import torch

from movinet_edge.bundle import Preprocessing
from movinet_edge.models.movinet import MoViNet

STEPS = 32
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


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


def reference_logits(model: MoViNet, frames: np.ndarray) -> np.ndarray:
    """The PyTorch *clip* forward: frames uint8 [T, H, W, 3] -> logits [T or 1, classes]."""
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() * (1 / 255)
    with torch.inference_mode():
        logits, _ = model(clip)
    return logits[0].numpy()


def write_golden(model: MoViNet, contract: Preprocessing, path: Path, steps: int = STEPS) -> None:
    """Write ``golden.npz`` with `frames` (uint8 [T, H, W, 3]) and `logits`."""
    frames = moving_pattern(steps, contract.height, contract.width)
    write_npz(path, frames=frames, logits=reference_logits(model, frames))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """``np.savez_compressed`` without the time of day: the same arrays give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array)
            info = zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, buffer.getvalue())
