"""G-TAD (arXiv 1911.11462): features of a video to scores of all segments, starts and ends.

Layers, sampling and the order of channels are those of frostinassiky/gtad; segments that would end
behind the video are never computed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad_align import SGAlign
from movinet_edge.models.gtad_graph import GraphConv, nearest
from movinet_edge.models.gtad_table import (
    ALIGNED,
    CHANNELS,
    LOCALIZED,
    STEM_GROUPS,
    GTadArch,
)


class LocalizationScores(NamedTuple):
    """All in (0, 1). Anchors are in the order of `Anchors`; N of them, T snippets.

    `overlap` [B, N] is how well an anchor covers an action (the regressed IoU), `action` [B, N]
    whether it is one, `start` and `end` [B, T] whether one begins or ends there.
    """

    overlap: Tensor
    action: Tensor
    start: Tensor
    end: Tensor


def as_map(rows: Tensor, anchors: Anchors, outside: Tensor | None = None) -> Tensor:
    """Values of anchors [B, C, N] -> [B, C, durations, T]; elsewhere 0, or `outside` [B, C]."""
    size = anchors.durations * anchors.snippets
    full = rows.new_zeros(*rows.shape[:2], size) if outside is None else outside[..., None]
    places = torch.from_numpy(anchors.places).to(rows.device)
    filled = full.expand(*rows.shape[:2], size).index_copy(2, places, rows)
    return filled.unflatten(2, (anchors.durations, anchors.snippets))


def as_rows(values: Tensor, anchors: Anchors) -> Tensor:
    """A map [B, C, durations, T] -> its anchors' values [B, C, N]."""
    return values.flatten(2)[..., torch.from_numpy(anchors.places).to(values.device)]


def _probability(logits: Tensor) -> Tensor:
    """Never in half precision: losses take logarithms of what is left to 1."""
    return torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))


class Boundary(nn.Module):
    """Places [B, C, T] -> the probability of a boundary at each, [B, T]."""

    def __init__(self) -> None:
        super().__init__()
        self.graph, self.answer = GraphConv(), nn.Conv1d(CHANNELS, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _probability(self.answer(self.graph(x)))[:, 0]


class Localize(nn.Module):
    """First features of anchors to their two scores: convolutions over the map of anchors.

    Where these are 1x1 no map is needed. Else it is filled as in the public code, which computes
    something where no anchor is: the last row.
    """

    def __init__(self, kernel: int):
        super().__init__()
        self.narrow = nn.Linear(ALIGNED, LOCALIZED)
        self.first, self.second = (
            nn.Conv2d(LOCALIZED, LOCALIZED, kernel, padding=kernel // 2) for _ in range(2)
        )
        self.answer = nn.Linear(LOCALIZED, 2)
        self.mixes = kernel > 1

    def forward(self, x: Tensor, anchors: Anchors) -> Tensor:
        """[B, N, aligned], or N + 1 with the row of no anchor if it `mixes` -> [B, N, 2]."""
        x = F.relu(self.narrow(F.relu(x)))
        if not self.mixes:
            for conv in (self.first, self.second):
                x = F.relu(F.linear(x, conv.weight.flatten(1), conv.bias))
            return _probability(self.answer(x))
        x = x.transpose(1, 2)
        x = as_map(x[..., :-1], anchors, x[..., -1])
        for conv in (self.first, self.second):
            x = F.relu(conv(x))
        return _probability(self.answer(as_rows(x, anchors).transpose(1, 2)))


class GTad(nn.Module):
    """The localization head."""

    def __init__(self, arch: GTadArch):
        super().__init__()
        self.arch = arch
        self.stem = nn.Conv1d(arch.features, CHANNELS, 3, padding=1, groups=STEM_GROUPS)
        self.base = GraphConv()
        self.start, self.end = Boundary(), Boundary()
        self.graph = GraphConv()
        self.align = SGAlign(arch)
        self.localize = Localize(arch.kernel)

    def forward(self, x: Tensor) -> LocalizationScores:
        """Features [B, features, T], T being any number of snippets that cover the video."""
        anchors = self.arch.anchors(x.shape[2])
        base = self.base(F.relu(self.stem(x)))
        places = self.graph(base)
        around = nearest(places)(places).mean(3)
        rows = self.align(places, around, anchors, self.localize.mixes)
        overlap, action = self.localize(rows, anchors).unbind(2)
        return LocalizationScores(overlap, action, self.start(base), self.end(base))
