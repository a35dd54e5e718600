"""The tensors of a graph, as a manifest describes them, and how a host carries states."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from movinet_edge.record import Record


class Quantization(Record):
    """real = scale * (stored - zero_point)."""

    scale: float = Field(gt=0)
    zero_point: int


class TensorSpec(Record):
    """One input or output of a graph, bound by `name`.

    A state tensor names its `state`; `slot` numbers the past frames of a ``shift`` state, 0 the
    oldest. The output of a state has no slot. A feature that enters names what it is a value of, an
    output of another graph, and its `age`: how many runs of that graph before the last one it was
    made (0: in the last). With a `window` so many of the newest values are the rows of the tensor,
    oldest first, zeros where there are no more yet. ``valid`` is 1, and 0 in the steps that
    complete a stream (`Plan.delay`).
    """

    name: str
    role: Literal["frame", "state", "feature", "output", "valid"]
    shape: tuple[int, ...] = Field(max_length=5)
    dtype: Literal["float32", "uint8", "int8", "int32"] = "float32"
    layout: Literal["NHWC", "NCHW"] | None = None
    quantization: Quantization | None = None
    state: str | None = None
    slot: int | None = None
    feature: str | None = None
    age: int | None = Field(None, ge=0)
    window: int | None = Field(None, ge=1)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class StateRule(Record):
    """How a host carries a state from step to step.

    ``shift``: the last `past` frames, the oldest leaves when the graph's new frame comes in.
    ``delay``: the same, and only the oldest goes into the graph, as slot 0.
    ``replace``: the graph's output is the next value. All begin with `initial` everywhere.
    """

    name: str
    rule: Literal["shift", "delay", "replace"]
    past: int = Field(0, ge=0)
    initial: float = 0.0
