"""A localizer's bundle against PyTorch on long videos: the segments that it finds, and mAP.

``python -m movinet_edge.benchmarks.localization_bundles CHECKPOINT DATA [TRIMMED]`` exports the
checkpoint of ``movinet-edge train --task localization`` and runs it on the `VIDEOS` longest test
videos of DATA (``segments.json`` and its videos) and, for mAP, on the whole test split. A one-way
encoder is also calibrated on the videos of TRIMMED, for static int8. It writes a record per engine
and precision to ``benchmarks/results/localization/bundles/``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from movinet_edge.benchmarks.machine import describe_machine, tool_versions
from movinet_edge.benchmarks.motion import movinet_edge
from movinet_edge.benchmarks.record import Machine
from movinet_edge.benchmarks.slowfast import ENGINES
from movinet_edge.bundle import Record
from movinet_edge.data.annotations import read_annotations
from movinet_edge.data.snippets import VideoFolder
from movinet_edge.export.localizer_verify import alike
from movinet_edge.files import write_text
from movinet_edge.runtime.segments import Segment, SegmentStream
from movinet_edge.train.localization_eval import LocalizationRecord

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/localization/bundles"
VIDEOS = 20
CALIBRATED = "int8"
PRECISIONS = ("fp32", "fp16", "int8-weights", CALIBRATED)


class SegmentRuns(Record):
    """One engine and precision.

    On `seconds` seconds in `videos` videos PyTorch finds `clear` segments with a score of 0.1 or
    more, and the bundle `alike` of them: with tIoU 0.99 and the same label. `average_map` is over
    tIoU .5:.05:.95 on the whole test split, in 0..1, `reference_map` PyTorch's.
    """

    model: str
    engine: str
    precision: str
    videos: int
    seconds: float
    clear: int
    alike: int
    average_map: float
    reference_map: float
    machine: Machine
    versions: dict[str, str]


def records() -> list[SegmentRuns]:
    """What is known."""
    paths = sorted(RESULTS.glob("*.json"))
    return [SegmentRuns.model_validate_json(path.read_text("utf-8")) for path in paths]


def longest(data: Path, labels: Sequence[str]) -> list[Path]:
    """The longest test videos."""
    folder = VideoFolder(data)
    videos = read_annotations(data / "segments.json", "test", labels).videos
    found = sorted(videos, key=lambda video: (-(video.seconds or 0.0), video.name))
    return [path for video in found[:VIDEOS] if (path := folder.find(video.name)) is not None]


def segments(
    bundle: Path, engine: str, precision: str, videos: Sequence[Path]
) -> tuple[list[list[Segment]], float]:
    """What is found in each of the videos, and how long they are."""
    with SegmentStream(bundle, engine, precision, threshold=0.0) as stream:
        found, seconds = [], 0.0
        for video in videos:
            found.append(stream.find(video))
            seconds += stream.seconds
        return found, seconds


def average_map(source: Path, data: Path, record: Path, *words: str) -> float:
    """Over the whole test split."""
    asked = ("--task", "localization", "--data", data / "segments.json", "--videos", data)
    movinet_edge("evaluate", source, *asked, "--split", "test", "--json", record, *words)
    return LocalizationRecord.model_validate_json(record.read_text("utf-8")).score


def compare(checkpoint: Path, data: Path, trimmed: Path | None, folder: Path) -> list[SegmentRuns]:
    """The checkpoint's bundle on both engines in all precisions; `folder` takes what is made."""
    bundle, record = folder / "bundle", folder / "record.json"
    precisions = [p for p in PRECISIONS if trimmed is not None or p != CALIBRATED]
    words: list[str | Path] = [f"--precision={precision}" for precision in precisions]
    if trimmed is not None:
        words += ["--calibrate", trimmed]
    movinet_edge("export", checkpoint, "--out", bundle, *words)
    with SegmentStream(bundle) as stream:
        name, videos = stream.bundle.manifest.name, longest(data, stream.bundle.labels)
    expected, seconds = segments(bundle, "torch", "fp32", videos)
    reference = average_map(checkpoint, data, record)
    runs = []
    for engine, precision in product(ENGINES, precisions):
        found, _ = segments(bundle, engine, precision, videos)
        counts = [alike(*pair) for pair in zip(expected, found, strict=True)]
        how = ("--backend", engine, "--precision", precision)
        run = SegmentRuns(
            model=name,
            engine=engine,
            precision=precision,
            videos=len(videos),
            seconds=seconds,
            clear=sum(clear for _, clear in counts),
            alike=sum(hits for hits, _ in counts),
            average_map=average_map(bundle, data, record, *how),
            reference_map=reference,
            machine=describe_machine(None),
            versions=tool_versions(),
        )
        print(run.model_dump_json(exclude={"machine", "versions"}), flush=True)
        runs.append(run)
    return runs


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, data, *trimmed = map(Path, sys.argv[1:])
        runs = compare(checkpoint, data, trimmed[0] if trimmed else None, Path(folder))
    RESULTS.mkdir(parents=True, exist_ok=True)
    for run in runs:
        path = RESULTS / f"{run.model}-{run.engine}-{run.precision}.json"
        write_text(path, run.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    main()
