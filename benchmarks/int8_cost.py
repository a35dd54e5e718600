"""What floats, equalising and plain static int8 cost per step on this machine, in one run."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from movinet_edge.benchmarks.bundled import BundleContestant
from movinet_edge.benchmarks.contestant import Entry, fit_frames
from movinet_edge.benchmarks.timing import Say, interleaved, prepare
from movinet_edge.bundle import Bundle, Precision, Record
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions

STEPS = 200
ENGINE = "litert"


class Int8Cost(Record):
    """Medians of a step in ms on LiteRT, one thread: plain int8, and what is added to it.

    `equalising_ms` is added where every hard-swish is equalised (0: there is none), `floating_ms`
    where nothing is int8; both are medians of step-by-step differences and may be negative. Where
    graphs run at several rates, a step is the mean of as many as bring each of them once.
    """

    int8_ms: float
    equalising_ms: float
    floating_ms: float


def int8_cost(
    checkpoint: Checkpoint,
    calibrate: Path,
    scales: Mapping[str, Tensor],
    say: Say = lambda _: None,
) -> Int8Cost:
    """Export in floats, in int8 and in int8 with all the sites of `scales` equalised; time them.

    Raises:
        BadInput: as `export`.
    """
    variants: dict[str, tuple[Precision, Mapping[str, Tensor]]] = {
        "int8": ("int8", {}),
        "float": ("fp32", {}),
    }
    if scales:
        variants["equalised"] = "int8", scales
    contestants: list[BundleContestant] = []
    with tempfile.TemporaryDirectory() as work:
        try:
            for name, (precision, equalise) in variants.items():
                say(f"exporting to be timed: {name}")
                path = Path(work) / name
                options = ExportOptions(
                    ("tflite",), (precision,), calibrate=calibrate, equalise=equalise, verify=False
                )
                export(checkpoint, path, options)
                entry = Entry(
                    label=name, name=name, kind="bundle", path=path, way=ENGINE, precision=precision
                )
                contestants.append(BundleContestant(entry, Bundle(path)))
            with np.load(contestants[0].stream.bundle.root / "golden.npz") as golden:
                frames = golden["frames"]
            line_up = [prepare(c, fit_frames(frames, c.frame_size)) for c in contestants]
            every = (step.every for step in contestants[0].stream.bundle.manifest.plan.steps)
            period = math.lcm(*every)
            interleaved(line_up, STEPS - STEPS % period, 0, say)
        finally:
            for contestant in contestants:
                contestant.close()
    plain, floats, *equalised = (np.reshape(timed.step, (-1, period)).mean(1) for timed in line_up)
    return Int8Cost(
        int8_ms=float(np.median(plain)),
        equalising_ms=float(np.median(equalised[0] - plain)) if equalised else 0.0,
        floating_ms=float(np.median(floats - plain)),
    )
