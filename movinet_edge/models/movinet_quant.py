"""Where static int8 rounds in a MoViNet; see `movinet_edge.streaming.fake_quant`.

The tensors are those of the exported step (`movinet_edge.models.movinet_deploy`, hard-swish
respelt, static int8): maps are int8; of what has no space only the squeeze-excites' means and gates
are, and what enters a dense layer, as it comes. A stream buffer holds the product of a hard-swish,
so past frames, the new one and their concatenation share its grid. Not simulated: the partial sums
of 3-D kernels, which the step adds up tap by tap.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from movinet_edge.models.movinet import Block, ConvNorm, DepthwiseNorm, MoViNet
from movinet_edge.streaming.deploy import tensor_name
from movinet_edge.streaming.fake_quant import (
    ActivationQuant,
    DynamicQuant,
    FakeQuant,
    PoolQuant,
    Switch,
    WeightQuant,
)
from movinet_edge.streaming.instrument import Instrument, Site
from movinet_edge.streaming.layers import DepthwiseConv, SameConv


def attach(model: MoViNet) -> Instrument:
    """Put quantisers into `model`, all of them off and not watching.

    Raises:
        ValueError: the model has quantisers already.
    """
    return _Attach(model).instrument


class _Attach:
    """Builds the instrument; `quantisers` are those of the block at work."""

    def __init__(self, model: MoViNet):
        self.instrument = Instrument(model)
        self.quantisers: list[Switch] = []
        self.block = ""
        stem = model.stem
        self._begin("stem")
        self._tensor(stem.conv, "input", stem.conv.in_channels)
        border = self._activated(stem).after
        self.quantisers.remove(border)  # it also belongs to the block behind
        self._end(border)
        for layer, block in model.blocks():
            self._begin(layer.name)
            self._block(block, layer.outputs)
            border = FakeQuant(layer.outputs)
            self.instrument.put(block, border, "output")
            self._end(border)
        self._begin("head")
        site = self._site("project", model.head.project)
        # From here on, vectors: only what enters the dense layers is rounded.
        self._read(site, model.head.hidden)
        self._dense(model.head.classify)
        self._end(None)

    def _begin(self, name: str) -> None:
        if self.block:
            self.instrument.readers[self.block] = name
        self.block, self.quantisers = name, []

    def _end(self, border: FakeQuant | None) -> None:
        self.instrument.blocks[self.block] = self.quantisers
        self.instrument.exits[self.block] = border

    def _block(self, block: Block, outputs: int) -> None:
        sites = [self._site("expand", block.expand)]
        whole = block.spatial.conv.kernel[0] > 1
        sites.append(self._site("temporal" if whole else "spatial", block.spatial))
        readers = [block.spatial.conv.weight]
        if block.temporal is not None:
            sites.append(self._site("temporal", block.temporal))
            readers.append(block.temporal.conv.weight)
        for site, reader in zip(sites, readers, strict=False):
            if site is not None:
                site.readers = [(reader, 0)]  # depthwise
        last = sites[-1]
        if block.se is not None:
            width = block.spatial.conv.channels
            self._tensor(block.mean, "output", width, last)
            self._read(last, block.se.reduce)
            self._dense(block.se.expand)
            self._tensor(block.se.gating, "output", width)
            self._tensor(block.project, "input", width, last)
        self._read(last, block.project.conv)
        self._tensor(block.project, "output", outputs)
        if block.skip is not None:
            if block.skip.pool is not None:
                pool = PoolQuant(block.skip.project.conv.in_channels)
                self.instrument.put(block.skip.pool, pool, "output")
                self.quantisers += [pool.sums, pool.after]
            self._weight(block.skip.project.conv)
            self._tensor(block.skip.project, "output", outputs)

    def _site(self, part: str, module: ConvNorm | DepthwiseNorm) -> Site | None:
        """Quantisers of a convolution on maps; None where its activation cannot be equalised."""
        activation = self._activated(module)
        if activation.kind != "hard_swish":
            return None
        place = "head" if self.block == "head" else f"blocks.{tensor_name(self.block)}"
        site = Site(self.block, activation, module.norm)
        self.instrument.sites[f"{place}.{part}"] = site
        return site

    def _activated(self, module: ConvNorm | DepthwiseNorm) -> ActivationQuant:
        self._weight(module.conv)
        assert module.activation is not None
        quantiser = ActivationQuant(module.activation.kind, module.norm.num_features)
        self.instrument.put(module.activation, quantiser, "output")
        if quantiser.before is not None:
            self.quantisers.append(quantiser.before)
        self.quantisers.append(quantiser.after)
        return quantiser

    def _read(self, site: Site | None, module: SameConv | nn.Linear) -> None:
        """Quantisers of a dense layer or 1x1 convolution that reads a site's channels."""
        added = self._dense(module) if isinstance(module, nn.Linear) else [self._weight(module)]
        if site is not None:
            site.readers.append((module.weight, 1))
            site.followers += added

    def _dense(self, module: nn.Linear) -> list[Switch]:
        entering = DynamicQuant()
        self.instrument.put(module, entering, "input")
        self.quantisers.append(entering)
        return [entering, self._weight(module)]

    def _weight(self, module: nn.Module) -> WeightQuant:
        # The step has a convolution for each tap in time of a 3-D kernel: one scale each.
        taps = isinstance(module, DepthwiseConv) and min(module.kernel) > 1
        quantiser = WeightQuant((0, 2) if taps else (0,))
        self.instrument.put(module, quantiser, "weight")
        self.quantisers.append(quantiser)
        return quantiser

    def _tensor(
        self,
        module: nn.Module,
        place: Literal["input", "output"],
        channels: int,
        site: Site | None = None,
    ) -> None:
        """A quantiser of one tensor, in the units of `site` if there is one."""
        quantiser = FakeQuant(channels)
        self.instrument.put(module, quantiser, place)
        self.quantisers.append(quantiser)
        if site is not None:
            site.followers.append(quantiser)
