"""What is counted over an evaluation's videos; torchmetrics adds up the processes."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MultilabelStatScores,
)
from torchmetrics.functional.classification import (
    multiclass_average_precision,
    multilabel_average_precision,
)


@dataclass(frozen=True)
class Found:
    """What `Scores` counted: shares in 0..1, and a precision per class, NaN where it has no video.

    `confusion` has a row per true class; it is empty where videos may have several.
    """

    top1: float
    top5: float
    precisions: Tensor
    confusion: list[list[int]]

    @property
    def mean_average_precision(self) -> float:
        return float(torch.nanmean(self.precisions))

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """The top-1 of each class, or where videos may have several its average precision."""
        if self.confusion:
            rows = enumerate(self.confusion)
            return tuple(row[i] / sum(row) if any(row) else None for i, row in rows)
        return tuple(None if math.isnan(p) else p for p in self.precisions.tolist())


class Scores(nn.Module):
    """Top-1, top-5 and mean average precision; `multi_label`: a video has any number of classes.

    A top answer is right if the video has that class; videos without any do not count there. The
    average precision of a class is the area under its steps of precision over recall, and the mean
    is over the classes that have a video.
    """

    def __init__(self, classes: int, multi_label: bool):
        super().__init__()
        self.classes, self.multi_label = classes, multi_label
        self.top1, self.top5 = MeanMetric(), MeanMetric()
        self.counts: Metric
        if multi_label:
            self.counts = MultilabelStatScores(classes, average="none", validate_args=False)
        else:
            self.counts = MulticlassConfusionMatrix(classes, validate_args=False)
        # Of every video; the exact average precision needs all of them at once.
        self._seen: list[tuple[Tensor, Tensor]] = []

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Count a video: logits [classes]; its class, int64 [], or 1 for each of them [classes]."""
        best = logits.topk(min(5, self.classes)).indices
        right = target[best] > 0 if self.multi_label else best == target
        if not self.multi_label or target.any():
            self.top1.update(right[:1].float())
            self.top5.update(right.any().float())
        scores = logits.sigmoid() if self.multi_label else logits.softmax(0)
        self.counts.update(scores[None], target[None].long())
        self._seen.append((scores.cpu(), target.long().cpu()))

    def compute(self) -> Found:
        """Of the videos of all processes; at least one must have had one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a process may have had no video
            top1, top5 = self.top1.compute(), self.top5.compute()
            precisions = self._precisions()
            counts = self.counts.compute().cpu()
        videos = counts[:, -1] if self.multi_label else counts.sum(1)
        precisions[videos == 0] = torch.nan
        return Found(
            top1.item(), top5.item(), precisions, [] if self.multi_label else counts.tolist()
        )

    def _precisions(self) -> Tensor:
        """The average precision of every class over the videos of all processes."""
        seen = self._seen
        if dist.is_available() and dist.is_initialized():
            # Not by torchmetrics: it fails where a process has had no video.
            shares: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(shares, seen)
            seen = [video for share in shares for video in share]
        scores, targets = (torch.stack(values) for values in zip(*seen, strict=True))
        options: dict[str, Any] = {"average": "none", "validate_args": False}
        average = multilabel_average_precision if self.multi_label else multiclass_average_precision
        found: Tensor = average(scores, targets, self.classes, **options)
        return found
