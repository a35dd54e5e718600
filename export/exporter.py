"""``export``: checkpoints become a bundle."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from movinet_edge import __version__
from movinet_edge.bundle import (
    Attachment,
    Bundle,
    Manifest,
    Plan,
    Preprocessing,
    Provenance,
    Threshold,
    combined_sha256,
)
from movinet_edge.checkpoints.native import Checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.calibration import Stream, calibration_streams
from movinet_edge.export.golden import STEPS, golden_frames, write_golden
from movinet_edge.export.graph_files import ExportOptions, write_graphs
from movinet_edge.export.load_check import check_loads
from movinet_edge.export.model_files import Progress
from movinet_edge.export.plans import make_plan
from movinet_edge.export.precision import PRECISIONS
from movinet_edge.export.profiles import refuse
from movinet_edge.files import MANIFEST, atomic_output, sha256_of
from movinet_edge.models.arch import ModelArch, VideoModel
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import deploy_parts, weights_sha256

if TYPE_CHECKING:
    from movinet_edge.export.verify_record import VerifyRecord

GRAPH = "step"
TOOLS = ("torch", "litert-torch", "litert-converter", "onnx", "onnxscript", "onnxsim")


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    `checkpoints` are by the name of the graph that they become, and alike in all but their
    weights; `plan` says when each runs on frames that `preprocessing` describes.
    """

    name: str
    checkpoints: Mapping[str, Checkpoint]
    preprocessing: Preprocessing
    plan: Plan


def export(
    checkpoint: Checkpoint,
    out: Path,
    options: ExportOptions | None = None,
    progress: Progress = lambda _: None,
) -> VerifyRecord | None:
    """Write a bundle of one model to `out`; see `write_bundle`.

    Args:
        checkpoint: the model with its preprocessing contract and labels.

    Raises:
        BadInput: labels of the wrong length, a form the model does not have, or an `out` that
            cannot be written.
    """
    options = options or ExportOptions()
    check_options(checkpoint, options)
    contract, frames = checkpoint.preprocessing, options.frames(checkpoint.arch)
    size = contract.height, contract.width
    parts = deploy_parts(checkpoint.model, size, frames, options.head_every)
    plan = make_plan(checkpoint.arch, parts, GRAPH, options.costs)
    contents = Contents(checkpoint.arch.name, {GRAPH: checkpoint}, contract, plan)
    return write_bundle(contents, out, options, progress)


def write_bundle(
    contents: Contents, out: Path, options: ExportOptions, progress: Progress
) -> VerifyRecord | None:
    """Write a bundle to `out` (a directory, or a .zip); nothing is left behind on failure.

    The options go together, and with the checkpoints (`check_options`).

    Unless told otherwise the bundle's parity is verified and the proof (``parity.json``,
    ``report.html``) written into it; a failed proof is written too, and returned.

    Args:
        progress: told in a few words what is being done.

    Raises:
        BadInput: an `out` that cannot be written, or videos that cannot be calibrated on.
    """
    with atomic_output(out) as folder:
        _write(contents, folder, options, progress)
        progress("loading in a process apart")
        check_loads(Bundle(folder))
        return prove(folder, progress) if options.verify else None


def check_options(checkpoint: Checkpoint, options: ExportOptions) -> None:
    """Raise `BadInput` with a reason and the nearest alternative where options do not go together.

    Also where they do not go with the checkpoint.
    """
    arch = checkpoint.arch
    if options.form != "clip" and not arch.streams:
        raise BadInput(f"{arch.name} sees whole clips; export it with --form clip")
    if options.clip_frames is not None and (options.form != "clip" or options.clip_frames < 2):
        raise BadInput("--clip-frames is for --form clip, and at least 2")
    if arch.streams and not arch.is_one_graph and options.form == "carry":
        raise BadInput(f"{arch.name} has several graphs; take --form fresh")
    if arch.causal and not arch.is_one_graph and options.form == "clip":
        raise BadInput(f"{arch.name} streams; take --form fresh")
    if options.head_every > 1 and (arch.family != "movinet" or options.form != "fresh"):
        raise BadInput(
            "--head-every is for streams of MoViNet in the form fresh; leave it out"
            + ("" if arch.is_one_graph else f", for {arch.name} has a plan of its own")
        )
    if arch.multi_label and options.softmax:
        raise BadInput(f"{arch.name} scores its classes one by one; leave out --softmax")
    refuse(arch, options)
    _refuse_precisions(arch, options)
    if checkpoint.labels is not None and len(checkpoint.labels) != arch.classes:
        raise BadInput(
            f"{len(checkpoint.labels)} labels for {arch.classes} classes; "
            "give a label file with one line per class"
        )


