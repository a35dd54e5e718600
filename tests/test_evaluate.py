"""Evaluation: protocols, memory, counts on one process or two, and the command."""

from __future__ import annotations

import gc
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Bundle, Graph, Plan, PlanStep
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint
from movinet_edge.cli import console
from movinet_edge.cli import evaluate as command
from movinet_edge.cli import main as cli
from movinet_edge.data.clips import Broken, Clip, EvalVideos
from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.files import pack
from movinet_edge.models.movinet import MoViNet
from movinet_edge.models.movinet_table import published_arch
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime.stream import Stream
from movinet_edge.streaming.spec import describe
from movinet_edge.train.evaluate import EvalOptions, EvalRecord, evaluate, evaluate_model, shuffled
from movinet_edge.train.memory import peak_memory, weights_bytes
from movinet_edge.train.protocols import (
    BundlePredictor,
    EvalProtocol,
    TorchPredictor,
    average,
    plan_macs,
)

CPU = torch.device("cpu")
SIDE = 64
LABELS = ["bake", "cut", "dig", "eat", "fly", "go"]
# Of the videos, in frames at the model's 5 per second.
LENGTHS = (7, 12, 5, 9, 16, 6, 11)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Frames are so small that threads would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(causal: bool = True, classes: int = len(LABELS)) -> MoViNet:
    return seeded_model(published_arch("a0", causal, classes=classes, resolution=SIDE))


@pytest.fixture(scope="module")
def stream_model() -> MoViNet:
    return seeded()


@pytest.fixture(scope="module")
def base_model() -> MoViNet:
    return seeded(causal=False)


def video(frames: int, seed: int = 0) -> Tensor:
    """[frames, 3, 64, 64] in [0, 1]."""
    return torch.from_numpy(moving_pattern(frames, SIDE, SIDE, seed)).permute(0, 3, 1, 2) / 255


def predictor(model: MoViNet, name: Any, *numbers: int) -> TorchPredictor:
    return TorchPredictor(model, (SIDE, SIDE), EvalProtocol(name, *numbers), CPU)


# Protocols ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "length", "windows"),
    [
        (EvalProtocol("stream"), 9, [(0, 9)]),
        (EvalProtocol("clip", 4), 9, [(2, 6)]),
        (EvalProtocol("clip", 4), 10, [(3, 7)]),
        (EvalProtocol("clip", 1), 9, [(4, 5)]),
        (EvalProtocol("clip", 50), 9, [(0, 9)]),
        (EvalProtocol("clip"), 9, [(0, 9)]),
        (EvalProtocol("multi-clip", 4, 3), 12, [(0, 4), (4, 8), (8, 12)]),
        (EvalProtocol("multi-clip", 4, 3), 7, [(0, 4), (1, 5), (3, 7)]),
        (EvalProtocol("multi-clip", 4, 10), 5, [(0, 4), (1, 5)]),
        (EvalProtocol("multi-clip", 4, 10), 3, [(0, 3)]),
        (EvalProtocol("multi-clip", 4, 1), 9, [(2, 6)]),
    ],
)
def test_windows(protocol: EvalProtocol, length: int, windows: list[tuple[int, int]]) -> None:
    assert [(w.start, w.stop) for w in protocol.windows(length)] == windows


def test_clips_are_spread_over_the_video() -> None:
    for length in range(1, 40):
        for frames in (1, 2, 5, 39):
            for clips in (2, 3, 10):
                windows = EvalProtocol("multi-clip", frames, clips).windows(length)
                starts = [w.start for w in windows]
                assert all(w.stop - w.start == min(frames, length) for w in windows)
                assert starts[0] == 0
                assert windows[-1].stop == length
                assert len(set(starts)) == len(starts) == min(clips, max(length - frames, 0) + 1)
                gaps = np.diff(starts)
                assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_probabilities_are_averaged() -> None:
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)) * 5
    expected = logits.softmax(1).mean(0)
    torch.testing.assert_close(average(logits).softmax(0), expected)
    torch.testing.assert_close(average(logits).exp(), expected)
    assert torch.equal(average(logits[:1]), logits[0])


