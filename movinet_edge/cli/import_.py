"""``movinet-edge import``: other people's weights become a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from movinet_edge.cli.options import pairs


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help="TensorFlow Model Garden checkpoint (folder or prefix), published MoViNet "
            ".tflite, PyTorch file (also MoViNet-pytorch's, all versions, PySlowFast's and "
            "pytorchvideo's, AR-Net's, TSM's, G-TAD's, torchvision's ResNets and r2plus1d_18), or "
            "caffe2 .pkl of a SlowFast.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where to write the .safetensors.")],
    labels: Annotated[
        Path | None, typer.Option(help="Class names, one per line.", show_default=False)
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Store weights in 16 bits: half the file.")
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Architecture field that weights cannot tell, such as gate=hard_sigmoid_keras, "
            "or causal=true for a SlowFast that was trained so.",
        ),
    ] = None,
    bgr: Annotated[
        bool,
        typer.Option("--bgr", help="The SlowFast takes blue first (REVERSE_INPUT_CHANNEL)."),
    ] = False,
) -> None:
    """Read a checkpoint, infer its architecture from the weights, write our format."""
    from movinet_edge.checkpoints.importer import read_checkpoint, read_labels
    from movinet_edge.checkpoints.native import save_checkpoint
    from movinet_edge.cli.console import out as console
    from movinet_edge.cli.console import progress

    fields = pairs(changes)
    with progress("import") as say:
        say(str(source))
        names = read_labels(labels) if labels else None
        checkpoint = read_checkpoint(source, names, fields, bgr)
        save_checkpoint(checkpoint, out, half)
    arch = checkpoint.arch
    count = sum(p.numel() for p in checkpoint.model.parameters())
    classes = f"{arch.classes} classes" if arch.classes else "no classes"
    console().print(
        f"{arch.name}: {count:,} parameters, {classes}, {arch.summary}",
        highlight=False,
        soft_wrap=True,
    )
    console().print(f"wrote {out}", highlight=False, soft_wrap=True)
