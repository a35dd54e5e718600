"""The deploy form: a streaming model as plain rank-4 2-D operations with explicit state.

A model lowers itself to a body, an ``nn.Module`` whose ``forward(io, frame)`` works on
`[frames, channels, height, width]` tensors and asks `io` for everything temporal. What `io` is
decides the form:

* `Fresh`: one frame; each past frame is its own input and the graph emits only the newest frame
  of every buffer, so that the host rotates buffers instead of copying them;
* `Carry`: one frame; the graph takes and emits whole states (``state = out``);
* `Clip`: all frames of a clip at once, riding in the batch axis.

A temporal convolution is a concatenation of its frames along the height and one depthwise
convolution with kernel (time, 1) and dilation (height, 1): two operators instead of 2 * time - 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.streaming.layers import DepthwiseConv, PositionalEncoding, same_padding
from movinet_edge.streaming.state import CLOCK

FormName = Literal["fresh", "carry", "clip"]
Layout = Literal["NCHW", "NHWC"]
Rule = Literal["shift", "delay", "replace"]
NEW = "_new"
VALID = "valid"
ACTION = "action"  # the scores of a graph that decides
# Less than any activation; not the lowest float, of which the converter knows that it changes
# nothing.
FLOOR = -1e30


def tensor_name(state: str) -> str:
    """A state's name inside a graph: exported graphs allow identifiers only."""
    return state.replace(".", "_")


@dataclass(frozen=True)
class StateSpec:
    """One streaming state of a model for batch 1.

    `shape` is one frame's, channels first without batch. Rule ``shift``: the last `past` frames,
    the oldest leaves when a new one comes. Rule ``delay``: the same, and only the oldest is read.
    Rule ``replace``: one value, replaced every step.
    """

    name: str
    rule: Rule
    past: int
    shape: tuple[int, ...]

    @property
    def fresh_inputs(self) -> list[str]:
        """Input names of the fresh form, oldest frame first."""
        if self.rule == "replace":
            return [self.carry_input]
        read = self.past if self.rule == "shift" else 1
        return [f"{self.carry_input}_{i}" for i in range(read)]

    @property
    def carry_input(self) -> str:
        """Input name of the carry form."""
        return tensor_name(self.name)


@dataclass(frozen=True)
class Feature:
    """What one graph hands to another: `frames` values of the stream `name`, batch 1.

    `shape` is of one value, channels first without batch. The newest that enters is `age` steps of
    its producer old; it and those before it, oldest first, are inputs, or `window` rows of one.
    """

    name: str
    shape: tuple[int, ...]
    frames: int = 1
    age: int = 0
    window: int | None = None

    @property
    def inputs(self) -> dict[str, int]:
        """Input names, oldest first, with the age of each."""
        if self.frames == 1:
            return {self.name: self.age}
        ages = range(self.age + self.frames - 1, self.age - 1, -1)
        return {f"{self.name}_{i}": age for i, age in enumerate(ages)}


@dataclass(frozen=True)
class Part:
    """One graph of a model in deploy form: `body` makes its module, spelt for floats.

    The module's ``forward(io, frame)`` returns logits, or None where it only hands on features. It
    runs at every `every`-th frame; its logits belong to the frame `delay` frames ago. `flags`: it
    takes `VALID`, 1 for frames and 0 for what completes a stream that looks ahead. `side`: of its
    frames, where they are smaller than the model's. `when`: the action, decided by the first part,
    that asks for it. Where it is the only one, `whole`: it is the model, with all of its states and
    its answer.
    """

    name: str
    body: Callable[[], nn.Module]
    states: tuple[StateSpec, ...]
    macs: int
    every: int = 1
    delay: int = 0
    frame: bool = True
    flags: bool = False
    features: tuple[Feature, ...] = ()
    side: int | None = None
    when: str | None = None
    whole: bool = True


def from_nhwc(x: Tensor) -> Tensor:
    """[N, H, W, C] -> [N, C, H, W]; other ranks as they are."""
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def to_nhwc(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C]; other ranks as they are."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x


def copied(x: Tensor, number: int = 1) -> Tensor:
    """The same values as a tensor of their own; adding 0 or multiplying by 1 is folded away.

    Copies of one tensor need a `number` each, or files merge them.
    """
    return torch.maximum(x, torch.full((1,), number * FLOOR))


