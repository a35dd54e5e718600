"""SGAlign with its first convolution against the way that makes the whole map of samples.

``python -m movinet_edge.benchmarks.sgalign`` times both in turn on one thread, measures what they
hold at the peak and writes ``benchmarks/results/localization/sgalign.json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Machine
from movinet_edge.benchmarks.stats import spread
from movinet_edge.bundle import Record
from movinet_edge.localization.anchors import Anchors
from movinet_edge.models.gtad import GTad, as_rows
from movinet_edge.models.gtad_align import SGAlign
from movinet_edge.models.gtad_sampling import sampling
from movinet_edge.models.gtad_table import CHANNELS, GTadArch, gtad_arch
from movinet_edge.train.localization_loss import localization_loss
from movinet_edge.train.memory import peak_memory

RESULT = Path(__file__).resolve().parents[1] / "benchmarks/results/localization/sgalign.json"
ROUNDS = 9
BATCH = 16  # as published


class AlignPoint(Record):
    """One video. Medians in ms, peaks in bytes beside weights, inputs and constant tables."""

    forward_ms: float
    both_ms: float
    forward_bytes: int
    both_bytes: int


class AlignRecord(Record):
    """`ours` against `naive`; `forward` and `both` (with backward) are medians of ratios by round.

    `difference` is the greatest between their results, which are around 1. `training_bytes` are the
    peak of a training step of the whole head with a batch of `batch` videos: weights, gradients,
    Adam's averages and all that lies between.
    """

    snippets: int
    durations: int
    bins: tuple[int, int]
    threads: int
    machine: Machine
    versions: dict[str, str]
    ours: AlignPoint
    naive: AlignPoint
    forward: float
    both: float
    memory: float
    difference: float
    batch: int
    training_bytes: int


class Naive:
    """Every place of the map is sampled by a product with one dense matrix, as BMN does it."""

    def __init__(self, align: SGAlign, anchors: Anchors):
        self.align, self.anchors = align, anchors
        arch = align.arch
        rows = torch.from_numpy(sampling(anchors, arch.bins, arch.context_bins, True).dense())
        size = anchors.durations * anchors.snippets
        full = rows[-1:].repeat(size, 1)  # what is sampled where no anchor is
        full[torch.from_numpy(anchors.places)] = rows[:-1]
        cut = anchors.snippets * arch.bins
        self.parts = [
            part.unflatten(1, (anchors.snippets, -1)).permute(1, 2, 0).flatten(1).contiguous()
            for part in (full[:, :cut], full[:, cut:])
        ]

    def __call__(self, x: Tensor, around: Tensor) -> Tensor:
        """Places [1, C, T] and the means of their neighbours -> [1, outputs, D, T]."""
        size = (self.anchors.durations, self.anchors.snippets)
        sampled = [
            (values[0] @ matrix).view(CHANNELS, -1, *size)
            for values, matrix in zip((x, around), self.parts, strict=True)
        ]
        whole = torch.cat(sampled, 1).flatten(0, 1)
        weight = torch.cat([self.align.features, self.align.context], 1).flatten(0, 1)
        kernel = weight.t()[..., None, None]
        return torch.nn.functional.conv2d(whole[None], kernel, self.align.bias)


@dataclass
class Way:
    """How anchors are computed, and the samples of its times in ms."""

    run: Callable[[], Tensor]
    leaves: list[Tensor]
    forward: list[float]
    both: list[float]

    def time(self) -> None:
        start = time.perf_counter_ns()
        with torch.no_grad():
            self.run()
        self.forward.append((time.perf_counter_ns() - start) / 1e6)
        start = time.perf_counter_ns()
        self.step()
        self.both.append((time.perf_counter_ns() - start) / 1e6)

    def step(self) -> None:
        """Forward and backward, to weights and places."""
        for leaf in self.leaves:
            leaf.grad = None
        out = self.run()
        out.backward(torch.ones_like(out))

    def point(self) -> AlignPoint:
        def forward() -> None:
            with torch.no_grad():
                self.run()

        return AlignPoint(
            forward_ms=float(np.median(self.forward)),
            both_ms=float(np.median(self.both)),
            forward_bytes=peak_memory(forward),
            both_bytes=peak_memory(self.step),
        )


def training_bytes(arch: GTadArch, batch: int) -> int:
    """The peak while a head is made and trained for a step."""

    def train() -> None:
        model = GTad(arch)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        scores = model(torch.randn(batch, arch.features, arch.snippets))
        overlap, start, end = map(torch.rand_like, (scores.overlap, scores.start, scores.end))
        localization_loss(scores, overlap, start, end).total.backward()
        optimizer.step()

    return peak_memory(train)


def measure(arch: GTadArch, rounds: int = ROUNDS, batch: int = BATCH) -> AlignRecord:
    """Compare both ways on random places, in turn, each round once."""
    torch.manual_seed(0)
    align, anchors = SGAlign(arch), arch.anchors()
    x, around = (torch.randn(1, CHANNELS, arch.snippets, requires_grad=True) for _ in range(2))
    naive = Naive(align, anchors)
    leaves = [x, around, *align.parameters()]
    ours = Way(lambda: align(x, around, anchors, outside=False), leaves, [], [])
    theirs = Way(lambda: naive(x, around), leaves, [], [])
    with torch.no_grad():
        same = as_rows(theirs.run(), anchors).transpose(1, 2) - ours.run()
    for way in (ours, theirs) * (rounds + 1):
        way.time()
    for way in (ours, theirs):  # the first round warms up
        del way.forward[0], way.both[0]
    points = ours.point(), theirs.point()
    return AlignRecord(
        snippets=arch.snippets,
        durations=arch.durations,
        bins=(arch.bins, arch.context_bins),
        threads=torch.get_num_threads(),
        machine=describe_machine(None),
        versions=tool_versions(),
        ours=points[0],
        naive=points[1],
        forward=spread(np.divide(ours.forward, theirs.forward)).p50,
        both=spread(np.divide(ours.both, theirs.both)).p50,
        memory=points[0].both_bytes / points[1].both_bytes,
        difference=float(same.abs().max()),
        batch=batch,
        training_bytes=training_bytes(arch, batch),
    )


def main() -> None:
    torch.set_num_threads(1)
    record = measure(gtad_arch("activitynet"))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(record.model_dump_json(indent=1) + "\n", "utf-8")
    print(record.model_dump_json(indent=1))


if __name__ == "__main__":
    main()
