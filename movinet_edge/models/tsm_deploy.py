"""TSM in deploy form: one step with the frame before in its states, or a clip in the batch axis."""

from __future__ import annotations

import copy
from functools import partial

import torch
from torch import Tensor, nn

from movinet_edge.models.backbone import BackboneNet, folded, normalised
from movinet_edge.models.encoder_deploy import pieces
from movinet_edge.models.tsm import Tsm, shifted_maps
from movinet_edge.streaming.deploy import (
    NEW,
    Carry,
    Clip,
    Fresh,
    Io,
    Part,
    RunningMean,
    from_nhwc,
    tensor_name,
    to_nhwc,
)
from movinet_edge.streaming.layers import shift_both
from movinet_edge.streaming.spec import describe

Size = tuple[int, int]


class DeployTsm(nn.Module):
    """``forward(io, frames)``: [frames, 3, H, W] -> logits [frames or 1, classes].

    One-way ones answer for every frame.
    """

    def __init__(self, model: Tsm):
        super().__init__()
        self.arch = model.arch
        self.net = folded(model.net)
        self.pool = RunningMean("head.pool")
        self.classify = copy.deepcopy(model.head.classify)

    def forward(self, io: Io, frames: Tensor) -> Tensor:
        logits: Tensor = self.classify(self.pooled(io, frames))
        return logits

    def pooled(self, io: Io, frames: Tensor) -> Tensor:
        """The mean over space and time, [frames or 1, C]."""
        assert isinstance(self.net, BackboneNet)

        def shift(name: str, x: Tensor) -> Tensor:
            y = to_nhwc(x) if io.layout == "NHWC" else x
            y = self._shifted(io, f"shifts.{name}.stream", y, 3 if io.layout == "NHWC" else 1)
            return from_nhwc(y) if io.layout == "NHWC" else y

        x = io.spatial_mean(shifted_maps(self.net, self.arch, normalised(frames), shift))
        mean: Tensor = self.pool(io, x)
        return mean

    def _shifted(self, io: Io, state: str, x: Tensor, channel: int) -> Tensor:
        """`x`, frames in its first axis, with parts of other frames in its axis `channel`."""
        fold = self.arch.fold
        if not self.arch.causal:
            parts = [shift_both(part, fold, 0, channel) for part in pieces(x, self.arch.frames)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        moved = x.shape[channel] // fold
        new, kept = x.split([moved, x.shape[channel] - moved], channel)
        if isinstance(io, Clip):
            before = torch.cat([torch.zeros_like(new[:1]), new[:-1]])
        else:
            assert isinstance(io, Fresh)
            name = tensor_name(state)
            before = io.inputs[name if isinstance(io, Carry) else f"{name}_0"]
            io.outputs[name + NEW] = new
        return torch.cat([before, kept], channel)


def tsm_parts(model: Tsm, size: Size, frames: int) -> list[Part]:
    """The one graph of a stream (`frames` 1) or of a clip."""
    states = describe(model, size).states if frames == 1 else ()
    macs = describe(model, size, frames).macs
    return [Part("step", partial(DeployTsm, model), states, macs)]
