"""MoViNet (arXiv 2103.11511), base and stream, compatible with the published weights.

Semantics follow TensorFlow Model Garden's ``official/projects/movinet``; activations are
`[batch, frames, channels, height, width]`, input is RGB in [0, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.encoder import Encoder
from movinet_edge.models.movinet_table import Layer, MoViNetArch
from movinet_edge.streaming.activations import ACTIVATIONS, GATES
from movinet_edge.streaming.layers import (
    DepthwiseConv,
    PositionalEncoding,
    RunningMean,
    SameConv,
    StreamBuffer,
    pad_same,
    per_frame,
    tick,
)
from movinet_edge.streaming.state import State, name_states


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm as the published models have it (Keras: epsilon 1e-3, momentum 0.99)."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def make_divisible(value: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor` without losing more than a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class Pointwise(nn.Module):
    """An activation or a gate by name, as a module: what enters and leaves it can be hooked."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return (ACTIVATIONS.get(self.kind) or GATES[self.kind])(x)


class SpatialMean(nn.Module):
    """[B, T, C, H, W] -> [B, T, C]; a module for the same reason."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((3, 4))


class ConvNorm(nn.Module):
    """Per-frame convolution without bias, batch norm, activation (None = linear)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, act: str | None):
        super().__init__()
        self.act = act
        self.conv = SameConv(inputs, outputs, kernel, stride)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = batch_norm(outputs)
        self.activation = Pointwise(act) if act else None

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(self.frame, x)

    def frame(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return y if self.activation is None else self.activation(y)


class DepthwiseNorm(nn.Module):
    """Depthwise convolution over `kernel` = (time, space), batch norm, activation."""

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int, act: str):
        super().__init__()
        self.act = act
        self.conv = DepthwiseConv(channels, kernel, stride)
        self.norm = batch_norm(channels)
        self.activation = Pointwise(act)

    def forward(self, window: Tensor) -> Tensor:
        return self.activation(per_frame(self.norm, self.conv(window)))


