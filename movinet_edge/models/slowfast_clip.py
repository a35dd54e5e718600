"""SlowFast on whole clips: the published, non-causal network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from movinet_edge.models.slowfast_table import normalised
from movinet_edge.streaming.layers import DelayLine, StreamBuffer

if TYPE_CHECKING:
    from movinet_edge.models.slowfast import Lateral, NonLocal, SlowFast


class ClipClock:
    """All frames [B, T, C, H, W] are there at once; zeros before and after.

    `fast` are the Fast pathway's features, once it has run.
    """

    def __init__(self, alpha: int, fast: Sequence[Tensor] = ()):
        self.alpha, self.fast = alpha, fast

    def masked(self, x: Tensor) -> Tensor:
        return x

    def stacked(self, buffer: StreamBuffer | None, x: Tensor) -> tuple[Tensor, Tensor]:
        if buffer is None:
            return x, x
        return self._windows(x, buffer.past + 1, buffer.past // 2, 1), x

    def lateral(self, lateral: Lateral, place: int) -> Tensor:
        before = lateral.kernel - 1 - lateral.ahead
        return self._windows(self.fast[place], lateral.kernel, before, self.alpha)

    def delayed(self, buffer: DelayLine, x: Tensor) -> Tensor:
        return x

    def waiting(self, buffer: DelayLine, x: Tensor) -> Tensor:
        return x

    def affinity(self, block: NonLocal, x: Tensor) -> Tensor:
        return torch.stack([block.added(clip) for clip in x])

    def _windows(self, x: Tensor, kernel: int, before: int, stride: int) -> Tensor:
        padded = F.pad(x, (0,) * 6 + (before, kernel - 1 - before))
        frames = x.shape[1]
        return torch.cat([padded[:, i : i + frames : stride] for i in range(kernel)], 2)


def clip_features(model: SlowFast, x: Tensor, slow_index: Sequence[int]) -> list[Tensor]:
    """Last features of each pathway, [B, steps, C, h, w], of frames [B, T, 3, H, W] in [0, 1]."""
    x, arch = normalised(x), model.arch
    fast: list[Tensor] = []
    features = {}
    if "fast" in arch.pathways:
        fast = model.pathway("fast")(ClipClock(arch.alpha), x)
        features["fast"] = fast[-1]
    if "slow" in arch.pathways:
        frames = x[:, list(slow_index)]
        features["slow"] = model.pathway("slow")(ClipClock(arch.alpha, fast), frames)[-1]
    return [features[pathway] for pathway in arch.pathways]


def clip_logits(model: SlowFast, x: Tensor, slow_index: Sequence[int]) -> Tensor:
    """Logits of a clip, [B, 1, classes].

    In evaluation the head looks at every place where its training window fits, as PySlowFast's
    fully convolutional head does: softmax there, then the mean, of which these are logarithms.
    """
    features = clip_features(model, x, slow_index)
    side = max(model.arch.resolution // 32, 1)
    height, width = features[0].shape[-2:]
    if model.training or height <= side or width <= side:
        return model.head([part.mean((1, 3, 4))[:, None] for part in features])
    places = [F.avg_pool2d(part.mean(1), side, 1).flatten(2).mT for part in features]
    logits = model.head(places)  # [B, places, classes]
    return (logits.log_softmax(-1).logsumexp(1) - math.log(logits.shape[1]))[:, None]
