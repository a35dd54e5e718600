"""Profiles: how graphs are spelt for a phone's accelerator, and what is refused there.

A profile is a row of `PROFILES`; `profile_checks` proves from a file that it obeys its own.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from movinet_edge.bundle import FormatName, ModelFile, Precision, ProfileName
from movinet_edge.errors import BadInput
from movinet_edge.export.profile_checks import (
    Row,
    coreml_onnx,
    gpu_tflite,
    nnapi_onnx,
    nnapi_tflite,
)

if TYPE_CHECKING:
    from movinet_edge.export.graph_files import ExportOptions
    from movinet_edge.models.arch import ModelArch

# When another option does not go with the profile, and a sentence on it.
Refusal = tuple[Callable[["ModelArch", "ExportOptions"], bool], str]


@dataclass(frozen=True)
class Checker:
    """`rows` reads a file; it needs `package`."""

    package: str
    rows: Callable[[Path], list[Row]]


@dataclass(frozen=True)
class Profile:
    """What a graph is rewritten to, and what is refused.

    `integers`: the spelling of deploy bodies for integers, exact in floats, without hard-swish,
    hard-sigmoid and average pooling. `separate`: what is emitted is a copy that nothing else uses.
    """

    formats: tuple[FormatName, ...] = ("onnx", "tflite")
    integers: bool = False
    separate: bool = False
    refusals: tuple[Refusal, ...] = ()
    checkers: Mapping[FormatName, Checker] = field(default_factory=dict)


def _both(fmt: FormatName, *precisions: Precision) -> Callable[[ModelArch, ExportOptions], bool]:
    """Whether a format and one of some precisions are asked for."""
    return lambda _, options: (
        fmt in options.formats and bool(set(precisions).intersection(options.precisions))
    )


CLIP: Refusal = (
    lambda arch, options: options.form == "clip" and arch.streams,
    "is for streams, not for whole clips; take --form fresh, or --profile cpu",
)
WHOLE: Refusal = (
    lambda arch, _: not arch.streams,
    "is for streams, and the model sees whole clips; take --profile cpu",
)
BYTES: Refusal = (
    lambda _, options: options.in_graph_preprocess,
    "takes frames as floats; leave out --in-graph-preprocess",
)
POSITIONS: Refusal = (
    lambda arch, _: getattr(arch, "positional_encoding", False),
    "does not scale positional encodings with the rest; take --profile cpu",
)
PROFILES: dict[ProfileName, Profile] = {
    "cpu": Profile(),
    # Android's, deprecated from Android 15 on: under ONNX Runtime, and LiteRT's delegate.
    "nnapi": Profile(
        integers=True,
        refusals=(
            WHOLE,
            CLIP,
            BYTES,
            (
                # What ONNX Runtime does with Q and DQ there depends on the operators between.
                _both("onnx", "dynamic", "int8"),
                "is not proven for integers in ONNX; take --format tflite, or --precision fp16",
            ),
            (
                _both("tflite", "int8-weights"),
                "would unpack 8-bit weights at every step; take --precision fp16",
            ),
            POSITIONS,
        ),
        checkers={
            "onnx": Checker("onnxruntime", nnapi_onnx),
            "tflite": Checker("ai_edge_litert", nnapi_tflite),
        },
    ),
    # LiteRT's delegate.
    "gpu": Profile(
        formats=("tflite",),
        separate=True,
        refusals=(
            (
                lambda _, options: "onnx" in options.formats,
                "is LiteRT's, ONNX Runtime has no GPU of phones; take --format tflite",
            ),
            WHOLE,
            CLIP,
            (
                lambda _, options: options.form == "carry",
                "emits new tensors only, not states that it has read; take --form fresh",
            ),
            BYTES,
            (
                _both("tflite", "int8-weights", "dynamic", "int8"),
                "computes in floats, 8 bits gain nothing there; take --precision fp16",
            ),
        ),
        checkers={"tflite": Checker("ai_edge_litert", gpu_tflite)},
    ),
    # Apple's, as an MLProgram under ONNX Runtime.
    "coreml": Profile(
        formats=("onnx",),
        integers=True,
        refusals=(
            (
                lambda _, options: "tflite" in options.formats,
                "is ONNX Runtime's; take --format onnx",
            ),
            WHOLE,
            CLIP,
            BYTES,
            POSITIONS,
            (
                # Weights alone in 8 bits are floats once ONNX Runtime has loaded them.
                _both("onnx", "dynamic", "int8"),
                "falls apart around quantized operators, which it lacks; take --precision fp16",
            ),
        ),
        checkers={"onnx": Checker("onnxruntime", coreml_onnx)},
    ),
}


def refuse(arch: ModelArch, options: ExportOptions) -> None:
    """Raise `BadInput` where the profile does not go with the other options."""
    for unfit, sentence in PROFILES[options.profile].refusals:
        if unfit(arch, options):
            raise BadInput(f"--profile {options.profile} {sentence}")


def profile_rows(path: Path, file: ModelFile) -> tuple[list[Row], list[str]]:
    """Whether a file obeys its profile, and notes on what could not be checked."""
    checker = PROFILES[file.profile].checkers.get(file.format)
    if checker is None:
        return [], []
    if importlib.util.find_spec(checker.package) is None:
        return [], [f"{file.path}: no check for {file.profile}, {checker.package} is not installed"]
    return checker.rows(path), []
