"""Options that more than one command takes, above all those of what writes a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    onnx = "onnx"
    tflite = "tflite"


BundleOut = Annotated[
    Path, typer.Option(help="The bundle: a directory, or a .zip; one that is there is replaced.")
]
Formats = Annotated[
    list[Format] | None,
    typer.Option("--format", help="Repeatable; both by default.", show_default=False),
]
InGraphPreprocess = Annotated[
    bool, typer.Option("--in-graph-preprocess", help="Take uint8 RGB, normalise inside.")
]
Softmax = Annotated[bool, typer.Option("--softmax", help="Emit probabilities instead of logits.")]
Labels = Annotated[Path | None, typer.Option(help="Class names, one per line.", show_default=False)]
Verify = Annotated[bool, typer.Option(help="Prove parity and write parity.json and report.html.")]
AsZip = Annotated[bool, typer.Option("--zip", help="Write OUT.zip.")]


def pairs(texts: list[str] | None) -> dict[str, str]:
    """What ``--set KEY=VALUE``, given any number of times, says.

    Raises:
        BadInput: a text without "=".
    """
    from movinet_edge.errors import BadInput

    split = [text.partition("=") for text in texts or []]
    for key, equals, _ in split:
        if not equals:
            raise BadInput(f"--set takes KEY=VALUE, not {key!r}")
    return {key: value for key, _, value in split}
