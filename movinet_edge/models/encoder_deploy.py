"""Encoders in deploy form: the graph of a classifier without its dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from movinet_edge.streaming.deploy import Io, Part, copied

FEATURES = "features"
DENSE = ("head.hidden", "head.classify")


def pieces(x: Tensor, length: int) -> list[Tensor]:
    """`x` along its first axis in pieces of `length`; a split into one does not convert."""
    return [x[start : start + length] for start in range(0, len(x), length)]


class Pooling(Protocol):
    """What the body of an encoder's classifier has besides its answers."""

    def pooled(self, io: Io, frames: Tensor) -> Tensor:
        """Frames [T, 3, H, W] -> means over space and time, [T, C] up to each frame, or [1, C]."""


class DeployEncoder(nn.Module):
    """``forward(io, frames)``: hands on `FEATURES`, [1, C], the mean of all frames so far."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, io: Io, frames: Tensor) -> None:
        body: Pooling = self.body  # type: ignore[assignment]
        # The state that it also is would be merged with it.
        io.outputs[FEATURES] = copied(body.pooled(io, frames)[-1:])


def encoder_part(classifier: Part, macs: Mapping[str, int]) -> Part:
    """The graph of an encoder from that of its classifier; `macs` are by module."""
    kept = sum(n for path, n in macs.items() if path not in DENSE)
    return replace(
        classifier,
        name="encoder",
        body=lambda: DeployEncoder(classifier.body()),
        macs=kept,
        whole=False,
    )
