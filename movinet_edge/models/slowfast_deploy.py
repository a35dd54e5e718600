"""SlowFast in deploy form: graphs of its pathways and head, or one of a whole clip.

The Fast graph runs at every frame and hands its features to the Slow graph, which runs at every
`alpha`-th; the head joins their means. The wiring is the model's own; only the convolutions are
folded and the clocks are others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.slowfast import Head, Lateral, NonLocal, PathwayNet, Pool, SlowFast
from movinet_edge.models.slowfast_clip import ClipClock
from movinet_edge.models.slowfast_table import Pathway, head_side, normalised
from movinet_edge.models.slowfast_timing import PLACES, timing
from movinet_edge.streaming.deploy import (
    NEW,
    VALID,
    Feature,
    Fresh,
    Io,
    Part,
    StateSpec,
    copied,
    fold_norm,
    from_nhwc,
    tensor_name,
    to_nhwc,
)
from movinet_edge.streaming.layers import DelayLine, StackedConv, StreamBuffer
from movinet_edge.streaming.spec import describe, module_macs

Size = tuple[int, int]


def feature_name(place: str) -> str:
    """The stream of Fast features behind a stage, or of a pathway's mean."""
    return f"fast_{place}"


def folded(module: nn.Module) -> nn.Module:
    """A copy with every batch norm in the convolution before it."""
    module = copy.deepcopy(module).eval()
    for part in module.modules():
        if isinstance(part, StackedConv) and part.norm is not None:
            weight, bias = fold_norm(part.weight, part.norm)
            part.weight, part.bias, part.norm = nn.Parameter(weight), nn.Parameter(bias), None
    return module


class StepClock:
    """One step of one pathway [1, C, H, W]; states and features are `io`'s tensors."""

    def __init__(self, io: Fresh, pathway: Pathway, behind: int, flags: bool):
        self.io, self.behind, self.delay = io, behind, 0
        self.register = io.inputs[VALID] if flags else torch.ones(1, 1)
        if behind:
            name = f"{pathway}_valid"
            self.register = torch.cat([io.inputs[name], self.register], 1)
            io.outputs[name + NEW] = self.register[:, 1:]

    @property
    def valid(self) -> Tensor:
        """[1, 1]: 1 where what is computed now belongs to a frame."""
        start = self.behind - self.delay
        return self.register[:, start : start + 1]

    def masked(self, x: Tensor) -> Tensor:
        if not self.behind:
            return x
        return self._taken(self.laid_out(x) * self.valid[:, :, None, None])

    def stacked(self, buffer: StreamBuffer | None, x: Tensor) -> tuple[Tensor, Tensor]:
        if buffer is None:
            return x, x
        name = tensor_name(buffer.key)
        x = self.io.outputs[name + NEW] = self.laid_out(self.masked(x))
        parts = [*(self.io.inputs[f"{name}_{i}"] for i in range(buffer.past)), x]
        back = buffer.past // 2 if self.behind else 0
        self.delay += back
        return self._stack(parts), self._taken(parts[buffer.past - back])

    def lateral(self, lateral: Lateral, place: int) -> Tensor:
        name = feature_name(PLACES[place])
        names = Feature(name, (), lateral.kernel, lateral.age).inputs
        return self._stack([self.io.inputs[name] for name in names])

    def delayed(self, buffer: DelayLine, x: Tensor) -> Tensor:
        self.delay += buffer.past
        return self.waiting(buffer, x)

    def waiting(self, buffer: DelayLine, x: Tensor) -> Tensor:
        name = tensor_name(buffer.key)
        self.io.outputs[name + NEW] = self.laid_out(x)
        return self._taken(self.io.inputs[f"{name}_0"])

    def affinity(self, block: NonLocal, x: Tensor) -> Tensor:
        raise ValueError("non-local blocks see all frames; this model does not stream")

    def mean(self, pool: Pool, x: Tensor) -> Tensor:
        """The mean over time, [1, C], of what belongs to frames."""
        io, name = self.io, tensor_name(pool.key)
        valid, values = self.valid, io.spatial_mean(x)
        if pool.window is not None:
            new = torch.cat([values * valid, valid], 1)[:, None]
            window = torch.cat([io.inputs[name], new], 1)
            io.outputs[name + NEW] = window[:, 1:]
            # Neither sums nor clamp: accelerators have no operator for them.
            means, one = window.mean(1), torch.full((1,), 1 / pool.window)
            return means[:, :-1] / torch.maximum(means[:, -1:], one)
        before, counted = io.inputs[name], f"{name}_count"
        count = io.outputs[counted + NEW] = io.inputs[counted] + valid
        mean = before + (values - before) * (valid / count.clamp(min=1))
        io.outputs[name + NEW] = mean
        return mean

    def _stack(self, parts: Sequence[Tensor]) -> Tensor:
        """Frames as `io` has them, side by side in their channels."""
        nhwc = self.io.layout == "NHWC"
        return self._taken(torch.cat(list(parts), 3 if nhwc else 1))

    def _taken(self, x: Tensor) -> Tensor:
        return from_nhwc(x) if self.io.layout == "NHWC" else x

    def laid_out(self, x: Tensor) -> Tensor:
        return to_nhwc(x) if self.io.layout == "NHWC" else x


class DeployPool(nn.Module):
    """A pathway's mean; of the head, for whose inputs 8 bits are not enough."""

    def __init__(self, pool: Pool):
        super().__init__()
        self.pool = pool

    def forward(self, clock: StepClock, x: Tensor) -> Tensor:
        return clock.mean(self.pool, x)


