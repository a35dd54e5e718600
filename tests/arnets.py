"""A small AR-Net that decides for everything in turn, and a bundle of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.models.arnet import ArNet
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.runtime import Stream
from tests.bundles import clip
from tests.test_arnet import SIDE, tiny

ENGINES = ("onnxruntime", "litert")


def checkpoint(images: np.ndarray | None = None, seed: int = 0, **changes: object) -> Checkpoint:
    """Of weights whose decisions on the `images`, or on drawn clips, are of every kind."""
    arch = tiny(**changes)
    model = seeded_model(arch, seed)
    assert isinstance(model, ArNet)
    if model.policy is not None and model.policy.act is not None:
        seen = clip(32, SIDE, SIDE, seed=0) if images is None else images
        with torch.no_grad():
            x = torch.from_numpy(seen).permute(0, 3, 1, 2)[None] / 255
            scores = model.decide(x, given=torch.zeros(1, len(seen), dtype=torch.long)).scores
            assert scores is not None
            model.policy.act.bias -= scores.mean((0, 1))  # no action is everybody's darling
    return Checkpoint(model, default_preprocessing(arch))


@pytest.fixture(scope="session")
def arnet() -> Checkpoint:
    return checkpoint()


@pytest.fixture(scope="session")
def arnet_bundle(arnet: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `arnet`, in both formats; do not change it."""
    path = tmp_path_factory.mktemp("arnet") / "bundle"
    export(arnet, path, ExportOptions(verify=False))
    return path


def frames(count: int = 64) -> np.ndarray:
    """Several scenes, so that decisions differ."""
    scenes = [clip(8, SIDE, SIDE, seed) for seed in range(-(-count // 8))]
    return np.concatenate(scenes)[:count]


def actions_of(stream: Stream, images: np.ndarray) -> list[str]:
    return [str(prediction.action) for prediction in stream.run(images)]
