"""The checkpoints that come with the project are small, and right for the right reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from movinet_edge.benchmarks.training_figures import motion_records
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, trained_checkpoints
from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.train.evaluate import EvalOptions, evaluate_model
from movinet_edge.train.protocols import EvalProtocol

NAME = "motion-a0-stream"
ADAPTIVE = "motion-arnet"
LIMITS = {NAME: 4_000_000, ADAPTIVE: 6_000_000}  # bytes


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> VideoSet:
    """Videos of all classes from a seed that was not trained with."""
    out = tmp_path_factory.mktemp("unseen") / "motion"
    make_motion(MotionConfig(per_class=8, size=80, seed=11), out)
    return read_video_set(out)


@pytest.fixture(scope="module")
def trained() -> Checkpoint:
    return read_checkpoint(Path(NAME))


def top1(
    trained: Checkpoint, videos: VideoSet, protocol: EvalProtocol, shuffle: bool = False
) -> float:
    options = EvalOptions(shuffle=shuffle, memory=False)
    contract = trained.preprocessing
    return evaluate_model(trained.model, contract, videos, protocol, options=options).top1


@pytest.mark.parametrize("name", trained_checkpoints())
def test_it_is_small_and_has_a_card_and_a_log(name: str) -> None:
    path, trained = trained_checkpoints()[name], read_checkpoint(Path(name))
    assert path.stat().st_size <= LIMITS[name]
    assert path.with_suffix(".md").is_file()
    assert path.with_suffix(".csv").is_file()
    assert trained.labels is not None
    assert len(trained.labels) == trained.arch.classes == 12


def test_it_knows_unseen_videos(trained: Checkpoint, unseen: VideoSet) -> None:
    assert top1(trained, unseen, EvalProtocol("stream")) >= 0.9


def test_it_needs_the_order_of_frames(trained: Checkpoint, unseen: VideoSet) -> None:
    assert top1(trained, unseen, EvalProtocol("stream"), shuffle=True) <= 0.4
    assert top1(trained, unseen, EvalProtocol("clip", 1)) <= 0.25


def test_the_adaptive_one_knows_unseen_videos_and_looks_seldom(tmp_path: Path) -> None:
    make_motion(MotionConfig(per_class=4, seed=11, variant="adaptive"), tmp_path / "motion")
    trained = read_checkpoint(Path(ADAPTIVE))
    protocol, options = EvalProtocol("uniform", 16), EvalOptions(memory=False)
    videos = read_video_set(tmp_path / "motion")
    found = evaluate_model(trained.model, trained.preprocessing, videos, protocol, options=options)
    assert found.top1 >= 0.65
    assert found.usage is not None
    assert 0 < found.usage["resnet-mini@80"] < 0.5


def test_the_committed_evaluations_keep_what_the_card_says() -> None:
    records = motion_records()
    stream, multi = records["stream"], records["base-multi-clip"]
    assert stream.top1 >= 0.95
    assert records["stream-shuffled"].top1 <= 0.4
    for name in ("litert", "onnxruntime"):
        assert abs(records[name].top1 - stream.top1) <= 0.002
    assert stream.top1 >= multi.top1
    assert stream.macs_per_video <= multi.macs_per_video / 3
    assert stream.peak_memory_bytes
    assert multi.peak_memory_bytes
    assert stream.peak_memory_bytes <= multi.peak_memory_bytes / 3
    members = [records["member-a"], records["member-b"]]
    for name in ("ensemble", "ensemble-onnxruntime", "ensemble-torch"):
        assert records[name].top1 >= max(member.top1 for member in members)
        # Per frame: the ensemble sees twice as many.
        assert records[name].macs_per_video == 2 * members[0].macs_per_video
