"""Annotations of untrimmed videos: every layout, what is noticed and what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.data.annotation_files import THUMOS_CLASSES
from movinet_edge.data.annotations import Action, UntrimmedVideo, read_annotations
from movinet_edge.data.motion import MotionConfig, make_motion
from movinet_edge.errors import BadInput
from movinet_edge.localization.average_precision import average_precision
from tests.data_sets import Tree
from tests.tal_data import oracle

Shared = Callable[[str], Path]


def entry(*actions: tuple[Any, Any, str], **fields: Any) -> dict[str, Any]:
    annotations = [{"segment": [s, e], "label": label} for s, e, label in actions]
    return {"subset": "training", "duration": 20.0, "annotations": annotations} | fields


def written(path: Path, **database: Any) -> Path:
    path.write_text(json.dumps({"version": "1", "database": database}))
    return path


def test_activitynet_and_hacs(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.json",
        one=entry((5, 9.5, "jump"), (1, 2, "run"), url="https://example.org"),
        two=entry((0, 3, "run"), subset="validation", duration=3.5),
        three=entry(subset="testing"),
    )
    found = read_annotations(path)
    assert found.labels == ("jump", "run")
    assert [(v.name, v.split, v.seconds) for v in found.videos] == [
        ("one", "train", 20.0),
        ("two", "val", 3.5),
        ("three", "test", 20.0),
    ]
    assert found.videos[0].actions == (
        Action(start=1, end=2, label="run"),
        Action(start=5, end=9.5, label="jump"),
    )
    assert found.findings == ()
    assert [v.name for v in read_annotations(path, "validation").videos] == ["two"]
    truth = read_annotations(path, labels=["run", "stand", "jump"]).truth()
    assert truth["one"].labels.tolist() == [0, 2]
    assert truth["three"].times.shape == (0, 2)


def test_thumos(tree: Tree) -> None:
    classes = {
        "HighJump_val.txt": "video_validation_0000001  1.5 2.5\nvideo_validation_0000001 9 12\n\n",
        "Diving_test.txt": "video_test_0000007  0.1 3.0\n",
        "Ambiguous_test.txt": "video_test_0000007  5.0 6.0\n",
        "readme.txt": "nothing",
    }
    table = (
        "video,type,type_idx,start,end,startFrame,endFrame\n"
        "video_validation_0000001,HighJump,40,1.5,2.5,45,75\n"
        "video_validation_0000001,HighJump,40,9,12,270,360\n"
        "video_test_0000007,Diving,26,0.1,3.0,3,90\n"
        "video_test_0000007,Ambiguous,0,5.0,6.0,150,180\n"
    )
    numbered = (
        "video-name,t-init,t-end,f-init,f-end,video-duration,frame-rate,video-frames,label-idx\n"
        "video_test_0000007,0.1,3.0,3,90,40.5,30.0,1215,7\n"
        "video_test_0000007,5.0,6.0,150,180,40.5,30.0,1215,-1\n"
    )
    root = tree(**{f"thumos/{k}": v for k, v in classes.items()}, **{"a.csv": table})
    (root / "b.csv").write_text(numbered)
    for path in (root / "thumos", root / "a.csv"):
        found = read_annotations(path)
        assert found.labels == ("Diving", "HighJump")
        by_name = {video.name: video for video in found.videos}
        jumps = by_name["video_validation_0000001"]
        assert (jumps.split, jumps.seconds) == ("val", None)
        assert [(a.start, a.end) for a in jumps.actions] == [(1.5, 2.5), (9, 12)]
        (dive,) = by_name["video_test_0000007"].actions
        assert dive == Action(start=0.1, end=3.0, label="Diving")
        with pytest.raises(BadInput, match="the length of video_validation_0000001 is not known"):
            jumps.cells(100)
    (video,) = read_annotations(root / "b.csv", labels=THUMOS_CLASSES).videos
    assert (video.seconds, video.frame_rate, video.split) == (40.5, 30.0, "test")
    assert video.actions == (dive,)


def test_motion_videos(tmp_path: Path) -> None:
    config = MotionConfig(classes=4, per_class=3, size=32, untrimmed=True)
    make_motion(config, tmp_path / "long", jobs=1)
    found = read_annotations(tmp_path / "long" / "segments.json")
    assert not found.findings
    assert {video.split for video in found.videos} == {"train", "val", "test"}
    assert set(found.labels) <= {action.label for action in config.actions}


def test_places_of_features() -> None:
    video = UntrimmedVideo(name="a", seconds=50, actions=(Action(start=5, end=10, label="x"),))
    assert video.cells(100).tolist() == [[10.0, 20.0]]
    shorter = video.model_copy(update={"feature_seconds": 40.0})
    assert shorter.cells(100).tolist() == [[12.5, 25.0]]


def test_real_activitynet(shared: Shared) -> None:
    path = shared("data/tal/anet_anno_action.json")
    names = shared("data/tal/action_name.csv").read_text().splitlines()[1:]
    found = read_annotations(path, labels=names)
    counts = Counter(video.split for video in found.videos)
    assert counts == {"train": 9_649, "val": 4_728, "test": 4_851}
    assert Counter(finding.kind for finding in found.findings) == {
        "empty segment": 12,
        "late end": 3,
    }
    assert sum(len(video.actions) for video in found.videos) == 22_152 - 12
    content = json.loads(path.read_text("utf-8"))
    for video in found.videos[::997]:
        own = content[video.name]
        covered = own["feature_frame"] / own["duration_frame"] * own["duration_second"]
        assert video.feature_seconds == pytest.approx(covered)
        assert video.seconds == own["duration_second"]
    truth = read_annotations(path, "val", names).truth()
    assert average_precision(truth, oracle(truth)).average == 1.0


def test_real_thumos(shared: Shared) -> None:
    path = shared("data/tal/thumos_gt.json")
    found = read_annotations(path)
    assert found.labels == THUMOS_CLASSES
    assert Counter(video.split for video in found.videos) == {"train": 200, "test": 210}
    assert not found.findings
    table = read_annotations(shared("data/tal/thumos14_test_groundtruth.csv"))
    of_test = {v.name: v for v in found.videos}
    # The table has every action of the videos that both have.
    both = [v for v in table.videos if v.name in of_test]
    assert len(both) == 210
    for video in both:
        others = of_test[video.name].actions
        assert {(a.start, a.end) for a in others} <= {(a.start, a.end) for a in video.actions}
        assert video.seconds is not None


NOTICED = {
    "empty": ((3, 3, "x"), "empty segment", "has no length and is left out", 0),
    "behind": ((21, 22, "x"), "outside", "is outside of the video, where nothing will find it", 1),
    "before": ((-3, -1, "x"), "outside", "is outside of the video, where nothing will find it", 1),
    "late": ((15, 23, "x"), "late end", "ends after the video, which has 20 seconds", 1),
    "early": ((-2, 3, "x"), "early start", "begins before the video", 1),
    "rounded": ((15, 20.05, "x"), None, "", 1),
}


@pytest.mark.parametrize("case", NOTICED)
def test_what_is_noticed(case: str, tmp_path: Path) -> None:
    action, kind, sentence, kept = NOTICED[case]
    found = read_annotations(written(tmp_path / "a.json", one=entry((1, 2, "x"), action)))
    assert len(found.videos[0].actions) == 1 + kept
    assert [finding.kind for finding in found.findings] == ([kind] if kind else [])
    for finding in found.findings:
        place = f"the segment [{action[0]}, {action[1]}] of one in {tmp_path / 'a.json'} "
        assert finding.text == place + sentence
        assert finding.subject == "one"


REFUSED: dict[str, tuple[Any, str]] = {
    "reversed": ({"one": entry((5, 3, "x"))}, "[5, 3] of one in {path} ends before it starts"),
    "no number": ({"one": entry((5, "?", "x"))}, "one in {path} has '?' where a number belongs"),
    "infinite": ({"one": entry((5, "inf", "x"))}, "one in {path} has 'inf' where a number"),
    "no segment": ({"one": entry() | {"annotations": [{"label": "x"}]}}, "an annotation of one in"),
    "no list": ({"one": {"subset": "val"}}, "one in {path} lacks its list of annotations"),
    "no time": ({"one": entry(duration=-2)}, "one in {path} has a duration of -2 seconds"),
    "nothing": ({}, "{path} has no videos"),
    "frames": ({"one": entry((30, 60, "x"))}, "1 segments of {path} are outside of their videos"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    database, sentence = REFUSED[case]
    path = written(tmp_path / "a.json", **database)
    with pytest.raises(BadInput, match=re.escape(sentence.format(path=path))):
        read_annotations(path)


def test_unknown_labels_and_splits(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", one=entry((1, 2, "Jumping")), two=entry((1, 2, "run")))
    with pytest.raises(BadInput, match=r"'Jumping' of .* \(1 videos\) is none of the 2 "):
        read_annotations(path, labels=["jumping", "run"])
    with pytest.raises(BadInput, match=r"did you mean 'jumping'"):
        read_annotations(path, labels=["jumping", "run"])
    with pytest.raises(BadInput, match=r"has no split 'val': it has train; choose another"):
        read_annotations(path, "val")
    unsplit = written(tmp_path / "b.json", one=entry((1, 2, "x"), subset=None))
    with pytest.raises(BadInput, match=r"has no split 'val': it is not split"):
        read_annotations(unsplit, "val")


FILES = {
    "a.json": ("{", "is no JSON"),
    "b.json": ("[1]", "is of no known layout; it needs a 'database' of videos"),
    "c.json": ('{"a": {"duration_second": 1}}', "is of no known layout"),
    "d.csv": ("video,start\na,1\n", "is no table of segments; it needs the columns video, type"),
    "e.csv": ("video,type,start,end\nvideo_test_1,21,1,2\n", "has the class 21, THUMOS14 has 0"),
    "f.csv": ("video,type,start,end\nvideo_test_1,Diving,1\n", "has '' where a number belongs"),
    "g.xml": ("<a/>", "is no annotation file; name a .json, a .csv or THUMOS14's folder"),
    "h/x_test.txt": ("video_test_1 5\n", "line 1 of"),
    "i/notes.txt": ("video_test_1 5 6\n", "has no annotations as THUMOS14's"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_none(name: str, tree: Tree) -> None:
    text, sentence = FILES[name]
    root = tree(**{name: text})
    with pytest.raises(BadInput, match=re.escape(sentence)):
        read_annotations(root / name.split("/")[0])


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no annotation file at"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="is not UTF-8 text"):
        read_annotations(tmp_path / "a.json")


def test_only_some_videos(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", one=entry((1, 2, "x")), two=entry((1, 2, "y")))
    some = read_annotations(path).only({"two"})
    assert list(some.truth()) == ["two"]
    assert some.labels == ("x", "y")
    np.testing.assert_array_equal(some.truth()["two"].labels, [1])
