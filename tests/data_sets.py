"""Data sets for tests: folders and lists of files, those that are refused, and clips of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.data.clips import Broken, Clip
from movinet_edge.data.listing import Span, Video, VideoSet

Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """``tree("a/x.mp4", ..., **{"list.txt": text})``: empty files, and files of text."""

    def make(*names: str, **texts: str) -> Path:
        for name in names:
            path = tmp_path / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        for name, text in texts.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


Layout = tuple[tuple[str, ...], dict[str, str]]
REFUSED: dict[str, tuple[Layout, str, dict[str, Any], str]] = {
    "nothing": (((), {}), "x", {}, "there is no data set at {root}/x; name a folder of classes"),
    "empty": ((("x/",), {}), "x", {}, "{root}/x has no class folders (DIR/<class>/*.mp4)"),
    "splits only": (
        (("x/train/1.mp4", "x/test/2.mp4"), {}),
        *("x", {}, "{root}/x has splits without folders of classes"),
    ),
    "loose": ((("x/1.mp4",), {}), "x", {}, "put its videos into a folder per class"),
    "video": ((("1.mp4",), {}), "1.mp4", {}, "{root}/1.mp4 is no data set; name a folder of"),
    "empty class": (
        (("x/a/1.mp4", "x/b/2.txt"), {}),
        *("x", {}, "the class folder {root}/x/b has no videos; put some there or remove it"),
    ),
    "no splits": (
        (("x/a/1.mp4",), {}),
        *("x", {"split": "val"}, "{root}/x has no split 'val': it is not split; choose another"),
    ),
    "no such split": (
        (("x/train/a/1.mp4", "x/val/a/1.mp4"), {}),
        *("x", {"split": "test"}, "has no split 'test': it has train, val; choose another"),
    ),
    "empty split": (
        (("x/train/a/1.mp4", "x/val/"), {}),
        *("x", {"split": "val"}, "{root}/x has no videos in its split val"),
    ),
    "unknown class": (
        (("x/runing/1.mp4",), {}),
        *(
            "x",
            {"labels": ["jump", "running"]},
            "the class 'runing' of {root}/x (1 videos) is none",
        ),
    ),
    "meant": (
        (("x/runing/1.mp4",), {}),
        *("x", {"labels": ["jump", "running"]}, "(did you mean 'running'?); correct it or give"),
    ),
    "number": (
        (("v/1.mp4",), {"l.txt": "v/1.mp4 7"}),
        *("l.txt", {"labels": ["a", "b"]}, "the class '7' of {root}/l.txt (1 videos) is none of"),
    ),
    "ucf number": (
        (("v/1.mp4",), {"l.txt": "v/1.mp4 3", "classInd.txt": "1 a\n2 b"}),
        *("l.txt", {}, "line 1 of {root}/l.txt has the class 3, but classInd.txt has 1 to 2"),
    ),
    "ucf classes": (
        (("v/1.mp4",), {"l.txt": "v/1.mp4 1", "classInd.txt": "0 a\n1 b"}),
        *("l.txt", {}, "{root}/classInd.txt is no list of classes; write '1 first', '2 second'"),
    ),
    "all missing": (
        ((), {"l.txt": "v/1.mp4 a\nv/2.mp4 a\n"}),
        *("l.txt", {}, "none of the 2 videos that {root}/l.txt names is there (such as v/1.mp4)"),
    ),
    "empty list": (((), {"l.txt": "\n"}), "l.txt", {}, "{root}/l.txt has no videos"),
    "no path": (
        (("v/1.mp4",), {"l.txt": "v/1.mp4 a\nhello\n"}),
        *("l.txt", {}, "line 2 of {root}/l.txt names no video ('hello'); write a path and its"),
    ),
    "no header": (
        (("v/1.mp4",), {"l.csv": "v/1.mp4,a\n"}),
        *("l.csv", {}, "{root}/l.csv needs a header with the columns path and label (labels, if"),
    ),
    "no cell": (
        (("v/1.mp4",), {"l.csv": "path,label\nv/1.mp4,\n"}),
        *("l.csv", {}, "line 2 of {root}/l.csv lacks a path or a label; correct it"),
    ),
    "no number": (
        (("v/1.mp4",), {"l.csv": "path,label,start\nv/1.mp4,a,soon\n"}),
        *("l.csv", {}, "has a time that is no number of seconds ('soon'); correct it"),
    ),
    "backwards": (
        (("v/1.mp4",), {"l.csv": "path,label,start,end\nv/1.mp4,a,3,2\n"}),
        *("l.csv", {}, "line 2 of {root}/l.csv ends before it starts; correct it"),
    ),
}


def of_class(path: Path, label: int, start: float = 0.0, end: float | None = None) -> Video:
    return Video(path, (Span(label),), start, end)


def video_set(*videos: Video | Path) -> VideoSet:
    entries = [video if isinstance(video, Video) else of_class(video, 0) for video in videos]
    return VideoSet(tuple(entries), ("one", "two"), Path("set"))


def good(item: Clip | Broken) -> Clip:
    assert isinstance(item, Clip), item
    return item
