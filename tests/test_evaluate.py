"""Evaluation on sets of videos: counts, training mode, shuffling, workers, broken videos."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from movinet_edge.data.clips import Broken, Clip, EvalVideos
from movinet_edge.data.listing import Span, VideoSet, read_video_set
from movinet_edge.errors import BadInput
from movinet_edge.models.movinet import MoViNet
from movinet_edge.streaming.spec import describe
from movinet_edge.train.evaluate import EvalOptions, EvalRecord, evaluate, evaluate_model, shuffled
from movinet_edge.train.memory import weights_bytes
from movinet_edge.train.protocols import EvalProtocol
from tests.evaluation import LABELS, LENGTHS, SIDE, contract, predictor, seeded

pytestmark = pytest.mark.usefixtures("one_thread")


def test_counts_are_those_of_a_loop(
    stream_model: MoViNet, videos: VideoSet, clips: list[Clip]
) -> None:
    assert sorted(len(clip.frames) for clip in clips) == sorted(LENGTHS)
    with torch.no_grad():
        answers = [stream_model(clip.frames[None])[0][0, -1] for clip in clips]
    confusion = np.zeros((6, 6), int)
    for clip, answer in zip(clips, answers, strict=True):
        confusion[int(clip.target), int(answer.argmax())] += 1
    ranks = [
        int((answer > answer[int(clip.target)]).sum())
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


def test_a_class_without_videos_and_few_classes(video_folder: Path) -> None:
    model = seeded(classes=6)
    train = read_video_set(video_folder, "train", LABELS)
    record = evaluate_model(model, contract(model), train, EvalProtocol("clip", 3))
    assert record.videos == 1
    assert record.per_class == (None, record.top1, None, None, None, None)
    small = seeded(classes=2)
    two = VideoSet(
        tuple(replace(v, spans=(Span(v.labels[0] % 2),)) for v in train.videos),
        ("a", "b"),
        video_folder,
    )
    assert evaluate_model(small, contract(small), two, EvalProtocol("stream")).top5 == 1


def test_a_model_in_training_stays_as_it_was(video_folder: Path) -> None:
    model = seeded()
    model.train()
    model.stem.eval()  # frozen
    before = {name: module.training for name, module in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    train = read_video_set(video_folder, "train", LABELS)
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
        expected[int(clip.target), int(answer.argmax())] += 1
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
