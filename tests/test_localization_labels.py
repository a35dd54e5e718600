"""Labels and losses of G-TAD against a plain reading of the public code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from movinet_edge.localization.anchors import Anchors
from movinet_edge.localization.conventions import ACTIVITYNET, THUMOS, Convention
from movinet_edge.localization.labels import Labels, make_labels
from movinet_edge.models.gtad import LocalizationScores, as_map
from movinet_edge.train.localization_loss import (
    balanced_log_loss,
    localization_loss,
    regression_loss,
)
from tests.localization_reference import label_curve, label_map, log_loss, regression

Shared = Callable[[str], Path]


def actions(seed: int, snippets: int) -> np.ndarray:
    """Some in cells, one across the end of what is seen."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.random((4, 2)), 1) * snippets
    times[0] = (0.8 * snippets, 1.1 * snippets)
    return times


def expected(times: np.ndarray, anchors: Anchors, convention: Convention) -> Labels:
    count = anchors.snippets
    edges = times.clip(0, count) if convention.clips else times
    curves = (label_curve(edges[:, k] / count, count, *convention.cell) for k in (0, 1))
    full = label_map(times / count, count, anchors.durations)
    return Labels(anchors.as_rows(full), *curves)


def same(ours: Labels, theirs: Labels) -> None:
    for name in ("overlap", "start", "end"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-6)


@pytest.mark.parametrize("convention", [ACTIVITYNET, THUMOS])
def test_labels_are_the_public_ones(convention: Convention) -> None:
    for seed in range(5):
        anchors = Anchors(24, 10)
        times = actions(seed, 24)
        same(make_labels(times, anchors, convention), expected(times, anchors, convention))


def test_labels_of_real_annotations(shared: Shared) -> None:
    content = json.loads(shared("data/tal/anet_anno_action.json").read_text("utf-8"))
    anchors, seen = Anchors(100, 100), 0
    for video in list(content.values())[::500]:
        if not video["annotations"]:
            continue
        seconds = video["feature_frame"] / video["duration_frame"] * video["duration_second"]
        times = np.array([a["segment"] for a in video["annotations"]]) / seconds * 100
        ours = make_labels(times, anchors)
        same(ours, expected(times, anchors, ACTIVITYNET))
        seen += int(ours.overlap.max() > 0.9)
    assert seen > 10


def test_labels_of_nothing_are_zeros() -> None:
    labels = make_labels(np.zeros((0, 2)), Anchors(8, 8))
    assert (labels.overlap.shape, labels.start.shape) == ((36,), (8,))
    assert not labels.overlap.any()
    assert not labels.start.any()
    assert not labels.end.any()


def test_boundaries_outside_are_at_the_ends_or_nowhere() -> None:
    outside = np.array([[-5.0, 4.0]])
    assert make_labels(outside, Anchors(12, 12), ACTIVITYNET).start.max() == 1
    assert make_labels(outside, Anchors(12, 12), THUMOS).start.max() == 0


def batch(anchors: Anchors, seed: int) -> tuple[LocalizationScores, list[torch.Tensor]]:
    """Scores and labels of two videos."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (len(anchors), len(anchors), anchors.snippets, anchors.snippets)
    scores = (torch.rand(2, size, generator=generator).requires_grad_() for size in sizes)
    labels = [make_labels(actions(seed + k, anchors.snippets), anchors) for k in (0, 1)]
    stacked = zip(*((v.overlap, v.start, v.end) for v in labels), strict=True)
    return LocalizationScores(*scores), [torch.from_numpy(np.stack(part)) for part in stacked]


@pytest.mark.parametrize("convention", [ACTIVITYNET, THUMOS])
def test_losses_are_the_public_ones(convention: Convention) -> None:
    anchors = Anchors(30, 22)
    mask = torch.from_numpy(anchors.as_map(np.ones(len(anchors), np.float32)))
    guard, weights = int(convention.guard), convention.weights
    for seed in range(4):
        scores, (overlap, start, end) = batch(anchors, seed)
        drawn = torch.rand(overlap.shape, generator=torch.Generator().manual_seed(seed))
        # Where no anchor is, scores of the public code are anything and draws count for nothing.
        both, truth, draws = (
            as_map(rows, anchors, torch.full(rows.shape[:2], 0.3))
            for rows in (torch.stack(scores[:2], 1), overlap[:, None], drawn[:, None])
        )
        truth = truth[:, 0] * mask
        region = regression(both[:, 0], truth, mask, (draws[:, 0], draws[:, 0]))
        kind = log_loss(both[:, 1], truth > 0.9, mask, guard)
        edges = [
            log_loss(curve, label > 0.5, torch.ones_like(label), 0)
            for curve, label in ((scores.start, start), (scores.end, end))
        ]
        found = localization_loss(scores, overlap, start, end, convention, drawn)
        theirs = (edges[0] + edges[1], region, kind)
        total = sum((w * part for w, part in zip(weights, theirs, strict=True)), torch.tensor(0.0))
        for ours, other in zip(found, (total, *theirs), strict=True):
            assert torch.isfinite(ours)
            torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)
        for ours, other in zip(
            torch.autograd.grad(found.total, scores),
            torch.autograd.grad(total, scores),
            strict=True,
        ):
            torch.testing.assert_close(ours, other, atol=1e-5, rtol=1e-5)


def test_weights_of_the_losses() -> None:
    scores, labels = batch(Anchors(12, 12), 0)
    drawn = torch.rand_like(labels[0])
    parts = localization_loss(scores, *labels, ACTIVITYNET, drawn)
    assert torch.isclose(parts.total, parts.boundary + 10 * parts.regression + parts.classification)
    plain = replace(THUMOS, guard=0.0)
    other = localization_loss(scores, *labels, plain, drawn)
    assert torch.isclose(other.total, parts.boundary + parts.regression + 10 * parts.classification)


@pytest.mark.parametrize("positives", [0, 1, 5])
def test_losses_stay_finite(positives: int) -> None:
    score = torch.full((1, 5), 0.5, requires_grad=True)
    positive = torch.arange(5)[None] < positives
    loss = balanced_log_loss(score, positive)
    (gradient,) = torch.autograd.grad(loss, score)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert regression_loss(score, torch.zeros(1, 5), torch.rand(1, 5)) == 0


def test_the_regression_takes_as_many_of_each_kind() -> None:
    overlap = torch.cat([torch.full((50,), v) for v in (0.8, *[0.5] * 10, *[0.1] * 20, 0.0)])
    drawn = torch.rand(len(overlap), generator=torch.Generator().manual_seed(0))
    score = overlap.clone()
    score[overlap == 0.5] += 0.3  # errors in one kind only
    loss = regression_loss(score, overlap, drawn)
    assert abs(float(loss) - 0.5 * 0.09 / 3) < 0.004
    few = torch.tensor([0.8, 0.8, 0.5])
    error = regression_loss(torch.tensor([0.8, 0.8, 0.0]), few, torch.zeros(3))
    assert torch.isclose(error, torch.tensor(0.5 * 0.25 / 3))
