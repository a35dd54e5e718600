"""Scores of whole videos' classes that others made, to be multiplied into proposals'."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from movinet_edge.data.annotation_files import THUMOS_CLASSES
from movinet_edge.data.features import PREFIX
from movinet_edge.data.sources import text_of
from movinet_edge.errors import BadInput

# UCF101's numbers, from 1 on, of THUMOS14's classes that are localized.
UCF_NUMBERS = (
    *(7, 9, 12, 21, 22, 23, 24, 26, 31, 33),
    *(36, 40, 45, 51, 68, 79, 85, 92, 93, 97),
)
THUMOS_VIDEO = "video_test_{:07d}"


class ClassScores:
    """For each video the scores of all classes, float64 [C], in the order of the labels."""

    def __init__(self, source: Path, scores: dict[str, np.ndarray]):
        self.source, self.scores = source, scores

    def of(self, video: str) -> np.ndarray:
        """Scores of a video, whose name may begin with ``v_`` here or there.

        Raises:
            BadInput: it has none.
        """
        bare = video.removeprefix(PREFIX)
        for name in (video, bare, PREFIX + bare):
            if name in self.scores:
                return self.scores[name]
        raise BadInput(f"{self.source} has no class scores of {video}; leave the video out")


def read_class_scores(path: Path, labels: Sequence[str]) -> ClassScores:
    """Scores of the classes `labels`.

    Args:
        path: a ``.json`` ``{"class": [names], "results": {video: [scores]}}`` (as CUHK's of
            ActivityNet), or a ``.npy`` with a row per test video of THUMOS14, in the order of their
            numbers, and a column per class of UCF101 (as UntrimmedNet's).

    Raises:
        BadInput: missing, of another layout, or without one of the classes.
    """
    if not path.is_file():
        raise BadInput(f"there are no class scores at {path}")
    names, rows = _read_npy(path) if path.suffix == ".npy" else _read_json(path)
    lacking = [label for label in labels if label not in names]
    if lacking:
        raise BadInput(f"{path} has no scores of the class {lacking[0]!r}; take those that have")
    columns = [names.index(label) for label in labels]
    return ClassScores(path, {video: scores[columns] for video, scores in rows.items()})


def _read_json(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    try:
        content = json.loads(text_of(path))
        names = [str(name) for name in content["class"]]
        rows = {v: np.array(s, np.float64) for v, s in content["results"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{path} holds no class scores; it needs 'class', a list of names, and 'results', "
            "which has a list of scores for each video"
        ) from None
    for video, scores in rows.items():
        if scores.shape != (len(names),):
            raise BadInput(f"{video} in {path} has not one score for each of {len(names)} classes")
    return names, rows


def _read_npy(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path} is damaged or no .npy file; copy it again") from error
    if table.ndim != 2 or table.shape[1] != 101:
        raise BadInput(f"{path} is {list(table.shape)}; it needs a column per class of UCF101")
    columns = [number - 1 for number in UCF_NUMBERS]
    rows = {
        THUMOS_VIDEO.format(number): row[columns].astype(np.float64)
        for number, row in enumerate(table, 1)
    }
    return list(THUMOS_CLASSES), rows
