"""What evaluations are tested on: tiny models, a folder of videos, and what a model finds there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.data.clips import Clip, EvalVideos
from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.train.evaluate import EvalRecord, evaluate_model
from movinet_edge.train.protocols import EvalProtocol, TorchPredictor
from tests.videos import encode_video

CPU = torch.device("cpu")
SIDE = 64
LABELS = ["bake", "cut", "dig", "eat", "fly", "go"]
# Of the videos, in frames at the model's 5 per second.
LENGTHS = (7, 12, 5, 9, 16, 6, 11)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Frames are so small that threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(causal: bool = True, classes: int = len(LABELS)) -> MoViNet:
    return seeded_model(published_arch("a0", causal, classes=classes, resolution=SIDE))


@pytest.fixture(scope="session")
def stream_model() -> MoViNet:
    return seeded()


@pytest.fixture(scope="session")
def base_model() -> MoViNet:
    return seeded(causal=False)


def video(frames: int, seed: int = 0) -> Tensor:
    """[frames, 3, 64, 64] in [0, 1]."""
    return torch.from_numpy(moving_pattern(frames, SIDE, SIDE, seed)).permute(0, 3, 1, 2) / 255


def predictor(model: MoViNet, name: Any, *numbers: int) -> TorchPredictor:
    return TorchPredictor(model, (SIDE, SIDE), EvalProtocol(name, *numbers), CPU)


def write_frames(path: Path, frames: int, seed: int) -> None:
    """Twice as many pictures, at twice the model's rate."""
    encode_video(path, moving_pattern(2 * frames, 72, 96, seed), rate=10)


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, of which one has two videos in ``test``; one video in ``train``."""
    root = tmp_path_factory.mktemp("videos")
    for number, length in enumerate(LENGTHS):
        label = LABELS[number % len(LABELS)]
        write_frames(root / "test" / label / f"{number}.mp4", length, number)
    write_frames(root / "train" / "cut" / "0.mp4", 5, 99)
    return root


@pytest.fixture(scope="session")
def videos(video_folder: Path) -> VideoSet:
    return read_video_set(video_folder, "test", LABELS)


@pytest.fixture(scope="session")
def stream_checkpoint(tmp_path_factory: pytest.TempPathFactory, stream_model: MoViNet) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a0.safetensors"
    save_checkpoint(Checkpoint(stream_model, contract(stream_model), LABELS), path)
    return path


def contract(model: MoViNet) -> Any:
    return default_preprocessing(model.arch)


@pytest.fixture(scope="session")
def clips(videos: VideoSet, stream_model: MoViNet) -> list[Clip]:
    """The videos, decoded."""
    data = EvalVideos(videos, contract(stream_model))
    items = [data[i] for i in range(len(data))]
    return [item for item in items if isinstance(item, Clip)]


@pytest.fixture(scope="session")
def streamed(videos: VideoSet, stream_model: MoViNet) -> EvalRecord:
    """What the stream protocol finds."""
    return evaluate_model(stream_model, contract(stream_model), videos, EvalProtocol("stream"))
