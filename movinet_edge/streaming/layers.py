"""Causal streaming layers; activations are `[batch, frames, channels, height, width]`.

Every temporal layer has one ``forward(x, state) -> (y, entries)`` for any number of frames
T >= 1, where `entries` holds the layer's own part of the next state. Running a clip at once, in
sub-clips or frame by frame is therefore the same computation. The layers follow "MoViNets:
Mobile Video Networks for Efficient Video Recognition" (arXiv 2103.11511): stream buffers
(section 3.2), causal operations and cumulative global average pooling (3.2), and TSM
(arXiv 1811.08383) as a one-frame stream buffer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.streaming.state import CLOCK, State, Stateful


def per_frame(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a 2-D operation to every frame of `x` [B, T, C, H, W] on its own."""
    return fn(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's "same" padding of one axis: (before, after); the odd one goes after."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero-pad the last two axes of `x` so that a valid convolution is TensorFlow's "same"."""
    top, bottom = same_padding(x.shape[-2], kernel, stride)
    left, right = same_padding(x.shape[-1], kernel, stride)
    return F.pad(x, (left, right, top, bottom)) if kernel > 1 else x


def conv_same(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """2-D convolution of frames [N, C, H, W] with TensorFlow's "same" padding."""
    kernel = weight.shape[-1]
    rows, columns = (same_padding(size, kernel, stride) for size in x.shape[-2:])
    if rows[0] == rows[1] and columns[0] == columns[1]:
        # Padding inside the convolution saves a copy, a tenth of the time of training.
        return F.conv2d(x, weight, None, stride, (rows[0], columns[0]), groups=groups)
    return F.conv2d(pad_same(x, kernel, stride), weight, None, stride, groups=groups)


class SameConv(nn.Conv2d):
    """Convolution of frames [N, C, H, W] without bias, with TensorFlow's "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int):
        super().__init__(inputs, outputs, kernel, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return conv_same(x, self.weight, self.stride[0])


class StreamBuffer(Stateful):
    """Prefixes a sub-clip with the last `past` frames of what came before it."""

    def __init__(self, past: int):
        super().__init__()
        self.past = past

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, ...] -> [B, past + T, ...], oldest first; the entry is the last `past` frames."""
        before = state.get(self.key)
        if before is None:
            before = x.new_zeros(x.shape[0], self.past, *x.shape[2:])
        window = torch.cat([before, x], 1)
        return window, {self.key: window[:, window.shape[1] - self.past :]}


class DepthwiseConv(nn.Module):
    """Depthwise convolution over `kernel` = (time, space); valid in time, "same" in space.

    A window of T + time - 1 frames gives T frames: the caller puts a `StreamBuffer` or temporal
    padding in front. `weight` is [C, 1, time, space, space], as in ``nn.Conv3d``.
    """

    def __init__(self, channels: int, kernel: tuple[int, int], stride: int = 1):
        super().__init__()
        self.channels, self.kernel, self.stride = channels, kernel, stride
        time, space = kernel
        self.weight = nn.Parameter(torch.empty(channels, 1, time, space, space))
        nn.init.kaiming_normal_(self.weight)

    def forward(self, window: Tensor) -> Tensor:
        time, space = self.kernel
        frames = window.shape[1] - time + 1
        if space == 1:
            taps = self.weight[:, 0].unbind(1)  # each [C, 1, 1]
            parts = [window[:, i : i + frames] * tap for i, tap in enumerate(taps)]
            return sum(parts[1:], parts[0])
        if time == 1:
            weight = self.weight[:, :, 0]
            return per_frame(lambda f: conv_same(f, weight, self.stride, self.channels), window)
        x = pad_same(window, space, self.stride)
        stride = (1, self.stride, self.stride)
        y = F.conv3d(x.transpose(1, 2), self.weight, stride=stride, groups=self.channels)
        return y.transpose(1, 2)


class DelayLine(StreamBuffer):
    """A stream buffer of which only the oldest frame is read: what was there `past` steps ago."""


class StackedConv(nn.Module):
    """Convolution over (time, space) as one of frames that are stacked along the channels.

    Takes [..., time * inputs, H, W], oldest frame first; zero padding in space, batch norm behind.
    `weight` is as in ``nn.Conv3d``. Without `norm` (folded for deployment) there is a `bias`.
    """

    def __init__(
        self, inputs: int, outputs: int, time: int = 1, space: int = 1, stride: int = 1
    ) -> None:
        super().__init__()
        self.time, self.space, self.stride = time, space, stride
        self.weight = nn.Parameter(torch.empty(outputs, inputs, time, space, space))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.norm: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs)
        self.bias: nn.Parameter | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        frames = x.flatten(0, -4) if x.dim() > 4 else x
        y = F.conv2d(frames, weight, self.bias, self.stride, self.space // 2)
        if self.norm is not None:
            y = self.norm(y)
        return y.unflatten(0, x.shape[:-3]) if x.dim() > 4 else y


class RunningMean(Stateful):
    """Cumulative average pooling: y[t] = mean of all frames up to t.

    Kept as a running mean ``m + (x - m) / (n + 1)``. The published running sum is the same
    number times the frame count, but grows without bound with the length of the stream.
    """

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, C] -> [B, T, C]; the entry is the last mean, [B, C]."""
        seen = state.get(CLOCK, x.new_zeros(1))
        mean = state.get(self.key)
        if mean is None:
            mean = x.new_zeros(x.shape[0], x.shape[2])
        start = mean[:, None]
        count = seen + torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        y = start + (x - start).cumsum(1) / count[:, None]
        return y, {self.key: y[:, -1]}


def tick(state: State, x: Tensor) -> State:
    """The clock's entry after the frames of `x` [B, T, ...]: a float tensor [1]."""
    seen = state.get(CLOCK, x.new_zeros(1, dtype=torch.float32))
    return {CLOCK: seen + x.shape[1]}


