"""MoViNet in deploy form: folded rank-4 operations; see `movinet_edge.streaming.deploy`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.movinet import Block, ConvNorm, Head, MoViNet, Skip, SqueezeExcite
from movinet_edge.models.movinet_table import Layer
from movinet_edge.streaming.deploy import Conv, Io, TemporalConv, activate, fold_norm

Size = tuple[int, int]


def fold_conv(module: ConvNorm, size: Size) -> Conv:
    """Convolution and batch norm as one convolution, for frames of `size` (height, width)."""
    weight, bias = fold_norm(module.conv.weight, module.norm)
    return Conv(weight, bias, size, module.conv.stride[0], act=module.act)


def halve(size: Size) -> Size:
    """The size behind a "same" convolution of stride 2."""
    return -(-size[0] // 2), -(-size[1] // 2)


class DeploySkip(nn.Module):
    """Average pooling with "same" padding that does not count, then 1x1 convolution."""

    def __init__(self, skip: Skip, size: Size):
        super().__init__()
        self.pooled = skip.pooled
        # An even side lacks one row behind its end, which ceil_mode leaves out of the mean; an
        # odd side lacks one on both. Only this spelling becomes a plain AVERAGE_POOL_2D: without
        # ceil_mode it is a composite operator, which splits the delegate.
        self.padding = (size[0] % 2, size[1] % 2)
        self.project = fold_conv(skip.project, halve(size) if skip.pooled else size)

    def forward(self, x: Tensor) -> Tensor:
        if self.pooled:
            x = F.avg_pool2d(x, 3, 2, self.padding, ceil_mode=True, count_include_pad=False)
        return self.project(x)


class DeployGate(nn.Module):
    """Squeeze-excite whose gate is a clipped ReLU; `factor` is left to the projection."""

    def __init__(self, se: SqueezeExcite):
        super().__init__()
        # relu6(x + 3) / 6-like gates: the scale moves on, the offset into the bias.
        slope, self.factor = {
            "sigmoid": (None, 1.0),
            "hard_sigmoid": (1.0, 0.16667),
            "hard_sigmoid_keras": (1.2, 1 / 6),
        }[se.gate]
        self.hard = slope is not None
        self.act, self.position = se.act, se.position
        self.reduce, self.expand = se.reduce, nn.Linear(1, 1)
        weight, bias = se.expand.weight.detach(), se.expand.bias.detach()
        if slope is not None:
            weight, bias = weight * slope, bias * slope + 3
        self.expand.weight, self.expand.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, io: Io, pooled: Tensor) -> Tensor:
        if self.position is not None:
            pooled = pooled + io.position(self.position)
        gate = self.expand(activate(self.reduce(pooled), self.act))
        gate = F.relu6(gate) if self.hard else torch.sigmoid(gate)
        return gate[:, :, None, None]


class DeployBlock(nn.Module):
    """One inverted bottleneck; ReZero, batch norm and the gate's factor folded away."""

    def __init__(self, name: str, layer: Layer, block: Block, size: Size):
        super().__init__()
        self.name, self.both_pools = name, block.both_pools
        after = halve(size) if layer.stride == 2 else size
        act = block.spatial.act
        self.expand = fold_conv(block.expand, size)
        conv, norm = block.spatial.conv, block.spatial.norm
        self.spatial: Conv | None = None
        self.temporal: TemporalConv | None = None
        if conv.kernel[0] > 1:
            self.temporal = TemporalConv(conv, norm, size, act)
        else:
            weight, bias = fold_norm(conv.weight, norm)
            channels = conv.channels
            self.spatial = Conv(weight[:, :, 0], bias, size, conv.stride, channels, act)
        if block.temporal is not None:
            self.temporal = TemporalConv(block.temporal.conv, block.temporal.norm, after, act)
        self.gate = None if block.se is None else DeployGate(block.se)
        self.project = fold_conv(block.project, after)
        scale = 1.0 if block.scale is None else block.scale.item()
        self.project.bias.data *= scale
        self.project.weight.data *= scale * (1.0 if self.gate is None else self.gate.factor)
        self.skip = None if block.skip is None else DeploySkip(block.skip, size)

    def forward(self, io: Io, x: Tensor) -> Tensor:
        y = self.expand(x)
        if self.spatial is not None:
            y = self.spatial(y)
        if self.temporal is not None:
            y = io.temporal(f"{self.name}.stream", y, self.temporal)
        if self.gate is not None:
            frame = io.spatial_mean(y)
            pooled = io.running_mean(f"{self.name}.pool", frame)
            if self.both_pools:
                pooled = torch.cat([pooled.expand_as(frame), frame], 1)
            y = y * self.gate(io, pooled)
        return self.project(y) + (x if self.skip is None else self.skip(x))


class DeployHead(nn.Module):
    """1x1 convolution, mean over space and time, two dense layers."""

    def __init__(self, head: Head, size: Size):
        super().__init__()
        self.project = fold_conv(head.project, size)
        self.hidden, self.classify, self.act = head.hidden, head.classify, head.act

    def forward(self, io: Io, x: Tensor) -> Tensor:
        pooled = io.running_mean("head.pool", io.spatial_mean(self.project(x)))
        return self.classify(activate(self.hidden(pooled), self.act))


class DeployMoViNet(nn.Module):
    """``forward(io, x)``: frames [frames, 3, H, W] in [0, 1] -> logits [frames, classes]."""

    def __init__(self, model: MoViNet, frame_size: Size):
        super().__init__()
        size = frame_size
        self.stem = fold_conv(model.stem, size)
        size = halve(size)
        blocks = []
        for layer, block in model.blocks():
            blocks.append(DeployBlock(layer.name, layer, block, size))
            size = halve(size) if layer.stride == 2 else size
        self.blocks = nn.ModuleList(blocks)
        self.head = DeployHead(model.head, size)

    def forward(self, io: Io, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(io, x)
        return self.head(io, x)
