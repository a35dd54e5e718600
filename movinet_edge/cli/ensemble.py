"""``movinet-edge ensemble``: stream models that take turns become one bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from movinet_edge.cli.export import Format


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
    out: Annotated[
        Path,
        typer.Option(help="The bundle: a directory, or a .zip; one that is there is replaced."),
    ],
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", help="Repeatable; both by default.", show_default=False),
    ] = None,
    in_graph_preprocess: Annotated[
        bool, typer.Option("--in-graph-preprocess", help="Take uint8 RGB, normalise inside.")
    ] = False,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Emit probabilities instead of logits.")
    ] = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names of all, one per line.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Prove parity and write parity.json and report.html.")
    ] = True,
    as_zip: Annotated[bool, typer.Option("--zip", help="Write OUT.zip.")] = False,
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
        )
        record = export_ensemble(checkpoints, target, options, say)
    show(target, record, " and ".join(map(str, sources)))
