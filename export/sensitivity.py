"""Where static int8 loses, what equalising a site brings, and which sites are worth it.

Quality is the signal-to-noise ratio of the logits over streams, in dB: their deviation from the
mean logits of all frames, against the error. Raw logits share a large offset that flatters. The
int8 step is simulated (`movinet_edge.models.movinet_quant`), ranges are calibrated on the same
streams. A model goes part by part and what enters every part is kept, so that a change in one part
costs only the parts from there on.

Where several sites lose, the worst one hides the others: equalising one alone gains little. What
tells them apart is the other end: everything equalised but one (`loss_db`). `choose` goes by that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from movinet_edge.bundle import Record
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.models.movinet import ConvNorm
from movinet_edge.models.movinet_quant import attach
from movinet_edge.streaming.layers import DepthwiseConv, tick
from movinet_edge.streaming.state import State

# Frames that a part sees at once; the numbers do not depend on it, memory and time do.
CHUNK = 8
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
    `cost_bytes` in weights and `cost_ms` per step (None: not measured).
    """

    name: str
    alone_db: float
    alone_output_db: float | None
    others_db: float
    loss_db: float
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


class Policy(Record):
    """Which sites to equalise and which blocks to keep float, and what that was measured to give.

    `quality` is the simulation's; `reached`: it meets the target that was asked for.
    """

    equalise: tuple[str, ...] = ()
    keep_float: tuple[str, ...] = ()
    quality: Quality
    reached: bool


class Analysis:
    """A calibrated simulation of a checkpoint in int8; the checkpoint's model stays as it is.

    Args:
        streams: what `export.calibration.calibration_streams` gives: frames [H, W, 3] or
            [1, H, W, 3] in order, float32 in [0, 1] as the contract has them.

    Raises:
        ValueError: there are no frames.
    """

    def __init__(self, checkpoint: Checkpoint, streams: Sequence[Frames]):
        frames = [_frames(stream) for stream in streams]
        if not frames:
            raise ValueError("there are no frames to analyse")
        self.model = copy.deepcopy(checkpoint.model).eval()
        self.instrument = attach(self.model)
        self._parts: list[tuple[str, nn.Module]] = [
            ("stem", self.model.stem),
            *((layer.name, block) for layer, block in self.model.blocks()),
            ("head", self.model.head),
        ]
        self._index = {name: index for index, (name, _) in enumerate(self._parts)}
        self.streams, self.frames = len(frames), sum(x.shape[1] for x in frames)
        self.instrument.watch("all")
        self._float = [frames, *self._run(0, frames)]
        self.instrument.watch("none")
        self._reference = _logits(self._float[-1])
        self._int8 = [frames, *self._configured(0, frames)]
        self._equalised = [frames, *self._configured(0, frames, None, self.instrument.sites)]
        self.plain, self.equalised = map(self._quality, (self._int8[-1], self._equalised[-1]))

    def scales(self, sites: Iterable[str]) -> dict[str, Tensor]:
        """The sites' scales [channels], as the deploy form's ``fold`` takes them."""
        return {name: self.instrument.sites[name].scales() for name in sites}

    def measure(self, equalise: Collection[str] = (), keep_float: Collection[str] = ()) -> Quality:
        """Everything int8 but the blocks `keep_float`, with these sites equalised."""
        changed = [self.instrument.sites[name].block for name in equalise] + list(keep_float)
        first = min((self._index[name] for name in changed), default=len(self._parts) - 1)
        quantised = [name for name in self._index if name not in keep_float]
        return self._quality(self._configured(first, self._int8[first], quantised, equalise)[-1])

    def report(self, detailed: int = 6) -> SensitivityReport:
        """Every block, losses of the sites that matter, gains in the `detailed` worst blocks."""
        blocks = [self._block(index) for index in range(len(self._parts))]
        losses = {b.name: b.loss_db for b in blocks if b.loss_db >= NOTICED_DB}
        worst = sorted(losses, key=lambda name: -losses[name])[:detailed]
        return SensitivityReport(
            streams=self.streams,
            frames=self.frames,
            plain=self.plain,
            equalised=self.equalised,
            blocks=tuple(blocks),
            sites=tuple(
                self._site(name, gain=site.block in worst, loss=site.block in losses)
                for name, site in self.instrument.sites.items()
            ),
        )

    def _block(self, index: int) -> BlockSensitivity:
        name, part = self._parts[index]
        alone = self._configured(index, self._float[index], [name])
        answer = index == len(self._parts) - 1
        sites = self.instrument.sites
        inside = [key for key, site in sites.items() if site.block == name]
        return BlockSensitivity(
            name=name,
            alone_db=self._quality(alone[-1]).snr_db,
            alone_output_db=None if answer else _map_snr(self._float[index + 1], alone[0]),
            others_db=self.measure(keep_float=[name]).snr_db,
            loss_db=self._loss(inside) if inside else 0.0,
            cost_bytes=3 * sum(_weights(module) for module in part.modules()),
        )

    def _site(self, name: str, gain: bool, loss: bool) -> SiteSensitivity:
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
            loss_db=self._loss([name]) if loss else None,
            elements=len(top) * site.before.pixels,
            cost_bytes=4 * len(top),
        )

    def _loss(self, sites: Collection[str]) -> float:
        """What is lost when all sites but these are equalised, in dB."""
        others = [name for name in self.instrument.sites if name not in sites]
        first = min(self._index[self.instrument.sites[name].block] for name in sites)
        outputs = self._configured(first, self._equalised[first], None, others)
        return round(self.equalised.snr_db - self._quality(outputs[-1]).snr_db, 3)

    def _configured(
        self,
        first: int,
        inputs: list[Tensor],
        blocks: Collection[str] | None = None,
        equalise: Iterable[str] = (),
    ) -> list[list[Tensor]]:
        """`_run` with these blocks int8 (None: all) and these sites equalised."""
        instrument = self.instrument
        instrument.quantise(blocks)
        instrument.equalise(equalise)
        border = instrument.exits[self._parts[first - 1][0]] if first else None
        if border is not None:  # no change where the inputs lie on its grid already
            with torch.inference_mode():
                inputs = [border(x) for x in inputs]
        outputs = self._run(first, inputs)
        instrument.quantise([])
        instrument.equalise()
        return outputs

    @torch.inference_mode()
    def _run(self, first: int, inputs: list[Tensor]) -> list[list[Tensor]]:
        """What parts `first` and on hand on, for every stream: the last one logits."""
        outputs: list[list[Tensor]] = []
        for _, part in self._parts[first:]:
            inputs = [_through(part, x) for x in inputs]
            outputs.append(inputs)
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
    """The sensitivities of a checkpoint; see `Analysis`, which `choose` needs, too."""
    return Analysis(checkpoint, streams).report(detailed)


