"""Members of temporal ensembles, and what an ensemble of them should answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.pattern import moving_pattern

SIDE, CLASSES, RATE = 64, 7, 2.5


def member(seed: int, causal: bool = True, **arch: object) -> Checkpoint:
    """An untrained member at half of 5 frames per second."""
    model = seeded_model(published_arch("a0", causal, **{"classes": CLASSES, **arch}), seed)
    contract = default_preprocessing(model.arch)
    size = {"height": SIDE, "width": SIDE, "frame_rate": RATE}
    return Checkpoint(model, contract.model_copy(update=size))


@pytest.fixture(scope="session")
def members() -> list[Checkpoint]:
    return [member(0), member(1)]


def clip(count: int, seed: int = 3) -> np.ndarray:
    return moving_pattern(count, SIDE, SIDE, seed)


def expected_logits(members: Sequence[Checkpoint], frames: np.ndarray) -> np.ndarray:
    """From the definition: the mean of the newest answers of those that have answered."""
    answers = []
    for turn, one in enumerate(members):
        own = frames[turn :: len(members)]
        tensor = torch.from_numpy(own.copy()).permute(0, 3, 1, 2)[None].float() / 255
        with torch.inference_mode():
            answers.append(one.model(tensor)[0][0].numpy())
    rows = []
    for n in range(len(frames)):
        answered = range(min(n + 1, len(members)))
        rows.append(np.mean([answers[i][(n - i) // len(members)] for i in answered], axis=0))
    return np.stack(rows)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-4 * expected.std()
