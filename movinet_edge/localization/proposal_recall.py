"""Average recall of proposals against their number, as ActivityNet's evaluation code has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from movinet_edge.localization.average_precision import ACTIVITYNET_THRESHOLDS
from movinet_edge.localization.segments import Segments, overlap

STEPS = np.arange(1, 101) / 100  # shares of the proposals


@dataclass(frozen=True)
class Recall:
    """`recall` [thresholds, 100] with `proposals` [100] per video, on average."""

    thresholds: tuple[float, ...]
    proposals: np.ndarray
    recall: np.ndarray

    @property
    def average(self) -> np.ndarray:
        """AR, the mean over thresholds, [100]."""
        means: np.ndarray = self.recall.mean(0)
        return means

    def at(self, proposals: float) -> float:
        """AR with so many proposals per video: AR@10."""
        return float(np.interp(proposals, self.proposals, self.average))

    @property
    def area(self) -> float:
        """AUC: the area under AR against the number of proposals, 1 being the best."""
        heights = (self.average[1:] + self.average[:-1]) / 2
        return float((heights * np.diff(self.proposals)).sum() / self.proposals[-1])


def proposal_recall(
    truth: Mapping[str, Segments],
    found: Mapping[str, Segments],
    thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS,
    most: float | None = None,
) -> Recall:
    """Recall of actions, of whatever class, by the first proposals of every video.

    Args:
        truth: the actions; videos without any do not count among the videos.
        found: proposals with scores, each once, whatever its label.
        most: proposals per video at the end of the curve (None: all that there are).

    Raises:
        ValueError: nothing is annotated, or nothing was found.
    """
    actions = {name: segments for name, segments in truth.items() if len(segments)}
    total = sum(len(segments) for segments in found.values())
    if not actions or not total:
        raise ValueError("nothing is annotated" if not actions else "nothing was found")
    most = most or total / len(actions)
    ratio = most * len(actions) / total
    shared = []
    for name, segments in actions.items():
        answers = found.get(name)
        kept = 0 if answers is None else min(int(len(answers) * ratio), len(answers))
        if answers is None or not len(answers):
            shared.append(np.zeros((len(segments), 0)))
            continue
        order = np.argsort(-answers.scores, kind="stable")[:kept]
        shared.append(overlap(segments.times, answers.times[order]))
    used = sum(values.shape[1] for values in shared)
    if not used:
        raise ValueError("nothing was found in videos with actions")
    shares = STEPS * (most * len(actions) / used)
    limits = np.array(thresholds, np.float64)
    hits = np.sum([_hits(values, shares, limits) for values in shared], 0)
    count = sum(len(segments) for segments in actions.values())
    return Recall(tuple(limits.tolist()), shares * used / len(actions), hits / count)


def _hits(shared: np.ndarray, shares: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Actions [G, P] of a video that its first proposals hit, [thresholds, shares]."""
    counts = np.minimum((shared.shape[1] * shares).astype(np.int64), shared.shape[1])
    # The best that each action shares with the first proposals, none at all for no proposal.
    best = np.maximum.accumulate(np.pad(shared, ((0, 0), (1, 0)), constant_values=-1.0), 1)
    hit: np.ndarray = (best[:, counts] >= limits[:, None, None]).sum(1)
    return hit
