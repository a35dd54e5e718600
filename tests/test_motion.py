"""The procedural motion videos: what their classes are told by, and the files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.data.cards import NOTHING, PATTERNS, draw_card, paint_card
from movinet_edge.data.listing import read_video_set
from movinet_edge.data.motion import (
    ACTIONS,
    ADAPTIVE,
    FRAME_RATE,
    FRAME_RATE_ADAPTIVE,
    SECONDS,
    SECONDS_ADAPTIVE,
    MotionConfig,
    adaptive_tracks,
    clip_tracks,
    make_motion,
    untrimmed_tracks,
)
from movinet_edge.data.scene import ATTRIBUTES
from movinet_edge.errors import BadInput
from movinet_edge.runtime.video import read_frames
from tests.commands import COMMAND, movinet_edge

FRAMES = int(SECONDS * FRAME_RATE)


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("motion") / "data"
    make_motion(MotionConfig(classes=4, per_class=10, size=32), out, jobs=2)
    return out


def test_classes_are_pairs_that_reverse_each_other() -> None:
    for index, action in enumerate(ACTIONS):
        rng = np.random.default_rng(index)
        track = clip_tracks(action, FRAMES, rng)[action.attribute]
        steps = np.diff(track[:: FRAMES // 8])
        assert (steps <= 0).all() if action.backwards else (steps >= 0).all()
        assert abs(track[-1] - track[0]) > 0.6


def test_only_one_attribute_goes_one_way() -> None:
    for seed in range(50):
        action = ACTIONS[seed % len(ACTIONS)]
        tracks = clip_tracks(action, FRAMES, np.random.default_rng(seed))
        moving = [name for name in ATTRIBUTES if np.ptp(tracks[name]) > 0]
        assert len(moving) == 2
        (other,) = set(moving) - {action.attribute}
        assert abs(tracks[other][-1] - tracks[other][0]) < 0.5, "it comes back"


def test_a_frame_says_nothing_about_the_class() -> None:
    """Its attributes have the same distribution in every class."""
    for action in ACTIONS:
        rng = np.random.default_rng(7)
        values = {name: [] for name in ATTRIBUTES}
        for _ in range(400):
            tracks = clip_tracks(action, FRAMES, rng)
            frame = rng.integers(FRAMES)
            for name in ATTRIBUTES:
                values[name].append(tracks[name][frame])
        for name, seen in values.items():
            # A uniform variable's mean is 0.5 +- 0.014, its deviation 0.29.
            assert abs(np.mean(seen) - 0.5) < 0.06, (action.label, name)
            assert abs(np.std(seen) - 0.29) < 0.06, (action.label, name)


def test_files_are_real_videos_in_splits(motion: Path) -> None:
    for split, count in (("train", 7), ("val", 1), ("test", 2)):
        videos = read_video_set(motion, split)
        assert videos.labels == ("moving down", "moving left", "moving right", "moving up")
        assert len(videos) == 4 * count
    frames = list(read_frames(read_video_set(motion, "val").videos[0].path, 5.0))
    assert len(frames) == 16
    assert frames[0].image.shape == (32, 32, 3)
    facts = json.loads((motion / "dataset.json").read_text())
    assert (facts["per_class"], facts["seed"], len(facts["labels"])) == (10, 0, 4)


def test_the_seed_decides_everything(motion: Path, tmp_path: Path) -> None:
    config = MotionConfig(classes=4, per_class=10, size=32)
    make_motion(config, tmp_path / "same", jobs=1)
    names = [p.relative_to(motion) for p in sorted(motion.rglob("*.mp4"))]
    assert names
    assert all((motion / n).read_bytes() == (tmp_path / "same" / n).read_bytes() for n in names)
    other = MotionConfig(classes=2, per_class=3, size=32, seed=1)
    make_motion(other, tmp_path / "other", jobs=1)
    first = "train/moving right/00000.mp4"
    assert (motion / first).read_bytes() != (tmp_path / "other" / first).read_bytes()


def test_untrimmed_videos_name_their_segments(tmp_path: Path) -> None:
    config = MotionConfig(classes=12, per_class=3, size=32, untrimmed=True)
    assert make_motion(config, tmp_path / "long", jobs=1) == 3
    database = json.loads((tmp_path / "long" / "segments.json").read_text())["database"]
    assert {entry["subset"] for entry in database.values()} == {"train", "val", "test"}
    for path, entry in database.items():
        frames = list(read_frames(tmp_path / "long" / path, float(FRAME_RATE)))
        assert len(frames) == pytest.approx(entry["duration"] * FRAME_RATE, abs=1)
        ends = [0.0, *(t for a in entry["annotations"] for t in a["segment"]), entry["duration"]]
        assert ends == sorted(ends)
        assert len(entry["annotations"]) >= 3


def test_segments_are_where_the_attribute_moves() -> None:
    tracks, segments = untrimmed_tracks(ACTIONS, np.random.default_rng(3))
    by_label = {action.label: action for action in ACTIONS}
    for segment in segments:
        action = by_label[str(segment["label"])]
        begin, end = (round(t * FRAME_RATE) for t in segment["segment"])  # type: ignore[attr-defined]
        change = float(tracks[action.attribute][end - 1] - tracks[action.attribute][begin])
        assert abs(change) > 0.3
        assert (change < 0) == action.backwards


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"classes": 3}, "even number"),
        ({"classes": 40}, "even number"),
        ({"per_class": 2}, "at least 3"),
        ({"size": 33}, "even number"),
    ],
)
def test_impossible_sets_are_refused(fields: dict[str, int], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        MotionConfig(**fields)


def test_the_command_never_overwrites(motion: Path) -> None:
    result = movinet_edge("data", "make", "motion", "--out", motion)
    assert result.returncode == 2
    assert "exists already" in result.stderr


def test_adaptive_classes_take_turns() -> None:
    """Two told by a movement, two by a pattern, and so on; all have numbers of their own."""
    assert [action.pattern is None for action in ADAPTIVE] == [True, True, False, False] * 3
    assert len({action.key for action in (*ACTIONS, *ADAPTIVE)}) == len(ACTIONS) + len(PATTERNS)


def test_adaptive_clips_are_idle_but_for_a_moment() -> None:
    """Something moves, and a card is shown, in every clip; only one of them tells the class."""
    frames = int(SECONDS_ADAPTIVE * FRAME_RATE_ADAPTIVE)
    for seed in range(48):
        action = ADAPTIVE[seed % len(ADAPTIVE)]
        tracks, card = adaptive_tracks(action, frames, np.random.default_rng(seed))
        moving = {name: np.diff(track) for name, track in tracks.items() if np.ptp(track) > 0}
        ((name, steps),) = moving.items()
        assert len(steps) == frames - 1
        assert (steps == 0).mean() > 0.5, "most of the time nothing happens"
        assert 1.5 <= (card.last - card.first + 1) / FRAME_RATE_ADAPTIVE <= 2.0
        assert 0 <= card.first <= card.last < frames
        net = tracks[name][-1] - tracks[name][0]
        if action.pattern is None:
            assert name == action.attribute
            assert net < -0.5 if action.backwards else net > 0.5
            assert not any(np.array_equal(card.pattern, p) for p in PATTERNS.values())
        else:
            assert abs(net) < 0.3, "it comes back"
            np.testing.assert_array_equal(card.pattern, PATTERNS[action.pattern])


def test_cards_are_alike_from_afar() -> None:
    """Half of every pattern is ink: on small frames all are one grey, on large ones they differ."""
    for pattern in PATTERNS.values():
        assert pattern.mean() == 0.5
    shown = {}
    for name in (*PATTERNS, NOTHING):
        card = draw_card(name, 64, FRAME_RATE_ADAPTIVE, np.random.default_rng(3))
        video = np.full((64, 96, 96, 3), 0.5, np.float32)
        paint_card(video, card)
        changed = np.flatnonzero((video != 0.5).any((1, 2, 3)))
        assert changed.tolist() == list(range(card.first, card.last + 1))
        shown[name] = video[card.first]
    near = np.abs(shown["rows"] - shown["columns"]).max()
    assert near > 0.5
    # An eighth of the side: the means of squares that hold whole periods of the patterns.
    small = {n: v.reshape(6, 16, 6, 16, 3).mean((1, 3)) for n, v in shown.items()}
    assert np.abs(small["rows"] - small["columns"]).max() < near / 3


def test_the_adaptive_set(tmp_path: Path) -> None:
    config = MotionConfig(classes=4, per_class=3, size=32, variant="adaptive")
    assert make_motion(config, tmp_path / "a", jobs=1) == 12
    make_motion(config, tmp_path / "b", jobs=1)
    videos = sorted((tmp_path / "a").glob("*/*/*.mp4"))
    assert {video.parent.name for video in videos} == {
        *("approaching", "retreating", "showing columns", "showing rows")
    }
    for video in videos:
        assert (
            video.read_bytes() == (tmp_path / "b" / video.relative_to(tmp_path / "a")).read_bytes()
        )
    frames = sum(1 for _ in read_frames(videos[0], FRAME_RATE_ADAPTIVE))
    assert frames == SECONDS_ADAPTIVE * FRAME_RATE_ADAPTIVE
    with pytest.raises(BadInput, match="the adaptive variant is of trimmed clips"):
        MotionConfig(untrimmed=True, variant="adaptive")
    with pytest.raises(BadInput, match="from 2 to 12"):
        MotionConfig(classes=14, variant="adaptive")


def test_nothing_is_left_when_it_is_ended(tmp_path: Path) -> None:
    """Neither files nor processes, by a signal that only asks."""
    words = ("data", "make", "motion", "--per-class", "100", "--jobs", "2", "--out", tmp_path / "m")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    command = [*COMMAND, *map(str, words)]
    with subprocess.Popen(command, start_new_session=True, **quiet) as process:
        while not list(tmp_path.rglob("*.mp4")) and process.poll() is None:
            time.sleep(0.01)
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
    # What counts semaphores goes a moment later.
    limit = time.monotonic() + 20
    while processes(process.pid) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not processes(process.pid)


def processes(group: int) -> bool:
    """Whether there are any of the group."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
