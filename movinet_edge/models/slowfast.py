"""SlowFast (arXiv 1812.03982): a Slow and a Fast pathway over one video.

Semantics follow PySlowFast; input is RGB in [0, 1], which is normalised here. Whatever concerns
time is asked of a `Clock`: of a whole clip (`slowfast_clip`), of a stream (`slowfast_stream`), or
of a graph in deploy form (`slowfast_deploy`), so the wiring is written once. Frames ride in front:
activations are `[..., channels, height, width]`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.slowfast_clip import clip_logits
from movinet_edge.models.slowfast_stream import DelayedSlowFast, stream_logits
from movinet_edge.models.slowfast_table import STAGES, Pathway, SlowFastArch
from movinet_edge.models.slowfast_timing import STEM_KERNEL, timing
from movinet_edge.streaming.layers import DelayLine, StackedConv, StreamBuffer
from movinet_edge.streaming.state import State, Stateful, name_states


class Clock(Protocol):
    """What a pathway asks about time."""

    def masked(self, x: Tensor) -> Tensor:
        """`x` with zeros where it belongs to no frame of the video."""

    def stacked(self, buffer: StreamBuffer | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frames that a temporal convolution sees, stacked along the channels, oldest first.

        And those that its outputs belong to. Without a buffer both are `x`.
        """

    def lateral(self, lateral: Lateral, place: int) -> Tensor:
        """Fast features of one place as a lateral convolution sees them, one for each tick."""

    def delayed(self, buffer: DelayLine, x: Tensor) -> Tensor:
        """The pathway's own features, from now on `buffer.past` ticks later."""

    def waiting(self, buffer: DelayLine, x: Tensor) -> Tensor:
        """`x` as it was `buffer.past` ticks ago."""

    def affinity(self, block: NonLocal, x: Tensor) -> Tensor:
        """What a non-local block adds to `x`, seeing all frames."""


class Stem(nn.Module):
    """7x7 convolution and 3x3 max pooling, both with stride 2."""

    def __init__(self, arch: SlowFastArch, pathway: Pathway):
        super().__init__()
        time = STEM_KERNEL[pathway]
        self.conv = StackedConv(3, arch.stem_width(pathway), time, 7, 2)
        self.stream = StreamBuffer(time - 1) if time > 1 else None

    def forward(self, clock: Clock, x: Tensor) -> Tensor:
        stacked, _ = clock.stacked(self.stream, x)
        y = F.relu(self.conv(stacked))
        # Zeros are as good as nothing behind a ReLU.
        pooled = F.max_pool2d(F.pad(y.flatten(0, -4) if y.dim() > 4 else y, (1, 1, 1, 1)), 3, 2)
        return pooled.unflatten(0, y.shape[:-3]) if y.dim() > 4 else pooled


class Block(nn.Module):
    """Bottleneck: [time x 1 x 1], [1 x 3 x 3] with the stride, [1 x 1 x 1]; residual."""

    def __init__(
        self, inputs: int, inner: int, outputs: int, time: int, stride: int, projects: bool
    ):
        super().__init__()
        self.stream = StreamBuffer(time - 1) if time > 1 else None
        self.a = StackedConv(inputs, inner, time)
        self.b = StackedConv(inner, inner, 1, 3, stride)
        self.c = StackedConv(inner, outputs)
        assert self.c.norm is not None
        nn.init.zeros_(self.c.norm.weight)
        self.shortcut = StackedConv(inputs, outputs, stride=stride) if projects else None

    def forward(self, clock: Clock, x: Tensor) -> Tensor:
        stacked, x = clock.stacked(self.stream, x)
        y = self.c(F.relu(self.b(F.relu(self.a(stacked)))))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class NonLocal(nn.Module):
    """Dot-product non-local block (arXiv 1711.07971): affinities over all frames and places."""

    def __init__(self, channels: int):
        super().__init__()
        inner = channels // 2
        self.theta, self.phi, self.g = (nn.Conv2d(channels, inner, 1) for _ in range(3))
        self.out = nn.Conv2d(inner, channels, 1)
        self.norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, clock: Clock, x: Tensor) -> Tensor:
        return x + clock.affinity(self, x)

    def added(self, x: Tensor) -> Tensor:
        """Of one clip: frames [T, C, H, W] -> the same shape."""
        flat = [part(x).transpose(0, 1).flatten(1) for part in (self.theta, self.phi, self.g)]
        theta, phi, g = flat  # each [inner, T * H * W]
        # (g phi^T) theta is the same as g (phi^T theta), and much less work.
        y = (g @ phi.transpose(0, 1) / g.shape[1]) @ theta
        frames = y.reshape(-1, x.shape[0], *x.shape[2:]).transpose(0, 1)
        added: Tensor = self.norm(self.out(frames))
        return added


