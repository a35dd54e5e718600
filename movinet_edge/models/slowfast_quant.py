"""Where static int8 rounds in a SlowFast; see `movinet_edge.streaming.fake_quant`.

The tensors are those of the exported graphs (`movinet_edge.models.slowfast_deploy`, static int8):
normalised frames, what comes out of every ReLU, both terms of every residual sum, and the joined
features of a lateral connection. A ReLU is part of the operator before it. Max pooling and masking
stay on the grid of what they read, and so do past frames in a stream buffer. From the means on only
what enters the dense layer is rounded, as it comes. Not simulated: that features are rounded twice
where they pass from the Fast graph to the Slow one and join it without a convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from movinet_edge.errors import BadInput
from movinet_edge.models.slowfast import Block, Lateral, PathwayNet, SlowFast, Stage, Stem
from movinet_edge.models.slowfast_table import STAGES
from movinet_edge.streaming.fake_quant import DynamicQuant, FakeQuant, Switch, WeightQuant
from movinet_edge.streaming.instrument import Instrument
from movinet_edge.streaming.layers import StackedConv

Part = Stem | Lateral | Block


def attach(model: SlowFast) -> Instrument:
    """Put quantisers into `model`, all of them off and not watching. There are no sites.

    Raises:
        BadInput: it has non-local blocks.
        ValueError: it has quantisers already.
    """
    if not model.arch.streams:
        raise BadInput(
            f"int8 is for streams, and {model.arch.name} sees whole clips; train without qat"
        )
    return _Attach(model).instrument


class _Attach:
    """Builds the instrument; `quantisers` are those of the block at work."""

    def __init__(self, model: SlowFast):
        self.instrument = Instrument(model)
        self.quantisers: list[Switch] = []
        for pathway in sorted(model.arch.pathways):  # Fast first, as it runs
            self._pathway(pathway, model.pathway(pathway))
        self.quantisers = []
        classify = model.head.classify
        entering = DynamicQuant()
        self.instrument.put(classify, entering, "input")
        self.quantisers.append(entering)
        self._weight(classify)
        self.instrument.blocks["head"], self.instrument.exits["head"] = self.quantisers, None

    def _pathway(self, pathway: str, net: PathwayNet) -> None:
        before = ""
        for path, part, channels in _parts(net):
            name, self.quantisers = f"{pathway}.{path}", []
            for conv in part.children():
                if isinstance(conv, StackedConv):
                    self._weight(conv)
            self._inner(part)
            border = FakeQuant(channels)
            self.instrument.put(part, border, "output")
            self.instrument.blocks[name], self.instrument.exits[name] = self.quantisers, border
            if before:
                self.instrument.readers[before] = name
            before = name  # the means behind the last one are floats

    def _inner(self, part: Part) -> None:
        """Of what is handed from one convolution of a part to the next."""
        match part:
            case Stem():
                self._tensor(part.conv, "input")
            case Lateral():
                if part.conv is not None:
                    self._tensor(part.conv, "input")
            case Block():
                self._tensor(part.b, "input")
                self._tensor(part.c, "input")
                self._tensor(part.c, "output")
                if part.shortcut is not None:
                    self._tensor(part.shortcut, "output")

    def _tensor(self, conv: StackedConv, place: Literal["input", "output"]) -> None:
        outputs, inputs, time = conv.weight.shape[:3]
        quantiser = FakeQuant(outputs if place == "output" else inputs * time)
        self.instrument.put(conv, quantiser, place)
        self.quantisers.append(quantiser)

    def _weight(self, module: nn.Module) -> None:
        quantiser = WeightQuant()
        self.instrument.put(module, quantiser, "weight")
        self.quantisers.append(quantiser)


def _parts(net: PathwayNet) -> Iterator[tuple[str, Part, int]]:
    """The parts of a pathway in order: path, module, channels of what it hands on."""
    yield "stem", net.stem, len(net.stem.conv.weight)
    for place, name in enumerate(STAGES):
        stage = net.get_submodule(name)
        assert isinstance(stage, Stage)
        blocks = [block for block in stage.blocks if isinstance(block, Block)]
        if net.laterals:
            lateral = net.laterals[place]
            assert isinstance(lateral, Lateral)
            yield f"laterals.{place}", lateral, blocks[0].a.weight.shape[1]
        for number, block in enumerate(blocks):
            yield f"{name}.blocks.{number}", block, len(block.c.weight)
