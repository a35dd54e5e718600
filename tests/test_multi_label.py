"""Videos of any number of classes: lists, targets, loss, mean average precision, training, export.

And views of a video: clips and crops of which one answer is made.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from movinet_edge.bundle import Bundle
from movinet_edge.checkpoints.native import load_checkpoint
from movinet_edge.data.clips import EvalVideos, TrainClips
from movinet_edge.data.listing import Span, Video, VideoSet, read_video_set
from movinet_edge.models.movinet import MoViNet
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream
from movinet_edge.runtime.preprocess import resize
from movinet_edge.runtime.video import read_frames
from movinet_edge.train.evaluate import evaluate
from movinet_edge.train.protocols import EvalProtocol, TorchPredictor, combined
from movinet_edge.train.scores import Scores
from movinet_edge.train.subclips import classification_loss
from tests.commands import Command
from tests.data_sets import good
from tests.evaluation import CPU, SIDE, contract
from tests.videos import encode_video, film

CLASSES = "c000 Holding some clothes\nc001 Putting clothes somewhere\nc002 Taking a dish\n"
HEADER = "id,subject,scene,actions,length\n"
CHARADES = (
    "AB12C,S1,Kitchen,c002 0.50 1.50;c000 2.00 2.90,3.00\n"
    "AB12D,S1,Kitchen,,3.00\n"
    "GONE1,S2,Hall,c001 0.00 1.00,3.00\n"
)


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    """Two videos of three seconds, 10 frames per second, in Charades' layout."""
    for name in ("AB12C", "AB12D"):
        film(tmp_path / "Charades_v1" / f"{name}.mp4", 30, 10)
    (tmp_path / "Charades_v1_classes.txt").write_text(CLASSES)
    (tmp_path / "Charades_v1_train.csv").write_text(HEADER + CHARADES)
    return tmp_path / "Charades_v1_train.csv"


# Lists and targets -------------------------------------------------------------------------


def test_charades(charades: Path) -> None:
    videos = read_video_set(charades)
    assert videos.multi_label
    assert videos.labels == ("Holding some clothes", "Putting clothes somewhere", "Taking a dish")
    assert [v.path.name for v in videos.videos] == ["AB12C.mp4", "AB12D.mp4"]
    assert videos.missing == ("GONE1",)
    assert videos.videos[0].spans == (Span(2, 0.5, 1.5), Span(0, 2.0, 2.9))
    assert [videos.target(v).tolist() for v in videos.videos] == [[1, 0, 1], [0, 0, 0]]


def test_codes_are_names_without_their_file(charades: Path) -> None:
    (charades.parent / "Charades_v1_classes.txt").unlink()
    assert read_video_set(charades).labels == ("c000", "c001", "c002")


def test_a_column_of_labels(tmp_path: Path) -> None:
    for name in ("1", "2", "3"):
        film(tmp_path / f"{name}.mp4", 3)
    (tmp_path / "l.csv").write_text("path,labels\n1.mp4,run; jump\n2.mp4,\n3.mp4,jump\n")
    videos = read_video_set(tmp_path / "l.csv")
    assert videos.labels == ("jump", "run")
    assert [v.labels for v in videos.videos] == [(0, 1), (), (0,)]


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        ("c002 0.5", "has an action without its start and end ('c002 0.5'); correct it"),
        ("c002 now 2", "has a time that is no number of seconds ('now'); correct it"),
        ("c009 0 1", "the class 'c009'"),
    ],
)
def test_wrong_actions_are_one_sentence(
    charades: Path, call: Command, actions: str, says: str
) -> None:
    charades.write_text(HEADER + f"AB12C,S1,Kitchen,{actions},3.00\n")
    code, _, err = call(
        "train", "--model", "a0-stream", "--data", charades, "--out", charades.parent / "run"
    )
    assert code == 2
    assert says in err
    assert not (charades.parent / "run").exists()


def test_a_clip_has_the_classes_that_it_shows(charades: Path) -> None:
    videos = read_video_set(charades)
    clips = TrainClips(videos, 5, 10, 48)
    seen = set()
    for epoch in range(40):
        clips.set_epoch(epoch)
        clip = good(clips[0])
        first, last = ((float(f.float().mean()) - 20) / 50 for f in clip.frames[[0, -1]])
        # The grey level is the number of the frame: when the clip was.
        want = [last >= 1.95 and first <= 2.95, False, last >= 0.45 and first <= 1.55]
        if not any(abs(t - e) < 0.2 for t in (first, last) for e in (0.5, 1.5, 2.0, 2.9)):
            assert clip.target.tolist() == want
            seen.add(tuple(want))
    assert len(seen) > 1
    assert good(clips[1]).target.tolist() == [0, 0, 0]


