"""R(2+1)D in deploy form: a clip with its frames in the batch axis."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn

from movinet_edge.models.r2plus1d import R2plus1d, normalised
from movinet_edge.models.slowfast_deploy import folded
from movinet_edge.streaming.deploy import Io, Part
from movinet_edge.streaming.spec import describe

Size = tuple[int, int]


class DeployR2plus1d(nn.Module):
    """``forward(io, frames)``: a clip [T, 3, H, W] -> logits [1, classes]."""

    def __init__(self, model: R2plus1d):
        super().__init__()
        self.frames = model.arch.frames
        self.net = folded(model.net)
        self.classify = copy.deepcopy(model.head.classify)

    def forward(self, io: Io, frames: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.pooled(io, frames))
        return logits

    def pooled(self, io: Io, frames: Tensor) -> Tensor:
        """The mean over space and time, [1, C]."""
        parts = normalised(frames).split(self.frames)
        each = torch.cat([io.spatial_mean(self.net(part)) for part in parts])
        # A matrix product: simplifiers merge two means into one of wrong rank.
        return torch.full((1, len(each)), 1 / len(each)) @ each


def r2plus1d_parts(model: R2plus1d, size: Size, frames: int) -> list[Part]:
    """The one graph of a clip."""
    macs = describe(model, size, frames).macs
    return [Part("step", partial(DeployR2plus1d, model), (), macs)]
