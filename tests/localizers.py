"""Small localizers, their bundles, and long videos for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.localizer import export_localizer
from movinet_edge.models.gtad_table import gtad_arch
from movinet_edge.models.localizer_table import AnyEncoder, localizer_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.models.tsm_table import tsm_arch
from movinet_edge.pattern import moving_pattern
from tests.videos import encode_video

LABELS = ["opening", "closing", "rising", "falling"]
SIDE, FRAMES, RATE, WINDOW = 32, 4, 5.0, 12
HEAD = {"snippets": WINDOW, "durations": WINDOW, "bins": 8, "context_bins": 4}


def localizer(causal: bool = False, rate: float = RATE, label: str = "activitynet") -> Checkpoint:
    """Untrained; the last layers differ enough for scores to do so."""
    size = {"resolution": SIDE, "frames": FRAMES, "rate": rate}
    made = untrained(tsm_arch("tiny", causal=causal, classes=len(LABELS), **size), label)
    head = made.model.head
    for layer in (head.localize.answer, head.start.answer, head.end.answer):
        layer.weight.data *= 20
    return made


def untrained(encoder: AnyEncoder, label: str = "activitynet") -> Checkpoint:
    arch = localizer_arch(gtad_arch(label, **HEAD), encoder, len(LABELS))
    return Checkpoint(seeded_model(arch), default_preprocessing(arch), list(LABELS))


@pytest.fixture(scope="session")
def two_way_localizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """A localizer of whole snippets and its bundle for both engines; do not change it."""
    checkpoint = localizer()
    path = tmp_path_factory.mktemp("localizer") / "two-way"
    export_localizer(checkpoint, path, ExportOptions(verify=False))
    return checkpoint, path


@pytest.fixture(scope="session")
def one_way_localizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkpoint, Path]:
    """One of steps, ONNX alone, in floats, halves and integers; do not change it."""
    checkpoint = localizer(causal=True)
    folder = tmp_path_factory.mktemp("localizer")
    for seed in range(2):
        video(folder / "videos" / f"{seed}.mp4", seconds=12, seed=seed)
    options = ExportOptions(
        formats=("onnx",),
        precisions=("fp32", "fp16", "int8"),
        calibrate=folder / "videos",
        verify=False,
        window_step=4,
    )
    export_localizer(checkpoint, folder / "one-way", options)
    return checkpoint, folder / "one-way"


def video(path: Path, seconds: int, seed: int = 1, rate: int = 10) -> Path:
    """A video in which something else happens every few seconds."""
    parts = [
        moving_pattern(min(25, seconds * rate - first), 48, 48, seed + first)
        for first in range(0, seconds * rate, 25)
    ]
    return encode_video(path, np.concatenate(parts), rate=rate)
