"""Graph convolutions of G-TAD (section 3.2): every place of a video looks at those most like it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.gtad_table import CHANNELS, GROUP_WIDTH, GROUPS, NEIGHBOURS

# Values of places [B, C, T] -> those of every place's neighbours [B, C, T, k]
Neighbours = Callable[[Tensor], Tensor]


def _likeness(x: Tensor) -> Tensor:
    """Negative squared distances of places [B, C, T] from each other, [B, T, T]."""
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        x = x.float()
        square = x.square().sum(1)
        return 2 * (x.transpose(1, 2) @ x) - square[:, :, None] - square[:, None, :]


def nearest(x: Tensor) -> Neighbours:
    """The nearest places, a place itself among them, by sorting."""
    found = _likeness(x).topk(NEIGHBOURS, 2).indices.flatten(1)

    def of(values: Tensor) -> Tensor:
        index = found[:, None].expand(-1, values.shape[1], -1)
        return values.gather(2, index).unflatten(2, (-1, NEIGHBOURS))

    return of


class GraphConv(nn.Module):
    """GCNeXt: what is beside a place in time, what is like it, and the place itself, added up.

    The first convolution over pairs (neighbour, place) is linear in both, so it is applied to
    places before any is picked: `near` and `own` are its two halves.
    """

    def __init__(self) -> None:
        super().__init__()
        inner = GROUPS * GROUP_WIDTH
        self.temporal = nn.Sequential(
            nn.Conv1d(CHANNELS, inner, 1),
            nn.ReLU(),
            nn.Conv1d(inner, inner, 3, padding=1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv1d(inner, CHANNELS, 1),
        )
        self.near = nn.Conv1d(CHANNELS, inner, 1, bias=False)
        self.own = nn.Conv1d(CHANNELS, inner, 1)
        # As PyTorch begins with a convolution over both.
        for parameter in (*self.near.parameters(), *self.own.parameters()):
            nn.init.uniform_(parameter, -((2 * CHANNELS) ** -0.5), (2 * CHANNELS) ** -0.5)
        self.semantic = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inner, inner, 1, groups=GROUPS),
            nn.ReLU(),
            nn.Conv2d(inner, CHANNELS, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Places [B, C, T] -> the same."""
        pairs = nearest(x)(self.near(x)) + self.own(x)[..., None]
        alike = self.semantic(pairs).amax(3)
        return F.relu(self.temporal(x) + x + alike)
