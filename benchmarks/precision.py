"""What every precision costs and keeps: accuracy, drift over a long stream, size and time.

``python -m movinet_edge.benchmarks.precision accuracy|qat|drift|time DATA`` measures on the motion
videos in DATA (``movinet-edge data make motion --per-class 300``) and writes to
``benchmarks/results/precision/``; ``qat`` fine-tunes first. Each processor has a folder of times.
With ``MOVINET_EDGE_SHARED`` set, ``drift`` and ``time`` also take the published Kinetics-600
weights, on real videos and against the published files.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from movinet_edge.benchmarks.machine import PROC, cpu_name
from movinet_edge.benchmarks.motion import SHIPPED, movinet_edge
from movinet_edge.bundle import Bundle, Precision, Record
from movinet_edge.checkpoints.importer import read_checkpoint
from movinet_edge.checkpoints.native import Checkpoint, save_checkpoint, with_weights
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.files import write_text
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from movinet_edge.runtime import Stream
from movinet_edge.runtime.video import read_frames

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/precision"
TIMES = RESULTS / "time"  # and a folder for each processor
ENGINES = ("litert", "onnxruntime")
FRAMES = 1000  # of a stream that is never reset
PRECISION = [word for precision in PRECISIONS for word in ("--precision", precision)]


class Drift(Record):
    """One precision against floats on the same engine, over a stream without reset.

    Cosines are between logits without their mean, at every step: over the classes (`cosine`, what
    all classes share says nothing) and, harder, over time (`temporal`, what never changes says
    nothing either). `error` is the largest absolute error of a step over the deviation of all
    logits: medians of the first and last quarter and the slope of a line, per 1,000 steps.
    """

    model: str
    videos: str
    engine: str
    precision: Precision
    frames: int
    mean_cosine: float
    min_cosine: float
    mean_temporal: float
    min_temporal: float
    top1_agreement: float
    first_error: float
    last_error: float
    slope: float


def drift(
    bundle: Bundle, engine: str, precision: Precision, frames: Sequence[np.ndarray], videos: str
) -> Drift:
    """Run `frames` through both files and compare."""

    def logits(chosen: str) -> np.ndarray:
        with Stream(bundle, engine, chosen) as stream:
            return np.stack([p.logits for p in stream.run(frames)]).astype(np.float64)

    expected, found = logits("fp32"), logits(precision)
    over_classes = _cosine(*(x - x.mean(1, keepdims=True) for x in (expected, found)))
    over_time = _cosine(*(x - expected.mean(0) for x in (expected, found)))
    error = np.abs(found - expected).max(1) / expected.std()
    quarter = len(error) // 4
    return Drift(
        model=bundle.manifest.name,
        videos=videos,
        engine=engine,
        precision=precision,
        frames=len(frames),
        mean_cosine=over_classes.mean(),
        min_cosine=over_classes.min(),
        mean_temporal=over_time.mean(),
        min_temporal=over_time.min(),
        top1_agreement=(expected.argmax(1) == found.argmax(1)).mean(),
        first_error=np.median(error[:quarter]),
        last_error=np.median(error[-quarter:]),
        slope=1000 * np.polyfit(np.arange(len(error)), error, 1)[0],
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _stream(paths: Sequence[Path], frame_rate: float) -> list[np.ndarray]:
    """`FRAMES` frames of the videos one after the other, again and again."""

    def endless() -> Iterator[np.ndarray]:
        for path in cycle(paths):
            yield from (frame.image for frame in read_frames(path, frame_rate))

    return list(islice(endless(), FRAMES))


def _kinetics(shared: Path, folder: Path) -> tuple[Path, list[Path]]:
    """A bundle of the published weights, calibrated on other clips than those returned."""
    with (shared / "data/clips/manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    clips = shared / "data/clips"
    primary = [clips / row["file"] for row in rows if row["tier"] == "primary"]
    others = folder / "others.txt"
    lines = [f"{clips / row['file']} unknown" for row in rows if row["tier"] != "primary"]
    others.write_text("\n".join(line for line in lines if ".gif " not in line), "utf-8")
    weights = shared / "data/weights/movinet_a0_stream_k600_int8.tflite"
    labels = shared / "data/labels/kinetics600.txt"
    bundle = folder / "kinetics"
    words = ("--labels", labels, "--out", bundle, "--calibrate", others)
    movinet_edge("export", weights, *words, *PRECISION)
    return bundle, primary


def _export(model: str | Path, data: Path, out: Path, *more: str) -> Path:
    words: list[str | Path] = ["--out", out, "--calibrate", data / "train", *PRECISION, *more]
    movinet_edge("export", model, *words)
    return out


def accuracy(data: Path, folder: Path) -> None:
    """Every precision on both engines, on the test split."""
    _evaluate(_export(SHIPPED, data, folder / "motion"), data, "accuracy", PRECISIONS)


def fine_tuned(data: Path, folder: Path) -> None:
    """The same after an epoch in simulated int8, and steps of A0 with its ranges."""
    run = folder / "qat"
    # Its own recipe: mirrored, left would be right.
    how = ("--recipe", SHIPPED, "--epochs", "1", "--lr", "1e-4")
    movinet_edge("train", "--qat", "--init", SHIPPED, "--data", data, "--out", run, *how)
    measure_fine_tuned(run / "best.safetensors", data, folder)


def measure_fine_tuned(checkpoint: Path, data: Path, folder: Path) -> None:
    """Accuracy and time of floats and static int8 of a checkpoint that was trained for it."""
    words = ("--precision", "fp32", "--precision", "int8", "--calibrate", data / "train")
    movinet_edge("export", checkpoint, "--out", folder / "qat-bundle", *words)
    _evaluate(folder / "qat-bundle", data, "qat", ("fp32", "int8"))
    full = _full_size(checkpoint, folder / "a0-qat.safetensors")
    movinet_edge("export", full, "--out", folder / "a0-qat", "--no-verify", *words)
    _time(folder / "a0-qat", "qat")


def _evaluate(bundle: Path, data: Path, name: str, precisions: Iterable[Precision]) -> None:
    """Files of a bundle on both engines, on the test split."""
    for engine in ENGINES:
        for precision in precisions:
            record = RESULTS / name / f"{engine}-{precision}.json"
            how = ("--backend", engine, "--precision", precision, "--json", record)
            movinet_edge("evaluate", bundle, "--data", data, "--split", "test", *how)


def drifts(data: Path, folder: Path) -> None:
    """Every precision on both engines, on long streams."""
    paths = sorted((data / "test").rglob("*.mp4"))
    order = np.random.default_rng(0).permutation(len(paths))[:200]
    streams = [(_export(SHIPPED, data, folder / "motion"), [paths[i] for i in order], "motion")]
    if shared := os.environ.get("MOVINET_EDGE_SHARED"):
        streams.append((*_kinetics(Path(shared), folder), "real clips"))
    for path, videos, name in streams:
        bundle = Bundle(path)
        frames = _stream(videos, bundle.manifest.preprocessing.frame_rate)
        for engine in ENGINES:
            for precision in list(PRECISIONS)[1:]:
                found = drift(bundle, engine, precision, frames, name)
                target = RESULTS / "drift" / f"{name.replace(' ', '-')}-{engine}-{precision}.json"
                write_text(target, found.model_dump_json(indent=1) + "\n")
                print(found, flush=True)


def times(data: Path, folder: Path) -> None:
    """Steps of A0 as published, in turn."""
    # Frames of this size are not what it was trained on, and may leave a state without effect;
    # `bench` checks the numbers.
    full = _full_size(Path(SHIPPED), folder / "a0.safetensors")
    _time(_export(full, data, folder / "a0", "--no-verify"), "a0")
    if shared := os.environ.get("MOVINET_EDGE_SHARED"):
        kinetics, _ = _kinetics(Path(shared), folder)
        peer = Path(shared) / "data/weights/movinet_a0_stream_k600_int8.tflite"
        _bench(kinetics, "kinetics", "litert", "--against", peer)


def _time(bundle: Path, name: str) -> None:
    """Steps on both engines, and of the published floats where there are some."""
    against: list[str | Path] = []
    if shared := os.environ.get("MOVINET_EDGE_SHARED"):
        official = Path(shared) / "data/official_a0"
        against = ["--against", next(p for p in official.glob("*.tflite") if "fp32" in p.name)]
    for engine in ENGINES:
        _bench(bundle, name, engine, *against)


def _bench(bundle: Path, name: str, engine: str, *against: str | Path) -> None:
    cpu = cpu_name((PROC / "cpuinfo").read_text("utf-8"))
    record = TIMES / processor(cpu).lower().replace(" ", "-") / f"{name}-{engine}.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    how = ("--backend", engine, "--steps", "400", "--json", record)
    movinet_edge("bench", bundle, *how, *against)


def processor(cpu: str) -> str:
    """A processor's name without trademarks: ``Intel Xeon``."""
    return re.sub(r"\(\w+\)| Processor", "", cpu).strip()


def _full_size(source: Path, path: Path) -> Path:
    """A0 of the published size and frame size that answers as the checkpoint `source` does.

    Its smaller classifier is repeated: four times as many hidden units, fifty times each class.
    Time does not depend on weights, but untrained ones have ranges that no 8 bits hold, and what
    does not compute the right numbers is not timed.
    """
    weights = read_checkpoint(source).model.state_dict()
    arch = MODELS["movinet-a0-stream"]
    for name, value in seeded_model(arch).state_dict().items():
        repeats = [a // b for a, b in zip(value.shape, weights[name].shape, strict=True)]
        weights[name] = weights[name].repeat(repeats)
        if name == "head.classify.weight":
            weights[name] /= repeats[1]
    model = with_weights(arch, weights, source)
    save_checkpoint(Checkpoint(model, default_preprocessing(arch)), path)
    return path


WHAT = {"accuracy": accuracy, "qat": fine_tuned, "drift": drifts, "time": times}


def main() -> None:
    for name in ("accuracy", "qat", "drift"):
        (RESULTS / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        WHAT[sys.argv[1]](Path(sys.argv[2]), Path(folder))


if __name__ == "__main__":
    main()