def test_a_segment_has_the_classes_behind_its_start(charades: Path, stream_model: MoViNet) -> None:
    (whole, *_) = read_video_set(charades).videos
    for start, end, want in ((1.8, None, [1, 0, 0]), (0.0, 1.0, [0, 0, 1]), (1.6, 1.9, [0, 0, 0])):
        videos = VideoSet((replace(whole, start=start, end=end),), tuple("abc"), charades, (), True)
        assert good(EvalVideos(videos, contract(stream_model))[0]).target.tolist() == want


def test_an_id_is_not_the_beginning_of_another(tmp_path: Path) -> None:
    for name in ("10_x.mp4", "2.mp4", "3_000010_000020.mp4"):
        film(tmp_path / name, 3)
    (tmp_path / "l.csv").write_text("id,labels\n1,run\n2,run\n3,jump\n")
    videos = read_video_set(tmp_path / "l.csv")
    assert videos.missing == ("1",)
    assert [v.path.name for v in videos.videos] == ["2.mp4", "3_000010_000020.mp4"]


def test_videos_without_any_class_are_refused(
    call: Command, stream_checkpoint: Path, tmp_path: Path
) -> None:
    film(tmp_path / "1.mp4", 3)
    (tmp_path / "l.csv").write_text("path,labels\n1.mp4,\n")
    code, _, err = call("evaluate", stream_checkpoint, "--data", tmp_path / "l.csv")
    assert code == 2
    assert "no video of" in err


# Scores ------------------------------------------------------------------------------------


def naive_precision(scores: np.ndarray, right: np.ndarray) -> float:
    """The mean of the precisions at each right video, by falling score."""
    order = np.argsort(-scores)
    hits, precisions = 0, []
    for rank, index in enumerate(order, start=1):
        if right[index]:
            hits += 1
            precisions.append(hits / rank)
    return float(np.mean(precisions))


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_are_those_of_plain_loops(multi_label: bool) -> None:
    chance = np.random.default_rng(3)
    logits = chance.normal(size=(40, 7)).astype(np.float32) * 3
    targets = np.zeros((40, 7), np.float32)
    if multi_label:
        targets = (chance.random((40, 7)) < 0.3).astype(np.float32)
        targets[:, 2] = 0  # no video has it
        targets[:3] = 0  # nor these anything
    else:
        targets[np.arange(40), chance.choice([0, 1, 3, 4, 5, 6], 40)] = 1
    counted = Scores(7, multi_label)
    for one, target in zip(torch.from_numpy(logits), torch.from_numpy(targets), strict=True):
        counted.update(one, target if multi_label else target.argmax())
    found = counted.compute()
    shown = torch.from_numpy(logits)
    scores = (shown.sigmoid() if multi_label else shown.softmax(1)).numpy()
    each = [naive_precision(scores[:, c], targets[:, c]) for c in range(7) if targets[:, c].any()]
    assert len(each) == 6
    assert found.mean_average_precision == pytest.approx(np.mean(each), abs=1e-6)
    some = targets.any(1)
    hits = [targets[i, logits[i].argmax()] for i in np.flatnonzero(some)]
    assert found.top1 == pytest.approx(np.mean(hits))
    among = [targets[i, np.argsort(-logits[i])[:5]].any() for i in np.flatnonzero(some)]
    assert found.top5 == pytest.approx(np.mean(among))
    assert found.per_class[2] is None
    assert bool(found.confusion) != multi_label


def test_views_become_one_answer() -> None:
    logits = torch.randn(30, 7, generator=torch.Generator().manual_seed(0)) * 4
    torch.testing.assert_close(
        combined(logits, "mean", True).sigmoid(), logits.sigmoid().mean(0), rtol=1e-4, atol=1e-6
    )
    assert torch.equal(combined(logits, "max", True), logits.amax(0))
    torch.testing.assert_close(combined(logits, "max").exp(), logits.softmax(1).amax(0))


def test_each_class_has_its_own_loss() -> None:
    logits, targets = torch.randn(3, 5), (torch.rand(3, 5) < 0.5).float()
    loss = -(targets * F.logsigmoid(logits) + (1 - targets) * F.logsigmoid(-logits)).mean()
    torch.testing.assert_close(classification_loss(logits, targets), loss)
    softer = classification_loss(logits, targets, 0.2)
    torch.testing.assert_close(softer, classification_loss(logits, 0.1 + 0.8 * targets))


