"""TSM (arXiv 1811.08383): a ResNet whose residual branches see parts of other frames.

Input is RGB in [0, 1], which is normalised here as ImageNet's. Two-way, a snippet is seen as a
whole, with zeros beyond its ends; one-way, a stream remembers the frame before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from movinet_edge.models.backbone import (
    BackboneNet,
    Residual,
    normalised,
    spatial_mean,
    start_residuals,
)
from movinet_edge.models.encoder import Encoder, MeanHead
from movinet_edge.models.tsm_table import TsmArch
from movinet_edge.streaming.layers import TemporalShift, shift_both, tick
from movinet_edge.streaming.state import State, name_states

Shift = Callable[[str, Tensor], Tensor]  # of the block called so


def shifted_maps(net: BackboneNet, arch: TsmArch, x: Tensor, shift: Shift) -> Tensor:
    """The last maps of frames [N, 3, H, W], normalised.

    The convolutions of every block that shifts see what `shift` makes of its input.
    """
    names = {(stage, index): block_name(stage, index) for stage, index, _ in arch.shifted()}
    x = net.stemmed(x)
    for stage, blocks in enumerate(net.stages):
        assert isinstance(blocks, nn.ModuleList)
        for index, block in enumerate(blocks):
            assert isinstance(block, Residual)
            name = names.get((stage, index))
            x = block.joined(x, x if name is None else shift(name, x))
    return x


def block_name(stage: int, index: int) -> str:
    """What the shift of a block is called: ``0_1`` is the second block of the first stage."""
    return f"{stage}_{index}"


class Tsm(Encoder):
    """A TSM classifier; the states of one-way ones are ``shifts.0_0.stream`` and so on."""

    def __init__(self, arch: TsmArch):
        super().__init__()
        self.arch: TsmArch = arch
        self.net = BackboneNet(arch.plain)
        # Without a state there is nothing to be kept: two-way shifts are functions.
        self.shifts = nn.ModuleDict()
        for stage, index, row in arch.shifted() if arch.causal else ():
            self.shifts[block_name(stage, index)] = TemporalShift(row.inputs, arch.fold)
        self.head = MeanHead(arch)
        name_states(self)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Frames [B, T, 3, H, W] in [0, 1] -> logits, next state.

        One-way: logits per frame [B, T, classes], of all frames up to it. Two-way: those of the
        clip, [B, 1, classes]; one that is longer than a snippet is cut into snippets, and the mean
        is over all frames.
        """
        if self.arch.causal:
            features, after = self._stream(x, state or {})
            logits, entry = self.head(features, state or {})
            return logits, after | entry | tick(state or {}, x)
        if state:
            raise ValueError("a two-way TSM sees whole clips; it takes no state")
        parts = x.split(self.arch.frames, 1)
        return self.head(torch.cat([self._snippet(part) for part in parts], 1), {})

    def snippets(self, x: Tensor) -> Tensor:
        features = self._stream(x, {})[0] if self.arch.causal else self._snippet(x)
        return features.mean(1)

    def start_residuals(self, scale: float) -> None:
        start_residuals(self, scale)

    def _snippet(self, x: Tensor) -> Tensor:
        """[N, F, 3, H, W] -> features of every frame, [N, F, C]."""

        def shift(name: str, y: Tensor) -> Tensor:
            return shift_both(y.unflatten(0, x.shape[:2]), self.arch.fold, 1, 2).flatten(0, 1)

        return self._features(x, shift)

    def _stream(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """[B, T, 3, H, W] -> features of every frame, [B, T, C], and the buffers' next state."""
        after: State = {}

        def shift(name: str, y: Tensor) -> Tensor:
            moved, entry = self.shifts[name](y.unflatten(0, x.shape[:2]), state)
            after.update(entry)
            return moved.flatten(0, 1)

        return self._features(x, shift), after

    def _features(self, x: Tensor, shift: Shift) -> Tensor:
        maps = shifted_maps(self.net, self.arch, normalised(x.flatten(0, 1)), shift)
        return spatial_mean(maps).unflatten(0, x.shape[:2])