class DeployPathway(nn.Module):
    """``forward(io, frame)``: one step of one pathway; its features are outputs.

    Its modules are called as those of the model, for files name their tensors so.
    """

    def __init__(self, model: SlowFast, pathway: Pathway):
        super().__init__()
        met = timing(model.arch)
        self.pathway: Pathway = pathway
        self.behind = met.fast_frames if pathway == "fast" else met.slow_ticks
        self.flags = met.delay > 0
        self.add_module(pathway, folded(model.pathway(pathway)))
        self.head = DeployPool(model.pools(pathway))

    def forward(self, io: Fresh, frame: Tensor) -> None:
        clock = StepClock(io, self.pathway, self.behind, self.flags)
        net = self.get_submodule(self.pathway)
        assert isinstance(net, PathwayNet)
        features = net(clock, normalised(frame))
        if net.emits:
            for place, feature in zip(PLACES, features, strict=False):
                # The next block's state is the same, and files merge equal outputs.
                io.outputs[feature_name(place)] = copied(clock.laid_out(feature))
        io.outputs[f"{self.pathway}_mean"] = copied(self.head(clock, features[-1]))


class DeployHead(nn.Module):
    """``forward(io, None)``: the pathways' means -> logits [1, classes]."""

    def __init__(self, head: Head, pathways: Sequence[Pathway]):
        super().__init__()
        self.names = [f"{pathway}_mean" for pathway in pathways]
        self.head = copy.deepcopy(head).eval()

    def forward(self, io: Fresh, frame: Tensor | None) -> Tensor:
        logits: Tensor = self.head([io.inputs[name] for name in self.names])
        return logits


class ClipStepClock(ClipClock):
    """A whole clip with its frames in the batch axis, [T, C, H, W]."""

    def affinity(self, block: NonLocal, x: Tensor) -> Tensor:
        return block.added(x)

    def _windows(self, x: Tensor, kernel: int, before: int, stride: int) -> Tensor:
        padded = F.pad(x, (0,) * 6 + (before, kernel - 1 - before))
        frames = x.shape[0]
        return torch.cat([padded[i : i + frames : stride] for i in range(kernel)], 1)


class DeployClip(nn.Module):
    """``forward(io, frames)``: a clip [T, 3, H, W] -> logits [1, classes]."""

    def __init__(self, model: SlowFast, frames: int):
        super().__init__()
        self.arch, self.head = model.arch, copy.deepcopy(model.head).eval()
        self.nets = nn.ModuleDict({p: folded(model.pathway(p)) for p in model.arch.pathways})
        self.slow_index = model.arch.slow_index(frames)

    def forward(self, io: Io, frames: Tensor) -> Tensor:
        x = normalised(frames)
        features, fast = {}, list[Tensor]()
        if "fast" in self.nets:
            fast = self.nets["fast"](ClipStepClock(self.arch.alpha), x)
            features["fast"] = fast[-1]
        if "slow" in self.nets:
            chosen = torch.cat([x[i : i + 1] for i in self.slow_index])
            clock = ClipStepClock(self.arch.alpha, fast)
            features["slow"] = self.nets["slow"](clock, chosen)[-1]
        side = head_side(self.arch)
        if min(next(iter(features.values())).shape[-2:]) > side:
            maps = [features[p].mean(0, keepdim=True) for p in self.arch.pathways]
            return self.head.placed(maps, side)
        means = []
        for pathway in self.arch.pathways:
            each = io.spatial_mean(features[pathway])
            means.append(torch.full((1, len(each)), 1 / len(each)) @ each)
        logits: Tensor = self.head(means)
        return logits


def clip_part(model: SlowFast, size: Size, frames: int) -> list[Part]:
    """The one graph of a whole clip."""
    macs = describe(model, size, frames).macs
    return [Part("step", partial(DeployClip, model, frames), (), macs)]


def step_parts(model: SlowFast, size: Size) -> list[Part]:
    """The graphs of a stream in the order in which they run."""
    arch, met = model.arch, timing(model.arch)
    stream = model.as_stream()
    prefix = "" if stream is model else "model."
    macs = {k.removeprefix(prefix): v for k, v in module_macs(stream, size).items()}
    states = describe(stream, size).states
    shapes = {s.name: s.shape for s in states}
    fast, means = list[Feature](), list[Feature]()
    if arch.fusion != "none":
        for place, lateral in zip(PLACES, model.pathway("slow").laterals, strict=True):
            assert isinstance(lateral, Lateral)
            shape = shapes[lateral.stream.key]
            fast.append(Feature(feature_name(place), shape, lateral.kernel, lateral.age))
    parts = []
    for pathway in sorted(arch.pathways):  # Fast first
        own = [s for s in states if _belongs(s, pathway)]
        parts.append(
            Part(
                pathway,
                partial(DeployPathway, model, pathway),
                tuple(own),
                sum(n for path, n in macs.items() if path.startswith(f"{pathway}.")),
                every=arch.every if pathway == "slow" else 1,
                flags=met.delay > 0,
                features=tuple(fast) if pathway == "slow" else (),
            )
        )
    for pathway in arch.pathways:
        means.append(Feature(f"{pathway}_mean", (model.pathway(pathway).channels,)))
    head = partial(DeployHead, model.head, arch.pathways)
    dense = math.prod(model.head.classify.weight.shape)
    features = tuple(means)
    return [*parts, Part("head", head, (), dense, delay=met.delay, frame=False, features=features)]


def _belongs(state: StateSpec, pathway: Pathway) -> bool:
    """Whether a state of the whole stream is one of this pathway's graph."""
    if state.name.endswith(".held"):  # the host holds features
        return False
    if ".laterals." in state.name and state.name.endswith(".stream"):
        return False
    return state.name.startswith((f"{pathway}.", f"head.pools.{pathway}"))
