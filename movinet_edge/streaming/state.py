"""Streaming state as a value.

A state maps names to tensors; a name is the module path of the layer that owns it
(``b1.l0.stream``, ``b1.l0.pool``, ``head.pool``) and ``clock`` is the number of frames seen.
Layers read the state they are given and return new tensors; nothing is changed in place, so
training, ``torch.export`` and the tests all see the same pure function. An absent entry means
"the stream has just begun", that is zeros.
"""

from __future__ import annotations

from torch import Tensor, nn

State = dict[str, Tensor]

CLOCK = "clock"


class Stateful(nn.Module):
    """A layer that owns one state entry, named by `name_states` after the module's path."""

    key: str = ""


def name_states(model: nn.Module) -> None:
    """Give every stateful layer of `model` its module path as the name of its state."""
    for path, module in model.named_modules():
        if isinstance(module, Stateful):
            module.key = path


def detach(state: State) -> State:
    """The same state with gradients stopped, for training on consecutive sub-clips."""
    return {name: value.detach() for name, value in state.items()}
