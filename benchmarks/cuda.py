"""The PyTorch path of training and evaluation on a GPU: steps of a stream, and clips in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from movinet_edge.benchmarks.contestant import Entry
from movinet_edge.benchmarks.machine import describe_machine, memory_mb
from movinet_edge.benchmarks.modes import SEED
from movinet_edge.benchmarks.record import Alone, Clips, Measurement, Report
from movinet_edge.benchmarks.reports import compared, measured, report
from movinet_edge.benchmarks.stats import distribution
from movinet_edge.benchmarks.timing import Timed, interleaved, prepare
from movinet_edge.benchmarks.torch_path import (
    DTYPES,
    NAME,
    WAYS,
    Source,
    TorchContestant,
    Way,
    read_source,
)
from movinet_edge.errors import BadInput, CheckFailed

Say = Callable[[str], None]

CUDA = "cuda"
# The largest error over the deviation of the reference's logits. Eight bits of a mantissa change
# what depends on the weights; that limit catches what is broken.
LIMITS = {"fp32": 1e-3, "bf16": 0.5}


@dataclass(frozen=True)
class Options:
    """Every way in every precision: `steps`, and `repeats` batches of clips of `frames`.

    `frames` None: the model's own.
    """

    steps: int = 200
    ways: Sequence[Way] = WAYS
    precisions: Sequence[str] = tuple(DTYPES)
    batch: int = 8
    frames: int | None = None
    repeats: int = 20


def bench(path: Path, options: Options, say: Say = lambda _: None, device: str = CUDA) -> Report:
    """Measure a bundle's checkpoint, or any other.

    `device` as PyTorch calls it; the CPU cannot capture graphs.

    Raises:
        BadInput: there is no GPU, or no such model.
        CheckFailed: it computes wrong numbers, or PyTorch cannot run it in any way.
    """
    if device == CUDA and not torch.cuda.is_available():
        raise BadInput(
            "PyTorch finds no CUDA GPU here; run it where there is one, or leave out --device cuda"
        )
    # Float32 means float32: no TF32, as in the limits.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    say("loading")
    started = time.perf_counter()
    source = read_source(path)
    source.checkpoint.model.to(device)
    load_ms = (time.perf_counter() - started) * 1e3
    contestants, notes = _start_all(path, source, options, device, say)
    line_up = [prepare(contestant, source.frames) for contestant in contestants]
    interleaved(line_up, options.steps, SEED, say)
    frames = options.frames or source.checkpoint.arch.clip_frames
    measurements = []
    for timed, contestant in zip(line_up, contestants, strict=True):
        say(f"{contestant.entry.label}: clips")
        times = contestant.clip_times(options.batch, frames, options.repeats)
        clips = _clips(options.batch, frames, times)
        measurements.append(_measurement(timed, contestant, clips, load_ms))
    comparisons = compared(line_up, contestants[0].entry.name, paired=True)
    machine = describe_machine(None)
    if device == CUDA:
        machine = machine.model_copy(update={"device": CUDA, "model": torch.cuda.get_device_name()})
    return report(machine, measurements, comparisons, notes, seed=SEED)


def _start_all(
    path: Path, source: Source, options: Options, device: str, say: Say
) -> tuple[list[TorchContestant], list[str]]:
    """Those that PyTorch can run here, their answers checked; notes say what was left out, why."""
    contestants, notes = [], []
    for precision in options.precisions:
        for way in options.ways:
            label = f"{NAME} {way}" + ("" if precision == "fp32" else f" {precision}")
            say(f"checking {label}")
            entry = Entry(
                label=label,
                name=label,
                kind="bundle",
                path=path,
                way=way,
                precision=precision,
                threads=torch.get_num_threads(),
            )
            try:
                contestant = TorchContestant(entry, source, device)
            except RuntimeError as error:  # no compiler, an operator that cannot be captured
                reason = (str(error).strip() or "no reason given").splitlines()[0]
                notes.append(f"{label} was left out: {reason}")
                continue
            check_answers(contestant)
            contestants.append(contestant)
    if not contestants:
        raise CheckFailed(f"PyTorch runs {source.name} in no way here: {'; '.join(notes)}")
    return contestants, notes


def check_answers(contestant: TorchContestant) -> float:
    """Stream the source's frames; the largest error over the deviation of the reference.

    Raises:
        CheckFailed: it is too large.
    """
    source, length = contestant.source, contestant.frames_per_step
    contestant.reset()
    starts = range(0, len(source.frames) - length + 1, length)
    found = [contestant.step(source.frames[start : start + length]) for start in starts]
    contestant.reset()
    ours = np.stack([answer for answer in found if answer is not None])
    error = float(np.abs(ours - source.logits[-len(ours) :]).max() / source.logits.std())
    limit = LIMITS[contestant.entry.precision]
    if not error <= limit:  # NaN is no pass
        raise CheckFailed(
            f"{contestant.entry.label} computes wrong numbers: error {error:.2g} of the logits' "
            f"deviation, {limit:.2g} allowed; it was not timed"
        )
    return error


def _clips(batch: int, frames: int, times: Sequence[float]) -> Clips:
    found = distribution(times)
    rate = batch * 1e3 / found.p50
    return Clips(batch=batch, frames=frames, batch_ms=found, clips_per_second=rate)


def _measurement(
    timed: Timed, contestant: TorchContestant, clips: Clips, load_ms: float
) -> Measurement:
    alone = Alone(
        load_ms=load_ms,
        first_step_ms=contestant.first_step_ms,
        base_memory_mb=None,
        peak_memory_mb=memory_mb("VmHWM"),
    )
    method = {"mode": "back-to-back", "interleaved": True}
    return measured(timed, method, alone, clips=clips)
