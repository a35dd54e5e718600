"""What a streaming model keeps and costs, derived from the model itself on the meta device."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from movinet_edge.streaming.deploy import Rule, StateSpec
from movinet_edge.streaming.layers import DelayLine, DepthwiseConv, StackedConv, StreamBuffer
from movinet_edge.streaming.state import CLOCK, State


@dataclass(frozen=True)
class StreamSpec:
    """The states in order of execution (none: the model does not stream), and the work.

    `macs` counts the multiply-accumulates of convolutions and dense layers for the frames given.
    """

    states: tuple[StateSpec, ...]
    macs: int

    @property
    def state_bytes(self) -> int:
        """Bytes of all states in float32."""
        return sum(4 * max(s.past, 1) * math.prod(s.shape) for s in self.states)


def describe(model: nn.Module, frame_size: tuple[int, int], frames: int = 1) -> StreamSpec:
    """States and cost of `model` on `frames` frames of `frame_size` (height, width)."""
    macs, state = _dry_run(model, frame_size, frames)
    buffers = {m.key: m for m in model.modules() if isinstance(m, StreamBuffer)}
    specs = []
    for name, value in state.items():
        if name in buffers:
            rule: Rule = "delay" if isinstance(buffers[name], DelayLine) else "shift"
            specs.append(StateSpec(name, rule, buffers[name].past, tuple(value.shape[2:])))
        elif name != CLOCK:
            specs.append(StateSpec(name, "replace", 0, tuple(value.shape[1:])))
    if state:
        specs.append(StateSpec(CLOCK, "replace", 0, ()))
    return StreamSpec(tuple(specs), sum(macs.values()))


def module_macs(model: nn.Module, frame_size: tuple[int, int], frames: int = 1) -> dict[str, int]:
    """Multiply-accumulates of `frames` frames, by the path of the convolution or dense layer."""
    return _dry_run(model, frame_size, frames)[0]


def _dry_run(
    model: nn.Module, frame_size: tuple[int, int], frames: int
) -> tuple[dict[str, int], State]:
    """Multiply-accumulates by module, and the state afterwards, of which only shapes are known."""
    meta = copy.deepcopy(model).to("meta").eval()
    clip = torch.empty(1, frames, 3, *frame_size, device="meta")
    state: State = {}

    def run() -> None:
        nonlocal state
        _, state = meta(clip)

    return counted_macs(meta, run), state


def counted_macs(model: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Multiply-accumulates of convolutions and dense layers in `run`, by their paths in `model`."""
    macs: dict[str, int] = {}

    def count(name: str, module: nn.Module, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        macs[name] = macs.get(name, 0) + output.numel() * weight[0].numel()

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | DepthwiseConv | StackedConv):
            module.register_forward_hook(lambda m, _, y, name=name: count(name, m, y))
    with torch.no_grad():
        run()
    return macs


def initial_state(spec: StreamSpec, batch: int = 1) -> State:
    """Explicit zeros for every state, as ``model(x, state)`` takes them."""
    state: State = {}
    for entry in spec.states:
        past = () if entry.rule == "replace" else (entry.past,)
        shape = (1,) if entry.name == CLOCK else (batch, *past, *entry.shape)
        state[entry.name] = torch.zeros(shape)
    return state