class Stage(nn.Module):
    """Residual blocks of one size, with non-local blocks between them."""

    def __init__(self, arch: SlowFastArch, pathway: Pathway, number: int, inputs: int):
        super().__init__()
        inner, outputs = arch.stage_widths(pathway)[number]
        self.blocks = nn.ModuleList()
        for index in range(arch.blocks[number]):
            stride = 2 if index == 0 and number > 0 else 1
            time = arch.temporal_kernel(pathway, number, index)
            first = index == 0
            self.blocks.append(
                Block(inputs if first else outputs, inner, outputs, time, stride, first)
            )
        places = arch.nonlocal_blocks[number] if pathway == "slow" else ()
        self.nonlocals = nn.ModuleDict({str(place): NonLocal(outputs) for place in places})

    def forward(self, clock: Clock, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(clock, x)
            if str(index) in self.nonlocals:
                x = self.nonlocals[str(index)](clock, x)
        return x


class Lateral(nn.Module):
    """Fast features join the Slow ones (section 3.4): T-conv, time to channels, or sampling."""

    def __init__(self, arch: SlowFastArch, place: int, channels: int):
        super().__init__()
        self.sums = arch.fusion == "ttoc-sum"
        self.kernel, self.ahead = arch.lateral_kernel, arch.lateral_ahead
        convolves = arch.fusion == "t-conv"
        self.conv = StackedConv(channels, 2 * channels, self.kernel) if convolves else None
        met = timing(arch).meetings[place]
        self.age = met.age
        # What waits for the other in a stream; as modules, so that they have names.
        self.stream = StreamBuffer(self.kernel - 1 + met.age)
        self.wait = DelayLine(met.lateral) if met.lateral else None
        self.slow_wait = DelayLine(met.slow) if met.slow else None

    def forward(self, clock: Clock, place: int, x: Tensor) -> Tensor:
        """`x` are Slow features."""
        fast = clock.lateral(self, place)
        if self.conv is not None:
            fast = F.relu(self.conv(fast))
        if self.wait is not None:
            fast = clock.waiting(self.wait, fast)
        if self.slow_wait is not None:
            x = clock.delayed(self.slow_wait, x)
        return x + fast if self.sums else torch.cat([x, fast], -3)


class PathwayNet(nn.Module):
    """Stem and stages of one pathway."""

    def __init__(self, arch: SlowFastArch, pathway: Pathway):
        super().__init__()
        self.stem = Stem(arch, pathway)
        channels = arch.stem_width(pathway)
        # What lateral connections see beyond the ends of a video are zeros.
        self.emits = pathway == "fast" and arch.fusion != "none"
        fast = [arch.stem_width("fast"), *(outer for _, outer in arch.stage_widths("fast"))]
        self.laterals = nn.ModuleList()
        for number, name in enumerate(STAGES):
            if pathway == "slow" and arch.fusion != "none":
                self.laterals.append(Lateral(arch, number, fast[number]))
                channels = arch.fused_channels(fast[number], channels)
            self.add_module(name, Stage(arch, pathway, number, channels))
            channels = arch.stage_widths(pathway)[number][1]
        self.channels = channels

    def forward(self, clock: Clock, x: Tensor) -> list[Tensor]:
        """Normalised frames -> the features behind the stem and every stage."""
        x = self.stem(clock, x)
        features = [clock.masked(x) if self.emits else x]
        for place, name in enumerate(STAGES):
            if self.laterals:
                x = self.laterals[place](clock, place, x)
            x = self.get_submodule(name)(clock, x)
            features.append(clock.masked(x) if self.emits else x)
        return features


class Pool(Stateful):
    """Where a stream keeps the mean over time of a pathway's features.

    `window`: over so many last steps; None: over all.
    """

    def __init__(self, window: int | None):
        super().__init__()
        self.window = window


class Head(nn.Module):
    """The pathways' means side by side, dropout, one dense layer."""

    def __init__(self, arch: SlowFastArch, channels: dict[Pathway, int]):
        super().__init__()
        lengths: dict[Pathway, int] = {"slow": arch.frames, "fast": arch.clip_frames}
        window = arch.pool == "window"
        self.pools = nn.ModuleDict({p: Pool(lengths[p] if window else None) for p in channels})
        self.dropout = nn.Dropout(arch.dropout)
        self.multi_label = arch.multi_label
        self.classify = nn.Linear(sum(channels.values()), arch.classes)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, means: list[Tensor]) -> Tensor:
        """[..., channels] each, in the order of the pathways -> [..., classes]."""
        logits: Tensor = self.classify(self.dropout(torch.cat(means, -1)))
        return logits

    def placed(self, maps: list[Tensor], side: int) -> Tensor:
        """Maps [B, C, h, w] -> [B, classes]: logits of the mean over all windows' probabilities."""
        windows = [F.avg_pool2d(x, side, 1).flatten(2).transpose(1, 2) for x in maps]
        logits = self.forward(windows)
        if self.multi_label:
            return logits.sigmoid().mean(1).logit()
        return logits.softmax(-1).mean(1).log()


class SlowFast(VideoModel):
    """A SlowFast classifier; pathways in the order of `arch.pathways`."""

    def __init__(self, arch: SlowFastArch):
        super().__init__()
        self.arch: SlowFastArch = arch
        for pathway in arch.pathways:
            self.add_module(pathway, PathwayNet(arch, pathway))
        channels = {pathway: self.pathway(pathway).channels for pathway in arch.pathways}
        self.head = Head(arch, channels)
        name_states(self)

    def pathway(self, name: Pathway) -> PathwayNet:
        """One of the two."""
        net = self.get_submodule(name)
        assert isinstance(net, PathwayNet)
        return net

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits, next state.

        Causal: logits per frame [B, T, classes]. Otherwise those of the clip, [B, 1, classes],
        with Slow frames chosen by the truncated linspace rule, no state.
        """
        if self.arch.causal:
            return stream_logits(self, x, state or {})
        if state:
            raise ValueError("a SlowFast that looks ahead sees whole clips; it takes no state")
        return clip_logits(self, x, self.arch.slow_index(x.shape[1])), {}

    def pools(self, name: Pathway) -> Pool:
        """Where a pathway's mean is kept."""
        pool = self.head.pools[name]
        assert isinstance(pool, Pool)
        return pool

    def start_residuals(self, scale: float) -> None:
        for module in self.modules():
            if isinstance(module, Block) and module.c.norm is not None:
                nn.init.constant_(module.c.norm.weight, scale)

    @property
    def delay(self) -> int:
        return timing(self.arch).delay

    def as_stream(self) -> nn.Module:
        """Itself if causal; otherwise the same weights with a delay."""
        return self if self.arch.causal else DelayedSlowFast(self)
