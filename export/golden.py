"""The golden stream: a short input with the outputs the PyTorch models give for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movinet_edge.bundle import Plan, Preprocessing
from movinet_edge.export.calibration import Stream
from movinet_edge.export.decisions import follow
from movinet_edge.export.reference import Models, reference_logits
from movinet_edge.files import write_npz
from movinet_edge.pattern import moving_pattern

STEPS = 32


def golden_frames(
    contract: Preprocessing, steps: int, streams: Sequence[Stream] = ()
) -> np.ndarray:
    """Frames uint8 [steps, H, W, 3]: a drawn scene or, after calibration, what was calibrated on.

    Integer activations hold what their videos showed; on anything else they are cut off.
    """
    if not streams:
        return moving_pattern(steps, contract.height, contract.width)
    images = np.concatenate([stream.images for stream in streams])
    return np.resize(images, (steps, *images.shape[1:]))


def write_golden(
    path: Path, models: Models, plan: Plan, frames: np.ndarray, clip: int, renewal: int = 1
) -> None:
    """Write ``golden.npz`` with `frames` (uint8 [steps, H, W, 3]) and `logits`.

    Of a model that decides also `actions` (int64 [steps]) and their `scores` [steps, actions].
    `models`, `clip` and `renewal` are as in `reference_logits`.
    """
    logits = reference_logits(models, plan, clip, frames, renewal)
    stored = {"frames": frames, "logits": logits}
    (model, *_) = models.values()
    if getattr(model.arch, "chooses", False):
        _, taken = follow(model, frames)
        stored |= {"actions": taken.numbers, "scores": taken.scores}
    write_npz(path, **stored)
