"""Data sets: every layout, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from movinet_edge.data.listing import VideoSet, read_video_set
from movinet_edge.data.sources import read_source
from movinet_edge.errors import BadInput
from tests.data_sets import REFUSED, Tree


def listed(root: Path, videos: VideoSet) -> list[tuple[str, str]]:
    """Path and class of every video."""
    return [
        (v.path.relative_to(root).as_posix(), videos.labels[v.labels[0]]) for v in videos.videos
    ]


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
    assert read_source(root).splits == ()


def test_given_labels_are_the_order(tree: Tree) -> None:
    root = tree("b/1.mp4", "a/2.mp4")
    videos = read_video_set(root, labels=["c", "b", "a"])
    assert videos.labels == ("c", "b", "a")
    assert sorted((v.path.parent.name, v.labels[0]) for v in videos.videos) == [("a", 2), ("b", 1)]


@pytest.mark.parametrize("val", ["val", "validation", "Valid"])
def test_a_folder_of_splits(tree: Tree, val: str) -> None:
    root = tree("train/b/1.mp4", "train/a/2.mp4", f"{val}/a/3.mp4", "test/c/4.mp4", "notes/x.md")
    for split in ("train", "val", "test"):
        assert read_source(root).first_of(split) == split
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
    assert read_source(root).first_of("test") is None


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
    assert [labels[v.labels[0]] for v in videos.videos] == want
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
    assert [v.labels[0] for v in train.videos] == [1, 0]
    assert [v.labels[0] for v in test.videos] == [0]
    other = read_video_set(root / "lists/train.txt", labels=["Archery", "Jump", "Run"])
    assert [v.labels[0] for v in other.videos] == [0, 1]


def test_numbers_index_given_labels(tree: Tree) -> None:
    root = tree("v/1.mp4", **{"list.txt": "v/1.mp4 1", "names.txt": "v/1.mp4 01"})
    assert read_video_set(root / "list.txt", labels=["a", "b"]).videos[0].labels == (1,)
    assert read_video_set(root / "list.txt", labels=["1", "0"]).videos[0].labels == (0,)
    assert read_video_set(root / "names.txt").videos[0].labels == (1,)


def test_tables(tree: Tree) -> None:
    text = 'Filename,class,split,start,end\nv/1.mp4,"b, c",train,,\nv/2.mp4,a,Validation,1.5,3\n'
    root = tree("v/1.mp4", "v/2.mp4", **{"t.csv": "\ufeff" + text})
    videos = read_video_set(root / "t.csv")
    assert videos.labels == ("a", "b, c")
    one, two = videos.videos
    assert (*one.labels, one.start, one.end, one.split) == (1, 0.0, None, "train")
    assert (*two.labels, two.start, two.end, two.split) == (0, 1.5, 3.0, "val")
    assert read_video_set(root / "t.csv", "val").videos == (two,)
    assert read_video_set(root / "t.csv", "val").labels == videos.labels
    assert read_source(root / "t.csv").first_of("test", "val") == "val"


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
