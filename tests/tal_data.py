"""Real annotations and predictions made from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from movinet_edge.localization.segments import Segments
from tests.localization_reference import Row

Truth = dict[str, Segments]


def segments_of(rows: list[tuple[float, float, int]]) -> Segments:
    times = np.array([row[:2] for row in rows], np.float64).reshape(-1, 2)
    return Segments(times, np.array([row[2] for row in rows], np.int64))


def activitynet(path: Path) -> Truth:
    """The annotations of G-TAD's ActivityNet file as they are."""
    content = json.loads(path.read_text("utf-8"))
    names = sorted({a["label"] for video in content.values() for a in video["annotations"]})
    return {
        name: segments_of([(*a["segment"], names.index(a["label"])) for a in video["annotations"]])
        for name, video in content.items()
        if video["annotations"]
    }


def thumos(path: Path, subset: str) -> Truth:
    """The annotations of one half of G-TAD's THUMOS14 file."""
    content = json.loads(path.read_text("utf-8"))["database"]
    names = sorted({a["label"] for video in content.values() for a in video["annotations"]})
    return {
        name: segments_of(
            [
                (float(a["segment"][0]), float(a["segment"][1]), names.index(a["label"]))
                for a in video["annotations"]
            ]
        )
        for name, video in content.items()
        if video["subset"] == subset
    }


def oracle(truth: Mapping[str, Segments]) -> Truth:
    """What knows everything."""
    return {name: Segments(s.times, s.labels, np.ones(len(s))) for name, s in truth.items()}


def perturbed(truth: Mapping[str, Segments], copies: int, seed: int = 0) -> Truth:
    """Predictions near the truth: moved, of another class now and then, missing in some videos.

    Videos with no truth have some, too.
    """
    rng = np.random.default_rng(seed)
    classes = 1 + max(int(s.labels.max()) for s in truth.values())
    found = {}
    for number, (name, segments) in enumerate(truth.items()):
        if number % 11 == 0:
            continue
        times = np.repeat(segments.times, copies, 0)
        lengths = times[:, 1:] - times[:, :1]
        times = times + lengths * rng.normal(0, 0.15, times.shape)
        times.sort(1)
        labels = np.repeat(segments.labels, copies)
        wrong = rng.random(len(labels)) < 0.2
        labels = np.where(wrong, rng.integers(0, classes, len(labels)), labels)
        found[name] = Segments(times, labels, rng.random(len(labels)))
    found["unknown"] = Segments(np.array([[0.0, 9.0]]), np.array([0]), np.array([0.99]))
    return found


def rows_of(videos: Mapping[str, Segments]) -> list[Row]:
    """For the reference; a score of 0 where there is none."""
    return [
        (name, float(start), float(end), int(label), float(score))
        for name, s in videos.items()
        for (start, end), label, score in zip(
            s.times, s.labels, s.scores if len(s.scores) else np.zeros(len(s)), strict=True
        )
    ]
