"""Labels, losses, soft-NMS and evaluation as the public code computes them, written plainly.

G-TAD's are frostinassiky/gtad's (map, loops, lists), evaluation is ActivityNet's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

# video, start, end, label, score
Row = tuple[str, float, float, int, float]


def tiou(a: Any, b: Any) -> float:
    """Of two segments (start, end); 0 where they only touch."""
    inter = max(min(a[1], b[1]) - max(a[0], b[0]), 0.0)
    union = (b[1] - b[0]) + (a[1] - a[0]) - inter
    return inter / union if union else 0.0


def label_map(actions: Any, snippets: int, durations: int) -> np.ndarray:
    """Greatest tIoU of segments in shares of the video, [durations, snippets], valid or not."""
    gap = 1.0 / snippets
    inside = [(max(min(1, s), 0), max(min(1, e), 0)) for s, e in actions]
    full = np.zeros((durations, snippets))
    for d in range(durations):
        for s in range(snippets):
            anchor = (gap * s, gap * s + gap * (d + 1))
            full[d, s] = max((tiou(anchor, action) for action in inside), default=0.0)
    return full


def label_curve(boundaries: Any, snippets: int, low: float, high: float) -> np.ndarray:
    """Greatest share of [i + low, i + high] within 1.5 cells of a boundary, [snippets]."""
    curve = []
    for i in range(snippets):
        first, last = (i + low) / snippets, (i + high) / snippets
        shares = [0.0]
        for b in boundaries:
            near = (b - 1.5 / snippets, b + 1.5 / snippets)
            shares.append(max(min(last, near[1]) - max(first, near[0]), 0.0) / (last - first))
        curve.append(max(shares))
    return np.array(curve)


def log_loss(score: Tensor, truth: Tensor, mask: Tensor, guard: int) -> Tensor:
    """Balanced, over what the mask [..] has; positives are always in it."""
    positive = truth.float()
    negative = (1 - positive) * mask
    positives = guard + positive.sum()
    entries = guard + positives + negative.sum()
    ratio = entries / positives
    hit = 0.5 * ratio * torch.log(score + 1e-6) * positive
    miss = 0.5 * ratio / (ratio - 1) * torch.log(1.0 - score + 1e-6) * negative
    return -(hit + miss).sum() / entries


def regression(score: Tensor, truth: Tensor, mask: Tensor, draws: tuple[Tensor, Tensor]) -> Tensor:
    """On maps, for labels that are 0 where the mask is."""
    good = (truth > 0.7).float()
    fair = ((truth <= 0.7) & (truth > 0.3)).float()
    poor = ((truth <= 0.3) & (truth > 0)).float() * mask
    weights = good
    for kind, draw in zip((fair, poor), draws, strict=True):
        weights = weights + (kind * draw > 1 - good.sum() / kind.sum()).float()
    loss = torch.nn.functional.mse_loss(score * weights, truth * weights)
    return 0.5 * (loss * torch.ones_like(weights)).sum() / weights.sum()


def soft_nms(rows: list[Any], theta: float, keep: int, longest: float) -> list[Any]:
    """Of (start, end, score): lists from which the best one is taken out again and again."""
    left = sorted(rows, key=lambda row: -row[2])
    left = [(s, e, 0.0 if e - s >= longest else v) for s, e, v in left]
    taken = []
    while len(left) > 1 and len(taken) < keep and max(row[2] for row in left) > 0:
        best = max(left, key=lambda row: row[2])
        left.remove(best)
        decayed = []
        for s, e, v in left:
            if not (s > best[1] or best[0] > e):
                iou = (min(e, best[1]) - max(s, best[0])) / (max(e, best[1]) - min(s, best[0]))
                v = v * math.exp(-(iou**2) / theta) if iou > 0 else v
            decayed.append((s, e, v))
        left = decayed
        taken.append(best)
    return taken


def interpolated_ap(precision: list[float], recall: list[float]) -> float:
    """Each step of recall times the best precision there or further on."""
    high, area = [0.0, *precision, 0.0], 0.0
    steps = [0.0, *recall, 1.0]
    for i in range(len(high) - 2, -1, -1):
        high[i] = max(high[i], high[i + 1])
    for i in range(1, len(steps)):
        area += (steps[i] - steps[i - 1]) * high[i]
    return area


def class_ap(truth: list[Row], found: list[Row], threshold: float) -> float:
    """Average precision of one class at one threshold; rows of that class."""
    if not found:
        return 0.0
    locked: set[int] = set()
    hits, precision, recall = 0, [], []
    by_video: dict[str, list[tuple[int, Row]]] = {}
    for number, row in enumerate(truth):
        by_video.setdefault(row[0], []).append((number, row))
    for rank, answer in enumerate(sorted(found, key=lambda row: -row[4]), 1):
        shared = [(tiou(answer[1:3], t[1:3]), n) for n, t in by_video.get(answer[0], [])]
        for value, number in sorted(shared, reverse=True):
            if value < threshold:
                break
            if number not in locked:
                locked.add(number)
                hits += 1
                break
        precision.append(hits / rank)
        recall.append(hits / len(truth))
    return interpolated_ap(precision, recall)


def grouped(rows: list[Row], column: int) -> dict[Any, list[Row]]:
    """By what is in a column, in the order in which it comes."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[column], []).append(row)
    return found


def mean_ap(truth: list[Row], found: list[Row], threshold: float) -> float:
    """Over classes that are in the truth."""
    answers = grouped(found, 3)
    each = [class_ap(t, answers.get(c, []), threshold) for c, t in grouped(truth, 3).items()]
    return sum(each) / len(each)


def average_recall(
    truth: list[Row], found: list[Row], thresholds: Any, most: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Average recall [100] and the proposals per video that reach it [100]."""
    videos, proposals = grouped(truth, 0), grouped(found, 0)
    most = most or float(len(found)) / len(videos)
    ratio = most * float(len(videos)) / len(found)
    shared, total = [], 0
    for video, rows in videos.items():
        actions = [row[1:3] for row in rows]
        answers = sorted(proposals.get(video, []), key=lambda f: -f[4])
        if not answers:
            shared.append([[0.0] for _ in actions])
            continue
        count = min(int(len(answers) * ratio), len(answers))
        total += count
        shared.append([[tiou(f[1:3], action) for f in answers[:count]] for action in actions])
    shares = np.arange(1, 101) / 100.0 * (most * float(len(videos)) / total)
    curves = []
    for threshold in thresholds:
        curve = np.zeros(100)
        for video_rows in shared:
            length = len(video_rows[0])
            counts = [min(int(length * share), length) for share in shares]
            for row in video_rows:
                first = next((k for k, value in enumerate(row) if value >= threshold), length)
                curve += [first < count for count in counts]
        curves.append(curve / len(truth))
    return np.mean(curves, 0), shares * (float(total) / len(videos))
