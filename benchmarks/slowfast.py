"""SlowFast streamed against a clip recomputed at every tick, at the same rate of answers.

``python -m movinet_edge.benchmarks.slowfast [LABEL...]`` exports both forms with untrained weights
(time does not depend on them), checks their numbers, times them in turn on one thread, and writes
to ``benchmarks/results/slowfast/``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.charts import chart
from movinet_edge.benchmarks.child import measure_peaks
from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.record import Distribution, Machine, Spread
from movinet_edge.benchmarks.stats import distribution, spread
from movinet_edge.bundle import Bundle, Record
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.export.exporter import export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.verify import verify_bundle
from movinet_edge.files import write_text
from movinet_edge.models.registry import default_preprocessing, seeded_model
from movinet_edge.models.slowfast_table import slowfast_arch
from movinet_edge.pattern import moving_pattern
from movinet_edge.runtime import Stream

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/slowfast"
LABELS = ("4x16-r50", "8x8-r50", "16x8-r101", "small")
ENGINES = {"litert": "tflite", "onnxruntime": "onnx"}
ROUNDS = {"small": 60}  # others: 8
NAMES = {"litert": "LiteRT", "onnxruntime": "ONNX Runtime"}


class StreamedCost(Record):
    """Milliseconds per tick (`every` frames), streamed and as a clip of `clip_frames` frames.

    `promised` is the ratio of their multiply-accumulates, `ratio` that of their times, pair by
    pair. `error` is the larger of both files' parity errors, `state_bytes` and `feature_bytes`
    what is kept between steps.
    """

    model: str
    engine: str
    side: int
    every: int
    clip_frames: int
    stream_gmacs: float
    clip_gmacs: float
    promised: float
    stream_ms: Distribution
    clip_ms: Distribution
    ratio: Spread
    error: float
    state_bytes: int
    feature_bytes: int
    machine: Machine
    versions: dict[str, str]


def measure(label: str, engine: str, folder: Path) -> StreamedCost:
    """Export, check and time one model on one engine."""
    arch = slowfast_arch(label, causal=False)
    checkpoint = Checkpoint(seeded_model(arch), default_preprocessing(arch))
    bundles = []
    for form in ("fresh", "clip"):
        path = folder / f"{label}-{engine}-{form}"
        options = ExportOptions((ENGINES[engine],), form=form, verify=False)  # type: ignore[arg-type]
        export(checkpoint, path, options, lambda text: print(f"{label}: {text}", flush=True))
        bundles.append(Bundle(path))
    error = max(_parity(bundle, engine) for bundle in bundles)
    side, every = arch.resolution, arch.every
    frames = moving_pattern(32, side, side)
    with Stream(bundles[0], engine) as stream, Stream(bundles[1], engine) as clip:
        whole = clip.graphs["step"]
        assert whole.frame is not None
        whole.frame[...] = np.resize(frames, whole.frame.shape) / np.float32(255)
        streamed, recomputed = [], []
        for number in range(ROUNDS.get(label, 8) + 3):
            began = time.perf_counter()
            for i in range(every):
                stream.step(frames[(number * every + i) % len(frames)])
            middle = time.perf_counter()
            whole.run()
            ended = time.perf_counter()
            if number >= 3:  # every assignment of buffers was bound by then
                streamed.append(1e3 * (middle - began))
                recomputed.append(1e3 * (ended - middle))
        states = sum(runner.state_bytes for runner in stream.graphs.values())
        features = sum(runner.feature_bytes for runner in stream.graphs.values())
    graphs = {graph.name: graph for graph in bundles[0].manifest.graphs}
    steps = bundles[0].manifest.plan.steps
    stream_macs = sum(graphs[s.graph].macs * every / s.every for s in steps)
    clip_macs = bundles[1].manifest.graphs[0].macs
    return StreamedCost(
        model=arch.name,
        engine=engine,
        side=side,
        every=every,
        clip_frames=arch.clip_frames,
        stream_gmacs=stream_macs / 1e9,
        clip_gmacs=clip_macs / 1e9,
        promised=clip_macs / stream_macs,
        stream_ms=distribution(streamed),
        clip_ms=distribution(recomputed),
        ratio=spread(np.divide(recomputed, streamed)),
        error=error,
        state_bytes=states,
        feature_bytes=features,
        machine=describe_machine(measure_peaks()),
        versions=tool_versions(),
    )


def _parity(bundle: Bundle, engine: str) -> float:
    """The largest error on the golden stream, relative to the logits' deviation."""
    record = verify_bundle(bundle, [engine], properties=False)
    assert record.holds, [check for check in record.checks if not check.holds]
    (stream,) = record.streams
    assert stream.figures is not None
    return stream.figures.max_error


def records() -> list[StreamedCost]:
    """The committed ones, in the order of `LABELS`."""
    paths = (RESULTS / f"{label}-{engine}.json" for label in LABELS for engine in ENGINES)
    texts = [path.read_text("utf-8") for path in paths if path.exists()]
    return [StreamedCost.model_validate_json(text) for text in texts]


def streaming_table() -> str:
    """Markdown rows: a model on an engine each."""
    lines = [
        "| model | engine | GMAC per tick: clip | streamed | ms: clip | streamed | "
        "times faster | promised | states and features, MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.model} | {NAMES[r.engine]} | {r.clip_gmacs:.2f} | {r.stream_gmacs:.2f} | "
        f"{r.clip_ms.p50:.0f} | {r.stream_ms.p50:.0f} | {r.ratio.p50:.1f} | {r.promised:.1f} | "
        f"{(r.state_bytes + r.feature_bytes) / 1e6:.1f} |"
        for r in records()
    ]
    return "\n".join(lines)


def draw_streaming(path: Path) -> None:
    """How many times faster than recomputing, against what the work promises."""
    found = records()
    with chart(path, (9, 3.4)) as axes:
        for shift, (engine, colour) in enumerate(zip(ENGINES, ("#2f6fde", "#d9822b"), strict=True)):
            own = [r for r in found if r.engine == engine]
            places = [i + 0.35 * shift for i in range(len(own))]
            heights = [r.ratio.p50 for r in own]
            low = [r.ratio.p50 - r.ratio.p10 for r in own]
            high = [r.ratio.p90 - r.ratio.p50 for r in own]
            axes.bar(places, heights, 0.32, color=colour, label=NAMES[engine], yerr=[low, high])
        own = [r for r in found if r.engine == "litert"]
        for i, r in enumerate(own):
            label = "promised by the multiply-accumulates" if i == 0 else None
            axes.hlines(r.promised, i - 0.2, i + 0.55, color="#444444", ls="--", label=label)
        axes.set_xticks(
            [i + 0.175 for i in range(len(own))], [r.model.removeprefix("slowfast-") for r in own]
        )
        axes.set_ylabel("times faster")
        axes.set_title("A SlowFast stream against a clip at every tick, one thread", loc="left")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def main() -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    for label in sys.argv[1:] or LABELS:
        for engine in ENGINES:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(label, engine, Path(folder))
            write_text(RESULTS / f"{label}-{engine}.json", found.model_dump_json(indent=1) + "\n")
            print(f"{label} {engine}: {found.ratio.p50:.2f} of {found.promised:.2f}", flush=True)


if __name__ == "__main__":
    main()
