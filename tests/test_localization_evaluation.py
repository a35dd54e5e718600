"""mAP and average recall against a plain reading of ActivityNet's evaluation, on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from movinet_edge.localization.average_precision import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    average_precision,
)
from movinet_edge.localization.proposal_recall import proposal_recall
from movinet_edge.localization.segments import Segments, overlap
from tests.localization_reference import average_recall, class_ap, grouped, mean_ap, tiou
from tests.tal_data import Truth, activitynet, oracle, perturbed, rows_of, thumos

Shared = Callable[[str], Path]


@pytest.fixture(scope="module", params=["activitynet", "thumos"])
def real(request: pytest.FixtureRequest, shared: Shared) -> Truth:
    if request.param == "thumos":
        whole, step = thumos(shared("data/tal/thumos_gt.json"), "test"), 3
    else:
        whole, step = activitynet(shared("data/tal/anet_anno_action.json")), 5
    return {name: whole[name] for name in sorted(whole)[::step]}


def segments(*rows: tuple[float, float, int, float]) -> Segments:
    found = np.array(rows, np.float64).reshape(-1, 4)
    return Segments(found[:, :2], found[:, 2].astype(np.int64), found[:, 3])


def test_thresholds_are_those_of_the_benchmarks() -> None:
    assert np.allclose(ACTIVITYNET_THRESHOLDS, [0.5 + 0.05 * k for k in range(10)])
    assert np.allclose(THUMOS_THRESHOLDS, [0.3, 0.4, 0.5, 0.6, 0.7])


@pytest.mark.parametrize("thresholds", [ACTIVITYNET_THRESHOLDS, THUMOS_THRESHOLDS])
def test_precision_of_predictions_near_the_truth(
    real: Truth, thresholds: tuple[float, ...]
) -> None:
    found = perturbed(real, 3)
    result = average_precision(real, found, thresholds)
    truth, answers = rows_of(real), rows_of(found)
    expected = [mean_ap(truth, answers, threshold) for threshold in thresholds]
    np.testing.assert_allclose(result.mean, expected, rtol=0, atol=1e-6)
    assert 0.05 < result.average < 0.95
    by_class, by_label = grouped(truth, 3), grouped(answers, 3)
    for column in (0, len(result.classes) // 2):
        label = result.classes[column]
        one = class_ap(by_class[label], by_label[label], thresholds[-1])
        assert abs(result.per_class[-1, column] - one) < 1e-6


def test_recall_of_predictions_near_the_truth(real: Truth) -> None:
    found = perturbed(real, 3, seed=1)
    truth, answers = rows_of(real), rows_of(found)
    for most in (None, 5.0):
        result = proposal_recall(real, found, most=most)
        recall, count = average_recall(truth, answers, result.thresholds, most)
        np.testing.assert_allclose(result.average, recall, rtol=0, atol=1e-6)
        np.testing.assert_allclose(result.proposals, count, rtol=1e-12)
        heights = (recall[1:] + recall[:-1]) / 2
        area = float((heights * np.diff(count)).sum()) / count[-1]
        assert abs(result.area - area) < 1e-6


def test_who_knows_everything_has_all(real: Truth) -> None:
    # Segments without length, of which ActivityNet has some, cannot be found.
    truth = {
        name: Segments(s.times[long], s.labels[long])
        for name, s in real.items()
        if (long := s.times[:, 1] > s.times[:, 0]).any()
    }
    result = average_precision(truth, oracle(truth))
    assert np.all(result.per_class == 1.0)
    assert result.average == 1.0
    assert proposal_recall(truth, oracle(truth)).average[-1] == 1.0


def test_only_the_first_answer_takes_an_action() -> None:
    truth = {"a": segments((0, 10, 0, 0))}
    twice = {"a": segments((0, 10, 0, 0.9), (0, 10, 0, 0.8))}
    late = {"a": segments((0, 10, 0, 0.5), (40, 50, 0, 0.9))}
    assert average_precision(truth, twice).average == 1.0
    assert average_precision(truth, late).average == 0.5


def test_the_best_free_action_is_taken() -> None:
    truth = {"a": segments((0, 10, 0, 0), (2, 12, 0, 0))}
    found = {"a": segments((1, 11, 0, 0.9), (1, 11, 0, 0.8), (1, 11, 0, 0.7))}
    result = average_precision(truth, found, (0.5, 0.9))
    assert result.mean.tolist() == [1.0, 0.0]


def test_classes_are_apart() -> None:
    truth = {"a": segments((0, 10, 0, 0)), "b": segments((0, 10, 3, 0))}
    found = {"a": segments((0, 10, 3, 0.9)), "b": segments((0, 10, 3, 0.8), (0, 10, 7, 0.9))}
    result = average_precision(truth, found)
    assert result.classes == (0, 3)
    assert result.per_class[0].tolist() == [0.0, 0.5]


def test_recall_grows_with_proposals() -> None:
    truth = {"a": segments((0, 10, 0, 0)), "b": segments((0, 10, 1, 0)), "c": segments()}
    found = {"a": segments((20, 30, 0, 0.9), (0, 10, 0, 0.8))}
    result = proposal_recall(truth, found, most=1)
    assert result.proposals[[0, -1]].tolist() == [0.01, 1.0]
    assert (result.at(0.5), result.at(1)) == (0.0, 0.5)
    assert 0 < result.area < 0.5


def test_overlap_of_segments() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.random((20, 2)), 1) for _ in range(2))
    a[3], b[4] = (0.5, 0.5), (0.5, 0.5)
    expected = [[tiou(one, other) for other in b] for one in a]
    np.testing.assert_allclose(overlap(a, b), expected, rtol=0, atol=1e-12)


def test_nothing_to_evaluate() -> None:
    empty, some = {"a": segments()}, {"a": segments((0, 1, 0, 1))}
    assert average_precision(some, {}).average == 0
    assert average_precision(some, empty).average == 0
    with pytest.raises(ValueError, match="nothing is annotated"):
        average_precision(empty, some)
    with pytest.raises(ValueError, match="nothing is annotated"):
        proposal_recall(empty, some)
    with pytest.raises(ValueError, match="nothing was found"):
        proposal_recall(some, empty)
    with pytest.raises(ValueError, match="nothing was found in videos with actions"):
        proposal_recall(some, {"b": some["a"]})
