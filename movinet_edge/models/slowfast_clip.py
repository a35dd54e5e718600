"""SlowFast on whole clips: the published, non-causal network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from movinet_edge.models.slowfast_table import head_side, normalised
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


def clip_logits(
    model: SlowFast, x: Tensor, slow_index: Sequence[int], places: bool = True
) -> Tensor:
    """Logits of a clip, [B, 1, classes].

    In evaluation, on larger frames than in training, the head looks at every place (unless told
    otherwise) where its window fits, as PySlowFast's fully convolutional head does.
    """
    features = clip_features(model, x, slow_index)
    side = head_side(model.arch)
    if places and not model.training and min(features[0].shape[-2:]) > side:
        return model.head.placed([part.mean(1) for part in features], side)[:, None]
    return model.head([part.mean((1, 3, 4))[:, None] for part in features])
