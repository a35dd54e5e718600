"""``movinet-edge export``: a checkpoint becomes a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from movinet_edge.cli.options import (
    AsZip,
    BundleOut,
    Calibrate,
    CalibrationFrames,
    Formats,
    InGraphPreprocess,
    KeepFloat,
    Labels,
    Precisions,
    Profile,
    ProfileOf,
    Softmax,
    TargetDrop,
    Verify,
    chosen,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from movinet_edge.bundle import Bundle, Precision
    from movinet_edge.checkpoints.native import Checkpoint
    from movinet_edge.export.graph_files import ExportOptions
    from movinet_edge.export.verify_record import VerifyRecord
    from movinet_edge.models.arnet_cost import CostTable


class Form(StrEnum):
    fresh = "fresh"
    carry = "carry"
    clip = "clip"


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CKPT|MODEL",
            help="A checkpoint (any that import reads, or motion-a0-stream, which comes with the "
            "project), or a model name for untrained weights.",
            show_default=False,
        ),
    ],
    out: BundleOut,
    formats: Formats = None,
    form: Annotated[
        Form | None,
        typer.Option(
            help="fresh: emits new frames only, the host rotates buffers; carry: emits whole "
            "states; clip: a whole clip at once. Default: fresh, clip for what does not stream.",
            show_default=False,
        ),
    ] = None,
    profile: Profile = ProfileOf.cpu,
    precisions: Precisions = None,
    calibrate: Calibrate = None,
    calibration_frames: CalibrationFrames = 400,
    keep_float: KeepFloat = None,
    target_drop: TargetDrop = None,
    in_graph_preprocess: InGraphPreprocess = False,
    softmax: Softmax = False,
    clip_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Length of the clip form.", show_default=False),
    ] = None,
    head_every: Annotated[
        int,
        typer.Option(
            min=1,
            help="Run the classifier, a graph of its own then, at every so many frames: the answer "
            "is new then only.",
        ),
    ] = 1,
    labels: Labels = None,
    size: Annotated[
        int | None,
        typer.Option(min=32, max=1024, help="Frame side, if not the model's own."),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Of a model that decides: what its networks cost (JSON) instead of multiply-adds.",
            show_default=False,
        ),
    ] = None,
    snippet_every: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Of a localizer's stream: when the next snippet begins. Default: where one ends.",
            show_default=False,
        ),
    ] = None,
    window_step: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Of a localizer's stream: look when so many new snippets are there, a divisor of "
            "its window. Default: a quarter or less.",
            show_default=False,
        ),
    ] = None,
    verify: Verify = True,
    as_zip: AsZip = False,
) -> None:
    """Write ONNX and TFLite step models with manifest, golden stream and parity report."""
    from movinet_edge.cli.console import progress

    target = zipped(out, as_zip)
    with progress("export") as say:
        say("loading")
        from movinet_edge.export.exporter import export as write_bundle
        from movinet_edge.export.graph_files import ExportOptions
        from movinet_edge.export.profiles import PROFILES

        checkpoint = _checkpoint(source, labels, size)
        localizes = checkpoint.arch.family == "localizer"
        if localizes:
            from movinet_edge.export.localizer import export_localizer as write_bundle
        _refuse_unsuited(checkpoint, localizes, form, target_drop, snippet_every or window_step)
        streams = checkpoint.arch.streams or localizes
        options = ExportOptions(
            formats=tuple(f.value for f in formats or ()) or PROFILES[profile.value].formats,
            form=form.value if form else "fresh" if streams else "clip",
            in_graph_preprocess=in_graph_preprocess,
            softmax=softmax,
            clip_frames=clip_frames,
            verify=verify,
            precisions=chosen(precisions),
            calibrate=calibrate,
            calibration_frames=calibration_frames,
            keep_float=tuple(keep_float or ()),
            profile=profile.value,
            head_every=head_every,
            costs=_costs(costs, checkpoint),
            snippet_every=snippet_every,
            window_step=window_step,
        )
        if target_drop is not None:
            options = _within(target_drop, checkpoint, options, say)
        record = write_bundle(checkpoint, target, options, say)
    show(target, record, source)


def _refuse_unsuited(
    checkpoint: Checkpoint,
    localizes: bool,
    form: Form | None,
    target_drop: float | None,
    window: float | None,
) -> None:
    """Raise `BadInput` for options that are for localizers only, or for all others."""
    from movinet_edge.errors import BadInput

    name = checkpoint.arch.name
    if not localizes and window is not None:
        raise BadInput(f"{name} finds no segments; leave out --snippet-every and --window-step")
    if localizes and form is not None:
        raise BadInput(f"the form of {name} is its encoder's; leave out --form")
    if localizes and target_drop is not None:
        raise BadInput(f"{name} has no top-1 to lose; leave out --target-drop")


def _costs(path: Path | None, checkpoint: Checkpoint) -> CostTable | None:
    """The cost table at `path`, for the checkpoint's model."""
    from movinet_edge.errors import BadInput
    from movinet_edge.models.arnet_cost import read_costs
    from movinet_edge.models.arnet_table import ArNetArch

    if path is None:
        return None
    if not isinstance(checkpoint.arch, ArNetArch):
        raise BadInput(f"{checkpoint.arch.name} decides nothing; leave out --costs")
    return read_costs(path, checkpoint.arch)


