"""``movinet-edge ensemble``: stream models that take turns become one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from movinet_edge.cli.options import (
    AsZip,
    BundleOut,
    Calibrate,
    CalibrationFrames,
    Format,
    Formats,
    InGraphPreprocess,
    KeepFloat,
    Labels,
    Precisions,
    Softmax,
    Verify,
    chosen,
)


def ensemble(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT CKPT...",
            help="Stream models of one architecture that were trained apart, each at the frame "
            "rate divided by their number; the first takes the first frame.",
            show_default=False,
        ),
    ],
    out: BundleOut,
    formats: Formats = None,
    precisions: Precisions = None,
    calibrate: Calibrate = None,
    calibration_frames: CalibrationFrames = 400,
    keep_float: KeepFloat = None,
    in_graph_preprocess: InGraphPreprocess = False,
    softmax: Softmax = False,
    labels: Labels = None,
    verify: Verify = True,
    as_zip: AsZip = False,
) -> None:
    """Write a bundle of models that run in turn and whose logits are averaged."""
    from movinet_edge.cli.console import err, progress
    from movinet_edge.cli.export import show, zipped

    target = zipped(out, as_zip)
    with progress("ensemble") as say:
        say("loading")
        from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
        from movinet_edge.export.ensemble import export_ensemble
        from movinet_edge.export.graph_files import ExportOptions
        from movinet_edge.models.registry import weights_sha256

        names = read_labels(labels) if labels else None
        checkpoints = [read_checkpoint(source, names) for source in sources]
        if len({weights_sha256(c.model) for c in checkpoints}) < len(checkpoints):
            err().print("note: some members have the same weights; train them apart to gain by it")
        options = ExportOptions(
            formats=tuple(f.value for f in formats or list(Format)),
            in_graph_preprocess=in_graph_preprocess,
            softmax=softmax,
            verify=verify,
            precisions=chosen(precisions),
            calibrate=calibrate,
            calibration_frames=calibration_frames,
            keep_float=tuple(keep_float or ()),
        )
        record = export_ensemble(checkpoints, target, options, say)
    show(target, record, " and ".join(map(str, sources)))
