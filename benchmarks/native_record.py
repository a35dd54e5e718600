"""What the native runner prints, and the benchmark's records made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from movinet_edge.benchmarks import reports
from movinet_edge.benchmarks.bundled import (
    bytes_per_step,
    error_within_limit,
    fresh,
    macs_per_step,
)
from movinet_edge.benchmarks.native_plan import Prepared
from movinet_edge.benchmarks.record import (
    Alone,
    Energy,
    GraphFile,
    Machine,
    Measurement,
    Subject,
    Sustained,
)
from movinet_edge.benchmarks.stats import sustained
from movinet_edge.bundle import MANIFEST, Bundle, Record, sha256_of
from movinet_edge.runtime.stream import Prediction


class NativeGraph(Record):
    """How far a delegate took a graph; `nodes` by the name of who runs them."""

    graph: str
    delegate: str
    partitions: int | None
    fully_accelerated: bool | None
    nodes: dict[str, int]


class NativeAnswer(Record):
    """The logits after frame `frame` of the golden stream; None is what is no finite number."""

    frame: int
    logits: tuple[float | None, ...]


class NativeRun(Record):
    """One run of the native runner, as it prints it. Times are milliseconds, memory 10^6 bytes.

    `answers` are of the golden stream, which comes first; the samples are of the steps behind it.
    `load_ms` has no check of the model files in it. `temperatures` are pairs of seconds and degrees
    Celsius over a sustained run. `engine_version` is None where the engine does not tell.
    """

    engine: str
    engine_version: str | None
    library: str
    threads: int
    frame_rate: float | None
    frames_per_step: int
    machine: Machine
    graphs: tuple[NativeGraph, ...]
    load_ms: float
    first_step_ms: float
    base_memory_mb: float | None
    peak_memory_mb: float | None
    warmup: int
    late_steps: int | None
    step_ms: tuple[float, ...]
    engine_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    temperatures: tuple[tuple[float, float], ...]
    energy: Energy | None
    answers: tuple[NativeAnswer, ...]


def predictions(bundle: Bundle, answers: Sequence[NativeAnswer]) -> list[Prediction]:
    """The answers for the golden stream, as the Python runtime gives them."""
    multi_label = bundle.manifest.scores == "sigmoid"
    return [
        Prediction(
            answer.frame,
            np.array([np.nan if v is None else v for v in answer.logits], np.float32),
            bundle.labels,
            multi_label,
        )
        for answer in answers
    ]


def check_parity(prepared: Prepared, run: NativeRun) -> float:
    """The largest error of the golden stream over the deviation of the reference.

    Raises:
        CheckFailed: the error is over the manifest's threshold, or there was no answer.
    """
    label = f"native {run.engine} {prepared.precision}"
    return check_answers(
        prepared.bundle, prepared.precision, run.answers, run.frames_per_step, label
    )


def check_answers(
    bundle: Bundle,
    precision: str,
    answers: Sequence[NativeAnswer],
    frames_per_step: int,
    label: str,
) -> float:
    """What a device answered to the golden stream; see `check_parity`."""
    with np.load(bundle.file(bundle.manifest.golden)) as golden:
        reference = golden["logits"]
    last = len(reference) + bundle.manifest.plan.delay
    found = predictions(bundle, answers)
    found = [p for p in found if len(reference) == 1 or p.frame < last]
    kept = fresh(found, frames_per_step)
    return error_within_limit(bundle.manifest, precision, kept, reference, label)


def measurement(prepared: Prepared, run: NativeRun, minutes: float | None = None) -> Measurement:
    """The run as every other runner's is written down; `minutes`: it was to go on for so long."""
    method = {
        "threads": run.threads,
        "warmup": run.warmup,
        "mode": "back-to-back" if run.frame_rate is None else "paced",
        "frame_rate": run.frame_rate,
        "interleaved": False,
    }
    alone = Alone(
        load_ms=run.load_ms,
        first_step_ms=run.first_step_ms,
        base_memory_mb=run.base_memory_mb,
        peak_memory_mb=run.peak_memory_mb,
    )
    return reports.measurement(
        _subject(prepared, run),
        method,
        (run.step_ms, run.engine_ms, run.cpu_ms),
        alone,
        late_steps=run.late_steps,
        sustained=_sustained(run) if minutes is not None else None,
        energy=run.energy,
    )


def _sustained(run: NativeRun) -> Sustained:
    # Of a paced run the pauses count, too.
    steps = run.frames_per_step * len(run.step_ms)
    seconds = steps / run.frame_rate if run.frame_rate else sum(run.step_ms) / 1e3
    return sustained(run.step_ms, seconds, run.temperatures)


def _subject(prepared: Prepared, run: NativeRun) -> Subject:
    manifest, files = prepared.bundle.manifest, prepared.files
    name = f"native {run.engine}"
    accelerators = {graph.delegate for graph in run.graphs} & {"nnapi", "gpu"}
    name += "".join(f" {delegate}" for delegate in sorted(accelerators))
    if prepared.precision != "fp32":
        name += f" {prepared.precision}"
    return Subject(
        label=name,
        name=name,
        kind="bundle",
        bundle=manifest.name,
        manifest_sha256=sha256_of(prepared.bundle.root / MANIFEST),
        backend=run.engine,
        engine=run.library.rpartition("/")[2],
        engine_version=run.engine_version or "unknown",
        precision=prepared.precision,
        files=tuple(
            GraphFile(
                graph=graph.graph,
                form=manifest.graph(graph.graph).form,
                file=files[graph.graph].path,
                sha256=files[graph.graph].sha256,
                bytes=files[graph.graph].bytes,
                delegate=None if graph.delegate == "none" else graph.delegate,
                partitions=graph.partitions,
                fully_accelerated=graph.fully_accelerated,
            )
            for graph in run.graphs
        ),
        frames_per_step=run.frames_per_step,
        macs_per_step=macs_per_step(manifest, run.frames_per_step),
        bytes_per_step=bytes_per_step(manifest, files, run.frames_per_step),
        state_bytes=sum(manifest.graph(name).state_bytes(file) for name, file in files.items()),
    )