class Io(ABC):
    """What a body asks its surroundings for; `outputs` collects the next states.

    States enter and leave in `layout`. Bodies compute in NCHW as PyTorch does; where the layout
    is NHWC, everything but the convolutions is spelled on NHWC tensors, so that the converter
    finds the permutations in pairs and drops them all.
    """

    def __init__(self, layout: Layout):
        self.layout = layout
        self.outputs: dict[str, Tensor] = {}

    def spatial_mean(self, x: Tensor) -> Tensor:
        """[frames, C, H, W] -> [frames, C]."""
        if x.shape[2:] == (1, 1):  # converters make other operators of the mean of one value
            return to_nhwc(x).flatten(1)
        return to_nhwc(x).mean((1, 2)) if self.layout == "NHWC" else x.mean((2, 3))

    @abstractmethod
    def temporal(self, name: str, x: Tensor, conv: TemporalConv) -> Tensor:
        """Convolve the stream `x` in time, with the state `name` as its past."""

    @abstractmethod
    def running_mean(self, name: str, x: Tensor) -> Tensor:
        """Mean over time of `x` [frames, channels] up to each frame (or of the clip, [1, C])."""

    @abstractmethod
    def position(self, encoding: PositionalEncoding) -> Tensor:
        """Encodings of the frame numbers, [frames, channels]."""


class Fresh(Io):
    """One step; the host owns the history."""

    def __init__(self, inputs: Mapping[str, Tensor], layout: Layout):
        super().__init__(layout)
        self.inputs = inputs
        if CLOCK not in inputs:
            return
        self.outputs[CLOCK + NEW] = inputs[CLOCK] + 1
        # Not 1.0 / x, which ONNX spells Reciprocal: NNAPI lacks it, Core ML's is not exact.
        self.alpha = torch.ones(1) / self.outputs[CLOCK + NEW]

    def temporal(self, name: str, x: Tensor, conv: TemporalConv) -> Tensor:
        window = self.window(tensor_name(name), self._laid_out(x), conv.time - 1)
        return conv.stacked(from_nhwc(window) if self.layout == "NHWC" else window, x.shape[2])

    def window(self, name: str, x: Tensor, past: int) -> Tensor:
        """Past and present frames stacked along the height; takes note of the next state."""
        self.outputs[name + NEW] = x
        return torch.cat([*(self.inputs[f"{name}_{i}"] for i in range(past)), x], self._height)

    def running_mean(self, name: str, x: Tensor) -> Tensor:
        name = tensor_name(name)
        mean = self.inputs[name]
        self.outputs[name + NEW] = mean + (x - mean) * self.alpha
        return self.outputs[name + NEW]

    def position(self, encoding: PositionalEncoding) -> Tensor:
        return encoding.table(self.inputs[CLOCK])

    def _laid_out(self, x: Tensor) -> Tensor:
        return to_nhwc(x) if self.layout == "NHWC" else x

    @property
    def _height(self) -> int:
        return 1 if self.layout == "NHWC" else 2


class Carry(Fresh):
    """One step; a buffer is one tensor with its frames stacked along the height."""

    def window(self, name: str, x: Tensor, past: int) -> Tensor:
        height = x.shape[self._height]
        window = torch.cat([self.inputs[name], x], self._height)
        self.outputs[name + NEW] = window.narrow(self._height, height, past * height)
        return window


class Clip(Io):
    """All frames of a clip, from a stream that has just begun (or a non-causal model)."""

    def __init__(self, frames: int, causal: bool, layout: Layout):
        super().__init__(layout)
        self.causal = causal
        count = torch.arange(1, frames + 1, dtype=torch.float32)
        # Means over time as a matrix product: onnxsim merges a mean over space and one over time
        # into a reduction of the wrong rank.
        causal_average = torch.ones(frames, frames).tril() / count[:, None]
        self.average = causal_average if causal else torch.full((1, frames), 1 / frames)
        self.positions = count - 1

    def temporal(self, name: str, x: Tensor, conv: TemporalConv) -> Tensor:
        before = conv.time - 1 if self.causal else conv.time // 2
        after = conv.time - 1 - before
        window = F.pad(x, (0,) * 6 + (before, after))
        taps = [conv.tap(window[i : i + x.shape[0]], i, bias=i == 0) for i in range(conv.time)]
        return conv.activation(sum(taps[1:], taps[0]))

    def running_mean(self, name: str, x: Tensor) -> Tensor:
        return self.average @ x

    def position(self, encoding: PositionalEncoding) -> Tensor:
        return encoding.table(self.positions)


