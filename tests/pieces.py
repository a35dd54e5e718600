"""A clip that a model sees piece by piece, with its state carried on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from movinet_edge.streaming.state import State


def in_pieces(model: nn.Module, x: Tensor, cut: int | Sequence[int]) -> tuple[Tensor, State]:
    """What `model` says of x [B, T, ...] cut into pieces along T, and the state that is left."""
    state: State = {}
    parts = []
    for piece in x.split(cut if isinstance(cut, int) else list(cut), 1):
        part, state = model(piece, state)
        parts.append(part)
    return torch.cat(parts, 1), state