def _refuse_precisions(arch: ModelArch, options: ExportOptions) -> None:
    rounded_together = "onnx" in options.formats and "dynamic" in options.precisions
    if options.form == "clip" and arch.causal and rounded_together:
        raise BadInput(
            "dynamic in ONNX rounds all frames of a clip together, so later ones would change "
            "earlier answers; take --format tflite, or --form fresh"
        )
    calibrated = [p for p in options.precisions if PRECISIONS[p].calibrated]
    if not calibrated:
        return
    (precision,) = dict.fromkeys(calibrated)
    if options.form == "clip":
        raise BadInput(
            f"{precision} is for streams, not for --form clip, whose means over time are matrix "
            "products; take --precision dynamic"
        )
    if options.in_graph_preprocess:
        raise BadInput(f"{precision} takes bytes as it is; leave out --in-graph-preprocess")
    refuse_int8(arch)
    if options.calibrate is None:
        raise BadInput(
            f"{precision} needs videos of what the model will see; name a folder or a list with "
            "--calibrate"
        )


def refuse_int8(arch: ModelArch) -> None:
    """Raise `BadInput` where static int8 does not go with the model."""
    if not arch.streams:
        raise BadInput(f"int8 is for streams, and {arch.name} sees whole clips; take dynamic")
    if isinstance(arch, MoViNetArch) and arch.positional_encoding:
        raise BadInput(
            "int8 of models with positional encodings is not supported; take --precision dynamic"
        )


def prove(folder: Path, progress: Progress) -> VerifyRecord:
    """Verify a bundle, and write what was found into it."""
    from movinet_edge.export.report import write_html, write_json
    from movinet_edge.export.verify import verify_bundle

    record = verify_bundle(Bundle(folder), progress=progress)
    write_json(record, folder / "parity.json")
    write_html(record, folder / "report.html")
    return record


def thresholds(options: ExportOptions) -> dict[str, Threshold]:
    """Limits of the precisions that are written, and of the checkpoint beside them."""
    precisions = dict.fromkeys(("fp32", *options.precisions))
    formats = {precision: PRECISIONS[precision] for precision in precisions}
    clip = options.form == "clip"
    limits = {name: about.clip if clip else about.stream for name, about in formats.items()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _write(contents: Contents, folder: Path, options: ExportOptions, progress: Progress) -> None:
    checkpoints, contract = contents.checkpoints, contents.preprocessing
    first = next(iter(checkpoints.values()))
    arch = first.arch
    streams: dict[str, list[Stream]] = {name: [] for name in checkpoints}
    if options.calibrate is not None and calibrates(options):
        progress("reading calibration videos")
        frames = options.calibration_frames
        for name, checkpoint in checkpoints.items():
            made = calibration_streams(
                options.calibrate, checkpoint.preprocessing, frames, contents.plan.delay
            )
            streams[name] = made
    progress("golden stream")
    models = {name: checkpoint.model for name, checkpoint in checkpoints.items()}
    plan = contents.plan
    if not set(checkpoints).issuperset(step.graph for step in plan.steps):
        plan = plan.whole(GRAPH)
    clip = options.frames(arch)
    golden, steps = folder / "golden.npz", clip if clip > 1 else STEPS + contents.plan.delay
    images = golden_frames(contract, steps, streams[next(iter(streams))])
    write_golden(golden, models, plan, images, clip, options.head_every)
    graphs = [
        graph
        for name, checkpoint in checkpoints.items()
        for graph in write_graphs(name, checkpoint, folder, options, streams[name], progress)
    ]
    if len(checkpoints) > 1:
        hashes = [weights_sha256(model) for model in models.values()]
        graphs = [
            graph.model_copy(update={"checkpoint_sha256": sha256})
            for graph, sha256 in zip(graphs, hashes, strict=True)
        ]
    newer = contents.plan.combine == "looks" or contract.rescale is not None
    manifest = Manifest(
        schema_version=2 if newer else 1,
        name=contents.name,
        classes=arch.classes,
        labels=write_labels(folder, first.labels),
        golden=Attachment(path=golden.name, sha256=sha256_of(golden)),
        preprocessing=contract,
        output="probabilities" if options.softmax else "logits",
        scores="sigmoid" if arch.multi_label else "softmax",
        graphs=tuple(graphs),
        plan=contents.plan,
        reference=GRAPH if len(graphs) > len(checkpoints) else None,
        thresholds=thresholds(options),
        provenance=provenance(list(models.values())),
    )
    write_manifest(folder, manifest)


def calibrates(options: ExportOptions) -> bool:
    """Whether a precision needs videos."""
    return any(PRECISIONS[precision].calibrated for precision in options.precisions)


def write_labels(folder: Path, labels: Sequence[str] | None) -> Attachment | None:
    """Write ``labels.txt``, where there are labels."""
    if labels is None:
        return None
    path = folder / "labels.txt"
    path.write_text("".join(f"{label}\n" for label in labels), "utf-8")
    return Attachment(path=path.name, sha256=sha256_of(path))


def provenance(models: Sequence[VideoModel]) -> Provenance:
    """Where a bundle of these models, alike in all but their weights, comes from."""
    return Provenance(
        architecture=models[0].arch.model_dump(),
        checkpoint_sha256=combined_sha256([weights_sha256(model) for model in models]),
        tools={"movinet-edge": __version__}
        | {name: importlib.metadata.version(name) for name in TOOLS},
    )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    text = manifest.model_dump_json(indent=1, exclude_none=True)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")
