"""Options that more than one command takes, above all those of what writes a bundle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from movinet_edge.bundle import Precision


class Format(StrEnum):
    onnx = "onnx"
    tflite = "tflite"


class PrecisionName(StrEnum):
    fp32 = "fp32"
    fp16 = "fp16"
    int8_weights = "int8-weights"
    dynamic = "dynamic"
    int8 = "int8"


class ProfileOf(StrEnum):
    cpu = "cpu"
    nnapi = "nnapi"
    gpu = "gpu"
    coreml = "coreml"


BundleOut = Annotated[
    Path, typer.Option(help="The bundle: a directory, or a .zip; one that is there is replaced.")
]
Formats = Annotated[
    list[Format] | None,
    typer.Option("--format", help="Repeatable; both by default.", show_default=False),
]
Profile = Annotated[
    ProfileOf,
    typer.Option(
        "--profile",
        help="Spell graphs for an accelerator: nnapi (Android's), gpu (LiteRT's delegate, TFLite "
        "only), coreml (Apple's, ONNX only).",
    ),
]
InGraphPreprocess = Annotated[
    bool, typer.Option("--in-graph-preprocess", help="Take uint8 RGB, normalise inside.")
]
Softmax = Annotated[bool, typer.Option("--softmax", help="Emit probabilities instead of logits.")]
Labels = Annotated[Path | None, typer.Option(help="Class names, one per line.", show_default=False)]
Verify = Annotated[bool, typer.Option(help="Prove parity and write parity.json and report.html.")]
AsZip = Annotated[bool, typer.Option("--zip", help="Write OUT.zip.")]

Precisions = Annotated[
    list[PrecisionName] | None,
    typer.Option(
        "--precision",
        help="Repeatable. fp16, int8-weights: smaller weights; dynamic: dense layers in 8 bits; "
        "int8: all in 8 bits, needs --calibrate. Default: fp32.",
        show_default=False,
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|LIST", help="Videos to take the ranges of int8 from.", show_default=False
    ),
]
CalibrationFrames = Annotated[int, typer.Option(min=1, help="How many frames of them.")]
KeepFloat = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave a part in floats in int8, such as b1_l0 or head. Repeatable.",
        show_default=False,
    ),
]
TargetDrop = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        metavar="POINTS",
        help="Take the cheapest int8 that loses at most so many points of top-1 on the videos of "
        "--calibrate, which need their classes then (on split val or test, if there is one).",
        show_default=False,
    ),
]
# Of a bundle that is run.
HeldPrecision = Annotated[
    PrecisionName | None,
    typer.Option("--precision", help="Default: fp32, or what the bundle has.", show_default=False),
]
CostBias = Annotated[
    float,
    typer.Option(
        "--cost-bias",
        metavar="B",
        help="Of a model that decides: B times an action's cost is subtracted from its score. More "
        "is cheaper, less is closer.",
    ),
]


def chosen(precisions: list[PrecisionName] | None) -> tuple[Precision, ...]:
    """The precisions that ``--precision`` names."""
    return tuple(precision.value for precision in precisions or [PrecisionName.fp32])


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
