"""``export``: a checkpoint becomes a bundle."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from movinet_edge import __version__
from movinet_edge.bundle import (
    MANIFEST,
    Attachment,
    Bundle,
    FormatName,
    Graph,
    Manifest,
    ModelFile,
    Plan,
    PlanStep,
    Provenance,
    StateRule,
    TensorSpec,
    Threshold,
    atomic_output,
    sha256_of,
)
from movinet_edge.checkpoints.native import Checkpoint, write_checkpoint
from movinet_edge.errors import BadInput
from movinet_edge.export.golden import STEPS, write_golden
from movinet_edge.export.step_module import FRAME, LOGITS, StepConfig, StepModule
from movinet_edge.models.registry import deploy_body, weights_sha256
from movinet_edge.streaming.deploy import NEW, FormName, Layout, StateSpec
from movinet_edge.streaming.spec import describe
from movinet_edge.streaming.state import CLOCK

if TYPE_CHECKING:
    from movinet_edge.export.verify_record import VerifyRecord

GRAPH = "step"
LAYOUTS: dict[FormatName, Layout] = {"onnx": "NCHW", "tflite": "NHWC"}
SUFFIX: dict[FormatName, str] = {"onnx": "onnx", "tflite": "tflite", "torch": "safetensors"}

# What a file was converted with, and the oldest engine it was run on.
RUNTIME: dict[FormatName, str] = {
    "onnx": "onnxruntime>=1.14 (opset 18)",
    "tflite": "tflite-runtime>=2.14, ai-edge-litert>=2.3",
    "torch": "torch>=2.13",
}
TOOLS = ("torch", "litert-torch", "litert-converter", "onnx", "onnxscript", "onnxsim")

# Relative to the standard deviation of the reference logits.
THRESHOLDS = {"fp32": Threshold(max_error=1e-4, min_cosine=0.999999, min_top1_agreement=1.0)}
CLIP_THRESHOLDS = {"fp32": Threshold(max_error=1e-3, min_cosine=0.99999, min_top1_agreement=1.0)}

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


Progress = Callable[[str], None]


def export(
    checkpoint: Checkpoint,
    out: Path,
    options: ExportOptions | None = None,
    progress: Progress = lambda _: None,
) -> VerifyRecord | None:
    """Write a bundle to `out` (a directory, or a .zip); nothing is left behind on failure.

    Unless told otherwise the bundle's parity is verified and the proof (``parity.json``,
    ``report.html``) written into it; a failed proof is written too, and returned.

    Args:
        checkpoint: the model with its preprocessing contract and labels.
        progress: told in a few words what is being done.

    Raises:
        BadInput: labels of the wrong length, a form the model does not have, or an `out` that
            cannot be written.
    """
    options = options or ExportOptions()
    arch = checkpoint.arch
    if options.form != "clip" and not arch.causal:
        raise BadInput(f"{arch.name} sees whole clips; export it with --form clip")
    if options.clip_frames is not None and (options.form != "clip" or options.clip_frames < 2):
        raise BadInput("--clip-frames is for --form clip, and at least 2")
    if checkpoint.labels is not None and len(checkpoint.labels) != arch.classes:
        raise BadInput(
            f"{len(checkpoint.labels)} labels for {arch.classes} classes; "
            "give a label file with one line per class"
        )
    with atomic_output(out) as folder:
        _write(checkpoint, folder, options, progress)
        return _prove(folder, progress) if options.verify else None


def _prove(folder: Path, progress: Progress) -> VerifyRecord:
    from movinet_edge.export.report import write_html, write_json
    from movinet_edge.export.verify import verify_bundle

    record = verify_bundle(Bundle(folder), progress=progress)
    write_json(record, folder / "parity.json")
    write_html(record, folder / "report.html")
    return record


def _write(
    checkpoint: Checkpoint, folder: Path, options: ExportOptions, progress: Progress
) -> None:
    arch, contract = checkpoint.arch, checkpoint.preprocessing
    frames = 1 if options.form != "clip" else options.clip_frames or arch.clip_frames
    size = (contract.height, contract.width)
    spec = describe(checkpoint.model, size)
    states = spec.states if options.form != "clip" else ()
    labels = None
    if checkpoint.labels is not None:
        (folder / "labels.txt").write_text("".join(f"{x}\n" for x in checkpoint.labels), "utf-8")
        labels = Attachment(path="labels.txt", sha256=sha256_of(folder / "labels.txt"))
    progress("golden stream")
    write_golden(checkpoint.model, contract, folder / "golden.npz", frames if frames > 1 else STEPS)
    write_checkpoint(checkpoint, folder / f"{GRAPH}.safetensors")
    answers = frames if arch.causal else 1
    files = [_torch_file(folder, states, frames, size, (answers, arch.classes))]
    body = deploy_body(checkpoint.model, size)
    metadata = _metadata(checkpoint)
    for fmt in dict.fromkeys(options.formats):
        progress(f"{arch.name} to {fmt}")
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
        path = folder / f"{GRAPH}.{SUFFIX[fmt]}"
        _convert(step, path, fmt, metadata)
        files.append(_model_file(step, path, fmt))
    manifest = Manifest(
        name=arch.name,
        classes=arch.classes,
        labels=labels,
        golden=Attachment(path="golden.npz", sha256=sha256_of(folder / "golden.npz")),
        preprocessing=contract,
        output="probabilities" if options.softmax else "logits",
        graphs=(
            Graph(
                name=GRAPH,
                form=options.form,
                frames=frames,
                macs=spec.macs if frames == 1 else describe(checkpoint.model, size, frames).macs,
                states=tuple(StateRule(name=s.name, rule=s.rule, past=s.past) for s in states),
                files=tuple(files),
            ),
        ),
        plan=Plan(steps=(PlanStep(graph=GRAPH),)),
        thresholds=CLIP_THRESHOLDS if options.form == "clip" else THRESHOLDS,
        provenance=Provenance(
            architecture=arch.model_dump(),
            checkpoint_sha256=weights_sha256(checkpoint.model),
            tools={"movinet-edge": __version__}
            | {name: importlib.metadata.version(name) for name in TOOLS},
        ),
    )
    text = manifest.model_dump_json(indent=1, exclude_none=True)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


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
    folder: Path,
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
        folder / f"{GRAPH}.safetensors",
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
