"""The three losses of G-TAD (section 3.4) on the scores of valid anchors, places and labels.

They follow frostinassiky/gtad, and stay finite where that does not: without any positive, or with
positives alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from movinet_edge.localization.conventions import ACTIVITYNET, Convention
from movinet_edge.models.gtad import LocalizationScores

SMALLEST = 1e-6  # added to probabilities
BOUNDARY = 0.5  # of a place that belongs to it
GOOD, FAIR, ACTION = 0.7, 0.3, 0.9  # tIoU of anchors


class LocalizationLoss(NamedTuple):
    """Scalars; `total` is the weighted sum of the others."""

    total: Tensor
    boundary: Tensor
    regression: Tensor
    classification: Tensor


def localization_loss(
    scores: LocalizationScores,
    overlap: Tensor,
    start: Tensor,
    end: Tensor,
    convention: Convention = ACTIVITYNET,
    drawn: Tensor | None = None,
) -> LocalizationLoss:
    """The loss of a batch.

    Args:
        scores: of B videos, N anchors and T places.
        overlap: each anchor's greatest tIoU with an action, [B, N].
        start, end: shares of places that belong to boundaries, [B, T].
        drawn: uniform in [0, 1), [B, N]: decide which anchors the regression takes; without any
            they are drawn here.
    """
    boundary = balanced_log_loss(scores.start, start > BOUNDARY)
    boundary = boundary + balanced_log_loss(scores.end, end > BOUNDARY)
    if drawn is None:
        drawn = torch.rand_like(overlap)
    regression = regression_loss(scores.overlap, overlap, drawn)
    classification = balanced_log_loss(scores.action, overlap > ACTION, convention.guard)
    parts = (boundary, regression, classification)
    total = sum((w * part for w, part in zip(convention.weights, parts, strict=True)), start=0.0)
    assert isinstance(total, Tensor)
    return LocalizationLoss(total, *parts)


def balanced_log_loss(probability: Tensor, positive: Tensor, guard: float = 0.0) -> Tensor:
    """Binary cross-entropy in which positives and negatives weigh the same; mean over all.

    `guard` is added to the number of positives, and twice to that of all.
    """
    entries = positive.numel() + 2 * guard
    positives = (positive.sum() + guard).clamp(1, max(entries - 1, 1))
    ratio = entries / positives
    hit = torch.log(probability + SMALLEST) * positive * (0.5 * ratio)
    miss = torch.log(1 - probability + SMALLEST) * ~positive * (0.5 * ratio / (ratio - 1))
    return -(hit + miss).sum() / entries


def regression_loss(score: Tensor, overlap: Tensor, drawn: Tensor) -> Tensor:
    """Half of the mean squared error over anchors that are good, and about as many of the others.

    Of those that are fair, and of those that are poor but touch an action, each is taken with the
    probability that makes so many. (The public code takes all of the map, invalid anchors too,
    where there are fewer of a kind than good ones; here all of that kind are taken.)
    """
    good = overlap > GOOD
    kinds = ((overlap > FAIR) & ~good, (overlap > 0) & (overlap <= FAIR))
    taken = good.float()
    for kind in kinds:
        chance = good.sum() / kind.sum().clamp(min=1)
        taken = taken + (kind & (drawn > 1 - chance)).float()
    errors = (score - overlap).square() * taken
    return 0.5 * errors.sum() / taken.sum().clamp(min=1)


def segment_loss(logits: Tensor, actions: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy of what is in actions; 0 where there are none.

    Args:
        logits: of every place, [B, T, C]; an action's are the mean over its places.
        actions: the video, start and end in cells, and the class of each, [M, 4].
    """
    video, start, end, label = actions.unbind(1)
    place = torch.arange(logits.shape[1], device=logits.device)
    inside = torch.minimum(place + 1, end[:, None]) - torch.maximum(place, start[:, None])
    shares = inside.clamp(min=0)
    seen = shares.sum(1) > 0
    if not seen.any():
        return logits.sum() * 0
    shares = shares[seen] / shares[seen].sum(1, keepdim=True)
    mean = (shares[..., None] * logits.float()[video[seen].long()]).sum(1)
    return F.cross_entropy(mean, label[seen].long(), label_smoothing=label_smoothing)
