"""A step module becomes the model files of one format, in every precision that is asked for."""

from __future__ import annotations

import importlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from movinet_edge.bundle import (
    SCORES,
    Calibration,
    FormatName,
    ModelFile,
    Precision,
    Quantization,
    TensorSpec,
)
from movinet_edge.errors import BadInput
from movinet_edge.export.step_module import FRAME, LOGITS, StepModule
from movinet_edge.files import sha256_of
from movinet_edge.streaming.deploy import ACTION, NEW, VALID, Layout, StateSpec

SUFFIX: dict[FormatName, str] = {"onnx": "onnx", "tflite": "tflite", "torch": "safetensors"}
LAYOUTS: dict[FormatName, Layout] = {"onnx": "NCHW", "tflite": "NHWC"}

# What a file was converted with, and the oldest engine it was run on.
RUNTIME: dict[FormatName, str] = {
    "onnx": "onnxruntime>=1.14 (opset 18)",
    "tflite": "tflite-runtime>=2.14, ai-edge-litert>=2.3",
    "torch": "torch>=2.13",
}
DTYPES = {torch.float32: "float32", torch.uint8: "uint8"}

Progress = Callable[[str], None]


class Quantizer(Protocol):
    """What each format has a module of: from a float file to a smaller one."""

    def half_weights(self, source: Path, target: Path) -> None: ...

    def integer_weights(self, source: Path, target: Path) -> None: ...

    def dynamic(self, source: Path, target: Path) -> None: ...

    def static(
        self,
        source: Path,
        target: Path,
        streams: Sequence[Iterable[object]],
        rules: Sequence[StateSpec],
        keep_float: Callable[[str], bool],
    ) -> object: ...

    def quantization(self, path: Path) -> dict[str, Quantization]: ...


# Imported when they are needed: each loads its format's tools.
QUANTIZERS: dict[FormatName, str] = {
    "onnx": "movinet_edge.export.onnx_quantize",
    "tflite": "movinet_edge.export.litert_quantize",
}
SIMPLE: dict[Precision, str] = {
    "fp16": "half_weights",
    "int8-weights": "integer_weights",
    "dynamic": "dynamic",
}


@dataclass(frozen=True)
class Recipe:
    """What integer activations need: videos, and what to spell in another way or leave out."""

    streams: Sequence[Iterable[Any]]
    calibration: Calibration | None
    floats: Mapping[FormatName, Floats]


class Floats:
    """Whether the operator called so-and-so was asked to stay in floats.

    One is for all graphs of a model: a pattern has to fit in one of them.
    """

    def __init__(self, patterns: Iterable[str]):
        self.patterns = dict.fromkeys(patterns)
        self._unused = dict(self.patterns)

    def __call__(self, name: str) -> bool:
        fitting = [p for p in self.patterns if _part_of(_plain(name), _plain(p))]
        for pattern in fitting:
            self._unused.pop(pattern, None)
        return bool(fitting)

    def check(self) -> None:
        """Raise `BadInput` if a pattern has fitted no operator so far."""
        for pattern in self._unused:
            raise BadInput(
                f"--keep-float {pattern} fits no part of the model; parts are called as "
                "movinet-edge sensitivity lists them, such as b1.l0 or head"
            )


def _part_of(name: str, pattern: str) -> bool:
    """Whether a name has the pattern in it, and its last number to the end: l1 is not l10."""
    return re.search(re.escape(pattern) + r"(?!(?<=\d)\d)", name) is not None


def _plain(path: str) -> str:
    """Formats separate modules in different ways, and states have names with dots.

    Lists of modules have no part in the names of TFLite.
    """
    return re.sub(r"(?:^|(?<=_))(?:blocks|laterals)_", "", re.sub(r"[./]", "_", path))