def _within(
    drop: float, checkpoint: Checkpoint, options: ExportOptions, say: Callable[[str], None]
) -> ExportOptions:
    """The same options with the cheapest treatment of int8 that loses at most `drop` points."""
    from movinet_edge.cli.console import out
    from movinet_edge.data.listing import read_video_set
    from movinet_edge.data.sources import read_source
    from movinet_edge.errors import BadInput
    from movinet_edge.export.target_drop import cheapest
    from movinet_edge.runtime import Stream
    from movinet_edge.train.evaluate import EvalOptions, evaluate
    from movinet_edge.train.protocols import BundlePredictor, EvalProtocol

    if options.calibrate is None:
        raise BadInput("--target-drop needs videos with their classes; name them with --calibrate")
    named = read_source(options.calibrate)
    videos = read_video_set(named, named.first_of("val", "test"), checkpoint.labels)
    how = EvalOptions(workers=2, memory=False)

    def judge(bundle: Bundle, backend: str, precision: Precision) -> float:
        with Stream(bundle, backend, precision) as stream:
            predictor = BundlePredictor(stream, EvalProtocol("stream"))
            return evaluate(predictor, videos, checkpoint.preprocessing, how).score

    found = cheapest(checkpoint, options, drop, judge, say)
    out().print(
        f"int8 loses {found.drop:.2f} points of top-1 on {len(videos)} videos of "
        f"{options.calibrate}: {found.policy}",
        highlight=False,
        soft_wrap=True,
    )
    return found.applied(options)


def zipped(out: Path, as_zip: bool) -> Path:
    """Where the bundle goes: `out`, with ``.zip`` added where that was asked for."""
    return out.with_name(f"{out.name}.zip") if as_zip and out.suffix != ".zip" else out


def show(target: Path, record: VerifyRecord | None, source: str) -> None:
    """Print what was written.

    Raises:
        CheckFailed: the proof does not hold.
    """
    from movinet_edge.bundle import Bundle
    from movinet_edge.cli.console import out as console
    from movinet_edge.cli.inspect import kept, late
    from movinet_edge.errors import CheckFailed

    bundle = Bundle(target)
    manifest = bundle.manifest
    files = {file.path: file for graph in manifest.graphs for file in graph.files}
    for file in files.values():
        console().print(
            f"{file.path:24} {file.format:7} {file.precision:12} {file.bytes / 1e6:6.2f} MB",
            highlight=False,
        )
    for line in kept(manifest):
        console().print(line, highlight=False)
    if manifest.plan.delay:
        console().print(late(manifest), highlight=False)
    console().print(f"wrote {target}", highlight=False, soft_wrap=True)
    if record is not None and not record.holds:
        raise CheckFailed(f"the exported models do not compute what {source} does; see the report")


def _is_path(text: str) -> bool:
    return Path(text).exists() or "/" in text or bool(Path(text).suffix)


def _checkpoint(source: str, labels: Path | None, size: int | None) -> Checkpoint:
    from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
    from movinet_edge.checkpoints.native import Checkpoint, trained_checkpoints
    from movinet_edge.cli.console import err
    from movinet_edge.errors import BadInput
    from movinet_edge.models.registry import (
        default_preprocessing,
        is_model,
        named_arch,
        seeded_model,
    )

    names = read_labels(labels) if labels else None
    if source in trained_checkpoints() or (_is_path(source) and not is_model(source)):
        checkpoint = read_checkpoint(Path(source), names)
    elif is_model(source):
        note = f"note: {source} has untrained (seeded) weights; its answers mean nothing"
        err().print(note, soft_wrap=True)
        arch = named_arch(source)
        checkpoint = Checkpoint(seeded_model(arch), default_preprocessing(arch), names)
    else:
        raise BadInput(
            f"{source!r} is neither a file nor a model; movinet-edge models lists the models"
        )
    if size:
        checkpoint.preprocessing = checkpoint.preprocessing.model_copy(
            update={"height": size, "width": size}
        )
    return checkpoint
