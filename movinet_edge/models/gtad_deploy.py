"""G-TAD in deploy form: features of all places to scores, in operators that phones accelerate.

Neighbours are found by arithmetic, groups are written out as zeros, and SGAlign is products with
constants in the form that suits the engine (`Gathered`, `Banks`). Places are [1, T, C] throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.bundle import SCORES
from movinet_edge.models.gtad import Boundary, GTad, Localize
from movinet_edge.models.gtad_blocks import Blocks
from movinet_edge.models.gtad_graph import GraphConv
from movinet_edge.models.gtad_samplers import (
    BANKED,
    GATHERED,
    Banks,
    Gathered,
    Sampler,
    joined,
)
from movinet_edge.models.gtad_table import NEIGHBOURS
from movinet_edge.streaming.deploy import Feature, Fresh, Io, Layout, Part

FEATURES = "features"
OVERLAP, ACTIONNESS, START, END = SCORES
LOGITS = "logits"
# A difference times this, twice, is over 1 unless it is 0; one factor would not fit 16 bits.
STEEP = 3e4


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """A grouped convolution's weights [out, in / groups, ...] -> [out, in, ...]."""
    parts = weight.detach().chunk(groups)
    full = weight.new_zeros(len(weight), weight.shape[1] * groups, *weight.shape[2:])
    for number, part in enumerate(parts):
        rows = slice(number * len(part), (number + 1) * len(part))
        full[rows, number * weight.shape[1] : (number + 1) * weight.shape[1]] = part
    return full


def _dense(conv: nn.Module) -> nn.Linear:
    """A convolution of one place as a dense layer."""
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    weight = _ungrouped(conv.weight, conv.groups).flatten(1)
    made = nn.Linear(weight.shape[1], weight.shape[0], conv.bias is not None)
    made.weight.data = weight
    if conv.bias is not None:
        made.bias.data = conv.bias.detach().clone()
    return made