class RunningMean(nn.Module):
    """The running mean over time that is kept in the state `name`."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, io: Io, x: Tensor) -> Tensor:
        return io.running_mean(self.name, x)


class Activation(nn.Module):
    """An activation in the spelling that converters fuse best.

    Hard-swish has two more spellings, for integers, which leave out a constant factor per channel;
    `fold` says which one, and whoever comes next multiplies it into its weights. Without a
    `scale`, x * relu6(x + 3) leaves out 1/6. With one, x is expected divided by it:
    x * relu6(scale * x + 3), whose first term is a 1x1 depthwise convolution, leaves out scale/6.
    """

    def __init__(self, kind: str | None):
        super().__init__()
        self.kind, self.folded = kind, False
        self.scale: nn.Parameter | None = None

    def fold(self, scale: Tensor | None = None) -> Tensor:
        """Respell hard-swish; the factor [1] or [channels] that is left out (1: of others)."""
        if self.kind != "hard_swish":
            return torch.ones(1)
        self.folded = True
        if scale is None:
            return torch.full((1,), 1 / 6)
        self.scale = nn.Parameter(scale.reshape(-1, 1, 1, 1))
        self.offset = nn.Parameter(torch.full((len(scale),), 3.0))
        return scale / 6

    def forward(self, x: Tensor) -> Tensor:
        match self.kind:
            case None:
                return x
            case "hard_swish" if self.scale is not None:
                return x * F.relu6(F.conv2d(x, self.scale, self.offset, groups=len(self.scale)))
            case "hard_swish":
                return x * F.relu6(x + 3) if self.folded else F.hardswish(x)
            case "relu6":
                return F.relu6(x)
            case "swish":
                return x * torch.sigmoid(x)
        raise ValueError(f"unknown activation {self.kind!r}")


def scale_inputs(layer: Conv | nn.Linear, factor: Tensor) -> None:
    """Multiply `factor` [1] or [channels] into the weights that meet a layer's input channels.

    Where a layer's input has a multiple of the channels, they are repeated.
    """
    weight = layer.weight.data
    repeated = factor if len(factor) == 1 else factor.repeat(weight.shape[1] // len(factor))
    weight *= repeated.reshape(1, -1, *[1] * (weight.dim() - 2))


class Foldable(nn.Module):
    """A convolution whose activation can be respelt; weights are [out channels, ...]."""

    weight: nn.Parameter
    bias: nn.Parameter
    activation: Activation

    def fold(self, scale: Tensor | None = None) -> Tensor:
        """As `Activation.fold`, after dividing what comes out by `scale` [channels]."""
        if scale is not None:
            self.scale_channels(1 / scale)
            self.bias.data /= scale
        return self.activation.fold(scale)

    def scale_channels(self, factor: Tensor) -> None:
        """Multiply `factor` into the weights channel by channel: of outputs, or depthwise."""
        self.weight.data *= factor.reshape(-1, *[1] * (self.weight.dim() - 1))


def fold_norm(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `weight` followed by `norm` in inference."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    folded = weight.double() * scale.reshape(-1, *[1] * (weight.dim() - 1))
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return folded.float().detach(), bias.float().detach()


class Conv(Foldable):
    """A frame-wise convolution with "same" padding as TensorFlow's, bias and activation."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        size: tuple[int, int],
        stride: int = 1,
        groups: int = 1,
        act: str | None = None,
    ):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)
        self.stride, self.groups, self.activation = stride, groups, Activation(act)
        (top, bottom), (left, right) = (same_padding(s, weight.shape[-1], stride) for s in size)
        # Equal padding belongs to the convolution; unequal padding fuses into "same" later.
        self.symmetric = top == bottom and left == right
        self.pads = (top, left) if self.symmetric else (left, right, top, bottom)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.pads if self.symmetric else 0
        if not self.symmetric:
            x = F.pad(x, self.pads)
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return self.activation(y)


class TemporalConv(Foldable):
    """A folded depthwise convolution over (time, space), as 2-D convolutions of frames."""

    def __init__(self, conv: DepthwiseConv, norm: nn.BatchNorm2d, size: tuple[int, int], act: str):
        super().__init__()
        weight, bias = fold_norm(conv.weight, norm)
        self.time, self.space = conv.kernel
        self.channels, self.stride, self.size = conv.channels, conv.stride, size
        self.activation = Activation(act)
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def stacked(self, window: Tensor, height: int) -> Tensor:
        """`window` [1, C, time * height, W], frames stacked along the height -> [1, C, H, W]."""
        if self.space > 1:
            frames = window.split(height, 2)
            taps = [self.tap(frame, i, bias=i == 0) for i, frame in enumerate(frames)]
            return self.activation(sum(taps[1:], taps[0]))
        y = F.conv2d(
            window,
            self.weight[:, :, :, 0],
            self.bias,
            dilation=(height, 1),
            groups=self.channels,
        )
        return self.activation(y)

    def tap(self, x: Tensor, index: int, *, bias: bool) -> Tensor:
        """The part of tap `index` of the temporal kernel: a 2-D convolution of `x`."""
        part = Conv(
            self.weight[:, :, index],
            self.bias if bias else torch.zeros_like(self.bias),
            self.size,
            self.stride,
            self.channels,
        )
        return part(x)
