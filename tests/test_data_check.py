"""``data check``: what it finds in a data set, and how it says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from movinet_edge.data.check import check_data
from tests.commands import Command, refusal
from tests.data_sets import REFUSED, Tree
from tests.videos import film


@pytest.fixture
def data_check(call: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """``data_check(arguments...)`` -> exit code, stdout, stderr without its progress."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code, out, err = call("data", "check", *arguments)
        lines = [x for x in err.splitlines() if not x.startswith("decoding videos: ")]
        return code, out, "\n".join(lines)

    return run


@pytest.fixture
def sound_set(tmp_path: Path) -> Path:
    """Two splits of two classes; all contents differ."""
    root = tmp_path / "set"
    for number, name in enumerate(("train/[a]/1", "train/[a]/2", "train/b/3", "val/b/4")):
        film(root / f"{name}.mp4", 10 + number, rate=10)
    return root


def test_a_data_set_in_order(sound_set: Path, data_check: Command, tmp_path: Path) -> None:
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


def test_what_the_check_finds(sound_set: Path, data_check: Command, tmp_path: Path) -> None:
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


def test_the_check_of_a_list(tree: Tree, data_check: Command, tmp_path: Path) -> None:
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
def test_the_check_refuses_what_is_no_data_set(tree: Tree, data_check: Command, case: str) -> None:
    (names, texts), source, options, reason = REFUSED[case]
    root = tree(*names, **texts)
    more = ["--split", options["split"]] if options else []
    assert reason.format(root=root) in refusal(data_check(root / source, *more))


def test_the_check_cannot_write(sound_set: Path, data_check: Command) -> None:
    code, _, err = data_check(sound_set, "--json", sound_set / "train/b/3.mp4/x.json")
    assert code == 2
    assert "cannot be written" in err


def test_many_classes_and_problems_are_cut_short(tree: Tree, data_check: Command) -> None:
    root = tree(*(f"class{n:03}/{k}.mp4" for n in range(50) for k in range(1 + n % 3)))
    code, out, _ = data_check(root)
    assert code == 1
    assert "the 30 classes of the fewest and the most videos:" in out
    assert "... and 69 more (--json writes all)" in out
    assert len(out.splitlines()) < 90
