"""Scores of whole videos' classes from files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from movinet_edge.data.annotation_files import THUMOS_CLASSES
from movinet_edge.data.annotations import read_annotations
from movinet_edge.data.class_scores import read_class_scores
from movinet_edge.errors import BadInput

Shared = Callable[[str], Path]


def test_scores_come_in_the_order_of_labels(tmp_path: Path) -> None:
    path = tmp_path / "cuhk.json"
    content = {"class": ["a", "b", "c"], "results": {"x": [0.1, 0.2, 0.7], "v_y": [1, 0, 0]}}
    path.write_text(json.dumps(content))
    scores = read_class_scores(path, ["c", "a"])
    assert scores.of("v_x").tolist() == [0.7, 0.1]
    assert scores.of("y").tolist() == [0.0, 1.0]
    with pytest.raises(BadInput, match="has no class scores of z; leave the video out"):
        scores.of("z")
    with pytest.raises(BadInput, match="has no scores of the class 'd'"):
        read_class_scores(path, ["a", "d"])


def test_real_scores_know_the_classes_of_thumos(shared: Shared) -> None:
    scores = read_class_scores(shared("data/tal/uNet_test.npy"), THUMOS_CLASSES)
    videos = read_annotations(shared("data/tal/thumos_gt.json"), "test").videos
    right = [
        THUMOS_CLASSES[int(scores.of(video.name).argmax())] in {a.label for a in video.actions}
        for video in videos
    ]
    assert np.mean(right) > 0.8


BROKEN: dict[str, tuple[str, Any, str]] = {
    "nothing": ("a.json", None, "there are no class scores at"),
    "no json": ("a.json", "x", "holds no class scores; it needs 'class', a list of names"),
    "a list": ("a.json", "[]", "holds no class scores"),
    "no results": ("a.json", '{"class": ["a"]}', "holds no class scores"),
    "too few": (
        *("a.json", '{"class": ["a", "b"], "results": {"x": [1]}}'),
        "x in {path} has not one score for each of 2 classes",
    ),
    "no array": ("a.npy", "x", "is damaged or no .npy file"),
    "width": ("a.npy", np.zeros((3, 20)), "is [3, 20]; it needs a column per class of UCF101"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_files_that_are_none(case: str, tmp_path: Path) -> None:
    name, content, sentence = BROKEN[case]
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(BadInput, match=re.escape(sentence.format(path=path))):
        read_class_scores(path, ["a"])
