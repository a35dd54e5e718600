"""Quantisers: simulated static int8 of a model in its training form, tensor by tensor.

They are hooked to modules (by an `Instrument`); they look on, round to a grid of 256 values, or
both. The grids are those of the exported file: activations int8 per tensor from their smallest and
largest value (zero always among them), weights int8 symmetric per output channel. Batch norm and
uniform factors fold into the weights in the export; a scale per channel does not see them, so the
unfolded weights are rounded here. What enters a dense layer is rounded vector by vector, as it
comes. Accumulators are wider than any rounding here shows, and clock and running means stay float.

Nothing of this is in the model's ``state_dict``: a checkpoint taken from a model with quantisers
is that of the bare model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.streaming.layers import pad_same

LOWEST, HIGHEST = -128, 127
# Scales of zero would divide by it; this is the converter's bound, too.
SMALLEST = 1e-9

# Hard-swish is 0 below this: the range of what enters it needs to reach no further.
FLOOR = -3.0
# An equalised channel is divided by at least this, so that the floor is at most 1 away from 0.
SMALLEST_SCALE = 3.0
# What is left of a channel in a frame, as a share of its pixels, when the largest are cut off.
SHARE = 0.999

Watch = Literal["none", "all", "average"]


class _Grid(torch.autograd.Function):
    """See `grid`. On a CPU torch's own fake quantization takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(x, step, low, high)
        return (x / step).round_().clamp_(low, high).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        x, step, low, high = ctx.saved_tensors
        inside = (x >= low * step) & (x <= high * step)
        return gradients[0] * inside, None, None, None


def fake_int8(x: Tensor, low: Tensor, high: Tensor, scales: Tensor | None = None) -> Tensor:
    """Round `x` to the int8 grid of the range [low, high], widened to hold 0; clip what is beyond.

    With `scales` [channels] the range is that of ``x / scales`` and channels have a grid each.
    Gradients pass as if nothing had been rounded, and stop where `x` was clipped.
    """
    low, high = low.clamp_max(0), high.clamp_min(0)
    step = ((high - low) / (HIGHEST - LOWEST)).clamp_min(SMALLEST)
    bottom = (low / step).round()
    if scales is not None:
        step = step * scales.reshape(-1, *[1] * (x.dim() - 1 - channel_axis(x)))
    # Mixed precision has too few bits to round with.
    return grid(x.float(), step, bottom, bottom + (HIGHEST - LOWEST)).to(x.dtype)


