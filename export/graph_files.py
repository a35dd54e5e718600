"""A checkpoint becomes the model files of one graph, and the graph's record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from movinet_edge import __version__
from movinet_edge.bundle import FormatName, Graph, ModelFile, StateRule, TensorSpec
from movinet_edge.checkpoints.native import Checkpoint, write_checkpoint
from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.files import sha256_of
from movinet_edge.models.movinet_table import MoViNetArch
from movinet_edge.models.registry import deploy_body
from movinet_edge.streaming.deploy import NEW, FormName, Layout, StateSpec
from movinet_edge.streaming.spec import describe
from movinet_edge.streaming.state import CLOCK

LAYOUTS: dict[FormatName, Layout] = {"onnx": "NCHW", "tflite": "NHWC"}
SUFFIX: dict[FormatName, str] = {"onnx": "onnx", "tflite": "tflite", "torch": "safetensors"}

# What a file was converted with, and the oldest engine it was run on.
RUNTIME: dict[FormatName, str] = {
    "onnx": "onnxruntime>=1.14 (opset 18)",
    "tflite": "tflite-runtime>=2.14, ai-edge-litert>=2.3",
    "torch": "torch>=2.13",
}
DTYPES = {torch.float32: "float32", torch.uint8: "uint8"}


@dataclass(frozen=True)
class ExportOptions:
    """What to write; `clip_frames` is the length of the clip form (default: the published)."""

    formats: tuple[FormatName, ...] = ("onnx", "tflite")
    form: FormName = "fresh"
    in_graph_preprocess: bool = False
    softmax: bool = False
    clip_frames: int | None = None
    verify: bool = True

    def frames(self, arch: MoViNetArch) -> int:
        """How many frames enter each run of a graph."""
        return 1 if self.form != "clip" else self.clip_frames or arch.clip_frames


Progress = Callable[[str], None]


def write_graph(
    name: str, checkpoint: Checkpoint, folder: Path, options: ExportOptions, progress: Progress
) -> Graph:
    """Write ``<name>.safetensors`` and a model file per format into `folder`."""
    arch, contract = checkpoint.arch, checkpoint.preprocessing
    frames, size = options.frames(arch), (contract.height, contract.width)
    spec = describe(checkpoint.model, size)
    states = spec.states if options.form != "clip" else ()
    path = folder / f"{name}.{SUFFIX['torch']}"
    write_checkpoint(checkpoint, path)
    answers = frames if arch.causal else 1
    files = [_torch_file(path, states, frames, size, (answers, arch.classes))]
    body = deploy_body(checkpoint.model, size)
    metadata = _metadata(checkpoint)
    for fmt in dict.fromkeys(options.formats):
        path = folder / f"{name}.{SUFFIX[fmt]}"
        progress(path.name)
        config = StepConfig(
            options.form,
            LAYOUTS[fmt],
            size,
            frames,
            arch.causal,
            options.in_graph_preprocess,
            options.softmax,
        )
        step = StepModule(body, states, config).eval()
        _convert(step, path, fmt, metadata)
        files.append(_model_file(step, path, fmt))
    return Graph(
        name=name,
        form=options.form,
        frames=frames,
        macs=spec.macs if frames == 1 else describe(checkpoint.model, size, frames).macs,
        states=tuple(StateRule(name=s.name, rule=s.rule, past=s.past) for s in states),
        files=tuple(files),
    )


def _convert(step: StepModule, path: Path, fmt: FormatName, metadata: dict[str, str]) -> None:
    # Imported here: each converter takes seconds to load.
    if fmt == "onnx":
        from movinet_edge.export.to_onnx import to_onnx

        to_onnx(step, path, metadata)
    else:
        from movinet_edge.export.to_litert import to_litert

        texts = {"metadata.json": json.dumps({k: metadata[k] for k in sorted(metadata)})}
        if "labels" in metadata:
            texts["labels.txt"] = metadata["labels"] + "\n"
        to_litert(step, path, texts)


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What is embedded in the model files themselves."""
    texts = {
        "movinet_edge": __version__,
        "architecture": checkpoint.arch.model_dump_json(),
        "preprocessing": checkpoint.preprocessing.model_dump_json(),
    }
    if checkpoint.labels is not None:
        texts["labels"] = "\n".join(checkpoint.labels)
    return texts


def _model_file(step: StepModule, path: Path, fmt: FormatName) -> ModelFile:
    layout = step.config.layout
    sample = step.sample()
    with torch.no_grad():
        outputs = step(**sample)
    slots = {name: (s.name, i) for s in step.states for i, name in enumerate(s.fresh_inputs)}
    if step.config.form == "carry":
        slots = {s.carry_input: (s.name, 0) for s in step.states}
    results = {s.carry_input: s.name for s in step.states}

    def spec(name: str, value: torch.Tensor, role: str, **more: object) -> TensorSpec:
        of_this: Layout = "NHWC" if name == FRAME else layout
        return TensorSpec.model_validate(
            {
                "name": name,
                "role": role,
                "shape": tuple(value.shape),
                "dtype": DTYPES[value.dtype],
                "layout": of_this if value.dim() == 4 else None,
                **more,
            }
        )

    inputs = []
    for name, value in sample.items():
        if name == FRAME:
            inputs.append(spec(name, value, "frame"))
        else:
            state, slot = slots[name]
            inputs.append(spec(name, value, "state", state=state, slot=slot))
    outs = []
    for name, value in outputs.items():
        if name == LOGITS:
            outs.append(spec(name, value, "output"))
        else:
            outs.append(spec(name, value, "state", state=results[name.removesuffix(NEW)]))
    return _file_record(path, fmt, inputs, outs)


def _torch_file(
    path: Path,
    states: Sequence[StateSpec],
    frames: int,
    size: tuple[int, int],
    logits: tuple[int, int],
) -> ModelFile:
    """The checkpoint as a file of the graph: the reference, whose states are carried whole."""

    def state(spec: StateSpec, **more: object) -> TensorSpec:
        shape = (1,) if spec.name == CLOCK else spec.shape
        if spec.rule == "shift":
            shape = (spec.past, *shape)
        return TensorSpec.model_validate(
            {"name": spec.carry_input, "role": "state", "shape": shape, "state": spec.name, **more}
        )

    return _file_record(
        path,
        "torch",
        [
            TensorSpec(name=FRAME, role="frame", shape=(frames, *size, 3), layout="NHWC"),
            *(state(s, slot=0) for s in states),
        ],
        [
            TensorSpec(name=LOGITS, role="output", shape=logits),
            *(state(s) for s in states),
        ],
    )


def _file_record(
    path: Path, fmt: FormatName, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]
) -> ModelFile:
    return ModelFile(
        path=path.name,
        format=fmt,
        precision="fp32",
        sha256=sha256_of(path),
        bytes=path.stat().st_size,
        runtime=RUNTIME[fmt],
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
