"""R(2+1)D in deploy form: a clip with its frames in the batch axis."""

from __future__ import annotations

import copy
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.encoder_deploy import pieces
from movinet_edge.models.r2plus1d import TIME, Frames, R2plus1d, normalised
from movinet_edge.models.slowfast_deploy import folded
from movinet_edge.streaming.deploy import Io, Part, from_nhwc, to_nhwc
from movinet_edge.streaming.spec import describe

Size = tuple[int, int]


class NhwcFrames(Frames):
    """The same on [T, C, H, W], spelt on [T, H, W, C] so that permutations come in pairs."""

    def every(self, x: Tensor, stride: int) -> Tensor:
        return from_nhwc(_every(to_nhwc(x), stride))

    def windows(self, x: Tensor, stride: int) -> Tensor:
        padded = F.pad(to_nhwc(x), (0,) * 6 + (TIME // 2, TIME // 2))
        taps = [padded[i : i + len(x)] for i in range(TIME)]
        return from_nhwc(torch.cat([_every(tap, stride) for tap in taps], 3))


def _every(x: Tensor, stride: int) -> Tensor:
    """Every `stride`-th of frames [T, H, W, C]: delegates take no slices with steps.

    Frames that follow each other are stacked along the height, where the first is cut off.
    """
    if stride == 1:
        return x
    missing = -len(x) % stride
    if missing:
        x = F.pad(x, (0,) * 6 + (0, missing))
    return x.reshape(len(x) // stride, stride * x.shape[1], *x.shape[2:])[:, : x.shape[1]]


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
        parts = pieces(normalised(frames), self.frames)
        laid_out = NhwcFrames() if io.layout == "NHWC" else Frames()
        each = torch.cat([io.spatial_mean(self.net(laid_out, part)) for part in parts])
        # A matrix product: simplifiers merge two means into one of wrong rank.
        return torch.full((1, len(each)), 1 / len(each)) @ each


def r2plus1d_parts(model: R2plus1d, size: Size, frames: int) -> list[Part]:
    """The one graph of a clip."""
    macs = describe(model, size, frames).macs
    return [Part("step", partial(DeployR2plus1d, model), (), macs)]
