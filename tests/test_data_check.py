"""Data sets: every layout, what is refused, and what ``data check`` finds."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from movinet_edge.cli import console
from movinet_edge.cli.main import main
from movinet_edge.data.check import check_data
from movinet_edge.data.listing import VideoSet, has_split, read_video_set
from movinet_edge.errors import BadInput
from tests.test_data import film

# Layouts -----------------------------------------------------------------------------------

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


def listed(root: Path, videos: VideoSet) -> list[tuple[str, str]]:
    """Path and class of every video."""
    return [(v.path.relative_to(root).as_posix(), videos.labels[v.label]) for v in videos.videos]


def test_a_folder_of_classes(tree: Tree) -> None:
    root = tree(
        *("run/b.mp4", "run/a.AVI", "run/deep/c.webm", "jump high/x.mov"),
        *(".hidden/y.mp4", "run/.z.mp4", "run/.trash/z.mp4", "run/notes.txt", "loose.mp4"),
        **{"dataset.json": "{}"},
    )
    videos = read_video_set(root)
    assert videos.labels == ("jump high", "run")
    assert listed(root, videos) == [
        ("jump high/x.mov", "jump high"),
        ("run/a.AVI", "run"),
        ("run/b.mp4", "run"),
        ("run/deep/c.webm", "run"),
    ]
    assert len(videos) == 4
    assert videos.source == root
    assert not has_split(root, "train")


def test_given_labels_are_the_order(tree: Tree) -> None:
    root = tree("b/1.mp4", "a/2.mp4")
    videos = read_video_set(root, labels=["c", "b", "a"])
    assert videos.labels == ("c", "b", "a")
    assert sorted((v.path.parent.name, v.label) for v in videos.videos) == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("val", ["val", "validation", "Valid"])
def test_a_folder_of_splits(tree: Tree, val: str) -> None:
    root = tree("train/b/1.mp4", "train/a/2.mp4", f"{val}/a/3.mp4", "test/c/4.mp4", "notes/x.md")
    for split in ("train", "val", "test"):
        assert has_split(root, split)
    assert has_split(root, "validation")
    every = read_video_set(root)
    assert [v.split for v in every.videos] == ["train", "train", "val", "test"]
    assert every.labels == ("a", "b", "c")  # of all splits, so that indices agree
    assert listed(root, read_video_set(root, "train")) == [
        ("train/a/2.mp4", "a"),
        ("train/b/1.mp4", "b"),
    ]
    assert listed(root, read_video_set(root, "val")) == [(f"{val}/a/3.mp4", "a")]
    assert read_video_set(root, "val").labels == every.labels
    assert read_video_set(root / "train").labels == ("a", "b")


def test_a_class_may_be_called_test(tree: Tree) -> None:
    root = tree("test/1.mp4", "run/2.mp4")
    assert read_video_set(root).labels == ("run", "test")
    assert not has_split(root, "test")


@pytest.mark.parametrize(
    ("text", "labels", "want"),
    [
        ("run/1.mp4 go\njump/2.mp4 halt\n", ("go", "halt"), ["go", "halt"]),
        (
            "\nrun/1.mp4  ride a bike \n\njump/2.mp4\n",
            ("jump", "ride a bike"),
            ["ride a bike", "jump"],
        ),
        ("run/1.mp4 2\njump/2.mp4 0", ("0", "1", "2"), ["2", "0"]),
        ("run/1.mp4\njump/2.mp4", ("jump", "run"), ["run", "jump"]),
        ("jump/2.mp4 b\nrun/a film 3.MP4 a", ("a", "b"), ["b", "a"]),
    ],
    ids=["names", "blanks", "numbers", "folders", "paths with blanks"],
)
def test_lists(tree: Tree, text: str, labels: tuple[str, ...], want: list[str]) -> None:
    root = tree("run/1.mp4", "jump/2.mp4", "run/a film 3.MP4", **{"list.txt": text})
    videos = read_video_set(root / "list.txt")
    assert videos.labels == labels
    assert [labels[v.label] for v in videos.videos] == want
    assert all(v.path.is_file() for v in videos.videos)


@pytest.mark.parametrize("place", ["", "lists/", "lists/deep/"])
def test_paths_of_a_list(tree: Tree, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to its folder or one above."""
    root = tree("run/1.mp4", **{f"{place}list.txt": "run/1.mp4 a"})
    assert read_video_set(root / place / "list.txt").videos[0].path.samefile(root / "run/1.mp4")
    monkeypatch.chdir(root / place)
    assert read_video_set(Path("list.txt")).videos[0].path.samefile(root / "run/1.mp4")


