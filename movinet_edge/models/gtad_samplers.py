"""SGAlign and its first convolution as products with constants, as an engine likes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import gcd

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from movinet_edge.models.gtad_align import SGAlign
from movinet_edge.models.gtad_blocks import Blocks
from movinet_edge.models.gtad_sampling import binned
from movinet_edge.models.gtad_table import ALIGNED

# Rows of anchors in groups, and that of no anchor.
Sampled = tuple[list[Tensor], Tensor | None]
# Durations and starts of a block of anchors.
GATHERED, BANKED = (10, 10), (8, 4)
MOST = 5  # inputs of a concatenation that accelerators take


def joined(parts: Sequence[Tensor], axis: int) -> Tensor:
    """`parts` side by side, a few at a time."""
    while len(parts) > 1:
        parts = [torch.cat(list(parts[i : i + MOST]), axis) for i in range(0, len(parts), MOST)]
    return parts[0]


class Sampler(nn.Module, ABC):
    """SGAlign and its first convolution, rows of anchors as in `Blocks`.

    Places x and the means of their neighbours, [1, T, C] -> [1, rows, outputs] for each of the
    `groups` of bands; with `outside` also what is sampled where no anchor is, [1, 1, outputs].
    """

    together: int  # bands of a group; 0: all

    def __init__(self, align: SGAlign, size: tuple[int, int]):
        super().__init__()
        arch = align.arch
        self.places, self.bins = arch.snippets, (arch.bins, arch.context_bins)
        self.blocks = Blocks(arch.anchors(), self.bins, *size)
        bands = range(len(self.blocks.bands))
        step = self.together or len(bands)
        self.groups = [bands[i : i + step] for i in bands[::step]]
        self.bias = nn.Parameter(align.bias.detach().clone())
        self._tables(align)

    @abstractmethod
    def _tables(self, align: SGAlign) -> None:
        """Make the constants."""

    @abstractmethod
    def forward(
        self, x: Tensor, around: Tensor, outside: bool
    ) -> tuple[list[Tensor], Tensor | None]: ...

    def _constant(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))

    def _nowhere(self) -> np.ndarray:
        """Weights of the first two places where no anchor is, [2, bins]."""
        parts = [
            binned(np.zeros(1), 1.0, self.places, n).reshape(self.places, n)[:2] for n in self.bins
        ]
        return np.concatenate(parts, 1).astype(np.float32)


class Gathered(Sampler):
    """What a block samples is gathered from all places, for engines that copy rows fast."""

    together = 0

    def _tables(self, align: SGAlign) -> None:
        self.parts = nn.ParameterList([align.features.detach(), align.context.detach()])
        for part in self.parts:
            part.data = part.data.flatten(1)
        self.indices: list[list[str]] = []
        for number, lengths in enumerate(self.blocks.bands):
            offsets, bins, weights = self._columns(lengths)
            self._constant(f"weights_{number}", weights)
            names = []
            for block in range(self.blocks.count(lengths)):
                names.append(f"index_{number}_{block}")
                self._constant(names[-1], self._rows(offsets + block * self.blocks.starts, bins))
            self.indices.append(names)
        both = np.repeat([0, self.places - 1], sum(self.bins))
        self._constant("edges", self._rows(both, np.tile(np.arange(sum(self.bins)), 2)))
        self._constant("ends", self.blocks.ends())
        self._constant("nowhere", self._nowhere().reshape(1, -1))
        both = np.repeat([0, 1], sum(self.bins))
        self._constant("first_two", self._rows(both, np.tile(np.arange(sum(self.bins)), 2)))

    def _columns(self, lengths: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a block of these lengths samples: places from its first start on, bins, weights."""
        band, starts = self.blocks.band(lengths), self.blocks.starts
        durations, places, bins = band.weights.shape
        full = np.zeros((durations, starts, places + starts - 1, bins), np.float32)
        for start in range(starts):
            full[:, start, start : start + places] = band.weights
        flat = full.reshape(durations * starts, -1)
        used = np.flatnonzero(flat.any(0))
        return band.first + used // bins, used % bins, flat[:, used]

    def _rows(self, places: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Where values of bins at places are among all; behind the ends of a video, zeros."""
        own, context = self.bins
        count = self.places
        rows = np.where(
            bins < own, places * own + bins, count * own + places * context + bins - own
        )
        there = (places >= 0) & (places < count)
        return np.where(there, rows, count * (own + context)).astype(np.int64)

    def forward(
        self, x: Tensor, around: Tensor, outside: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        values = [
            (y[0] @ part).view(-1, ALIGNED) for y, part in zip((x, around), self.parts, strict=True)
        ]
        table = torch.cat([*values, torch.zeros(1, ALIGNED)])
        rows = [
            self.get_buffer(f"weights_{number}") @ table[self.get_buffer(name)]
            for number, names in enumerate(self.indices)
            for name in names
        ]
        ends = self.get_buffer("ends") @ table[self.get_buffer("edges")]
        found = [(torch.cat(rows) + ends + self.bias)[None]]
        if not outside:
            return found, None
        nowhere = self.get_buffer("nowhere") @ table[self.get_buffer("first_two")]
        return found, (nowhere + self.bias)[None]


class Banks(Sampler):
    """Blocks as convolutions over groups of starts, for engines that take few operators.

    The values of all places are an image: outputs are its rows, `starts` neighbouring places a
    column, their bins its channels. Bins are in quarters, for a quarter of an anchor is short. A
    block's anchors are the channels that come out.
    """

    together = MOST

    def _tables(self, align: SGAlign) -> None:
        parts = (align.features.detach(), align.context.detach())
        self.quarters = gcd(4, *self.bins)
        own = [n // self.quarters for n in self.bins]
        self.width = sum(own)
        self.own = [slice(0, own[0]), slice(own[0], self.width)]
        starts = self.blocks.starts
        self.columns = -(-self.places // starts)
        self.values = nn.ModuleList()
        for quarter in range(self.quarters):
            pair = nn.ModuleList()
            for part, n in zip(parts, own, strict=True):
                dense = nn.Linear(part.shape[0], n * ALIGNED, bias=False)
                weight = part[:, quarter * n : (quarter + 1) * n].flatten(1).t()
                dense.weight.data = weight.contiguous()
                pair.append(dense)
            self.values.append(pair)
        self.reach: list[list[int]] = []
        for number, lengths in enumerate(self.blocks.bands):
            self.reach.append(
                [self._bank(number, lengths, quarter) for quarter in range(self.quarters)]
            )
        order = np.concatenate([self._quarter(quarter) for quarter in range(self.quarters)])
        ends = self.blocks.ends().reshape(self.blocks.rows, 2, -1)[:, :, order]
        nowhere = self._nowhere()[:, order]
        cuts = np.cumsum([self._rows(group) for group in self.groups])[:-1]
        for number, rows in enumerate(np.split(ends, cuts)):
            self._constant(f"first_{number}", rows[:, 0])
            self._constant(f"final_{number}", rows[:, 1])
        self._constant("nowhere_first", nowhere[:1])
        self._constant("nowhere_second", nowhere[1:])

    def _rows(self, group: range) -> int:
        bands = [self.blocks.bands[number] for number in group]
        return sum(self.blocks.size(band) for band in bands)

    def _quarter(self, quarter: int) -> np.ndarray:
        """The numbers of a quarter's bins among all."""
        own, context = (n // self.quarters for n in self.bins)
        return np.concatenate(
            [
                np.arange(quarter * own, (quarter + 1) * own),
                self.bins[0] + np.arange(quarter * context, (quarter + 1) * context),
            ]
        )

    def _bank(self, number: int, lengths: range, quarter: int) -> int:
        """Make a block's weights [anchors, channels, 1, columns]; returns its first column."""
        band, starts = self.blocks.band(lengths), self.blocks.starts
        weights = band.weights[:, :, self._quarter(quarter)]
        used = np.flatnonzero(weights.any((0, 2)))
        low, high = band.first + used[0], band.first + used[-1] + starts - 1
        first, last = low // starts, high // starts
        full = np.zeros((len(lengths), starts, self.width, starts, last - first + 1), np.float32)
        for start in range(starts):
            for place in used:
                column, inner = divmod(band.first + place + start, starts)
                full[:, start, :, inner, column - first] = weights[:, place]
        # Channels of the image: place, then bin.
        bank = full.transpose(0, 1, 3, 2, 4).reshape(len(lengths) * starts, -1, 1, full.shape[4])
        self._constant(f"bank_{number}_{quarter}", bank)
        return int(first)

    def _image(self, x: Tensor, around: Tensor, quarter: int) -> Tensor:
        """[1, outputs, columns, starts * bins]."""
        pair = self.values[quarter]
        assert isinstance(pair, nn.ModuleList)
        near, context = pair
        places = x.shape[1]
        y = torch.cat(
            [
                near(x).reshape(1, places, -1, ALIGNED),
                context(around).reshape(1, places, -1, ALIGNED),
            ],
            2,
        )
        y = y.reshape(1, 1, places * self.width, ALIGNED).permute(0, 1, 3, 2)
        return y.reshape(1, ALIGNED, self.columns, -1)

    def forward(
        self, x: Tensor, around: Tensor, outside: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        spare = self.columns * self.blocks.starts - self.places
        if spare:
            x, around = (F.pad(y, (0, 0, 0, spare)) for y in (x, around))
        images = [self._image(x, around, quarter) for quarter in range(self.quarters)]
        column, inner = divmod(self.places - 1, self.blocks.starts)
        first, second = (self._place(images, 0, place) for place in (0, 1))
        final = self._place(images, column, inner)
        found = []
        for number, group in enumerate(self.groups):
            rows = torch.cat([self._band(band, images) for band in group], 2)
            rows = rows + F.linear(first, self.get_buffer(f"first_{number}"))
            rows = rows + F.linear(final, self.get_buffer(f"final_{number}"))
            rows = rows[:, None].permute(0, 1, 3, 2).reshape(1, -1, ALIGNED)
            found.append(rows + self.bias)
        if not outside:
            return found, None
        nowhere = F.linear(first, self.get_buffer("nowhere_first"))
        nowhere = nowhere + F.linear(second, self.get_buffer("nowhere_second"))
        return found, nowhere.reshape(1, 1, ALIGNED) + self.bias

    def _place(self, images: Sequence[Tensor], column: int, inner: int) -> Tensor:
        """The values of all bins at a place, [1, outputs, bins]."""
        own = slice(inner * self.width, (inner + 1) * self.width)
        return joined([y[:, :, column, own] for y in images], 2)

    def _band(self, number: int, images: Sequence[Tensor]) -> Tensor:
        """A row of blocks, [1, outputs, rows]."""
        count = self.blocks.count(self.blocks.bands[number])
        total: Tensor | None = None
        for quarter, image in enumerate(images):
            bank, first = self.get_buffer(f"bank_{number}_{quarter}"), self.reach[number][quarter]
            stop = first + bank.shape[3] - 1 + count
            if first >= self.columns or stop <= 0:  # all behind an end
                continue
            before, after = max(-first, 0), max(stop - self.columns, 0)
            seen = image[:, :, max(first, 0) : min(stop, self.columns)]
            if before or after:
                seen = F.pad(seen, (0, 0, before, after))
            y = F.conv2d(seen.permute(0, 3, 1, 2), bank).permute(0, 2, 3, 1)
            total = y if total is None else total + y
        assert total is not None
        return total.reshape(1, ALIGNED, -1)
