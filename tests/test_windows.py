"""Long videos in windows: where they begin, which are trained on, and what they find together."""

from __future__ import annotations

import numpy as np
import pytest

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import THUMOS
from movinet_edge.localization.proposals import propose
from movinet_edge.localization.windows import merged, window_starts, worth_training
from tests.localization_reference import soft_nms


@pytest.mark.parametrize("snippets", [1, 100, 255, 256, 257, 307, 308, 384, 400, 640, 1000, 2051])
def test_windows_are_the_public_ones(snippets: int) -> None:
    length, stride, skipped = 256, 128, 5
    count = int((snippets + stride - length) / stride)
    expected = [k * stride for k in range(count)]
    if snippets < length:
        expected = [0]
    elif snippets - expected[-1] - length > int(length / skipped):
        expected.append(snippets - length)
    assert list(window_starts(snippets, length)) == expected


def test_windows_to_train_on_have_an_action_whole() -> None:
    def trains(*actions: tuple[float, float]) -> bool:
        return worth_training(np.array(actions, np.float64).reshape(-1, 2), 100)

    assert trains((20, 30))
    assert trains((-5, 60), (20, 30))
    assert trains((-0.5, 60))
    assert not trains((-20, 60))
    assert not trains((95, 110))
    assert not trains()


def test_windows_find_what_lists_find() -> None:
    rng = np.random.default_rng(0)
    anchors, windows, rows = Anchors(64, 64), [], []
    for start in window_starts(150, 64):
        overlap, action = rng.random((2, len(anchors)))
        curves = rng.random((2, 64))
        segments, scores = propose(anchors, overlap, action, *curves, THUMOS)
        windows.append((start, segments, scores))
        one = [(s, e, v) for (s, e), v in zip(segments, scores, strict=True)]
        kept = soft_nms(one, THUMOS.theta, THUMOS.keep, THUMOS.longest or np.inf)
        rows += [(s + start, e + start, v) for s, e, v in kept]
    expected = np.array(soft_nms(rows, THUMOS.theta, THUMOS.keep, THUMOS.longest or np.inf))
    found, scores = merged(windows)
    np.testing.assert_allclose(found, expected[:, :2])
    np.testing.assert_allclose(scores, expected[:, 2], atol=1e-12)
    assert len(found) == THUMOS.keep
    assert found.max() > 100


def test_no_windows_find_nothing() -> None:
    segments, scores = merged([])
    assert segments.shape == (0, 2)
    assert scores.shape == (0,)
