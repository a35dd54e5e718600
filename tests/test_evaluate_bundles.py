"""Evaluation of bundles: they answer as their checkpoints, also on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.data.clips import Clip
from movinet_edge.data.listing import VideoSet
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.files import pack
from movinet_edge.models.movinet import MoViNet
from movinet_edge.runtime.stream import Stream
from movinet_edge.train.evaluate import EvalRecord, evaluate
from movinet_edge.train.protocols import BundlePredictor, EvalProtocol, TorchPredictor
from tests.commands import Command, refusal
from tests.evaluation import CPU, LABELS, SIDE, contract, predictor, video

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, stream_model: MoViNet) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "a0"
    held = Checkpoint(stream_model, contract(stream_model), LABELS)
    export(held, path, ExportOptions(verify=False))
    return path


@pytest.fixture(scope="module")
def clip_bundle(tmp_path_factory: pytest.TempPathFactory, base_model: MoViNet) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "base"
    held = Checkpoint(base_model, contract(base_model), LABELS)
    export(held, path, ExportOptions(("onnx",), form="clip", clip_frames=8, verify=False))
    return path


@pytest.mark.parametrize("backend", ["torch", "onnxruntime", "litert", "litert-interpreter"])
def test_a_bundle_answers_as_its_checkpoint(
    bundle: Path,
    stream_model: MoViNet,
    videos: VideoSet,
    clips: list[Clip],
    streamed: EvalRecord,
    backend: str,
) -> None:
    with Stream(bundle, backend) as stream:
        for protocol in (
            EvalProtocol("stream"),
            EvalProtocol("clip", 4),
            EvalProtocol("multi-clip", 4, 2),
        ):
            ours = BundlePredictor(stream, protocol)
            theirs = TorchPredictor(stream_model, (SIDE, SIDE), protocol, CPU)
            for clip in clips[:3]:
                one, two = (p.predict(clip.frames) for p in (ours, theirs))
                torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-3)
                assert ours.macs(len(clip.frames)) == theirs.macs(len(clip.frames))
        assert ours.classes == 6
        record = evaluate(
            BundlePredictor(stream, EvalProtocol("stream")), videos, contract(stream_model)
        )
    assert (record.top1, record.confusion) == (streamed.top1, streamed.confusion)
    assert record.macs_per_video == streamed.macs_per_video
    assert record.state_bytes == streamed.state_bytes
    assert record.peak_memory_bytes is None
    assert record.engine.startswith(backend)


def test_the_default_clip_of_a_bundle(bundle: Path) -> None:
    with Stream(bundle, "onnxruntime") as stream:
        assert BundlePredictor(stream, EvalProtocol("clip")).protocol.frames == 50


def test_a_bundle_of_clips(clip_bundle: Path, base_model: MoViNet) -> None:
    with Stream(clip_bundle, "onnxruntime") as stream:
        for name in ("clip", "multi-clip"):
            ours = BundlePredictor(stream, EvalProtocol(name, None, 3))  # type: ignore[arg-type]
            theirs = predictor(base_model, name, 8, 3)
            for frames in (video(20), video(8)):
                one, two = ours.predict(frames), theirs.predict(frames)
                torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-3)
                assert ours.macs(len(frames)) == theirs.macs(len(frames))
            # Shorter: the last frame is repeated.
            short = video(5)
            full = torch.cat([short, short[-1:].expand(3, -1, -1, -1)])
            two = theirs.predict(full)
            torch.testing.assert_close(ours.predict(short), two, atol=2e-3, rtol=1e-3)
            assert ours.macs(5) == theirs.macs(8)
        with pytest.raises(BadInput, match=r"whole clips of 8 frames and does not stream; use --p"):
            BundlePredictor(stream, EvalProtocol("stream"))
        with pytest.raises(BadInput, match="clips of exactly 8 frames, not 4; leave out --frames"):
            BundlePredictor(stream, EvalProtocol("clip", 4))


def test_a_plan_that_runs_rarely(bundle: Path) -> None:
    late = Bundle(bundle)
    step = late.manifest.plan.steps[0].model_copy(update={"every": 9, "offset": 8})
    plan = late.manifest.plan.model_copy(update={"steps": (step,)})
    late.manifest = late.manifest.model_copy(update={"plan": plan})
    with Stream(late, "onnxruntime") as stream:
        ours = BundlePredictor(stream, EvalProtocol("stream"))
        assert ours.predict(video(9)).shape == (6,)
        assert ours.macs(9) * 2 == ours.macs(18) == 2 * late.manifest.graphs[0].macs
        clip = BundlePredictor(stream, EvalProtocol("clip")).protocol
        assert clip.frames == 9 * 50  # so many runs
        with pytest.raises(BadInput, match="gives no answer within 8 frames; use longer videos"):
            ours.predict(video(8))


def test_a_bundle_on_the_command_line(
    call: Command, bundle: Path, video_folder: Path, stream_checkpoint: Path, tmp_path: Path
) -> None:
    zipped, target = tmp_path / "b.zip", tmp_path / "x.json"
    pack(bundle, zipped)
    found = []
    for source in (bundle, zipped, stream_checkpoint):
        code, out, err = call(
            "evaluate", source, "--data", video_folder, "--workers", 0, "--json", target
        )
        assert code == 0, err
        assert ("unknown" in out) == (source != stream_checkpoint)
        assert set(err.splitlines()) <= {f"evaluate: {i} of 7" for i in range(1, 8)}
        found.append(json.loads(target.read_text())["confusion"])
    assert found[0] == found[1] == found[2]


def test_sources_that_cannot_be_evaluated(
    call: Command,
    stream_checkpoint: Path,
    bundle: Path,
    clip_bundle: Path,
    video_folder: Path,
    tmp_path: Path,
    base_model: MoViNet,
) -> None:
    data = "--data", video_folder
    assert "there is no checkpoint at" in refusal(
        call("evaluate", tmp_path / "no.safetensors", *data)
    )
    assert "there is no bundle at" in refusal(call("evaluate", tmp_path / "no.zip", *data))
    assert "there is no data set at" in refusal(
        call("evaluate", stream_checkpoint, "--data", tmp_path / "no")
    )
    said = refusal(call("evaluate", bundle, *data, "--device", "cuda"))
    assert said == "bundles run on the CPU; leave out --device"
    assert "unknown backend 'nope'" in refusal(call("evaluate", bundle, *data, "--backend", "nope"))
    assert "use --protocol clip" in refusal(call("evaluate", clip_bundle, *data))
    path = tmp_path / "base.safetensors"
    save_checkpoint(Checkpoint(base_model, contract(base_model)), path)
    said = refusal(call("evaluate", path, *data))
    assert said == "movinet-a0-base sees whole clips and does not stream; use --protocol clip"