class SqueezeExcite(nn.Module):
    """Channel gates from pooled features.

    Kind ``2plus3d`` sees the pooling over time and, behind it, the frame's own; ``3d`` only the
    first. `inputs` per frame: [B, T, C] or [B, T, 2C].
    """

    def __init__(self, arch: MoViNetArch, channels: int):
        super().__init__()
        both = arch.squeeze_excite == "2plus3d"
        inputs = channels * (2 if both else 1)
        hidden = make_divisible(0.25 * inputs)
        self.act, self.gate = arch.activation, arch.gate
        self.reduce = nn.Linear(inputs, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.activation, self.gating = Pointwise(self.act), Pointwise(self.gate)
        self.position = PositionalEncoding(inputs) if arch.positional_encoding else None

    def forward(self, pooled: Tensor, state: State) -> Tensor:
        """Pooled features [B, T, inputs] -> gates [B, T, C]."""
        if self.position is not None:
            pooled = self.position(pooled, state)
        return self.gating(self.expand(self.activation(self.reduce(pooled))))


def average_pool_same(x: Tensor) -> Tensor:
    """3x3 stride-2 average pooling of frames with "same" padding that does not count."""
    total = F.avg_pool2d(pad_same(x, 3, 2), 3, 2)
    return total / F.avg_pool2d(pad_same(torch.ones_like(x[:1, :1]), 3, 2), 3, 2)


class AveragePool(nn.Module):
    """`average_pool_same` of every frame [B, T, C, H, W]; a module that can be hooked."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(average_pool_same, x)


class Skip(nn.Module):
    """The shortcut where shape changes: average pooling if strided, then 1x1 convolution."""

    def __init__(self, layer: Layer):
        super().__init__()
        self.pooled = layer.stride == 2
        self.pool = AveragePool() if self.pooled else None
        self.project = ConvNorm(layer.inputs, layer.outputs, 1, 1, None)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x if self.pool is None else self.pool(x))


class Block(nn.Module):
    """y = skip(x) + scale * project(squeeze_excite(feature(expand(x))))."""

    def __init__(self, arch: MoViNetArch, layer: Layer, drop_path: float):
        super().__init__()
        act, width = arch.activation, layer.expand
        self.both_pools = arch.squeeze_excite == "2plus3d"
        self.drop_path = drop_path
        self.pad = 0 if arch.causal else layer.time // 2
        temporal = layer.time > 1
        factored = arch.conv == "2plus1d" and temporal
        self.expand = ConvNorm(layer.inputs, width, 1, 1, act)
        # `spatial` is the whole depthwise convolution unless it is factored in space and time.
        kernel = (1 if factored else layer.time, layer.space)
        self.spatial = DepthwiseNorm(width, kernel, layer.stride, act)
        self.temporal = DepthwiseNorm(width, (layer.time, 1), 1, act) if factored else None
        self.stream = StreamBuffer(layer.time - 1) if temporal and arch.causal else None
        has_se = arch.squeeze_excite != "none"
        self.mean = SpatialMean()
        self.pool = RunningMean() if has_se and arch.causal else None
        self.se = SqueezeExcite(arch, width) if has_se else None
        self.project = ConvNorm(width, layer.outputs, 1, 1, None)
        same = layer.stride == 1 and layer.inputs == layer.outputs
        self.skip = None if same else Skip(layer)
        self.scale = nn.Parameter(torch.zeros(())) if arch.rezero else None

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = {}
        y = self.expand(x)
        if self.temporal is not None:
            y = self.spatial(y)
            window, entry = self._window(y, state)
            y = self.temporal(window)
        else:
            window, entry = self._window(y, state)
            y = self.spatial(window)
        after |= entry
        if self.se is not None:
            pooled, entry = self._pooled(y, state)
            y = y * self.se(pooled, state)[..., None, None]
            after |= entry
        y = self.project(y)
        if self.scale is not None:
            y = y * self.scale
        if self.training and self.drop_path:
            keep = torch.rand(y.shape[0], 1, 1, 1, 1, device=y.device) >= self.drop_path
            y = y * keep / (1 - self.drop_path)
        return y + (x if self.skip is None else self.skip(x)), after

    def _window(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.stream is not None:
            return self.stream(x, state)
        return (F.pad(x, (0,) * 6 + (self.pad, self.pad)) if self.pad else x), {}

    def _pooled(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        frame = self.mean(x)
        if self.pool is not None:
            over_time, entry = self.pool(frame, state)
        else:
            over_time, entry = frame.mean(1, keepdim=True).expand_as(frame), {}
        return (torch.cat([over_time, frame], 2) if self.both_pools else over_time), entry


class Head(nn.Module):
    """1x1 convolution, pooling over space and all frames so far, two dense layers."""

    def __init__(self, arch: MoViNetArch):
        super().__init__()
        table = arch.table
        self.act = arch.classifier_activation
        outputs = table.stages[-1].outputs
        self.project = ConvNorm(outputs, table.head, 1, 1, arch.activation)
        self.mean = SpatialMean()
        self.pool = RunningMean() if arch.causal else None
        self.hidden = nn.Linear(table.head, arch.hidden)
        self.activation = Pointwise(self.act)
        self.dropout = nn.Dropout(arch.dropout)
        self.classify = nn.Linear(arch.hidden, arch.classes)
        nn.init.normal_(self.classify.weight, std=0.01)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, C, H, W] -> logits [B, T, classes], or [B, 1, classes] where not causal."""
        pooled, entry = self.pooled(x, state)
        hidden = self.activation(self.hidden(pooled))
        return self.classify(self.dropout(hidden)), entry

    def pooled(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The mean over space and time, [B, T, features], or [B, 1, features]."""
        frames = self.mean(self.project(x))
        if self.pool is not None:
            return self.pool(frames, state)
        return frames.mean(1, keepdim=True), {}


class MoViNet(Encoder):
    """A MoViNet classifier; states are named ``b1.l0.stream``, ``b1.l0.pool``, ``head.pool``."""

    def __init__(self, arch: MoViNetArch):
        super().__init__()
        self.arch: MoViNetArch = arch
        layers = arch.table.layers()
        self.stem = ConvNorm(3, arch.table.stem, 3, 2, arch.activation)
        for number, layer in enumerate(layers, start=1):
            stage = f"b{layer.stage}"
            if layer.index == 0:
                self.add_module(stage, nn.ModuleDict())
            block = Block(arch, layer, arch.drop_path * number / len(layers))
            self.get_submodule(stage).add_module(f"l{layer.index}", block)
        self.head = Head(arch)
        name_states(self)

    def blocks(self) -> list[tuple[Layer, Block]]:
        """The layers with their modules, in order of execution."""
        pairs = []
        for layer in self.arch.table.layers():
            block = self.get_submodule(layer.name)
            assert isinstance(block, Block)
            pairs.append((layer, block))
        return pairs

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits per frame [B, T, classes], next state.

        The logits of frame t see the frames up to t. A base model gives one answer for the
        clip, [B, 1, classes], keeps no state and refuses one.
        """
        if not self.arch.causal and state:
            raise ValueError("a base MoViNet sees whole clips; it takes no state")
        state = state or {}
        maps, after = self._maps(x, state)
        logits, entry = self.head(maps, state)
        after |= entry
        return logits, (after | tick(state, x) if self.arch.causal else {})

    def snippets(self, x: Tensor) -> Tensor:
        """See `Encoder`; what the head's dense layers see."""
        maps, _ = self._maps(x, {})
        return self.head.pooled(maps, {})[0][:, -1]

    def _maps(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """What the last block gives for frames [B, T, 3, H, W], and the blocks' next state."""
        after: State = {}
        y = self.stem(x)
        for _, block in self.blocks():
            y, entry = block(y, state)
            after |= entry
        return y, after

    def start_residuals(self, scale: float) -> None:
        for _, block in self.blocks():
            if block.scale is not None:
                nn.init.constant_(block.scale, scale)