def test_a_stream_is_the_step_by_step_loop(stream_model: MoViNet) -> None:
    frames = video(19)
    state = None
    with torch.no_grad():
        for frame in frames:
            logits, state = stream_model(frame[None, None], state)
        whole, _ = stream_model(frames[None])
    answer = predictor(stream_model, "stream").predict(frames)
    torch.testing.assert_close(answer, logits[0, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(answer, whole[0, -1], atol=1e-4, rtol=1e-4)


def test_chunks_do_not_matter(stream_model: MoViNet) -> None:
    frames, streaming = video(19), predictor(stream_model, "stream")
    reference = streaming._logits(frames, 19)
    for chunk in (1, 3, 8, 18, 100):
        answer = streaming._logits(frames, chunk)
        torch.testing.assert_close(answer, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_clips_are_the_loop_over_windows(
    stream_model: MoViNet, base_model: MoViNet, causal: bool
) -> None:
    model, frames = stream_model if causal else base_model, video(14)
    with torch.no_grad():
        passes = [model(frames[None, s : s + 6])[0][0, -1] for s in (0, 4, 8)]
    answer = predictor(model, "clip", 6).predict(frames)
    torch.testing.assert_close(answer, passes[1])
    answer = predictor(model, "multi-clip", 6, 3).predict(frames)
    mean = torch.stack([p.softmax(0) for p in passes]).mean(0)
    torch.testing.assert_close(answer.softmax(0), mean)


@pytest.mark.parametrize("causal", [True, False])
def test_one_clip_of_everything_is_the_clip(
    stream_model: MoViNet, base_model: MoViNet, causal: bool
) -> None:
    model, frames = stream_model if causal else base_model, video(9)
    whole = predictor(model, "clip", 9).predict(frames)
    assert torch.equal(predictor(model, "multi-clip", 9, 1).predict(frames), whole)
    assert torch.equal(predictor(model, "multi-clip", 30, 10).predict(frames), whole)
    assert torch.equal(predictor(model, "clip").predict(frames), whole)  # 50 frames by default
    if causal:
        streamed = predictor(model, "stream").predict(frames)
        torch.testing.assert_close(streamed, whole, atol=1e-4, rtol=1e-4)


def test_the_default_clip_is_the_architectures(base_model: MoViNet) -> None:
    assert predictor(base_model, "clip").protocol == EvalProtocol("clip", 50, 1)
    assert predictor(base_model, "multi-clip").protocol == EvalProtocol("multi-clip", 50, 10)


def test_half_precision_is_close(stream_model: MoViNet) -> None:
    frames = video(6)
    exact = predictor(stream_model, "stream")
    half = TorchPredictor(
        stream_model, (SIDE, SIDE), EvalProtocol("stream"), CPU, amp=torch.bfloat16
    )
    one, two = exact.predict(frames), half.predict(frames)
    assert two.dtype == torch.float32
    assert 0 < (one - two).abs().max() < 0.2 * one.std()


@pytest.mark.parametrize("causal", [True, False])
def test_macs(stream_model: MoViNet, base_model: MoViNet, causal: bool) -> None:
    model = stream_model if causal else base_model

    def macs(frames: int) -> int:
        return describe(model, (SIDE, SIDE), frames).macs

    clip, many = predictor(model, "clip", 9), predictor(model, "multi-clip", 6, 4)
    for length in (1, 2, 5, 9):
        assert clip.macs(length) == macs(length)
    assert clip.macs(20) == macs(9)
    assert many.macs(20) == 4 * macs(6)
    assert many.macs(7) == 2 * macs(6)
    assert clip.state_bytes == 0
    if causal:
        stream = predictor(model, "stream")
        assert stream.macs(20) == 20 * macs(1)
        assert stream.state_bytes == describe(model, (SIDE, SIDE)).state_bytes


def test_macs_of_plans() -> None:
    def graph(name: str, macs: int, frames: int = 1) -> Graph:
        form: Any = "clip" if frames > 1 else "fresh"
        return Graph(name=name, form=form, frames=frames, macs=macs, states=(), files=())

    graphs = {g.name: g for g in (graph("a", 100), graph("b", 7), graph("c", 1000, 4))}
    steps = (PlanStep(graph="a", every=1), PlanStep(graph="b", every=3, offset=1))
    alternating = Plan(steps=steps)
    assert plan_macs(alternating, graphs, 1) == 100
    assert plan_macs(alternating, graphs, 2) == 200 + 7
    assert plan_macs(alternating, graphs, 9) == 900 + 3 * 7
    clips = Plan(steps=(PlanStep(graph="c", every=1),))
    # A first clip that is not full is completed; a later one is left out.
    assert [plan_macs(clips, graphs, n) for n in (1, 4, 7, 8)] == [1000, 1000, 1000, 2000]


def test_protocols_that_cannot_be(base_model: MoViNet) -> None:
    with pytest.raises(BadInput, match=r"sees whole clips and does not stream; use --protocol cl"):
        predictor(base_model, "stream")
    with pytest.raises(BadInput, match="unknown protocol 'strem'; choose stream, clip, multi-clip"):
        EvalProtocol("strem")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="at least 1 frame, not 0; change --frames"):
        EvalProtocol("clip", 0)
    with pytest.raises(BadInput, match="at least 1 clip, not 0; change --clips"):
        EvalProtocol("multi-clip", 4, 0)


# Memory ------------------------------------------------------------------------------------

MEGA = 4 * 1000 * 1000


def floats() -> Tensor:
    return torch.empty(1000, 1000)


def test_peak_of_known_tensors() -> None:
    def kept() -> None:
        held = [floats() for _ in range(3)]
        held.clear()

    def one_after_the_other() -> None:
        for _ in range(3):
            floats()

    def later() -> None:
        first = floats()
        del first
        second, third = floats(), floats()
        del second, third
        torch.empty(500, 1000)

    assert peak_memory(kept) == 3 * MEGA
    assert peak_memory(one_after_the_other) == MEGA
    assert peak_memory(later) == 2 * MEGA
    assert peak_memory(lambda: None) == 0


def test_what_was_there_before_does_not_count() -> None:
    old = [floats(), floats()]

    def exchange() -> None:
        old.pop()
        old.append(floats())
        old[0].zero_()

    assert peak_memory(exchange) == MEGA
    assert peak_memory(lambda: old.clear()) == 0


def test_peak_of_training_has_what_is_saved_for_the_backward_pass() -> None:
    """tanh saves its output: n layers keep n of them; without gradients two are alive."""
    start = floats().normal_().requires_grad_()

    def layers(count: int) -> Callable[[], None]:
        def run() -> None:
            x = start
            for _ in range(count):
                x = x.tanh()
            if x.requires_grad:
                x.sum().backward()
            start.grad = None

        return run

    peaks = [peak_memory(layers(n)) for n in (2, 4, 8)]
    assert peaks[1] - peaks[0] == 2 * MEGA
    assert peaks[2] - peaks[1] == 4 * MEGA
    assert 8 * MEGA < peaks[2] <= 11 * MEGA  # and the gradients under way
    with torch.no_grad():
        assert {peak_memory(layers(n)) for n in (2, 4, 8)} == {2 * MEGA}


def test_gradients_of_the_weights_count() -> None:
    net = nn.Linear(1000, 1000, bias=False)
    x = torch.zeros(1, 1000)
    peak = peak_memory(lambda: net(x).sum().backward())
    assert MEGA <= peak <= 1.01 * MEGA
    assert weights_bytes(net) == MEGA


def test_temporaries_inside_operators_count() -> None:
    """Softmax of a transposed tensor makes a contiguous copy of it first."""
    x = floats().t()
    with torch.no_grad():
        assert peak_memory(lambda: x.contiguous().softmax(1)) == 2 * MEGA
        assert peak_memory(lambda: x.softmax(1)) >= 2 * MEGA


def test_a_failure_is_passed_on() -> None:
    with pytest.raises(ZeroDivisionError):
        peak_memory(lambda: 1 / 0)
    assert peak_memory(floats) == MEGA


def test_a_streams_memory_is_flat(stream_model: MoViNet) -> None:
    long, short = video(24), video(6)
    stream = predictor(stream_model, "stream")
    peaks = [stream.peak_memory(frames) for frames in (short, long)]
    assert peaks[0] == peaks[1] is not None
    clip = predictor(stream_model, "clip", 24)
    small, large = clip.peak_memory(short), clip.peak_memory(long)
    assert small is not None
    assert large is not None
    assert large > 3.5 * small > 3.5 * peaks[0]
    assert large > long.nbytes  # the clip itself is counted
    many = predictor(stream_model, "multi-clip", 6, 4).peak_memory(long)
    assert many == pytest.approx(small, rel=0.01)


@pytest.mark.gpu
def test_peak_on_a_gpu(stream_model: MoViNet) -> None:
    def tensors() -> None:
        held = [torch.empty(1024, 1024, device="cuda") for _ in range(3)]
        held.clear()
        torch.empty(1024, 1024, device="cuda")

    torch.empty(1024, 1024, device="cuda")
    assert peak_memory(tensors, "cuda") == 3 * 4 * 1024 * 1024


# Sets of videos ----------------------------------------------------------------------------


def write_video(path: Path, frames: int, seed: int) -> None:
    """Twice as many pictures, at twice the model's rate."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for image in moving_pattern(2 * frames, 72, 96, seed):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes, of which one has two videos in ``test``; one video in ``train``."""
    root = tmp_path_factory.mktemp("videos")
    for number, length in enumerate(LENGTHS):
        label = LABELS[number % len(LABELS)]
        write_video(root / "test" / label / f"{number}.mp4", length, number)
    write_video(root / "train" / "cut" / "0.mp4", 5, 99)
    return root


@pytest.fixture(scope="module")
def videos(folder: Path) -> VideoSet:
    return read_video_set(folder, "test", LABELS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, stream_model: MoViNet) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "a0.safetensors"
    save_checkpoint(Checkpoint(stream_model, contract(stream_model), LABELS), path)
    return path


def contract(model: MoViNet) -> Any:
    return default_preprocessing(model.arch)


@pytest.fixture(scope="module")
def clips(videos: VideoSet, stream_model: MoViNet) -> list[Clip]:
    """The videos, decoded."""
    data = EvalVideos(videos, contract(stream_model))
    items = [data[i] for i in range(len(data))]
    return [item for item in items if isinstance(item, Clip)]


@pytest.fixture(scope="module")
def streamed(videos: VideoSet, stream_model: MoViNet) -> EvalRecord:
    """What the stream protocol finds."""
    return evaluate_model(stream_model, contract(stream_model), videos, EvalProtocol("stream"))


def test_counts_are_those_of_a_loop(
    stream_model: MoViNet, videos: VideoSet, clips: list[Clip]
) -> None:
    assert sorted(len(clip.frames) for clip in clips) == sorted(LENGTHS)
    with torch.no_grad():
        answers = [stream_model(clip.frames[None])[0][0, -1] for clip in clips]
    confusion = np.zeros((6, 6), int)
    for clip, answer in zip(clips, answers, strict=True):
        confusion[clip.label, int(answer.argmax())] += 1
    ranks = [
        int((answer > answer[clip.label]).sum())
        for clip, answer in zip(clips, answers, strict=True)
    ]
    steps: list[tuple[int, int]] = []
    record = evaluate_model(
        stream_model,
        contract(stream_model),
        videos,
        EvalProtocol("stream"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert record.confusion == tuple(map(tuple, confusion.tolist()))
    assert record.top1 == pytest.approx(np.mean([r < 1 for r in ranks]), abs=1e-6)
    assert record.top5 == pytest.approx(np.mean([r < 5 for r in ranks]), abs=1e-6)
    assert 0 < record.top5 < 1  # the seed was chosen so
    assert record.per_class == tuple(confusion.diagonal() / confusion.sum(1))
    assert (record.videos, record.skipped, record.missing, record.broken) == (7, 0, 0, ())
    one = describe(stream_model, (SIDE, SIDE))
    assert record.macs_per_video == round(one.macs * np.mean(LENGTHS))
    assert record.state_bytes == one.state_bytes
    assert record.weights_bytes == weights_bytes(stream_model)
    longest = max((clip.frames for clip in clips[:4]), key=len)
    peak = predictor(stream_model, "stream").peak_memory(longest)
    assert record.peak_memory_bytes == peak
    assert steps == [(i, 7) for i in range(1, 8)]


def test_a_class_without_videos_and_few_classes(folder: Path) -> None:
    model = seeded(classes=6)
    train = read_video_set(folder, "train", LABELS)
    record = evaluate_model(model, contract(model), train, EvalProtocol("clip", 3))
    assert record.videos == 1
    assert record.per_class == (None, record.top1, None, None, None, None)
    small = seeded(classes=2)
    two = VideoSet(tuple(replace(v, label=v.label % 2) for v in train.videos), ("a", "b"), folder)
    assert evaluate_model(small, contract(small), two, EvalProtocol("stream")).top5 == 1


def test_a_model_in_training_stays_as_it_was(folder: Path) -> None:
    model = seeded()
    model.train()
    model.stem.eval()  # frozen
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    train = read_video_set(folder, "train", LABELS)
    options = EvalOptions(memory=False)
    record = evaluate_model(model, contract(model), train, EvalProtocol("stream"), options=options)
    assert record.peak_memory_bytes is None
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(torch.equal(weights[k], v) for k, v in model.state_dict().items())
    train = replace(train, labels=train.labels[:-1])
    with pytest.raises(BadInput):
        evaluate_model(model, contract(model), train, EvalProtocol("stream"))
    assert model.training


def test_shuffled_frames() -> None:
    frames = torch.arange(20.0)
    once = shuffled(frames, 3, 0)
    assert torch.equal(once, shuffled(frames, 3, 0))
    assert torch.equal(once.sort().values, frames)
    assert not torch.equal(once, frames)
    assert not torch.equal(once, shuffled(frames, 3, 1))
    assert not torch.equal(once, shuffled(frames, 4, 0))
    assert torch.equal(shuffled(frames[:1], 3, 0), frames[:1])


def test_shuffled_evaluation(stream_model: MoViNet, videos: VideoSet, clips: list[Clip]) -> None:
    streaming = predictor(stream_model, "stream")
    expected = np.zeros((6, 6), int)
    for clip in clips:
        answer = streaming.predict(shuffled(clip.frames, 5, clip.index))
        expected[clip.label, int(answer.argmax())] += 1
    options = EvalOptions(shuffle=True, seed=5, memory=False)
    args = streaming, videos, contract(stream_model)
    record = evaluate(*args, options)
    assert record.confusion == tuple(map(tuple, expected.tolist()))
    assert record.seed == 5
    assert record == evaluate(*args, replace(options, workers=2))


@pytest.mark.timeout(120)
def test_workers_after_decoding_in_this_process(
    stream_model: MoViNet, videos: VideoSet, streamed: EvalRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that collects this process's decoders would wait for their threads for ever."""
    with av.open(str(videos.videos[0].path)) as container:
        frame = next(container.decode(video=0))
        frame.to_ndarray(format="rgb24")
    cycle: list[object] = [frame]
    cycle.append(cycle)
    gc.collect()  # ages it: now it stays until the next whole collection
    del cycle, frame
    get = EvalVideos.__getitem__

    def collecting(data: EvalVideos, index: int) -> Clip | Broken:
        gc.collect()
        return get(data, index)

    monkeypatch.setattr(EvalVideos, "__getitem__", collecting)
    options = EvalOptions(workers=1, memory=False)
    record = evaluate_model(
        stream_model, contract(stream_model), videos, EvalProtocol("stream"), options=options
    )
    assert record.confusion == streamed.confusion


def test_broken_videos_are_skipped(stream_model: MoViNet, videos: VideoSet, tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_text("no video")
    bad = replace(videos.videos[0], path=path)
    mixed = replace(videos, videos=(bad, *videos.videos[:3], bad))
    args = stream_model, contract(stream_model)
    record = evaluate_model(*args, mixed, EvalProtocol("stream"))
    assert (record.videos, record.skipped) == (3, 2)
    assert {b.path for b in record.broken} == {str(path)}
    good = evaluate_model(*args, replace(videos, videos=videos.videos[:3]), EvalProtocol("stream"))
    assert record.confusion == good.confusion
    with pytest.raises(BadInput, match=r"none of the 2 videos can be used \(.*broken.mp4: "):
        evaluate_model(*args, replace(videos, videos=(bad, bad)), EvalProtocol("stream"))


def test_sets_that_do_not_fit(stream_model: MoViNet, videos: VideoSet) -> None:
    args = stream_model, contract(stream_model)
    few = replace(videos, labels=videos.labels[:3])
    with pytest.raises(BadInput, match=r"has 3 classes and movinet-a0-stream 6; evaluate on"):
        evaluate_model(*args, few, EvalProtocol("stream"))
    with pytest.raises(BadInput, match="holds no videos; choose another --data or --split"):
        evaluate_model(*args, replace(videos, videos=()), EvalProtocol("stream"))
    one = seeded(classes=1)
    with pytest.raises(BadInput, match="knows one class only"):
        evaluate_model(one, contract(one), replace(videos, labels=("a",)), EvalProtocol("stream"))


# Bundles -----------------------------------------------------------------------------------


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
    export(held, path, ExportOptions(("onnx",), "clip", clip_frames=8, verify=False))
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


# The command -------------------------------------------------------------------------------

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """``run("CKPT", "--data", ...)`` -> exit code, stdout, stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        for stream in (console.out, console.err):
            stream.cache_clear()
        monkeypatch.setattr(sys, "argv", ["movinet-edge", "evaluate", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = capfd.readouterr()
        return int(left.value.code or 0), said.out, said.err

    yield call
    for stream in (console.out, console.err):
        stream.cache_clear()


def refusal(result: tuple[int, str, str]) -> str:
    code, out, err = result
    said = [x for x in err.splitlines() if x and not x.startswith(("note: ", "evaluate: "))]
    assert (code, out, len(said)) == (2, "", 1), err
    return said[0].removeprefix("error: ")


def test_the_command(
    run: Command, checkpoint: Path, folder: Path, tmp_path: Path, streamed: EvalRecord
) -> None:
    """The default split is ``test``, the default protocol ``stream``."""
    target = tmp_path / "record.json"
    target.write_text("old")
    (tmp_path / "other.json").write_text("mine")
    code, out, err = run(checkpoint, "--data", folder, "--workers", 0, "--json", target)
    assert code == 0, err
    found = json.loads(target.read_text())
    assert found == json.loads(streamed.to_json())
    assert found["splits"] == ["test"]
    assert found["videos"] == 7
    assert len(found["confusion"]) == len(found["per_class"]) == len(found["labels"]) == 6
    assert f"{streamed.top1:.1%}" in out
    for word in ("top-1", "top-5", "MACs per video", "peak memory", "stream: every frame once"):
        assert word in out
    assert err.splitlines()[-1] == "evaluate: 7 of 7"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.json", "record.json"]


def test_options_reach_the_record(
    run: Command, checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    def record(*options: str | int) -> dict[str, Any]:
        path = tmp_path / "x.json"
        common = (checkpoint, "--data", folder, "--workers", 0, "--json", path)
        code, _, err = run(*common, *options)
        assert code == 0, err
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    clip = record("--protocol", "clip", "--frames", 1, "--shuffle", "--seed", 3, "--limit", 4)
    assert (clip["protocol"], clip["frames"], clip["clips"], clip["seed"]) == ("clip", 1, 1, 3)
    assert clip["videos"] == 4
    many = record("--protocol", "multi-clip", "--frames", 4, "--clips", 3, "--limit", 2)
    assert (many["protocol"], many["frames"], many["clips"]) == ("multi-clip", 4, 3)
    assert many["seed"] is None
    other = record("--split", "train", "--threads", 1, "--device", "cpu")
    assert other["videos"] == 1


def test_a_limit_is_spread_evenly(videos: VideoSet) -> None:
    seven = videos.videos
    assert command.limited(videos, None) is videos
    assert command.limited(videos, 7) is videos
    assert command.limited(videos, 3).videos == (seven[0], seven[2], seven[4])
    assert command.limited(videos, 1).videos == seven[:1]


def test_classes_are_mapped_by_name(
    run: Command, stream_model: MoViNet, streamed: EvalRecord, folder: Path, tmp_path: Path
) -> None:
    """The labels of a checkpoint come in the order of its outputs, whatever that is."""
    turned = LABELS[2:] + LABELS[:2]
    path, target = tmp_path / "a0.safetensors", tmp_path / "x.json"
    save_checkpoint(Checkpoint(stream_model, contract(stream_model), turned), path)
    assert run(path, "--data", folder, "--workers", 0, "--json", target)[0] == 0
    found = json.loads(target.read_text())
    assert found["labels"] == turned
    rows = [streamed.confusion[LABELS.index(label)] for label in turned]
    assert found["confusion"] == [list(row) for row in rows]


def test_a_bundle_on_the_command_line(
    run: Command, bundle: Path, folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    zipped, target = tmp_path / "b.zip", tmp_path / "x.json"
    pack(bundle, zipped)
    found = []
    for source in (bundle, zipped, checkpoint):
        code, out, err = run(source, "--data", folder, "--workers", 0, "--json", target)
        assert code == 0, err
        assert ("unknown" in out) == (source != checkpoint)
        assert set(err.splitlines()) <= {f"evaluate: {i} of 7" for i in range(1, 8)}
        found.append(json.loads(target.read_text())["confusion"])
    assert found[0] == found[1] == found[2]


def test_videos_that_are_skipped_are_named_once(
    run: Command, checkpoint: Path, folder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad [red].mp4"
    bad.write_text("no video")
    lines = [f"{folder / 'test' / 'bake' / '0.mp4'} bake", f"{bad} cut", "gone.mp4 dig"]
    source = tmp_path / "list.txt"
    source.write_text("\n".join(lines) + "\n")
    code, _, err = run(checkpoint, "--data", source, "--workers", 0)
    assert code == 0, err
    notes = [line for line in err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert notes[0].startswith(f"note: {bad} is left out: ")
    assert notes[1] == f"note: 1 videos that {source} names are not there"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--frames", "4"], "a stream sees every frame; --frames needs --protocol clip or multi-"),
        (["--clips", "4"], "--clips needs --protocol multi-clip"),
        (["--protocol", "clip", "--clips", "4"], "--clips needs --protocol multi-clip"),
        (["--backend", "litert"], "--backend is for bundles; leave it out"),
        (["--split", "holdout"], "has no split 'holdout'"),
        (["--json", "."], ". is a directory; name a file for --json"),
        (["--json", "missing/x.json"], "missing/x.json cannot be written"),
        (["--protocol", "clips"], "Invalid value for '--protocol'"),
        (["--frames", "0"], "Invalid value for '--frames'"),
        (["--workers", "-1"], "Invalid value for '--workers'"),
        (["--limit", "0"], "Invalid value for '--limit'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use(
    run: Command,
    checkpoint: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refusal(run(checkpoint, "--data", folder, *options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(run: Command, checkpoint: Path, folder: Path) -> None:
    said = refusal(run(checkpoint, "--data", folder, "--device", "cuda"))
    assert said.endswith("; use --device cpu")


def test_sources_that_cannot_be_evaluated(
    run: Command,
    checkpoint: Path,
    bundle: Path,
    clip_bundle: Path,
    folder: Path,
    tmp_path: Path,
    base_model: MoViNet,
) -> None:
    data = "--data", folder
    assert "there is no checkpoint at" in refusal(run(tmp_path / "no.safetensors", *data))
    assert "there is no bundle at" in refusal(run(tmp_path / "no.zip", *data))
    assert "there is no data set at" in refusal(run(checkpoint, "--data", tmp_path / "no"))
    said = refusal(run(bundle, *data, "--device", "cuda"))
    assert said == "bundles run on the CPU; leave out --device"
    assert "unknown backend 'nope'" in refusal(run(bundle, *data, "--backend", "nope"))
    assert "use --protocol clip" in refusal(run(clip_bundle, *data))
    path = tmp_path / "base.safetensors"
    save_checkpoint(Checkpoint(base_model, contract(base_model)), path)
    said = refusal(run(path, *data))
    assert said == "movinet-a0-base sees whole clips and does not stream; use --protocol clip"


def test_classes_that_do_not_fit(run: Command, folder: Path, tmp_path: Path) -> None:
    three, path = seeded(classes=3), tmp_path / "three.safetensors"
    save_checkpoint(Checkpoint(three, contract(three)), path)
    said = refusal(run(path, "--data", folder))
    assert "has 6 classes and movinet-a0-stream 3" in said
    save_checkpoint(Checkpoint(three, contract(three), LABELS[:3]), path)
    said = refusal(run(path, "--data", folder))
    assert any(f"{label!r}" in said or f" {label}" in said for label in LABELS[3:]), said


def test_all_videos_broken(run: Command, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for label in LABELS:
        (tmp_path / "data" / label).mkdir()
        (tmp_path / "data" / label / "x.mp4").write_text("no video")
    target = tmp_path / "x.json"
    target.write_text("old")
    arguments = checkpoint, "--data", tmp_path / "data", "--workers", 0, "--json", target
    assert "none of the 6 videos" in refusal(run(*arguments))
    assert target.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "x.json"]


# Many processes ----------------------------------------------------------------------------

# Each argument is a command line.
SCRIPT = """
import shlex
import sys
from movinet_edge.cli.main import main
from movinet_edge.train.parallel import world
with world("cpu"):
    for line in sys.argv[1:]:
        sys.argv = ["movinet-edge", *shlex.split(line)]
        try:
            main()
        except SystemExit as left:
            assert not left.code, line
"""


@pytest.mark.timeout(120)
def test_two_processes_count_as_one(
    run: Command, checkpoint: Path, videos: VideoSet, tmp_path: Path
) -> None:
    """Seven videos and a broken one; and fewer videos than processes."""
    bad, script = tmp_path / "bad.mp4", tmp_path / "script.py"
    bad.write_text("no video")
    script.write_text(SCRIPT)
    rows = [f"{v.path} {LABELS[v.label]}" for v in videos.videos]
    lists = {"many": [*rows[:5], f"{bad} dig", *rows[5:]], "one": rows[:1]}
    commands = []
    for name, lines in lists.items():
        source = tmp_path / f"{name}.txt"
        source.write_text("\n".join(lines) + "\n")
        commands.append([checkpoint, "--data", source, "--workers", "0", "--shuffle", "--json"])
        assert run(*commands[-1], tmp_path / f"{name}-1.json")[0] == 0
    lines = [
        shlex.join(map(str, ["evaluate", *words, tmp_path / f"{name}-2.json"]))
        for name, words in zip(lists, commands, strict=True)
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*torchrun, "--nproc_per_node", "2", str(script), *lines],
        capture_output=True,
        text=True,
        env={**os.environ, **paths},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("top-1") == 2
    assert result.stderr.count(" is left out: ") == 1
    for name, count in (("many", 7), ("one", 1)):
        one, two = (json.loads((tmp_path / f"{name}-{n}.json").read_text()) for n in (1, 2))
        # Each measures one of its own first videos.
        assert min(one.pop("peak_memory_bytes"), two.pop("peak_memory_bytes")) > 0
        assert one == two
        assert one["videos"] == count
