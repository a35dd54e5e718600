"""R(2+1)D (arXiv 1711.11248): every 3-D convolution is one in space and one in time.

Input is RGB in [0, 1], which is normalised here. A convolution in time is a 1x1 one of frames that
are stacked along the channels, so frames may ride in the batch axis: activations are
`[..., frames, channels, height, width]`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.encoder import Encoder, MeanHead
from movinet_edge.models.r2plus1d_table import DEVIATION, MEAN, FactorRow, R2plus1dArch
from movinet_edge.streaming.layers import StackedConv
from movinet_edge.streaming.state import State

TIME = 3  # of the kernels


def normalised(x: Tensor) -> Tensor:
    """Frames [..., 3, H, W] in [0, 1] as the network takes them."""
    mean, deviation = (x.new_tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return (x - mean) / deviation


class Frames:
    """How frames [..., T, C, H, W] are gathered; deploy forms may spell it in another way."""

    def every(self, x: Tensor, stride: int) -> Tensor:
        """Every `stride`-th frame, the first one among them."""
        return x if stride == 1 else x[..., ::stride, :, :, :]

    def windows(self, x: Tensor, stride: int) -> Tensor:
        """Three frames around each of them, stacked along the channels; zeros at the ends."""
        length = x.shape[-4]
        padded = F.pad(x, (0,) * 6 + (TIME // 2, TIME // 2))
        taps = [padded[..., i : i + length, :, :, :] for i in range(TIME)]
        return torch.cat([self.every(tap, stride) for tap in taps], -3)


class Factored(nn.Module):
    """[1 x k x k], batch norm, ReLU, [3 x 1 x 1], batch norm; the stride is of both."""

    def __init__(
        self,
        inputs: int,
        middle: int,
        outputs: int,
        space: int = 3,
        strides: tuple[int, int] = (1, 1),
    ):
        super().__init__()
        time, across = strides
        self.stride = time
        self.spatial = StackedConv(inputs, middle, 1, space, across)
        self.temporal = StackedConv(middle, outputs, TIME)

    def forward(self, frames: Frames, x: Tensor) -> Tensor:
        y: Tensor = self.temporal(frames.windows(F.relu(self.spatial(x)), self.stride))
        return y


class FactoredBlock(nn.Module):
    """Two factorised convolutions; residual."""

    def __init__(self, row: FactorRow):
        super().__init__()
        self.stride, both = row.stride, (row.stride, row.stride)
        self.a = Factored(row.inputs, row.middle, row.outputs, strides=both)
        self.b = Factored(row.outputs, row.middle, row.outputs)
        projects, stride = row.projects, row.stride
        self.shortcut = StackedConv(row.inputs, row.outputs, stride=stride) if projects else None

    def forward(self, frames: Frames, x: Tensor) -> Tensor:
        y = self.b(frames, F.relu(self.a(frames, x)))
        if self.shortcut is not None:
            x = self.shortcut(frames.every(x, self.stride))
        return F.relu(y + x)


class FactoredNet(nn.Module):
    """``forward(frames, x)``: normalised frames [..., T, 3, H, W] -> maps [..., T / 8, C, h, w]."""

    def __init__(self, arch: R2plus1dArch):
        super().__init__()
        self.stem = Factored(3, arch.stem_middle, arch.width, 7, (1, 2))
        self.stages = nn.ModuleList(
            nn.ModuleList(FactoredBlock(row) for row in rows) for rows in arch.stages()
        )

    def forward(self, frames: Frames, x: Tensor) -> Tensor:
        x = F.relu(self.stem(frames, x))
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(frames, x)
        return x


class R2plus1d(Encoder):
    """An R(2+1)D classifier."""

    def __init__(self, arch: R2plus1dArch):
        super().__init__()
        self.arch: R2plus1dArch = arch
        self.net = FactoredNet(arch)
        self.head = MeanHead(arch)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits of the clip [B, 1, classes]; no state.

        A clip that is longer than a snippet is cut into snippets; the mean is over all of them.
        """
        if state:
            raise ValueError("R(2+1)D sees whole clips; it takes no state")
        parts = x.split(self.arch.frames, 1)
        return self.head(torch.cat([self._features(part) for part in parts], 1), {})

    def snippets(self, x: Tensor) -> Tensor:
        return self._features(x).mean(1)

    def start_residuals(self, scale: float) -> None:
        for module in self.modules():
            if isinstance(module, FactoredBlock) and module.b.temporal.norm is not None:
                nn.init.constant_(module.b.temporal.norm.weight, scale)

    def _features(self, x: Tensor) -> Tensor:
        """[N, F, 3, H, W] -> [N, F / 8, C]."""
        maps: Tensor = self.net(Frames(), normalised(x))
        return maps.mean((3, 4))
