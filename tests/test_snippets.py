"""Snippets by timestamps, and examples made of them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.data.annotations import read_annotations
from movinet_edge.data.features import FeatureFolder
from movinet_edge.data.localization import (
    Example,
    FeatureVideos,
    SnippetVideos,
    Together,
    action_clips,
    window,
)
from movinet_edge.data.snippets import VideoFolder, read_snippets, snippet_times
from movinet_edge.errors import BadInput
from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET
from movinet_edge.localization.labels import make_labels
from movinet_edge.runtime.video import VideoFile, read_frames
from tests.untrimmed import LABELS, RATE


def test_times_cover_the_video() -> None:
    times = snippet_times(Fraction(12), 4, 3, 2.0)
    assert [row[1] for row in times] == [Fraction(3, 2) + 3 * i for i in range(4)]
    assert times[1] == [Fraction(4), Fraction(9, 2), Fraction(5)]
    long = snippet_times(Fraction(2), 5, 16, 4.0)  # each is longer than the video
    assert all(0 <= time < 2 and row == sorted(row) for row in long for time in row)
    assert (long[0][0], long[-1][0]) == (0, 0)


def test_frames_are_those_on_screen(untrimmed: Path) -> None:
    path = untrimmed.parent / "videos/train0.mp4"
    frames = [frame.image for frame in read_frames(path, RATE)]
    times = snippet_times(Fraction(8), 5, 4, 5.0)
    with VideoFile(path, threads=1) as file:
        found = dict(read_snippets(file, times, lambda f: f.to_ndarray(format="rgb24")))
    assert sorted(found) == list(range(5))
    for number, row in enumerate(times):
        expected = np.stack([frames[int(time * RATE)] for time in row])
        np.testing.assert_array_equal(found[number], expected)


def test_a_shorter_file_stays_on_its_last_frame(untrimmed: Path) -> None:
    path = untrimmed.parent / "videos/train0.mp4"
    last = list(read_frames(path, RATE))[-1].image
    with VideoFile(path, threads=1) as file:
        times = snippet_times(Fraction(16), 2, 3, 10.0)
        found = dict(read_snippets(file, times, lambda f: f.to_ndarray(format="rgb24")))
    assert (found[1] == last).all()
    assert not (found[0] == last).all()


def test_videos_are_found_by_many_names(tmp_path: Path) -> None:
    for place in ("train/a/v_one.mp4", "two.mkv", "b/x.mp4", "c/x.mp4"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    videos = VideoFolder(tmp_path)
    for name in ("one", "v_one", "v_one.mp4", "train/a/v_one", "train/a/v_one.mp4"):
        assert videos.find(name) == tmp_path / "train/a/v_one.mp4"
    assert videos.find("v_two") == tmp_path / "two.mkv"
    assert videos.find("c/x") == tmp_path / "c/x.mp4"
    assert videos.find("three") is None
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput, match="has no videos"):
        VideoFolder(tmp_path / "none")


def test_examples_have_the_segments_of_their_grid(untrimmed: Path) -> None:
    annotations = read_annotations(untrimmed, "train")
    videos = SnippetVideos(
        annotations, VideoFolder(untrimmed.parent / "videos"), (6, 3), 2, 4.0, 24
    )
    for number, count in enumerate((6, 3)):
        place, example = videos[1 + number * len(videos)]
        assert place == number
        assert isinstance(example, Example)
        assert example.clip.frames.shape == (count * 2, 3, 24, 24)
        actions = annotations.videos[1].actions
        np.testing.assert_allclose(
            example.cells, [(a.start / 8 * count, a.end / 8 * count) for a in actions]
        )
        assert [LABELS[k] for k in example.labels] == [a.label for a in actions]


def test_batches_have_every_video_s_labels(untrimmed: Path) -> None:
    annotations = read_annotations(untrimmed, "train")
    videos = SnippetVideos(annotations, VideoFolder(untrimmed.parent / "videos"), (6,), 2, 4.0, 24)
    batch = Together(lambda count: Anchors(count, count), ACTIVITYNET)([videos[0], videos[2]])
    assert (batch.count, batch.snippets) == (2, 6)
    for row, index in enumerate((0, 2)):
        labels = make_labels(annotations.videos[index].cells(6), Anchors(6, 6))
        np.testing.assert_array_equal(batch.answers.overlap[row], labels.overlap)
        np.testing.assert_array_equal(batch.answers.start[row], labels.start)
        own = batch.answers.actions[batch.answers.actions[:, 0] == row]
        np.testing.assert_allclose(own[:, 1:3], annotations.videos[index].cells(6), rtol=1e-6)


def test_a_missing_video_is_no_example(untrimmed: Path, tmp_path: Path) -> None:
    (tmp_path / "train1.mp4").write_bytes((untrimmed.parent / "videos/train1.mp4").read_bytes())
    (tmp_path / "train2.mp4").write_bytes(b"no video")
    annotations = read_annotations(untrimmed, "train")
    videos = SnippetVideos(annotations, VideoFolder(tmp_path), (4,), 2, 4.0, 24)
    batch = Together(lambda count: Anchors(count, count), ACTIVITYNET)(
        [videos[k] for k in range(3)]
    )
    assert batch.count == 1
    assert [one.path.name for one in batch.broken] == ["train0", "train2.mp4"]


def test_actions_are_clips_for_a_classifier(untrimmed: Path) -> None:
    annotations = read_annotations(untrimmed, "train")
    clips = action_clips(annotations, VideoFolder(untrimmed.parent / "videos"))
    actions = [a for video in annotations.videos for a in video.actions]
    assert len(clips) == len(actions) == 8
    assert [(v.start, v.end, clips.labels[v.labels[0]]) for v in clips.videos] == [
        (a.start, a.end, a.label) for a in actions
    ]


def test_windows_of_long_videos(tmp_path: Path) -> None:
    """As THUMOS14 is trained: windows that see an action whole, and its cells from there on."""
    database = {
        "long": {
            "subset": "val",
            "duration": 100.0,
            "annotations": [
                {"segment": [22.0, 30.0], "label": "dive"},
                {"segment": [61.0, 79.0], "label": "throw"},
            ],
        }
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    rng = np.random.default_rng(0)
    values = rng.random((50, 4), np.float32)  # a snippet every 2 seconds
    np.save(tmp_path / "long.npy", values)
    annotations = read_annotations(tmp_path / "a.json")
    videos = FeatureVideos(annotations, FeatureFolder(tmp_path, 4), 16, windowed=True)
    # Windows begin at 0, 8, ..., 32; actions are in the cells 11 to 15 and 30.5 to 39.5.
    assert [start for _, start in videos.places] == [0, 8, 24]
    _, first = videos[1]
    assert isinstance(first, Example)
    np.testing.assert_allclose(first.cells, [[3, 7]])
    np.testing.assert_array_equal(first.clip.frames, values[8:24].T)
    assert annotations.labels[first.labels[0]] == "dive"
    np.testing.assert_array_equal(window(values[:3], 0, 5)[:, 3:], np.zeros((4, 2)))
    with pytest.raises(BadInput, match="no window of 3 snippets"):
        FeatureVideos(annotations, FeatureFolder(tmp_path, 4), 3, windowed=True)
