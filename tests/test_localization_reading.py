"""From what a head says to labelled segments: classes of segments, windows, nothing found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.data.annotations import read_annotations
from movinet_edge.errors import BadInput
from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET
from movinet_edge.localization.proposals import labelled, segment_classes
from movinet_edge.localization.reading import HeadAnswer, read_segments
from movinet_edge.models.gtad_table import gtad_arch
from movinet_edge.models.localizer import Localizer
from movinet_edge.models.localizer_table import localizer_arch
from movinet_edge.models.registry import seeded_model
from movinet_edge.train.localization_data import split_annotations
from movinet_edge.train.localization_eval import Finder, evaluate_localizer

THUMOS = {"features": 8, "snippets": 16, "durations": 8, "bins": 4, "context_bins": 2}


def finder(label: str = "thumos") -> Finder:
    sizes = THUMOS if label == "thumos" else THUMOS | {"durations": 16}
    model = seeded_model(localizer_arch(gtad_arch(label, **sizes, kernel=1), None, 2))
    assert isinstance(model, Localizer)
    return Finder(model)


def test_classes_are_those_of_the_mean_over_a_segment() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(9, 3))
    segments = np.array([[0, 9], [2, 3], [1.25, 6.5], [8.5, 9], [0, 0.1]])
    found = segment_classes(logits, segments)
    for row, (start, end) in zip(found, segments, strict=True):
        inside = np.linspace(start, end, 20001)[:-1] + (end - start) / 40000
        mean = logits[inside.astype(int)].mean(0)
        expected = torch.from_numpy(mean).softmax(0).numpy()
        np.testing.assert_allclose(row, expected, atol=2e-4)


def test_each_segment_has_its_own_best_classes() -> None:
    times, scores = np.array([[0.0, 1.0], [2.0, 4.0]]), np.array([0.9, 0.5])
    own = labelled(times, scores, np.array([[0.1, 0.7, 0.2], [0.6, 0.1, 0.3]]))
    assert own.labels.tolist() == [1, 0, 2, 2]
    np.testing.assert_allclose(own.scores, [0.63, 0.3, 0.18, 0.15])
    np.testing.assert_array_equal(own.times, np.concatenate([times, times]))
    assert len(labelled(times[:0], scores[:0], np.zeros((0, 3)))) == 0


def test_what_ends_behind_a_short_video_is_told_once() -> None:
    """Segments that differ only where the window is filled up are one."""
    rng = np.random.default_rng(0)
    anchors = Anchors(8, 8)
    scores = (rng.random(size, np.float32) for size in (len(anchors), len(anchors), 8, 8))
    found = read_segments([(0, HeadAnswer(*scores))], anchors, 1.0, 3, ACTIVITYNET)
    assert len(np.unique(found.times, axis=0)) == len(found.times) > 2
    assert found.times.max() == 3
    assert (np.diff(found.scores) <= 0).all()


def test_long_videos_are_seen_in_windows() -> None:
    """Windows of the same features find the same, each in its place."""
    find = finder()
    piece = np.random.default_rng(1).random((16, 8), np.float32)
    once = find(piece, 32.0, "short")
    assert len(once.times)
    assert once.times.max() <= 32
    long = np.concatenate([piece, piece, piece[:2]])
    found = find(long, 68.0, "long")
    assert found.times.max() <= 68
    rows = {tuple(np.round(row, 6)) for row in found.times}
    for shift in (0, 32):
        best = tuple(np.round(once.times[0] + shift, 6))
        assert best in rows


def test_nothing_found_is_a_result(tmp_path: Path) -> None:
    entry = {"subset": "test", "duration": 10, "annotations": [{"segment": [1, 2], "label": "a"}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"one": entry}}))
    find = finder("activitynet")

    def locate(features: np.ndarray, seconds: float, name: str) -> object:
        found = find(features, seconds, name)
        assert found.segments is not None
        segments = type(found.segments)(
            found.segments.times[:0], found.segments.labels[:0], found.segments.scores[:0]
        )
        return found._replace(times=found.times[:0], scores=found.scores[:0], segments=segments)

    facts = {"model": "none", "engine": "none", "split": None, "snippets": 16}
    record = evaluate_localizer(
        locate,  # type: ignore[arg-type]
        read_annotations(tmp_path / "a.json"),
        lambda video: (np.zeros((4, 8), np.float32), 10.0),
        facts,
    )
    assert record.activitynet is not None
    assert (record.proposals, record.area, record.activitynet.average) == (0, 0, 0)
    assert record.recall["AR@10"] == 0


def test_thumos_is_trained_on_its_validation_videos(tmp_path: Path) -> None:
    action = {"segment": [1, 2], "label": "a"}
    path = tmp_path / "a.json"

    def write(*splits: str) -> None:
        entries = {
            split: {"subset": split, "duration": 10, "annotations": [action]} for split in splits
        }
        path.write_text(json.dumps({"database": entries}))

    write("validation", "test")
    train, val = split_annotations(path)
    assert [video.name for video in train.videos] == ["validation"]
    assert val is None
    write("training", "validation")
    train, val = split_annotations(path)
    assert val is not None
    assert [v.name for v in (*train.videos, *val.videos)] == ["training", "validation"]
    write("test")
    with pytest.raises(BadInput, match="has splits but none to train on"):
        split_annotations(path)