UCF = {
    "lists/classInd.txt": "1 Jump\n2 Archery\n",
    "lists/train.txt": "Archery/v_1.avi 2\nJump/v_2.avi 1\n",
    "lists/test.txt": "Jump/v_3.avi\n",
}


def test_ucf101(tree: Tree) -> None:
    """Its videos lie in a neighbouring folder; its classes count from 1 in their own order."""
    names = ("UCF/Archery/v_1.avi", "UCF/Jump/v_2.avi", "UCF/Jump/v_3.avi")
    root = tree(*names, **UCF)
    train, test = (read_video_set(root / "lists" / f"{n}.txt") for n in ("train", "test"))
    assert train.labels == test.labels == ("Jump", "Archery")
    assert [v.label for v in train.videos] == [1, 0]
    assert [v.label for v in test.videos] == [0]
    other = read_video_set(root / "lists/train.txt", labels=["Archery", "Jump", "Run"])
    assert [v.label for v in other.videos] == [0, 1]


def test_numbers_index_given_labels(tree: Tree) -> None:
    root = tree("v/1.mp4", **{"list.txt": "v/1.mp4 1", "names.txt": "v/1.mp4 01"})
    assert read_video_set(root / "list.txt", labels=["a", "b"]).videos[0].label == 1
    assert read_video_set(root / "list.txt", labels=["1", "0"]).videos[0].label == 0
    assert read_video_set(root / "names.txt").videos[0].label == 1


def test_tables(tree: Tree) -> None:
    text = 'Filename,class,split,start,end\nv/1.mp4,"b, c",train,,\nv/2.mp4,a,Validation,1.5,3\n'
    root = tree("v/1.mp4", "v/2.mp4", **{"t.csv": "\ufeff" + text})
    videos = read_video_set(root / "t.csv")
    assert videos.labels == ("a", "b, c")
    one, two = videos.videos
    assert (one.label, one.start, one.end, one.split) == (1, 0.0, None, "train")
    assert (two.label, two.start, two.end, two.split) == (0, 1.5, 3.0, "val")
    assert read_video_set(root / "t.csv", "val").videos == (two,)
    assert read_video_set(root / "t.csv", "val").labels == videos.labels
    assert has_split(root / "t.csv", "valid")
    assert not has_split(root / "t.csv", "test")


@pytest.mark.parametrize("place", ["", "annotations/"])
def test_kinetics(tree: Tree, place: str) -> None:
    rows = [
        "label,youtube_id,time_start,time_end,split",
        "ride,--ab,10,20,train",
        "ride,--ab,30,40,train",
        "jump,-xyz,5,15,train",
        "jump,gone,5,15,train",
    ]
    names = ("ride/--ab_000010_000020.mp4", "ride/--ab_000030_000040.mp4", "-xyz.mp4")
    root = tree(*names, **{f"{place}k.csv": "\n".join(rows)})
    videos = read_video_set(root / place / "k.csv", "train")
    assert listed(root, videos) == list(zip(names, ("ride", "ride", "jump"), strict=True))
    assert videos.missing == ("gone",)
    assert {(v.start, v.end) for v in videos.videos} == {(0.0, None)}