def choose(
    analysis: Analysis,
    report: SensitivityReport,
    target_db: float = 25.0,
    min_gain_db: float = 0.5,
    keep_blocks: bool = False,
) -> Policy:
    """The cheapest choice that reaches `target_db`, found greedily; none if plain int8 does.

    Sites are taken in the order of the noise they are found to add per cost (ms where known, else
    multiplications), as few as reach the target; where none do, as few as come within
    `min_gain_db` of all of them. None if all together do not gain as much. With `keep_blocks`, as
    long as the target is not reached, the block that gains most per byte stays float, if it gains
    `min_gain_db`.
    """
    lossy = [s for s in report.sites if s.loss_db is not None and s.loss_db > 0]
    timed = all(s.cost_ms is not None for s in lossy)
    floor = 10 ** (-report.equalised.snr_db / 10)
    rates = {
        s.name: floor
        * (10 ** ((s.loss_db or 0.0) / 10) - 1)
        / max((s.cost_ms if timed else None) or s.elements, 1e-9)
        for s in lossy
    }
    order = sorted(rates, key=lambda name: -rates[name])
    every = analysis.measure(order)
    sites, quality = list[str](), analysis.plain
    if quality.snr_db < target_db and every.snr_db >= quality.snr_db + min_gain_db:
        enough = target_db if every.snr_db >= target_db else every.snr_db - min_gain_db
        few, many, sites, quality = 0, len(order), order, every
        while many - few > 1:
            half = (few + many) // 2
            found = analysis.measure(order[:half])
            if found.snr_db >= enough:
                many, sites, quality = half, order[:half], found
            else:
                few = half
    blocks: list[str] = []
    while keep_blocks and quality.snr_db < target_db:
        tried: dict[str, Quality] = {}
        for block in report.blocks:
            if block.name not in blocks:
                kept = [*blocks, block.name]
                tried[block.name] = analysis.measure(_outside(analysis, sites, kept), kept)
        cost = {b.name: max(b.cost_bytes, 1) for b in report.blocks}
        before = quality.snr_db
        worth = {n: q.snr_db - before for n, q in tried.items() if q.snr_db >= before + min_gain_db}
        if not worth:
            break
        best = max(worth, key=lambda name: worth[name] / cost[name])
        blocks, quality = [*blocks, best], tried[best]
        sites = _outside(analysis, sites, blocks)
    return Policy(
        equalise=tuple(s for s in analysis.instrument.sites if s in sites),
        keep_float=tuple(b.name for b in report.blocks if b.name in blocks),
        quality=quality,
        reached=quality.snr_db >= target_db,
    )


def _outside(analysis: Analysis, sites: Iterable[str], blocks: Collection[str]) -> list[str]:
    """The sites that are in none of these blocks, which are float and need no equalising."""
    return [name for name in sites if analysis.instrument.sites[name].block not in blocks]


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


def _through(part: nn.Module, x: Tensor) -> Tensor:
    """A whole stream [1, T, ...] through one part, some frames at a time."""
    state: State = {}
    outputs = []
    for frames in x.split(CHUNK, 1):
        if isinstance(part, ConvNorm):
            outputs.append(part(frames))
        else:
            y, entry = part(frames, state)
            outputs.append(y)
            state = state | entry | tick(state, frames)
    return torch.cat(outputs, 1)


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
    if isinstance(module, nn.Conv2d | nn.Linear | DepthwiseConv):
        return module.weight.numel()
    return 0
