"""MoViNet in deploy form: folded rank-4 operations; see `movinet_edge.streaming.deploy`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.movinet import Block, ConvNorm, Head, MoViNet, Skip, SqueezeExcite
from movinet_edge.models.movinet_table import Layer
from movinet_edge.streaming.deploy import (
    Activation,
    Conv,
    Feature,
    Foldable,
    Fresh,
    Io,
    Part,
    RunningMean,
    StateSpec,
    TemporalConv,
    copied,
    fold_norm,
    scale_inputs,
    tensor_name,
)

Size = tuple[int, int]
MEAN = "head_mean"


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
        self.size = size
        self.sums: nn.Parameter | None = None
        self.borders: nn.Parameter | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.sums is not None and self.borders is not None:
            x = F.conv2d(x, self.sums, None, 2, 1, groups=len(self.sums)) * self.borders
        elif self.pooled:
            x = F.avg_pool2d(x, 3, 2, self.padding, ceil_mode=True, count_include_pad=False)
        return self.project(x)

    def fold(self, factor: Tensor) -> None:
        """Respell the pooling for integers, whose AVERAGE_POOL_2D XNNPACK lacks.

        A depthwise convolution of ninths and, where the window is cut off at a border, a factor
        that makes up for it. The input lacks `factor`.
        """
        scale_inputs(self.project, factor)
        if not self.pooled:
            return
        channels = self.project.weight.shape[1]
        ninths = torch.full((channels, 1, 3, 3), 1 / 9)
        # "Same" padding of an even side lies behind its end only. With a row of zeros before the
        # kernel it is equal on both sides, and the converter needs no operator for it.
        zeros = [1 - side % 2 for side in self.size]
        self.sums = nn.Parameter(F.pad(ninths, (zeros[1], 0, zeros[0], 0)))
        ones = torch.ones(1, channels, *self.size)
        full = F.conv2d(ones, self.sums, None, 2, 1, groups=channels)
        self.borders = nn.Parameter(1 / full.detach())


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
        self.activation, self.position = Activation(se.act), se.position
        self.reduce, self.expand = copy.deepcopy(se.reduce), nn.Linear(1, 1)
        weight, bias = se.expand.weight.detach(), se.expand.bias.detach()
        if slope is not None:
            weight, bias = weight * slope, bias * slope + 3
        self.expand.weight, self.expand.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, io: Io, pooled: Tensor) -> Tensor:
        if self.position is not None:
            pooled = pooled + io.position(self.position)
        gate = self.expand(self.activation(self.reduce(pooled)))
        gate = F.relu6(gate) if self.hard else torch.sigmoid(gate)
        return gate[:, :, None, None]

    def fold(self, factor: Tensor) -> None:
        """Respell hard-swish; the input lacks `factor`."""
        scale_inputs(self.reduce, factor)
        scale_inputs(self.expand, self.activation.fold())


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
        self.pool = RunningMean(f"{name}.pool")
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
            pooled = self.pool(io, frame)
            if self.both_pools:
                pooled = torch.cat([pooled.expand_as(frame), frame], 1)
            y = y * self.gate(io, pooled)
        return self.project(y) + (x if self.skip is None else self.skip(x))

    def sites(self) -> dict[str, Foldable]:
        """Where hard-swish acts on whole frames, in order, by name within the block."""
        parts = {"expand": self.expand, "spatial": self.spatial, "temporal": self.temporal}
        return {name: part for name, part in parts.items() if part is not None}

    def fold(self, factor: Tensor, scales: Mapping[str, Tensor]) -> None:
        """Respell hard-swish; the input lacks `factor`, `scales` are by the names of `sites`."""
        scale_inputs(self.expand, factor)
        if self.skip is not None:
            self.skip.fold(factor)
        for number, (name, site) in enumerate(self.sites().items()):
            if number:  # depthwise, all but the first
                site.scale_channels(factor)
            factor = site.fold(scales.get(name))
        if self.gate is not None:
            self.gate.fold(factor)
        scale_inputs(self.project, factor)


class DeployHead(nn.Module):
    """1x1 convolution, mean over space and time, two dense layers."""

    def __init__(self, head: Head, size: Size):
        super().__init__()
        self.project = fold_conv(head.project, size)
        self.pool, self.activation = RunningMean("head.pool"), Activation(head.act)
        self.hidden, self.classify = copy.deepcopy((head.hidden, head.classify))

    def forward(self, io: Io, x: Tensor) -> Tensor:
        return self.answer(self.pooled(io, x))

    def pooled(self, io: Io, x: Tensor) -> Tensor:
        """The mean over space and time, [frames, channels]."""
        return self.pool(io, io.spatial_mean(self.project(x)))

    def answer(self, pooled: Tensor) -> Tensor:
        """Logits [frames, classes] of a mean."""
        return self.classify(self.activation(self.hidden(pooled)))

    def fold(self, scale: Tensor | None) -> None:
        """Respell hard-swish, with `scale` in the convolution."""
        scale_inputs(self.hidden, self.project.fold(scale))
        scale_inputs(self.classify, self.activation.fold())


class DeployMoViNet(nn.Module):
    """``forward(io, x)``: frames [frames, 3, H, W] in [0, 1] -> logits [frames, classes]."""

    def __init__(self, model: MoViNet, frame_size: Size):
        super().__init__()
        size = frame_size
        self.stem = fold_conv(model.stem, size)
        size = halve(size)
        self.blocks = nn.ModuleDict()
        for layer, block in model.blocks():
            self.blocks[tensor_name(layer.name)] = DeployBlock(layer.name, layer, block, size)
            size = halve(size) if layer.stride == 2 else size
        self.head = DeployHead(model.head, size)

    def forward(self, io: Io, x: Tensor) -> Tensor:
        return self.head(io, self._maps(io, x))

    def pooled(self, io: Io, x: Tensor) -> Tensor:
        """The mean over space and time, [frames, channels]."""
        return self.head.pooled(io, self._maps(io, x))

    def _maps(self, io: Io, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks.values():
            x = block(io, x)
        return x

    def sites(self) -> dict[str, Foldable]:
        """Where hard-swish acts on whole frames, in order, by module path."""
        named: dict[str, Foldable] = {"stem": self.stem}
        for name, block in self._named_blocks():
            named |= {f"{name}.{part}": site for part, site in block.sites().items()}
        named["head.project"] = self.head.project
        return {name: site for name, site in named.items() if site.activation.kind == "hard_swish"}

    def fold(self, scales: Mapping[str, Tensor]) -> None:
        """Respell all hard-swishes for integers, exact up to rounding; see `Activation`.

        Args:
            scales: of some of the `sites`, [channels] > 0; the stem, whose output goes two ways,
                takes none.
        """
        factor = self.stem.fold()  # the first block has a stride, so its skip takes the factor
        for name, block in self._named_blocks():
            keys = {part: f"{name}.{part}" for part in block.sites()}
            block.fold(factor, {part: scales[key] for part, key in keys.items() if key in scales})
            factor = torch.ones(1)
        self.head.fold(scales.get("head.project"))

    def _named_blocks(self) -> list[tuple[str, DeployBlock]]:
        found = [(f"blocks.{name}", block) for name, block in self.blocks.items()]
        return [(name, block) for name, block in found if isinstance(block, DeployBlock)]


class DeployBody(DeployMoViNet):
    """All but the classifier: hands on the mean over space and time of what it saw."""

    def forward(self, io: Fresh, x: Tensor) -> None:  # type: ignore[override]
        # The state that it also is would be merged with it.
        io.outputs[MEAN] = copied(self.pooled(io, x))


class DeployClassifier(nn.Module):
    """``forward(io, None)``: the mean -> logits [1, classes]."""

    def __init__(self, model: MoViNet):
        super().__init__()
        # Of the convolution before the mean only what its folding leaves to the classifier counts.
        self.head = DeployHead(model.head, (1, 1))

    def forward(self, io: Fresh, frame: Tensor | None) -> Tensor:
        return self.head.answer(io.inputs[MEAN])

    def fold(self, scales: Mapping[str, Tensor]) -> None:
        """As `DeployMoViNet.fold`, with the same scales."""
        self.head.fold(scales.get("head.project"))


def split_parts(
    model: MoViNet, size: Size, states: tuple[StateSpec, ...], macs: Mapping[str, int], every: int
) -> list[Part]:
    """The body at every frame, the classifier at every `every`-th; `macs` are by module."""
    dense = sum(macs[name] for name in ("head.hidden", "head.classify"))
    mean = Feature(MEAN, (model.head.project.conv.weight.shape[0],))
    return [
        Part("body", partial(DeployBody, model, size), states, sum(macs.values()) - dense),
        Part(
            "head",
            partial(DeployClassifier, model),
            (),
            dense,
            every=every,
            frame=False,
            features=(mean,),
        ),
    ]
