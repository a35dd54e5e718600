"""How well a localizer finds actions: ActivityNet's measures over the videos of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from movinet_edge.bundle import Record
from movinet_edge.data.annotations import AnnotationSet, UntrimmedVideo
from movinet_edge.data.class_scores import ClassScores
from movinet_edge.data.features import rescaled
from movinet_edge.data.localization import window
from movinet_edge.errors import BadInput
from movinet_edge.localization.average_precision import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    Precision,
    average_precision,
)
from movinet_edge.localization.conventions import convention_of
from movinet_edge.localization.proposal_recall import proposal_recall
from movinet_edge.localization.reading import Found, HeadAnswer, read_segments
from movinet_edge.localization.segments import Segments
from movinet_edge.localization.windows import window_starts
from movinet_edge.models.localizer import Localizer
from movinet_edge.runtime.video import BadVideo

AT = (1, 5, 10, 50, 100)  # proposals per video
MOST = 100.0

# Features of a video [any number, C] and how many seconds of it they cover; None: it is not there.
Source = Callable[[UntrimmedVideo], tuple[np.ndarray, float] | None]
# A video's features and seconds, and its name, to what was found.
Locate = Callable[[np.ndarray, float, str], Found]


class LeftOut(Record):
    """A video that cannot be read."""

    video: str
    reason: str


class Measures(Record):
    """mAP at each of the thresholds of tIoU and over all of them; `per_class` is over all, too."""

    thresholds: tuple[float, ...]
    map: tuple[float, ...]
    average: float
    per_class: dict[str, float]


class LocalizationRecord(Record):
    """What an evaluation found; all measures are in 0..1.

    `missing` and `broken` videos count neither in what was found nor in the truth. `recall` is AR
    with so many proposals per video, `area` the area under it up to 100, relative to the largest
    possible. `activitynet` and `thumos` are None where nothing tells classes. `proposals` and
    `detections` are means per video. `findings` counts annotations that were dealt with, by kind.
    """

    model: str
    engine: str
    data: str
    split: str | None
    snippets: int
    videos: int
    missing: tuple[str, ...]
    broken: tuple[LeftOut, ...]
    findings: dict[str, int]
    actions: int
    proposals: float
    detections: float
    recall: dict[str, float]
    area: float
    activitynet: Measures | None
    thumos: Measures | None

    @property
    def score_name(self) -> str:
        return "AUC" if self.activitynet is None else "average mAP"

    @property
    def score(self) -> float:
        return self.area if self.activitynet is None else self.activitynet.average

    @property
    def logged(self) -> dict[str, float]:
        logged = {"auc": self.area}
        return logged if self.activitynet is None else logged | {"map": self.activitynet.average}


class Finder:
    """What a localizer finds in features; it is on its device, in evaluation mode.

    Args:
        snippets: of a video that is seen at once; default: the head's.
        class_scores: of whole videos, where the localizer does not classify itself.
    """

    def __init__(
        self, model: Localizer, snippets: int | None = None, class_scores: ClassScores | None = None
    ):
        self.model, self.class_scores = model, class_scores
        head = model.arch.head
        self.snippets = snippets or head.snippets
        self.anchors = head.anchors(self.snippets)
        self.convention = convention_of(head.label)
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def __call__(self, features: np.ndarray, seconds: float, name: str) -> Found:
        if self.convention.windowed:
            starts = window_starts(len(features), self.snippets)
            inputs = [window(features, start, self.snippets) for start in starts]
            whole = torch.from_numpy(np.ascontiguousarray(features.T))
        else:
            starts, whole = (0,), rescaled(features, self.snippets)
            inputs = [whole]
        answers = [(s, self._ask(x)) for s, x in zip(starts, inputs, strict=True)]
        cells, logits = whole.shape[1], None
        scores = self.class_scores.of(name) if self.class_scores is not None else None
        if self.model.classify is not None and scores is None:
            logits = self.model.place_logits(whole[None].to(self.device))[0].cpu().numpy()
        cell = seconds / cells
        return read_segments(answers, self.anchors, cell, cells, self.convention, logits, scores)

    def _ask(self, features: torch.Tensor) -> HeadAnswer:
        scores = self.model.find(features[None].to(self.device))
        return HeadAnswer(*(part[0].float().cpu().numpy() for part in scores))


def evaluate_localizer(
    locate: Locate,
    annotations: AnnotationSet,
    source: Source,
    facts: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LocalizationRecord:
    """Find actions in all videos and compare.

    Args:
        facts: the record's `model`, `engine`, `split` and `snippets`.

    Raises:
        BadInput: no video is there, or nothing is annotated in those that are.
    """
    found: dict[str, Found] = {}
    missing: list[str] = []
    broken: list[LeftOut] = []
    for done, video in enumerate(annotations.videos):
        progress(done, len(annotations.videos))
        try:
            made = source(video)
        except BadVideo as error:
            broken.append(LeftOut(video=video.name, reason=str(error)))
            continue
        if made is None:
            missing.append(video.name)
            continue
        found[video.name] = locate(*made, video.name)
    progress(len(annotations.videos), len(annotations.videos))
    if not found:
        raise BadInput(
            f"none of the {len(annotations.videos)} videos of {annotations.source} can be used "
            f"(such as {annotations.videos[0].name}); name the folder that has them"
        )
    seen = annotations.only(set(found))
    kinds = [finding.kind for finding in annotations.findings if finding.subject in found]
    return LocalizationRecord(
        **facts,
        data=annotations.source.name,
        videos=len(found),
        missing=tuple(missing),
        broken=tuple(broken),
        findings={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        **_measured(seen, found),
    )


def _measured(annotations: AnnotationSet, found: Mapping[str, Found]) -> dict[str, Any]:
    truth = annotations.truth()
    actions = sum(len(segments) for segments in truth.values())
    if not actions:
        raise BadInput(
            f"no action is annotated in the {len(found)} videos of {annotations.source} that are "
            "there; name a split that has some"
        )
    proposals = {
        name: Segments(one.times, np.zeros(len(one.times), np.int64), one.scores)
        for name, one in found.items()
    }
    labelled = {name: one.segments for name, one in found.items() if one.segments is not None}
    recall = dict.fromkeys((f"AR@{count}" for count in AT), 0.0) | {"area": 0.0}
    # To find nothing where there are actions is a result as well.
    with suppress(ValueError):
        curve = proposal_recall(truth, proposals, most=MOST)
        recall = {f"AR@{count}": curve.at(count) for count in AT} | {"area": curve.area}

    def measures(thresholds: tuple[float, ...]) -> Measures | None:
        if not labelled:
            return None
        return _as_record(average_precision(truth, labelled, thresholds), annotations.labels)

    return {
        "actions": actions,
        "proposals": float(np.mean([len(one.times) for one in found.values()])),
        "detections": float(np.mean([len(one) for one in labelled.values()])) if labelled else 0.0,
        "area": recall.pop("area"),
        "recall": recall,
        "activitynet": measures(ACTIVITYNET_THRESHOLDS),
        "thumos": measures(THUMOS_THRESHOLDS),
    }


def _as_record(precision: Precision, labels: tuple[str, ...]) -> Measures:
    per_class = precision.per_class.mean(0)
    return Measures(
        thresholds=tuple(round(threshold, 2) for threshold in precision.thresholds),
        map=tuple(precision.mean.tolist()),
        average=precision.average,
        per_class={labels[k]: float(p) for k, p in zip(precision.classes, per_class, strict=True)},
    )