@dataclass
class FormatFiles:
    """The files of one format, written to `folder` one after the other.

    `step` makes the module to convert, spelt for integers or not; `metadata` is embedded.
    """

    name: str
    fmt: FormatName
    step: Callable[[bool], StepModule]
    folder: Path
    metadata: Mapping[str, str]
    recipe: Recipe
    progress: Progress
    _sources: dict[bool, Path] = field(default_factory=dict)

    def write(self, precisions: Iterable[Precision]) -> list[ModelFile]:
        """A file and its record for every precision."""
        with tempfile.TemporaryDirectory() as work:
            return [self._one(precision, Path(work)) for precision in precisions]

    def _one(self, precision: Precision, work: Path) -> ModelFile:
        infix = "" if precision == "fp32" else f".{precision}"
        target = self.folder / f"{self.name}{infix}.{SUFFIX[self.fmt]}"
        self.progress(target.name)
        integers = precision == "int8"
        source = self._source(integers, work)
        if precision == "fp32":
            target.write_bytes(source.read_bytes())
            found: dict[str, Quantization] = {}
        else:
            quantizer: Quantizer = importlib.import_module(QUANTIZERS[self.fmt])
            if integers:
                recipe, states = self.recipe, self.step(True).states
                quantizer.static(source, target, recipe.streams, states, recipe.floats[self.fmt])
            else:
                getattr(quantizer, SIMPLE[precision])(source, target)
            found = quantizer.quantization(target)
        self._embed(target)
        inputs, outputs = _tensors(self.step(integers), found, self.fmt)
        calibration = self.recipe.calibration if integers else None
        return file_record(target, self.fmt, precision, inputs, outputs, calibration)

    def _source(self, integers: bool, work: Path) -> Path:
        """The float file, converted once."""
        if integers not in self._sources:
            path = work / f"{integers}.{SUFFIX[self.fmt]}"
            # Imported here: each converter takes seconds to load.
            if self.fmt == "onnx":
                from movinet_edge.export.to_onnx import to_onnx

                to_onnx(self.step(integers), path, dict(self.metadata))
            else:
                from movinet_edge.export.to_litert import to_litert

                to_litert(self.step(integers), path)
            self._sources[integers] = path
        return self._sources[integers]

    def _embed(self, path: Path) -> None:
        """Write the metadata into a file; an ONNX file has it from its source."""
        if self.fmt == "tflite":
            from movinet_edge.export.to_litert import attach

            texts = {"metadata.json": json.dumps(dict(sorted(self.metadata.items())))}
            if "labels" in self.metadata:
                texts["labels.txt"] = self.metadata["labels"] + "\n"
            attach(path, texts)


def _tensors(
    step: StepModule, found: Mapping[str, Quantization], fmt: FormatName
) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs; those in `found` are integers."""
    sample = step.sample()
    with torch.no_grad():
        results = step(**sample)
    slots = {name: (s.name, i) for s in step.states for i, name in enumerate(s.fresh_inputs)}
    if step.config.form == "carry":
        slots = {s.carry_input: (s.name, 0) for s in step.states}
    states = {s.carry_input: s.name for s in step.states}
    integer = "int8" if fmt == "tflite" else "uint8"

    def spec(name: str, value: torch.Tensor, role: str, **more: object) -> TensorSpec:
        layout: Layout = "NHWC" if name == FRAME else step.config.layout
        return TensorSpec.model_validate(
            {
                "name": name,
                "role": role,
                "shape": tuple(value.shape),
                "dtype": integer if name in found else DTYPES[value.dtype],
                "layout": layout if value.dim() == 4 else None,
                "quantization": found.get(name),
                **more,
            }
        )

    features = {n: (f, age) for f in step.part.features for n, age in f.inputs.items()}
    inputs = []
    for name, value in sample.items():
        if name in (FRAME, VALID):
            inputs.append(spec(name, value, "frame" if name == FRAME else "valid"))
        elif name in features:
            feature, age = features[name]
            more = {"feature": feature.name, "age": age, "window": feature.window}
            inputs.append(spec(name, value, "feature", **more))
        else:
            state, slot = slots[name]
            inputs.append(spec(name, value, "state", state=state, slot=slot))
    outputs = []
    for name, value in results.items():
        if name in (LOGITS, ACTION, *SCORES):
            outputs.append(spec(name, value, "output"))
        elif name.removesuffix(NEW) in states:
            outputs.append(spec(name, value, "state", state=states[name.removesuffix(NEW)]))
        else:
            outputs.append(spec(name, value, "feature"))
    return inputs, outputs


def file_record(
    path: Path,
    fmt: FormatName,
    precision: Precision,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    calibration: Calibration | None = None,
) -> ModelFile:
    """The record of a file that has been written."""
    return ModelFile(
        path=path.name,
        format=fmt,
        precision=precision,
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        runtime=RUNTIME[fmt],
        calibration=calibration,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
