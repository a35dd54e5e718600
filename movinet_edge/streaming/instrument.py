"""The quantisers of a whole model: where they are, which are on, what is equalised.

What each of them does is `fake_quant`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from movinet_edge.streaming.fake_quant import (
    SMALLEST_SCALE,
    ActivationQuant,
    DynamicQuant,
    FakeQuant,
    Quantiser,
    Switch,
    Watch,
    WeightQuant,
)


@dataclass
class Site:
    """A hard-swish on maps, which can be equalised.

    Attributes:
        block: the part of the model it belongs to.
        activation: what stands in its place.
        norm: the batch norm before it.
        readers: the weights that meet its channels next, with the axis where they do.
        followers: quantisers of tensors that are in the scaled units, too, and of dense or 1x1
            weights that meet its channels.
    """

    block: str
    activation: ActivationQuant
    norm: nn.BatchNorm2d
    readers: list[tuple[Tensor, int]] = field(default_factory=list)
    followers: list[Switch] = field(default_factory=list)

    @property
    def before(self) -> FakeQuant:
        assert self.activation.before is not None
        return self.activation.before

    def scales(self) -> Tensor:
        """The scale of every channel, at least 3, from what was observed."""
        assert self.before.top is not None
        if not self.before.seen or self.before.top[0].isinf():
            raise RuntimeError("there are no scales to equalise with; observe some frames first")
        return self.before.top.clamp_min(SMALLEST_SCALE)

    def equalise(self, scales: Tensor | None) -> None:
        """Give every channel its own grid (None: one grid for all)."""
        parts: list[Switch] = [self.before, self.activation.after]
        for part in [*parts, *self.followers]:
            part.scales = scales


class Instrument:
    """The quantisers of a model; see `attach` of the model's family.

    `blocks` are the parts that can be quantised one by one, in order of execution: their
    quantisers without the one of what they hand on, which is in `exits` (None: the last one,
    whose answer is among its own quantisers). Their names are those of the model's modules.
    `readers`: by a block's name, the one that takes in on the same grid what it hands on; others
    have a grid of their own for it. `sites` can be equalised; their names are those of the deploy
    form.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        self.blocks: dict[str, list[Switch]] = {}
        self.exits: dict[str, FakeQuant | None] = {}
        self.readers: dict[str, str] = {}
        self.sites: dict[str, Site] = {}
        self._handles: list[RemovableHandle] = []
        self._added: list[tuple[nn.Module, str]] = []

    def put(
        self, module: nn.Module, quantiser: Quantiser, place: Literal["input", "output", "weight"]
    ) -> None:
        """Hook a quantiser to `module`, as a submodule: copies and devices take it along."""
        name = f"int8_{place}"
        if name in module._modules:
            raise ValueError("the model has quantisers already; detach them first")
        module.add_module(name, quantiser)
        self._added.append((module, name))
        if isinstance(quantiser, WeightQuant):
            enter = module.register_forward_pre_hook(quantiser.enter)
            leave = module.register_forward_hook(quantiser.leave, always_call=True)
            self._handles += [enter, leave]
        elif place == "input":
            assert isinstance(quantiser, FakeQuant | DynamicQuant)
            self._handles.append(module.register_forward_pre_hook(quantiser.hook_input))
        else:
            assert not isinstance(quantiser, DynamicQuant)
            self._handles.append(module.register_forward_hook(quantiser.hook_output))

    def detach(self) -> None:
        """Leave the model as it was."""
        for handle in self._handles:
            handle.remove()
        for module, name in self._added:
            delattr(module, name)
        self._handles.clear()
        self._added.clear()

    def tensors(self) -> dict[str, FakeQuant]:
        """Every activation's quantiser, once, by its path in the model."""
        return {n: m for n, m in self.model.named_modules() if isinstance(m, FakeQuant)}

    def watch(self, how: Watch) -> None:
        """Whether, and how, ranges are observed from now on."""
        for quantiser in self.tensors().values():
            quantiser.watch = how

    @property
    def seen(self) -> bool:
        """Whether every tensor has a range."""
        return all(quantiser.seen for quantiser in self.tensors().values())

    def forget(self) -> None:
        """Begin observing anew."""
        for quantiser in self.tensors().values():
            quantiser.forget()

    def quantise(self, blocks: Collection[str] | None = None) -> None:
        """Quantise these blocks (None: all) and no others.

        What passes between two blocks is int8 where one of them is: the other one's side of the
        border is a QUANTIZE or DEQUANTIZE operator.

        Raises:
            ValueError: an unknown block.
        """
        chosen = set(self.blocks if blocks is None else blocks)
        if unknown := chosen - set(self.blocks):
            raise ValueError(f"there is no block {', '.join(sorted(unknown))}")
        for name, quantisers in self.blocks.items():
            for quantiser in quantisers:
                quantiser.on = name in chosen
            border = self.exits[name]
            if border is not None:
                border.on = name in chosen or self.readers.get(name) in chosen

    def equalise(self, sites: Iterable[str] = ()) -> dict[str, Tensor]:
        """Give these sites' channels their own grids, all others one for all.

        Returns:
            the scales [channels] of the sites, as the deploy form's ``fold`` takes them.

        Raises:
            ValueError: an unknown site.
            RuntimeError: nothing was observed yet.
        """
        chosen = list(sites)
        if unknown := set(chosen) - set(self.sites):
            raise ValueError(f"there is no site {', '.join(sorted(unknown))}")
        scales = {name: self.sites[name].scales() for name in chosen}
        for name, site in self.sites.items():
            site.equalise(scales.get(name))
        return scales

    @torch.no_grad()
    def even(self, spread: float) -> dict[str, int]:
        """Shrink channels that stick out of their site, and let the next weights make up for it.

        A channel whose largest value is over `spread` times the site's median (3 at least) is
        divided down to that. Where hard-swish is linear, above 3 before and after, and where it is
        0 this changes nothing; between, it does, and fine-tuning has to follow. The ranges are
        forgotten. (Cross-layer equalisation, arXiv 1906.04721, is exact for ReLU.)

        Returns:
            how many channels were shrunk, of the sites that had any.
        """
        shrunk = {}
        for name, site in self.sites.items():
            peak = site.before.high.clamp_min(SMALLEST_SCALE)
            factor = (peak / (spread * peak.median())).clamp_min(1)
            if count := int((factor > 1).sum()):
                shrunk[name] = count
                for weight in (site.norm.weight, site.norm.bias):
                    weight.div_(factor)
                for reader, axis in site.readers:
                    shape = [1] * reader.dim()
                    shape[axis] = -1
                    reader *= factor.repeat(reader.shape[axis] // len(factor)).reshape(shape)
        self.forget()
        return shrunk

    def penalise(self, on: bool) -> None:
        """Whether passes remember what `penalty` needs."""
        for site in self.sites.values():
            site.before.penalised, site.before.peak = on, None

    def penalty(self, spread: float) -> Tensor:
        """How far channels stick out of their site in the last pass; 0 where none does.

        A channel's peak may be `spread` times the site's median peak (3 at least, where
        hard-swish is linear); beyond that it costs the square of the octaves, and a site the
        mean of its channels. Without sites there is nothing to pay.
        """
        if not self.sites:
            return torch.zeros(())
        costs = []
        for site in self.sites.values():
            peak = site.before.peak
            assert peak is not None
            peak = peak.float().clamp_min(SMALLEST_SCALE)
            allowed = spread * peak.detach().median()
            costs.append((peak / allowed).log2().clamp_min(0).square().mean())
        return torch.stack(costs).mean()

    def state_dict(self) -> dict[str, Tensor]:
        """The ranges by the quantisers' names, to resume from."""
        return {
            f"{name}.{side}": getattr(quantiser, side).clone()
            for name, quantiser in self.tensors().items()
            for side in ("low", "high")
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The ranges that `state_dict` gave."""
        for name, quantiser in self.tensors().items():
            for side in ("low", "high"):
                getattr(quantiser, side).copy_(state[f"{name}.{side}"])
            quantiser.seen = bool(quantiser.low.isfinite().all())

    def synchronise(self) -> None:
        """The widest ranges of all processes, where several train."""
        quantisers = list(self.tensors().values())
        # One exchange for all of them; the upper ends are negated, so that it is a minimum.
        ends = torch.cat([torch.cat([q.low, -q.high]) for q in quantisers])
        dist.all_reduce(ends, dist.ReduceOp.MIN)
        parts = ends.split([2 * len(q.low) for q in quantisers])
        for quantiser, part in zip(quantisers, parts, strict=True):
            low, high = part.chunk(2)
            quantiser.low.copy_(low)
            quantiser.high.copy_(-high)
            quantiser.seen = bool(quantiser.low.isfinite().all())
