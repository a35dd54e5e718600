"""Scores to segments: candidates, proposals, soft-NMS, classes."""

from __future__ import annotations

import numpy as np
import pytest

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET, THUMOS
from movinet_edge.localization.proposals import candidates, labelled, propose, thinned
from movinet_edge.localization.soft_nms import soft_nms
from tests.localization_reference import soft_nms as plain_nms


def test_candidates_are_peaks_and_what_is_high() -> None:
    curve = np.array([0.9, 0.1, 0.3, 0.2, 0.5, 0.6, 0.45, 0.2, 0.9])
    assert np.flatnonzero(candidates(curve)).tolist() == [2, 4, 5]


def test_proposals_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    anchors = Anchors(20, 12)
    for _ in range(10):
        start, end = rng.random(20), rng.random(20)
        overlap, action = rng.random((2, len(anchors)))
        score = anchors.as_map(overlap * action)
        begins, stops = candidates(start), candidates(end)
        expected = {
            (s, s + d + 1): score[d, s]
            for d in range(12)
            for s in range(20)
            if s + d + 1 < 20 and (s == 0 or begins[s]) and (s + d + 1 == 19 or stops[s + d + 1])
        }
        segments, values = propose(anchors, overlap, action, start, end)
        found = {(int(s), int(e)): v for (s, e), v in zip(segments, values, strict=True)}
        assert found.keys() == expected.keys()
        assert all(abs(found[key] - value) < 1e-12 for key, value in expected.items())
        every, _ = propose(anchors, overlap, action, start, end, THUMOS)
        assert len(every) == (anchors.segments[:, 1] < 20).sum() > len(segments)


@pytest.mark.parametrize(("theta", "keep", "longest"), [(0.8, 100, None), (0.46, 20, 30.0)])
@pytest.mark.parametrize("count", [2, 3, 60, 300])
def test_soft_nms_is_the_public_one(
    theta: float, keep: int, longest: float | None, count: int
) -> None:
    rng = np.random.default_rng(count)
    segments = np.sort(rng.integers(0, 100, (count, 2)), 1) + np.array([0, 1])
    scores = rng.random(count)
    rows = [(float(s), float(e), float(v)) for (s, e), v in zip(segments, scores, strict=True)]
    expected = np.array(plain_nms(rows, theta, keep, longest or np.inf)).reshape(-1, 3)
    kept, values = soft_nms(segments, scores, theta, keep, longest)
    np.testing.assert_allclose(kept, expected[:, :2], rtol=0, atol=0)
    np.testing.assert_allclose(values, expected[:, 2], rtol=0, atol=1e-12)
    assert len(kept) <= keep


def test_soft_nms_of_few() -> None:
    one, score = np.array([[2.0, 5.0]]), np.array([0.4])
    kept, values = soft_nms(one, score, 0.8)
    assert (kept.tolist(), values.tolist()) == ([[2.0, 5.0]], [0.4])
    none, nothing = soft_nms(np.zeros((0, 2)), np.zeros(0), 0.8)
    assert none.shape == (0, 2)
    assert nothing.shape == (0,)
    apart = np.array([[0.0, 10.0], [0.0, 10.0], [50.0, 60.0]])
    kept, values = soft_nms(apart, np.array([0.9, 0.8, 0.5]), 0.8)
    assert kept.tolist() == [[0.0, 10.0], [50.0, 60.0]]
    assert values.tolist() == [0.9, 0.5]


def test_conventions_are_followed() -> None:
    rng = np.random.default_rng(0)
    segments = np.sort(rng.integers(0, 256, (2000, 2)), 1) + np.array([0, 1])
    scores = rng.random(2000)
    for convention, kept in ((ACTIVITYNET, 100), (THUMOS, 200)):
        found, values = thinned(segments, scores, convention)
        assert len(found) == kept
        assert (np.diff(values) <= 0).all()
        lengths = found[:, 1] - found[:, 0]
        assert lengths.max() < (convention.longest or 257)


def test_each_proposal_once_for_each_of_the_best_classes() -> None:
    times = np.array([[1.0, 2.0], [3.0, 5.0]])
    found = labelled(times, np.array([0.5, 0.25]), np.array([0.1, 0.6, 0.0, 0.8]))
    assert found.labels.tolist() == [3, 3, 1, 1]
    assert found.times.tolist() == [*times.tolist(), *times.tolist()]
    np.testing.assert_allclose(found.scores, [0.4, 0.2, 0.3, 0.15])
    assert len(labelled(times, np.array([0.5, 0.25]), np.array([1.0]))) == 2


def test_nothing_may_be_found() -> None:
    anchors, curve = Anchors(20, 3), np.zeros(20)  # nothing so short leads from first to last
    scores = np.ones(len(anchors))
    segments, values = propose(anchors, scores, scores, curve, curve)
    found = labelled(*thinned(segments, values), np.array([0.3, 0.7]))
    assert (found.times.shape, found.labels.shape, found.scores.shape) == ((0, 2), (0,), (0,))