def grid(x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """`x` at the next multiple of `step`, at least `low` and at most `high` times it."""
    return _Grid.apply(x, step, low, high)


def channel_axis(x: Tensor) -> int:
    """Of maps [..., C, H, W] the third from the end, of features [..., C] the last one."""
    return x.dim() - 3 if x.dim() > 3 else x.dim() - 1


def by_channel(x: Tensor) -> Tensor:
    """Maps [..., C, H, W] or features [..., C] -> [frames, C, pixels]."""
    if x.dim() > 3:
        return x.flatten(-2).reshape(-1, x.shape[-3], x.shape[-1] * x.shape[-2])
    return x.reshape(-1, x.shape[-1], 1)


def top_values(x: Tensor) -> Tensor:
    """The 99.9 % value of every frame's pixels, linearly interpolated: [N, C, P] -> [N, C].

    As ``torch.quantile``, which sorts everything for it.
    """
    place = SHARE * (x.shape[2] - 1)
    index = int(place)
    largest = x.topk(x.shape[2] - index, 2).values  # falling
    lower, upper = largest[..., -1], largest[..., max(largest.shape[2] - 2, 0)]
    return lower + (upper - lower) * (place - index)


class FakeQuant(nn.Module):
    """The grid of one tensor: observed ranges per channel, rounding per tensor.

    Attributes:
        watch: ``all`` keeps the smallest and largest values ever seen, ``average`` a moving
            average of every batch's.
        on: whether what passes is rounded. Neither watching nor on: it passes untouched.
        low, high: ranges [channels]; infinite while nothing was `seen`.
        top: the largest of all frames' 99.9 % values per channel, where `tops`.
        scales: of an equalised tensor, [channels] or a part of them that repeats; else None.
        pixels: of one frame; 0 while nothing was seen.
        peak: with `penalised`, the largest value per channel of the last pass, differentiable.
    """

    def __init__(self, channels: int, floor: float | None = None, tops: bool = False):
        super().__init__()
        self.watch: Watch = "none"
        self.floor, self.on, self.penalised = floor, False, False
        self.momentum = 0.05
        # No buffers: averaged weights and sizes in bytes are those of the bare model.
        self.low, self.high = torch.empty(channels), torch.empty(channels)
        self.top = torch.empty(channels) if tops else None
        self.scales: Tensor | None = None
        self.peak: Tensor | None = None
        self.forget()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As for buffers: another device."""
        self.low, self.high = fn(self.low), fn(self.high)
        self.top = None if self.top is None else fn(self.top)
        self.scales = None if self.scales is None else fn(self.scales)
        return super()._apply(fn, recurse)

    def forget(self) -> None:
        """Begin observing anew."""
        self.seen, self.pixels = False, 0
        self.low.fill_(torch.inf)
        self.high.fill_(-torch.inf)
        if self.top is not None:
            self.top.fill_(-torch.inf)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # shapes only, and PyTorch takes its time over them
            return x
        self.look(x)
        if not self.on:
            return x
        scales = self._scales()
        return fake_int8(x, *self.range(), scales)

    def look(self, x: Tensor) -> None:
        """Take note of `x`, if watching."""
        if self.penalised:
            self.peak = by_channel(x).amax((0, 2))
        if self.watch == "none" or not x.numel():  # frames between two runs of a slow pathway
            return
        values = by_channel(x.detach().float())
        self.pixels = values.shape[2]
        low, high = values.amin(2).amin(0), values.amax(2).amax(0)
        if self.watch == "average" and self.seen:
            self.low.lerp_(low, self.momentum)
            self.high.lerp_(high, self.momentum)
        else:
            torch.minimum(self.low, low, out=self.low)
            torch.maximum(self.high, high, out=self.high)
        if self.top is not None and self.watch == "all":
            torch.maximum(self.top, top_values(values).amax(0), out=self.top)
        self.seen = True

    def range(self) -> tuple[Tensor, Tensor]:
        """The tensor's range, in scaled units if equalised; two scalars.

        Raises:
            RuntimeError: nothing was seen yet.
        """
        if not self.seen:
            raise RuntimeError("there is no range to quantize to; observe some frames first")
        low, high, scales = self.low, self.high, self._scales()
        if scales is not None:
            low, high = low / scales, high / scales
        floor = self.floor
        if floor is not None and scales is not None:
            floor = FLOOR / SMALLEST_SCALE
        least = low.min() if floor is None else low.min().clamp_min(floor)
        return least, high.max()

    def _scales(self) -> Tensor | None:
        if self.scales is None:
            return None
        return self.scales.repeat(len(self.low) // len(self.scales))

    def hook_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A forward pre-hook: the first argument."""
        return self(args[0]), *args[1:]

    def hook_output(self, module: nn.Module, args: object, output: Any) -> Any:
        """A forward hook: the output, or the first of several."""
        return (self(output[0]), *output[1:]) if isinstance(output, tuple) else self(output)


class ActivationQuant(nn.Module):
    """An activation on maps as the int8 graph spells it, in place of the module's own output.

    hard-swish: x * relu6(x + 3), both factors and the product int8; the factor 1/6 is in the
    next weights. swish: x * sigmoid(x) with LiteRT's fixed grid for the sigmoid, 1/256. ReLU6 is
    fused into the convolution before, so only its result has a grid.
    """

    def __init__(self, kind: str, channels: int):
        super().__init__()
        self.kind = kind
        floor = FLOOR if kind == "hard_swish" else None
        self.before = None if kind == "relu6" else FakeQuant(channels, floor, tops=True)
        self.after = FakeQuant(channels)

    def hook_output(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        """A forward hook of the activation."""
        if self.before is None:
            return self.after(output)
        if not self.before.on or output.is_meta:
            self.before(args[0])
            return self.after(output)
        x = self.before(args[0])
        if self.kind == "hard_swish":
            open_most = (self.before.high.max() + 3).clamp(0, 6)
            y = x * fake_int8(F.relu6(x + 3), torch.zeros_like(open_most), open_most) / 6
        else:
            last = x.new_tensor(255 / 256)
            y = x * fake_int8(torch.sigmoid(x), torch.zeros_like(last), last)
        return self.after(y)


class PoolQuant(nn.Module):
    """3x3 average pooling with stride 2 as the int8 graph spells it.

    A depthwise convolution of ninths, then at the borders a factor for what the window lacks.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.sums, self.after = FakeQuant(channels), FakeQuant(channels)

    def hook_output(self, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        """A forward hook of the pooling, [B, T, C, H, W] -> [B, T, C, H', W']."""
        if output.is_meta:
            return output
        ones = output.new_ones(1, 1, *args[0].shape[-2:])
        share = F.avg_pool2d(pad_same(ones, 3, 2), 3, 2)  # of the window that is inside
        sums = output * share
        if not self.sums.on:
            self.sums(sums)
            return self.after(output)
        factor = 1 / share
        factor = fake_int8(factor, torch.zeros_like(factor.max()), factor.max())
        return self.after(self.sums(sums) * factor)


class DynamicQuant(nn.Module):
    """Rounds every vector that enters a dense layer to int8 between its own extremes.

    Attributes:
        scales: of an equalised input, [channels] or a part of them that repeats.
    """

    def __init__(self) -> None:
        super().__init__()
        self.on = False
        self.scales: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        scales = x.new_ones(1) if self.scales is None else self.scales
        scales = scales.repeat(x.shape[-1] // len(scales))
        values = x / scales
        low, high = values.detach().aminmax(dim=-1, keepdim=True)
        return fake_int8(values, low, high) * scales

    def hook_input(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """A forward pre-hook of the dense layer."""
        return (self(args[0]), *args[1:]) if self.on and not args[0].is_meta else args


class WeightQuant(nn.Module):
    """Rounds a module's `weight` while its forward runs; the parameter itself keeps its value.

    Attributes:
        axes: the weight's axes that have a scale each; the output channels come first.
        scales: of an equalised input, [channels] or a part of them that repeats; the export
            multiplies them into the weight, which changes the grid of dense and 1x1 weights.
    """

    def __init__(self, axes: tuple[int, ...] = (0,)):
        super().__init__()
        self.axes, self.on = axes, False
        self.scales: Tensor | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.scales is not None:
            repeated = self.scales.repeat(weight.shape[1] // len(self.scales))
            factor = repeated.reshape(1, -1, *[1] * (weight.dim() - 2))
            return self._rounded(weight * factor) / factor
        return self._rounded(weight)

    def _rounded(self, weight: Tensor) -> Tensor:
        others = [axis for axis in range(weight.dim()) if axis not in self.axes]
        largest = weight.detach().abs().amax(others, keepdim=True)
        step = (largest / HIGHEST).clamp_min(SMALLEST)
        bound = step.new_tensor(HIGHEST)
        return grid(weight, step, -bound, bound)

    def enter(self, module: nn.Module, args: object) -> None:
        """A forward pre-hook."""
        if self.on and not module.weight.is_meta:
            # Beside the parameters, where lookup comes first: whoever lists or saves parameters
            # in the meantime finds the real ones.
            vars(module)["weight"] = self(module.weight)

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        """A forward hook that is always called."""
        vars(module).pop("weight", None)


# Those that a block switches on and off, and those that are hooked to modules.
Switch = FakeQuant | WeightQuant | DynamicQuant
Quantiser = FakeQuant | ActivationQuant | PoolQuant | WeightQuant | DynamicQuant