class InTime(nn.Module):
    """A convolution over places, [1, T, C] -> [1, T, C']."""

    def __init__(self, conv: nn.Module):
        super().__init__()
        assert isinstance(conv, nn.Conv1d)
        self.weight = nn.Parameter(_ungrouped(conv.weight, conv.groups)[:, :, None])
        assert conv.bias is not None
        self.bias = nn.Parameter(conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        images = x[:, None].permute(0, 3, 1, 2)
        y = F.conv2d(images, self.weight, self.bias, padding=(0, self.weight.shape[3] // 2))
        return y.permute(0, 2, 3, 1).flatten(0, 1)


class Nearest(nn.Module):
    """Places [1, T, C] -> for each of three neighbours a matrix [1, T, T] that picks it.

    By arithmetic alone, which accelerators run: the best is found, then struck out. Of places
    equally near the first one is taken, as sorting takes one of them.
    """

    def __init__(self, places: int):
        super().__init__()
        self.register_buffer("before", torch.ones(places, places).tril(-1))
        self.before: Tensor

    def forward(self, x: Tensor) -> list[Tensor]:
        square = (x * x).sum(2, keepdim=True)
        # In halves: of a single product with itself converters make a dense layer whose weights are
        # computed, which accelerators do not take.
        halves = x.unflatten(2, (2, -1))[0].transpose(0, 1)
        product = (halves @ halves.transpose(1, 2)).sum(0, keepdim=True)
        likeness = 2 * product - square - square.transpose(1, 2)
        chosen = []
        for _ in range(NEIGHBOURS):
            behind = likeness.amax(2, keepdim=True) - likeness
            best = F.relu(1 - behind * STEEP * STEEP)
            best = best * F.relu(1 - F.linear(best, self.before))
            likeness = likeness - best * STEEP * STEEP
            chosen.append(best)
        return chosen


class DeployGraph(nn.Module):
    """`GraphConv` on places and the matrices of their neighbours."""

    def __init__(self, graph: GraphConv):
        super().__init__()
        first, _, middle, _, last = graph.temporal
        self.temporal = nn.ModuleList([_dense(first), InTime(middle), _dense(last)])
        self.near, self.own = _dense(graph.near), _dense(graph.own)
        self.semantic = nn.ModuleList([_dense(graph.semantic[1]), _dense(graph.semantic[3])])

    def forward(self, x: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        near, own = self.near(x), self.own(x)
        alike: Tensor | None = None
        for best in chosen:
            pair = F.relu(best @ near + own)
            y = self.semantic[1](F.relu(self.semantic[0](pair)))
            alike = y if alike is None else torch.maximum(alike, y)
        assert alike is not None
        first, middle, last = self.temporal
        return F.relu(last(F.relu(middle(F.relu(first(x))))) + x + alike)


class DeployBoundary(nn.Module):
    """`Boundary`: the probability at each place, [1, T]."""

    def __init__(self, boundary: Boundary):
        super().__init__()
        self.graph, self.answer = DeployGraph(boundary.graph), _dense(boundary.answer)

    def forward(self, x: Tensor, chosen: Sequence[Tensor]) -> Tensor:
        return torch.sigmoid(self.answer(self.graph(x, chosen))).flatten(1)


class DeployLocalize(nn.Module):
    """`Localize`, on groups of rows; the two scores of all starts and durations, [1, D, T, 2]."""

    def __init__(self, localize: Localize, blocks: Blocks, groups: Sequence[range]):
        super().__init__()
        self.blocks, self.groups, self.mixes = blocks, groups, localize.mixes
        self.narrow, self.answer = localize.narrow, localize.answer
        convs = (localize.first, localize.second)
        self.convs = nn.ModuleList([conv if self.mixes else _dense(conv) for conv in convs])
        there = blocks.anchors.as_map(np.ones(len(blocks.anchors), np.float32))
        self.register_buffer("there", torch.from_numpy(there)[..., None])
        self.there: Tensor

    def forward(self, rows: Sequence[Tensor], outside: Tensor | None) -> Tensor:
        # An activation behind the inner concatenations, or converters merge them with the outer.
        if not self.mixes:
            scored = self._as_maps([self._scored(x) for x in rows])
            return joined([torch.sigmoid(part) for part in scored], 0)[None]
        assert outside is not None
        nothing = F.relu(self.narrow(F.relu(outside)))
        narrow = self._as_maps([self.narrow(F.relu(x)) for x in rows])
        x = joined([F.relu(part) for part in narrow], 0)
        x = (x * self.there + nothing * (1 - self.there))[None].permute(0, 3, 1, 2)
        for conv in self.convs:
            x = F.relu(conv(x))
        return torch.sigmoid(self.answer(x.permute(0, 2, 3, 1)))

    def _scored(self, rows: Tensor) -> Tensor:
        """[1, rows, outputs] -> logits [1, rows, 2]."""
        x = F.relu(self.narrow(F.relu(rows)))
        for dense in self.convs:
            x = F.relu(dense(x))
        answer: Tensor = self.answer(x)
        return answer

    def _as_maps(self, rows: Sequence[Tensor]) -> list[Tensor]:
        return [self._as_map(x, group) for x, group in zip(rows, self.groups, strict=True)]

    def _as_map(self, x: Tensor, group: range) -> Tensor:
        """A group's rows [1, rows, C] -> [D, T, C] of its durations; anything if no anchor is."""
        starts, places, begin, parts = self.blocks.starts, self.blocks.anchors.snippets, 0, []
        for number in group:
            lengths = self.blocks.bands[number]
            size, width = self.blocks.size(lengths), self.blocks.count(lengths) * starts
            part = x[0, begin : begin + size].reshape(width // starts, len(lengths), starts, -1)
            part = part.permute(1, 0, 2, 3).reshape(len(lengths), width, -1)[:, :places]
            parts.append(F.pad(part, (0, 0, 0, places - width)) if width < places else part)
            begin += size
        return torch.cat(parts)


def head_part(head: GTad, classify: nn.Linear | None, layout: Layout) -> Part:
    """The graph of a localization head, in the spelling of a layout's engines."""
    arch = head.arch
    return Part(
        "head",
        lambda: DeployGTad(head, classify, layout),
        (),
        macs=0,  # a matter of the module
        frame=False,
        features=(Feature(FEATURES, (arch.features,), window=arch.snippets),),
        whole=False,
    )


class DeployGTad(nn.Module):
    """``forward(io, None)``: features [1, T, C] of a window to `SCORES`.

    `OVERLAP` and `ACTIONNESS` are [1, D, T], where no anchor is anything; `START` and `END` [1, T].
    With a classifier of segments also `LOGITS` of every place, [1, T, classes].
    """

    def __init__(self, head: GTad, classify: nn.Linear | None, layout: Layout):
        super().__init__()
        self.stem = InTime(head.stem)
        self.nearest = Nearest(head.arch.snippets)
        self.base, self.graph = DeployGraph(head.base), DeployGraph(head.graph)
        self.start, self.end = DeployBoundary(head.start), DeployBoundary(head.end)
        self.align: Sampler
        if layout == "NHWC":
            self.align = Banks(head.align, BANKED)
        else:
            self.align = Gathered(head.align, GATHERED)
        self.localize = DeployLocalize(head.localize, self.align.blocks, self.align.groups)
        self.classify = classify

    def forward(self, io: Io, frame: Tensor | None) -> Tensor | None:
        assert isinstance(io, Fresh)
        features = io.inputs[FEATURES]
        stem = F.relu(self.stem(features))
        base = self.base(stem, self.nearest(stem))
        chosen = self.nearest(base)
        places = self.graph(base, chosen)
        one, two, three = self.nearest(places)
        around = ((one + two + three) @ places) * (1 / NEIGHBOURS)
        rows, outside = self.align(places, around, self.localize.mixes)
        both = self.localize(rows, outside)
        io.outputs[OVERLAP], io.outputs[ACTIONNESS] = both[..., 0], both[..., 1]
        io.outputs[START], io.outputs[END] = self.start(base, chosen), self.end(base, chosen)
        logits: Tensor | None = None if self.classify is None else self.classify(features)
        return logits
