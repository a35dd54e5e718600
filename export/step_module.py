"""The module that converters see: named tensors in, a dictionary of named tensors out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from movinet_edge.streaming.deploy import (
    NEW,
    VALID,
    Carry,
    Clip,
    FormName,
    Fresh,
    Io,
    Layout,
    Part,
    StateSpec,
    copied,
    from_nhwc,
)

FRAME, LOGITS = "frame", "logits"


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

    def __init__(self, body: nn.Module, part: Part, config: StepConfig):
        super().__init__()
        self.body, self.part, self.config = body, part, config

    @property
    def states(self) -> Sequence[StateSpec]:
        return self.part.states

    def inputs(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Input names with shape (in this layout) and type, in order."""
        config = self.config
        dtype = torch.uint8 if config.in_graph_preprocess else torch.float32
        named: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
        if self.part.frame:
            named[FRAME] = (config.frames, *config.frame_size, 3), dtype
        if self.part.flags:
            named[VALID] = (1, 1), torch.float32
        for feature in self.part.features:
            shape = to_layout((1, *feature.shape), config.layout)
            if feature.window is not None:
                shape = (1, feature.window, *feature.shape)
            named |= dict.fromkeys(feature.inputs, (shape, torch.float32))
        if config.form == "clip":
            return named
        for state in self.states:
            shape = (1, *state.shape)
            if state.rule != "replace" and config.form == "carry":
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
        frame = inputs.get(FRAME)
        if frame is not None:
            if config.in_graph_preprocess:
                frame = frame.float() * (1 / 255)
            frame = from_nhwc(frame)
        io: Io
        if config.form == "clip":
            io = Clip(config.frames, config.causal, config.layout)
        else:
            io = (Fresh if config.form == "fresh" else Carry)(inputs, config.layout)
        logits = self.body(io, frame)
        outputs = {}
        if logits is not None:
            outputs[LOGITS] = logits.softmax(-1) if config.softmax else logits
        for name, value in io.outputs.items():
            # A carried state keeps its name where the format allows it (`state = out`).
            same = config.form == "carry" and config.layout == "NHWC"
            # Features are copies in every profile, often of what is a state, too.
            separate = config.separate and name.endswith(NEW)
            outputs[name.removesuffix(NEW) if same else name] = (
                copied(value, 2) if separate else value
            )
        return outputs