# Crops -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(72, 120), (120, 72)])
def test_crops_are_spread_over_the_longer_side(
    tmp_path: Path, stream_model: MoViNet, shape: tuple[int, int]
) -> None:
    path = encode_video(tmp_path / "v.mp4", moving_pattern(4, *shape, 1), rate=5)
    videos = VideoSet((Video(path, (Span(0),)),), ("a", "b"), tmp_path)
    seen = contract(stream_model)
    frames = good(EvalVideos(videos, seen, crops=3)[0]).frames
    assert frames.shape == (4, 3, SIDE, 3 * SIDE)
    first, middle, last = frames.chunk(3, 3)
    assert torch.equal(middle, good(EvalVideos(videos, seen)[0]).frames)
    picture = next(iter(read_frames(path, seen.frame_rate))).image
    for crop, part in ((first, picture[:72, :72]), (last, picture[-72:, -72:])):
        want = resize(part, seen).transpose(2, 0, 1) / 255
        # The filter reaches a pixel beyond the square; inside they are the same.
        np.testing.assert_allclose(
            crop[0, :, 2:-2, 2:-2].numpy(), want[:, 2:-2, 2:-2], atol=1e-5, rtol=0
        )


def test_views_of_a_video(tmp_path: Path, stream_model: MoViNet) -> None:
    path = encode_video(tmp_path / "v.mp4", moving_pattern(9, 72, 120, 1), rate=5)
    spans = (Span(0), Span(3))
    videos = VideoSet((Video(path, spans),), tuple("abcdef"), tmp_path, multi_label=True)
    seen = contract(stream_model)
    protocol = EvalProtocol("multi-clip", 4, 2, crops=3, combine="max")
    predictor = TorchPredictor(stream_model, (SIDE, SIDE), protocol, CPU)
    crops = good(EvalVideos(videos, seen, 3)[0]).frames.chunk(3, 3)
    one = TorchPredictor(stream_model, (SIDE, SIDE), EvalProtocol("clip"), CPU)
    views = torch.stack([one.logits(c[w]) for c in crops for w in (slice(4), slice(5, 9))])
    torch.testing.assert_close(predictor.predict(*crops), combined(views, "max"))
    assert predictor.macs(9) == 6 * one.macs(4)
    record = evaluate(predictor, videos, seen)
    assert (record.crops, record.combine, record.multi_label) == (3, "max", True)
    assert record.macs_per_video == predictor.macs(9)


# From training to a phone ------------------------------------------------------------------


@pytest.mark.timeout(300)
def test_trained_and_exported(tmp_path: Path, call: Command) -> None:
    """Bright and moving are classes of their own; a video may be both or neither."""
    rows = ["path,labels,split"]
    for number in range(16):
        bright, moving = number % 2, number // 2 % 2
        images = moving_pattern(8, 64, 64, number) // 4 + 170 * bright
        images = images if moving else np.repeat(images[:1], 8, 0)
        name = f"{number}.mp4"
        encode_video(tmp_path / name, images.astype(np.uint8), rate=5)
        named = ";".join(["bright"] * bright + ["moving"] * moving)
        rows.append(f"{name},{named},{'train' if number < 12 else 'val'}")
    (tmp_path / "l.csv").write_text("\n".join(rows) + "\n")
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    words = ["--model", "slowfast-tiny-causal", "--frames", 8, "--size", 64, "--epochs", 2]
    words += ["--batch", 4, "--workers", 0, "--set", "dropout=0", "--set", "frame_rate=5"]
    code, out, err = call("train", "--data", tmp_path / "l.csv", "--out", run, *words)
    assert code == 0, err
    assert "validation mAP" in out + err
    best = run / "best.safetensors"
    assert load_checkpoint(best).arch.multi_label
    record = tmp_path / "r.json"
    code, out, err = call("evaluate", best, "--data", tmp_path / "l.csv", "--json", record)
    assert code == 0, err
    assert "mAP" in out
    found = json.loads(record.read_text())
    assert 0 < found["mean_average_precision"] <= 1
    assert found["per_class"] == pytest.approx(found["per_class"])
    code, _, err = call("export", best, "--out", bundle, "--format", "onnx", "--softmax")
    assert (code, err.count("\n")) == (2, 2)
    assert "scores its classes one by one; leave out --softmax" in err
    code, _, err = call("export", best, "--out", bundle, "--format", "onnx")
    assert code == 0, err
    assert Bundle(bundle).manifest.scores == "sigmoid"
    with Stream(bundle) as stream:
        answer = stream.step(moving_pattern(1, 64, 64)[0])
    assert answer is not None
    np.testing.assert_allclose(answer.probabilities, 1 / (1 + np.exp(-answer.logits)), rtol=1e-5)
    assert answer.top(2)[0].score == pytest.approx(answer.probabilities.max())
    code, out, err = call("evaluate", bundle, "--data", tmp_path / "l.csv", "--json", record)
    assert code == 0, err
    other = json.loads(record.read_text())
    assert other["mean_average_precision"] == found["mean_average_precision"]
