"""What a streaming model's state is, derived from the model itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from movinet_edge.streaming.deploy import StateSpec
from movinet_edge.streaming.layers import StreamBuffer
from movinet_edge.streaming.state import CLOCK, State


def describe(model: nn.Module, frame_size: tuple[int, int]) -> list[StateSpec]:
    """The states of `model` for frames of `frame_size` (height, width), in order of execution.

    Runs one frame on the meta device, so nothing is computed and nothing is typed twice.
    """
    device_model = _on_meta(model)
    frame = torch.empty(1, 1, 3, *frame_size, device="meta")
    _, state = device_model(frame)
    buffers = {m.key: m for m in model.modules() if isinstance(m, StreamBuffer)}
    specs = []
    for name, value in state.items():
        if name in buffers:
            specs.append(StateSpec(name, "shift", buffers[name].past, tuple(value.shape[2:])))
        elif name != CLOCK:
            specs.append(StateSpec(name, "replace", 0, tuple(value.shape[1:])))
    if state:
        specs.append(StateSpec(CLOCK, "replace", 0, ()))
    return specs


def state_bytes(specs: list[StateSpec]) -> int:
    """Bytes of all states in float32."""
    return sum(4 * max(s.past, 1) * int(torch.Size(s.shape).numel()) for s in specs)


def count_macs(model: nn.Module, frames: Tensor) -> int:
    """Multiply-accumulates of the convolutions and dense layers of one forward pass."""
    from movinet_edge.streaming.layers import DepthwiseConv

    total = 0

    def convolution(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        per_output = weight[0].numel()
        total += output.numel() * per_output

    meta = _on_meta(model)
    for module in meta.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | DepthwiseConv):
            module.register_forward_hook(convolution)
    meta(frames.to("meta"))
    return total


def _on_meta(model: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(model).to("meta").eval()


def initial_state(specs: list[StateSpec], batch: int = 1) -> State:
    """Explicit zeros for every state, as `model(x, state)` takes them."""
    state: State = {}
    for spec in specs:
        if spec.name == CLOCK:
            state[CLOCK] = torch.zeros(1)
        elif spec.rule == "shift":
            state[spec.name] = torch.zeros(batch, spec.past, *spec.shape)
        else:
            state[spec.name] = torch.zeros(batch, *spec.shape)
    return state
