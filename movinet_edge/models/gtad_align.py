"""SGAlign and the first convolution behind it, without the map of samples between them.

The published way samples every anchor in all bins ([9216, 100, 100] numbers per video, 369 MB) and
applies a 1x1 convolution. Both are linear, so here the convolution comes first, at every place and
for every bin, and what it gives is summed up for each valid anchor. Neither a custom operator nor
the map is needed; results are the same but for rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad_sampling import Sparse, sampling
from movinet_edge.models.gtad_table import ALIGNED, CHANNELS, GTadArch

# offsets, columns and weights of a sparse matrix
Table = tuple[Tensor, Tensor, Tensor]


@lru_cache(maxsize=16)
def _tables(
    anchors: Anchors, bins: tuple[int, int], outside: bool, device: torch.device
) -> tuple[Table, Table]:
    """The matrix and its transpose."""

    def on_device(matrix: Sparse) -> Table:
        arrays = (matrix.offsets, matrix.columns, matrix.weights)
        offsets, columns, weights = (torch.from_numpy(array).to(device) for array in arrays)
        return offsets, columns, weights

    matrix = sampling(anchors, *bins, outside)
    return on_device(matrix), on_device(matrix.transposed())


def _product(table: Table, values: Tensor) -> Tensor:
    """Sparse [rows, width] times [width, C]."""
    offsets, columns, weights = table
    return F.embedding_bag(
        columns,
        values,
        offsets,
        mode="sum",
        per_sample_weights=weights.to(values.dtype),
        include_last_offset=True,
    )


class _Sampled(torch.autograd.Function):
    """One video after the other, of which nothing is kept for the way back: it is linear.

    Features and context [B, T, C], their weights [C, bins * outputs] -> anchors [B, N, outputs].
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        context: Tensor,
        weight: Tensor,
        context_weight: Tensor,
        tables: tuple[Table, Table],
    ) -> Tensor:
        ctx.save_for_backward(features, context, weight, context_weight)
        ctx.tables = tables
        ready = _Places(features, weight, context_weight)
        rows = len(tables[0][0]) - 1
        out = features.new_empty(len(features), rows, ALIGNED)
        for video, (near, around) in enumerate(zip(features, context, strict=True)):
            torch.mm(near, weight, out=ready.features)
            torch.mm(around, context_weight, out=ready.context)
            out[video] = _product(tables[0], ready.all)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, context, weight, context_weight = ctx.saved_tensors
        places, parts = features.shape[1], (weight, context_weight)
        inputs = [torch.empty_like(features), torch.empty_like(context)]
        weights = [torch.zeros_like(part) for part in parts]
        for video, below in enumerate(gradient):
            whole = _product(ctx.tables[1], below.contiguous()).view(-1)
            split = whole.split([places * part.shape[1] for part in parts])
            for k, values in enumerate((features, context)):
                own = split[k].view(places, -1)
                torch.mm(own, parts[k].t(), out=inputs[k][video])
                weights[k].addmm_(values[video].t(), own)
        return *inputs, *weights, None


class _Places:
    """Room for what all bins have at all places of one video, [T * (bins + context bins), C]."""

    def __init__(self, features: Tensor, weight: Tensor, context_weight: Tensor):
        places, sizes = features.shape[1], (weight.shape[1], context_weight.shape[1])
        whole = features.new_empty(places * sum(sizes))
        near, around = whole.split([places * size for size in sizes])
        self.features, self.context = near.view(places, -1), around.view(places, -1)
        self.all = whole.view(-1, ALIGNED)


class SGAlign(nn.Module):
    """Places of a video to its anchors' first features (before the activation).

    `features` and `context` are the parts of the 1x1 convolution that see the places themselves
    and the means of their neighbours, [C, bins, outputs]: every bin has weights of its own.
    """

    def __init__(self, arch: GTadArch):
        super().__init__()
        self.arch = arch
        self.features = nn.Parameter(torch.empty(CHANNELS, arch.bins, ALIGNED))
        self.context = nn.Parameter(torch.empty(CHANNELS, arch.context_bins, ALIGNED))
        self.bias = nn.Parameter(torch.empty(ALIGNED))
        # As PyTorch begins with convolutions.
        bound = (CHANNELS * (arch.bins + arch.context_bins)) ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor, around: Tensor, anchors: Anchors, outside: bool) -> Tensor:
        """Places x [B, C, T] and the means of their neighbours, alike -> [B, N, outputs].

        With `outside` a row more comes last, of places in the map where there is no anchor. It is
        computed in float32 whatever autocast says.
        """
        bins = (self.arch.bins, self.arch.context_bins)
        tables = _tables(anchors, bins, outside, x.device)
        with torch.autocast(x.device.type, enabled=False):
            rows: Tensor = _Sampled.apply(
                x.to(self.bias.dtype).transpose(1, 2).contiguous(),
                around.to(self.bias.dtype).transpose(1, 2).contiguous(),
                self.features.flatten(1),
                self.context.flatten(1),
                tables,
            )
            return rows.add_(self.bias)
