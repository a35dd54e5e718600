"""Where static int8 loses, what equalising a site brings, and which sites are worth it.

Quality is the signal-to-noise ratio of the logits over streams, in dB: their deviation from the
mean logits of all frames, against the error. Raw logits share a large offset that flatters. The
int8 step is simulated (`movinet_edge.streaming.fake_quant`), ranges are calibrated on the same
streams. What enters every part is kept, so that where parts are a chain a change in one costs only
the parts from there on (`export.walk`).

Where several sites lose, the worst one hides the others: equalising one alone gains little. What
tells them apart is the other end: everything equalised but one (`loss_db`). `export.policy` goes by
that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Record
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.walk import walk_of
from movinet_edge.models.registry import simulated
from movinet_edge.streaming.layers import DepthwiseConv, StackedConv
from movinet_edge.streaming.spec import module_macs

# Instead of infinity, which JSON has not.
BEST_DB = 200.0
# Sites are looked at one by one where their block loses this much; rounding is luck below it.
NOTICED_DB = 0.1

Frames = Iterable[np.ndarray]


class Quality(Record):
    """How close logits are to the float model's: `snr_db`, and the share of equal top answers."""

    snr_db: float
    agreement: float


class BlockSensitivity(Record):
    """One part of the model.

    `alone_db`: SNR of the logits when only this part is int8; `alone_output_db`: of what the part
    hands on then, for blocks; `others_db`: of the logits when everything else is. `loss_db`: what
    the logits lose when all sites are equalised but this part's. Keeping the part float costs
    `cost_bytes` in weights and `cost_ms` per step (None: not measured); it has `macs` of a step's
    multiply-accumulates.
    """

    name: str
    alone_db: float
    alone_output_db: float | None
    others_db: float
    loss_db: float
    macs: int
    cost_bytes: int
    cost_ms: float | None = None


class SiteSensitivity(Record):
    """One hard-swish; `name` is the deploy form's.

    `median`, `largest` and `smallest` describe the channels' 99.9 % values before it.
    All being int8, `gain_db` is what equalising it alone adds to the SNR of the logits, `loss_db`
    what is lost when all sites but it are equalised (None: not measured, for its block is not
    among the worst, or loses next to nothing). It costs `elements` more multiplications per step,
    4 bytes a channel, and `cost_ms` per step (None: not measured).
    """

    name: str
    block: str
    channels: int
    median: float
    largest: float
    smallest: float
    gain_db: float | None
    loss_db: float | None
    elements: int
    cost_bytes: int
    cost_ms: float | None = None


class SensitivityReport(Record):
    """What was found over `streams` streams of `frames` frames in all.

    `plain`: everything int8, nothing equalised; `equalised`: every site is.
    """

    streams: int
    frames: int
    plain: Quality
    equalised: Quality
    blocks: tuple[BlockSensitivity, ...]
    sites: tuple[SiteSensitivity, ...]

    def priced(self, equalising_ms: float, floating_ms: float) -> SensitivityReport:
        """The same with costs in ms, from what all sites and all blocks were measured to cost.

        Sites share `equalising_ms` by their multiplications, blocks `floating_ms` by theirs.
        """
        elements = sum(site.elements for site in self.sites) or 1
        macs = sum(block.macs for block in self.blocks)
        sites = (
            s.model_copy(update={"cost_ms": equalising_ms * s.elements / elements})
            for s in self.sites
        )
        blocks = (
            b.model_copy(update={"cost_ms": floating_ms * b.macs / macs}) for b in self.blocks
        )
        return self.model_copy(update={"sites": tuple(sites), "blocks": tuple(blocks)})