class PositionalEncoding(nn.Module):
    """Sinusoidal encoding of the frame number, scaled by one learned scalar (initially 0).

    As in the official code: the sines of the even columns fill the first half of the channels,
    the cosines of the odd columns the second; angle(p, i) = p / 10000^(2 * (i // 2) / channels).
    """

    frequency: Tensor

    def __init__(self, channels: int):
        super().__init__()
        pair = torch.arange(channels // 2, dtype=torch.float32)
        exponent = -math.log(10000.0) * 2 * pair / channels
        self.register_buffer("frequency", exponent.exp(), persistent=False)
        self.scale = nn.Parameter(torch.zeros(()))

    def table(self, position: Tensor) -> Tensor:
        """Frame numbers [T] -> encodings [T, channels]."""
        angle = position[:, None] * self.frequency
        return torch.cat([angle.sin(), angle.cos()], 1) * self.scale

    def forward(self, x: Tensor, state: State) -> Tensor:
        """Add the encoding to `x` [B, T, C]."""
        seen = state.get(CLOCK, x.new_zeros(1))
        return x + self.table(seen + torch.arange(x.shape[1], device=x.device, dtype=x.dtype))


def shift_both(x: Tensor, fold: int, time: int, channel: int) -> Tensor:
    """Two-way temporal shift (TSM), along the axes `time` and `channel`; zeros beyond the ends.

    The first C / `fold` channels come from the next frame, as many after them from the frame
    before, the rest stay.
    """
    frames, moved = x.shape[time], x.shape[channel] // fold
    later, earlier, kept = x.split([moved, moved, x.shape[channel] - 2 * moved], channel)
    nothing = torch.zeros_like(later.narrow(time, 0, 1))
    after = torch.cat([later.narrow(time, 1, frames - 1), nothing], time)
    before = torch.cat([nothing, earlier.narrow(time, 0, frames - 1)], time)
    return torch.cat([after, before, kept], channel)


class TemporalShift(nn.Module):
    """One-way temporal shift (TSM): the first C / `fold` channels come from the frame before.

    The special case of a stream buffer that holds one frame of some channels.
    """

    def __init__(self, channels: int, fold: int = 8):
        super().__init__()
        self.shifted = channels // fold
        self.stream = StreamBuffer(past=1)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, C, H, W] -> the same shape."""
        moved, kept = x[:, :, : self.shifted], x[:, :, self.shifted :]
        window, entry = self.stream(moved, state)
        return torch.cat([window[:, :-1], kept], 2), entry
