"""How a model with simulated int8 is run when some of it changes: from the change on, or at once.

What every part was given is kept by whoever asks: `kept` is the streams' frames and what each part
handed on, `[frames, first part, ...]`, for every stream [1, T, ...].
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from movinet_edge.models.arch import VideoModel
from movinet_edge.models.movinet import ConvNorm, MoViNet
from movinet_edge.streaming.instrument import Instrument
from movinet_edge.streaming.layers import tick
from movinet_edge.streaming.state import State

# Frames that a part sees at once; the numbers do not depend on it, memory and time do.
CHUNK = 8


class Walk(Protocol):
    """A way to run a model; `resumes`: it reads what parts before the first one handed on."""

    resumes: bool

    def run(self, first: int, kept: list[list[Tensor]]) -> list[list[Tensor]]:
        """What parts `first` and on hand on, for every stream: the last one logits."""


def walk_of(model: VideoModel, instrument: Instrument) -> Walk:
    """The cheapest way that the family allows."""
    return Chain(instrument) if isinstance(model, MoViNet) else Whole(model, instrument)


class Chain:
    """Part after part, each on what the one before hands on: only those from `first` on run."""

    resumes = True

    def __init__(self, instrument: Instrument):
        self.exits = list(instrument.exits.values())
        self.parts = [instrument.model.get_submodule(name) for name in instrument.blocks]

    @torch.inference_mode()
    def run(self, first: int, kept: list[list[Tensor]]) -> list[list[Tensor]]:
        inputs = kept[first]
        border = self.exits[first - 1] if first else None
        if border is not None:  # no change where the inputs lie on its grid already
            inputs = [border(x) for x in inputs]
        outputs: list[list[Tensor]] = []
        for part in self.parts[first:]:
            inputs = [_through(part, x) for x in inputs]
            outputs.append(inputs)
        return outputs


class Whole:
    """All parts, for they are not in a chain; what looks ahead is completed behind the end."""

    resumes = False

    def __init__(self, model: VideoModel, instrument: Instrument):
        self.stream = model.as_stream().eval()
        self.delay = model.delay
        self.parts = [model.get_submodule(name) for name in instrument.blocks]

    @torch.inference_mode()
    def run(self, first: int, kept: list[list[Tensor]]) -> list[list[Tensor]]:
        seen: list[list[Tensor]] = [[] for _ in self.parts[first:]]
        handles = [
            part.register_forward_hook(lambda *call, own=own: own.append(call[2]))
            for part, own in zip(self.parts[first:], seen, strict=True)
        ]
        outputs: list[list[Tensor]] = [[] for _ in seen]
        try:
            for frames in kept[0]:
                self._stream(frames)
                for made, own in zip(outputs, seen, strict=True):
                    made.append(torch.cat(own, 1))
                    own.clear()
        finally:
            for handle in handles:
                handle.remove()
        outputs[-1] = [logits[:, self.delay :] for logits in outputs[-1]]
        return outputs

    def _stream(self, frames: Tensor) -> None:
        """One stream [1, T, 3, H, W], with all that comes late."""
        state: State = {}
        for part in frames.split(CHUNK, 1):
            _, state = self.stream(part, state)
        if self.delay:
            nothing = frames.new_zeros(1, self.delay, *frames.shape[2:])
            for part in nothing.split(CHUNK, 1):
                _, state = self.stream(part, state, part.new_zeros(part.shape[1]))


def _through(part: nn.Module, x: Tensor) -> Tensor:
    """A whole stream [1, T, ...] through one part, some frames at a time."""
    state: State = {}
    outputs = []
    for frames in x.split(CHUNK, 1):
        if isinstance(part, ConvNorm):
            outputs.append(part(frames))
        else:
            y, entry = part(frames, state)
            outputs.append(y)
            state = state | entry | tick(state, frames)
    return torch.cat(outputs, 1)
