"""The module that converters see: named tensors in, a dictionary of named tensors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from movinet_edge.streaming.deploy import (
    NEW,
    Carry,
    Clip,
    FormName,
    Fresh,
    Io,
    Layout,
    StateSpec,
    from_nhwc,
)

FRAME, LOGITS = "frame", "logits"
# Less than any activation; not the lowest float, of which the converter knows that it changes
# nothing.
FLOOR = -1e30


def to_layout(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """A channels-first shape in `layout`."""
    if layout == "NHWC" and len(shape) == 4:
        return shape[0], shape[2], shape[3], shape[1]
    return shape


@dataclass(frozen=True)
class StepConfig:
    """How the deploy form is cut: `frames` is 1 except for the clip form.

    `separate`: states are emitted as copies that nothing else uses.
    """

    form: FormName
    layout: Layout
    frame_size: tuple[int, int]
    frames: int = 1
    causal: bool = True
    in_graph_preprocess: bool = False
    softmax: bool = False
    separate: bool = False


class StepModule(nn.Module):
    """``forward(**inputs) -> outputs``; frames are always NHWC, states follow the layout.

    With in-graph preprocessing the frame is uint8 RGB, otherwise float32 in [0, 1].
    """

    def __init__(self, body: nn.Module, states: Sequence[StateSpec], config: StepConfig):
        super().__init__()
        self.body, self.states, self.config = body, states, config

    def inputs(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Input names with shape (in this layout) and type, in order."""
        config = self.config
        dtype = torch.uint8 if config.in_graph_preprocess else torch.float32
        named: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
            FRAME: ((config.frames, *config.frame_size, 3), dtype)
        }
        if config.form == "clip":
            return named
        for state in self.states:
            shape = (1, *state.shape)
            if state.rule == "shift" and config.form == "carry":
                channels, height, width = state.shape
                named[state.carry_input] = (
                    to_layout((1, channels, state.past * height, width), config.layout),
                    torch.float32,
                )
                continue
            for name in state.fresh_inputs:
                named[name] = (to_layout(shape, config.layout), torch.float32)
        return named

    def sample(self) -> dict[str, Tensor]:
        """Zero inputs, as the converters want them."""
        return {name: torch.zeros(s, dtype=t) for name, (s, t) in self.inputs().items()}

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        config = self.config
        frame = inputs[FRAME]
        if config.in_graph_preprocess:
            frame = frame.float() * (1 / 255)
        frame = from_nhwc(frame)
        io: Io
        if config.form == "clip":
            io = Clip(config.frames, config.causal, config.layout)
        else:
            io = (Fresh if config.form == "fresh" else Carry)(inputs, config.layout)
        logits = self.body(io, frame)
        outputs = {LOGITS: logits.softmax(-1) if config.softmax else logits}
        for name, value in io.outputs.items():
            # A carried state keeps its name where the format allows it (`state = out`).
            same = config.form == "carry" and config.layout == "NHWC"
            # Adding 0 or multiplying by 1 would be folded away.
            copied = torch.maximum(value, torch.full((1,), FLOOR)) if config.separate else value
            outputs[name.removesuffix(NEW) if same else name] = copied
        return outputs