class Analysis:
    """A calibrated simulation of a checkpoint in int8; the checkpoint's model stays as it is.

    Args:
        streams: what `export.calibration.calibration_streams` gives: frames [H, W, 3] or
            [1, H, W, 3] in order, float32 in [0, 1] as the contract has them.
        progress: told what is looked at, which takes minutes for large models.

    Raises:
        BadInput: static int8 does not go with the model.
        ValueError: there are no frames.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        streams: Sequence[Frames],
        progress: Callable[[str], None] = lambda _: None,
    ):
        self.progress = progress
        frames = [_frames(stream) for stream in streams]
        if not frames:
            raise ValueError("there are no frames to analyse")
        self.model = copy.deepcopy(checkpoint.model).eval()
        self.instrument = simulated(self.model)
        self._walk = walk_of(self.model, self.instrument)
        self._parts = {name: self.model.get_submodule(name) for name in self.instrument.blocks}
        self._index = {name: index for index, name in enumerate(self._parts)}
        height, width = frames[0].shape[-2:]
        stream = checkpoint.model.as_stream()
        prefix = "" if stream is checkpoint.model else "model."
        macs = module_macs(stream, (height, width))
        self._macs = {path.removeprefix(prefix): n for path, n in macs.items()}
        self.streams, self.frames = len(frames), sum(x.shape[1] for x in frames)
        self.instrument.watch("all")
        self._float = [frames, *self._walk.run(0, [frames])]
        self.instrument.watch("none")
        self._reference = _logits(self._float[-1])
        sites = self.instrument.sites
        self._int8 = self._kept(self._configured(0, [frames]))
        self._equalised = self._int8
        if sites:
            self._equalised = self._kept(self._configured(0, [frames], None, sites))
        self.plain, self.equalised = map(self._quality, (self._int8[-1], self._equalised[-1]))

    def _kept(self, outputs: list[list[Tensor]]) -> list[list[Tensor]]:
        """Frames and what of these outputs will be asked for again."""
        return [self._float[0], *(outputs if self._walk.resumes else outputs[-1:])]

    def scales(self, sites: Iterable[str]) -> dict[str, Tensor]:
        """The sites' scales [channels], as the deploy form's ``fold`` takes them."""
        return {name: self.instrument.sites[name].scales() for name in sites}

    def measure(self, equalise: Collection[str] = (), keep_float: Collection[str] = ()) -> Quality:
        """Everything int8 but the blocks `keep_float`, with these sites equalised."""
        changed = [self.instrument.sites[name].block for name in equalise] + list(keep_float)
        first = min((self._index[name] for name in changed), default=len(self._parts) - 1)
        quantised = [name for name in self._index if name not in keep_float]
        return self._quality(self._configured(first, self._int8, quantised, equalise)[-1])

    def elements(self, site: str) -> int:
        """What equalising a site costs: multiplications per step."""
        before = self.instrument.sites[site].before
        return len(before.low) * before.pixels

    @cached_property
    def block_losses(self) -> dict[str, float]:
        """What is lost when all sites are equalised but those of a block, in dB, by block."""
        inside: dict[str, list[str]] = {}
        for name, site in self.instrument.sites.items():
            inside.setdefault(site.block, []).append(name)
        losses = {}
        for block, names in inside.items():
            self.progress(f"int8 without equalising {block}")
            losses[block] = self._loss(names)
        return losses

    @cached_property
    def site_losses(self) -> dict[str, float]:
        """What is lost when all sites are equalised but one, in dB; of blocks that lose at all."""
        losses = {}
        for name, site in self.instrument.sites.items():
            if self.block_losses[site.block] >= NOTICED_DB:
                self.progress(f"int8 without equalising {name}")
                losses[name] = self._loss([name])
        return losses

    @cached_property
    def alone(self) -> dict[str, tuple[float, float | None]]:
        """SNR of the logits when only a block is int8, and of what it hands on then, in dB."""
        found: dict[str, tuple[float, float | None]] = {}
        for name, index in self._index.items():
            self.progress(f"int8 in {name} alone")
            outputs = self._configured(index, self._float, [name])
            answer = index == len(self._parts) - 1
            handed = None if answer else _map_snr(self._float[index + 1], outputs[0])
            found[name] = self._quality(outputs[-1]).snr_db, handed
        return found

    def report(self, detailed: int = 6) -> SensitivityReport:
        """Every block, losses of the sites that matter, gains in the `detailed` worst blocks."""
        losses = self.block_losses
        worst = sorted(losses, key=lambda name: -losses[name])[:detailed]
        return SensitivityReport(
            streams=self.streams,
            frames=self.frames,
            plain=self.plain,
            equalised=self.equalised,
            blocks=tuple(self._block(name, part) for name, part in self._parts.items()),
            sites=tuple(
                self._site(name, gain=site.block in worst and name in self.site_losses)
                for name, site in self.instrument.sites.items()
            ),
        )

    def _block(self, name: str, part: nn.Module) -> BlockSensitivity:
        alone, handed = self.alone[name]
        self.progress(f"int8 but in {name}")
        return BlockSensitivity(
            name=name,
            alone_db=alone,
            alone_output_db=handed,
            others_db=self.measure(keep_float=[name]).snr_db,
            loss_db=self.block_losses.get(name, 0.0),
            macs=sum(n for path, n in self._macs.items() if path.startswith(f"{name}.")),
            cost_bytes=3 * sum(_weights(module) for module in part.modules()),
        )

    def _site(self, name: str, gain: bool) -> SiteSensitivity:
        site = self.instrument.sites[name]
        top = site.before.top
        assert top is not None
        return SiteSensitivity(
            name=name,
            block=site.block,
            channels=len(top),
            median=round(float(top.median()), 4),
            largest=round(float(top.max()), 4),
            smallest=round(float(top.min()), 4),
            gain_db=round(self.measure([name]).snr_db - self.plain.snr_db, 3) if gain else None,
            loss_db=self.site_losses.get(name),
            elements=self.elements(name),
            cost_bytes=4 * len(top),
        )

    def _loss(self, sites: Collection[str]) -> float:
        """What is lost when all sites but these are equalised, in dB."""
        others = [name for name in self.instrument.sites if name not in sites]
        first = min(self._index[self.instrument.sites[name].block] for name in sites)
        outputs = self._configured(first, self._equalised, None, others)
        return round(self.equalised.snr_db - self._quality(outputs[-1]).snr_db, 3)

    def _configured(
        self,
        first: int,
        kept: list[list[Tensor]],
        blocks: Collection[str] | None = None,
        equalise: Iterable[str] = (),
    ) -> list[list[Tensor]]:
        """A walk with these blocks int8 (None: all) and these sites equalised."""
        instrument = self.instrument
        instrument.quantise(blocks)
        instrument.equalise(equalise)
        outputs = self._walk.run(first, kept)
        instrument.quantise([])
        instrument.equalise()
        return outputs

    def _quality(self, outputs: list[Tensor]) -> Quality:
        got, expected = _logits(outputs), self._reference
        centred = expected - expected.mean(0)
        return Quality(
            snr_db=_snr(centred, got - expected),
            agreement=float((got.argmax(1) == expected.argmax(1)).double().mean()),
        )


def analyse(
    checkpoint: Checkpoint, streams: Sequence[Frames], detailed: int = 6
) -> SensitivityReport:
    """The sensitivities of a checkpoint; see `Analysis`, which `export.policy` needs, too."""
    return Analysis(checkpoint, streams).report(detailed)


def _frames(stream: Frames) -> Tensor:
    """One stream -> [1, T, 3, H, W].

    Raises:
        ValueError: it is empty.
    """
    array = np.asarray(list(stream), np.float32)
    if not len(array):
        raise ValueError("there are no frames to analyse")
    array = array.reshape(-1, *array.shape[-3:])
    return torch.from_numpy(array).permute(0, 3, 1, 2)[None]


def _logits(outputs: list[Tensor]) -> Tensor:
    """Of all streams, [frames, classes]."""
    return torch.cat([x[0] for x in outputs]).double()


def _snr(signal: Tensor, error: Tensor) -> float:
    noise = float(error.square().sum())
    if not noise:
        return BEST_DB
    power = max(float(signal.square().sum()), 1e-30)
    return round(min(10 * math.log10(power / noise), BEST_DB), 3)


def _map_snr(expected: list[Tensor], got: list[Tensor]) -> float:
    """SNR of maps [1, T, C, H, W], whose signal is what varies within a channel."""
    mean = torch.cat([x.mean((1, 3, 4)) for x in expected]).mean(0)
    signal = torch.cat([(x - mean[:, None, None]).flatten() for x in expected])
    error = torch.cat([(a - b).flatten() for a, b in zip(expected, got, strict=True)])
    return _snr(signal, error)


def _weights(module: nn.Module) -> int:
    """Weights that int8 stores in one byte."""
    if isinstance(module, nn.Conv2d | nn.Linear | DepthwiseConv | StackedConv):
        return module.weight.numel()
    return 0
