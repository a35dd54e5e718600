"""A small data set of untrimmed videos in tests: a bright square slides right or left, or rests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from movinet_edge.checkpoints.native import load_checkpoint, save_checkpoint
from movinet_edge.data.annotations import read_annotations
from movinet_edge.data.snippets import VideoFolder
from movinet_edge.train.extraction import extract
from movinet_edge.train.localization_data import extractor_of
from movinet_edge.train.localizing import localizer_start
from movinet_edge.train.parallel import World
from movinet_edge.train.recipe import Recipe, make_recipe

HERE = World(0, 1, torch.device("cpu"))
RATE, SIDE = 10, 48
LABELS = ("sliding left", "sliding right")
SPLITS = {"train": 4, "val": 2, "test": 2}
SMALL: dict[str, Any] = {
    **{"model": "tsm-tiny", "size": 32, "short_side": 36, "snippets": 12, "batch": 2},
    **{"epochs": 3, "lr": 1e-3, "warmup": 0.0, "flip": False, "crop_scale": (0.9, 1.0)},
}


def draw(path: Path, seed: int, seconds: int = 8) -> list[dict[str, object]]:
    """Write a video of so many seconds with two actions; returns its annotations."""
    chance = np.random.default_rng(seed)
    place = np.full(seconds * RATE, chance.uniform(0.2, 0.8))
    annotations: list[dict[str, object]] = []
    for half in range(2):
        start = half * seconds / 2 + chance.uniform(0.3, 1)
        end = start + chance.uniform(1.5, 2.5)
        label = int(chance.integers(2))
        a, b = int(start * RATE), int(end * RATE)
        place[a:b] = np.linspace(1 - label, label, b - a)
        place[b:] = label
        annotations.append({"segment": [start, end], "label": LABELS[label]})
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for where in place:
            image = np.full((SIDE, SIDE, 3), 60, np.uint8)
            left = int(where * (SIDE - 12))
            image[18:30, left : left + 12] = 230
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return annotations


def draw_set(folder: Path) -> Path:
    """Videos in ``folder/videos`` and their annotations, whose path is returned."""
    (folder / "videos").mkdir()
    database = {}
    for split, count in SPLITS.items():
        for number in range(count):
            name = f"{split}{number}"
            path = folder / "videos" / f"{name}.mp4"
            annotations = draw(path, seed=len(database))
            database[name] = {"subset": split, "duration": 8.0, "annotations": annotations}
    path = folder / "segments.json"
    path.write_text(json.dumps({"database": database}))
    return path


def asked(untrimmed: Path) -> tuple[str | Path, ...]:
    """The words of a command that takes the set of `draw_set`."""
    videos = untrimmed.parent / "videos"
    return "--task", "localization", "--data", untrimmed, "--videos", videos


def recipe(stage: str, **changes: Any) -> Recipe:
    return make_recipe(SMALL | {"stage": stage} | changes)


@pytest.fixture(scope="session")
def untrimmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations, their ``videos`` beside them."""
    return draw_set(tmp_path_factory.mktemp("untrimmed"))


def small_checkpoint(folder: Path) -> Path:
    """An untrained localizer."""
    save_checkpoint(localizer_start(recipe("lofi"), LABELS), folder / "a.safetensors")
    return folder / "a.safetensors"


@pytest.fixture(scope="module")
def extracted(untrimmed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, and ``features`` of all videos beside it."""
    folder = tmp_path_factory.mktemp("extracted")
    checkpoint = load_checkpoint(small_checkpoint(folder))
    videos = VideoFolder(untrimmed.parent / "videos")
    extractor = extractor_of(checkpoint, HERE.device)
    extract(extractor, read_annotations(untrimmed), videos, folder / "features")
    return folder
