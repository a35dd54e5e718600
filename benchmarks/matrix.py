"""What is supported, by trying it: every model, profile, form, format and precision.

``python -m movinet_edge.benchmarks.matrix VIDEOS`` exports every combination with untrained
weights, calibrated on VIDEOS (``movinet-edge data make motion``), verifies it on every engine
installed, or takes down why it is refused; the record is ``benchmarks/results/matrix/*.json``, a
file per model.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

from movinet_edge.benchmarks.machine import tool_versions
from movinet_edge.bundle import FormatName, Precision, ProfileName, Record
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.exporter import check_options, export
from movinet_edge.export.graph_files import ExportOptions
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.export.profiles import PROFILES
from movinet_edge.export.verify_record import VerifyRecord
from movinet_edge.files import write_text
from movinet_edge.models.registry import MODELS, default_preprocessing, seeded_model
from movinet_edge.streaming.deploy import FormName

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks/results/matrix"
SIZES = ("a0", "a1", "a2")
KINDS = ("stream", "base")
FORMS: tuple[FormName, ...] = get_args(FormName)
FORMATS: tuple[FormatName, ...] = ("tflite", "onnx")
# Not the published sizes: graphs are the same, and verifying all of them takes a third of the time.
SIDE = 96
CLIP = 8


class Engine(Record):
    """How far an engine was from PyTorch, at the worst step of the golden stream."""

    backend: str
    max_error: float
    min_cosine: float
    top1_agreement: float


class Cell(Record):
    """One combination: refused with a sentence, or exported and verified.

    `holds`: parity, properties, graph facts and the profile's own checks. `bytes`, `partitions`
    (of XNNPACK) and `transposes` are the file's.
    """

    model: str
    profile: ProfileName
    form: FormName
    format: FormatName
    precision: Precision
    refused: str | None = None
    holds: bool | None = None
    engines: tuple[Engine, ...] = ()
    bytes: int | None = None
    partitions: int | None = None
    transposes: int | None = None


class Matrix(Record):
    """All cells of a model, at a frame size, and the versions they were made with."""

    side: int
    clip_frames: int
    tools: dict[str, str]
    cells: tuple[Cell, ...]


def checkpoint_of(model: str, side: int = SIDE) -> Checkpoint:
    """Untrained weights of a model at another frame size."""
    arch = MODELS[model]
    contract = default_preprocessing(arch).model_copy(update={"height": side, "width": side})
    return Checkpoint(seeded_model(arch), contract)


def combinations() -> Iterator[tuple[ProfileName, FormName]]:
    """Of profiles and forms; what is refused, too."""
    for profile in PROFILES:
        for form in FORMS:
            yield profile, form


def cells(checkpoint: Checkpoint, profile: ProfileName, form: FormName, videos: Path) -> list[Cell]:
    """Both formats in every precision."""
    options = ExportOptions(
        form=form,
        profile=profile,
        calibrate=videos,
        clip_frames=CLIP if form == "clip" else None,
    )
    made: list[Cell] = []
    for fmt in FORMATS:
        refused = {p: refusal(checkpoint, options, fmt, p) for p in PRECISIONS}
        taken = tuple(p for p, sentence in refused.items() if sentence is None)
        found = {}
        if taken:
            chosen = replace(options, formats=(fmt,), precisions=taken)
            found = _export(checkpoint, chosen)
        for precision, sentence in refused.items():
            place = {
                "model": checkpoint.arch.name,
                "profile": profile,
                "form": form,
                "format": fmt,
                "precision": precision,
            }
            rest = found.get(precision, {"refused": sentence})
            made.append(Cell.model_validate(place | rest))
    return made


def refusal(
    checkpoint: Checkpoint, options: ExportOptions, fmt: FormatName, precision: Precision
) -> str | None:
    """Why an export of one format and precision is refused; None if it is not."""
    try:
        check_options(checkpoint, replace(options, formats=(fmt,), precisions=(precision,)))
    except BadInput as error:
        return str(error)
    return None


def _export(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, dict[str, object]]:
    """What was found, by precision."""
    with tempfile.TemporaryDirectory() as work:
        record = export(checkpoint, Path(work) / "bundle", options)
    assert record is not None
    return {precision: _found(record, precision) for precision in options.precisions}


def _found(record: VerifyRecord, precision: Precision) -> dict[str, object]:
    (facts,) = (f for f in record.facts if f.precision == precision and f.format != "torch")
    streams = [s for s in record.streams if s.precision == precision and s.format == facts.format]
    subjects = {facts.path, *(stream.subject for stream in streams)}
    wrong = [c for c in record.failures if c.subject in subjects or c.kind == "reference"]
    return {
        "holds": not wrong,
        "engines": tuple(
            Engine(
                backend=stream.backend,
                max_error=stream.figures.max_error,
                min_cosine=stream.figures.min_cosine,
                top1_agreement=stream.figures.top1_agreement,
            )
            for stream in streams
            if stream.figures is not None
        ),
        "bytes": facts.bytes,
        "partitions": facts.partitions,
        "transposes": facts.transposes,
    }


def main() -> None:
    videos = Path(sys.argv[1])
    RESULTS.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        for kind in KINDS:
            model = f"movinet-{size}-{kind}"
            checkpoint = checkpoint_of(model)
            found: list[Cell] = []
            for profile, form in combinations():
                print(model, profile, form, flush=True)
                found += cells(checkpoint, profile, form, videos)
            record = Matrix(side=SIDE, clip_frames=CLIP, tools=tool_versions(), cells=tuple(found))
            write_text(RESULTS / f"{model}.json", record.model_dump_json(exclude_none=True) + "\n")


if __name__ == "__main__":
    main()