def test_some_videos_of_a_list_are_missing(tree: Tree) -> None:
    root = tree("v/1.mp4", **{"list.txt": "v/1.mp4 b\nv/2.mp4 a\n"})
    videos = read_video_set(root / "list.txt")
    assert videos.missing == ("v/2.mp4",)
    assert videos.labels == ("a", "b")
    assert listed(root, videos) == [("v/1.mp4", "b")]


Layout = tuple[tuple[str, ...], dict[str, str]]
REFUSED: dict[str, tuple[Layout, str, dict[str, Any], str]] = {
    "nothing": (((), {}), "x", {}, "there is no data set at {root}/x; name a folder of classes"),
    "empty": ((("x/",), {}), "x", {}, "{root}/x has no class folders (DIR/<class>/*.mp4)"),
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
        *("l.csv", {}, "{root}/l.csv needs a header with the columns path and label (or"),
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


@pytest.mark.parametrize("case", REFUSED)
def test_refused_data_sets(tree: Tree, case: str) -> None:
    (names, texts), source, options, reason = REFUSED[case]
    root = tree(*names, **texts)
    with pytest.raises(BadInput, match=re.escape(reason.format(root=root))) as refused:
        read_video_set(root / source, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["l.txt", "l.csv"])
def test_lists_that_are_no_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(BadInput, match="is not UTF-8 text; save it as such"):
        read_video_set(tmp_path / name)


def test_what_is_wrong_with_another_split_does_not_matter(tree: Tree) -> None:
    root = tree("train/a/1.mp4", "val/a/2.mp4", "val/b/")
    assert len(read_video_set(root, "train")) == 1
    with pytest.raises(BadInput, match=r"the class folder .*/val/b has no videos"):
        read_video_set(root, "val")


# data check --------------------------------------------------------------------------------

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def data_check(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """``data_check(arguments...)`` -> exit code, stdout, stderr without its progress."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        for stream in (console.out, console.err):
            stream.cache_clear()
        monkeypatch.setenv("COLUMNS", "100")
        words = ["movinet-edge", "data", "check", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", words)
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        said = capfd.readouterr()
        lines = [x for x in said.err.splitlines() if not x.startswith("decoding videos: ")]
        assert isinstance(left.value.code, int)
        return left.value.code, said.out, "\n".join(lines)

    return run


@pytest.fixture
def sound_set(tmp_path: Path) -> Path:
    """Two splits of two classes; all contents differ."""
    root = tmp_path / "set"
    for number, name in enumerate(("train/[a]/1", "train/[a]/2", "train/b/3", "val/b/4")):
        film(root / f"{name}.mp4", 10 + number, rate=10)
    return root


def test_a_data_set_in_order(sound_set: Path, data_check: Run, tmp_path: Path) -> None:
    code, out, err = data_check(sound_set, "--json", tmp_path / "x.json", "--jobs", "2")
    assert (code, err) == (0, "")
    assert f"{sound_set} is in order" in out
    assert "[a]" in out
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["labels"] == ["[a]", "b"]
    assert record["problems"] == []
    train, val = record["splits"]
    assert (train["name"], train["videos"], train["per_class"]) == ("train", 3, {"[a]": 2, "b": 1})
    assert (val["name"], val["videos"], val["per_class"]) == ("val", 1, {"[a]": 0, "b": 1})
    assert train["seconds"]["minimum"] == pytest.approx(1.0, abs=1e-3)
    assert train["seconds"]["median"] == pytest.approx(1.1, abs=1e-3)
    assert train["seconds"]["maximum"] == pytest.approx(1.2, abs=1e-3)
    assert train["frame_rate"]["median"] == pytest.approx(10, rel=1e-3)
    assert (train["width"]["median"], train["height"]["median"]) == (64, 48)
    code, out, _ = data_check(sound_set, "--split", "validation")
    assert code == 0
    assert "train" not in out


def test_what_the_check_finds(sound_set: Path, data_check: Run, tmp_path: Path) -> None:
    (sound_set / "train/empty").mkdir()
    (sound_set / "train/b/text.mp4").write_text("no video")
    film(sound_set / "train/b/one.mp4", 1)
    whole = (sound_set / "val/b/4.mp4").read_bytes()
    (sound_set / "val/b/cut.mp4").write_bytes(whole[:400])
    shutil.copy(sound_set / "train/[a]/1.mp4", sound_set / "train/b/same.mp4")
    shutil.copy(sound_set / "train/b/3.mp4", sound_set / "val/b/leaked.mp4")
    shutil.copy(sound_set / "train/b/3.mp4", sound_set / "train/b/harmless.mp4")
    labels = tmp_path / "labels.txt"
    labels.write_text("empty\nb\n")
    code, out, err = data_check(sound_set, "--json", tmp_path / "x.json")
    assert (code, err) == (1, f"error: {sound_set} has 6 problems")
    problems = json.loads((tmp_path / "x.json").read_text())["problems"]
    found = {(p["kind"], Path(p["subject"]).name) for p in problems}
    assert found == {
        ("empty class", "empty"),
        ("unreadable", "text.mp4"),
        ("unreadable", "cut.mp4"),
        ("one frame", "one.mp4"),
        ("two classes", "same.mp4"),
        ("leak", "leaked.mp4"),
    }
    for problem in problems:
        assert f"{problem['kind']}: {problem['text']}\n" in out
    code, out, err = data_check(sound_set, "--labels", labels)
    assert code == 1
    assert "unknown label: the class '[a]' of" in out


def test_the_check_of_a_list(tree: Tree, data_check: Run, tmp_path: Path) -> None:
    film(tmp_path / "v/1.mp4", 10, rate=10)
    table = (
        "path,label,start,end\nv/1.mp4,a,0,0.5\nv/1.mp4,b,0.5,\nv/1.mp4,b,2,\nv/2.mp4,a,,\n,a,,\n"
    )
    root = tree(**{"l.csv": table, "labels.txt": "a\nb\nc\n"})
    code, out, _ = data_check(root / "l.csv", "--labels", root / "labels.txt")
    assert code == 1
    lines = [line for line in out.splitlines() if ": " in line]
    assert lines == [
        "note: no video of the class c",
        f"wrong line: line 6 of {root}/l.csv lacks a path or a label; correct it",
        f"missing file: v/2.mp4 is named by {root}/l.csv and is not there",
        f"empty segment: {root}/v/1.mp4 lasts 1.00 s, but a segment starts at 2 s; "
        "correct the list",
    ]


def test_one_file_in_two_classes(tree: Tree, tmp_path: Path) -> None:
    film(tmp_path / "v/1.mp4", 10)
    root = tree(**{"l.txt": "v/1.mp4 a\nv/1.mp4 b\nv/1.mp4 a\n"})
    assert [p.kind for p in check_data(root / "l.txt").problems] == ["two classes"]


@pytest.mark.parametrize("case", ["nothing", "empty", "video", "no such split", "empty list"])
def test_the_check_refuses_what_is_no_data_set(tree: Tree, data_check: Run, case: str) -> None:
    (names, texts), source, options, reason = REFUSED[case]
    root = tree(*names, **texts)
    more = ["--split", options["split"]] if options else []
    code, out, err = data_check(root / source, *more)
    assert (code, out) == (2, "")
    assert reason.format(root=root) in err
    assert len(err.splitlines()) == 1


def test_the_check_cannot_write(sound_set: Path, data_check: Run) -> None:
    code, _, err = data_check(sound_set, "--json", sound_set / "train/b/3.mp4/x.json")
    assert code == 2
    assert "cannot be written" in err


def test_many_classes_and_problems_are_cut_short(tree: Tree, data_check: Run) -> None:
    root = tree(*(f"class{n:03}/{k}.mp4" for n in range(50) for k in range(1 + n % 3)))
    code, out, _ = data_check(root)
    assert code == 1
    assert "the 30 classes of the fewest and the most videos:" in out
    assert "... and 69 more (--json writes all)" in out
    assert len(out.splitlines()) < 90
