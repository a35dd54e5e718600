"""The golden stream: a short input with the outputs the PyTorch models give for it."""

from __future__ import annotations

from pathlib import Path

from movinet_edge.bundle import Plan, Preprocessing
from movinet_edge.export.reference import Models, reference_logits
from movinet_edge.files import write_npz
from movinet_edge.pattern import moving_pattern

STEPS = 32


def write_golden(
    path: Path, models: Models, plan: Plan, contract: Preprocessing, clip: int, steps: int
) -> None:
    """Write ``golden.npz`` with `frames` (uint8 [steps, H, W, 3]) and `logits`.

    `models` and `clip` are as in `reference_logits`.
    """
    frames = moving_pattern(steps, contract.height, contract.width)
    write_npz(path, frames=frames, logits=reference_logits(models, plan, clip, frames))
